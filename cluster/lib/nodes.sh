# shellcheck shell=bash
# The kind cluster: its configuration, its health, and its making.

# Folders of this machine that every node has: where volumes live, and the layers of images (see load.sh).
SHARED=$STATE/shared
LAYERS=$STATE/layers

node_mounts() {
    echo "[{hostPath: \"$SHARED\", containerPath: /var/stowplan-shared}," \
        "{hostPath: \"$LAYERS\", containerPath: /var/stowplan-layers, readOnly: true}]"
}

# A worker's labels: those of GPU feature discovery, and its place.
worker() {
    local product=$1 family=$2 memory_mib=$3 compute_major=$4 rack=$5 capacity_type=$6 instance_type=$7
    cat <<E
- role: worker
  extraMounts: $(node_mounts)
  labels:
    nvidia.com/gpu.present: "true"
    nvidia.com/gpu.product: "$product"
    nvidia.com/gpu.count: "4"
    nvidia.com/gpu.memory: "$memory_mib"
    nvidia.com/gpu.family: "$family"
    nvidia.com/gpu.machine: "Mock-4-GPU"
    nvidia.com/gpu.replicas: "1"
    nvidia.com/gpu.sharing-strategy: "none"
    nvidia.com/gpu.compute.major: "$compute_major"
    nvidia.com/gpu.compute.minor: "0"
    nvidia.com/mig.capable: "true"
    nvidia.com/mig.strategy: "single"
    topology.kubernetes.io/region: "local"
    topology.kubernetes.io/zone: "z1"
    topology.stowplan.dev/rack: "$rack"
    karpenter.sh/capacity-type: "$capacity_type"
    node.kubernetes.io/instance-type: "$instance_type"
E
}

cgroup_version() { if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then echo 2; else echo 1; fi; }

kind_config() {
    local cgroup_v1='' containerd=''
    if [[ $(cgroup_version) == 1 ]]; then cgroup_v1='failCgroupV1: false'; fi
    # Oom scores below one's own need CAP_SYS_RESOURCE.
    if lacks_sys_resource; then
        containerd='containerdConfigPatches: ["[plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true"]'
    fi
    cat <<E
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: $CLUSTER_NAME
networking: {ipFamily: ipv4}
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  apiVersion: kubelet.config.k8s.io/v1beta1
  serializeImagePulls: false
  $cgroup_v1
- |
  # The cluster is thrown away, so etcd need not wait for the disk.
  kind: ClusterConfiguration
  etcd:
    local:
      extraArgs: [{name: unsafe-no-fsync, value: "true"}]
$containerd
nodes:
- role: control-plane
  extraMounts: $(node_mounts)
  labels:
    topology.kubernetes.io/region: "local"
    topology.kubernetes.io/zone: "z1"
E
    worker NVIDIA-H100-80GB-HBM3 hopper 81559 9 r1 on-demand mock.h100.4
    worker NVIDIA-H100-80GB-HBM3 hopper 81559 9 r2 on-demand mock.h100.4
    worker NVIDIA-A100-SXM4-80GB ampere 81920 8 r2 spot mock.a100.4
}

nodes_names() { printf "$CLUSTER_NAME-%s\n" control-plane worker worker2 worker3; }

# What the running cluster was made from; another key means that it must be made anew.
cluster_key() { hash_of "$(kind_config)" "$1"; }

kube() { kubectl --kubeconfig "$STATE/kubeconfig" --request-timeout 20s "$@"; }

# A busy machine may take its time to answer; nobody's cluster is thrown away for that.
api_ready() {
    local _
    for _ in 1 2 3; do
        kube get --raw /readyz >/dev/null 2>&1 && return
        sleep 5
    done
    return 1
}

# cluster_problem KEY: why the cluster that is there cannot be used; nothing when it can.
cluster_problem() {
    local node
    [[ -s $STATE/kubeconfig ]] || { echo "there is none yet"; return; }
    for node in $(nodes_names); do
        if [[ $(docker inspect -f '{{.State.Status}}' "$node" 2>/dev/null) != running ]]; then
            echo "the node $node does not run"
            return
        fi
    done
    if [[ $(cat "$STATE/key" 2>/dev/null) != "$1" ]]; then
        echo "its configuration or node image has changed"
    elif ! api_ready; then
        echo "its API server does not answer"
    elif ! kube wait --for=condition=Ready --timeout=60s $(nodes_names | sed 's#^#node/#') >/dev/null 2>&1; then
        echo "not all its nodes are Ready"
    fi
}

# cluster_create KEY NODE_IMAGE: "" takes kind's own image.
cluster_create() {
    rm -f "$STATE/key"
    kind delete cluster --name "$CLUSTER_NAME" --kubeconfig "$STATE/kubeconfig"
    rm -rf "$SHARED" "$LAYERS"
    mkdir -p "$SHARED" "$LAYERS"
    kind_config >"$STATE/kind.yaml"
    kind create cluster --config "$STATE/kind.yaml" --kubeconfig "$STATE/kubeconfig" ${2:+--image "$2"} --wait 180s \
        --retain
    kube wait --for=condition=Ready --timeout=180s $(nodes_names | sed 's#^#node/#')
    kube -n kube-system rollout status deployment/coredns --timeout=180s
    echo "$1" >"$STATE/key"
}

cluster_env() {
    {
        echo "# source this file to work with the cluster"
        echo "export KUBECONFIG='$STATE/kubeconfig'"
        if [[ -n ${DOCKER_HOST:-} ]]; then echo "export DOCKER_HOST='$DOCKER_HOST'"; fi
        echo "case :\$PATH: in *:'$BIN':*) ;; *) export PATH='$BIN':\$PATH ;; esac"
    } >"$STATE/env.new"
    mv "$STATE/env.new" "$STATE/env"
}
