"""PodDisruptionBudgets: whoever leaves, moves or is resized, no budget loses more pods than it allows."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import alternatives, checks, snapshots
from unit.allocator import brute, worlds
from unit.allocator.worlds import node, running

BOTH = [sa.Strategy.EXACT, sa.Strategy.GREEDY]
LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)


def budget(allowed: int, name: str = "team/pdb", **pods: int) -> sa.DisruptionBudget:
    return sa.DisruptionBudget(name, allowed, tuple(pods.items()))


def world(nodes: list[sa.Node], jobs: list[sa.Job], *budgets: sa.DisruptionBudget, **fields: Any) -> sa.Snapshot:
    return dataclasses.replace(worlds.snapshot(nodes, jobs), disruption_budgets=budgets, **fields)


HIGH = worlds.job("high", priority=5)


@dataclass(frozen=True)
class Case:
    """Who leaves for whom, on nodes of eight accelerators."""

    jobs: list[sa.Job]
    budgets: list[sa.DisruptionBudget]
    nodes: list[sa.Node] = field(default_factory=lambda: [node("n1"), node("n2")])
    want: dict[str, str] = field(default_factory=dict)


CASES = {
    "whom a budget protects stays, and the next cheapest leaves": Case(
        [running("a", {"n1": 1}, 8, cost=1), running("b", {"n2": 1}, 8, cost=9), HIGH],
        [budget(0, a=1)],
        want={"b": "high"},
    ),
    "nobody leaves where all are protected": Case(
        [running("a", {"n1": 1}, 8), running("b", {"n2": 1}, 8), HIGH], [budget(0, a=1, b=1)]
    ),
    "a whole gang counts": Case(
        [running("a", {"n1": 2}, 4), running("b", {"n2": 1}, 8), HIGH], [budget(1, a=2, b=1)], want={"b": "high"}
    ),
    "victims of one budget count together": Case(
        [running("a", {"n1": 1}, 4), running("b", {"n1": 1}, 4), running("c", {"n2": 1}, 8, cost=999), HIGH],
        [budget(1, a=1, b=1)],
        want={"c": "high"},
    ),
    "as many as are allowed may leave": Case(
        [running("a", {"n1": 1}, 4), running("b", {"n1": 1}, 4), running("c", {"n2": 1}, 8, cost=999), HIGH],
        [budget(2, a=1, b=1)],
        want={"a": "high", "b": "high"},
    ),
    "every budget of a job holds": Case(
        [running("a", {"n1": 1}, 8, cost=1), running("b", {"n2": 1}, 8), HIGH],
        [budget(5, a=1), budget(0, "team/other", a=1)],
        want={"b": "high"},
    ),
    "victims of two waiting jobs count together": Case(
        [
            running("a", {"n1": 1}, 8),
            running("b", {"n2": 1}, 8),
            HIGH,
            worlds.job("next", priority=5, created_at_seconds=9),
        ],
        [budget(1, a=1, b=1)],
        want={"b": "high"},
    ),
    "who is leaving already is not counted again": Case(
        [running("a", {"n1": 1}, 8, leaving=True), running("b", {"n2": 1}, 8), worlds.job("high", 2, priority=5)],
        [budget(1, b=1)],
        want={"b": "high"},
    ),
    "a budget of others keeps nobody": Case(
        [running("a", {"n1": 1}, 8), HIGH],
        [budget(0, gone=3), budget(-1, "team/x")],
        nodes=[node("n1")],
        want={"a": "high"},
    ),
}


@pytest.mark.parametrize("strategy", BOTH)
@pytest.mark.parametrize("sentence", CASES)
def test_who_leaves(sentence: str, strategy: sa.Strategy) -> None:
    case = CASES[sentence]
    plan = sa.plan(world(case.nodes, case.jobs, *case.budgets), dataclasses.replace(LOWER, strategy=strategy))
    assert {one.job_id: one.for_job for one in plan.evictions} == case.want


def test_a_budget_that_protects_is_named_with_its_numbers() -> None:
    jobs = [running("a", {"n1": 2}, 4), HIGH]
    plan = sa.plan(world([node("n1")], jobs, budget(1, a=2)), LOWER)
    answer = plan.waiting["high"]
    assert answer.reason is sa.Reason.WAITING_FOR_CAPACITY
    assert answer.message.endswith(
        '; it may take the place of a, but PodDisruptionBudget "team/pdb" lets 1 of 2 pods be stopped'
    )
    assert dict(answer.numbers).items() >= {
        ("disruption_budget", "team/pdb"),
        ("disruptions_needed", "2"),
        ("disruptions_allowed", "1"),
    }
    free = sa.plan(world([node("n1")], [dataclasses.replace(jobs[0], priority=9), HIGH], budget(1, a=2)), LOWER)
    assert "PodDisruptionBudget" not in free.waiting["high"].message


def test_moves_keep_budgets() -> None:
    nodes = [node("n1"), node("n2"), node("n3", 4, of=4)]
    jobs = [
        running("a", {"n1": 1}, 4, cost=1, priority=5),
        running("b", {"n2": 1}, 4, cost=9, priority=5),
        worlds.job("big", make_room=1000),
    ]
    moved = {
        protected: [one.job_id for one in sa.plan(world(nodes, jobs, *budgets, move_budget=1000)).moves]
        for protected, budgets in {"nobody": (), "a": (budget(0, a=1),), "both": (budget(0, a=1, b=1),)}.items()
    }
    assert moved == {"nobody": ["a"], "a": ["b"], "both": []}
    offered = {one.kind.value for one in alternatives.alternatives(world(nodes, jobs, budget(0, a=1, b=1)), "big")}
    assert "JobsMoved" not in offered


def elastic(name: str, on: dict[str, int], **fields: Any) -> sa.Job:
    return running(name, on, 4, allowed_num_pods=(1, 2), resize_cost=10, **fields)


def test_shrinking_keeps_budgets_since_the_whole_gang_stops() -> None:
    jobs = [elastic("a", {"n1": 2}, cost=None), worlds.job("x", 1, 4)]
    resize = sa.Settings(resize=True)
    assert [one.job_id for one in sa.plan(world([node("n1")], jobs), resize).resizes] == ["a"]
    assert [one.job_id for one in sa.plan(world([node("n1")], jobs, budget(2, a=2)), resize).resizes] == ["a"]
    plan = sa.plan(world([node("n1")], jobs, budget(1, a=2)), resize)
    assert not plan.resizes
    assert "PodDisruptionBudget" in plan.waiting["x"].message


def test_growing_keeps_budgets() -> None:
    jobs = [elastic(name, {f"n{i}": 1}, cost=None, created_at_seconds=i) for i, name in enumerate("ab")]
    nodes = [node("n0"), node("n1")]
    resize = sa.Settings(resize=True)
    assert {one.job_id for one in sa.plan(world(nodes, jobs), resize).resizes} == {"a", "b"}
    assert {one.job_id for one in sa.plan(world(nodes, jobs, budget(1, a=1, b=1)), resize).resizes} == {"a"}


def test_the_checks_find_a_budget_that_loses_too_much() -> None:
    jobs = [running("a", {"n1": 1}, 4, cost=1), running("b", {"n1": 1}, 4, cost=1), HIGH]
    plan = sa.plan(world([node("n1")], jobs), LOWER)
    assert len(plan.evictions) == 2
    found = list(
        checks.find_eviction_breaches(plan, snapshot=world([node("n1")], jobs, budget(1, a=1, b=1)), settings=LOWER)
    )
    assert found == ['PodDisruptionBudget "team/pdb": 2 pods are stopped where 1 may be']


def test_a_snapshot_with_budgets_is_written_and_read() -> None:
    snapshot = world([node("n1")], [HIGH], budget(1, a=1, b=2))
    assert snapshots.read(snapshots.write(snapshot)) == snapshot


@st.composite
def guarded(draw: st.DrawFn) -> sa.Snapshot:
    made = draw(worlds.busy_snapshots())
    there = [one for one in made.jobs if one.placement]
    budgets = []
    for i in range(draw(st.integers(1, 2))):
        chosen = draw(st.lists(st.sampled_from(there), unique_by=lambda one: one.id, min_size=1)) if there else []
        pods = {one.id: one.num_pods for one in chosen}
        budgets.append(budget(draw(st.integers(0, 4)), f"team/{i}", **pods))
    return dataclasses.replace(made, disruption_budgets=tuple(budgets))


@given(guarded())
@settings(max_examples=60, deadline=None)
def test_no_set_of_victims_within_the_budgets_loses_less(snapshot: sa.Snapshot) -> None:
    [waiting] = brute.queue(snapshot)
    plan = sa.plan(snapshot, LOWER)
    may_leave = [
        other
        for other in snapshot.jobs
        if other.placement and other.disruption_cost is not None and other.priority < waiting.priority
    ]
    costs = []

    def may_go(names: set[str]) -> bool:
        return all(
            sum(pods for name, pods in one.pods if name in names) <= one.allowed for one in snapshot.disruption_budgets
        )

    for number in range(len(may_leave) + 1):
        for gone in itertools.combinations(may_leave, number):
            names = {one.id for one in gone}
            left = dataclasses.replace(snapshot, jobs=tuple(one for one in snapshot.jobs if one.id not in names))
            if may_go(names) and brute.ways(waiting, left):
                costs.append((sum(one.disruption_cost or 0 for one in gone), number))
    want = min(costs, default=None)
    if waiting.id in plan.held:
        assert (sum(one.cost for one in plan.evictions), len(plan.evictions)) == want
    else:
        assert want == ((0, 0) if waiting.id in plan.placements else None)
