"""Which running gang a node's state breaks, and how: taints, the cloud's word on hardware, devices that fail. Pure.

Facts decide, not edges: what is found holds for as long as the gang is on that node, and no longer, so that any
cycle of any process finds the same. A fault that leaves no rank able to save comes before those that do.

What must stay true: a node that is only cordoned keeps its pods; a gang is never stopped on a guess. Where several
pods share a node and nobody knows which of them holds a failed device, none is stopped: a rank on a dead device
fails or hangs by itself, and that is noticed elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from stowplan_allocator.types import Taint, TaintEffect
from stowplan_operator import health, views
from stowplan_operator.failures import Cause, Failure
from stowplan_operator.settings import Settings

# Allocatable drops to 0 while the device plugin or the kubelet restarts, on all nodes at once when one is upgraded.
DEVICE_SETTLE_SECONDS = 60.0


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


def find(
    pods: Sequence[views.PodView],
    *,
    nodes: Mapping[str, views.NodeView],
    shortages: Mapping[str, float],
    settings: Settings,
    now_seconds: float,
) -> Failure | None:
    """What breaks the gang of these pods (those of its current attempt), or None.

    ``shortages`` are those of ``Shortages``.
    """
    for pod in sorted(pods, key=lambda one: one.rank):
        node = nodes.get(pod.node)
        if node is None or pod.is_terminal:
            continue
        for cause, message in _leaving(pod, node, shortages, settings, now_seconds=now_seconds):
            return Failure(cause, message, rank=pod.rank, pod=pod.name, node=node.name, is_planned=node.ready)
    return None


def _leaving(
    pod: views.PodView,
    node: views.NodeView,
    shortages: Mapping[str, float],
    settings: Settings,
    *,
    now_seconds: float,
) -> Iterator[tuple[Cause, str]]:
    if key := health.drain_taint(node, settings):
        yield Cause.NODE_DRAINING, f"taint {key} announces that node {node.name} goes"
    for taint in node.taints:
        at = evicts_at(taint, node, pod)
        if at is not None and at <= now_seconds:
            yield Cause.NODE_TAINTED, f"taint {taint.key}:NoExecute of node {node.name} evicts pod {pod.name}"
    for trouble in health.hardware_trouble(node):
        yield Cause.NODE_UNHEALTHY, f"{trouble} on node {node.name}"
    healthy, wanted = node.allocatable.accelerators, pod.requests.accelerators
    since = shortages.get(node.name)
    # Others on the node may hold the failed devices, but not all of them.
    if since is not None and now_seconds - since >= DEVICE_SETTLE_SECONDS and wanted > healthy:
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


def deadlines(
    pods: Iterable[views.PodView],
    *,
    nodes: Mapping[str, views.NodeView],
    shortages: Mapping[str, float],
) -> list[float]:
    """Times (Unix seconds) at which the clock alone makes a fault of what is known."""
    times: list[float] = []
    for pod in pods:
        if node := nodes.get(pod.node):
            times.extend(at for taint in node.taints if (at := evicts_at(taint, node, pod)))
            if node.name in shortages:
                times.append(shortages[node.name] + DEVICE_SETTLE_SECONDS)
    return times
