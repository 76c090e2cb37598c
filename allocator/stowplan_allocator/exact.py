"""The exact strategy: admission in queue order with proofs, then the lower tiers.

Admission is lexicographic: a job starts if and only if it fits beside all jobs before it in
the queue (priority, then age, then id), however those are placed. No weights are needed for
that. Jobs are added greedily. Where greed fails, cheap questions come before dear ones:

1. do the bounds prove that the job cannot fit beside those admitted?
2. how many of the next jobs in the queue fit in the coarsened problem (pools of cells)?
   None proves that the job cannot; otherwise no more than so many can.
3. can these be placed by packing everything anew as that says, the largest pods first?
4. how many of them does the whole model place?
5. where that gives no answer: does everything fit if whoever finds no place is served first (``squeezing``)?

A request once refused stays refused, since room only shrinks, so there are at most as many
refusals to prove as different requests, and thousands of jobs need no more solves than dozens.
After a refusal one further solve refuses all that come before the next request that may fit.

Within one priority, goodput comes after admission and before the next priority, so that a
job of lower priority never costs a higher one its product or its preferred size. Sizes beyond
the preferred ones are chosen when everybody is admitted. The other tiers follow for all
jobs together, each keeping the values of those before.

What must stay true: a job is refused only with a proof, or noted as undecided; a tier is
called optimal only if its measured value meets a proven bound; every solve gets only time
that is left; and where packing refutes a solution, the cells concerned are cut into nodes and
the model is solved again, or, where that would be too large, are limited to what packing
reached, after which a solution is still a solution but no bound is taken from it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pulp

from stowplan_allocator import (
    bounds,
    fairness,
    greedy,
    growing,
    objectives,
    packing,
    spans,
    squeezing,
    strategies,
    tiers,
    types,
)
from stowplan_allocator.problem import Problem, Shape
from stowplan_allocator.search import Search, TooLarge
from stowplan_allocator.stopwatch import Stopwatch

CHAIN_LENGTH = 200
MAX_CANDIDATES = 400
CHAIN_SHARE = 0.4  # of the time that is left, for one question about the chain
MAX_PACKINGS = 8


def solve(problem: Problem, *, settings: types.Settings, deadline: float, watch: Stopwatch) -> Search:
    """Run all tiers; the search holds the best placement found and what is proven about it."""
    search = Search(problem, settings, deadline, watch)
    search.chain_length = CHAIN_LENGTH
    limits = bounds.Bounds(problem)
    bands = fairness.bands(problem)
    for band in bands:
        _admit(search, jobs=band.jobs, limits=limits)
        _note_admission(search, band=band)
        for priority in band.priorities:
            search.limit(settings.late_tiers_seconds)
            if growing.improve(search, priority=priority):
                limits = bounds.Bounds(search.problem)
            else:
                tier = objectives.goodput(search.problem, priority=priority, spots=search.spots)
                if tier is not None:
                    tiers.improve(search, tiers=[tier], coarse_first=True)
            search.limit(deadline - time.monotonic())
    if search.spots:
        search.limit(settings.late_tiers_seconds)
        for priority in (priority for band in bands for priority in band.priorities):
            growing.improve(search, priority=priority, beyond_preferred=True)
        search.limit(deadline - time.monotonic())
        rest = spans.tiers(search.problem, rooms=search.rooms, spots=search.spots)
        rest.append(objectives.whole_slots(search.problem, spots=search.spots))
        _improve_alone(search, rest=rest)
        price = objectives.price(search.problem, spots=search.spots)
        search.limit(settings.late_tiers_seconds)
        tiers.improve(search, tiers=[*rest, *([price] if price is not None else [])])
    return search


def _improve_alone(search: Search, *, rest: Sequence[objectives.Tier]) -> None:
    """One job alone is tried in the domains where it may lose the least: often that is the proof."""
    for spot, stock in objectives.try_best_domains(search.problem, rooms=search.rooms, spots=search.spots):
        spots = dict.fromkeys(search.spots, spot)
        after, before = ([tier.measure(held) for tier in rest] for held in (spots, search.spots))
        if search.keeps(spots) and tiers.better(rest, after=after, before=before):
            search.spots, search.stock = spots, stock


def _admit(search: Search, *, jobs: Sequence[types.Job], limits: bounds.Bounds) -> None:
    """Place the jobs of one band in their turns, each that fits beside those before it."""
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
            search.give_up(request.index)
            continue
        ahead = turns.ahead(
            most=search.chain_length, refused=search.refused, problem=search.problem, spare=search.stock.spare
        )
        chain = [shape_of[other.id] for other in ahead]
        placed, proven = _place_chain(search, chain=chain)
        for other in ahead[:placed]:
            turns.serve(other, search.spots[other.id])
        if placed < len(chain) and proven:
            search.refused.add(chain[placed].request.index)
            _refuse_more(search, ahead=[shape_of[other.id] for other in turns.rest()])
        elif not placed:
            if squeezing.squeeze(search, shape=chain[0]):
                turns.serve(job, search.spots[job.id])
            else:
                search.give_up(request.index)
        turns.recount(search.spots)


def _note_admission(search: Search, *, band: fairness.Band) -> None:
    """The value is the number of jobs placed; the bound adds those whose refusal is not proven."""
    left_out = [job.id for job in band.jobs if job.id not in search.spots]
    undecided = {name for name in left_out if search.problem.shape_of[name].request.index in search.unsure}
    search.undecided |= undecided
    placed = len(band.jobs) - len(left_out)
    search.results.append(strategies.admission(band.name, placed=placed, undecided=len(undecided)))


def _place_chain(search: Search, *, chain: Sequence[Shape]) -> tuple[int, bool]:
    """Place a prefix of the chain, moving anything: how many, and whether it is proven that the next does not fit."""
    try:
        built = search.build(numbers=search.numbers(), chain=[shape.index for shape in chain], coarse=True)
        solved = search.solve(built, terms=[(y, 1.0) for y in built.y], maximise=True, share=CHAIN_SHARE)
        most = len(chain) if solved.bound is None else min(solved.bound, len(chain))
        if most and not solved.value:
            # No time for so many at once, here and further on; and the whole model would only take longer.
            search.chain_length = max(len(chain) // 8, 1)
            return _place_chain(search, chain=chain[: search.chain_length]) if len(chain) > 1 else (0, False)
        if most == 0:
            return 0, True
        if solved.value:
            length = built.chain_length()
            for part in dict.fromkeys((length, length // 2, length // 4, length // 8, 1)):
                if part and search.repack(chain[:part], choices=built.choices()):
                    return part, part == most < len(chain)
        return _exact_length(search, chain=chain[:most], whole=most == len(chain))
    except TooLarge as error:
        search.notes.append(str(error))
    except (ArithmeticError, pulp.PulpError) as error:
        search.notes.append(f"solver: {error}")
    return 0, False


def _refuse_more(search: Search, *, ahead: Sequence[Shape]) -> None:
    """After a refusal, find the next request in the queue that may still fit, and refuse all before it in one solve.

    One of the requests may be placed, the earlier the better; its bound says which are too early.
    """
    candidates = list({shape.request.index: shape for shape in reversed(ahead)}.values())[::-1]
    candidates = [shape for shape in candidates if shape.request.index not in search.refused][:MAX_CANDIDATES]
    if len(candidates) < 2:
        return
    try:
        indexes = [shape.index for shape in candidates]
        built = search.build(numbers=search.numbers(), chain=indexes, coarse=True, only_one=True)
        ranks = [(y, float(len(candidates) - i)) for i, y in enumerate(built.y)]
        solved = search.solve(built, terms=ranks, maximise=True)
    except (TooLarge, pulp.PulpError) as error:
        search.notes.append(str(error))
        return
    if solved.bound is not None:
        search.refused |= {shape.request.index for shape in candidates[: len(candidates) - solved.bound]}


def _exact_length(search: Search, *, chain: Sequence[Shape], whole: bool) -> tuple[int, bool]:
    """The longest prefix of a chain of which nothing longer can fit, unless it is the ``whole`` chain."""
    numbers = search.numbers()
    indexes = [shape.index for shape in chain]
    cuts: dict[int, packing.Cut] = {}
    most = len(chain)
    for _ in range(MAX_PACKINGS):
        built = search.build(numbers=numbers, chain=indexes, cuts=cuts)
        solved = search.solve(built, terms=[(y, 1.0) for y in built.y], maximise=True)
        if solved.value is None:
            return 0, False
        if not cuts and solved.bound is not None:
            most = min(most, solved.bound)
        length = built.chain_length()
        proven = length == most and not (whole and length == len(chain))
        if length == 0:
            return 0, proven
        more = dict(numbers)
        for index in indexes[:length]:
            more[index] = more.get(index, 0) + 1
        failed = search.adopt(built.counts(), numbers=more)
        if not failed:
            return length, proven
        if search.is_small(failed, numbers=more):
            search.refine(failed)
            cuts = {}
        else:
            # Ask for less, so that packing has some air; what is placed is a step on the way, and not proven.
            cuts |= failed
            indexes = indexes[: max(length // 2, 1)]
    return 0, False
