#!/usr/bin/env bash
# Fills a docker build context for the trainer image.
#
# usage: stage.sh OUT_DIR     fill OUT_DIR (made anew) with Dockerfile, site/, code/ and bin/
#        stage.sh --tools     make sure that gcc and readelf are here
#        stage.sh --inputs    print the repository paths whose contents decide the image
#
# STOWPLAN_TORCH=cpu (default): torch without NVIDIA's packages; its GPU half is replaced by stand-ins (standins.py).
# STOWPLAN_TORCH=cuda: torch as the registry ships it, with NVIDIA's packages, for real GPUs (about 5 GB).
# The packages are for Linux x86-64 and Python 3.13, whatever Python this machine has. What was installed once is kept
# in the user's cache folder under a name made of its inputs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
flavour=${STOWPLAN_TORCH:-cpu}
case $flavour in
cpu) lock=requirements/trainer.txt ;;
cuda) lock=requirements/trainer-cuda.txt ;;
*) echo "STOWPLAN_TORCH=$flavour: want cpu or cuda" >&2; exit 2 ;;
esac
site_inputs=("$lock" trainer-image/stage.sh trainer-image/standins.py)

need_tools() {
    command -v gcc >/dev/null && command -v readelf >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing gcc and binutils (for the stand-in libraries)"
        local install="apt-get install -y -qq --no-install-recommends gcc libc6-dev binutils"
        $install >/dev/null || { apt-get update -qq && $install >/dev/null; } || true
    fi
    command -v gcc >/dev/null && command -v readelf >/dev/null && return
    echo "the stand-in libraries need gcc and readelf; on Debian: apt-get install gcc libc6-dev binutils" >&2
    exit 1
}

case ${1:-} in
--tools)
    need_tools
    exit 0 ;;
--inputs)
    printf '%s\n' "${site_inputs[@]}" trainer-image/Dockerfile trainer-image/bin trainer-image/stowplan_trainer
    exit 0 ;;
'' | -*) echo "usage: stage.sh OUT_DIR | --tools | --inputs" >&2; exit 2 ;;
esac
out=$1
cache=${STOWPLAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stowplan}
key=$(cd "$repo" && { echo "$flavour"; cat "${site_inputs[@]}"; } | sha256sum | cut -c1-16)
site=$cache/trainer/site-$flavour-$key

# What a container cannot use: headers and protoc (no compiler there), tests, type stubs, sources.
trim() {
    rm -rf "${1:?}"/torch/{include,test,bin/protoc*,share/cmake} "${1:?}"/bin "${1:?}"/share
    find "$1" -depth -type d \( -name tests -o -name test \) \
        \( -path '*/numpy/*' -o -path '*/scipy/*' -o -path '*/sklearn/*' -o -path '*/sympy/*' -o -path '*/networkx/*' \
        -o -path '*/joblib/*' -o -path '*/mpmath/*' \) -exec rm -rf {} +
    find "$1" \( -name '*.a' -o -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.pyx.tp' -o -name '*.h' \
        -o -name '*.hpp' -o -name '*.cuh' \) -type f -delete
    find "$1" -name __pycache__ -prune -exec rm -rf {} +
}

if [ ! -d "$site" ]; then
    echo "installing torch and its packages ($flavour) into $site"
    [ "$flavour" = cuda ] || need_tools
    uv=$("$repo/hack/uv.sh")
    python=$(PATH="$(dirname "$uv"):$PATH" "$repo/hack/python.sh")
    mkdir -p "$cache/trainer"
    work=$(mktemp -d "$cache/trainer/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    "$uv" pip install --quiet --no-deps --require-hashes --only-binary :all: --no-compile-bytecode --link-mode copy \
        --python "$python" --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
        --target "$work/site" -r "$repo/$lock"
    trim "$work/site"
    if [ "$flavour" = cpu ]; then
        "$python" "$here/standins.py" "$work/site"
        strip --strip-all "$work"/site/torch/lib/lib{torch_cpu,torch_python}.so # 100 MB of names for debuggers
    fi
    chmod -R a+rX "$work/site"
    mv -T "$work/site" "$site" 2>/dev/null || [ -d "$site" ] # another run may have been first
fi

rm -rf "$out"
mkdir -p "$out/code"
cp -al "$site" "$out/site" 2>/dev/null || { rm -rf "$out/site"; cp -a "$site" "$out/site"; }
cp -a "$here/stowplan_trainer" "$out/code/"
cp -a "$here/bin" "$here/Dockerfile" "$out/"
find "$out/code" -name __pycache__ -prune -exec rm -rf {} +
chmod -R a+rX "$out/code" "$out/bin"
echo "staged $out: $(du -sm "$out/site" | cut -f1) MB of packages ($flavour)"
