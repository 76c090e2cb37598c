"""Which running gang a node's state breaks, and how: taints, sick hardware, failed devices, XIDs. Pure.

Facts decide, not edges: what is found holds for as long as the gang is on that node, and no longer, so that any
cycle of any process finds the same. A fault that leaves no rank able to save comes before those that do.

What must stay true: a node that is only cordoned keeps its pods; a gang is never stopped on a guess. Where several
pods share a node and nobody knows which of them holds a failed device, none is stopped: a rank on a dead device
fails or hangs by itself, and that is noticed elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stowplan_allocator.types import Taint, TaintEffect
from stowplan_operator import api, health, rules, views, xids
from stowplan_operator.failures import Cause, Failure
from stowplan_operator.settings import Settings

Json = dict[str, Any]

# Allocatable drops to 0 while the device plugin or the kubelet restarts, on all nodes at once when one is upgraded.
DEVICE_SETTLE_SECONDS = 60.0
# Longer than the exporter, Prometheus and its reader take together until an XID is seen.
XID_SETTLE_SECONDS = 60
XID_NEAR_SECONDS = 120
# A rank that loses its GPU takes the others with it, and may not be the one that is blamed first.
_MAY_BE_XIDS = (Cause.CONTAINER_FAILED.value, Cause.PEER_LOST.value)


class Shortages:
    """Since when (Unix seconds) pods hold more accelerators of a node than are healthy, by node.

    Kept in memory: a new process waits for ``DEVICE_SETTLE_SECONDS`` anew.
    """

    def __init__(self) -> None:
        self.since: dict[str, float] = {}

    def observe(self, nodes: Iterable[views.NodeView], pods: Iterable[views.PodView], *, now_seconds: float) -> None:
        """Look at all nodes and pods of a cycle."""
        held: dict[str, int] = {}
        for pod in pods:
            if pod.node and not pod.is_terminal:
                held[pod.node] = held.get(pod.node, 0) + pod.requests.accelerators
        short = {node.name for node in nodes if node.ready and held.get(node.name, 0) > node.allocatable.accelerators}
        self.since = {name: self.since.get(name, now_seconds) for name in short}

    def lasting(self, *, now_seconds: float) -> dict[str, float]:
        """Those that have lasted too long for a restart of the device plugin."""
        return {name: at for name, at in self.since.items() if now_seconds - at >= DEVICE_SETTLE_SECONDS}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is known of nodes at one moment (Unix seconds); of most there is nothing to say, and they are left out.

    ``shortages`` are those of ``Shortages``; ``seen`` are XIDs that the node history holds for certain. Nodes that the
    breaker spares are in neither.
    """

    nodes: Mapping[str, views.NodeView]
    shortages: Mapping[str, float]
    seen: Mapping[str, Sequence[views.XidSeen]]
    telemetry: views.Telemetry
    now_seconds: float


def is_suspect(node: views.NodeView, settings: Settings) -> bool:
    """Whether the node itself says something that concerns the gangs on it."""
    return (
        any(taint.effect is TaintEffect.NO_EXECUTE for taint in node.taints)
        or bool(health.drain_taint(node, settings))
        or any(health.hardware_trouble(node))
    )


def find(pods: Sequence[views.PodView], scene: Scene, *, planned_at: float, settings: Settings) -> Failure | None:
    """What breaks the gang of these pods (those of its current attempt, placed at ``planned_at``), or None."""
    found: list[Failure] = []
    for pod in sorted(pods, key=lambda one: one.rank):
        node = scene.nodes.get(pod.node)
        if node is None or pod.is_terminal:
            continue
        found.extend(_of_xids(pod, node, scene, planned_at=planned_at, settings=settings))
        for cause, message in _leaving(pod, node, scene, settings):
            found.append(Failure(cause, message, rank=pod.rank, pod=pod.name, node=node.name, is_planned=node.ready))
    return next((one for one in found if not one.is_planned), found[0] if found else None)


def _of_xids(
    pod: views.PodView, node: views.NodeView, scene: Scene, *, planned_at: float, settings: Settings
) -> Iterator[Failure]:
    """XIDs that began after the gang had its place; an older one did not keep it from being put there."""
    for xid in scene.seen.get(node.name, ()):
        if xid.at <= planned_at or not pod.requests.accelerators:
            continue
        action = xids.action_of(xid.code, settings.health.xid_actions)
        is_its_own = xid.pod == f"{pod.namespace}/{pod.name}"
        if action is xids.Action.RESTART_APP:
            # Right after a restart the metric still shows what ended the attempt before.
            is_news = pod.started_at and xid.at - pod.started_at >= XID_SETTLE_SECONDS
            if not (is_its_own and is_news):
                continue
            cause, is_planned = Cause.XID_ERROR, False
        elif action in (xids.Action.RESET_GPU, xids.Action.RESTART_NODE):
            if not (is_its_own or _may_hold(pod, xid, health.readings_of(node, scene.telemetry))):
                continue
            cause, is_planned = Cause.GPU_UNHEALTHY, node.ready and action is xids.Action.RESET_GPU
        else:
            continue
        yield Failure(
            cause,
            describe(xid, node.name),
            rank=pod.rank,
            pod=pod.name,
            node=node.name,
            xid=xid.code,
            is_planned=is_planned,
        )


def describe(xid: views.XidSeen, node: str) -> str:
    """``XID 79 (GPU has fallen off the bus) on GPU 3 of node n1``."""
    return f"{xids.describe(xid.code)} on GPU {xid.index} of node {node}"


def _may_hold(pod: views.PodView, xid: views.XidSeen, readings: Iterable[views.GpuReading]) -> bool:
    """Whether the pod may have that GPU: the exporter says so, or does not name the pod on as many GPUs as it has."""
    name = f"{pod.namespace}/{pod.name}"
    holders = {gpu.uuid or gpu.index: gpu.pod for gpu in readings}
    if holders.get(xid.gpu) == name:
        return True
    return sum(holder == name for holder in holders.values()) < pod.requests.accelerators


def _leaving(pod: views.PodView, node: views.NodeView, scene: Scene, settings: Settings) -> Iterator[tuple[Cause, str]]:
    if key := health.drain_taint(node, settings):
        yield Cause.NODE_DRAINING, f"taint {key} announces that node {node.name} goes"
    for taint in node.taints:
        at = evicts_at(taint, node, pod)
        if at is not None and at <= scene.now_seconds:
            yield Cause.NODE_TAINTED, f"taint {taint.key}:NoExecute of node {node.name} evicts pod {pod.name}"
    for trouble in health.hardware_trouble(node):
        yield Cause.NODE_UNHEALTHY, f"{trouble} on node {node.name}"
    healthy, wanted = node.allocatable.accelerators, pod.requests.accelerators
    since = scene.shortages.get(node.name)
    # Others on the node may hold the failed devices, but not all of them.
    if since is not None and scene.now_seconds - since >= DEVICE_SETTLE_SECONDS and wanted > healthy:
        yield (
            Cause.GPU_UNHEALTHY,
            f"the device plugin of node {node.name} reports {healthy} healthy accelerators, and pod {pod.name} "
            f"holds {wanted}",
        )


def evicts_at(taint: Taint, node: views.NodeView, pod: views.PodView) -> float | None:
    """When Kubernetes deletes the pod for this taint (Unix seconds, 0 for at once); None for never, or not known.

    A taint tolerated for a time that does not say when it was added is left to Kubernetes, whose eviction is seen.
    """
    if taint.effect is not TaintEffect.NO_EXECUTE:
        return None
    for toleration, seconds in pod.tolerations:
        if toleration.tolerates(taint):
            added = node.tainted_at.get(taint.key)
            return None if seconds is None or added is None else added + max(0, seconds)
    return 0.0


def deadlines(pods: Iterable[views.PodView], scene: Scene) -> list[float]:
    """Times (Unix seconds) at which the clock alone makes a fault of what is known."""
    times: list[float] = []
    for pod in pods:
        if node := scene.nodes.get(pod.node):
            times.extend(at for taint in node.taints if (at := evicts_at(taint, node, pod)))
            if node.name in scene.shortages:
                times.append(scene.shortages[node.name] + DEVICE_SETTLE_SECONDS)
    return times


def explain(
    job: views.JobView, spec: api.TrainingJobSpec, seen: Mapping[str, Sequence[views.XidSeen]], settings: Settings
) -> Json | None:
    """The job's status, where an XID that was seen about when its last attempt failed says why; None where none does.

    Prometheus knows of an XID some seconds after the container that died of it. Where hardware is to blame, the user
    gets back the restart that was charged.
    """
    last = job.status.get("lastFailure") or {}
    if last.get("xid") or last.get("reason") not in _MAY_BE_XIDS:
        return None
    failed_at, node = views.parse_time(last.get("time")), last.get("node", "")
    for xid in seen.get(node, ()):
        if xid.at and abs(xid.at - failed_at) <= XID_NEAR_SECONDS and _concerns(job, xid):
            break
    else:
        return None
    is_hardware = xids.action_of(xid.code, settings.health.xid_actions).excludes
    reason = Cause.GPU_UNHEALTHY.value if is_hardware else last["reason"]
    status = dict(job.status)
    message = f"{last['message']}; {describe(xid, node)}"
    status["lastFailure"] = {**last, "reason": reason, "xid": xid.code, "message": message}
    status["history"] = [
        {**entry, "reason": reason, "xid": xid.code} if entry["attempt"] == last["attempt"] else entry
        for entry in status.get("history", ())
    ]
    if is_hardware and _was_charged(last, spec) and not api.Phase(status["phase"]).is_terminal:
        status["restarts"] = max(0, int(status.get("restarts", 0)) - 1)
        status["infrastructureRestarts"] = int(status.get("infrastructureRestarts", 0)) + 1
    return status


def _was_charged(last: Mapping[str, Any], spec: api.TrainingJobSpec) -> bool:
    match = rules.first_match(
        spec.failure_policy.rules,
        reason=last["reason"],
        exit_code=last.get("exitCode"),
        signal=int(last.get("signal", 0)),
    )
    return Cause(last["reason"]).is_charged and not (match and match[0].action is api.FailureAction.IGNORE)


def _concerns(job: views.JobView, xid: views.XidSeen) -> bool:
    """Whether the GPU was this job's, as far as the exporter says whose it was (perhaps by now its next attempt's)."""
    return not xid.pod or xid.pod.startswith(f"{job.namespace}/{job.name}-")
