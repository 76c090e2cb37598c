"""When will each waiting job start? ``plan()`` replayed over the expected ends of what runs (``replay``).

At each expected end the cluster is planned anew, with what has ended gone and what was placed
running, until all have started or nothing more is known to end. What must stay true: a start is promised
only from known ends; the same question has the same answer unless the budget cut it, which the answer then says
(``telling`` has the words).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from stowplan_allocator import planner, replay, spread, telling, types
from stowplan_allocator import problem as problems
from stowplan_allocator.telling import Forecast

__all__ = ["Forecast", "assumed_seconds", "predict_starts", "reserve", "until"]

# The least that a job of unknown end is assumed to run still; the most is a day.
ASSUMED_AT_LEAST_SECONDS = 3600


def predict_starts(
    snapshot: types.Snapshot,
    *,
    settings: types.Settings | None = None,
    budget_seconds: float | None = None,
    leaving: Iterable[types.Job] = (),
) -> dict[str, Forecast]:
    """A forecast for every waiting job, by id, if nothing new arrives and everything ends when it is expected to.

    Where run times are spread, it is the middle one of a few futures (``spread``). ``leaving`` are gangs on their way
    out that the snapshot leaves out, as they will be gone at once: who takes their places is told that they leave.
    """
    settings = settings or types.Settings()
    futures = spread.draws(snapshot)
    share = None if budget_seconds is None else budget_seconds / len(futures)
    found = [_predict(one, settings=settings, budget_seconds=share, leaving=leaving) for one in futures]
    return {job_id: sorted((one[job_id] for one in found), key=_when)[len(found) // 2] for job_id in found[0]}


def _when(found: Forecast) -> float:
    return math.inf if found.starts_at_seconds is None else found.starts_at_seconds


def _predict(
    snapshot: types.Snapshot, *, settings: types.Settings, budget_seconds: float | None, leaving: Iterable[types.Job]
) -> dict[str, Forecast]:
    waiting = [job for job in snapshot.jobs if job.placement is None]
    future = replay.Replay(snapshot, settings=settings, budget_seconds=budget_seconds, leaving=leaving)
    found: dict[str, Forecast] = {}
    for moment in future.moments():
        for job_id, placement in moment.started.items():
            if job_id not in found:
                found[job_id] = telling.start(job_id, placement, moment=moment, replay=future)
    left = [job for job in waiting if job.id not in found]
    if left:
        ask = telling.NoStarts(future, settings=settings, waiting={job.name for job in waiting})
        found |= {job.id: ask.of(job) for job in left}
    waiting.sort(key=lambda job: problems.queue_key(job, order=settings.order))
    return {job.id: found[job.id] for job in waiting}


def reserve(
    snapshot: types.Snapshot,
    job_id: str,
    *,
    settings: types.Settings | None = None,
    assume: bool = False,
    nodes: Collection[str] | None = None,
) -> types.Reservation | None:
    """The earliest room that the expected ends give to a job if nobody who waits takes any before it.

    For a job that is first of its line: put into ``Snapshot.reservations`` it ends its starving, since others
    may stand there only as long as they do not delay it. Other reservations of the snapshot are
    kept as if their jobs stood there from now on, an elastic job is given its smallest size, and room is found
    by halves, since it only grows as jobs end. With ``assume`` jobs of unknown end are taken to run as long
    again as they have (``assumed_seconds``), and a start that rests on it says so. ``nodes`` are all that may be
    used. None where no ends make room.
    """
    settings = settings or types.Settings()
    job = _waiting(snapshot, job_id)
    if nodes is not None:
        snapshot = replace(snapshot, nodes=tuple(_only(node, nodes=nodes) for node in snapshot.nodes))
    room = _Room(snapshot, job, settings=settings)
    ends = room.ends(assume=assume)
    moments = sorted({snapshot.now_seconds, *ends.values()})
    if (found := room.at(moments[-1], ends=ends)) is None:
        return None
    low, high = 0, len(moments) - 1
    while low < high:
        middle = (low + high) // 2
        placement = room.at(moments[middle], ends=ends)
        if placement is None:
            low = middle + 1
        else:
            high, found = middle, placement
    start = moments[low]
    unknown = assume and room.at(start, ends=room.ends(assume=False)) is None
    return types.Reservation(job_id, found, start, assumed=unknown)


def assumed_seconds(job: types.Job) -> int:
    """How long a running job is taken to run still where nobody knows: as long again as it has, an hour to a day."""
    had = job.attained_accelerator_seconds // max(1, job.num_pods * job.pod.accelerators)
    return min(max(had, ASSUMED_AT_LEAST_SECONDS), problems.UNKNOWN_SECONDS)


class _Room:
    """What a job finds at later moments if of all that wait only those with reservations come before it."""

    def __init__(self, snapshot: types.Snapshot, job: types.Job, *, settings: types.Settings) -> None:
        self._job = replace(job, num_pods=job.allowed_num_pods[0], allowed_num_pods=()) if job.allowed_num_pods else job
        self._settings = replace(settings, explain=False, preemption=types.Preemption.NEVER)
        self._snapshot = replace(snapshot, reservations=(), coming_back=())
        waiting = {one.id: one for one in snapshot.jobs if one.placement is None}
        self._kept = {
            one.job_id: (replay.started(waiting[one.job_id], placement=one.placement), one.starts_at_seconds)
            for one in snapshot.reservations
            if one.job_id in waiting and one.job_id != job.id
        }

    def ends(self, *, assume: bool) -> dict[str, int]:
        """When jobs leave their room, by id; those that never do, as far as is known, are left out."""
        now = self._snapshot.now_seconds
        found = {}
        for job in self._snapshot.jobs:
            if job.placement is None:
                continue
            left = 0 if job.leaving else job.expected_seconds
            if left is None and assume:
                left = assumed_seconds(job)
            if left is not None:
                found[job.id] = now + max(left, 0)
        for job, start in self._kept.values():
            if job.expected_seconds is not None:
                found[job.id] = max(start, now) + job.expected_seconds
        return found

    def at(self, moment: int, *, ends: Mapping[str, int]) -> types.Placement | None:
        """Where the job stands then."""
        there = [
            job
            for job in (
                *(one for one in self._snapshot.jobs if one.placement is not None),
                *(job for job, _ in self._kept.values()),
            )
            if ends.get(job.id, moment + 1) > moment
        ]
        then = replace(self._snapshot, jobs=(*there, self._job), now_seconds=moment)
        return planner.plan(then, self._settings).placements.get(self._job.id)


def _only(node: types.Node, *, nodes: Collection[str]) -> types.Node:
    return node if node.name in nodes or node.blocked else replace(node, blocked="it is not one of these nodes")


def _waiting(snapshot: types.Snapshot, job_id: str) -> types.Job:
    job = next((job for job in snapshot.jobs if job.id == job_id and job.placement is None), None)
    if job is None:
        raise ValueError(f'job "{job_id}" does not wait in the snapshot')
    return job


def until(snapshot: types.Snapshot, job_id: str, *, settings: types.Settings) -> types.Snapshot:
    """The snapshot without the waiting jobs behind the given one: these never decide whether it starts.

    With queues the line of each ends with itself: only who stands behind in the job's own queue is left out.
    """
    job = _waiting(snapshot, job_id)
    last = problems.queue_key(job, order=settings.order)
    kept = [
        one
        for one in snapshot.jobs
        if one.placement is not None
        or (snapshot.queues and one.queue != job.queue)
        or problems.queue_key(one, order=settings.order) <= last
    ]
    return replace(snapshot, jobs=tuple(kept))
