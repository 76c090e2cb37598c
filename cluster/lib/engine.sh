# shellcheck shell=bash
# The Docker engine: the one that answers, else one of our own whose whole state is in $CACHE/docker.
#
# kind starts its nodes with --privileged. On a machine whose bounding set lacks CAP_SYS_RESOURCE (bit 24), an engine
# that asks for every capability the kernel knows fails at that; our own engine then gets the runtime runcaps, which
# takes out what cannot be had. Nothing of this happens elsewhere.

ENGINE=$CACHE/docker
ENGINE_SOCKET=unix://$ENGINE/docker.sock
ENGINE_PIDFILE=$ENGINE/docker.pid

lacks_sys_resource() {
    local bounding
    bounding=$(awk '/^CapBnd:/ {print $2}' /proc/self/status)
    ((!(0x$bounding >> 24 & 1)))
}

engine_answers() { timeout 10 docker "$@" info >/dev/null 2>&1; }

# Our engine's process id, or nothing.
engine_pid() {
    local pid
    pid=$(cat "$ENGINE_PIDFILE" 2>/dev/null) || return 0
    # A dead one may be left as a zombie where process 1 does not reap.
    local status=/proc/$pid/status
    if grep -qsP '^Name:\tdockerd$' "$status" && ! grep -qsP '^State:\tZ' "$status"; then echo "$pid"; fi
}

# Can this engine run what kind needs? Tried with a container of one static program.
engine_privileged() {
    local image status=0
    image=$(tar -C "$(result runcaps)" -c runcaps | docker import -) || return 1
    timeout 60 docker run --rm --privileged --network none "$image" /runcaps probe >"$LOGS/privileged.log" 2>&1 ||
        status=1
    docker rmi "$image" >/dev/null 2>&1 || true
    return $status
}

engine_start() {
    need dockerd docker.io
    need iptables iptables
    local -a runtime=()
    if lacks_sys_resource; then
        install -D -m 755 "$(result runcaps)/runcaps" "$ENGINE/runcaps"
        runtime=(--add-runtime "runcaps=$ENGINE/runcaps" --default-runtime runcaps)
    fi
    mkdir -p "$ENGINE"
    rm -f "$ENGINE_PIDFILE"
    # No default bridge, so that another engine's docker0 stays its own; kind makes a network for itself.
    setsid nohup dockerd --host "$ENGINE_SOCKET" --data-root "$ENGINE/data" --exec-root /run/stowplan-docker \
        --pidfile "$ENGINE_PIDFILE" --bridge none --default-address-pool base=172.30.0.0/16,size=24 \
        --default-cgroupns-mode private "${runtime[@]}" >"$LOGS/dockerd.log" 2>&1 </dev/null 9>&- &
    local _
    for _ in $(seq 60); do
        engine_answers && return
        sleep 0.5
    done
    tail -n 15 "$LOGS/dockerd.log" >&2
    die "dockerd does not answer; its log is $LOGS/dockerd.log"
}

# engine_use: sets DOCKER_HOST where it must be set, without starting anything; fails when no engine answers.
engine_use() {
    if [[ -n $(engine_pid) ]]; then
        export DOCKER_HOST=$ENGINE_SOCKET
    fi
    have docker && engine_answers
}

# engine_up: an engine that answers and can run kind's nodes.
engine_up() {
    need docker docker.io
    if [[ $(id -u) == 0 ]] && ! have dockerd && ! engine_answers; then
        need dockerd docker.io
        # Where systemd runs, installing the package has started the engine.
        if [[ -d /run/systemd/system ]]; then sleep 5; fi
    fi
    if [[ -z $(engine_pid) ]] && engine_answers; then
        if engine_privileged; then
            say "Docker engine: the one that answers ($(docker version -f '{{.Server.Version}}'))."
            return
        fi
        say "Docker engine: the one that answers cannot run privileged containers; starting one of our own."
    fi
    [[ $(id -u) == 0 ]] || die "no Docker engine answers that can run privileged containers. Start Docker \
(sudo systemctl start docker) and join its group (sudo usermod -aG docker ${USER:-$(id -un)}), or run this as root"
    export DOCKER_HOST=$ENGINE_SOCKET
    if [[ -n $(engine_pid) ]] && engine_answers; then
        say "Docker engine: our own, running (pid $(engine_pid))."
    else
        engine_start
        say "Docker engine: our own, started (pid $(engine_pid), state in $ENGINE)."
        engine_privileged || die "it cannot run a privileged container: $(tail -n 3 "$LOGS/privileged.log")"
    fi
}

engine_down() {
    local pid _
    pid=$(engine_pid)
    [[ -n $pid ]] || return 0
    kill "$pid"
    for _ in $(seq 60); do
        [[ -n $(engine_pid) ]] || return 0
        sleep 0.5
    done
    die "dockerd (pid $pid) did not end within 30 s"
}

# --- images ---------------------------------------------------------------------------------------------------------

# Debian's packages bring no buildx, and our own engine needs none; a user's newer one may have nothing else.
docker_build() {
    if [[ ${DOCKER_HOST:-} != "$ENGINE_SOCKET" ]] && docker buildx version >/dev/null 2>&1; then
        BUILDX_BUILDER=default DOCKER_BUILDKIT=1 docker build --quiet --provenance=false "$@"
    else
        DOCKER_BUILDKIT=0 docker build --quiet "$@"
    fi
}

# image_step IMAGE TEXT INPUT... -- FUNCTION: runs FUNCTION, which must make IMAGE with the label stowplan.key=$KEY,
# unless the engine has that image with that key.
image_step() {
    local image=$1 text=$2
    shift 2
    local -a inputs=()
    while [[ $1 != -- ]]; do
        inputs+=("$1")
        shift
    done
    local key
    key=$(hash_of "$image" "${inputs[@]}" "$(declare -f "$2")")
    if [[ $(image_key "$image") == "$key" ]]; then
        report "$text" cached
    else
        KEY=$key timed "$text" "$2"
        [[ $(image_key "$image") == "$key" ]] || die "$text: the image $image lacks its key"
        # What the new image has replaced; the steps that it was built from stay.
        if [[ ${DOCKER_HOST:-} == "$ENGINE_SOCKET" ]]; then docker image prune --force >/dev/null; fi
    fi
}

image_key() { docker image inspect -f '{{index .Config.Labels "stowplan.key"}}' "$1" 2>/dev/null || true; }
