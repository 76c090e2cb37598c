"""The resource that runs out before the accelerators do, and how much of what is free pods can really take.

Where CPUs run out, two nodes with 47 and 50 of them are not alike for a pod of 20: beside it
the second still holds one of 30, and the first then holds nothing that fills it. What must stay
true: it only ranks nodes, and says nothing about what fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stowplan_allocator.problem import Problem, Vector

MAX_STEPS = 50_000  # of filling the table: a few milliseconds


@dataclass(frozen=True, slots=True)
class Scarce:
    """Resource ``d``; of so many units of it, pods can take ``reach[units]`` and no more."""

    d: int
    unit: int
    reach: tuple[int, ...]

    def wasted(self, room: Vector, *, left: Vector) -> int:
        """Units that pods could have taken of the room, and can take no longer: what was taken does not count."""
        d, unit = self.d, self.unit
        return self.reach[room[d] // unit] - self.reach[left[d] // unit] - (room[d] - left[d]) // unit


def find(problem: Problem) -> Scarce | None:
    """The scarcest resource; None where that is accelerators, nothing runs out, or pods take too many amounts."""
    wanted = [
        sum(shape.request.vector[d] * shape.request.num_pods * len(shape.jobs) for shape in problem.shapes)
        for d in range(len(problem.dims))
    ]
    nodes_worth = [amount / most if most else 0.0 for amount, most in zip(wanted, problem.largest, strict=True)]
    d = nodes_worth.index(max(nodes_worth))
    if d == 0 or wanted[d] <= sum(room[d] for room in problem.free):
        return None
    takes = sorted({request.vector[d] for request in problem.requests if request.vector[d]})
    unit = math.gcd(*takes)
    most = max(room[d] for room in problem.free) // unit
    if (most + 1) * len(takes) > MAX_STEPS:
        return None
    reach = [0] * (most + 1)
    for units in range(1, most + 1):
        reach[units] = max(
            (take // unit + reach[units - take // unit] for take in takes if take <= units * unit), default=0
        )
    return Scarce(d, unit, tuple(reach))
