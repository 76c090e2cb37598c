#!/usr/bin/env bash
# tools.sh helm|kubeall|kwok …: programs of the cluster that tests use without one, into the cache's bin folder.
#
# helm renders the chart; kubeall is kube-apiserver, etcd, kube-controller-manager, kube-scheduler and kubectl in one;
# kwok plays kubelets.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SUMS=$GO_SOURCES/go.sum

(($#)) || die "usage: tools.sh helm|kubeall|kwok …"
alone
steps_begin $#
for tool in "$@"; do
    case $tool in
    helm)
        if have helm && helm version --short 2>/dev/null | grep -q '^v3\.'; then
            report "helm" "on PATH"
            continue
        fi
        need_go
        step helm "helm $HELM_VERSION" "$SUMS" "$HELM_VERSION" -- build_helm
        ln -sf "$(result helm)/helm" "$BIN/helm"
        ;;
    kubeall)
        need_go
        step kubeall "Kubernetes $KUBERNETES_VERSION" \
            "$SUMS" "$GO_SOURCES/cmd/kubeall" "$KUBERNETES_VERSION" -- build_kubeall
        for name in kubeall kubectl kube-apiserver kube-controller-manager kube-scheduler etcd; do
            ln -sf "$(result kubeall)/kubeall" "$BIN/$name"
        done
        ;;
    kwok)
        need_go
        step kwok "kwok $KWOK_VERSION" "$SUMS" "$KWOK_VERSION" "$REPO/cluster/images/kwok.yaml" -- build_kwok
        ln -sf "$(result kwok)/kwok" "$BIN/kwok"
        ;;
    *) die "tools.sh: there is no tool $tool; it builds helm, kubeall and kwok" ;;
    esac
done
