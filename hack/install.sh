#!/usr/bin/env bash
# Installs or upgrades the chart of this checkout on the trial cluster, and waits until the operator is ready.
# Arguments go to helm. The image's id stands in an annotation, so that a rebuilt image replaces the operator's pod.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${STOWPLAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stowplan}
# shellcheck source=/dev/null
source "$cache/cluster/env"
image=$(docker image inspect --format '{{.Id}}' stowplan/operator:dev)
exec helm upgrade --install stowplan charts/stowplan --namespace stowplan-system --create-namespace \
    --values tests/kind/values.yaml --set-string "podAnnotations.image=${image#sha256:}" --wait --timeout 3m "$@"
