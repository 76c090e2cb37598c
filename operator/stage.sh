#!/usr/bin/env bash
# Fills OUT_DIR with the build context of the operator's image; --inputs prints what the image depends on.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
inputs=(operator allocator requirements/operator.txt pyproject.toml)
if [ "${1:-}" = --inputs ]; then
    printf '%s\n' "${inputs[@]}"
    exit 0
fi
out=${1:?usage: stage.sh OUT_DIR | stage.sh --inputs}
cache=${STOWPLAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stowplan}
uv=$("$root/hack/uv.sh")
python=$(PATH="$(dirname "$uv"):$PATH" "$root/hack/python.sh")

key=$(cat "$root/requirements/operator.txt" "$0" | sha256sum | cut -c1-16)
site=$cache/stage/operator-site/$key
if [ ! -d "$site" ]; then
    mkdir -p "$(dirname "$site")"
    work=$(mktemp -d "$site.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    "$uv" pip install --quiet --python "$python" --target "$work" --python-version 3.13 \
        --python-platform x86_64-manylinux_2_28 --only-binary :all: --no-deps --require-hashes \
        -r "$root/requirements/operator.txt"
    # HiGHS brings headers and a command, numpy and others their tests: nothing that the operator runs.
    find "$work" -type d \( -name tests -o -name test -o -name include \) -prune -exec rm -rf {} +
    mv -T "$work" "$site"
fi
mkdir -p "$out/src"
cp "$root/operator/Dockerfile" "$out/"
cp -a "$site" "$out/site"
cp -a "$root/operator/stowplan_operator" "$root/allocator/stowplan_allocator" "$out/src/"
find "$out/src" -name __pycache__ -prune -exec rm -rf {} +
# The version that /metrics and the CLI report comes from the distribution's metadata.
version=$(sed -nE 's/^version = "(.*)"/\1/p' "$root/pyproject.toml")
mkdir -p "$out/src/stowplan-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: stowplan\nVersion: %s\n' "$version" >"$out/src/stowplan-$version.dist-info/METADATA"
