"""When will each waiting job start? ``plan()`` replayed over the expected ends of what runs.

At each expected end the cluster is planned anew, with what has ended gone and what was placed
running, until all have started or nothing more is known to end. Nothing new arrives, and every
job takes as long as it is expected to. What must stay true: it is the same ``plan()`` that will
decide then; a start is promised only from known ends, and otherwise the jobs whose unknown ends
stand in the way are named; the number of steps is bounded, so in large clusters a few ends are taken
together and a start may be told that much too late; the same question has the same
answer unless the budget cut it, which the answer then says.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from stowplan_allocator import compiling, goodput, planner, spread, types, words
from stowplan_allocator import problem as problems

# Where more ends than this are known, so many are taken together that about this number of plans will do.
MAX_STEPS = 300
# A job whose victims have left is placed by the next plan; more rounds than this at one moment mean that nobody gains.
MAX_ROUNDS = 20
MAX_NAMES = 10
# The least that a job of unknown end is assumed to run still; the most is a day.
ASSUMED_AT_LEAST_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a job starts (Unix time) and where, or None; why so; and the jobs, by name, that must end before."""

    starts_at_seconds: int | None
    basis: str
    waits_for: tuple[str, ...] = ()
    placement: types.Placement | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """One planned moment: the snapshot as it was planned, and who then started where."""

    snapshot: types.Snapshot
    started: Mapping[str, types.Placement]


def predict_starts(
    snapshot: types.Snapshot, *, settings: types.Settings | None = None, budget_seconds: float | None = None
) -> dict[str, Forecast]:
    """A forecast for every waiting job, by id, if nothing new arrives and everything ends when it is expected to.

    Where run times are spread, it is the middle one of a few futures (``spread``).
    """
    settings = settings or types.Settings()
    futures = spread.draws(snapshot)
    share = None if budget_seconds is None else budget_seconds / len(futures)
    found = [_predict(one, settings=settings, budget_seconds=share) for one in futures]
    return {job_id: sorted((one[job_id] for one in found), key=_when)[len(found) // 2] for job_id in found[0]}


def _when(found: Forecast) -> float:
    return math.inf if found.starts_at_seconds is None else found.starts_at_seconds


def _predict(
    snapshot: types.Snapshot, *, settings: types.Settings, budget_seconds: float | None
) -> dict[str, Forecast]:
    waiting = [job for job in snapshot.jobs if job.placement is None]
    replay = Replay(snapshot, settings=settings, budget_seconds=budget_seconds)
    found: dict[str, Forecast] = {}
    for moment in replay.moments():
        at = moment.snapshot.now_seconds
        for job_id, placement in moment.started.items():
            if job_id not in found:
                found[job_id] = _start(at, placement=placement, replay=replay, now=snapshot.now_seconds)
    for job in waiting:
        if job.id not in found:
            found[job.id] = _no_start(job, replay=replay)
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
            one.job_id: (_started(waiting[one.job_id], placement=one.placement), one.starts_at_seconds)
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


class Replay:
    """The cluster as time goes on. ``ended`` has the names and nodes of jobs that have ended, in order."""

    def __init__(
        self, snapshot: types.Snapshot, *, settings: types.Settings, budget_seconds: float | None = None
    ) -> None:
        self.snapshot = snapshot
        self.ended: list[tuple[str, frozenset[str]]] = []
        self.cut = ""
        self._settings = replace(settings, explain=False)
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
        known = sum(job.expected_seconds is not None for job in snapshot.jobs)
        self._stride = max(-(-known // MAX_STEPS), 1)
        self._ends = {
            job.id: snapshot.now_seconds + max(job.expected_seconds, 0)
            for job in snapshot.jobs
            if job.placement is not None and job.expected_seconds is not None
        }

    def moments(self) -> Iterator[Moment]:
        """Plan now and at each expected end, as long as somebody waits."""
        for _ in range(2 * MAX_STEPS):
            for _ in range(MAX_ROUNDS):
                moment, evicted = self._plan()
                yield moment
                if not evicted:
                    break
            if not any(job.placement is None for job in self.snapshot.jobs) or not self._ends:
                return
            if self._deadline is not None and time.monotonic() > self._deadline:
                self.cut = "the budget for the forecast ran out"
                return
            following = heapq.nsmallest(self._stride, self._ends.values())
            self._advance(following[-1])
        self.cut = f"it does not start within {2 * MAX_STEPS} steps of {self._stride} expected ends each"

    def _plan(self) -> tuple[Moment, bool]:
        made = planner.plan(self.snapshot, self._settings)
        moment = Moment(self.snapshot, dict(made.placements))
        evicted = {eviction.job_id for eviction in made.evictions}
        evicted |= {job.id for job in self.snapshot.jobs if job.leaving}
        evicted |= {move.job_id for move in made.moves}
        goes_on = bool(evicted or self.snapshot.coming_back)
        moved = {move.job_id for move in made.moves}
        back = {job.name for job in self.snapshot.jobs if job.placement is None and job.returning}
        back.update(job.name for job in self.snapshot.coming_back)
        now = self.snapshot.now_seconds
        jobs = []
        for job in self.snapshot.jobs:
            if job.leaving and job.placement is not None and job.name in back:
                continue
            if job.id in made.placements:
                started = _started(job, placement=made.placements[job.id])
                if started.expected_seconds is not None:
                    self._ends[job.id] = now + started.expected_seconds
                jobs.append(started)
            elif job.id in evicted:
                self._ends.pop(job.id, None)
                jobs.append(replace(job, placement=None, leaving=False, returning=job.returning or job.id in moved))
            else:
                jobs.append(job)
        self.snapshot = replace(
            self.snapshot,
            jobs=(*jobs, *self.snapshot.coming_back),
            coming_back=(),
            reservations=tuple(one for one in self.snapshot.reservations if one.job_id not in made.placements),
        )
        return moment, goes_on

    def _advance(self, now: int) -> None:
        """Go on to this time: what ends by then is gone, the others have run so much longer."""
        passed = now - self.snapshot.now_seconds
        jobs = []
        for job in self.snapshot.jobs:
            if job.placement is None:
                jobs.append(job)
            elif self._ends.get(job.id, now + 1) <= now:
                del self._ends[job.id]
                self.ended.append((job.name, frozenset(share.node for share in job.placement.shares)))
            else:
                jobs.append(_older(job, seconds=passed))
        self.snapshot = replace(self.snapshot, jobs=tuple(jobs), now_seconds=now)


def _started(job: types.Job, *, placement: types.Placement) -> types.Job:
    """The job at work: what it is expected to need on its best product at its usual size, it needs longer elsewhere."""
    if job.expected_seconds is None:
        return replace(job, placement=placement)
    throughput = {choice.product: choice.relative_throughput_milli for choice in job.products}
    worth = goodput.worth(job, num_pods=placement.num_pods)
    speed = max(throughput.get(placement.product, 1000) * worth // (job.num_pods * goodput.UNIT), 1)
    needed = -(-max(job.expected_seconds, 0) * 1000 // speed)
    return replace(job, placement=placement, expected_seconds=needed)


def _older(job: types.Job, *, seconds: int) -> types.Job:
    assert job.placement is not None, "only running jobs get older"
    return replace(
        job,
        expected_seconds=None if job.expected_seconds is None else job.expected_seconds - seconds,
        attained_accelerator_seconds=job.attained_accelerator_seconds
        + seconds * job.placement.num_pods * job.pod.accelerators,
    )


def _start(at: int, *, placement: types.Placement, replay: Replay, now: int) -> Forecast:
    if at == now:
        return Forecast(at, "starts now", placement=placement)
    nodes = {share.node for share in placement.shares}
    before = [name for name, held in replay.ended if not nodes.isdisjoint(held)] or [name for name, _ in replay.ended]
    names = list(dict.fromkeys(reversed(before)))[:MAX_NAMES]
    have = "has" if len(names) == 1 else "have"
    basis = f"starts once {words.names(names)} {have} ended, if that is when it is expected"
    return Forecast(at, basis, tuple(names), placement)


def _no_start(job: types.Job, *, replay: Replay) -> Forecast:
    """Why no time can be told: the replay was cut, an end is unknown, or all known ends do not help."""
    if replay.cut:
        return Forecast(None, replay.cut)
    alone = compiling.compile_problem(
        replace(replay.snapshot, jobs=(*(one for one in replay.snapshot.jobs if one.placement is not None), job))
    )
    if job.id in alone.misconfigured:
        return Forecast(None, alone.misconfigured[job.id])
    if job.id in alone.barred:
        return Forecast(None, alone.barred[job.id].message)
    cells = alone.cells_of[alone.shape_of[job.id].request.index]
    usable = {alone.nodes[node].name for cell in cells for node in alone.cells[cell].nodes}
    unknown = [
        one
        for one in replay.snapshot.jobs
        if one.placement is not None and any(share.node in usable for share in one.placement.shares)
    ]
    unknown.sort(key=lambda one: (-(one.placement.num_pods if one.placement else 0) * one.pod.accelerators, one.id))
    names = [one.name for one in unknown][:MAX_NAMES]
    if not names:
        return Forecast(None, "does not fit even when everything with a known end has ended")
    of = "whose end is" if len(names) == 1 else "whose ends are"
    return Forecast(None, f"depends on {words.names(names)}, {of} unknown", tuple(names))
