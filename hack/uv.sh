#!/usr/bin/env bash
# Prints the path of uv: the one on PATH, else one installed with pip into the user's cache folder.
set -euo pipefail
command -v uv 2>/dev/null && exit 0
cache=${STOWPLAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stowplan}
here=$(cd "$(dirname "$0")" && pwd)
version=0.13.9
home=$cache/venvs/uv-$version
if [ ! -x "$home/bin/uv" ]; then
    python=$("$here/python.sh")
    work=$(mktemp -d "${TMPDIR:-/tmp}/stowplan-uv.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    "$python" -m venv "$work/venv" || {
        echo "cannot make a virtual environment with $python; on Debian: apt-get install python3-venv" >&2
        exit 1
    }
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$version" >&2
    mkdir -p "$home/bin"
    cp "$work/venv/bin/uv" "$home/bin/uv.tmp" && mv "$home/bin/uv.tmp" "$home/bin/uv"
fi
echo "$home/bin/uv"
