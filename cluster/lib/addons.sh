# shellcheck shell=bash
# What runs inside the cluster: mocked GPUs, Prometheus, shared volumes, and kwok's nodes.

KWOK_IMAGE=docker.io/stowplan/kwok:dev

# binary_image IMAGE PROGRAM...: an image of static programs, at its root.
binary_image() {
    local image=$1 work
    shift
    work=$(mktemp -d "$BUILD/.image.XXXXXX")
    # The names as they are now, whatever the variables hold when the trap runs.
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    mkdir "$work/root"
    cp "$@" "$work/root/"
    printf 'FROM scratch\nCOPY root /\nENTRYPOINT ["/%s"]\n' "$(basename "$1")" >"$work/Dockerfile"
    docker_build --network none --label "stowplan.key=$KEY" -t "$image" "$work"
}

build_gpu_mock_image() { binary_image "$GPU_MOCK_IMAGE" "$(result gpu-mock)/mock"; }
build_kwok_image() { binary_image "$KWOK_IMAGE" "$(result kwok)"/kwok{,.yaml}; }

# Path B: Debian's program. Path A: the project's own image under our name.
build_prometheus_image() {
    docker_build --network none --label "stowplan.key=$KEY" -t "$PROMETHEUS_IMAGE" \
        -f "$REPO/cluster/images/prometheus" "$(result prometheus)"
}

pull_prometheus_image() {
    docker pull --quiet "$UPSTREAM_PROMETHEUS_IMAGE"
    printf 'FROM %s\n' "$UPSTREAM_PROMETHEUS_IMAGE" |
        docker_build --label "stowplan.key=$KEY" -t "$PROMETHEUS_IMAGE" -
}

# manifest NAME: with the images' ids and a hash of the rest, so that pods restart when one of them has changed.
manifest() {
    local name=$1 text image
    text=$(<"$REPO/cluster/manifests/$name.yaml")
    for image in GPU_MOCK PROMETHEUS KWOK; do
        if [[ $text == *"@${image}_ID@"* ]]; then
            local variable=${image}_IMAGE
            text=${text//"@${image}_ID@"/$(docker image inspect -f '{{.Id}}' "${!variable}")}
        fi
    done
    printf '%s\n' "${text//@CONFIG@/$(hash_of "$text")}"
}

apply_addons() {
    local name
    if kube get storageclass standard >/dev/null 2>&1; then
        kube annotate storageclass standard --overwrite storageclass.kubernetes.io/is-default-class-
    fi
    for name in storage gpu-mock prometheus; do manifest "$name" | kube apply -f -; done
    kube -n shared-storage rollout status deployment/sharedvol --timeout=120s
    kube -n gpu-mock rollout status daemonset/gpu-mock --timeout=120s
    kube -n monitoring rollout status deployment/prometheus --timeout=120s
    local want='4 4 4' have='' counts='{.items[*].status.capacity.nvidia\.com/gpu}' _
    for _ in $(seq 60); do
        have=$(kube get nodes -l nvidia.com/gpu.present,type!=kwok -o jsonpath="$counts")
        [[ $have == "$want" ]] && return
        sleep 1
    done
    die "the workers' GPUs are \"$have\" after a minute, not \"$want\""
}

# --- kwok -----------------------------------------------------------------------------------------------------------

# kwok_nodes COUNT: so many fake nodes of 8 GPUs, 16 to a rack, as a list of manifests.
kwok_nodes() {
    local number
    for ((number = 0; number < $1; number++)); do
        printf -- '---\n'
        sed -e "s/@NAME@/$(printf 'kwok-%04d' "$number")/" -e "s/@RACK@/$(printf 'k%03d' $((number / 16)))/" \
            "$REPO/cluster/manifests/kwok-node.yaml"
    done
}

apply_kwok() {
    local count=$1
    manifest kwok | kube apply -f -
    kube -n kwok rollout status deployment/kwok --timeout=120s
    kwok_nodes "$count" | kube apply --server-side --force-conflicts -f - | tail -n 1
    # Nodes beyond the count go.
    local -a surplus
    mapfile -t surplus < <(kube get nodes -l type=kwok -o name | sort | tail -n "+$((count + 1))")
    if ((${#surplus[@]})); then kube delete --wait=false "${surplus[@]}"; fi
    kube wait --for=condition=Ready --timeout=180s nodes -l type=kwok | tail -n 1
}

load_addons() {
    mapfile -t nodes < <(nodes_names)
    nodes_load "${nodes[@]}" -- "$GPU_MOCK_IMAGE"
    nodes_load "$CLUSTER_NAME-control-plane" -- "$PROMETHEUS_IMAGE"
}
