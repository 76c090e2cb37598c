"""PodDisruptionBudgets: how many pods a plan may stop, whatever it stops them for.

Sets and data
    b ∈ B            budgets; d_b of its pods may be stopped
    p_{j,b}          pods of the running job j that b selects
Constraint
    (1) Σ p_{j,b} ≤ d_b over the jobs that leave, move or are resized in one plan        for b

A gang stops whole, also where it comes back with fewer or more pods. Who is leaving already is not counted: its pods
have been taken off what is allowed. What must stay true: of jobs that may stop together any part may; a job that no
budget selects is never kept by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import types
from stowplan_allocator.victims import Victim


@dataclass(frozen=True, slots=True)
class Guard:
    """What is left of the budgets; ``pods`` are (budget by its index, number) by job id."""

    left: tuple[int, ...]
    pods: Mapping[str, tuple[tuple[int, int], ...]]

    def after(self, stopped: Iterable[str]) -> Guard:
        """What is left once these have been stopped, each of whom is named once."""
        left = list(self.left)
        for job_id in stopped:
            for i, number in self.pods.get(job_id, ()):
                left[i] -= number
        return replace(self, left=tuple(left))

    def may_stop(self, job_id: str) -> bool:
        """Whether the budgets let this job be stopped alone."""
        return all(number <= self.left[i] for i, number in self.pods.get(job_id, ()))

    def together(self, jobs: Iterable[str]) -> set[str]:
        """Those of the jobs, the first first, that may be stopped together."""
        guard, found = self, set[str]()
        for job_id in jobs:
            if job_id not in found and guard.may_stop(job_id):
                guard = guard.after([job_id])
                found.add(job_id)
        return found

    def admissible(self, victims: Sequence[Victim]) -> list[Victim]:
        """Those of the ways to give room, the first first, whose jobs may be stopped together."""
        allowed = self.together(victim.job.id for victim in victims)
        return [victim for victim in victims if victim.job.id in allowed]

    def exceeded(self, stopped: Iterable[str]) -> list[int]:
        """The budgets that do not allow to stop these, by their indexes."""
        return [i for i, left in enumerate(self.after(stopped).left) if left < 0]


def guard_of(snapshot: types.Snapshot) -> Guard | None:
    """The budgets of the snapshot; None without any."""
    if not snapshot.disruption_budgets:
        return None
    pods: dict[str, list[tuple[int, int]]] = {}
    for i, budget in enumerate(snapshot.disruption_budgets):
        for job_id, number in budget.pods:
            if number:
                pods.setdefault(job_id, []).append((i, number))
    left = tuple(max(budget.allowed, 0) for budget in snapshot.disruption_budgets)
    return Guard(left, {job_id: tuple(found) for job_id, found in pods.items()})


def spent(snapshot: types.Snapshot, *, stopped: Iterable[str]) -> types.Snapshot:
    """The snapshot in which budgets allow that much less."""
    guard = guard_of(snapshot)
    if guard is None:
        return snapshot
    left = guard.after(stopped).left
    budgets = (replace(one, allowed=most) for one, most in zip(snapshot.disruption_budgets, left, strict=True))
    return replace(snapshot, disruption_budgets=tuple(budgets))
