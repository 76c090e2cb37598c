"""Reservations as resources: what a job may take beside the room that is kept for others.

For each reservation every node gets one more resource for each amount that the reserved job
asks for: what the node has, less what is kept there. Jobs that may still stand when it starts
take from it what they take of the node, jobs that are expected to end in time take nothing,
and so does the reserved job itself. So a reservation is kept by the same rules as any other
room: no part of planning knows of it. Where several reservations hold at one moment, they are
also kept together, against all jobs that have none of their own. Where queues limit how many jobs run, a
job that asks for nothing of what is kept takes of one resource more, which never runs out: so ``binding`` finds it.

What must stay true: room that running jobs will have left by then counts; a job whose run time
is not known never ends in time; without reservations a snapshot stays the very same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from stowplan_allocator import types

MARK = " beside what is kept, "
# No resource of Kubernetes has a name with a space in it.
_ANY = "running pods"


@dataclass(frozen=True, slots=True)
class Limit:
    """Reservations that are kept together from a moment on, against all jobs but theirs.

    ``asks``: one of these jobs has others moved for it, so that it starts elsewhere; they may come back to its room.
    """

    starts_at_seconds: int
    reservations: tuple[types.Reservation, ...]
    asks: bool

    def binds(self, job: types.Job, *, now_seconds: int) -> bool:
        """Whether the job may still stand when the reservations start, and has none of them itself."""
        if any(one.job_id == job.id for one in self.reservations):
            return False
        if self.asks and job.returning and job.placement is None:
            return False
        return job.expected_seconds is None or now_seconds + job.expected_seconds > self.starts_at_seconds


def limits(snapshot: types.Snapshot) -> tuple[Limit, ...]:
    """Each reservation of a waiting job alone; then, for each start, all that hold at that moment."""
    waiting = {job.id: job for job in snapshot.jobs if job.placement is None}
    kept = sorted(
        (one for one in snapshot.reservations if one.job_id in waiting),
        key=lambda one: (one.starts_at_seconds, one.job_id),
    )
    asking = {job_id for job_id, job in waiting.items() if job.make_room > 0}
    found = [Limit(one.starts_at_seconds, (one,), one.job_id in asking) for one in kept]
    for start in sorted({one.starts_at_seconds for one in kept}):
        together = tuple(one for one in kept if _holds_at(one, job=waiting[one.job_id], moment=start))
        if len(together) > 1:
            found.append(Limit(start, together, any(one.job_id in asking for one in together)))
    return tuple(found)


def _holds_at(one: types.Reservation, *, job: types.Job, moment: int) -> bool:
    if one.starts_at_seconds > moment:
        return False
    return job.expected_seconds is None or one.starts_at_seconds + job.expected_seconds > moment


def with_reservations(snapshot: types.Snapshot) -> types.Snapshot:
    """The snapshot with reservations turned into resources; the same one where there are none."""
    kept = limits(snapshot)
    if not kept:
        return snapshot
    pods = {job.id: job.pod for job in snapshot.jobs}
    names = [sorted({name for one in limit.reservations for name, _ in pods[one.job_id].items()}) for limit in kept]
    plenty = [(_name(_ANY, i), _most_pods(snapshot)) for i in range(len(kept))]
    nodes = {node.name: [*_copied(node.available, names=names), *plenty] for node in snapshot.nodes}
    for i, limit in enumerate(kept):
        for one in limit.reservations:
            for share in one.placement.shares:
                for name, amount in pods[one.job_id].items():
                    nodes.get(share.node, []).append((_name(name, i), -amount * share.num_pods))
    return replace(
        snapshot,
        nodes=tuple(
            replace(
                node,
                available=_with(node.available, nodes[node.name]),
                allocatable=_with(node.allocatable, [*_copied(node.allocatable, names=names), *plenty]),
            )
            for node in snapshot.nodes
        ),
        jobs=tuple(
            replace(
                job,
                pod=_with(
                    job.pod,
                    [
                        (_name(name, i), amount)
                        for i, limit in enumerate(kept)
                        if limit.binds(job, now_seconds=snapshot.now_seconds)
                        for name, amount in _of_those(job.pod, names=names[i], counts=bool(plenty[i][1]))
                    ],
                ),
            )
            for job in snapshot.jobs
        ),
    )


def _most_pods(snapshot: types.Snapshot) -> int:
    """More pods than one node can have to hold; none where no queue counts its jobs."""
    if all(queue.max_running_jobs is None for queue in snapshot.queues):
        return 0
    standing = sum(job.placement.num_pods for job in snapshot.jobs if job.placement is not None)
    return standing + sum(max((0, job.num_pods, *job.allowed_num_pods)) for job in snapshot.jobs)


def _of_those(pod: types.Resources, *, names: list[str], counts: bool) -> list[tuple[str, int]]:
    """What a pod takes of these resources; if that is nothing, where jobs count, of the one that never runs out."""
    found = [(name, amount) for name, amount in pod.items() if name in names]
    return found or ([(_ANY, 1)] if counts else [])


def binding(names: Iterable[str]) -> frozenset[int]:
    """Which limits, by number, resources of these names stand for."""
    return frozenset(int(name.rpartition(MARK)[2]) for name in names if MARK in name)


def _name(resource: str, limit: int) -> str:
    return f"{resource}{MARK}{limit}"


def _copied(amounts: types.Resources, *, names: list[list[str]]) -> list[tuple[str, int]]:
    """The amounts once more for each limit, under its names."""
    there = dict(amounts.items())
    return [(_name(name, i), there.get(name, 0)) for i, asked in enumerate(names) for name in asked]


def _with(amounts: types.Resources, more: list[tuple[str, int]]) -> types.Resources:
    """The amounts with more of other resources, each name summed up."""
    total = dict(amounts.other)
    for name, amount in more:
        total[name] = total.get(name, 0) + amount
    return replace(amounts, other=tuple(total.items()))
