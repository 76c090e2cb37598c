#!/usr/bin/env bash
# Makes .venv-trainer: a link to a virtual environment in the user's cache folder with torch for machines without a GPU,
# from the hashed requirement files. `import torch` works there as it is: the stand-in libraries lie beside torch's own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(dirname "$here")
cache=${STOWPLAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stowplan}
uv=$("$repo/hack/uv.sh")
python=$(PATH="$(dirname "$uv"):$PATH" "$repo/hack/python.sh")
key=$(cd "$repo" && { "$python" -VV; cat requirements/trainer.txt requirements/trainer-dev.txt trainer-image/standins.py trainer-image/venv.sh; } |
    sha256sum | cut -c1-16)
home=$cache/venvs/trainer-$key
if [ ! -x "$home/.ready" ]; then
    "$here/stage.sh" --tools
    echo "installing torch and its packages for the tests into $home"
    mkdir -p "$cache/venvs"
    exec 9>"$cache/venvs/trainer.lock"
    flock 9
    if [ ! -x "$home/.ready" ]; then
        "$uv" venv --quiet --clear --python "$python" "$home"
        "$uv" pip install --quiet --no-deps --require-hashes --only-binary :all: --link-mode copy \
            --python "$home/bin/python" -r "$repo/requirements/trainer.txt" -r "$repo/requirements/trainer-dev.txt"
        site=$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        "$home/bin/python" "$here/standins.py" "$site"
        "$home/bin/python" -m compileall -q -j 2 --invalidation-mode unchecked-hash "$site"
        "$home/bin/python" -c 'import torch; assert not torch.cuda.is_available()'
        install -m 755 /dev/null "$home/.ready"
    fi
fi
ln -sfn "$home" "$repo/.venv-trainer"
