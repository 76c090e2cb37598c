# shellcheck shell=bash
# What path B builds from Go modules and Debian packages, one function a step. Each fills $OUT and reads only what its
# step's inputs name (see up.sh).
#
# Every Go program comes out of one module, cluster/go: kubeadm, CoreDNS, containerd, helm and kwok then share the
# packages of k8s.io and of gRPC, which are most of what there is to compile, and one go.sum pins them all.

GO_SOURCES=$REPO/cluster/go

# Go 1.21 or newer fetches the toolchain that go.mod asks for by itself.
need_go() {
    local version
    have go || die "go is missing. Install Go 1.21 or newer from https://go.dev/dl (Debian bookworm's is too old)"
    version=$(cd / && GOTOOLCHAIN=local go env GOVERSION | sed -E 's/^go1\.([0-9]+).*/\1/')
    ((version >= 21)) || die "$(go version) is too old. Install Go 1.21 or newer from https://go.dev/dl"
}

# go_build OUTPUT PACKAGE [LDFLAGS]
go_build() {
    CGO_ENABLED=0 nice -n 5 go -C "$GO_SOURCES" build -trimpath -tags no_btrfs,no_devmapper,no_zfs,no_aufs \
        -ldflags "-s -w ${3:-}" -o "$1" "$2"
}

build_pause() { go_build "$OUT/pause" ./cmd/pause; }
build_runcaps() { go_build "$OUT/runcaps" ./cmd/runcaps; }
build_kind() { go_build "$OUT/kind" sigs.k8s.io/kind; }
build_coredns() { go_build "$OUT/coredns" ./cmd/coredns; }
build_podnet() { go_build "$OUT/podnet" ./cmd/podnet; }
build_gpu_mock() { go_build "$OUT/mock" ./cmd/mock; }
build_kubectl() { go_build "$OUT/kubectl" k8s.io/kubernetes/cmd/kubectl; }

build_kwok() {
    go_build "$OUT/kwok" sigs.k8s.io/kwok/cmd/kwok "-X sigs.k8s.io/kwok/pkg/consts.Version=$KWOK_VERSION"
    local stages file
    stages=$(go -C "$GO_SOURCES" list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
    cat "$REPO/cluster/images/kwok.yaml" >"$OUT/kwok.yaml"
    for file in "$stages"/node/{fast/node-initialize,heartbeat-with-lease/node-heartbeat-with-lease}.yaml \
        "$stages"/pod/fast/pod-{ready,complete,delete}.yaml; do
        printf -- '\n---\n' | cat - "$file" >>"$OUT/kwok.yaml"
    done
}

build_helm() {
    go_build "$OUT/helm" helm.sh/helm/v3/cmd/helm "-X helm.sh/helm/v3/internal/version.version=$HELM_VERSION"
}

build_kubeall() {
    local version=k8s.io/component-base/version minor=${KUBERNETES_VERSION#v1.}
    go_build "$OUT/kubeall" ./cmd/kubeall "\
        -X $version.gitVersion=$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*} \
        -X $version.gitTreeState=clean -X $version.gitCommit=module -X $version.buildDate=1970-01-01T00:00:00Z \
        -X k8s.io/client-go/pkg/version.gitVersion=$KUBERNETES_VERSION"
}

build_containerd() {
    local program
    for program in containerd ctr containerd-shim-runc-v2; do
        go_build "$OUT/$program" "github.com/containerd/containerd/v2/cmd/$program" \
            "-X github.com/containerd/containerd/v2/version.Version=$CONTAINERD_VERSION"
    done
}

# The node image follows kind's own: its entrypoint, units and sysctls come unchanged out of kind's module.
build_kind_files() {
    local source
    go -C "$GO_SOURCES" mod download sigs.k8s.io/kind # "list" names no folder for a module that was never fetched
    source=$(go -C "$GO_SOURCES" list -m -f '{{.Dir}}' sigs.k8s.io/kind)
    cp -r --no-preserve=mode "$source/images/base/files/." "$OUT/"
    chmod 755 "$OUT"/usr/local/bin/* "$OUT"/kind/bin/*
}

# --- Debian ---------------------------------------------------------------------------------------------------------

# The mirror that this machine's apt uses for Debian, if it does.
debian_mirror() {
    # The names in the format are apt's.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "Debian" {print $1; exit}' || true
}

# debian_root RELEASE PACKAGES FOLDER: from apt's mirror, or from debootstrap's own where that has no such release.
debian_root() {
    need debootstrap 'debootstrap debian-archive-keyring'
    mkdir -p "$CACHE/debs"
    local mirror done=''
    for mirror in "$(debian_mirror)" ''; do
        rm -rf "$3"
        if nice -n 5 debootstrap --variant=minbase --cache-dir="$CACHE/debs" --include="$2" "$1" "$3" \
            ${mirror:+"$mirror"}; then
            done=yes
            break
        fi
    done
    [[ -n $done ]] || die "debootstrap could not make a root of Debian $1"
    rm -rf "$3"/var/cache/apt/* "$3"/var/lib/apt/lists/* "$3"/var/log/* "$3"/debootstrap \
        "$3"/usr/share/{doc,man,locale,info,lintian,bug}
}

build_node_root() {
    debian_root "$NODE_DEBIAN" "$NODE_PACKAGES" "$OUT/root"
    # kube-proxy's and the pod network's image: nft, iptables with its extensions, and the libraries that they load.
    local root=$OUT/root image=$OUT/nft libraries=usr/lib/x86_64-linux-gnu file library
    mkdir -p "$image"/{etc,tmp,run} "$image"/usr/{sbin,bin,lib64} "$image/$libraries"
    ln -s usr/lib "$image/lib"
    ln -s usr/lib64 "$image/lib64"
    ln -s usr/sbin "$image/sbin"
    cp -a "$root/$libraries/xtables" "$image/$libraries/"
    cp "$root"/usr/sbin/{nft,xtables-nft-multi,conntrack} "$image/usr/sbin/"
    for file in "$image"/usr/sbin/* "$image/$libraries"/xtables/*.so; do
        for library in $(chroot "$root" ldd "${file#"$image"}" | grep -o '/lib[^ ]*'); do
            cp -L "$root$library" "$image$library"
        done
    done
    for file in {iptables,ip6tables}{,-nft}{,-save,-restore}; do ln -sf xtables-nft-multi "$image/usr/sbin/$file"; done
    cp "$root/etc/protocols" "$root/etc/services" "$image/etc/" 2>/dev/null || true
    tar -C "$root" -cf "$OUT/root.tar" .
    tar -C "$image" -cf "$OUT/nft.tar" .
    rm -rf "$root" "$image"
}

# The base of the operator's and the trainer's image: Python 3.13 and a user of its own.
build_python_root() {
    local root=$OUT/root
    debian_root "$PYTHON_DEBIAN" "$PYTHON_PACKAGES" "$root"
    echo 'stowplan:x:65532:65532::/home/stowplan:/usr/sbin/nologin' >>"$root/etc/passwd"
    echo 'stowplan:x:65532:' >>"$root/etc/group"
    install -d -o 65532 -g 65532 "$root/home/stowplan"
    ln -sf python3 "$root/usr/bin/python"
    tar -C "$root" -cf "$OUT/root.tar" .
    rm -rf "$root"
}

# The prometheus server out of Debian's package; nothing is installed on this machine.
build_prometheus() {
    cd "$OUT"
    apt-get -q download prometheus || { apt-get -q update && apt-get -q download prometheus; }
    dpkg-deb -x prometheus_*.deb unpacked
    # A tree to put at the image's root: the program, and the libraries where it is linked with some.
    mkdir -p root/bin root/tmp root/etc/prometheus
    mv unpacked/usr/bin/prometheus root/bin/
    rm -rf unpacked prometheus_*.deb
    local library
    for library in $(ldd "$OUT/root/bin/prometheus" 2>/dev/null | grep -o '/lib[^ ]*'); do
        install -D "$library" "$OUT/root$library"
    done
}
