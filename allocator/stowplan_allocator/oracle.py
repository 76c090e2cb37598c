"""Would the job start after this change? Asked of ``plan()``, and of a count first that is much cheaper.

What must stay true: ``starts`` is the word of ``plan()`` on everything that stands before the
job in the queue; ``could`` says no and ``surely`` says yes only where ``plan()`` would; no question is asked when the
time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stowplan_allocator import compiling, forecast, gangs, planner, types
from stowplan_allocator.gangs import Gang
from stowplan_allocator.namespaces import Spare
from stowplan_allocator.problem import Problem, Vector
from stowplan_allocator.relaxing import Patch


class OutOfTime(Exception):  # noqa: N818 - not an error: what was found until then stands
    """The budget is spent."""


class Oracle:
    """Questions about one waiting job in one snapshot. ``deadline`` is on the monotonic clock."""

    def __init__(
        self, snapshot: types.Snapshot, job_id: str, *, settings: types.Settings, budget_seconds: float
    ) -> None:
        self.snapshot = snapshot
        self.settings = replace(settings, explain=False)
        self.deadline = time.monotonic() + budget_seconds
        self.num_plans = 0
        self._placed_ahead: Mapping[str, types.Placement] | None = None
        # Waiting jobs behind this one never decide whether it starts.
        self.ahead = forecast.until(snapshot, job_id, settings=settings)
        self.job = next(job for job in snapshot.jobs if job.id == job_id)

    def left(self) -> float:
        """Seconds of the budget that are left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime
        return left

    def plan(self, snapshot: types.Snapshot) -> types.Plan:
        """The plan of a snapshot, within the time that is left."""
        limit = min(self.settings.time_limit_seconds, self.left())
        self.num_plans += 1
        return planner.plan(snapshot, replace(self.settings, time_limit_seconds=limit))

    def starts(self, patch: Patch) -> bool:
        """Whether the job is placed once the change is made, everybody behind it left aside."""
        if not self.could(patch):
            return False
        return self.job.id in self.plan(patch.apply(self.ahead)).placements

    def confirmed(self, patch: Patch) -> bool:
        """The same with the whole queue."""
        if len(self.ahead.jobs) == len(self.snapshot.jobs):
            return True
        return self.job.id in self.plan(patch.apply(self.snapshot)).placements

    def could(self, patch: Patch) -> bool:
        """Whether the job fits beside all that runs, if nobody else waited: it starts only then."""
        return self._fits_alone(patch.apply(self.ahead))

    def surely(self, patch: Patch) -> bool:
        """Whether the job fits beside all that runs and all that this plan gives those ahead of it: it starts then.

        Known only of changes to the job's own wishes, which leave those ahead as they are.
        """
        if [job.id for job in patch.jobs] != [self.job.id] or patch != Patch(jobs=patch.jobs):
            return False
        if self.ahead.reservations or patch.jobs[0].priority != self.job.priority:
            return False
        return self._fits_alone(patch.apply(self._standing()))

    def placed_ahead(self) -> Mapping[str, types.Placement]:
        """Where the plan without any change puts those ahead that start."""
        if self._placed_ahead is None:
            self._placed_ahead = self.plan(self.ahead).placements
        return self._placed_ahead

    def _standing(self) -> types.Snapshot:
        placed = self.placed_ahead()
        jobs = tuple(replace(job, placement=placed.get(job.id, job.placement)) for job in self.ahead.jobs)
        return replace(self.ahead, jobs=jobs)

    def _fits_alone(self, snapshot: types.Snapshot) -> bool:
        self.left()
        alone = self.alone(snapshot)
        if alone is None:
            return False
        problem, gang = alone
        return any(
            gangs.capacity(gang, slots=_slots(gang, group=group, problem=problem), problem=problem) >= gang.num_blocks
            for group in gang.groups
        )

    def alone(self, snapshot: types.Snapshot, *, within_quotas: bool = True) -> tuple[Problem, Gang] | None:
        """The problem of this job alone, at its smallest size, and on the products that its queue has quota of.

        None where it can never be planned.
        """
        job = next(one for one in snapshot.jobs if one.id == self.job.id)
        running = tuple(one for one in snapshot.jobs if one.placement is not None)
        problem = compiling.compile_problem(replace(snapshot, jobs=(*running, job), reservations=()))
        if job.id not in problem.shape_of:
            return None
        num_pods = min(job.allowed_num_pods, default=job.num_pods)
        gang = gangs.gang_of(job, problem=problem, num_pods=num_pods)
        if within_quotas and problem.namespaces is not None:
            charges = problem.namespaces.charges(job)
            if not Spare(problem.left).fits(charges, num_pods):
                gang = replace(gang, groups=())
        if within_quotas and problem.allowance is not None:
            leaf, amount = problem.allowance.quotas.leaf(job), num_pods * job.pod.accelerators
            full = problem.allowance.is_full(leaf)
            groups = [group for group in gang.groups if problem.allowance.fits(leaf, group.product, amount)]
            gang = replace(gang, groups=() if full else tuple(groups))
        return problem, gang

    def easiest(self, values: Sequence[int], patch: Callable[[int], Patch]) -> int | None:
        """The last of the values, of which each starts the job at least as easily as the next, that starts it.

        Searched by halves, by counting as far as that tells; the one returned was planned.
        """
        most = _prefix(len(values), lambda i: self.could(patch(values[i])))
        sure = _prefix(most, lambda i: self.surely(patch(values[i])))
        # The first count is right unless somebody ahead wants the same room, so its last value is planned first.
        if most > sure and self.starts(patch(values[most - 1])):
            return values[most - 1]
        number = sure + _prefix(max(most - 1 - sure, 0), lambda i: self.starts(patch(values[sure + i])))
        if number == sure and sure and not self.starts(patch(values[sure - 1])):
            number = _prefix(sure - 1, lambda i: self.starts(patch(values[i])))
        return values[number - 1] if number else None


def _prefix(length: int, holds: Callable[[int], bool]) -> int:
    """How many of the first positions hold, where none holds behind one that does not."""
    low, high = 0, length
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            low = middle + 1
        else:
            high = middle
    return low


def _slots(gang: Gang, *, group: gangs.Group, problem: Problem) -> dict[int, int]:
    known: dict[Vector, int] = {}
    found = {}
    for node in group.nodes:
        room = problem.free[node]
        if room not in known:
            known[room] = gangs.slots(gang, room)
        found[node] = known[room]
    return found
