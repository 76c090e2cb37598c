#!/usr/bin/env bash
# make cluster: a kind cluster with mocked GPUs, on any machine with Docker (or root on Debian) and Go.
#
# Where an image registry answers, the stock kindest/node image is used; where none answers, the node image is built
# here from Debian packages and Go modules. All else is the same on both paths. docs/cluster.md says more.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kwok_nodes_wanted=${KWOK_NODES:-0}
[[ $kwok_nodes_wanted =~ ^[0-9]+$ ]] || die "KWOK_NODES=$kwok_nodes_wanted: want a whole number"

SUMS=$GO_SOURCES/go.sum
COMMANDS=$GO_SOURCES/cmd

# How many steps there will be, as they stand below.
steps_expected() {
    local steps=7
    if [[ $path == B ]]; then steps=18; fi
    if [[ $path == A ]] && ! have helm; then steps=$((steps + 1)); fi
    if [[ $path == A ]] && ! have kubectl; then steps=$((steps + 1)); fi
    if ((kwok_nodes_wanted)); then steps=$((steps + 4)); fi
    echo "$steps"
}

# Programs for this machine, on both paths.
tools_lane() {
    step kind "kind" "$SUMS" -- build_kind
    step gpu-mock "GPU mock" "$SUMS" "$COMMANDS/mock" "$GO_SOURCES/internal" -- build_gpu_mock
    if [[ $path == B ]] || ! have helm; then step helm "helm $HELM_VERSION" "$SUMS" "$HELM_VERSION" -- build_helm; fi
    if ((kwok_nodes_wanted)); then
        step kwok "kwok $KWOK_VERSION" "$SUMS" "$KWOK_VERSION" "$REPO/cluster/images/kwok.yaml" -- build_kwok
    fi
}

node_go_lane() {
    step kubeall "Kubernetes $KUBERNETES_VERSION" "$SUMS" "$COMMANDS/kubeall" "$KUBERNETES_VERSION" -- build_kubeall
    step containerd "containerd $CONTAINERD_VERSION" "$SUMS" "$CONTAINERD_VERSION" -- build_containerd
    step coredns "CoreDNS" "$SUMS" "$COMMANDS/coredns" -- build_coredns
    step podnet "pod network agent" "$SUMS" "$COMMANDS/podnet" -- build_podnet
    step pause "pause" "$COMMANDS/pause" -- build_pause
    step kind-files "kind's node files" "$SUMS" -- build_kind_files
    tools_lane
}

debian_lane() {
    step node-root "Debian $NODE_DEBIAN for the nodes" "$NODE_DEBIAN" "$NODE_PACKAGES" "$(declare -f debian_root)" \
        -- build_node_root
    step prometheus "Prometheus" -- build_prometheus
    step_python_root
}

# link PROGRAM TARGET
link() { ln -sf "$2" "$BIN/$1"; }

path_a() {
    tools_lane
    if ! have kubectl; then
        step kubectl "kubectl" "$SUMS" -- build_kubectl
        link kubectl "$(result kubectl)/kubectl"
    fi
    image_step "$PROMETHEUS_IMAGE" "Prometheus image" "$UPSTREAM_PROMETHEUS_IMAGE" -- pull_prometheus_image
    node_image='' # kind's own, pinned by its digest
    node_key=$(contents kind)
}

path_b() {
    together node_go_lane debian_lane
    local name
    for name in kubeall kubectl kubeadm kube-apiserver kube-controller-manager kube-scheduler etcd; do
        link "$name" "$(result kubeall)/kubeall"
    done
    # Each word of contents is an argument of its own.
    # shellcheck disable=SC2046
    image_step "$NODE_IMAGE" "node image" $(contents kubeall containerd coredns podnet pause kind-files node-root) \
        "$REPO/cluster/node" "$KUBERNETES_VERSION" -- build_node_image
    image_step "$PROMETHEUS_IMAGE" "Prometheus image" "$(contents prometheus)" "$REPO/cluster/images/prometheus" \
        -- build_prometheus_image
    node_image=$NODE_IMAGE
    node_key=$(image_key "$NODE_IMAGE")
}

alone
start=$SECONDS
need_go
step runcaps "probe of the Docker engine" "$COMMANDS/runcaps" -- build_runcaps
engine_up
choose_path
steps_begin "$(steps_expected)"
if [[ $path == A ]]; then path_a; else path_b; fi
link kind "$(result kind)/kind"
if [[ -e $BUILD/helm/current ]]; then link helm "$(result helm)/helm"; fi
image_step "$GPU_MOCK_IMAGE" "GPU mock image" "$(contents gpu-mock)" -- build_gpu_mock_image

cluster_env
key=$(cluster_key "$path $node_key")
problem=$(cluster_problem "$key")
if [[ -n $problem ]]; then
    say "Making the cluster anew: $problem."
    timed "cluster of 4 nodes" cluster_create "$key" "$node_image"
    echo "$path" >"$STATE/path"
else
    report "cluster of 4 nodes" running
fi
timed "images into the nodes" load_addons
timed "GPU mock, Prometheus, volumes" apply_addons
if ((kwok_nodes_wanted)); then
    link kwok "$(result kwok)/kwok"
    image_step "$KWOK_IMAGE" "kwok image" "$(contents kwok)" -- build_kwok_image
    timed "kwok image into its node" nodes_load "$CLUSTER_NAME-control-plane" -- "$KWOK_IMAGE"
    timed "$kwok_nodes_wanted kwok nodes" apply_kwok "$kwok_nodes_wanted"
elif [[ -n $(kube get nodes -l type=kwok -o name) ]]; then
    timed "kwok nodes removed" kube delete nodes -l type=kwok
fi
say "The cluster $CLUSTER_NAME is up after $((SECONDS - start)) s. To use it: source $STATE/env"
