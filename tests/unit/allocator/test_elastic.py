"""Elastic jobs: admitted at the smallest size, grown within what is left, the best sizes found by brute force."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import growing, sizes
from unit.allocator import brute, worlds
from unit.allocator.worlds import A100, H100, job, node


@dataclasses.dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    want: dict[str, int]
    strategies: tuple[sa.Strategy, ...] = (sa.Strategy.EXACT, sa.Strategy.GREEDY)


def nodes(number: int) -> list[sa.Node]:
    return [node(f"n{i}") for i in range(number)]


FAST_OR_SLOW = [sa.ProductChoice(H100), sa.ProductChoice(A100, 450)]

CASES = {
    "a job that has the cluster to itself takes its preferred size": Case(
        nodes(4), [job("x", 4, allowed_num_pods=(1, 2, 4))], {"x": 4}
    ),
    "a size between two allowed ones is not taken": Case(nodes(3), [job("x", 4, allowed_num_pods=(1, 2, 4))], {"x": 2}),
    "not even the smallest size fits": Case(nodes(1), [job("x", 4, allowed_num_pods=(2, 4))], {}),
    "an older job does not grow over a younger one": Case(
        nodes(4),
        [job("old", 4, allowed_num_pods=(1, 2, 4)), job("young", 2, created_at_seconds=9)],
        {"old": 2, "young": 2},
    ),
    "a job grows to its preferred size before a lower priority is looked at": Case(
        nodes(4),
        [job("high", 4, allowed_num_pods=(1, 4), priority=5), job("low", 1)],
        {"high": 4},
    ),
    "a job grows beyond its preferred size only where that costs nobody": Case(
        nodes(8),
        [job("high", 2, allowed_num_pods=(1, 2, 3, 4, 8), priority=5), job("low", 4)],
        {"high": 4, "low": 4},
    ),
    "fewer pods of a fast product are worth more than more of a slow one": Case(
        [node("h"), node("a", product=A100), node("b", product=A100)],
        [job("x", 2, allowed_num_pods=(1, 2), products=FAST_OR_SLOW)],
        {"x": 1},
    ),
    "more pods of a slow product are worth more than few of a fast one": Case(
        [node("h"), *(node(f"a{i}", product=A100) for i in range(3))],
        [job("x", 3, allowed_num_pods=(1, 3), products=FAST_OR_SLOW)],
        {"x": 3},
    ),
    "the room goes to the size that fills it best": Case(
        nodes(5),
        [job("x", 3, 8, allowed_num_pods=(1, 3)), job("y", 4, 8, allowed_num_pods=(1, 4), created_at_seconds=1)],
        {"x": 1, "y": 4},
        (sa.Strategy.EXACT,),
    ),
    "a gang on one node grows on one node": Case(
        [node("a", 6), node("b", 5)],
        [job("x", 8, 1, allowed_num_pods=(2, 4, 5, 6, 8), level="node")],
        {"x": 6},
    ),
    "a job that gains nothing from more pods does not get them": Case(
        nodes(8),
        [job("x", 8, allowed_num_pods=(2, 4, 8), goodput_milli=((2, 600), (4, 1000), (8, 1000)))],
        {"x": 4},
    ),
    "the room goes to the job that gets more done with it": Case(
        nodes(4),
        [
            job("flat", 3, allowed_num_pods=(1, 3), goodput_milli=((1, 800), (3, 1000))),
            job("steep", 3, allowed_num_pods=(1, 3), created_at_seconds=1),
        ],
        {"flat": 1, "steep": 3},
        (sa.Strategy.EXACT,),
    ),
    "a size at which a job does less than at a smaller one is no size": Case(
        nodes(4), [job("x", 4, allowed_num_pods=(1, 2, 4), goodput_milli=((1, 100), (2, 1100), (4, 1000)))], {"x": 2}
    ),
    "more done by fewer pods of a fast product": Case(
        [node("h"), *(node(f"a{i}", product=A100) for i in range(3))],
        [job("x", 3, allowed_num_pods=(1, 3), products=FAST_OR_SLOW, goodput_milli=((1, 500), (3, 1000)))],
        {"x": 1},
    ),
    "who returns at another size comes before higher priorities, at its smallest size": Case(
        nodes(4),
        [
            job("returns", 4, allowed_num_pods=(1, 2, 4), returning=True),
            job("high", 3, priority=5),
            job("next", 1, priority=5),
        ],
        {"returns": 1, "high": 3},
    ),
    "a gang in one rack grows within its rack": Case(
        [node("a"), node("b"), node("c", rack="r2")],
        [job("x", 3, allowed_num_pods=(1, 2, 3), level="rack")],
        {"x": 2},
    ),
}


@pytest.mark.parametrize(
    ("case", "strategy"),
    [(case, strategy) for case in CASES.values() for strategy in case.strategies],
    ids=[f"{name}, {strategy}" for name, case in CASES.items() for strategy in case.strategies],
)
def test_sizes(case: Case, strategy: sa.Strategy) -> None:
    plan = sa.plan(worlds.snapshot(case.nodes, case.jobs), sa.Settings(strategy=strategy))
    assert {name: placement.num_pods for name, placement in plan.placements.items()} == case.want
    assert plan.certificate.status is not sa.SolveStatus.FEASIBLE


@st.composite
def elastic(draw: st.DrawFn, most: int = 4) -> sa.Snapshot:
    """One priority, and no size beyond the preferred one: what the model must then find is plain."""
    snapshot = draw(worlds.snapshots(max_nodes=3, max_jobs=3, max_pods=1))
    changed = []
    for one in snapshot.jobs:
        if one.placement is None:
            allowed = draw(st.sampled_from([(), (1, 2), (1, 3), (2, 3), (1, 2, 3), (2, 4)]))
            last = max(allowed, default=draw(st.integers(1, 2)))
            goodput = tuple((size, draw(st.integers(1, 12)) * 100) for size in allowed[: draw(st.integers(0, 3))])
            one = dataclasses.replace(one, num_pods=last, allowed_num_pods=allowed, priority=0, goodput_milli=goodput)
            if one.topology and any(k % (one.topology.slice_size or 1) for k in allowed or (last,)):
                one = dataclasses.replace(one, topology=None)
        changed.append(one)
    return dataclasses.replace(snapshot, jobs=tuple(changed[:most]))


@pytest.mark.parametrize("way", ["all", "no greed", "no coarse solve"])
@given(snapshot=elastic())
@settings(max_examples=40, deadline=None)
def test_no_choice_of_sizes_has_more_goodput(way: str, snapshot: sa.Snapshot) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if way != "all":
            patch.setattr(sizes, "grow", lambda *args, **kwargs: None)
        if way == "no coarse solve":
            patch.setattr(growing, "_coarsely", lambda *args, **kwargs: (None, None))
        plan = sa.plan(snapshot)
    want = brute.best_rank(snapshot)[:-2]
    got = brute.rank(snapshot, dict(plan.placements))[:-2]
    assert got <= want
    assert got == want
    assert [tier.status for tier in plan.certificate.tiers[:2]] == [sa.SolveStatus.OPTIMAL] * min(
        len(plan.certificate.tiers), 2
    )


# Random searches may stop at different places, as they have more to look for where sizes can be chosen.
STEADY = [one for one in sa.Strategy if one not in (sa.Strategy.GENETIC, sa.Strategy.ANNEALING)]


@given(worlds.snapshots(max_nodes=5, max_jobs=5, max_pods=2), st.data(), st.sampled_from(STEADY))
@settings(max_examples=40, deadline=None)
def test_being_elastic_costs_nobody_a_place(snapshot: sa.Snapshot, data: st.DataObject, strategy: sa.Strategy) -> None:
    """Of one priority exactly those start who would start if every job had its smallest size."""
    sets = st.sampled_from([(1,), (1, 2), (1, 3, 4), (2, 5), (2, 3)])
    elastic, smallest = [], []
    for one in snapshot.jobs:
        if one.placement is None:
            allowed = data.draw(sets)
            preferred = data.draw(st.sampled_from(allowed))
            one = dataclasses.replace(one, num_pods=preferred, allowed_num_pods=allowed, priority=0)
            if one.topology and any(k % (one.topology.slice_size or 1) for k in allowed):
                one = dataclasses.replace(one, topology=None)
        elastic.append(one)
        size = min(one.allowed_num_pods, default=one.num_pods)
        smallest.append(dataclasses.replace(one, num_pods=size, allowed_num_pods=()))
    chosen = sa.Settings(strategy=strategy)
    grown = sa.plan(dataclasses.replace(snapshot, jobs=tuple(elastic)), chosen)
    small = sa.plan(dataclasses.replace(snapshot, jobs=tuple(smallest)), chosen)
    assert grown.placements.keys() == small.placements.keys()


@pytest.mark.parametrize("allowed", [(2, 1), (1, 1), (0, 1), (2, 4)], ids=str)
def test_wrong_sizes_are_named(allowed: tuple[int, ...]) -> None:
    plan = sa.plan(worlds.snapshot(nodes(4), [job("x", 1, allowed_num_pods=allowed)]))
    listed = ", ".join(map(str, allowed))
    assert plan.waiting["x"] == sa.Waiting(
        sa.Reason.MISCONFIGURED,
        f"the allowed sizes {listed} must ascend from at least 1 and contain numNodes, which is 1",
    )


def test_a_reason_speaks_of_the_smallest_size() -> None:
    plan = sa.plan(worlds.snapshot(nodes(1), [job("x", 8, allowed_num_pods=(2, 8))]))
    assert plan.waiting["x"].message.startswith("needs at least 2 pods × 8 accelerators; ")
    assert dict(plan.waiting["x"].numbers)["pods_needed"] == "2"


def test_many_elastic_jobs_of_one_shape_share_it_and_fill_the_cluster() -> None:
    jobs = [job(f"j{i:03}", 8, 1, allowed_num_pods=(1, 2, 4, 8), created_at_seconds=i) for i in range(30)]
    plan = sa.plan(worlds.snapshot(nodes(16), jobs))
    got = [plan.placements[one.id].num_pods for one in jobs]
    assert sum(got) == 16 * 8
    assert got == sorted(got, reverse=True)
    assert plan.certificate.status is sa.SolveStatus.OPTIMAL
