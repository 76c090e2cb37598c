"""Ways to plan, behind one interface: a compiled problem in, an ``Outcome`` out.

What must stay true: every strategy keeps the hard constraints and the order of the queue,
and says no more about its result than it has proven.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from stowplan_allocator import fairness, greedy, sizes, types
from stowplan_allocator.problem import Problem, Request
from stowplan_allocator.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy found. ``undecided`` are the jobs left out without proof that they had to be."""

    spots: dict[str, greedy.Spot]
    status: types.SolveStatus
    value: float = 0.0
    bound: float = 0.0
    gap: float = 0.0
    tiers: tuple[types.TierResult, ...] = ()
    note: str = ""
    undecided: frozenset[str] = field(default_factory=frozenset)


class Solver(Protocol):
    """A strategy in a module of its own."""

    def __call__(self, problem: Problem, *, settings: types.Settings, deadline: float) -> Outcome:
        """Plan; ``deadline`` is on the monotonic clock."""


# Strategies that need PuLP or time to think; each module has ``solve(problem, settings=, deadline=) -> Outcome``.
MODULES: dict[types.Strategy, str] = {
    types.Strategy.DP: "dp",
    types.Strategy.GENETIC: "genetic",
    types.Strategy.ANNEALING: "annealing",
    types.Strategy.LP_ROUNDING: "lp_rounding",
    types.Strategy.FGD: "fgd",
}


def solve(problem: Problem, *, settings: types.Settings, deadline: float, watch: Stopwatch) -> Outcome:
    """Plan by the chosen strategy. ``deadline`` is on the monotonic clock."""
    if not problem.queue:
        return Outcome({}, types.SolveStatus.NOTHING_TO_DO)
    if settings.strategy is types.Strategy.GREEDY:
        return by_greed(problem)
    if settings.strategy is types.Strategy.EXACT:
        return by_proof(problem, settings=settings, deadline=deadline, watch=watch)
    name = f"stowplan_allocator.heuristics.{MODULES[settings.strategy]}"
    return cast(Solver, importlib.import_module(name).solve)(problem, settings=settings, deadline=deadline)


def by_proof(problem: Problem, *, settings: types.Settings, deadline: float, watch: Stopwatch) -> Outcome:
    """The exact strategy; every tier that is not proven is named in the note."""
    # PuLP, HiGHS and NumPy take a second and 50 MB: only a process that solves loads them.
    from stowplan_allocator import exact, model

    model.make_solver(settings, limit_seconds=1.0)
    search = exact.solve(problem, settings=settings, deadline=deadline, watch=watch)
    return judge(search.spots, results=search.results, notes=search.notes, undecided=search.undecided)


def admission(name: str, *, placed: int, undecided: int) -> types.TierResult:
    """The result of admitting one band of jobs: the bound adds the jobs whose refusal is not proven."""
    bound = placed + undecided
    return types.TierResult(
        name=name,
        value=float(placed),
        bound=float(bound),
        gap=undecided / bound if bound else 0.0,
        status=types.SolveStatus.FEASIBLE if undecided else types.SolveStatus.OPTIMAL,
    )


def judge(
    spots: dict[str, greedy.Spot],
    *,
    results: Sequence[types.TierResult],
    notes: Sequence[str],
    undecided: Iterable[str],
) -> Outcome:
    """An outcome whose tiers were each compared with a bound; the unproven ones are named in the note."""
    admitted = [tier for tier in results if tier.name.startswith("admit")]
    unproven = [tier for tier in results if tier.status is not types.SolveStatus.OPTIMAL]
    value = sum(tier.value for tier in admitted)
    bound = sum(tier.bound for tier in admitted)
    words = [f'tier "{tier.name}" is not proven, gap {tier.gap:.2%}' for tier in unproven]
    return Outcome(
        spots,
        types.SolveStatus.FEASIBLE if unproven else types.SolveStatus.OPTIMAL,
        value=value,
        bound=bound,
        gap=(bound - value) / bound if bound else 0.0,
        tiers=tuple(results),
        note="; ".join(dict.fromkeys([*words, *notes])),
        undecided=frozenset(undecided),
    )


def fill(
    problem: Problem,
    *,
    jobs: Sequence[types.Job],
    spots: dict[str, greedy.Spot],
    place: Callable[[Request], greedy.Spot | None],
) -> list[str]:
    """Place the jobs one after the other in their turns, adding to ``spots``; returns the ids that found no place."""
    left_out = []
    refused: set[int] = set()
    turns = fairness.turns(problem, jobs)
    while (job := turns.head()) is not None:
        request = problem.shape_of[job.id].request
        spot = None if request.index in refused else place(request)
        if spot is None:
            refused.add(request.index)
            left_out.append(job.id)
        else:
            spots[job.id] = spot
        turns.serve(job, spot)
    return left_out


def by_greed(problem: Problem, *, note: str = "") -> Outcome:
    """One pass in queue order. Nothing is proven: the bound is that every job might have been placed."""
    spots: dict[str, greedy.Spot] = {}
    stock = greedy.new_stock(problem)
    left_out: list[str] = []
    place = functools.partial(greedy.place, problem=problem, stock=stock)
    for band in fairness.bands(problem):
        left_out += fill(problem, jobs=band.jobs, spots=spots, place=place)
        for priority in band.priorities:
            jobs = [job for job in problem.queue if job.priority == priority]
            sizes.grow(problem, stock=stock, spots=spots, jobs=jobs, beyond_preferred=False)
    sizes.grow(problem, stock=stock, spots=spots, jobs=problem.queue, beyond_preferred=True)
    return Outcome(
        spots,
        types.SolveStatus.GREEDY,
        value=float(len(spots)),
        bound=float(len(problem.queue)),
        gap=len(left_out) / len(problem.queue),
        note=note,
        undecided=frozenset(left_out),
    )
