# shellcheck shell=bash
# Brings the engine's images into the nodes.
#
# Where the engine is our own, nothing is copied: the engine's storage driver and the nodes' snapshotter keep a layer in
# the same form (a folder as overlayfs wants it), and all nodes are containers on this machine. So each layer's folder
# gets hard links in $LAYERS, which every node mounts; in the node, the layer's snapshot is a link to that folder, and
# only the image's manifest and configuration are imported. Loading a gigabyte takes seconds, the page cache is shared,
# and a changed layer costs as much as it holds. Elsewhere an image is saved once and imported in all nodes at a time.

# nodes_load NODE... -- IMAGE...: in all nodes at the same time, and only where the image differs.
nodes_load() {
    local -a nodes=()
    while [[ $1 != -- ]]; do
        nodes+=("$1")
        shift
    done
    shift
    local image node id mark pid import archive=$STATE/load.tar
    local -a missing pids
    for image in "$@"; do
        id=$(docker image inspect -f '{{.Id}}' "$image")
        mark=/var/lib/stowplan-images/$(hash_of "$image")
        missing=()
        for node in "${nodes[@]}"; do
            [[ $(docker exec "$node" cat "$mark" 2>/dev/null) == "$id" ]] || missing+=("$node")
        done
        ((${#missing[@]})) || continue
        import=import_whole
        if engine_has_layers "$id"; then
            import=import_thin
            thin_archive "$image" "$id" >"$archive"
        else
            docker save -o "$archive" "$image"
        fi
        pids=()
        for node in "${missing[@]}"; do
            { "$import" "$node" "$id" <"$archive" && docker exec "$node" bash -c \
                "mkdir -p $(dirname "$mark") && echo $id >$mark"; } &
            pids+=($!)
        done
        for pid in "${pids[@]}"; do wait "$pid"; done
        rm -f "$archive"
        say "$image: $import in ${missing[*]}"
    done
}

import_whole() { docker exec -i "$1" ctr -n k8s.io images import --digests - >/dev/null; }

# --- layers by link -------------------------------------------------------------------------------------------------

ENGINE_IMAGES=$ENGINE/data/image/overlay2

engine_has_layers() {
    [[ ${DOCKER_HOST:-} == "$ENGINE_SOCKET" && -f $ENGINE_IMAGES/imagedb/content/sha256/${1#sha256:} ]]
}

# layer_chains IMAGE: lines "LAYER CHAIN"; a chain id names a layer on top of those before it (OCI image specification,
# "Layer ChainID").
layer_chains() {
    local layer chain=''
    for layer in $(docker image inspect -f '{{join .RootFS.Layers " "}}' "$1"); do
        chain=${chain:+sha256:$(printf '%s %s' "$chain" "$layer" | sha256sum | cut -d' ' -f1)}
        chain=${chain:-$layer}
        echo "$layer $chain"
    done
}

# link_layer FROM TO: the engine mounts its folder onto itself, and there are no hard links across mounts; a mount
# namespace without that mount sees the same files on one file system. The inner bash expands its arguments.
# shellcheck disable=SC2016
link_layer() {
    unshare --mount bash -c 'umount --lazy "$1/overlay2" "$1" 2>/dev/null; cp -al "$2" "$3"' - "$ENGINE/data" "$1" "$2"
}

# json_blob MEDIA-TYPE FILE: a descriptor of the file, which moves to where archives have it.
json_blob() {
    local digest size
    digest=$(sha256sum <"$2" | cut -d' ' -f1)
    size=$(stat -c %s "$2")
    mv "$2" "$(dirname "$2")/blobs/sha256/$digest"
    printf '"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d' "$1" "$digest" "$size"
}

# thin_archive IMAGE ID: an OCI archive without layers, after putting the layers' folders into $LAYERS.
thin_archive() {
    local image=$1 id=${2#sha256:} work layer chain from config manifest list=''
    work=$(mktemp -d "$STATE/.thin.XXXXXX")
    while read -r layer chain; do
        if [[ ! -d $LAYERS/${layer#sha256:} ]]; then
            from=$ENGINE/data/overlay2/$(<"$ENGINE_IMAGES/layerdb/sha256/${chain#sha256:}/cache-id")/diff
            rm -rf "$LAYERS/.new"
            link_layer "$from" "$LAYERS/.new"
            mv -T "$LAYERS/.new" "$LAYERS/${layer#sha256:}"
        fi
        list+=${list:+,}'{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"'$layer'","size":1}'
    done < <(layer_chains "$image")
    mkdir -p "$work/blobs/sha256"
    cp "$ENGINE_IMAGES/imagedb/content/sha256/$id" "$work/config"
    config=$(json_blob config.v1+json "$work/config")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{%s},"layers":[%s]}' \
        "$config" "$list" >"$work/manifest"
    manifest=$(json_blob manifest.v1+json "$work/manifest")
    printf '{"schemaVersion":2,"manifests":[{%s,"annotations":{"io.containerd.image.name":"%s"}}]}' \
        "$manifest" "$image" >"$work/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
    tar -C "$work" -cf - oci-layout index.json blobs
    rm -rf "$work"
}

# Runs in a node, with the image's id, its lines "LAYER CHAIN", and the thin archive on standard input; the shell there
# expands it.
# shellcheck disable=SC2016
THIN_IMPORT='
id=$1 chains=$2 parent=
ctr() { command ctr -n k8s.io "$@" 2> >(grep -v DEPRECATION >&2); }
while read -r layer chain; do
    if ! ctr snapshots info "$chain" >/dev/null 2>&1; then
        ctr snapshots rm "load-$chain" >/dev/null 2>&1 || true
        ctr snapshots prepare "load-$chain" $parent >/dev/null
        mounts=$(ctr snapshots mounts /none "load-$chain")
        [[ $mounts =~ upperdir=([^,]+) || $mounts =~ (/[^ ]*/snapshots/[0-9]+/fs) ]]
        rmdir "${BASH_REMATCH[1]}"
        ln -s "/var/stowplan-layers/${layer#sha256:}" "${BASH_REMATCH[1]}"
        ctr snapshots commit "$chain" "load-$chain"
    fi
    parent=$chain
done <<<"$chains"
ctr images import --local --no-unpack - >/dev/null
ctr content label "$id" "containerd.io/gc.ref.snapshot.overlayfs=$parent" >/dev/null
'

# import_thin NODE ID
import_thin() { docker exec -i "$1" bash -euo pipefail -c "$THIN_IMPORT" - "$2" "$(layer_chains "$2")"; }
