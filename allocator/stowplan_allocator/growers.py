"""Running jobs that could grow: their larger sizes, the state in which some have, and the most that all could gain.

What must stay true: ``bound`` is never less than what any choice of sizes gains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stowplan_allocator import types
from stowplan_allocator.gangs import Gang
from stowplan_allocator.namespaces import Spare
from stowplan_allocator.problem import Request, Vector
from stowplan_allocator.quotas import Allowance
from stowplan_allocator.stock import Take


@dataclass(frozen=True, slots=True)
class Size:
    """A larger size of a job: the gang that it would be, and what it gains.

    ``has_room``: it fits even if the job keeps the place that it has.
    """

    gang: Gang
    has_room: bool
    gain: int = 0


@dataclass(frozen=True, slots=True)
class Grower:
    """A job that could grow: where it stands, and its larger sizes."""

    job: types.Job
    request: Request
    product: str
    takes: list[Take]
    now: int
    sizes: Mapping[int, Size]

    @property
    def cost(self) -> int:
        """What its restart loses."""
        return self.job.resize_cost or 0

    def net(self, size: int) -> int:
        """What it gains at a size, less what the restart loses; nothing at the size that it has."""
        return self.sizes[size].gain - self.cost if size != self.now else 0


@dataclass(slots=True)
class State:
    """What is free beside everybody, where those stand who have grown, and all nodes that they have left or taken."""

    rooms: list[Vector]
    allowance: Allowance | None
    spare: Spare | None
    takes: dict[str, list[Take]] = field(default_factory=dict)
    changed: frozenset[int] = frozenset()

    def size_of(self, grower: Grower) -> int:
        """How many pods the job has by now."""
        takes = self.takes.get(grower.job.id)
        return grower.now if takes is None else pods_of(takes)


def bound(growers: Iterable[Grower], *, free: int) -> int:
    """No more than that can be gained: ``free`` accelerators in parts, each to the step that gains most with it."""
    steps: list[tuple[float, int, int]] = []
    most = 0
    for grower in growers:
        each = grower.request.vector[0]
        points = [(0, 0), *(((size - grower.now) * each, grower.net(size)) for size in grower.sizes)]
        if not each:
            most += max(net for _, net in points)
            continue
        while len(points) > 1:
            # The next corner of the hull: what gains most for each accelerator from here on.
            taken, gained = points[0]
            corner = max(points[1:], key=lambda at: ((at[1] - gained) / (at[0] - taken), at[0]))
            if corner[1] <= gained:
                break
            steps.append(((corner[1] - gained) / (corner[0] - taken), corner[0] - taken, corner[1] - gained))
            points = points[points.index(corner) :]
    part = 0.0
    for _, amount, gain in sorted(steps, reverse=True):
        here = min(amount, free)
        part += gain * here / amount
        free -= here
    return most + math.floor(part + 1e-6)


def pods_of(takes: list[Take]) -> int:
    """All pods there."""
    return sum(pods for _, pods in takes)


def given(rooms: list[Vector], *, takes: list[Take], pod: Vector, factor: int) -> list[Vector]:
    """The rooms with these pods given back, or taken."""
    found = list(rooms)
    for node, pods in takes:
        found[node] = tuple(have + factor * pods * need for have, need in zip(found[node], pod, strict=True))
    return found
