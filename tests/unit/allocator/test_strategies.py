"""Every strategy behind the one interface: selectable, feasible, honest, and the same for the same seed."""

from __future__ import annotations

import dataclasses
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator.heuristics import annealing, decoder, genetic
from unit.allocator import brute, test_elastic, worlds
from unit.allocator.worlds import node

OTHERS = [one for one in sa.Strategy if one not in (sa.Strategy.EXACT, sa.Strategy.GREEDY)]
SEEDED = [sa.Strategy.GENETIC, sa.Strategy.ANNEALING]


@pytest.fixture(autouse=True)
def short_searches() -> object:
    with mock.patch.object(genetic, "EVALUATIONS", 20), mock.patch.object(annealing, "EVALUATIONS", 20):
        yield


@pytest.mark.parametrize("strategy", sa.Strategy)
def test_a_strategy_is_chosen_by_its_name_and_named_in_the_certificate(strategy: sa.Strategy) -> None:
    snapshot = worlds.snapshot([node("a"), node("b")], [worlds.job("x", 2, 4), worlds.job("y", 3, 8)])
    plan = sa.plan(snapshot, sa.Settings(strategy=sa.Strategy(strategy.value)))
    assert plan.certificate.strategy == strategy.value
    assert set(plan.placements) == {"x"}
    assert set(plan.waiting) == {"y"}


def test_an_unknown_strategy_is_refused_with_the_list_of_those_there_are() -> None:
    with pytest.raises(ValueError, match=r'planner\.strategy "best" is unknown; use one of exact, greedy, ') as caught:
        sa.Strategy("best")
    assert all(strategy.value in str(caught.value) for strategy in sa.Strategy)


@pytest.mark.parametrize("strategy", OTHERS)
@given(snapshot=worlds.snapshots(max_nodes=3, max_jobs=4, max_pods=3))
@settings(max_examples=25, deadline=None)
def test_no_strategy_beats_brute_force_and_what_it_calls_optimal_is(
    strategy: sa.Strategy, snapshot: sa.Snapshot
) -> None:
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    assert got <= want
    if plan.certificate.status is sa.SolveStatus.OPTIMAL:
        assert got == want
    for tier in plan.certificate.tiers:
        if tier.name == f"admit at priority {brute.queue(snapshot)[0].priority}":
            first = [job.id for job in brute.queue(snapshot) if job.priority == brute.queue(snapshot)[0].priority]
            assert tier.value == sum(name in plan.placements for name in first)
            if tier.status is sa.SolveStatus.OPTIMAL:
                assert got[: len(first)] == want[: len(first)]


@pytest.mark.parametrize("strategy", OTHERS)
@given(snapshot=test_elastic.elastic())
@settings(max_examples=25, deadline=None)
def test_sizes_of_elastic_jobs_are_never_better_than_the_best(strategy: sa.Strategy, snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    got, want = brute.rank(snapshot, dict(plan.placements))[:-2], brute.best_rank(snapshot)[:-2]
    assert got <= want
    if plan.certificate.status is sa.SolveStatus.OPTIMAL:
        assert got == want


SIZES = {
    f"{name}, {strategy}": (case, strategy)
    for name, case in test_elastic.CASES.items()
    if sa.Strategy.GREEDY in case.strategies
    for strategy in OTHERS
}


@pytest.mark.parametrize(("case", "strategy"), SIZES.values(), ids=SIZES)
def test_elastic_jobs_grow_in_every_strategy(case: test_elastic.Case, strategy: sa.Strategy) -> None:
    plan = sa.plan(worlds.snapshot(case.nodes, case.jobs), sa.Settings(strategy=strategy))
    assert {name: placement.num_pods for name, placement in plan.placements.items()} == case.want


@pytest.mark.parametrize("strategy", OTHERS)
@given(snapshot=worlds.snapshots(), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_equal_seeds_give_equal_plans(strategy: sa.Strategy, snapshot: sa.Snapshot, seed: int) -> None:
    chosen = sa.Settings(strategy=strategy, seed=seed)
    other = dataclasses.replace(snapshot, nodes=snapshot.nodes[::-1], jobs=snapshot.jobs[::-1])
    assert sa.plan(snapshot, chosen) == sa.plan(other, chosen)


def crossed() -> sa.Snapshot:
    """Greed takes the room of 5 + 3 for 3 + 3 and then has none for the last pod of 5."""
    nodes = [node(f"n{i}") for i in range(4)]
    small = [worlds.job(f"s{i}", 1, 3, created_at_seconds=i) for i in range(4)]
    return worlds.snapshot(nodes, small + [worlds.job(f"l{i}", 1, 5, created_at_seconds=9) for i in range(4)])


@pytest.mark.parametrize("strategy", SEEDED)
def test_a_search_finds_what_greed_does_not(strategy: sa.Strategy) -> None:
    assert len(sa.plan(crossed(), sa.Settings(strategy=sa.Strategy.GREEDY)).placements) < 8
    assert len(sa.plan(crossed(), sa.Settings(strategy=strategy)).placements) == 8


@pytest.mark.parametrize("strategy", SEEDED)
def test_a_search_that_time_cut_says_so(strategy: sa.Strategy) -> None:
    nodes = [node(f"n{i}") for i in range(4)]
    jobs = [worlds.job(f"j{i}", 1, (3, 5, 6)[i % 3], created_at_seconds=i) for i in range(12)]
    plan = sa.plan(worlds.snapshot(nodes, jobs), sa.Settings(strategy=strategy, time_limit_seconds=1e-6))
    assert "the time limit ended the search, so another run may find another plan" in plan.certificate.note
    assert plan.placements.keys() | plan.waiting.keys() == {job.id for job in jobs}


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_child_holds_the_jobs_of_its_parents(data: st.DataObject) -> None:
    mother = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
    father = data.draw(st.permutations(mother))
    child = genetic.cross(
        tuple(map(decoder.Gene, mother)),
        tuple(map(decoder.Gene, father)),
        rng=data.draw(st.randoms(use_true_random=False)),
    )
    assert sorted(gene.request for gene in child) == sorted(mother)


LOSSES = {
    "the first job of the queue": ((1, 1, 0, 9), (0, 1, 1, 9), 1.0),
    "a job in the middle": ((1, 1, 0, 9), (1, 0, 1, 9), 0.75),
    "a third of the last value": ((1, 1, 0, 9), (1, 1, 0, 6), 0.25 / 3),
    "a domain more, which counts down": ((1, -3), (1, -4), 0.5 / 4),
}


@pytest.mark.parametrize(("better", "worse", "want"), LOSSES.values(), ids=LOSSES)
def test_a_loss_weighs_more_the_earlier_it_is(better: tuple[int, ...], worse: tuple[int, ...], want: float) -> None:
    assert annealing.loss(better, worse) == pytest.approx(want)
