"""A snapshot in figures: what each node's accelerators do, and the whole cluster's. Pure.

What must stay true: used + others + free + blocked + broken accelerators of a node are all that it was built with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import standings, types
from stowplan_allocator.simulate import sampling
from stowplan_operator import observation, wording


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


def of_nodes(snapshot: types.Snapshot, *, devices: Mapping[str, int] | None = None) -> list[NodeFigures]:
    """Nodes with accelerators, by name."""
    used: Counter[str] = Counter()
    for job in snapshot.jobs:
        for share in job.placement.shares if job.placement else ():
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

    ``nominal`` is what it owns with those below it, None where they own none; ``borrowed`` is used beyond that,
    ``lent`` owned and used by others, ``pending`` what waits. ``share`` and ``ideal`` are the queue's parts of the
    cluster, what it has and what would be fair; ``running`` and ``waiting`` are jobs. ``fault`` says why the queue is
    not planned with: then only what its jobs use and how many run is told.
    """

    name: str
    product: str
    nominal: int | None
    used: int
    borrowed: int
    lent: int
    pending: int
    running: int
    waiting: int
    share: float
    ideal: float
    fault: str = ""


def of_queues(seen: observation.Observation) -> list[QueueFigures]:
    """Queues by name, the default one last, products by name; a job of no queue, or of one that is gone, is in that.

    Queues that cannot be planned with come at the end, with the jobs that stood in them.
    """
    snapshot = seen.snapshot
    capacity: Counter[str] = Counter()
    for node in snapshot.nodes:
        capacity[node.product] += node.allocatable.accelerators
    jobs = [job for job in snapshot.jobs if job.id not in seen.adrift]
    found = standings.standings(snapshot.queues, jobs, capacity=capacity)
    none = standings.Line(product="", nominal=None, owned=0, used=0, pending=0, borrowed=0, lent=0)
    planned = [
        QueueFigures(
            name=name,
            product=line.product,
            nominal=line.owned if line.owned or line.nominal is not None else None,
            used=line.used,
            borrowed=line.borrowed,
            lent=line.lent,
            pending=line.pending,
            running=found[name].running,
            waiting=found[name].waiting,
            share=found[name].share,
            ideal=found[name].ideal,
        )
        for name in sorted(found, key=lambda one: (not one, one))
        for line in found[name].lines or (none,)
    ]
    return [*planned, *(row for name, fault in seen.broken_queues.items() for row in _broken(seen, name, fault))]


def _broken(seen: observation.Observation, name: str, fault: str) -> Iterator[QueueFigures]:
    """A queue that cannot be planned with, product by product."""
    jobs = [job for job in seen.snapshot.jobs if seen.adrift.get(job.id) == name and job.placement is not None]
    used: Counter[str] = Counter()
    for job in jobs:
        if job.placement is not None:
            used[job.placement.product] += job.placement.num_pods * job.pod.accelerators
    nothing = QueueFigures(name, "", None, 0, 0, 0, 0, len(jobs), 0, 0.0, 0.0, fault)
    yield from (replace(nothing, product=product, used=used[product]) for product in sorted(used) or ("",))


def where(placement: types.Placement | None, *, most: int) -> str:
    """The nodes of a placement, at most so many by name; empty for none."""
    return wording.some([share.node for share in placement.shares] if placement else [], most=most)
