# shellcheck shell=bash
# Path B's node image: the images that kubeadm names, then the node with those images in its containerd's store.

PODNET_IMAGE=docker.io/stowplan/podnet:dev

# kubeadm_image NAME: the full name that this kubeadm wants, e.g. registry.k8s.io/etcd:3.6.8-0 for etcd.
kubeadm_image() {
    "$(result kubeall)/kubeall" kubeadm config images list --kubernetes-version "$KUBERNETES_VERSION" 2>/dev/null |
        grep -E "/$1:"
}

# scratch_image CONTEXT IMAGE...: an image with the Dockerfile of standard input, under all the names.
scratch_image() {
    local context=$1 name
    shift
    cat >"$context/Dockerfile"
    docker_build --network none -t "$1" "$context"
    for name in "${@:2}"; do docker tag "$1" "$name"; done
}

build_node_image() {
    local work name
    work=$(mktemp -d "$BUILD/.node.XXXXXX")
    # The names as they are now, whatever the variables hold when the trap runs.
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    mkdir -p "$work"/{kube/links/usr/local/bin,net,coredns,pause,node/bin}

    # One binary under its names; kube-proxy and the pod network add nft and iptables to the same layer.
    ln "$(result kubeall)/kubeall" "$work/kube/kubeall"
    for name in kube-apiserver kube-controller-manager kube-scheduler etcd kube-proxy; do
        ln -s kubeall "$work/kube/links/usr/local/bin/$name"
    done
    tar -C "$work/kube/links" -cf "$work/kube/links.tar" .
    scratch_image "$work/kube" "$(kubeadm_image kube-apiserver)" "$(kubeadm_image kube-controller-manager)" \
        "$(kubeadm_image kube-scheduler)" "$(kubeadm_image etcd)" <<'D'
FROM scratch
COPY kubeall /usr/local/bin/kubeall
ADD links.tar /
D
    ln "$(result node-root)/nft.tar" "$work/net/nft.tar"
    cp "$(result podnet)/podnet" "$work/net/podnet"
    scratch_image "$work/net" "$(kubeadm_image kube-proxy)" "$PODNET_IMAGE" <<D
FROM $(kubeadm_image kube-apiserver)
ADD nft.tar /
COPY podnet /usr/local/bin/podnet
D
    cp "$(result coredns)/coredns" "$work/coredns/"
    scratch_image "$work/coredns" "$(kubeadm_image coredns/coredns)" <<'D'
FROM scratch
COPY coredns /coredns
EXPOSE 53 53/udp
ENTRYPOINT ["/coredns"]
D
    cp "$(result pause)/pause" "$work/pause/"
    scratch_image "$work/pause" "$(kubeadm_image pause)" <<'D'
FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
D

    # The node without images.
    ln "$(result node-root)/root.tar" "$work/node/root.tar"
    cp -r "$(result kind-files)" "$work/node/kind"
    sed -i "s#sandbox_image = .*#sandbox_image = \"$(kubeadm_image pause)\"#" \
        "$work/node/kind/etc/containerd/config.toml"
    cp -r "$REPO/cluster/node/." "$work/node/"
    cp "$(result containerd)"/* "$work/node/bin/"
    ln "$(result kubeall)/kubeall" "$work/node/bin/kubeall"
    docker_build --network none --build-arg "KUBERNETES_VERSION=$KUBERNETES_VERSION" -t stowplan/node-base "$work/node"

    # The node with them: imported by a containerd of its own, then committed.
    local container
    container=$(docker run -d --network none --security-opt seccomp=unconfined --entrypoint sleep \
        stowplan/node-base infinity)
    # The names as they are now, whatever the variables hold when the trap runs.
    # shellcheck disable=SC2064
    trap "rm -rf '$work'; docker rm -f -v $container >/dev/null" EXIT
    docker exec -d "$container" containerd
    timeout 60 docker exec "$container" bash -c 'until ctr version; do sleep 0.3; done' >/dev/null 2>&1 ||
        die "containerd does not start inside the node image"
    local -a images=("$PODNET_IMAGE")
    for name in kube-{apiserver,controller-manager,scheduler,proxy} etcd coredns/coredns pause; do
        images+=("$(kubeadm_image "$name")")
    done
    docker save "${images[@]}" | docker exec -i "$container" ctr -n k8s.io images import \
        --label io.cri-containerd.pinned=pinned --no-unpack --digests -
    docker exec "$container" bash -c 'kill $(pidof containerd); while pidof containerd; do sleep 0.2; done' >/dev/null
    docker commit --change "LABEL stowplan.key=$KEY" \
        --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' "$container" "$NODE_IMAGE"
}
