"""Solving tiers one after the other with the placed jobs fixed.

What must stay true: a tier's result is the value measured on the placement that is kept and
a bound that holds for it; a solution is kept only if it packs and is better in the first
tier that differs; an earlier tier's value is a constraint of every later one.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulp

from stowplan_allocator import model, objectives, packing, types
from stowplan_allocator.objectives import Tier
from stowplan_allocator.search import WHOLE_CELL_SPLIT, Search, TooLarge

MAX_ROUNDS = 6

# Counts, and what each cell keeps in whole slots.
Solution = tuple[dict[packing.Key, int], dict[int, int]]


def improve(search: Search, *, tiers: Sequence[Tier], coarse_first: bool = False) -> None:
    """Improve the placement by the tiers, note what is proven about each, and keep their values from here on.

    ``coarse_first`` is for a single tier that knows no topology and no whole slots.
    """
    proven: dict[str, int] = {tier.name: tier.easy_bound for tier in tiers}
    if coarse_first:
        _bound_coarsely(search, tier=tiers[0], proven=proven)
    cuts: dict[int, packing.Cut] = {}
    for _ in range(MAX_ROUNDS):
        solution = _solve(search, tiers=tiers, proven=proven, cuts=cuts)
        if solution is None:
            break
        counts, promised = solution
        before = [tier.measure(search.spots) for tier in tiers]
        spots, stock = search.spots, search.stock
        try:
            failed = search.adopt(counts, numbers=search.numbers())
            if failed:
                if search.is_small(failed, numbers=search.numbers()):
                    search.refine(failed)
                    cuts = {}
                else:
                    cuts |= failed
                continue
            after = [tier.measure(search.spots) for tier in tiers]
            short = _cells_short_of(search, promised=promised)
            if not better(tiers, after=after, before=before):
                search.spots, search.stock = spots, stock
            if not short or not search.is_small(short, numbers=search.numbers()):
                break
            search.refine(short)
            cuts = {}
        except ArithmeticError as error:
            search.notes.append(f"solver: {error}")
            break
    for tier in tiers:
        value = tier.measure(search.spots)
        search.results.append(result(tier, value=value, bound=proven[tier.name], settings=search.settings))
        search.kept.append((tier, value))


def _bound_coarsely(search: Search, *, tier: Tier, proven: dict[str, int]) -> None:
    """A bound from the coarsened problem, which is quick to solve, and often a placement that meets it."""
    if tier.measure(search.spots) == tier.easy_bound:
        return
    try:
        built = search.build(numbers=search.numbers(), coarse=True)
        solved = search.solve(built, terms=tier.terms(built), maximise=tier.maximise)
    except (TooLarge, pulp.PulpError) as error:
        search.notes.append(str(error))
        return
    _tighten(proven, tier=tier, bound=solved.bound)
    if solved.value is None:
        return
    before, spots, stock = tier.measure(search.spots), search.spots, search.stock
    if search.repack(choices=built.choices()):
        after = tier.measure(search.spots)
        if not better([tier], after=[after], before=[before]):
            search.spots, search.stock = spots, stock


def _tighten(proven: dict[str, int], *, tier: Tier, bound: int | None) -> None:
    if bound is not None:
        closer = min if tier.maximise else max
        proven[tier.name] = closer(proven[tier.name], bound + tier.offset)


def _solve(
    search: Search, *, tiers: Sequence[Tier], proven: dict[str, int], cuts: dict[int, packing.Cut]
) -> Solution | None:
    """Solve all tiers that are not proven yet; the last solution, or None where nothing was to do or found."""
    built: model.Model | None = None
    solution: Solution | None = None
    for tier in tiers[1:]:
        # What the last round proved held only for that round's values of the tiers before.
        proven[tier.name] = tier.easy_bound
    try:
        for position, tier in enumerate(tiers):
            if built is None:
                if tier.measure(search.spots) == proven[tier.name]:
                    continue
                phantoms = any(one.uses_phantoms for one in tiers)
                growth = max(one.growth for one in tiers)
                built = search.build(numbers=search.numbers(), phantoms=phantoms, growth=growth, cuts=cuts)
                for earlier in tiers[:position]:
                    value = float(earlier.measure(search.spots) - earlier.offset)
                    built.require(earlier.terms(built), ">=" if earlier.maximise else "<=", value)
            terms = tier.terms(built)
            if not terms:
                continue
            solved = search.solve(built, terms=terms, maximise=tier.maximise)
            if not cuts:
                _tighten(proven, tier=tier, bound=solved.bound)
            if solved.value is None:
                break
            solution = built.counts(), built.whole_slots()
            built.require(terms, ">=" if tier.maximise else "<=", float(solved.value))
    except TooLarge as error:
        search.notes.append(str(error))
    except (ArithmeticError, pulp.PulpError) as error:
        search.notes.append(f"solver: {error}")
    return solution


def _cells_short_of(search: Search, *, promised: dict[int, int]) -> list[int]:
    """Cells, small enough to cut, where packing kept less in whole slots than the model promised."""
    return [
        index
        for index, worth in promised.items()
        if 1 < len(search.problem.cells[index].nodes) <= WHOLE_CELL_SPLIT
        and objectives.worth_of_cell(search.problem, cell=index, stock=search.stock) < worth
    ]


def better(tiers: Sequence[Tier], *, after: Sequence[int], before: Sequence[int]) -> bool:
    """Whether the first tier that differs got better."""
    for tier, new, old in zip(tiers, after, before, strict=True):
        if new != old:
            return (new > old) is tier.maximise
    return False


def result(tier: Tier, *, value: int, bound: int, settings: types.Settings) -> types.TierResult:
    """A tier's measured value beside its bound; the gap is relative to the larger of the two."""
    gap = abs(bound - value) / max(abs(value), abs(bound), 1)
    proven = gap <= settings.gap_tolerance
    return types.TierResult(
        name=tier.name,
        value=float(value),
        bound=float(bound),
        gap=gap,
        status=types.SolveStatus.OPTIMAL if proven else types.SolveStatus.FEASIBLE,
    )
