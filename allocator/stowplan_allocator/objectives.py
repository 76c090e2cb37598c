"""The tiers after admission: each one's terms in the model, and its value on a finished placement.

The two are written apart on purpose: the value that a certificate reports is measured on
nodes and jobs, not read from the model, so that a loss on the way from cells to nodes shows
as a gap. What must stay true: every tier's bound is valid for the measured value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stowplan_allocator import greedy, lone
from stowplan_allocator.model import Model, Term
from stowplan_allocator.problem import Cell, Problem, Request, Shape
from stowplan_allocator.stock import Stock

Spots = Mapping[str, greedy.Spot]


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier. In the model its value is ``offset`` plus the terms; ``easy_bound`` needs no solver.

    ``growth`` is about how many times larger the terms make a model.
    """

    name: str
    maximise: bool
    measure: Callable[[Spots], int]
    easy_bound: int
    terms: Callable[[Model], list[Term]]
    offset: int = 0
    uses_phantoms: bool = False
    growth: int = 1


def placed_shapes(problem: Problem, *, spots: Spots) -> list[Shape]:
    """The shapes with at least one job placed; the oldest is always among them."""
    return [shape for shape in problem.shapes if shape.jobs and shape.jobs[0].id in spots]


def num_placed(shape: Shape, *, spots: Spots) -> int:
    """How many jobs of the shape are placed."""
    return sum(job.id in spots for job in shape.jobs)


def goodput(
    problem: Problem, *, priority: int, spots: Spots, sizes: Mapping[int, tuple[int, ...]] | None = None
) -> Tier | None:
    """Goodput times accelerators of a pod of one priority's jobs; None where no job has a choice.

    ``sizes`` are the numbers of pods that the jobs of elastic shapes may choose from; all others keep theirs.
    """
    sizes = sizes or {}
    shapes = []
    best = 0
    weights: dict[int, int] = {}
    for shape in placed_shapes(problem, spots=spots):
        request = shape.request
        products = [product for product, _ in greedy.cells_by_option(request, problem=problem)]
        if shape.priority != priority or (shape.index not in sizes and (not request.products or len(products) < 2)):
            continue
        weight = weights[shape.index] = max(request.vector[0], 1)
        largest = max(sizes.get(shape.index, ()), default=request.num_pods)
        most = max(request.goodput(product, num_pods=largest) for product in products)
        best += num_placed(shape, spots=spots) * weight * most
        shapes.append(shape)
    if not shapes:
        return None

    def measure(spots: Spots) -> int:
        placed = ((shape, spots[job.id]) for shape in shapes for job in shape.jobs if job.id in spots)
        return sum(
            weights[shape.index] * shape.request.goodput(spot.product, num_pods=spot.num_pods) for shape, spot in placed
        )

    def terms(model: Model) -> list[Term]:
        return [
            (z, float(weights[shape.index] * shape.request.goodput(group.product, num_pods=k)))
            for shape in shapes
            for group in model.groups[shape.index]
            for k, z in group.z.items()
        ]

    return Tier(f"goodput at priority {priority}", True, measure, best, terms)


def whole_slots(problem: Problem, *, spots: Spots) -> Tier:
    """Leave what is free in few pieces: the value is free accelerators less the pieces that they form.

    A piece is a power of two, at most the largest that fits into the largest node. Pods
    that take no accelerator, nor a part of one, count one against it where they stand on a node that has some.
    """
    shapes = placed_shapes(problem, spots=spots)
    touched = sorted({index for shape in shapes for index in problem.cells_of[shape.request.index]})
    nodes = [node for index in touched for node in problem.cells[index].nodes]
    with_some = {
        node for index in touched if problem.cells[index].has_accelerators for node in problem.cells[index].nodes
    }
    strays = {shape.index for shape in shapes if not shape.request.has_devices}

    def worth(free: int) -> int:
        return _worth(free, largest=largest)

    largest = _largest_piece(problem)

    def measure(spots: Spots) -> int:
        taken: dict[int, int] = {}
        stray = 0
        for shape in shapes:
            size = shape.request.vector[0]
            for job in shape.jobs:
                if job.id in spots:
                    for node, pods in spots[job.id].takes:
                        taken[node] = taken.get(node, 0) + pods * size
                        stray += pods if shape.index in strays and node in with_some else 0
        # Only what is taken can change the worth of a node, and pods stand on touched nodes alone.
        lost = sum(worth(problem.free[node][0]) - worth(problem.free[node][0] - gone) for node, gone in taken.items())
        return untouched - lost - stray

    def terms(model: Model) -> list[Term]:
        found: list[Term] = [(e, float(size - 1)) for phantoms in model.e.values() for size, e in phantoms.items()]
        for (p, c, size), x in model.x.items():
            if p in strays and model.problem.cells[c].has_accelerators:
                found.append((x, -float(size)))
        return found

    untouched = sum(worth(problem.free[node][0]) for node in nodes)
    taken = sum(num_placed(shape, spots=spots) * shape.request.num_pods * shape.request.vector[0] for shape in shapes)
    free = sum(problem.free[node][0] for node in nodes)
    easy = min(untouched, worth(free - taken))
    if len(shapes) == 1 and num_placed(shapes[0], spots=spots) == 1:
        loss = lone.least_loss(problem, shape=shapes[0], spot=spots[shapes[0].jobs[0].id], worth=worth)
        easy = easy if loss is None else min(easy, untouched - loss)
    return Tier("whole slots", True, measure, easy, terms, uses_phantoms=True)


def try_best_domains(problem: Problem, *, rooms: Stock, spots: Spots) -> list[tuple[greedy.Spot, Stock]]:
    """For a plan of one job, other places where it may cost fewer whole slots, each with what is free beside it."""
    shapes = placed_shapes(problem, spots=spots)
    if len(shapes) != 1 or num_placed(shapes[0], spots=spots) != 1:
        return []
    [shape] = shapes
    largest = _largest_piece(problem)
    choices = lone.best_domains(
        problem, shape=shape, spot=spots[shape.jobs[0].id], worth=lambda free: _worth(free, largest=largest)
    )
    found = []
    for choice in choices:
        stock = rooms.copy()
        spot = greedy.place(shape.request, problem=problem, stock=stock, first=choice)
        if spot is not None:
            found.append((spot, stock))
    return found


def _largest_piece(problem: Problem) -> int:
    return max((size for size in problem.sizes if size & (size - 1) == 0), default=1)


def _worth(free: int, *, largest: int) -> int:
    return free - free // largest - (free % largest).bit_count()


def worth_of_cell(problem: Problem, *, cell: int, stock: Stock) -> int:
    """What the cell's nodes add to the value of ``whole_slots``, strays aside."""
    largest = _largest_piece(problem)
    return sum(_worth(stock.free[node][0], largest=largest) for node in problem.cells[cell].nodes)


def price(problem: Problem, *, spots: Spots) -> Tier | None:
    """What the taken share of the nodes costs, in millionths an hour; None where it cannot differ."""
    shapes = placed_shapes(problem, spots=spots)
    cells = sorted({index for shape in shapes for index in problem.cells_of[shape.request.index]})
    if len({problem.cells[index].price_per_hour_micros for index in cells}) < 2:
        return None
    whole: dict[tuple[str, int], tuple[int, int]] = {}
    for node in problem.nodes:
        accelerators, cpu = whole.get((node.product, node.price_per_hour_micros), (1, 1))
        whole[node.product, node.price_per_hour_micros] = (
            max(accelerators, node.allocatable.accelerators),
            max(cpu, node.allocatable.cpu_milli),
        )

    def of_pod(request: Request, *, product: str, per_hour: int) -> int:
        accelerators, cpu = whole[product, per_hour]
        if request.vector[0]:
            return per_hour * request.vector[0] // accelerators
        return per_hour * request.vector[1] // cpu

    def of_cell(request: Request, *, cell: Cell) -> int:
        return of_pod(request, product=cell.product, per_hour=cell.price_per_hour_micros)

    def measure(spots: Spots) -> int:
        total = 0
        for shape in shapes:
            for job in shape.jobs:
                for node, pods in spots[job.id].takes if job.id in spots else ():
                    at = problem.nodes[node]
                    total += pods * of_pod(shape.request, product=at.product, per_hour=at.price_per_hour_micros)
        return total

    def terms(model: Model) -> list[Term]:
        return [
            (x, float(size * of_cell(model.problem.shapes[p].request, cell=model.problem.cells[c])))
            for (p, c, size), x in model.x.items()
        ]

    easy = sum(
        num_placed(shape, spots=spots)
        * shape.request.num_pods
        * min(of_cell(shape.request, cell=problem.cells[index]) for index in problem.cells_of[shape.request.index])
        for shape in shapes
    )
    return Tier("price", False, measure, easy, terms)
