"""The exact strategy: admission in queue order with proofs, then the lower tiers.

Admission is lexicographic: a job starts if and only if it fits beside all jobs before it in
the queue (priority, then age, then id), however those are placed. No weights are needed for
that. Jobs are added greedily; where greed fails, first the bounds try to prove that the job
cannot fit, then the model places the longest possible prefix of what is next in the queue,
which either moves everything so that the job fits or proves that it does not. A request
once refused stays refused, since room only shrinks, so there are at most as many refusals to
prove as different requests, and thousands of jobs need no more solves than dozens.

Within one priority, goodput comes after admission and before the next priority, so that a
job of lower priority never costs a higher one its product. The other tiers follow for all
jobs together, each keeping the values of those before.

What must stay true: ``state`` always holds a complete, feasible placement; a tier is called
optimal only if its measured value meets a proven bound; every solve gets only time that is
left; and where packing refutes a solution, the cells concerned are cut finer and the model
is solved again, so that proofs stay proofs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulp

from stowplan_allocator import bounds, greedy, model, objectives, packing, spans, types
from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Problem, Shape
from stowplan_allocator.stock import Stock

CHAIN_LENGTH = 200
WHOLE_CELL_SPLIT = 64
MAX_ROUNDS = 6
MAX_VARIABLES = 60_000
SECONDS_PER_VARIABLE = 4e-5


@dataclass(slots=True)
class Search:
    """The state of one exact solve. ``spots`` and ``stock`` always agree."""

    problem: Problem
    settings: types.Settings
    deadline: float
    rooms: Stock = field(init=False)
    stock: Stock = field(init=False)
    spots: dict[str, greedy.Spot] = field(default_factory=dict)
    undecided: set[str] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    results: list[types.TierResult] = field(default_factory=list)
    kept: list[tuple[objectives.Tier, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_solves: int = 0

    def __post_init__(self) -> None:
        """Start from the empty placement."""
        self.rooms = greedy.new_stock(self.problem)
        self.stock = self.rooms.copy()

    def left(self) -> float:
        """Seconds until the time limit."""
        return self.deadline - time.monotonic()

    def numbers(self) -> dict[int, int]:
        """N_p: placed jobs by shape."""
        return {
            shape.index: objectives.num_placed(shape, spots=self.spots)
            for shape in objectives.placed_shapes(self.problem, spots=self.spots)
        }

    def counts(self) -> dict[packing.Key, int]:
        """The current placement as blocks per shape and cell, to start a solver from."""
        cell_of = {node: cell.index for cell in self.problem.cells for node in cell.nodes}
        found: dict[packing.Key, int] = {}
        for job_id, spot in self.spots.items():
            shape = self.problem.shape_of[job_id]
            sizes = model.block_sizes(shape.request, num_levels=len(self.problem.levels))
            for node, pods in spot.takes:
                size = sizes[-1] if pods % sizes[-1] == 0 else 1
                key = (shape.index, cell_of[node], size)
                found[key] = found.get(key, 0) + pods // size
        return found

    def adopt(self, counts: Mapping[packing.Key, int], *, numbers: Mapping[int, int]) -> bool:
        """Make the counts the current placement, or cut the cells that could not be filled and return False."""
        packed = packing.pack(self.problem, counts=counts)
        if not packed.failed:
            self.spots = packing.deal(self.problem, packed=packed, numbers=numbers)
            self.stock = packed.stock
            return True
        self.refine(packed.failed)
        return False

    def refine(self, cells: Sequence[int]) -> None:
        """Cut cells finer; a single node is exact and cannot be refuted by packing but for rounding."""
        parts: dict[int, list[tuple[int, ...]]] = {}
        for index in cells:
            nodes = self.problem.cells[index].nodes
            if len(nodes) == 1:
                raise ArithmeticError("the solver's counts do not fit one node")
            ordered = sorted(nodes, key=lambda node: (self.problem.free[node], node))
            size = 1 if len(nodes) <= WHOLE_CELL_SPLIT else max(len(nodes) // 16, 1)
            parts[index] = [tuple(sorted(ordered[i : i + size])) for i in range(0, len(ordered), size)]
        self.problem = problems.split_cells(self.problem, cells=parts)
        self.rooms = greedy.new_stock(self.problem)
        members = [cell.nodes for cell in self.problem.cells]
        self.stock = Stock(members, free=self.stock.free, sizes=self.problem.sizes)

    def build(self, *, numbers: Mapping[int, int], chain: Sequence[int] = (), phantoms: bool = False) -> model.Model:
        """A model that keeps the earlier tiers' values, starting from the current placement. May be too large."""
        shapes = {index for index, number in numbers.items() if number} | set(chain)
        size = sum(len(self.problem.cells_of[self.problem.shapes[index].request.index]) for index in shapes)
        if size > MAX_VARIABLES or size * SECONDS_PER_VARIABLE > self.left():
            raise TooLarge(f"a model of {size} variables is too large for the time left")
        built = model.Model(self.problem, rooms=self.rooms, numbers=numbers, chain=chain, phantoms=phantoms)
        for tier, value in self.kept:
            built.require(tier.terms(built), ">=" if tier.maximise else "<=", float(value - tier.offset))
        built.start_from(self.counts())
        return built


class TooLarge(Exception):  # noqa: N818 - not an error: the tier is left as it is, and says so
    """A model is not worth building in the time that is left."""


def solve(problem: Problem, *, settings: types.Settings, deadline: float) -> Search:
    """Run all tiers; the search holds the best placement found and what is proven about it."""
    search = Search(problem, settings, deadline)
    limits = bounds.Bounds(problem)
    for priority in sorted({shape.priority for shape in problem.shapes}, reverse=True):
        jobs = [job for job in problem.queue if job.priority == priority]
        _admit(search, jobs=jobs, priority=priority, limits=limits)
        tier = objectives.goodput(search.problem, priority=priority, spots=search.spots)
        if tier is not None:
            _improve(search, tiers=[tier])
    if search.spots:
        rest = spans.tiers(search.problem, rooms=search.rooms, spots=search.spots)
        rest.append(objectives.whole_slots(search.problem, spots=search.spots))
        price = objectives.price(search.problem, spots=search.spots)
        _improve(search, tiers=[*rest, *([price] if price is not None else [])])
    return search


def _admit(
    search: Search,
    *,
    jobs: Sequence[types.Job],
    priority: int,
    limits: bounds.Bounds,
) -> None:
    """Place the longest possible queue of one priority, job by job, with a proof for every job left out."""
    shape_of = search.problem.shape_of
    position = 0
    while position < len(jobs):
        job = jobs[position]
        request = shape_of[job.id].request
        if request.index in search.refused:
            position += 1
            continue
        spot = greedy.place(request, problem=search.problem, stock=search.stock)
        if spot is not None:
            search.spots[job.id] = spot
            position += 1
            continue
        if limits.cannot_fit(request, admitted=_admitted(search)):
            search.refused.add(request.index)
            continue
        ahead = [other for other in jobs[position:] if shape_of[other.id].request.index not in search.refused]
        chain = [shape_of[other.id] for other in ahead[:CHAIN_LENGTH]]
        placed, proven = _place_chain(search, chain=chain)
        if placed:
            # The chain skips refused requests: walk on to just behind what it placed.
            position = jobs.index(ahead[placed - 1], position) + 1
        if placed < len(chain):
            # Proven for the next of the chain; otherwise given up for this plan, and said so.
            search.refused.add(chain[placed].request.index)
            if not proven:
                search.unsure.add(chain[placed].request.index)
    placed_here = sum(job.id in search.spots for job in jobs)
    undecided = {
        job.id for job in jobs if job.id not in search.spots and shape_of[job.id].request.index in search.unsure
    }
    search.undecided |= undecided
    open_here = len(undecided)
    bound = placed_here + open_here
    search.results.append(
        types.TierResult(
            name=f"admit at priority {priority}",
            value=float(placed_here),
            bound=float(bound),
            gap=open_here / bound if bound else 0.0,
            status=types.SolveStatus.FEASIBLE if open_here else types.SolveStatus.OPTIMAL,
        )
    )


def _admitted(search: Search) -> dict[int, int]:
    found: dict[int, int] = {}
    for index, number in search.numbers().items():
        request = search.problem.shapes[index].request.index
        found[request] = found.get(request, 0) + number
    return found


def _place_chain(search: Search, *, chain: Sequence[Shape]) -> tuple[int, bool]:
    """Place as long a prefix of the chain as possible, moving anything; how many, and whether that is proven."""
    numbers = search.numbers()
    indexes = [shape.index for shape in chain]
    try:
        while True:
            built = search.build(numbers=numbers, chain=indexes)
            search.num_solves += 1
            solved = built.solve(
                [(y, 1.0) for y in built.y],
                maximise=True,
                settings=search.settings,
                limit_seconds=search.left() / 2,
            )
            if solved.value is None:
                return 0, solved.infeasible
            length = built.chain_length()
            if length == 0:
                return 0, solved.bound == 0
            more = dict(numbers)
            for index in indexes[:length]:
                more[index] = more.get(index, 0) + 1
            if search.adopt(built.counts(), numbers=more):
                return length, solved.bound == length
    except TooLarge as error:
        search.notes.append(str(error))
    except (ArithmeticError, pulp.PulpError) as error:
        search.notes.append(f"solver: {error}")
    return 0, False


def _improve(search: Search, *, tiers: Sequence[objectives.Tier]) -> None:
    """Solve tiers one after the other with the placed jobs fixed; keep the result if it packs and is better."""
    proven: dict[str, int | None] = {}
    for _ in range(MAX_ROUNDS):
        solution = _solve_tiers(search, tiers=tiers, proven=proven)
        if solution is None or search.left() <= 0:
            break
        counts, promised = solution
        before = [tier.measure(search.spots) for tier in tiers]
        spots, stock = search.spots, search.stock
        try:
            if not search.adopt(counts, numbers=search.numbers()):
                continue
            short = [
                index
                for index, worth in promised.items()
                if objectives.worth_of_cell(search.problem, cell=index, stock=search.stock) < worth
                and 1 < len(search.problem.cells[index].nodes) <= WHOLE_CELL_SPLIT
            ]
            after = [tier.measure(search.spots) for tier in tiers]
            if not _better(tiers, after=after, before=before):
                search.spots, search.stock = spots, stock
            if not short:
                break
            search.refine(short)
        except ArithmeticError as error:
            search.notes.append(f"solver: {error}")
            break
    for tier in tiers:
        value = tier.measure(search.spots)
        search.results.append(_result(tier, value=value, bound=proven.get(tier.name), settings=search.settings))
        search.kept.append((tier, value))


def _better(tiers: Sequence[objectives.Tier], *, after: Sequence[int], before: Sequence[int]) -> bool:
    """Whether the first tier that differs got better."""
    for tier, new, old in zip(tiers, after, before, strict=True):
        if new != old:
            return (new > old) is tier.maximise
    return False


def _solve_tiers(
    search: Search, *, tiers: Sequence[objectives.Tier], proven: dict[str, int | None]
) -> tuple[dict[packing.Key, int], dict[int, int]] | None:
    """Bounds of all tiers into ``proven``; counts and whole slots of the last one solved, or None."""
    built: model.Model | None = None
    solution: tuple[dict[packing.Key, int], dict[int, int]] | None = None
    try:
        for position, tier in enumerate(tiers):
            current = tier.measure(search.spots)
            if built is None:
                proven[tier.name] = tier.easy_bound
                if current == tier.easy_bound:
                    continue
                built = search.build(numbers=search.numbers(), phantoms=True)
                for earlier in tiers[:position]:
                    value = earlier.measure(search.spots) - earlier.offset
                    built.require(earlier.terms(built), ">=" if earlier.maximise else "<=", float(value))
            terms = tier.terms(built)
            if not terms:
                proven[tier.name] = tier.offset
                continue
            search.num_solves += 1
            solved = built.solve(
                terms, maximise=tier.maximise, settings=search.settings, limit_seconds=search.left() * 0.9
            )
            proven[tier.name] = None if solved.bound is None else solved.bound + tier.offset
            if solved.value is None:
                break
            solution = built.counts(), built.whole_slots()
            built.require(terms, ">=" if tier.maximise else "<=", float(solved.value))
    except TooLarge as error:
        search.notes.append(str(error))
    except (ArithmeticError, pulp.PulpError) as error:
        search.notes.append(f"solver: {error}")
    return solution


def _result(tier: objectives.Tier, *, value: int, bound: int | None, settings: types.Settings) -> types.TierResult:
    if bound is None:
        bound = tier.easy_bound
    elif tier.maximise:
        bound = min(bound, tier.easy_bound)
    else:
        bound = max(bound, tier.easy_bound)
    gap = abs(bound - value) / max(abs(value), 1)
    proven = gap <= settings.gap_tolerance
    return types.TierResult(
        name=tier.name,
        value=float(value),
        bound=float(bound),
        gap=gap,
        status=types.SolveStatus.OPTIMAL if proven else types.SolveStatus.FEASIBLE,
    )
