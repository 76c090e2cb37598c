#!/usr/bin/env bash
# Prints the path of a Python >= 3.12 interpreter (PuLP 4 needs it): on PATH, then
# among pyenv's versions, then one that uv downloads. Says what is missing otherwise.
set -euo pipefail

suits() { "$1" -c 'import sys; raise SystemExit(not (3, 12) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

for name in python3.13 python3.12 python3.14 python3; do
    path=$(command -v "$name" 2>/dev/null) && suits "$path" && exec "$path" -c 'import sys; print(sys.executable)'
done
for root in "${PYENV_ROOT:-}" "$HOME/.pyenv" /opt/pyenv; do
    [ -n "$root" ] || continue
    for version in 3.13 3.12 3.14; do
        for path in "$root/versions/$version".*/bin/python3; do
            [ -x "$path" ] && suits "$path" && { echo "$path"; exit 0; }
        done
    done
done
if command -v uv >/dev/null && uv python install --quiet 3.13 2>/dev/null && path=$(uv python find 3.13); then
    echo "$path"
    exit 0
fi
echo "Stowplan needs Python 3.12 or newer: none on PATH, none in pyenv's versions folder, and uv could not" \
    "download one. Install it (Debian trixie: apt-get install python3 python3-venv; pyenv install 3.13)" >&2
exit 1
