"""A bound on whole slots for the commonest plan of all: one job that arrives in a steady cluster.

The general bound knows how much is taken and not where, so that a solver had to be asked for
a single job. For one job inside one narrowest domain the least loss of each domain is easily
bounded. What must stay true: no placement of the job inside one domain loses less.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator

from stowplan_allocator import greedy, topology
from stowplan_allocator.problem import Path, Problem, Shape

MAX_DOMAINS = 4


def least_loss(problem: Problem, *, shape: Shape, spot: greedy.Spot, worth: Callable[[int], int]) -> int | None:
    """What the job costs in whole slots at least, where it may be; None where it stands in several domains."""
    request = shape.request
    size = request.vector[0]
    if not size or request.sizes or len({problem.paths[node] for node, _ in spot.takes}) > 1:
        return None
    losses = _losses(problem, shape=shape, num_pods=spot.num_pods, worth=worth)
    return math.ceil(min(losses.values(), default=0) - 1e-9)


def best_domains(
    problem: Problem, *, shape: Shape, spot: greedy.Spot, worth: Callable[[int], int]
) -> list[greedy.Choice]:
    """Where the job may lose the least, the first by name of equal ones."""
    if not shape.request.vector[0]:
        return []
    losses = _losses(problem, shape=shape, num_pods=spot.num_pods, worth=worth)
    ranked = sorted(losses, key=lambda path: (losses[path], topology.path_key(path)))
    return [(spot.product, path) for path in ranked[:MAX_DOMAINS]]


def _losses(problem: Problem, *, shape: Shape, num_pods: int, worth: Callable[[int], int]) -> dict[Path, float]:
    rooms: dict[Path, Counter[int]] = {}
    for index in problem.cells_of[shape.request.index]:
        cell = problem.cells[index]
        rooms.setdefault(cell.path, Counter()).update(problem.free[node][0] for node in cell.nodes)
    size = shape.request.vector[0]
    found = {path: _least(frees, num_pods=num_pods, size=size, worth=worth) for path, frees in rooms.items()}
    return {path: loss for path, loss in found.items() if loss is not None}


def _least(frees: Counter[int], *, num_pods: int, size: int, worth: Callable[[int], int]) -> float | None:
    """The sum of the smallest steps of all nodes: a node's steps grow, so that none is taken before a smaller one."""
    steps: list[tuple[float, int]] = []
    for free, number in frees.items():
        lost = [worth(free) - worth(free - size * pods) for pods in range(free // size + 1)]
        steps += [(step, pods * number) for step, pods in _hull(lost)]
    total, left = 0.0, num_pods
    for step, pods in sorted(steps):
        here = min(pods, left)
        total += step * here
        left -= here
    return None if left else total


def _hull(lost: list[int]) -> Iterator[tuple[float, int]]:
    """The steps of the largest convex function below the losses, by pods: (loss for each pod, pods)."""
    kept = [0]
    for pods in range(1, len(lost)):
        while len(kept) > 1 and _slope(lost, kept[-2], pods) <= _slope(lost, kept[-2], kept[-1]):
            kept.pop()
        kept.append(pods)
    for before, after in itertools.pairwise(kept):
        yield _slope(lost, before, after), after - before


def _slope(lost: list[int], before: int, after: int) -> float:
    return (lost[after] - lost[before]) / (after - before)
