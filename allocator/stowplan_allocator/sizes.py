"""Elastic jobs: how a job that was admitted at its smallest size grows, and the problem with sizes chosen.

Everybody is admitted at the smallest allowed size first, so that no size costs anyone his
place; then the jobs of a priority grow up to their preferred sizes, before the next priority
is looked at; and what is left after everybody is admitted goes to larger allowed sizes. What
must stay true: a job only ever has an allowed size; growing takes nothing from any other job;
and once sizes are chosen, the problem is one of jobs of one size each, which is all that
later tiers see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stowplan_allocator import greedy, types
from stowplan_allocator.cells import cells_of
from stowplan_allocator.problem import Problem, Request, Shape
from stowplan_allocator.stock import Stock


def resolve(problem: Problem, *, chosen: Mapping[str, int]) -> Problem:
    """The same problem with some placed jobs (by id) fixed at a size, each size of a shape a shape of its own.

    Old requests and shapes keep their numbers; a shape may be left without jobs.
    """
    requests = list(problem.requests)
    shapes = list(problem.shapes)
    shape_of = dict(problem.shape_of)
    cells = problem.cells
    known: dict[tuple[int, int], Request] = {}
    for shape in problem.shapes:
        by_size: dict[int, list[types.Job]] = {}
        for job in shape.jobs:
            if job.id in chosen:
                by_size.setdefault(chosen[job.id], []).append(job)
        if not by_size:
            continue
        shapes[shape.index] = replace(shape, jobs=tuple(job for job in shape.jobs if job.id not in chosen))
        for size, jobs in sorted(by_size.items(), reverse=True):
            request = known.get((shape.request.index, size))
            if request is None:
                request = replace(shape.request, index=len(requests), first=len(requests), num_pods=size)
                known[shape.request.index, size] = request
                requests.append(request)
            fixed = Shape(len(shapes), request, shape.priority, tuple(jobs))
            shapes.append(fixed)
            shape_of |= dict.fromkeys((job.id for job in jobs), fixed)
    copies: dict[int, set[int]] = {}
    for (old, _), request in known.items():
        copies.setdefault(old, set()).add(request.index)
    if copies:
        cells = tuple(
            replace(cell, requests=cell.requests.union(*(copies[old] for old in cell.requests & copies.keys())))
            for cell in cells
        )
    return replace(
        problem,
        requests=tuple(requests),
        shapes=tuple(shapes),
        shape_of=shape_of,
        cells=cells,
        cells_of=cells_of(tuple(requests), cells=cells),
    )


def grow(
    problem: Problem,
    *,
    stock: Stock,
    spots: dict[str, greedy.Spot],
    jobs: Sequence[types.Job],
    beyond_preferred: bool,
) -> None:
    """Let the placed elastic jobs grow one after the other, each as far as the stock allows, the first most."""
    cell_of: dict[int, int] = {}
    for job in jobs:
        spot = spots.get(job.id)
        request = problem.shape_of[job.id].request
        larger = request.larger_sizes(beyond_preferred=beyond_preferred)
        if spot is None or not larger:
            continue
        cell_of = cell_of or {node: cell.index for cell in problem.cells for node in cell.nodes}
        _give_back(request, spot=spot, stock=stock, cell_of=cell_of)
        found = _largest(request, sizes=larger, problem=problem, stock=stock, cell_of=cell_of)
        if found is not None and _goodput(request, spot=found) > _goodput(request, spot=spot):
            spots[job.id] = found
        else:
            if found is not None:
                _give_back(request, spot=found, stock=stock, cell_of=cell_of)
            for node, pods in spot.takes:
                stock.take_on(cell_of[node], node, request.vector, pods)
            greedy.count(request, spot=spot, stock=stock)


def _largest(
    request: Request, *, sizes: Sequence[int], problem: Problem, stock: Stock, cell_of: Mapping[int, int]
) -> greedy.Spot | None:
    """The place of the largest size that fits, taken from the stock: by bisection, as less fits where more does."""
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        trial = greedy.place(replace(request, num_pods=sizes[middle]), problem=problem, stock=stock)
        if trial is None:
            high = middle
        else:
            _give_back(request, spot=trial, stock=stock, cell_of=cell_of)
            low = middle + 1
    return greedy.place(replace(request, num_pods=sizes[low - 1]), problem=problem, stock=stock) if low else None


def _give_back(request: Request, *, spot: greedy.Spot, stock: Stock, cell_of: Mapping[int, int]) -> None:
    for take in spot.takes:
        stock.give_back(cell_of[take[0]], request.vector, [take])
    greedy.count(request, spot=spot, stock=stock, sign=-1)


def _goodput(request: Request, *, spot: greedy.Spot) -> int:
    return request.goodput(spot.product, num_pods=spot.num_pods)
