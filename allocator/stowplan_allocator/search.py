"""The state of an exact solve, and the ways to change it.

What must stay true: ``spots`` and ``stock`` always hold one complete, feasible placement of
the jobs admitted so far; each change either succeeds whole or leaves them as they were, but
for cells that were cut finer, which changes no placement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stowplan_allocator import cells, greedy, model, objectives, packing, types
from stowplan_allocator.capacity import Capacity
from stowplan_allocator.problem import Problem, Request, Shape
from stowplan_allocator.stock import Stock
from stowplan_allocator.stopwatch import Stopwatch

WHOLE_CELL_SPLIT = 64
SHARE_OF_TIME = 0.6  # of what is left, for one solve
MAX_VARIABLES = 60_000
MAX_REFINED = 2_000  # nodes times shapes
SECONDS_PER_VARIABLE = 1e-4


class TooLarge(Exception):  # noqa: N818 - not an error: the tier is left as it is, and says so
    """A model is not worth building in the time that is left."""


@dataclass(slots=True)
class Search:
    """``kept`` are the tiers whose values every later solve keeps; ``coarse`` is the coarsened problem.

    ``squeezed`` counts the placements that ``squeezing`` has tried.
    """

    problem: Problem
    settings: types.Settings
    plan_deadline: float
    watch: Stopwatch
    deadline: float = field(init=False)
    coarse: Problem = field(init=False)
    coarse_rooms: Stock = field(init=False)
    rooms: Stock = field(init=False)
    stock: Stock = field(init=False)
    spots: dict[str, greedy.Spot] = field(default_factory=dict)
    kept: list[tuple[objectives.Tier, int]] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    undecided: set[str] = field(default_factory=set)
    results: list[types.TierResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    limits: Capacity = field(default_factory=Capacity)
    # How many jobs of the queue one solve looks at; fewer once so many took too long.
    chain_length: int = 1
    squeezed: int = 0

    def __post_init__(self) -> None:
        """Start from the empty placement."""
        self.deadline = self.plan_deadline
        self.rooms = greedy.new_stock(self.problem)
        self.stock = self.rooms.copy()
        self.coarse = cells.coarsen(self.problem)
        self.coarse_rooms = greedy.new_stock(self.coarse)

    def left(self) -> float:
        """Seconds until the time limit."""
        return self.deadline - time.monotonic()

    def limit(self, seconds: float) -> None:
        """Set what is left, within the time limit of the plan."""
        self.deadline = min(self.plan_deadline, time.monotonic() + seconds)

    def has_spent(self, request: Request) -> bool:
        """Whether the limits of its namespace leave no further such job, wherever those placed stand."""
        return self.stock.spare is not None and not self.stock.spare.fits(request.charges, request.num_pods)

    def give_up(self, request: int) -> None:
        """Leave a request out for this plan without proof."""
        self.refused.add(request)
        self.unsure.add(request)

    def numbers(self) -> dict[int, int]:
        """N_p: placed jobs by shape."""
        return {
            shape.index: objectives.num_placed(shape, spots=self.spots)
            for shape in objectives.placed_shapes(self.problem, spots=self.spots)
        }

    def admitted(self) -> dict[int, int]:
        """Placed jobs by request."""
        found: dict[int, int] = {}
        for index, number in self.numbers().items():
            request = self.problem.shapes[index].request.index
            found[request] = found.get(request, 0) + number
        return found

    def build(
        self,
        *,
        numbers: Mapping[int, int],
        chain: Sequence[int] = (),
        only_one: bool = False,
        phantoms: bool = False,
        coarse: bool = False,
        growth: int = 1,
        cuts: Mapping[int, packing.Cut] | None = None,
        sizes: Mapping[int, tuple[int, ...]] | None = None,
    ) -> model.Model:
        """A model that keeps the earlier tiers' values and starts from the current placement. May be too large.

        ``growth`` says how many times larger the caller's tiers will make it, and ``sizes`` what the jobs of
        elastic shapes may choose from.
        """
        problem = self.coarse if coarse else self.problem
        shapes = {index for index, number in numbers.items() if number} | set(chain)
        size = sum(len(problem.cells_of[problem.shapes[index].request.index]) for index in shapes)
        size *= growth
        if size > MAX_VARIABLES or size * SECONDS_PER_VARIABLE > self.left():
            raise TooLarge("a model was too large for the time left")
        rooms = self.coarse_rooms if coarse else self.rooms
        with self.watch.phase("build"):
            built = model.Model(
                problem,
                rooms=rooms,
                numbers=numbers,
                chain=chain,
                only_one=only_one,
                phantoms=phantoms,
                sizes=sizes,
                limits=self.limits,
            )
            for tier, value in self.kept:
                built.require(tier.terms(built), ">=" if tier.maximise else "<=", float(value - tier.offset))
            for cell, (d, amount) in (cuts or {}).items():
                built.require_at_most(cell, d=d, amount=amount)
            built.start_from(self._counts(problem))
        return built

    def solve(
        self, built: model.Model, *, terms: Sequence[model.Term], maximise: bool, share: float = SHARE_OF_TIME
    ) -> model.Solved:
        """Solve within a share of the time that is left."""
        limit = self.left() * share
        with self.watch.phase("solve"):
            return built.solve(terms, maximise=maximise, settings=self.settings, limit_seconds=limit)

    def relax(self, built: model.Model, *, terms: Sequence[model.Term], maximise: bool) -> model.Solved:
        """The linear relaxation, within a share of the time that is left."""
        limit = self.left() * SHARE_OF_TIME
        with self.watch.phase("solve"):
            return built.solve(terms, maximise=maximise, settings=self.settings, limit_seconds=limit, relaxed=True)

    def _counts(self, problem: Problem) -> dict[packing.Key, int]:
        """The current placement as blocks per shape and cell, to start a solver from."""
        cells_at: dict[int, list[int]] = {}
        for cell in problem.cells:
            for node in cell.nodes:
                cells_at.setdefault(node, []).append(cell.index)
        found: dict[packing.Key, int] = {}
        for job_id, spot in self.spots.items():
            shape = problem.shape_of[job_id]
            sizes = model.block_sizes(shape.request, num_levels=len(problem.levels))
            for node, pods in spot.takes:
                size = sizes[-1] if pods % sizes[-1] == 0 else 1
                index = next(i for i in cells_at[node] if shape.request.index in problem.cells[i].requests)
                key = (shape.index, index, size)
                found[key] = found.get(key, 0) + pods // size
        return found

    def adopt(self, counts: Mapping[packing.Key, int], *, numbers: Mapping[int, int]) -> dict[int, packing.Cut]:
        """Make the counts the current placement; or change nothing and name the cells that could not be filled."""
        packed = packing.pack(self.problem, counts=counts)
        if not packed.failed:
            self.spots = packing.deal(self.problem, packed=packed, numbers=numbers)
            self.stock = packed.stock
            greedy.recount(self.stock, spots=self.spots, problem=self.problem)
        return packed.failed

    def is_small(self, indexes: Iterable[int], *, numbers: Mapping[int, int]) -> bool:
        """Whether these cells may be cut into nodes without making the model much larger."""
        return sum(len(self.problem.cells[index].nodes) for index in indexes) * len(numbers) <= MAX_REFINED

    def refine(self, indexes: Iterable[int]) -> None:
        """Cut cells finer; a single node is exact and cannot be refuted by packing but for rounding."""
        parts: dict[int, list[tuple[int, ...]]] = {}
        for index in indexes:
            nodes = self.problem.cells[index].nodes
            if len(nodes) == 1:
                raise ArithmeticError("the solver's counts do not fit one node")
            ordered = sorted(nodes, key=lambda node: (self.problem.free[node], node))
            size = 1 if len(nodes) <= WHOLE_CELL_SPLIT else max(len(nodes) // 16, 1)
            parts[index] = [tuple(sorted(ordered[i : i + size])) for i in range(0, len(ordered), size)]
        self.problem = cells.split_cells(self.problem, cells=parts)
        self.rooms = greedy.new_stock(self.problem)
        members = [cell.nodes for cell in self.problem.cells]
        old = self.stock
        self.stock = Stock(
            members,
            free=old.free,
            sizes=self.problem.sizes,
            least=old.least,
            scarce=old.scarce,
            allowance=old.allowance,
            spare=old.spare,
        )

    def repack(self, chain: Sequence[Shape] = (), *, choices: Mapping[int, Sequence[greedy.Choice]]) -> bool:
        """Place everything anew, what is hard to place first, with the chain's jobs too; False changes nothing.

        ``choices`` are the products and domains to try first, by shape, as a coarse solution has them.
        """
        numbers = self.numbers()
        for shape in chain:
            numbers[shape.index] = numbers.get(shape.index, 0) + 1
        shapes = [self.problem.shapes[index] for index in numbers]
        hard = {shape.index: self._share(shape) for shape in shapes}
        orders: list[Callable[[Shape], tuple[float, ...]]] = [
            lambda shape: (hard[shape.index], shape.request.required, shape.request.num_pods),
            lambda shape: (shape.request.required, hard[shape.index] * shape.request.num_pods),
            lambda shape: (hard[shape.index] * shape.request.num_pods,),
        ]
        for order in orders:
            # mypy infers no type for a default argument of a lambda; without it the loop variable would be bound late.
            ranked = sorted(shapes, key=lambda shape, order=order: (*order(shape), -shape.index), reverse=True)  # type: ignore[misc]
            if self._place_all(ranked, numbers=numbers, choices=choices):
                return True
        return False

    def _place_all(
        self, shapes: Sequence[Shape], *, numbers: Mapping[int, int], choices: Mapping[int, Sequence[greedy.Choice]]
    ) -> bool:
        stock = self.rooms.copy()
        spots: dict[str, greedy.Spot] = {}
        for shape in shapes:
            first = choices.get(shape.index, ())
            for i, job in enumerate(shape.jobs[: numbers[shape.index]]):
                choice = first[i] if i < len(first) else None
                spot = greedy.place(shape.request, problem=self.problem, stock=stock, first=choice)
                if spot is None:
                    return False
                spots[job.id] = spot
        if not self.keeps(spots):
            return False
        self.spots, self.stock = spots, stock
        return True

    def keeps(self, spots: dict[str, greedy.Spot]) -> bool:
        """Whether a placement loses nothing in the tiers whose values are kept."""
        for tier, value in self.kept:
            now = tier.measure(spots)
            if now < value if tier.maximise else now > value:
                return False
        return True

    def _share(self, shape: Shape) -> float:
        """The share that a pod, or the block that must stay together, takes of the largest node."""
        _, block = greedy.block_of(shape.request, num_levels=len(self.problem.levels))
        return max(
            (need / most for need, most in zip(block, self.problem.largest, strict=True) if need and most), default=0.0
        )
