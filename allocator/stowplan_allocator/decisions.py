"""What has been decided about jobs that take the place of others: room held, and what that loses.

What must stay true: at most one way of giving room for each running job; the order of ``holds`` is that of the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stowplan_allocator import greedy, strategies, types
from stowplan_allocator.choosing import Solution

TIER = "disruptions"
RESIZES = "resizes"


@dataclass(frozen=True, slots=True)
class Hold:
    """Room kept for a waiting job, whom it waits for to leave, and what its own victims lose."""

    spot: greedy.Spot
    solution: Solution
    waits_for: tuple[str, ...]

    @property
    def is_surplus(self) -> bool:
        """Whether others only come back with fewer pods for it."""
        return bool(self.solution.leaving) and all(victim.size for victim in self.solution.leaving)


@dataclass(frozen=True, slots=True)
class Protected:
    """Who would leave for a job but for a PodDisruptionBudget: so many of its pods, of which so many may be stopped."""

    victims: tuple[str, ...]
    budget: str
    needed: int
    allowed: int


@dataclass(frozen=True, slots=True)
class InVain:
    """Who would leave for a job, and who would then have the room, being ahead in the queue."""

    victims: tuple[str, ...]
    takers: tuple[str, ...]


@dataclass(slots=True)
class Decision:
    """The outcome beside all held rooms, and what has been decided about each preempting job.

    ``protected`` is known of the first job, in queue order, of each request, by the request's index and its priority.
    ``in_vain`` are jobs, by id, for which nobody leaves because others would take the room.
    """

    outcome: strategies.Outcome
    holds: dict[str, Hold] = field(default_factory=dict)
    resizes: tuple[types.Resize, ...] = ()
    protected: dict[tuple[int, int], Protected] = field(default_factory=dict)
    in_vain: dict[str, InVain] = field(default_factory=dict)

    def with_holds(self) -> strategies.Outcome:
        """The outcome in which held room counts as taken: for whoever asks why another job waits."""
        held = {job_id: hold.spot for job_id, hold in self.holds.items()}
        return replace(self.outcome, spots=self.outcome.spots | held)

    def for_whom(self) -> list[str]:
        """The jobs for which others are to leave or shrink, in queue order."""
        return [job_id for job_id, hold in self.holds.items() if hold.solution.leaving]

    def evictions(self) -> tuple[types.Eviction, ...]:
        """One for each victim, in the order of the queue of those who come."""
        return tuple(
            types.Eviction(victim.job.id, job_id, victim.cost)
            for job_id, hold in self.holds.items()
            for victim in hold.solution.leaving
            if not victim.size
        )

    def tiers(self, *, status: types.SolveStatus) -> list[types.TierResult]:
        """What is lost in all, and the least that these jobs could have cost, each after those before it.

        Where surplus was enough for a job, that counts as the resizes' loss.
        """
        surplus = [hold.solution for hold in self.holds.values() if hold.is_surplus]
        others = [hold.solution for hold in self.holds.values() if not hold.is_surplus]
        found = [_tier(RESIZES, solutions=surplus, status=status)] if surplus else []
        return [*found, _tier(TIER, solutions=others, status=status)] if others else found


def _tier(name: str, *, solutions: Sequence[Solution], status: types.SolveStatus) -> types.TierResult:
    value = sum(solution.cost for solution in solutions)
    bound = sum(solution.bound for solution in solutions)
    return types.TierResult(
        name=name,
        value=float(value),
        bound=float(bound),
        gap=(value - bound) / value if value else 0.0,
        status=types.SolveStatus.OPTIMAL if value == bound else status,
    )


def with_note(outcome: strategies.Outcome, note: str) -> strategies.Outcome:
    """The outcome with one more note."""
    return replace(outcome, note="; ".join(part for part in (outcome.note, note) if part))


def with_tier(outcome: strategies.Outcome, *, tier: types.TierResult) -> strategies.Outcome:
    """The outcome with one more tier, and what that says of its status."""
    proven = tier.status is types.SolveStatus.OPTIMAL
    note = "" if proven else f'tier "{tier.name}" is not proven, gap {tier.gap:.2%}'
    status = outcome.status
    if status is types.SolveStatus.NOTHING_TO_DO or (status is types.SolveStatus.OPTIMAL and not proven):
        status = types.SolveStatus.OPTIMAL if proven else types.SolveStatus.FEASIBLE
    return with_note(replace(outcome, status=status, tiers=(*outcome.tiers, tier)), note)
