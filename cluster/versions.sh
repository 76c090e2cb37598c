# shellcheck shell=bash disable=SC2034
# The versions of what the development cluster is made of, for the scripts that source this. What comes out of the Go
# module proxy is pinned by go/go.mod and go/go.sum; here stand the other names and versions.

CLUSTER_NAME=stowplan
KUBERNETES_VERSION=v1.36.3
CONTAINERD_VERSION=v2.3.7
HELM_VERSION=v3.21.4
KWOK_VERSION=v0.8.0

# Images built here, the same names on both paths.
NODE_IMAGE=docker.io/stowplan/node:$KUBERNETES_VERSION
PYTHON_BASE=docker.io/stowplan/python-base:3.13
OPERATOR_IMAGE=docker.io/stowplan/operator:dev
TRAINER_IMAGE=docker.io/stowplan/trainer:dev
GPU_MOCK_IMAGE=docker.io/stowplan/gpu-mock:dev
PROMETHEUS_IMAGE=docker.io/stowplan/prometheus:dev

# Images of a registry, used only where one answers.
UPSTREAM_PROMETHEUS_IMAGE=docker.io/prom/prometheus:v3.5.0
UPSTREAM_PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

# Debian releases: systemd of bookworm still boots on cgroup v1; trixie has Python 3.13.
NODE_DEBIAN=bookworm
PYTHON_DEBIAN=trixie
NODE_PACKAGES=systemd,systemd-sysv,dbus,kmod,procps,mount,util-linux,iproute2,iptables,nftables,conntrack,ethtool,socat,\
ebtables,hostname,ca-certificates,runc,containernetworking-plugins,jq,libseccomp2,zstd
PYTHON_PACKAGES=python3-minimal,python3,ca-certificates,libgomp1,libstdc++6
