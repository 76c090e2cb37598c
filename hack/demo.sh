#!/usr/bin/env bash
# The main job: on the trial cluster, install the chart, apply examples/digits.yaml, show the plan, the training and
# the end. `make demo` builds cluster and images first.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
cache=${STOWPLAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stowplan}
# shellcheck source=/dev/null
source "$cache/cluster/env"
PATH=$root/.venv/bin:$PATH # kubectl finds kubectl-stowplan there

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
field() { kubectl get tj digits -o "jsonpath={$1}"; }

say "1/4  The cluster: mocked GPUs, as NVIDIA's labels and device plugin show real ones"
show kubectl get nodes -L nvidia.com/gpu.product,topology.stowplan.dev/rack
say "2/4  The chart"
show hack/install.sh >/dev/null
kubectl -n stowplan-system get deployment stowplan

say "3/4  A TrainingJob"
kubectl delete tj digits --ignore-not-found >/dev/null
began=$SECONDS
show kubectl apply -f examples/digits.yaml
last=
while :; do
    phase=$(field .status.phase)
    line="$phase $(field .status.progress.percent) $(field .status.ready)"
    if [ "$line" != "$last" ]; then
        if [ -z "$last" ]; then kubectl get tj digits; else kubectl get tj digits --no-headers; fi
        last=$line
    fi
    if [ "$phase" = Running ] && [ -z "${shown:-}" ]; then
        shown=1
        say "     Where the plan put it, and where its pods are"
        field '.status.placement.nodes' && echo
        kubectl get pods -l stowplan.dev/job=digits -o wide
        echo
    fi
    case $phase in Succeeded | Failed) break ;; esac
    if [ $((SECONDS - began)) -gt 600 ]; then
        echo "the job did not end within 10 minutes:" >&2
        kubectl stowplan get digits >&2 || true
        exit 1
    fi
    sleep 1
done

say "4/4  How it ended"
show kubectl stowplan get digits || true
if [ "$phase" != Succeeded ]; then
    kubectl stowplan logs digits || true
    exit 1
fi
echo
echo "digits Succeeded after $((SECONDS - began)) s with a held-out accuracy of $(field .status.progress.accuracy)."
echo "Next: kubectl stowplan explain digits · README.md · make cluster-down"
