# shellcheck shell=bash
# The images of the operator and of the trainer, and their common base.

build_python_base() {
    docker_build --network none --label "stowplan.key=$KEY" -t "$PYTHON_BASE" -f "$REPO/cluster/images/python-base" \
        "$(result python-root)"
}

pull_python_base() {
    docker pull --quiet "$UPSTREAM_PYTHON_IMAGE"
    docker_build --label "stowplan.key=$KEY" --build-arg "UPSTREAM=$UPSTREAM_PYTHON_IMAGE" -t "$PYTHON_BASE" \
        -f "$REPO/cluster/images/python-base-upstream" "$REPO/cluster/images"
}

python_base() {
    if [[ $path == A ]]; then
        image_step "$PYTHON_BASE" "image with Python" "$UPSTREAM_PYTHON_IMAGE" \
            "$REPO/cluster/images/python-base-upstream" -- pull_python_base
    else
        step_python_root
        image_step "$PYTHON_BASE" "image with Python" "$(contents python-root)" "$REPO/cluster/images/python-base" \
            -- build_python_base
    fi
}

step_python_root() {
    step python-root "Debian $PYTHON_DEBIAN with Python" "$PYTHON_DEBIAN" "$PYTHON_PACKAGES" \
        "$(declare -f debian_root)" -- build_python_root
}

# app_image FOLDER IMAGE: FOLDER has stage.sh and a Dockerfile that takes the build argument BASE.
app_image() {
    local folder=$1 image=$2 input
    local -a inputs=()
    [[ -x $REPO/$folder/stage.sh ]] || die "$folder/stage.sh is missing"
    while read -r input; do
        [[ -e $REPO/$input ]] || die "$folder/stage.sh --inputs names $input, which does not exist"
        inputs+=("$REPO/$input")
    done < <("$REPO/$folder/stage.sh" --inputs)
    export FOLDER=$folder IMAGE=$image
    image_step "$image" "image $image" "$(image_key "$PYTHON_BASE")" "${STOWPLAN_TORCH:-}" "${inputs[@]}" \
        -- build_app_image
    mapfile -t workers < <(nodes_names | grep worker)
    timed "$image in the workers" nodes_load "${workers[@]}" -- "$image"
}

build_app_image() {
    local work=$BUILD/.stage-$FOLDER
    rm -rf "$work"
    time "$REPO/$FOLDER/stage.sh" "$work"
    time docker_build --network none --build-arg "BASE=$PYTHON_BASE" --label "stowplan.key=$KEY" -t "$IMAGE" "$work"
    rm -rf "$work"
}
