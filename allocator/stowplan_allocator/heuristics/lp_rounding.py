"""The linear relaxation of the coarsened model, rounded, and repaired by packing.

Sets, data and variables are those of ``model``, in the problem of pools that ``cells.coarsen``
makes, without integrality:

    admit       the largest n for which the first n waiting jobs fit beside those admitted; by bisection
                over linear programmes, because fitting is monotone in n
    goodput     max Σ k_p·a_p·throughput_{p,g}·z_{p,g}
    rounding    z_{p,g} down, then up by the largest remainders until Σ_g z_{p,g} = N_p
    repair      all jobs packed anew, hard ones first, each trying its rounded product and domain first

A linear programme takes milliseconds where the integer one may take seconds, and its value
bounds the integer one's. What must stay true: a job is refused only where the relaxation,
or a bound, shows that it cannot fit beside those admitted ahead of it; a bound that is
reported comes from a linear programme that was solved to its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulp

from stowplan_allocator import bounds, greedy, model, objectives, strategies, tiers, types
from stowplan_allocator.heuristics import ruler, walking
from stowplan_allocator.problem import Problem, Shape
from stowplan_allocator.search import Search, TooLarge
from stowplan_allocator.stopwatch import Stopwatch

Choices = dict[int, list[greedy.Choice]]


def solve(problem: Problem, *, settings: types.Settings, deadline: float) -> strategies.Outcome:
    """Admit and choose products by the relaxation; the rest is left as packing leaves it."""
    search = Search(problem, settings, deadline, Stopwatch())
    limits = bounds.Bounds(problem)
    proven: dict[str, int] = {}
    for priority in ruler.priorities(problem):
        jobs = [job for job in problem.queue if job.priority == priority]
        walking.admit(search, jobs=jobs, limits=limits, make_room=_place_chain)
        tier = objectives.goodput(problem, priority=priority, spots=search.spots)
        if tier is not None:
            bound = _improve(search, tier=tier)
            if bound is not None:
                proven[tier.name] = bound
            search.kept.append((tier, tier.measure(search.spots)))
    return ruler.Ruler(problem, rooms=search.rooms).verdict(
        search.spots, settings=settings, notes=search.notes, refused=search.refused - search.unsure, proven=proven
    )


def _place_chain(search: Search, chain: Sequence[Shape]) -> tuple[int, int | None]:
    """Place a prefix of the chain, moving anything: how many, and the request that is proven not to fit behind it."""
    try:
        built = search.build(numbers=search.numbers(), chain=[shape.index for shape in chain], coarse=True)
        length, choices, proven = _longest(search, built=built, chain=chain)
    except (TooLarge, pulp.PulpError) as error:
        search.notes.append(str(error))
        return 0, None
    for part in dict.fromkeys((length, length - 1, length * 3 // 4, length // 2, length // 4, length // 8, 1)):
        if part > 0 and search.repack(chain[:part], choices=choices):
            refused = chain[part].request.index if proven and part == length < len(chain) else None
            return part, refused
    return 0, chain[0].request.index if proven and length == 0 else None


def _longest(search: Search, *, built: model.Model, chain: Sequence[Shape]) -> tuple[int, Choices, bool]:
    """How many of the chain the relaxation holds, what it chooses for them, and whether that is proven."""
    low, proven = 0, True
    choices: Choices = {}
    terms = _worth(built)
    placeable = [y.upBound != 0 for y in built.y]
    most = placeable.index(False) if False in placeable else len(chain)
    high = most
    while low < high:
        # Either all fit or few do: the whole chain first, then halves.
        middle = high if high == most and low == 0 else (low + high + 1) // 2
        fits = _fits(search, built=built, length=middle, terms=terms)
        if fits is None:
            proven = False
        if fits:
            low, choices = middle, rounded(built)
        else:
            high = middle - 1
    return low, choices, proven


def _fits(search: Search, *, built: model.Model, length: int, terms: Sequence[model.Term]) -> bool | None:
    """Whether the relaxation holds the first ``length`` jobs of the chain; None where time ran out."""
    for i, y in enumerate(built.y):
        y.bounds(1.0 if i < length else 0.0, 1.0 if i < length else 0.0)
    solved = search.relax(built, terms=terms, maximise=True)
    if solved.infeasible:
        return False
    return None if solved.bound is None else True


def _worth(built: model.Model) -> list[model.Term]:
    """Goodput of every group: which of two feasible solutions to round."""
    found = []
    for index, groups in built.groups.items():
        request = built.problem.shapes[index].request
        size = request.num_pods * max(request.vector[0], 1)
        speed = {choice.product: choice.relative_throughput_milli for choice in request.products}
        found += [(g.z, float(size * speed.get(g.product, 1000))) for g in groups if g.z is not None]
    return found


def rounded(built: model.Model) -> Choices:
    """For each shape the product and domain of each of its jobs: whole parts first, then the largest remainders."""
    found: Choices = {}
    for shape, groups in built.groups.items():
        values = [0.0 if group.z is None else group.z.varValue or 0.0 for group in groups]
        if any(group.z is None for group in groups):
            continue
        number = round(sum(values))
        whole = [int(value + model.INTEGRAL_TOLERANCE) for value in values]
        ranked = sorted(range(len(groups)), key=lambda i: (whole[i] - values[i], i))
        for i in ranked[: max(number - sum(whole), 0)]:
            whole[i] += 1
        found[shape] = [
            (group.product, group.domain) for group, count in zip(groups, whole, strict=True) for _ in range(count)
        ]
    return found


def _improve(search: Search, *, tier: objectives.Tier) -> int | None:
    """Move to the products that the relaxation chooses, if that packs and is better; the bound that it proves."""
    before = tier.measure(search.spots)
    if before == tier.easy_bound:
        return None
    try:
        built = search.build(numbers=search.numbers(), coarse=True)
        solved = search.relax(built, terms=tier.terms(built), maximise=True)
    except (TooLarge, pulp.PulpError) as error:
        search.notes.append(str(error))
        return None
    if solved.bound is None:
        return None
    spots, stock = search.spots, search.stock
    if search.repack(choices=rounded(built)):
        after = tier.measure(search.spots)
        if not tiers.better([tier], after=[after], before=[before]):
            search.spots, search.stock = spots, stock
    return solved.bound + tier.offset
