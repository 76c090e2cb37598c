"""The walk through the queue that strategies with their own way of making room share.

What must stay true: jobs are served in queue order; nobody is placed on room that one before
him could have; a request that was refused stays refused, because room only shrinks, and it
counts as proven only where a bound or the strategy itself has shown it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from stowplan_allocator import fairness, greedy, growing, objectives, squeezing, strategies, tiers, types
from stowplan_allocator.bounds import Bounds
from stowplan_allocator.heuristics import ruler
from stowplan_allocator.problem import Problem, Shape
from stowplan_allocator.search import Search

CHAIN_LENGTH = 200

# Place a prefix of these next jobs, moving what is placed: how many were placed, and the request of the one behind
# them if it is proven that it cannot fit beside them.
MakeRoom = Callable[[Search, Sequence[Shape]], tuple[int, int | None]]


class ChooseProducts(Protocol):
    """Improve the goodput of what is placed; the bound on it that was proven."""

    def __call__(self, search: Search, *, tier: objectives.Tier) -> int | None:
        """Improve or leave as it is."""


def admit_all(
    search: Search,
    *,
    make_room: MakeRoom,
    choose_sizes: growing.Attempt | None = None,
    choose_products: ChooseProducts | None = None,
) -> None:
    """Every priority in turn: admission, then sizes and products; at last sizes beyond the preferred ones."""
    attempts = [] if choose_sizes is None else [choose_sizes]
    limits = Bounds(search.problem)
    for band in fairness.bands(search.problem):
        admit(search, jobs=band.jobs, limits=limits, make_room=make_room)
        for priority in band.priorities:
            if growing.improve(search, priority=priority, attempts=attempts):
                limits = Bounds(search.problem)
                continue
            tier = objectives.goodput(search.problem, priority=priority, spots=search.spots)
            if tier is not None:
                bound = None if choose_products is None else choose_products(search, tier=tier)
                value = tier.measure(search.spots)
                bound = tier.easy_bound if bound is None else bound
                search.results.append(tiers.result(tier, value=value, bound=bound, settings=search.settings))
                search.kept.append((tier, value))
    for priority in ruler.priorities(search.problem):
        growing.improve(search, priority=priority, beyond_preferred=True, attempts=attempts)


def verdict(search: Search, *, problem: Problem) -> strategies.Outcome:
    """The outcome of a walk through the problem as it was before sizes were chosen."""
    return ruler.Ruler(problem).verdict(
        search.spots,
        settings=search.settings,
        notes=search.notes,
        refused=search.refused - search.unsure,
        # What bounds growth holds for jobs at the sizes chosen before, the ruler's measure is of all of them.
        proven={result.name: result.bound for result in search.results if result.name.startswith("goodput")},
    )


def admit(search: Search, *, jobs: Sequence[types.Job], limits: Bounds, make_room: MakeRoom) -> None:
    """Place the jobs of one band in their turns: greedily, and where that fails by making room."""
    shape_of = search.problem.shape_of
    turns = fairness.turns(search.problem, jobs)
    while (job := turns.head()) is not None:
        request = shape_of[job.id].request
        if request.index in search.refused:
            turns.serve(job, None)
            continue
        spot = greedy.place(request, problem=search.problem, stock=search.stock)
        if spot is not None:
            search.spots[job.id] = spot
            turns.serve(job, spot)
            continue
        if turns.refuses(job) or search.has_spent(request):
            search.refused.add(request.index)
            continue
        if limits.cannot_fit(request, admitted=search.admitted()):
            search.refused.update(search.problem.twins(request))
            continue
        if search.left() <= 0:
            search.notes.append("the time limit ended the search, so another run may find another plan")
            search.give_up(request.index)
            continue
        ahead = turns.ahead(most=CHAIN_LENGTH, refused=search.refused, problem=search.problem, spare=search.stock.spare)
        placed, refused = make_room(search, [shape_of[other.id] for other in ahead])
        for other in ahead[:placed]:
            turns.serve(other, search.spots[other.id])
        if refused is not None:
            search.refused.add(refused)
        elif not placed:
            if squeezing.squeeze(search, shape=shape_of[job.id]):
                turns.serve(job, search.spots[job.id])
            else:
                search.give_up(request.index)
        turns.recount(search.spots)
