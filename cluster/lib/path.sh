# shellcheck shell=bash
# Path A (an image registry answers) or path B (none does): tried, not asked for.

# choose_path sets $path. A cluster that is up keeps the path it was made by.
choose_path() {
    if [[ -s $STATE/path && -s $STATE/key ]]; then
        path=$(<"$STATE/path")
        say "Path $path: the cluster was made by it."
    elif timeout 20 docker pull --quiet docker.io/library/hello-world:latest >"$LOGS/registry.log" 2>&1; then
        path=A
        say "Path A: the engine can pull images, so the nodes are the stock kindest/node."
    else
        path=B
        say "Path B: the engine cannot pull images ($(tail -n 1 "$LOGS/registry.log" | cut -c1-120)),"
        say "        so the node image is built here from Debian packages and Go modules."
        on_debian_as_root || [[ -d $BUILD/node-root/current ]] ||
            die "building a node image needs root on Debian (debootstrap). Run this as root there, or make a registry reachable"
    fi
    export path
}
