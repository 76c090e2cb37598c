"""Fragmentation gradient descent: every pod goes where the room that the usual requests cannot use grows least.

The policy of "Beware of Fragmentation" (USENIX ATC'23) on the waiting jobs: the usual requests are those of the
queue, each as often as it has pods; ``fragmentation`` has the measure. A single pod that asks for no topology may
take any node of a product; a gang takes its domains as ``greedy`` does, and within each cell its nodes pod by pod.
What must stay true: nothing but the choice of nodes differs from ``greedy``; equal growth is decided by what greedy
would lose and then by the order of nodes; and the measure never costs more than the time limit, after which nodes
are chosen as greedy does, which the note then says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from stowplan_allocator import fairness, fragmentation, greedy, sizes, strategies, types
from stowplan_allocator.fragmentation import WHOLE, Room, Want
from stowplan_allocator.heuristics import ruler
from stowplan_allocator.problem import Cell, Problem, Request, Vector
from stowplan_allocator.stock import Stock, Take

# The most frequent requests count; the rest of a queue in which every job differs would only cost time.
MOST_WANTS = 64
# Growth in thousandths of an accelerator, rounded, so that what is equal but for rounding is equal.
DIGITS = 6

Offer = tuple[float, bool, tuple[int, ...], int, Vector]


def solve(problem: Problem, *, settings: types.Settings, deadline: float) -> strategies.Outcome:
    """One pass in queue order, each pod where fragmentation grows least."""
    stock = GradientStock(problem, deadline=deadline)
    spots: dict[str, greedy.Spot] = {}

    def place(request: Request) -> greedy.Spot | None:
        single = request.num_pods == 1 and request.level is None
        return (_place_single if single else greedy.place)(request, problem=problem, stock=stock)

    for band in fairness.bands(problem):
        strategies.fill(problem, jobs=band.jobs, spots=spots, place=place)
        for priority in band.priorities:
            jobs = [job for job in problem.queue if job.priority == priority]
            sizes.grow(problem, stock=stock, spots=spots, jobs=jobs, beyond_preferred=False)
    sizes.grow(problem, stock=stock, spots=spots, jobs=problem.queue, beyond_preferred=True)
    late = "the time limit ended the measuring of fragmentation, so another run may find another plan"
    return ruler.Ruler(problem).verdict(spots, settings=settings, notes=[late] if stock.late else [])


def _place_single(request: Request, *, problem: Problem, stock: GradientStock) -> greedy.Spot | None:
    """The best node of the first product that has one; of any product, where the job lists none."""
    options = greedy.within_quotas(request, options=greedy.cells_by_option(request, problem=problem), stock=stock)
    if not request.products:
        options = [("", [cell for _, cells in options for cell in cells])]
    for _, cells in options:
        take = stock.take_best(cells, request.vector)
        if take is not None:
            product = "" if request.any_product else problem.nodes[take[0]].product
            spot = greedy.Spot(product, [take])
            greedy.count(request, spot=spot, stock=stock)
            return spot
    return None


class GradientStock(Stock):
    """A stock that gives away the node whose fragmentation grows least."""

    def __init__(self, problem: Problem, *, deadline: float) -> None:
        allowance = None if problem.allowance is None else problem.allowance.copy()
        super().__init__(
            [cell.nodes for cell in problem.cells],
            free=problem.free,
            sizes=problem.sizes,
            allowance=allowance,
            spare=problem.spare(),
        )
        # Cells that the same requests may use measure alike.
        groups = {requests: str(i) for i, requests in enumerate(dict.fromkeys(cell.requests for cell in problem.cells))}
        self.late = False
        self._deadline = deadline
        self._kinds = [groups[cell.requests] for cell in problem.cells]
        self._plain = [not cell.has_accelerators for cell in problem.cells]
        self._wants = _wants(problem, kinds=groups)
        self._fragments: dict[tuple[str, Vector], float] = {}

    def take(self, cell: int, pod: Vector, count: int) -> list[Take]:
        """Place up to ``count`` such pods in the cell, one after the other."""
        taken: Counter[int] = Counter()
        for _ in range(count):
            offer = self._offer(cell, pod)
            if offer is None:
                break
            taken[self._accept(cell, offer, pod)] += 1
        return list(taken.items())

    def take_best(self, cells: Sequence[Cell], pod: Vector) -> Take | None:
        """Place one pod in one of the cells."""
        offers = [(offer, cell.index) for cell in cells if (offer := self._offer(cell.index, pod)) is not None]
        if not offers:
            return None
        offer, cell = min(offers)
        return self._accept(cell, offer, pod), 1

    def _offer(self, cell: int, pod: Vector) -> Offer | None:
        """The cell's best room: growth, whether it has accelerators that the pod does not want, greedy's loss."""
        offers = [
            (self._growth(cell, room, pod), not (pod[0] or self._plain[cell]), self._cost(room, pod), nodes[0], room)
            for room, nodes in self.buckets[cell].items()
            if self.slots_in(room, pod)
        ]
        return min(offers) if offers else None

    def _accept(self, cell: int, offer: Offer, pod: Vector) -> int:
        room = offer[-1]
        return self._move(cell, room, tuple(have - need for have, need in zip(room, pod, strict=True)))

    def _growth(self, cell: int, room: Vector, pod: Vector) -> float:
        self.late = self.late or time.monotonic() >= self._deadline
        if self.late:
            return 0.0
        left = tuple(have - need for have, need in zip(room, pod, strict=True))
        return round(self._fragmentation(cell, left) - self._fragmentation(cell, room), DIGITS)

    def _fragmentation(self, cell: int, room: Vector) -> float:
        """Remembered: rooms of equal amounts in cells of equal requests measure the same."""
        key = (self._kinds[cell], room)
        found = self._fragments.get(key)
        if found is None:
            measured = Room(self._kinds[cell], (WHOLE,) * room[0], room[1:])
            found = self._fragments[key] = fragmentation.expected(measured, wants=self._wants)
        return found


def _wants(problem: Problem, *, kinds: dict[frozenset[int], str]) -> tuple[Want, ...]:
    """The queue's most frequent requests, by pods."""
    pods: Counter[int] = Counter()
    for job in problem.queue:
        request = problem.shape_of[job.id].request
        pods[request.index] += request.num_pods
    wants = []
    for index, count in sorted(pods.items(), key=lambda item: (-item[1], item[0]))[:MOST_WANTS]:
        vector = problem.requests[index].vector
        allowed = frozenset(kind for requests, kind in kinds.items() if index in requests)
        wants.append(Want(vector[0], WHOLE, vector[1:], float(count), allowed))
    return fragmentation.weighted(wants)
