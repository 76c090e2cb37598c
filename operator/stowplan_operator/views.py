"""Small frozen pictures of the Kubernetes objects that the operator watches.

Indexes keep these instead of whole bodies: 5,000 nodes and 20,000 pods stay within tens of
megabytes, and pure modules get typed data. Nothing here decides anything.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes.utils import quantity

from stowplan_allocator.types import ANNOTATION_MAKE_ROOM, Resources, Taint, TaintEffect, Toleration
from stowplan_operator import api

_MIB = 1024 * 1024
# More than any quantity that the API server keeps (2^63 - 1), in thousandths. Larger ones are only in our own kind,
# which keeps what users write: 9e99999 as an integer holds up the process, and its digits cannot be printed.
_LARGEST_AMOUNT = decimal.Decimal("1e23")
_LATEST_SECONDS = 253_402_300_799  # the end of the year 9999: RFC 3339 has none after it


def _decimal(amount: object) -> decimal.Decimal:
    return decimal.Decimal(quantity.parse_quantity(amount))


def parse_time(text: str | None) -> float:
    """An RFC 3339 time as Unix seconds; 0 where there is none, or none that can be read."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def format_time(seconds: float) -> str:
    """Unix seconds as RFC 3339 UTC with whole seconds, as Kubernetes writes times, of the years 1970 to 9999."""
    moment = datetime.datetime.fromtimestamp(int(min(max(seconds, 0), _LATEST_SECONDS)), datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_resources(amounts: Mapping[str, Any] | None, *, accelerator: str, round_up: bool) -> Resources:
    """Kubernetes quantities as ``Resources``: requests are rounded up, room is rounded down.

    Raises ValueError naming the resource when a quantity cannot be read.
    """
    values: dict[str, int] = {}
    for name, amount in (amounts or {}).items():
        scale, unit = (1000, 1) if name == "cpu" else (1, _MIB) if name == "memory" else (1, 1)
        try:
            exact = _decimal(amount) * scale / unit
            if not abs(exact) <= _LARGEST_AMOUNT:
                raise ValueError
            whole = int(exact)
        except (ValueError, ArithmeticError):
            raise ValueError(f"{name}: {amount!r} is not a quantity such as 8, 500m or 64Gi") from None
        values[name] = whole + 1 if round_up and exact > whole else whole
    return Resources(
        accelerators=values.pop(accelerator, 0),
        cpu_milli=values.pop("cpu", 0),
        memory_mib=values.pop("memory", 0),
        other=tuple((name, amount) for name, amount in values.items() if name not in _UNTRACKED),
    )


_CONDITION_TAINTS = "node.kubernetes.io/"


def parse_toleration(raw: Mapping[str, Any]) -> Toleration | None:
    """A core/v1 toleration; None for one of an effect that keeps no pod away (PreferNoSchedule)."""
    effect = raw.get("effect") or ""
    if effect and effect not in TaintEffect:
        return None
    return Toleration(
        key=raw.get("key") or "",
        operator=raw.get("operator") or "Equal",
        value=raw.get("value") or "",
        effect=TaintEffect(effect) if effect else None,
    )


_UNTRACKED = frozenset({"ephemeral-storage", "pods"})


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node: labels, taints, room and readiness. Times are Unix seconds.

    ``condition_taints`` are the keys of taints that Kubernetes itself sets to mirror a state (cordoned, not ready,
    disk pressure …): they say how the node does, not for whom it is, and are judged as health. ``tainted_at`` is when
    a taint was added, by key, for those that say so.
    """

    name: str
    uid: str
    resource_version: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool
    ready: bool
    ready_since: float
    allocatable: Resources
    capacity: Resources
    max_pods: int
    conditions: Mapping[str, str]
    condition_taints: tuple[str, ...] = ()
    tainted_at: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_body(cls, body: Mapping[str, Any], *, accelerator: str) -> NodeView:
        """Read a core/v1 Node."""
        meta, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
        conditions = {one["type"]: one for one in status.get("conditions") or ()}
        ready = conditions.get("Ready", {})
        given = [one for one in spec.get("taints") or () if one["effect"] in TaintEffect]
        return cls(
            name=meta["name"],
            uid=meta.get("uid", ""),
            resource_version=meta.get("resourceVersion", ""),
            labels=dict(meta.get("labels") or {}),
            taints=tuple(
                Taint(key=one["key"], value=one.get("value") or "", effect=TaintEffect(one["effect"]))
                for one in given
                if not one["key"].startswith(_CONDITION_TAINTS)
            ),
            condition_taints=tuple(sorted({one["key"] for one in given if one["key"].startswith(_CONDITION_TAINTS)})),
            tainted_at={one["key"]: parse_time(one["timeAdded"]) for one in given if one.get("timeAdded")},
            unschedulable=bool(spec.get("unschedulable")),
            ready=ready.get("status") == "True",
            ready_since=parse_time(ready.get("lastTransitionTime")),
            allocatable=parse_resources(status.get("allocatable"), accelerator=accelerator, round_up=False),
            capacity=parse_resources(status.get("capacity"), accelerator=accelerator, round_up=False),
            max_pods=int(_decimal((status.get("allocatable") or {}).get("pods", "110"))),
            conditions={name: one.get("status", "") for name, one in conditions.items()},
        )


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How the trainer container of a pod ended."""

    exit_code: int
    signal: int
    reason: str
    message: str
    finished_at: float


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod: who owns it, where it is, what it takes, how it does. Times are Unix seconds.

    ``tolerations`` and ``labels`` are those of our own pods, as the API server and its admission left them; the former
    each with the seconds for which it holds, None for ever.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner_uid: str
    job: str
    attempt: int
    rank: int
    managed: bool
    node: str
    phase: str
    ready: bool
    running: bool
    deleting_since: float
    created_at: float
    started_at: float
    ip: str
    requests: Resources
    waiting_reason: str
    waiting_message: str
    end: ContainerEnd | None
    disruption: str
    pinned_to: str = ""
    tolerations: tuple[tuple[Toleration, int | None], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether it will never run again and holds nothing of its node."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def claimed_node(self) -> str:
        """The node on which its requests count, or will once it is bound; empty when it has ended."""
        return "" if self.is_terminal else self.node or self.pinned_to

    @classmethod
    def from_body(cls, body: Mapping[str, Any], *, accelerator: str) -> PodView:
        """Read a core/v1 Pod."""
        meta, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
        labels = meta.get("labels") or {}
        owner: Mapping[str, Any] = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), {})
        managed = labels.get(api.LABEL_MANAGED_BY) == api.MANAGED_BY and owner.get("kind") == api.KIND
        conditions = {one["type"]: one for one in status.get("conditions") or ()}
        statuses = status.get("containerStatuses") or ()
        main = next((one for one in statuses if one["name"] == api.CONTAINER_NAME), statuses[0] if statuses else {})
        state = main.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        scheduled = conditions.get("PodScheduled", {})
        if not waiting and scheduled.get("status") == "False":
            waiting = scheduled
        disruption = conditions.get("DisruptionTarget", {})
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta.get("uid", ""),
            resource_version=meta.get("resourceVersion", ""),
            owner_uid=owner.get("uid", ""),
            job=labels.get(api.LABEL_JOB, "") if managed else "",
            attempt=_number(labels.get(api.LABEL_ATTEMPT)) if managed else 0,
            rank=_number(labels.get(api.LABEL_RANK)) if managed else 0,
            managed=managed,
            node=spec.get("nodeName") or "",
            phase=status.get("phase") or "Pending",
            ready=conditions.get("Ready", {}).get("status") == "True",
            running="running" in state,
            deleting_since=parse_time(meta.get("deletionTimestamp")),
            created_at=parse_time(meta.get("creationTimestamp")),
            started_at=parse_time((state.get("running") or {}).get("startedAt")),
            ip=status.get("podIP") or "",
            requests=pod_requests(spec, accelerator=accelerator),
            waiting_reason=waiting.get("reason") or status.get("reason") or "",
            waiting_message=(waiting.get("message") or status.get("message") or "")[:500],
            end=_container_end(ended) if ended else None,
            disruption=disruption.get("reason", "") if disruption.get("status") == "True" else "",
            pinned_to=_pinned_node(spec),
            tolerations=_tolerations(spec) if managed else (),
            labels=dict(labels) if managed else {},
        )


def _tolerations(spec: Mapping[str, Any]) -> tuple[tuple[Toleration, int | None], ...]:
    pairs = ((parse_toleration(raw), raw.get("tolerationSeconds")) for raw in spec.get("tolerations") or ())
    return tuple((toleration, seconds) for toleration, seconds in pairs if toleration is not None)


def _pinned_node(spec: Mapping[str, Any]) -> str:
    """The one node that required affinity on ``metadata.name`` allows, as we and DaemonSets set it."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    names = {
        name
        for term in terms
        for field in term.get("matchFields") or ()
        if field.get("key") == "metadata.name" and field.get("operator") == "In"
        for name in field.get("values") or ()
    }
    return str(names.pop()) if len(names) == len(terms) == 1 else ""


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _container_end(ended: Mapping[str, Any]) -> ContainerEnd:
    code = int(ended.get("exitCode") or 0)
    return ContainerEnd(
        exit_code=code,
        signal=int(ended.get("signal") or (code - 128 if code > 128 else 0)),
        reason=ended.get("reason") or "",
        message=ended.get("message") or "",
        finished_at=parse_time(ended.get("finishedAt")),
    )


def pod_requests(spec: Mapping[str, Any], *, accelerator: str) -> Resources:
    """What a pod takes from its node: containers and sidecars, or its largest init container, plus overhead."""

    def of(container: Mapping[str, Any]) -> Resources:
        stated = container.get("resources") or {}
        amounts = {**(stated.get("limits") or {}), **(stated.get("requests") or {})}
        try:
            return parse_resources(amounts, accelerator=accelerator, round_up=True)
        except ValueError:
            return Resources()

    total = Resources()
    for container in spec.get("containers") or ():
        total += of(container)
    sidecars = Resources()
    peak = Resources()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars += of(container)
        else:
            peak = peak.or_more(of(container) + sidecars)
    total = (total + sidecars).or_more(peak)
    if overhead := spec.get("overhead"):
        total += parse_resources(overhead, accelerator=accelerator, round_up=True)
    return total


@dataclass(frozen=True, slots=True)
class JobView:
    """A TrainingJob: identity, and spec and status as they stand in the API server; ``make_room`` is an annotation."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created_at: float
    deleting: bool
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    make_room: str = ""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> JobView:
        """Read a stowplan.dev/v1alpha1 TrainingJob."""
        meta = body["metadata"]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta.get("resourceVersion", ""),
            generation=int(meta.get("generation", 1)),
            created_at=parse_time(meta.get("creationTimestamp")),
            deleting=bool(meta.get("deletionTimestamp")),
            spec=body.get("spec") or {},
            status=body.get("status") or {},
            make_room=(meta.get("annotations") or {}).get(ANNOTATION_MAKE_ROOM, ""),
        )

    @property
    def key(self) -> str:
        """``namespace/name``, for people and logs."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """A PriorityClass: its value, whether jobs without one have it, and whether its jobs may preempt others."""

    value: int = 0
    is_default: bool = False
    preempts: bool = True

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> PriorityClass:
        """Read a scheduling.k8s.io/v1 PriorityClass."""
        return cls(
            value=int(body.get("value", 0)),
            is_default=bool(body.get("globalDefault")),
            preempts=body.get("preemptionPolicy") != "Never",
        )


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What the DCGM exporter last said of one GPU. Memory is in MiB; None where no sample was found.

    ``sampled_at`` is the sample's own time (Unix seconds), 0 where the source gave none. ``pod`` (namespace/name) is
    the pod that has the GPU, as the exporter says; empty where it does not, or says several.
    """

    index: str
    uuid: str
    xid: int = 0
    utilisation_percent: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    sampled_at: float = 0.0
    pod: str = ""


@dataclass(frozen=True, slots=True)
class XidSeen:
    """A code that a GPU began to report: ``gpu`` is its UUID, or its index where there is none.

    ``at`` is when that was seen (Unix seconds), 0 where nobody watched then; ``pod`` (namespace/name) is the pod of
    ours that the exporter named, if it did.
    """

    gpu: str
    index: str
    code: int
    at: int
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The last good reading of all GPUs by node name; ``read_at`` 0 means that there was none yet."""

    configured: bool = False
    read_at: float = 0.0
    gpus: Mapping[str, tuple[GpuReading, ...]] = field(default_factory=dict)
    error: str = ""
