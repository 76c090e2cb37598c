"""A TrainingJob and its placement as Kubernetes manifests: pods, headless Service, NetworkPolicy.

Pure: the same job, attempt and placement always give the same names and bodies, so creating twice is
harmless. Ranks are zero-padded in names because c10d orders nodes by address as text and ignores
PET_NODE_RANK. What is set here satisfies the Pod Security level ``restricted``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stowplan_operator import api, views
from stowplan_operator.settings import Settings

Json = dict[str, Any]

# torchrun kills its workers this long after SIGTERM; the pod's own grace must be longer.
_SHUTDOWN_MARGIN_SECONDS = 15
_DEFAULT_SHARED_MEMORY_MIB = 2048
_MAX_DEFAULT_SHARED_MEMORY_MIB = 64 * 1024
# No job can have a name with a dot, so none has a policy of this name.
NAMESPACE_POLICY = "jobs.stowplan.dev"
# The one field of a container's security context among those of the pod's.
_READ_ONLY_ROOT = "readOnlyRootFilesystem"
_TMP = "/tmp"  # noqa: S108 - the container's, not ours
GPU_TOLERATION: Json = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def pod_name(job: str, attempt: int, rank: int, num_pods: int) -> str:
    """``<job>-<attempt>-<rank>``, the rank padded so that names sort as ranks do."""
    return f"{job}-{attempt}-{rank:0{len(str(num_pods - 1))}d}"


def ranks_by_node(placement: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """(rank, node) pairs of ``status.placement``."""
    for share in placement["nodes"]:
        for rank in parse_ranks(share["ranks"]):
            yield rank, share["name"]


def parse_ranks(text: str) -> list[int]:
    """Ranks written as ``0-3,7``."""
    ranks: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        ranks.extend(range(int(first), int(last or first) + 1))
    return ranks


def format_ranks(ranks: Iterable[int]) -> str:
    """Ranks as ``0-3,7``."""
    spans: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if spans and spans[-1][1] == rank - 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)


def finished_ranks(placement: Mapping[str, Any]) -> frozenset[int]:
    """Ranks of the placed attempt whose pods were seen to have exited 0, whether they are still there or not."""
    text = placement.get("finishedRanks")
    return frozenset(parse_ranks(text)) if text else frozenset()


def rendezvous_port(uid: str, attempt: int) -> int:
    """A port that cannot be guessed without the job's UID, outside the ephemeral range."""
    digest = hashlib.sha256(f"{uid}/{attempt}".encode()).digest()
    return 20000 + int.from_bytes(digest[:4], "big") % 10000


def processes_per_node(spec: api.TrainingJobSpec, accelerators_per_pod: int, *, product: str = "") -> int:
    """``numProcPerNode``, where auto means one per accelerator, else one.

    CUDA lets a process see one MIG slice only, and never a second one: on those auto is one.
    """
    if spec.num_proc_per_node == "auto":
        return 1 if "-MIG-" in product else max(1, accelerators_per_pod)
    return int(spec.num_proc_per_node)


def owner_reference(job: views.JobView) -> Json:
    """The job as controlling owner, so that its children go when it goes."""
    return {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _labels(job: views.JobView) -> dict[str, str]:
    return {api.LABEL_MANAGED_BY: api.MANAGED_BY, api.LABEL_JOB: job.name}


def build_service(job: views.JobView) -> Json:
    """The headless Service that gives every pod a name before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name, "labels": _labels(job), "ownerReferences": [owner_reference(job)]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _labels(job),
            "ports": [{"name": api.METRICS_PORT_NAME, "port": api.METRICS_PORT, "targetPort": api.METRICS_PORT_NAME}],
        },
    }


_METRICS_INGRESS: Json = {"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": api.METRICS_PORT}]}


def build_namespace_policy() -> Json:
    """Of the pods of all jobs of a namespace, others reach the metrics port only.

    torchrun's store listens on every address, in a job of one pod too, and runs pickles from whoever can connect.
    """
    labels = {api.LABEL_MANAGED_BY: api.MANAGED_BY}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NAMESPACE_POLICY, "labels": labels},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": [_METRICS_INGRESS]},
    }


def build_network_policy(job: views.JobView) -> Json:
    """What a gang of several pods needs beside the namespace's policy: its pods reach each other at every port."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": job.name, "labels": _labels(job), "ownerReferences": [owner_reference(job)]},
        "spec": {
            "podSelector": {"matchLabels": _labels(job)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": _labels(job)}}]}, _METRICS_INGRESS],
        },
    }


def build_pods(
    job: views.JobView, spec: api.TrainingJobSpec, placement: Mapping[str, Any], *, settings: Settings
) -> dict[str, Json]:
    """Manifests of all pods of the placement's attempt by name, in rank order."""
    pairs = sorted(ranks_by_node(placement))
    num_pods = len(pairs)
    attempt = int(placement["attempt"])
    pods = {}
    for rank, node in pairs:
        body = _build_pod(job, spec, attempt=attempt, rank=rank, num_pods=num_pods, node=node, settings=settings)
        pods[body["metadata"]["name"]] = body
    return pods


def _build_pod(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    *,
    attempt: int,
    rank: int,
    num_pods: int,
    node: str,
    settings: Settings,
) -> Json:
    name = pod_name(job.name, attempt, rank, num_pods)
    requests = {key: str(value) for key, value in spec.resources_per_node.items()}
    per_pod = views.parse_resources(requests, accelerator=settings.accelerator_resource, round_up=True)
    template = spec.pod_template
    shutdown = max(1, spec.grace_period_seconds)
    volumes, mounts = _volumes(spec, memory_mib=per_pod.memory_mib)
    container: Json = {
        "name": api.CONTAINER_NAME,
        "image": spec.image,
        "env": _environment(
            job,
            spec,
            attempt=attempt,
            rank=rank,
            num_pods=num_pods,
            num_processes=processes_per_node(
                spec, per_pod.accelerators, product=(job.status.get("placement") or {}).get("product", "")
            ),
            shutdown_seconds=shutdown,
            has_accelerators=per_pod.accelerators > 0,
        ),
        "resources": {
            "requests": requests,
            "limits": {key: value for key, value in requests.items() if key != "cpu"},
        },
        "ports": [{"name": api.METRICS_PORT_NAME, "containerPort": api.METRICS_PORT, "protocol": "TCP"}],
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            **({"readOnlyRootFilesystem": True} if _has_read_only_root(spec) else {}),
        },
    }
    given: Json = {"imagePullPolicy": spec.image_pull_policy, "command": spec.command, "args": spec.args}
    container.update((key, value) for key, value in given.items() if value)
    tolerations = list(spec.tolerations)
    if per_pod.has_devices:
        tolerations.append(GPU_TOLERATION)
    body: Json = {
        "hostname": name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": shutdown + _SHUTDOWN_MARGIN_SECONDS,
        "priorityClassName": settings.priority_class_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **{key: value for key, value in template.security_context.items() if key != _READ_ONLY_ROOT},
        },
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
                    ]
                }
            }
        },
        "tolerations": tolerations,
        "containers": [container],
        "volumes": volumes,
    }
    if num_pods > 1:
        body["subdomain"] = job.name
    optional: Json = {
        "nodeSelector": spec.node_selector,
        "serviceAccountName": spec.service_account_name,
        "imagePullSecrets": spec.image_pull_secrets,
        "runtimeClassName": spec.runtime_class_name,
    }
    body.update((key, value) for key, value in optional.items() if value)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                **template.metadata.labels,
                **_labels(job),
                api.LABEL_ATTEMPT: str(attempt),
                api.LABEL_RANK: str(rank),
            },
            **({"annotations": template.metadata.annotations} if template.metadata.annotations else {}),
            "ownerReferences": [owner_reference(job)],
        },
        "spec": body,
    }


def _environment(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    *,
    attempt: int,
    rank: int,
    num_pods: int,
    num_processes: int,
    shutdown_seconds: int,
    has_accelerators: bool,
) -> list[Json]:
    """The variables that make a bare ``torchrun train.py`` join its gang, then the user's own."""
    suffix = f"{job.name}.{job.namespace}.svc"
    if num_pods > 1:
        master = f"{pod_name(job.name, attempt, 0, num_pods)}.{suffix}"
        local = f"{pod_name(job.name, attempt, rank, num_pods)}.{suffix}"
    else:
        master = local = "localhost"
    port = rendezvous_port(job.uid, attempt)
    wait = spec.startup_timeout_seconds
    values = {
        "PET_NNODES": num_pods,
        "PET_NPROC_PER_NODE": num_processes,
        "PET_NODE_RANK": rank,
        "PET_MASTER_ADDR": master,
        "PET_MASTER_PORT": port,
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{master}:{port}",
        "PET_RDZV_ID": f"{job.uid}-a{attempt}",
        "PET_RDZV_CONF": f"is_host={int(rank == 0)},join_timeout={wait},read_timeout={wait}",
        "PET_MAX_RESTARTS": 0,
        "PET_LOCAL_ADDR": local,
        "PET_SHUTDOWN_TIMEOUT": shutdown_seconds,
        "STOWPLAN_JOB": job.name,
        "STOWPLAN_NAMESPACE": job.namespace,
        "STOWPLAN_UID": job.uid,
        "STOWPLAN_ATTEMPT": attempt,
        "STOWPLAN_METRICS_PORT": api.METRICS_PORT,
        "STOWPLAN_RUN_DIR": api.RUN_DIR,
    }
    if spec.checkpoint:
        values["STOWPLAN_CHECKPOINT_DIR"] = spec.checkpoint.path
    if not has_accelerators:
        # CUDA images say "all", which some container runtimes take for a right to every GPU of the node.
        values["NVIDIA_VISIBLE_DEVICES"] = "void"
    return [{"name": name, "value": str(value)} for name, value in values.items()] + list(spec.env)


def _volumes(spec: api.TrainingJobSpec, *, memory_mib: int) -> tuple[list[Json], list[Json]]:
    """Shared memory, the run directory, the checkpoint volume, the user's own, and /tmp beside a read-only root."""
    shared = str(spec.shared_memory) if spec.shared_memory is not None else f"{default_shared_memory_mib(memory_mib)}Mi"
    volumes: list[Json] = [
        {"name": "stowplan-shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
        {"name": "stowplan-run", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    mounts: list[Json] = [
        {"name": "stowplan-shm", "mountPath": "/dev/shm"},  # noqa: S108 - the container's, not ours
        {"name": "stowplan-run", "mountPath": api.RUN_DIR},
    ]
    if spec.checkpoint and spec.checkpoint.persistent_volume_claim:
        claim = {"claimName": spec.checkpoint.persistent_volume_claim}
        volumes.append({"name": "stowplan-checkpoint", "persistentVolumeClaim": claim})
        mounts.append({"name": "stowplan-checkpoint", "mountPath": spec.checkpoint.path})
    volumes += spec.pod_template.volumes
    mounts += spec.pod_template.volume_mounts
    if _has_read_only_root(spec) and all(mount["mountPath"] != _TMP for mount in mounts):
        volumes.append({"name": "stowplan-tmp", "emptyDir": {}})
        mounts.append({"name": "stowplan-tmp", "mountPath": _TMP})
    return volumes, mounts


def _has_read_only_root(spec: api.TrainingJobSpec) -> bool:
    return bool(spec.pod_template.security_context.get(_READ_ONLY_ROOT))


def default_shared_memory_mib(memory_mib: int) -> int:
    """Half of the pod's memory, at most 64 GiB; 2 GiB where no memory was asked for."""
    if not memory_mib:
        return _DEFAULT_SHARED_MEMORY_MIB
    return max(64, min(math.floor(memory_mib / 2), _MAX_DEFAULT_SHARED_MEMORY_MIB))
