"""The integer programme of growth, in PuLP: which running elastic jobs get spare room, and how much.

The places are those of ``disruption``: j ∈ V are the jobs that could grow, each with the gangs k ∈ K_j that it would be
at larger sizes, and z_{j,k,g} says that it takes that size in group g.

Data
    w_{j,k}          what size k gains over the horizon less what the restart loses; more than 0
Objective
    max Σ w_{j,k} z_{j,k,g}
Constraints
    (1) to (5) of ``disruption``, with (2) as Σ_{k,g} z_{j,k,g} = leave_j: who grows takes one size, and lifts his pods

What must stay true: the answer fits by integer arithmetic; what is called a bound holds for all choices on offer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pulp

from stowplan_allocator import disruption, model, types
from stowplan_allocator.gangs import Gang
from stowplan_allocator.quota_rows import Term
from stowplan_allocator.stock import Take


@dataclass(frozen=True, slots=True)
class Expansion:
    """Where those who grow stand, by job id, and the most that anybody could gain."""

    stands: dict[str, list[Take]]
    bound: int


class Programme(disruption.Programme):
    """The programme; its victims are the jobs that could grow."""

    def offer(self, index: int, gangs: Iterable[tuple[Gang, int]]) -> list[tuple[pulp.LpVariable, int]]:
        """The sizes of one job with what each gains; returns these as terms of the objective."""
        chosen: list[Term] = []
        gains = []
        for gang, gain in gangs:
            places = self.places_of(gang)
            chosen += places
            gains += [(z, gain) for z, _ in places]
        self._require([*chosen, (self._leave[index], -1.0)], "==", 0.0)
        return gains

    def most(
        self, gains: list[tuple[pulp.LpVariable, int]], *, settings: types.Settings, limit_seconds: float
    ) -> Expansion | None:
        """The most that can be gained; None where nothing was found in time."""
        self._add_rooms()
        unit = math.gcd(*(gain for _, gain in gains)) or 1
        terms = [(z, -float(gain // unit)) for z, gain in gains]
        self._lp.setObjective(pulp.LpAffineExpression.from_list(terms))
        exactly = replace(settings, gap_tolerance=0.0)
        try:
            stats = model.run_solver(self._lp, settings=exactly, limit_seconds=limit_seconds)
        except pulp.PulpError:
            return None
        answer = self._read() if stats.has_solution else None
        if answer is None:
            return None
        bound = stats.best_bound
        if stats.status == pulp.constants.LpSolveStatus.Optimal and bound is None:
            bound = stats.objective
        most = sum(gain for _, gain in gains) if bound is None else math.floor(-bound + 1e-6) * unit
        return Expansion({job_id: takes for job_id, (_, takes) in answer.stands.items()}, most)
