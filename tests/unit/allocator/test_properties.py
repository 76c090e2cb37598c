"""Properties of plan() on random snapshots, the best plan of tiny ones found by brute force."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import bounds, compiling, packing
from unit.allocator import brute, worlds

STRATEGIES = st.sampled_from([sa.Strategy.EXACT, sa.Strategy.GREEDY])  # test_strategies.py asks all


@given(worlds.snapshots(), STRATEGIES)
@settings(max_examples=100, deadline=None)
def test_gangs_are_whole_and_every_job_gets_one_answer(snapshot: sa.Snapshot, strategy: sa.Strategy) -> None:
    # plan() verifies itself; this looks at the outside once more, in other words.
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    pending = {job.id: job for job in snapshot.jobs if job.placement is None}
    assert plan.placements.keys() | plan.waiting.keys() == pending.keys()
    assert not plan.placements.keys() & plan.waiting.keys()
    for name, placement in plan.placements.items():
        assert placement in _up_to_order(brute.ways(pending[name], snapshot), placement)


def _up_to_order(ways: list[sa.Placement], like: sa.Placement) -> list[sa.Placement]:
    return [
        like if way.product == like.product and sorted(way.shares, key=str) == sorted(like.shares, key=str) else way
        for way in ways
    ]


@given(worlds.snapshots(max_nodes=4, max_jobs=3, max_pods=3))
@settings(max_examples=200, deadline=None)
def test_no_assignment_is_better_than_the_exact_plan(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot)
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    proven = plan.certificate.status is not sa.SolveStatus.FEASIBLE
    assert got <= want
    if proven:
        assert got == want
    else:
        # Only the topology tiers, and so those after them, may stay unproven here: pods of equal jobs are dealt
        # out after the solve.
        unproven = [tier.name for tier in plan.certificate.tiers if tier.status is not sa.SolveStatus.OPTIMAL]
        assert set(unproven) <= {"preferred topology", "domains spanned", "whole slots", "price"}, plan.certificate
        assert got[:-2] == want[:-2]


@given(worlds.snapshots(max_nodes=4, max_jobs=4, max_pods=3))
@settings(max_examples=100, deadline=None)
def test_greed_never_beats_proof_and_the_bound_holds(snapshot: sa.Snapshot) -> None:
    exact, greedy = sa.plan(snapshot), sa.plan(snapshot, sa.Settings(strategy=sa.Strategy.GREEDY))
    queue = [job.id for job in brute.queue(snapshot)]
    assert [name in exact.placements for name in queue] >= [name in greedy.placements for name in queue]
    assert len(greedy.placements) <= greedy.certificate.bound
    for tier in exact.certificate.tiers:
        better = tier.value <= tier.bound if tier.name != "price" and "domains" not in tier.name else True
        assert better or "topology" in tier.name, tier


@given(worlds.snapshots(), STRATEGIES, st.integers(0, 1 << 30))
@settings(max_examples=100, deadline=None)
def test_the_same_snapshot_in_any_order_gives_the_same_plan(
    snapshot: sa.Snapshot, strategy: sa.Strategy, seed: int
) -> None:
    shuffled = random.Random(seed)
    nodes, jobs = list(snapshot.nodes), list(snapshot.jobs)
    shuffled.shuffle(nodes)
    shuffled.shuffle(jobs)
    setting = sa.Settings(strategy=strategy)
    other = dataclasses.replace(snapshot, nodes=tuple(nodes), jobs=tuple(jobs))
    assert sa.plan(snapshot, setting) == sa.plan(other, setting) == sa.plan(snapshot, setting)


@given(st.lists(st.integers(0, 16), min_size=1, max_size=6), st.data())
@settings(max_examples=200, deadline=None)
def test_sizes_that_divide_each_other_pack_when_their_slots_suffice(frees: list[int], data: st.DataObject) -> None:
    """The theorem under the cell model: Σ_{t ≥ s} (t/s)·n_t ≤ Σ floor(free/s) for every s is enough."""
    sizes = data.draw(st.sampled_from([(8, 4, 2, 1), (16, 8, 1), (6, 3, 1), (12, 4, 2), (9, 3)]))
    counts = {size: data.draw(st.integers(0, 6)) for size in sizes}
    fits = all(sum(t // s * n for t, n in counts.items() if t >= s) <= sum(free // s for free in frees) for s in sizes)
    nodes = [worlds.node(f"n{i}", free, of=16) for i, free in enumerate(frees)]
    jobs = [worlds.job(f"j{size}-{i}", 1, size) for size, n in counts.items() for i in range(n)]
    problem = compiling.compile_problem(worlds.snapshot(nodes, jobs))
    packed = packing.pack(problem, counts={(shape.index, 0, 1): len(shape.jobs) for shape in problem.shapes})
    assert (not packed.failed) is fits


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), min_size=1, max_size=3), st.data())
@settings(max_examples=200, deadline=None)
def test_packing_finds_a_way_whenever_there_is_one(rooms: list[tuple[int, int]], data: st.DataObject) -> None:
    pods = data.draw(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 8)), min_size=1, max_size=5))
    nodes = [worlds.node(f"n{i}", gpus, cpu_free=cpu) for i, (gpus, cpu) in enumerate(rooms)]
    jobs = [worlds.job(f"j{i}", 1, gpus, cpu=cpu) for i, (gpus, cpu) in enumerate(pods)]
    snapshot = worlds.snapshot(nodes, jobs)
    problem = compiling.compile_problem(snapshot)
    packed = packing.pack(problem, counts={(shape.index, 0, 1): len(shape.jobs) for shape in problem.shapes})
    possible = any(len(placed) == len(jobs) for placed in brute.assignments(snapshot))
    assert (not packed.failed) is possible


@given(worlds.snapshots(max_nodes=3, max_jobs=3, max_pods=3))
@settings(max_examples=100, deadline=None)
def test_a_bound_never_refuses_a_job_that_fits(snapshot: sa.Snapshot) -> None:
    problem = compiling.compile_problem(snapshot)
    limits = bounds.Bounds(problem)
    for placed in brute.assignments(snapshot):
        for last in placed:
            admitted: dict[int, int] = {}
            for name in placed.keys() - {last}:
                index = problem.shape_of[name].request.index
                admitted[index] = admitted.get(index, 0) + 1
            assert not limits.cannot_fit(problem.shape_of[last].request, admitted=admitted)
