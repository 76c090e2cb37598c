"""Fluent builders of Kubernetes objects as the API server returns them, and of the operator's views of them.

Every call returns a new builder, so that a table of cases can share a beginning: ``a_job("a").placed_on("n1")``.
"""

from __future__ import annotations

import copy
import datetime
from typing import Any, Self

from stowplan_operator import api, failures, queueing, views

Json = dict[str, Any]

NOW = datetime.datetime(2026, 11, 2, 10, tzinfo=datetime.UTC).timestamp()
GPU = "nvidia.com/gpu"
H100 = "NVIDIA-H100-80GB-HBM3"
A100 = "NVIDIA-A100-SXM4-80GB"
ZONE_LABEL = "topology.kubernetes.io/zone"
RACK_LABEL = "topology.stowplan.dev/rack"
PRODUCT_LABEL = "nvidia.com/gpu.product"
NAMESPACE = "team"
# What a rank says whose peer has died.
PEER_LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.7]:1184"

time_text = views.format_time


class Builder:
    """A body under construction."""

    def __init__(self, body: Json) -> None:
        self._body = body

    def _with(self, **changes: Any) -> Self:
        """A copy with ``changes`` merged in; ``__`` separates levels (``status__phase``)."""
        body = copy.deepcopy(self._body)
        for path, value in changes.items():
            at = body
            *above, last = path.split("__")
            for name in above:
                at = at.setdefault(name, {})
            at[last] = value
        return type(self)(body)

    def meta(self, **changes: Any) -> Self:
        return self._with(**{f"metadata__{name}": value for name, value in changes.items()})

    def created(self, at: float) -> Self:
        return self.meta(creationTimestamp=time_text(at))

    def labelled(self, **labels: str) -> Self:
        return self.with_labels(labels)

    def with_labels(self, labels: dict[str, str]) -> Self:
        return self.meta(labels={**self._body["metadata"].get("labels", {}), **labels})

    @property
    def name(self) -> str:
        return str(self._body["metadata"]["name"])

    def body(self) -> Json:
        return copy.deepcopy(self._body)


class NodeBuilder(Builder):
    """A core/v1 Node."""

    def gpus(self, number: int, *, capacity: int | None = None) -> Self:
        amounts = dict(self._body["status"]["allocatable"], **{GPU: str(number)})
        whole = dict(self._body["status"]["capacity"], **{GPU: str(number if capacity is None else capacity)})
        return self._with(status__allocatable=amounts, status__capacity=whole)

    def allocatable(self, **amounts: str) -> Self:
        return self._with(status__allocatable={**self._body["status"]["allocatable"], **amounts})

    def of_product(self, product: str) -> Self:
        return self.with_labels({PRODUCT_LABEL: product})

    def in_rack(self, rack: str) -> Self:
        return self.with_labels({RACK_LABEL: rack})

    def cordoned(self) -> Self:
        return self._with(spec__unschedulable=True)

    def tainted(self, key: str, effect: str = "NoSchedule", value: str = "") -> Self:
        taints = [*self._body["spec"].get("taints", []), {"key": key, "value": value, "effect": effect}]
        return self._with(spec__taints=taints)

    def not_ready(self, since: float = NOW) -> Self:
        return self._ready("Unknown", since)

    def ready(self, since: float = NOW) -> Self:
        return self._ready("True", since)

    def _ready(self, state: str, since: float) -> Self:
        return self._with(
            status__conditions=[{"type": "Ready", "status": state, "lastTransitionTime": time_text(since)}]
        )

    def view(self) -> views.NodeView:
        return views.NodeView.from_body(self._body, accelerator=GPU)


def a_node(name: str = "n1") -> NodeBuilder:
    """A ready node with four H100 in rack r1 of zone z1."""
    amounts = {GPU: "4", "cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    body = {
        "metadata": {
            "name": name,
            "uid": f"uid-node-{name}",
            "resourceVersion": "1",
            "labels": {
                ZONE_LABEL: "z1",
                RACK_LABEL: "r1",
                PRODUCT_LABEL: H100,
                "kubernetes.io/hostname": name,
            },
        },
        "spec": {},
        "status": {"allocatable": amounts, "capacity": dict(amounts)},
    }
    return NodeBuilder(body).ready(NOW - 3600)


class OwnBuilder(Builder):
    """One of Stowplan's own kinds."""

    def spec(self, **fields: Any) -> Self:
        return self._with(spec={**self._body["spec"], **fields})

    def status(self, **fields: Any) -> Self:
        return self._with(status={**self._body.get("status", {}), **fields})


class JobBuilder(OwnBuilder):
    """A stowplan.dev/v1alpha1 TrainingJob."""

    def without(self, *fields: str) -> Self:
        return self._with(spec={name: value for name, value in self._body["spec"].items() if name not in fields})

    def nodes(self, number: int) -> Self:
        return self.spec(numNodes=number)

    def gpus(self, number: int) -> Self:
        return self.spec(resourcesPerNode={GPU: number} if number else {"cpu": "1"})

    def suspended(self) -> Self:
        return self.spec(suspend=True)

    def max_restarts(self, number: int) -> Self:
        return self.spec(failurePolicy={"maxRestarts": number})

    def phase(self, phase: api.Phase) -> Self:
        return self.status(phase=phase.value)

    def placed_on(self, *nodes: str, attempt: int = 1, at: float = NOW, product: str = H100) -> Self:
        """Rank 0 on the first node, and so on; a node named twice in a row holds two ranks."""
        shares: list[Json] = []
        for rank, node in enumerate(nodes):
            if shares and shares[-1]["name"] == node:
                shares[-1]["ranks"] = f"{shares[-1]['ranks'].split('-')[0]}-{rank}"
            else:
                shares.append({"name": node, "ranks": str(rank)})
        placement = {"attempt": attempt, "nodes": shares, "plannedAt": time_text(at), "product": product}
        placed = self.status(placement=placement, attempt=attempt)
        return placed.phase(api.Phase.STARTING).nodes(len(nodes))

    def started(self, at: float = NOW) -> Self:
        placement = {**self._body["status"]["placement"], "startedAt": time_text(at)}
        first = self._body["status"].get("startTime", time_text(at))
        return self.status(placement=placement, startTime=first).phase(api.Phase.RUNNING)

    def ended(self, *entries: Json) -> Self:
        """Attempts that ended before, oldest first (see ``an_attempt``)."""
        return self.status(history=list(entries))

    def view(self) -> views.JobView:
        return views.JobView.from_body(self._body)

    def parsed(self) -> api.TrainingJobSpec:
        return api.parse_spec(self._body["spec"])


def a_job(name: str = "a") -> JobBuilder:
    """Two pods of four GPUs each."""
    return JobBuilder(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": 1,
                "creationTimestamp": time_text(NOW),
            },
            "spec": {
                "image": "registry.example/train:1",
                "command": ["torchrun", "train.py"],
                "numNodes": 2,
                "resourcesPerNode": {GPU: 4},
            },
        }
    )


class QueueBuilder(OwnBuilder):
    """A stowplan.dev/v1alpha1 Queue."""

    def admits(self, *namespaces: str) -> Self:
        return self.spec(namespaces=list(namespaces))

    def under(self, parent: str) -> Self:
        return self.spec(parent=parent)

    def owns(self, nominal: int, *, borrows: int | None = None, lends: int | None = None) -> Self:
        limits = {"borrowingLimit": borrows, "lendingLimit": lends}
        quota = {"product": H100, "nominal": nominal} | {k: v for k, v in limits.items() if v is not None}
        return self.spec(quotas=[*self._body["spec"].get("quotas", []), quota])

    def limits(self, **limits: int) -> Self:
        return self.spec(limits=limits)

    def view(self) -> queueing.QueueView:
        return queueing.QueueView.from_body(self._body)


def a_queue(name: str = "q", *namespaces: str) -> QueueBuilder:
    """A queue without quotas that admits these namespaces, or the jobs' one."""
    return QueueBuilder(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.QUEUE_KIND,
            "metadata": {"name": name, "uid": f"uid-queue-{name}", "resourceVersion": "1", "generation": 1},
            "spec": {"namespaces": list(namespaces or (NAMESPACE,))},
        }
    )


def an_attempt(
    number: int = 1,
    *,
    begin: float = NOW,
    seconds: float = 10,
    outcome: str = "Failed",
    reason: str = failures.Cause.CONTAINER_FAILED.value,
    gpu_seconds: int = 80,
) -> Json:
    """An entry of ``status.history``."""
    return {
        "attempt": number,
        "startTime": time_text(begin),
        "endTime": time_text(begin + seconds),
        "outcome": outcome,
        "reason": reason,
        "nodes": 2,
        "gpuSeconds": gpu_seconds,
    }


class PodBuilder(Builder):
    """A core/v1 Pod."""

    def of(self, job: JobBuilder, *, rank: int = 0, attempt: int = 1) -> Self:
        meta = job.body()["metadata"]
        owner = {"apiVersion": api.API_VERSION, "kind": api.KIND, "name": meta["name"], "uid": meta["uid"]}
        name = f"{meta['name']}-{attempt}-{rank}"
        labels = {
            api.LABEL_MANAGED_BY: api.MANAGED_BY,
            api.LABEL_JOB: meta["name"],
            api.LABEL_ATTEMPT: str(attempt),
            api.LABEL_RANK: str(rank),
        }
        return self.meta(
            name=name,
            namespace=meta["namespace"],
            uid=f"uid-{name}",
            labels=labels,
            ownerReferences=[{**owner, "controller": True}],
        )

    def on(self, node: str) -> Self:
        return self._with(spec__nodeName=node)

    def pinned_to(self, node: str) -> Self:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        return self._with(spec__affinity={"nodeAffinity": required})

    def gpus(self, number: int) -> Self:
        return self.requests(**{GPU: str(number)})

    def requests(self, **amounts: str) -> Self:
        container = {**self._body["spec"]["containers"][0], "resources": {"requests": amounts}}
        return self._with(spec__containers=[container])

    def running(self, at: float = NOW) -> Self:
        return self._state({"running": {"startedAt": time_text(at)}})._with(status__phase="Running")

    def succeeded(self, at: float = NOW, message: str = "") -> Self:
        return self._ended("Succeeded", 0, at, "Completed", message)

    def failed(self, exit_code: int = 1, *, at: float = NOW, reason: str = "Error", message: str = "") -> Self:
        return self._ended("Failed", exit_code, at, reason, message)

    def refused(self, reason: str = "UnexpectedAdmissionError", message: str = "no devices left") -> Self:
        """Failed by the kubelet before any container ran."""
        return self._with(status__phase="Failed", status__reason=reason, status__message=message)

    def waiting(self, reason: str, message: str = "") -> Self:
        return self._state({"waiting": {"reason": reason, "message": message}})

    def unschedulable(self, message: str = "0/3 nodes are available") -> Self:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        return self._with(status__conditions=[condition])

    def deleting(self, at: float = NOW) -> Self:
        return self.meta(deletionTimestamp=time_text(at))

    def evicted(self, reason: str = "EvictionByEvictionAPI") -> Self:
        condition = {"type": "DisruptionTarget", "status": "True", "reason": reason}
        return self._with(status__conditions=[condition])

    def _ended(self, phase: str, exit_code: int, at: float, reason: str, message: str) -> Self:
        ended = {"exitCode": exit_code, "reason": reason, "message": message, "finishedAt": time_text(at)}
        return self._state({"terminated": ended})._with(status__phase=phase)

    def _state(self, state: Json) -> Self:
        return self._with(status__containerStatuses=[{"name": api.CONTAINER_NAME, "state": state}])

    def view(self) -> views.PodView:
        return views.PodView.from_body(self._body, accelerator=GPU)


def a_pod(name: str = "p") -> PodBuilder:
    """Somebody's pod, on no node yet, asking for no GPU."""
    return PodBuilder(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": time_text(NOW),
            },
            "spec": {"containers": [{"name": "trainer"}]},
            "status": {"phase": "Pending"},
        }
    )


def a_gang(job: JobBuilder, *nodes: str, attempt: int = 1) -> list[PodBuilder]:
    """The pods of a job, one on each node, not yet running."""
    return [a_pod().of(job, rank=rank, attempt=attempt).on(node).gpus(4) for rank, node in enumerate(nodes)]
