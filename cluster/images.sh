#!/usr/bin/env bash
# make images: builds the operator's and the trainer's image, and brings what has changed into the cluster's workers.
#
#   images.sh [operator] [trainer]     both when none is named
#
# The Dockerfiles need no network: operator/stage.sh and trainer-image/stage.sh fill a build context, packages included,
# and say with --inputs which paths of the repository decide the result.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wanted=("$@")
((${#wanted[@]})) || wanted=(operator trainer)

alone
if ! [[ -s $STATE/path ]] || ! engine_use; then die "there is no cluster to load the images into; run: make cluster"; fi
choose_path
steps_begin $(((${#wanted[@]} * 2) + 2))
python_base
for name in "${wanted[@]}"; do
    case $name in
    operator) app_image operator "$OPERATOR_IMAGE" ;;
    trainer) app_image trainer-image "$TRAINER_IMAGE" ;;
    *) die "unknown image $name: want operator or trainer" ;;
    esac
done
