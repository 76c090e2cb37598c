"""One more job by packing everything anew: whoever finds no place is served first in the next attempt.

What is left to try before a job is given up without proof: bounds, relaxations and packing by
size have said neither yes nor no. What must stay true: the placement is changed only where all
that stood before and the new job stand, and all tiers kept so far keep their values; and the
number of attempts depends on the problem and not on the clock.
"""

from __future__ import annotations

from stowplan_allocator import greedy
from stowplan_allocator.problem import Shape
from stowplan_allocator.search import Search

MAX_ATTEMPTS = 24
MAX_PLACED = 6_000  # placements of jobs in all attempts for one job together
MAX_PLACED_IN_PLAN = 60_000  # about a second


def squeeze(search: Search, *, shape: Shape) -> bool:
    """Place everything and one more job of the shape; False changes nothing."""
    shape_of = search.problem.shape_of
    order = [shape_of[job.id].index for job in search.problem.queue if job.id in search.spots]
    order.insert(0, shape.index)
    for _ in range(min(MAX_ATTEMPTS, MAX_PLACED // len(order))):
        search.squeezed += len(order)
        if search.left() <= 0 or search.squeezed > MAX_PLACED_IN_PLAN:
            return False
        failed = _attempt(search, order=order)
        if failed is None:
            return False
        if not failed:
            return True
        late = set(failed)
        order = [*(order[i] for i in failed), *(index for i, index in enumerate(order) if i not in late)]
    return False


def _attempt(search: Search, *, order: list[int]) -> list[int] | None:
    """Place one job after the other; the positions that found no place, or None where a kept tier would lose."""
    problem = search.problem
    stock = search.rooms.copy()
    spots: dict[str, greedy.Spot] = {}
    following = {index: iter(problem.shapes[index].jobs) for index in dict.fromkeys(order)}
    failed = []
    for position, index in enumerate(order):
        spot = greedy.place(problem.shapes[index].request, problem=problem, stock=stock)
        if spot is None:
            failed.append(position)
        else:
            spots[next(following[index]).id] = spot
    if not failed:
        if not search.keeps(spots):
            return None
        search.spots, search.stock = spots, stock
    return failed
