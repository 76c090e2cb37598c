"""The linear relaxation of the coarsened model, rounded, and repaired by packing.

Sets, data and variables are those of ``model``, in the problem of pools that ``cells.coarsen``
makes, without integrality:

    admit       the largest n for which the first n waiting jobs fit beside those admitted; by bisection
                over linear programmes, because fitting is monotone in n
    goodput     max Σ a_p·goodput_{p,g,k}·z_{p,g,k}
    rounding    z_{p,g,k} down, then jobs of the smallest size by the largest remainders until Σ z = N_p
    repair      all jobs packed anew, hard ones first, each trying its rounded product and domain first; elastic
                jobs then grow into what is left

A linear programme takes milliseconds where the integer one may take seconds, and its value
bounds the integer one's. What must stay true: a job is refused only where the relaxation,
or a bound, shows that it cannot fit beside those admitted ahead of it; a bound that is
reported comes from a linear programme that was solved to its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulp

from stowplan_allocator import greedy, growing, model, objectives, sizes, strategies, tiers, types
from stowplan_allocator.heuristics import walking
from stowplan_allocator.problem import Problem, Shape
from stowplan_allocator.search import Search, TooLarge
from stowplan_allocator.stopwatch import Stopwatch

Choices = dict[int, list[greedy.Choice]]


def solve(problem: Problem, *, settings: types.Settings, deadline: float) -> strategies.Outcome:
    """Admit, choose sizes and products by the relaxation; the rest is left as packing leaves it."""
    search = Search(problem, settings, deadline, Stopwatch())
    walking.admit_all(search, make_room=_place_chain, choose_sizes=_choose_sizes, choose_products=_improve)
    return walking.verdict(search, problem=problem)


def _place_chain(search: Search, chain: Sequence[Shape]) -> tuple[int, int | None]:
    """Place a prefix of the chain, moving anything: how many, and the request that is proven not to fit behind it."""
    try:
        built = search.build(numbers=search.numbers(), chain=[shape.index for shape in chain], coarse=True)
        length, choices, proven = _longest(search, built=built, chain=chain)
    except (TooLarge, pulp.PulpError) as error:
        search.notes.append(str(error))
        return 0, None
    placed = _repair(search, chain=chain[:length], choices=choices)
    if proven and placed == length < len(chain):
        return placed, chain[placed].request.index
    return placed, None


def _repair(search: Search, *, chain: Sequence[Shape], choices: Choices) -> int:
    """Pack as many of the chain as can be, beside what is placed: all of them, else by bisection."""
    low, high = 0, len(chain)
    middle = high
    while low < high:
        if search.repack(chain[low:middle], choices=choices):
            low = middle
        else:
            high = middle - 1
        middle = (low + high + 1) // 2
    return low


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
            low, choices = middle, _choices(built)
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
        weight = max(request.vector[0], 1)
        found += [(z, float(weight * request.goodput(g.product, num_pods=k))) for g in groups for k, z in g.z.items()]
    return found


def rounded(built: model.Model) -> dict[int, list[tuple[greedy.Choice, int]]]:
    """For each shape the product and domain, and the size, of each of its jobs.

    Whole parts stand as they are; the jobs that fractions make up go by the largest remainders, at the smallest size.
    """
    found: dict[int, list[tuple[greedy.Choice, int]]] = {}
    for shape, groups in built.groups.items():
        if not groups or not all(group.z for group in groups):
            continue
        options = [(group, k, z.varValue or 0.0) for group in groups for k, z in group.z.items()]
        whole = [int(value + model.INTEGRAL_TOLERANCE) for _, _, value in options]
        chosen = [
            ((group.product, group.domain), k)
            for (group, k, _), count in zip(options, whole, strict=True)
            for _ in range(count)
        ]
        missing = round(sum(value for _, _, value in options)) - len(chosen)
        ranked = sorted(range(len(options)), key=lambda i: (whole[i] - options[i][2], i))
        for i in (ranked * missing)[: max(missing, 0)]:
            group = options[i][0]
            chosen.append(((group.product, group.domain), min(group.z)))
        found[shape] = chosen
    return found


def _choices(built: model.Model) -> Choices:
    return {shape: [choice for choice, _ in chosen] for shape, chosen in rounded(built).items()}


def _choose_sizes(
    search: Search, *, tier: objectives.Tier, offers: growing.Offers
) -> tuple[growing.State | None, int | None]:
    """Sizes and products from the relaxation, all packed anew, and then everybody grows into what is left."""
    before = growing.state_of(search)
    try:
        built = search.build(numbers=search.numbers(), coarse=True, sizes=offers)
        solved = search.relax(built, terms=tier.terms(built), maximise=True)
    except (TooLarge, pulp.PulpError) as error:
        search.notes.append(str(error))
        return None, None
    if solved.bound is None:
        return None, None
    first: Choices = {}
    chosen: dict[str, int] = {}
    choices: dict[str, greedy.Choice] = {}
    for index, ranked in rounded(built).items():
        ranked = sorted(ranked, key=lambda one: -one[1]) if index in offers else ranked
        for job, (choice, size) in zip(before.problem.shapes[index].jobs, ranked, strict=False):
            choices[job.id] = choice
            if index in offers:
                chosen[job.id] = size
    search.problem = sizes.resolve(before.problem, chosen=chosen)
    for job in before.problem.queue:
        if job.id in choices:
            first.setdefault(search.problem.shape_of[job.id].index, []).append(choices[job.id])
    found = None
    if search.repack(choices=first):
        most = {job: max(offers[before.problem.shape_of[job].index]) for job in chosen}
        beyond = any(most[job] > before.problem.shape_of[job].request.preferred for job in chosen)
        jobs = [job for job in before.problem.queue if job.id in chosen]
        sizes.grow(search.problem, stock=search.stock, spots=search.spots, jobs=jobs, beyond_preferred=beyond)
        grown = {job: search.spots[job].num_pods for job in chosen}
        search.problem = sizes.resolve(before.problem, chosen=grown)
        found = growing.state_of(search)
    growing.restore(search, state=before)
    return found, solved.bound + tier.offset


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
    if search.repack(choices=_choices(built)):
        after = tier.measure(search.spots)
        if not tiers.better([tier], after=[after], before=[before]):
            search.spots, search.stock = spots, stock
    return solved.bound + tier.offset
