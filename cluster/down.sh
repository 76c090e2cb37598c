#!/usr/bin/env bash
# make cluster-down: deletes the cluster and what it kept; stops the Docker engine only if it is our own. What was
# built stays in the cache.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

alone
if engine_use && [[ -x $BIN/kind ]]; then
    kind delete cluster --name "$CLUSTER_NAME" --kubeconfig "$STATE/kubeconfig"
    # The network of our own engine; another engine's may serve other clusters.
    if [[ -n $(engine_pid) ]]; then docker network rm kind >/dev/null 2>&1 || true; fi
fi
engine_down
rm -rf "$STATE"
say "The cluster is gone; built programs and images stay in $CACHE."
