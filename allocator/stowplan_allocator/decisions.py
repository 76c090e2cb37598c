"""What has been decided about jobs that take the place of others: room held, and what that loses.

What must stay true: at most one way of giving room for each running job; the order of ``holds`` is that of the queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stowplan_allocator import greedy, strategies, types
from stowplan_allocator.choosing import Solution

TIER = "disruptions"


@dataclass(frozen=True, slots=True)
class Hold:
    """Room kept for a waiting job, whom it waits for to leave, and what its own victims lose."""

    spot: greedy.Spot
    solution: Solution
    waits_for: tuple[str, ...]


@dataclass(slots=True)
class Decision:
    """The outcome beside all held rooms, and what has been decided about each preempting job."""

    outcome: strategies.Outcome
    holds: dict[str, Hold] = field(default_factory=dict)

    def with_holds(self) -> strategies.Outcome:
        """The outcome in which held room counts as taken: for whoever asks why another job waits."""
        held = {job_id: hold.spot for job_id, hold in self.holds.items()}
        return replace(self.outcome, spots=self.outcome.spots | held)

    def evictions(self) -> tuple[types.Eviction, ...]:
        """One for each victim, in the order of the queue of those who come."""
        return tuple(
            types.Eviction(victim.job.id, job_id, victim.cost)
            for job_id, hold in self.holds.items()
            for victim in hold.solution.leaving
        )

    def tier(self, *, status: types.SolveStatus) -> types.TierResult:
        """What is lost in all, and the least that these jobs could have cost, each after those before it."""
        value = sum(hold.solution.cost for hold in self.holds.values())
        bound = sum(hold.solution.bound for hold in self.holds.values())
        return types.TierResult(
            name=TIER,
            value=float(value),
            bound=float(bound),
            gap=(value - bound) / value if value else 0.0,
            status=types.SolveStatus.OPTIMAL if value == bound else status,
        )
