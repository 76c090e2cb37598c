"""A snapshot in figures: what each node's accelerators do, and the whole cluster's. Pure.

What must stay true: used + others + free + blocked + broken accelerators of a node are all that it was built with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator import queues, types
from stowplan_allocator.simulate import sampling


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """Accelerators of one node. ``others`` are those of pods that are not Stowplan's; ``blocked`` would be free.

    ``fragmented`` is the share of what is free that a usual pod could not use, None where nothing is free.
    """

    node: types.Node
    total: int
    used: int
    others: int
    free: int
    blocked: int
    broken: int
    fragmented: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Accelerators of all nodes, and how many nodes have any."""

    nodes: int
    total: int
    used: int
    others: int
    free: int
    blocked: int
    broken: int
    fragmented: float | None


def share(value: float | None) -> str:
    """A share in per cent; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.0f}%"


def pod_sizes(jobs: Iterable[types.Job]) -> list[tuple[int, int]]:
    """How many pods there are of each number of accelerators, of all jobs that run or wait."""
    sizes: Counter[int] = Counter()
    for job in jobs:
        if job.pod.accelerators:
            sizes[job.pod.accelerators] += job.num_pods
    return sorted(sizes.items())


def of_nodes(
    snapshot: types.Snapshot,
    *,
    placements: Mapping[str, types.Placement] | None = None,
    devices: Mapping[str, int] | None = None,
) -> list[NodeFigures]:
    """Nodes with accelerators, by name; jobs with ``placements`` count as running there."""
    used: Counter[str] = Counter()
    for job in snapshot.jobs:
        placement = job.placement or (placements or {}).get(job.id)
        for share in placement.shares if placement else ():
            used[share.node] += share.num_pods * job.pod.accelerators
    sizes = pod_sizes(snapshot.jobs)
    found = []
    for node in snapshot.nodes:
        offered = node.allocatable.accelerators
        total = max(offered, (devices or {}).get(node.name, 0))
        if not total:
            continue
        taken = offered - node.available.accelerators
        withheld = max(0, min(node.unhealthy_accelerators - (total - offered), taken))
        room = max(0, node.available.accelerators - used[node.name])
        free = 0 if node.blocked else room
        found.append(
            NodeFigures(
                node=node,
                total=total,
                used=used[node.name],
                others=total - (total - offered) - withheld - used[node.name] - room,
                free=free,
                blocked=room - free,
                broken=total - offered + withheld,
                fragmented=sampling.fragmented_share([free], sizes=sizes) if free else None,
            )
        )
    return sorted(found, key=lambda one: one.node.name)


def totals(nodes: Sequence[NodeFigures], *, sizes: Sequence[tuple[int, int]]) -> Totals:
    """All nodes together; ``sizes`` as of ``pod_sizes``."""
    free = [one.free for one in nodes if one.free]
    return Totals(
        nodes=len(nodes),
        total=sum(one.total for one in nodes),
        used=sum(one.used for one in nodes),
        others=sum(one.others for one in nodes),
        free=sum(free),
        blocked=sum(one.blocked for one in nodes),
        broken=sum(one.broken for one in nodes),
        fragmented=sampling.fragmented_share(free, sizes=sizes) if free else None,
    )


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """Accelerators of one product in one queue and all below it; empty names are the default queue and any product.

    ``nominal`` is what it owns, None without a quota; ``borrowed`` is used beyond that; ``pending`` is what waits.
    """

    name: str
    product: str
    nominal: int | None
    used: int
    borrowed: int
    pending: int
    running: int
    waiting: int


def of_queues(snapshot: types.Snapshot) -> list[QueueFigures]:
    """Queues by name, products by name; a job of no queue, or of one that is not there, is in the default queue."""
    parents = {queue.name: queue.parent for queue in snapshot.queues}
    above: dict[str, list[str]] = {"": [""]}
    for name in parents:
        line, at = [], name
        while at and at in parents and at not in line:
            line.append(at)
            at = parents[at]
        above[name] = line
    used: Counter[tuple[str, str]] = Counter()
    jobs: dict[str, Counter[bool]] = {name: Counter() for name in above}
    pending: Counter[str] = Counter()
    for job in snapshot.jobs:
        for name in above.get(job.queue, above[""]):
            jobs[name][job.placement is not None] += 1
            if job.placement is not None:
                used[name, job.placement.product] += job.placement.num_pods * job.pod.accelerators
            else:
                pending[name] += job.num_pods * job.pod.accelerators
    found = []
    for name in sorted(above, key=lambda one: (not one, one)):
        own = {
            quota.product: quota.nominal for queue in snapshot.queues if queue.name == name for quota in queue.quotas
        }
        products = sorted({product for queue, product in used if queue == name} | set(own))
        for product in products or [""]:
            taken = _used(used, name, product, own)
            nominal = own.get(product)
            found.append(
                QueueFigures(
                    name=name,
                    product=product,
                    nominal=nominal,
                    used=taken,
                    borrowed=0 if nominal is None else max(0, taken - nominal),
                    pending=pending[name],
                    running=jobs[name][True],
                    waiting=jobs[name][False],
                )
            )
    return found


def _used(used: Counter[tuple[str, str]], name: str, product: str, own: Mapping[str, int]) -> int:
    """Accelerators of the product that the queue uses; ``*`` stands for those that it does not name."""
    if product != queues.ANY_PRODUCT:
        return used[name, product]
    return sum(amount for (queue, one), amount in used.items() if queue == name and one not in own)
