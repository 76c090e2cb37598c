"""Would the job start after this change? Asked of ``plan()``, and of a count first that is much cheaper.

What must stay true: ``starts`` is the word of ``plan()`` on everything that stands before the
job in the queue; ``could`` says no only where ``plan()`` would; no question is asked when the
time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from stowplan_allocator import compiling, forecast, gangs, planner, types
from stowplan_allocator.gangs import Gang
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
        self.left()
        alone = self.alone(patch.apply(self.ahead))
        if alone is None:
            return False
        problem, gang = alone
        return any(
            gangs.capacity(gang, slots=_slots(gang, group=group, problem=problem), problem=problem) >= gang.num_blocks
            for group in gang.groups
        )

    def alone(self, snapshot: types.Snapshot) -> tuple[Problem, Gang] | None:
        """The problem of this job alone, at its smallest size; None where it can never be planned."""
        job = next(one for one in snapshot.jobs if one.id == self.job.id)
        running = tuple(one for one in snapshot.jobs if one.placement is not None)
        problem = compiling.compile_problem(replace(snapshot, jobs=(*running, job), reservations=()))
        if job.id not in problem.shape_of:
            return None
        return problem, gangs.gang_of(job, problem=problem, num_pods=min(job.allowed_num_pods, default=job.num_pods))

    def easiest(self, values: Sequence[int], patch: Callable[[int], Patch]) -> int | None:
        """The last of the values, of which each starts the job at least as easily as the next, that starts it.

        Searched by halves, by counting first; the one returned was planned.
        """
        low, high = 0, len(values)
        while low < high:
            middle = (low + high) // 2
            if self.could(patch(values[middle])):
                low = middle + 1
            else:
                high = middle
        best = None
        low, high = 0, low
        # The count is right unless somebody ahead in the queue wants the same room: try its last value first.
        middle = high - 1
        while low < high:
            if self.starts(patch(values[middle])):
                best = values[middle]
                low = middle + 1
            else:
                high = middle
            middle = (low + high) // 2
        return best


def _slots(gang: Gang, *, group: gangs.Group, problem: Problem) -> dict[int, int]:
    known: dict[Vector, int] = {}
    found = {}
    for node in group.nodes:
        room = problem.free[node]
        if room not in known:
            known[room] = gangs.slots(gang, room)
        found[node] = known[room]
    return found
