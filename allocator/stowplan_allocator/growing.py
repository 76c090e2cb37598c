"""The sizes of elastic jobs in the exact strategy: as much goodput as fits, proven.

The placed jobs of one priority stand at their smallest sizes (or at those chosen before); here
they grow, first greedily, then by the model, in which each shape has jobs z_{p,g,k} of every
size k on offer. What must stay true: every job placed before stays placed, all jobs of other
shapes keep their sizes, and afterwards every size is fixed, in a problem in which each size of
a shape is a shape of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pulp

from stowplan_allocator import cells, greedy, model, objectives, packing, sizes, tiers
from stowplan_allocator.problem import Problem
from stowplan_allocator.search import Search, TooLarge
from stowplan_allocator.stock import Stock

MAX_ROUNDS = 4

Offers = Mapping[int, tuple[int, ...]]  # shape index to the sizes that its jobs may choose from


@dataclass(frozen=True, slots=True)
class State:
    """One complete placement and the problem that it is a placement of."""

    problem: Problem
    rooms: Stock
    stock: Stock
    spots: dict[str, greedy.Spot]


class Attempt(Protocol):
    """A way to choose sizes: a state, and a bound on the tier's value."""

    def __call__(self, search: Search, *, tier: objectives.Tier, offers: Offers) -> tuple[State | None, int | None]:
        """Try; ``search`` is afterwards as it was."""


def improve(
    search: Search, *, priority: int, beyond_preferred: bool = False, attempts: Sequence[Attempt] | None = None
) -> bool:
    """Choose sizes for the elastic jobs of one priority, and products for all of them; False where there are none.

    ``attempts`` follow the greedy way until one meets the bound; by default those that end with a proof.
    """
    offers = {
        shape.index: (shape.request.num_pods, *larger)
        for shape in search.problem.shapes
        if shape.priority == priority
        and (larger := shape.request.larger_sizes(beyond_preferred=beyond_preferred))
        and shape.jobs
        and shape.jobs[0].id in search.spots
    }
    tier = objectives.goodput(search.problem, priority=priority, spots=search.spots, sizes=offers) if offers else None
    if tier is None:
        return False
    best = _by_greed(search, offers=offers, beyond_preferred=beyond_preferred)
    bound = tier.easy_bound
    for attempt in (_coarsely, _exactly) if attempts is None else attempts:
        if tier.measure(best.spots) < bound:
            found, proven = attempt(search, tier=tier, offers=offers)
            bound = bound if proven is None else min(bound, proven)
            if found is not None and tier.measure(found.spots) > tier.measure(best.spots):
                best = found
    restore(search, state=best)
    search.coarse = cells.coarsen(search.problem)
    search.coarse_rooms = greedy.new_stock(search.coarse)
    value = tier.measure(search.spots)
    noted = tiers.result(tier, value=value, bound=bound, settings=search.settings)
    if beyond_preferred:
        noted = replace(noted, name=f"growth at priority {priority}")
    search.results.append(noted)
    search.kept = [kept for kept in search.kept if kept[0].name != tier.name]
    fixed = objectives.goodput(search.problem, priority=priority, spots=search.spots)
    if fixed is not None:
        search.kept.append((fixed, fixed.measure(search.spots)))
    return True


def state_of(search: Search) -> State:
    """What ``restore`` brings back."""
    return State(search.problem, search.rooms, search.stock, search.spots)


def restore(search: Search, *, state: State) -> None:
    """Make this the search's placement and problem."""
    search.problem, search.rooms, search.stock, search.spots = state.problem, state.rooms, state.stock, state.spots


def _by_greed(search: Search, *, offers: Offers, beyond_preferred: bool) -> State:
    problem, stock, spots = search.problem, search.stock.copy(), dict(search.spots)
    jobs = [job for job in problem.queue if problem.shape_of[job.id].index in offers and job.id in spots]
    sizes.grow(problem, stock=stock, spots=spots, jobs=jobs, beyond_preferred=beyond_preferred)
    chosen = {job.id: spots[job.id].num_pods for job in jobs}
    return State(sizes.resolve(problem, chosen=chosen), search.rooms, stock, spots)


def _coarsely(search: Search, *, tier: objectives.Tier, offers: Offers) -> tuple[State | None, int | None]:
    """A bound from the coarsened problem, and often a placement: all packed anew in the sizes of its solution."""
    before = state_of(search)
    try:
        built = search.build(numbers=search.numbers(), coarse=True, sizes=offers)
        solved = search.solve(built, terms=tier.terms(built), maximise=True)
    except (TooLarge, pulp.PulpError) as error:
        search.notes.append(str(error))
        return None, None
    if solved.value is None:
        return None, solved.bound
    chosen, choices = _assign(search, built=built, offers=offers)
    search.problem = sizes.resolve(before.problem, chosen=chosen)
    first: dict[int, list[greedy.Choice]] = {}
    for job in before.problem.queue:
        if job.id in choices:
            first.setdefault(search.problem.shape_of[job.id].index, []).append(choices[job.id])
    found = state_of(search) if search.repack(choices=first) else None
    restore(search, state=before)
    return found, solved.bound


def _exactly(search: Search, *, tier: objectives.Tier, offers: Offers) -> tuple[State | None, int | None]:
    """The full model, its counts packed; where they do not pack, cells are cut finer or limited, as for other tiers."""
    cuts: dict[int, packing.Cut] = {}
    bound: int | None = None
    try:
        for _ in range(MAX_ROUNDS):
            before = state_of(search)
            built = search.build(numbers=search.numbers(), cuts=cuts, sizes=offers)
            solved = search.solve(built, terms=tier.terms(built), maximise=True)
            if not cuts:
                bound = solved.bound
            if solved.value is None:
                break
            chosen, _ = _assign(search, built=built, offers=offers)
            search.problem = sizes.resolve(before.problem, chosen=chosen)
            counts = _split_counts(built, offers=offers, before=before.problem, chosen=chosen, after=search.problem)
            failed = search.adopt(counts, numbers=search.numbers())
            found = state_of(search)
            restore(search, state=before)
            if not failed:
                return found, bound
            if search.is_small(failed, numbers=search.numbers()):
                search.refine(failed)
                cuts = {}
            else:
                cuts |= failed
    except (TooLarge, ArithmeticError, pulp.PulpError) as error:
        search.notes.append(str(error))
    return None, bound


def _assign(search: Search, *, built: model.Model, offers: Offers) -> tuple[dict[str, int], dict[str, greedy.Choice]]:
    """Sizes by job, the oldest getting the largest; and the products and domains of all jobs that have a choice."""
    sizes_by_job: dict[str, int] = {}
    choices: dict[str, greedy.Choice] = {}
    for index, chosen in built.chosen().items():
        if index in offers:
            chosen = sorted(chosen, key=lambda one: -one[1])
        for job, (choice, size) in zip(search.problem.shapes[index].jobs, chosen, strict=False):
            choices[job.id] = choice
            if index in offers:
                sizes_by_job[job.id] = size
    return sizes_by_job, choices


def _split_counts(
    built: model.Model, *, offers: Offers, before: Problem, chosen: Mapping[str, int], after: Problem
) -> dict[packing.Key, int]:
    """The counts of the solved model in terms of the problem with fixed sizes: each job takes pods of one group."""
    solved = built.counts()
    counts = {key: count for key, count in solved.items() if key[0] not in offers}
    for index in offers:
        shape = before.shapes[index]
        fixed = {chosen[job.id]: after.shape_of[job.id].index for job in shape.jobs if job.id in chosen}
        if shape.request.gang_level == len(before.levels):
            counts |= {(fixed[m], c, m): count for (p, c, m), count in solved.items() if p == index}
            continue
        if shape.request.patterned:
            [only] = fixed.values()
            counts |= {(only, c, m): count for (p, c, m), count in solved.items() if p == index}
            continue
        for group in built.groups[index]:
            left = {cell.index: solved.get((index, cell.index, 1), 0) for cell in group.cells}
            for size, z in sorted(group.z.items(), reverse=True):
                missing = size * round(z.varValue or 0.0)
                for cell, pods in left.items():
                    here = min(missing, pods)
                    if here:
                        key = (fixed[size], cell, 1)
                        counts[key] = counts.get(key, 0) + here
                        left[cell] -= here
                        missing -= here
    return counts
