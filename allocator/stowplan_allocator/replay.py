"""The cluster as time goes on: ``plan()`` replayed over the expected ends of what runs.

What must stay true: it is the same ``plan()`` that will decide then; who may not be disturbed yet may be from the
moment on that its ``protection`` names; the number of steps is bounded, so in large clusters a few of these moments
are taken together, and a start may be told that much too late; nothing new arrives, and every job takes as long as it
is expected to.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from stowplan_allocator import goodput, places, planner, types

# Where more moments than this are known, so many are taken together that about this number of plans will do.
MAX_STEPS = 300
# A job whose victims have left is placed by the next plan; more rounds than this at one moment mean that nobody gains.
MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """One planned moment: the snapshot as it was planned, and who then started where."""

    snapshot: types.Snapshot
    started: Mapping[str, types.Placement]


@dataclass(frozen=True, slots=True)
class Departure:
    """A job, by name, that left its nodes: it had ended, or it gave way, to a job (id) or on its way out already.

    Who comes back at a smaller size gives way, too. ``protection`` is what kept it there for so long.
    """

    name: str
    nodes: frozenset[str]
    at_seconds: int
    has_ended: bool
    for_job: str = ""
    protection: places.Protection | None = None


class Replay:
    """See the module. ``departures`` has all who left their places so far, in order."""

    def __init__(
        self,
        snapshot: types.Snapshot,
        *,
        settings: types.Settings,
        budget_seconds: float | None = None,
        leaving: Iterable[types.Job] = (),
    ) -> None:
        """``leaving`` are gangs that the snapshot leaves out, as they are gone at once."""
        self.snapshot = snapshot
        self.began_at_seconds = snapshot.now_seconds
        self.departures: list[Departure] = []
        self.cut = ""
        self._settings = replace(settings, explain=False)
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
        self._ends = {
            job.id: snapshot.now_seconds + max(job.expected_seconds, 0)
            for job in snapshot.jobs
            if job.placement is not None and job.expected_seconds is not None
        }
        self._protected = {
            job.id: job.protection
            for job in snapshot.jobs
            if job.placement is not None and job.protection is not None and job.disruption_cost is None
            if settings.preemption is not types.Preemption.NEVER
        }
        known = sum(job.expected_seconds is not None for job in snapshot.jobs) + len(self._protected)
        self._stride = max(-(-known // MAX_STEPS), 1)
        self._were_protected: dict[str, places.Protection] = {}
        for gang in leaving:
            self._departs(gang, for_job="")
        self._unprotect()

    def moments(self) -> Iterator[Moment]:
        """Plan now, at each expected end, and when somebody's protection is over, as long as somebody waits."""
        for _ in range(2 * MAX_STEPS):
            for _ in range(MAX_ROUNDS):
                moment, evicted = self._plan()
                yield moment
                if not evicted:
                    break
            following = [*self._ends.values(), *(one.until_seconds for one in self._protected.values())]
            if not following or not any(job.placement is None for job in self.snapshot.jobs):
                return
            if self._deadline is not None and time.monotonic() > self._deadline:
                self.cut = "the budget for the forecast ran out"
                return
            self._advance(heapq.nsmallest(self._stride, following)[-1])
        self.cut = f"it does not start within {2 * MAX_STEPS} steps of {self._stride} expected ends each"

    def _plan(self) -> tuple[Moment, bool]:
        made = planner.plan(self.snapshot, self._settings)
        moment = Moment(self.snapshot, dict(made.placements))
        for_whom = {job.id: "" for job in self.snapshot.jobs if job.leaving}
        for_whom |= {eviction.job_id: eviction.for_job for eviction in made.evictions}
        for_whom |= {move.job_id: move.for_job for move in made.moves}
        # Who grows as nobody waits is left as it is: that starts nobody.
        shrinks = {one.job_id: one for one in made.resizes if one.for_job and one.placement is not None}
        goes_on = bool(for_whom or shrinks or self.snapshot.coming_back)
        moved = {move.job_id for move in made.moves}
        back = {job.name for job in self.snapshot.jobs if job.placement is None and job.returning}
        back.update(job.name for job in self.snapshot.coming_back)
        now = self.snapshot.now_seconds
        jobs = []
        for job in self.snapshot.jobs:
            if job.id in for_whom and job.placement is not None:
                self._departs(job, for_job=for_whom[job.id])
            if job.leaving and job.placement is not None and job.name in back:
                continue
            if job.id in made.placements:
                started_job = started(job, placement=made.placements[job.id])
                if started_job.expected_seconds is not None:
                    self._ends[job.id] = now + started_job.expected_seconds
                jobs.append(started_job)
            elif job.id in shrinks:
                self._departs(job, for_job=shrinks[job.id].for_job)
                shrunk = _resized(job, shrinks[job.id])
                if shrunk.expected_seconds is not None:
                    self._ends[job.id] = now + shrunk.expected_seconds
                jobs.append(shrunk)
            elif job.id in for_whom:
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

    def _departs(self, job: types.Job, *, for_job: str | None = None) -> None:
        """Note that the job leaves: for another one, or as it has ended where there is none."""
        assert job.placement is not None, "only running jobs leave"
        nodes = frozenset(share.node for share in job.placement.shares)
        protection = self._were_protected.pop(job.id, None)
        has_ended = for_job is None
        now = self.snapshot.now_seconds
        self.departures.append(
            Departure(job.name, nodes, now, has_ended, for_job or "", None if has_ended else protection)
        )

    def _advance(self, now: int) -> None:
        """Go on to this time: what ends by then is gone, the others have run so much longer."""
        passed = now - self.snapshot.now_seconds
        before, jobs = self.snapshot.jobs, []
        self.snapshot = replace(self.snapshot, now_seconds=now)
        for job in before:
            if job.placement is None:
                jobs.append(job)
            elif self._ends.get(job.id, now + 1) <= now:
                del self._ends[job.id]
                self._protected.pop(job.id, None)
                self._departs(job)
            else:
                jobs.append(_older(job, seconds=passed))
        self.snapshot = replace(self.snapshot, jobs=tuple(jobs))
        self._unprotect()

    def _unprotect(self) -> None:
        """From now on those may be disturbed whose protection is over."""
        now = self.snapshot.now_seconds
        over = {job_id: one for job_id, one in self._protected.items() if one.until_seconds <= now}
        if not over:
            return
        self._protected = {job_id: one for job_id, one in self._protected.items() if job_id not in over}
        self._were_protected |= over
        jobs = (
            replace(job, disruption_cost=over[job.id].then_costs, protection=None) if job.id in over else job
            for job in self.snapshot.jobs
        )
        self.snapshot = replace(self.snapshot, jobs=tuple(jobs))


def started(job: types.Job, *, placement: types.Placement) -> types.Job:
    """The job at work: what it is expected to need on its best product at its usual size, it needs longer elsewhere."""
    if job.expected_seconds is None:
        return replace(job, placement=placement)
    throughput = {choice.product: choice.relative_throughput_milli for choice in job.products}
    worth = goodput.worth(job, num_pods=placement.num_pods)
    speed = max(throughput.get(placement.product, 1000) * worth // (job.num_pods * goodput.UNIT), 1)
    needed = -(-max(job.expected_seconds, 0) * 1000 // speed)
    return replace(job, placement=placement, expected_seconds=needed)


def _resized(job: types.Job, resize: types.Resize) -> types.Job:
    """The running job at its new place, where what is left of it takes as much longer as less gets done."""
    assert job.placement is not None, "only running jobs are resized"
    left = job.expected_seconds
    if left is not None:
        before = goodput.worth(job, num_pods=job.placement.num_pods)
        left = -(-max(left, 0) * before // max(goodput.worth(job, num_pods=resize.num_pods), 1))
    return replace(job, placement=resize.placement, expected_seconds=left)


def _older(job: types.Job, *, seconds: int) -> types.Job:
    assert job.placement is not None, "only running jobs get older"
    return replace(
        job,
        expected_seconds=None if job.expected_seconds is None else job.expected_seconds - seconds,
        attained_accelerator_seconds=job.attained_accelerator_seconds
        + seconds * job.placement.num_pods * job.pod.accelerators,
    )
