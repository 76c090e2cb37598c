"""A single change to a snapshot, as data: what an alternative would have somebody do.

What must stay true: a patch names all that it changes and nothing else, so that it can be
applied to a later snapshot too, sent between processes, and shown to people.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from stowplan_allocator import types


class ChangeKind(enum.StrEnum):
    """Kinds of changes, the smallest first: what the owner of the job can do, then others, then the administrator."""

    TOPOLOGY_PREFERRED = "TopologyPreferred"
    WIDER_LEVEL = "WiderLevel"
    AVOIDED_NODES_ALLOWED = "AvoidedNodesAllowed"
    TAINT_TOLERATED = "TaintTolerated"
    WITHOUT_SELECTOR = "WithoutSelector"
    WITHOUT_AFFINITY = "WithoutAffinity"
    ANY_CAPACITY_TYPE = "AnyCapacityType"
    OTHER_PRODUCT = "OtherProduct"
    OTHER_QUEUE = "OtherQueue"
    SMALLER_PODS = "SmallerPods"
    FEWER_PODS = "FewerPods"
    HIGHER_PRIORITY = "HigherPriority"
    JOBS_MOVED = "JobsMoved"
    RESERVATION_RELEASED = "ReservationReleased"
    MORE_QUOTA = "MoreQuota"
    MORE_RESOURCE_QUOTA = "MoreResourceQuota"
    JOB_ENDED = "JobEnded"
    NODES_BACK = "NodesBack"
    LATER = "Later"
    MORE_NODES = "MoreNodes"


@dataclass(frozen=True, slots=True)
class Patch:
    """Jobs, nodes and queues take the place of those with their ids and names, or are added; others go.

    ``limits`` take the place of those of the same ResourceQuota and resource; ``released`` are the jobs whose
    reservations are given up; ``now_seconds`` is a later time.
    """

    jobs: tuple[types.Job, ...] = ()
    ended: tuple[str, ...] = ()
    nodes: tuple[types.Node, ...] = ()
    released: tuple[str, ...] = ()
    queues: tuple[types.Queue, ...] = ()
    limits: tuple[types.NamespaceLimit, ...] = ()
    now_seconds: int | None = None

    def apply(self, snapshot: types.Snapshot) -> types.Snapshot:
        """The snapshot with the change made."""
        jobs = {job.id: job for job in snapshot.jobs if job.id not in self.ended} | {job.id: job for job in self.jobs}
        nodes = {node.name: node for node in snapshot.nodes} | {node.name: node for node in self.nodes}
        queues = {queue.name: queue for queue in (*snapshot.queues, *self.queues)}
        limits = {(one.namespace, one.name, one.resource): one for one in (*snapshot.namespace_limits, *self.limits)}
        return replace(
            snapshot,
            nodes=tuple(nodes.values()),
            jobs=tuple(jobs.values()),
            now_seconds=snapshot.now_seconds if self.now_seconds is None else self.now_seconds,
            reservations=tuple(one for one in snapshot.reservations if one.job_id not in self.released),
            queues=tuple(queues.values()),
            namespace_limits=tuple(limits.values()),
            coming_back=tuple(job for job in snapshot.coming_back if job.id not in jobs),
        )


@dataclass(frozen=True, slots=True)
class Alternative:
    """A change that starts the job, found by planning with it made.

    ``smallest`` says that no smaller change of its kind would do: each smaller one was refused by a plan or
    by a count of what is free. ``numbers`` are ready to print, name → value.
    """

    kind: ChangeKind
    sentence: str
    numbers: tuple[tuple[str, str], ...]
    patch: Patch
    smallest: bool = True

    def apply(self, snapshot: types.Snapshot) -> types.Snapshot:
        """The snapshot with the change made: planning it places the job."""
        return self.patch.apply(snapshot)


def restored(node: types.Node) -> types.Node:
    """The node as it would be if nothing were wrong with it."""
    back = types.Resources(accelerators=node.unhealthy_accelerators)
    return replace(node, blocked="", unhealthy_accelerators=0, available=node.available + back)


def is_broken(node: types.Node) -> bool:
    """Whether the node is blocked or has lost devices."""
    return bool(node.blocked) or node.unhealthy_accelerators > 0


def copies(node: types.Node, count: int, *, taken: frozenset[str]) -> tuple[types.Node, ...]:
    """So many new, empty and healthy nodes like this one, at its place in the topology."""
    found: list[types.Node] = []
    number = 0
    while len(found) < count:
        number += 1
        name = f"{node.name}-new-{number}"
        if name not in taken:
            new = replace(node, name=name, available=node.allocatable, blocked="", unhealthy_accelerators=0)
            found.append(new)
    return tuple(found)
