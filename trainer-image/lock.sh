#!/usr/bin/env bash
# Compiles the trainer's hashed requirement files anew:
#   trainer-cuda.txt  everything torch asks for, NVIDIA's packages included (5 GB installed);
#   trainer.txt       the same versions without NVIDIA's packages and triton, for machines without a GPU;
#   trainer-dev.txt   what the trainer's tests need on top.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
uv=$(../hack/uv.sh)
compile() {
    "$uv" pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.13 \
        --python-platform x86_64-manylinux_2_28 "$@"
}
compile trainer.in -o trainer-cuda.txt
mapfile -t skip < <(sed -nE 's/^((nvidia|cuda|triton)[a-z0-9-]*)==.*/--no-emit-package=\1/p' trainer-cuda.txt)
compile -c trainer-cuda.txt "${skip[@]}" trainer.in -o trainer.txt
compile -c trainer.txt trainer-dev.in -o trainer-dev.txt
