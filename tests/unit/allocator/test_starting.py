"""Who returns or has room by moves, beside quotas, limits and reservations, while others are still leaving."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import stowplan_allocator as sa
from stowplan_allocator import making_room, preempting
from unit.allocator import worlds
from unit.allocator.worlds import job, node, running

TWO = [node("n1"), node("n2")]
OLD = running("old", {"n2": 1}, 8, leaving=True, queue="q")
BACK = job("b", 1, 8, returning=True, queue="q")


def at(*nodes: str) -> sa.Placement:
    return sa.Placement(worlds.H100, tuple(sa.NodeShare(name, 1) for name in nodes))


def world(nodes: list[sa.Node], jobs: list[sa.Job], **fields: Any) -> sa.Snapshot:
    return dataclasses.replace(worlds.snapshot(nodes, jobs), **fields)


def queue(owned: int, **fields: Any) -> dict[str, Any]:
    return {"queues": (sa.Queue("q", quotas=(sa.Quota(worlds.H100, owned),), **fields),)}


KEPT: dict[str, Any] = {"now_seconds": 100, "reservations": (sa.Reservation("r", at("n1"), 100),)}
HALVES = [running("old", {"n1": 1}, 4, leaving=True), job("b", 1, 4, returning=True), job("r", 1, 4)]
RETURNS: dict[str, tuple[sa.Snapshot, bool]] = {
    "beside who is leaving, where nothing forbids it": (world(TWO, [OLD, BACK]), True),
    "within the quota": (world(TWO, [OLD, BACK], **queue(16)), True),
    "not while who leaves has the quota": (world(TWO, [OLD, BACK], **queue(8)), False),
    "not while who leaves is the last that may run": (world(TWO, [OLD, BACK], **queue(16, max_running_jobs=1)), False),
    "not while who leaves is beside what is kept": (world(TWO[:1], HALVES, **KEPT), False),
    "beside what is kept on another node": (
        world(TWO, [HALVES[0], dataclasses.replace(HALVES[1], avoided_nodes=frozenset({"n1"})), HALVES[2]], **KEPT),
        True,
    ),
    "where who leaves ends before what is kept starts": (
        world(
            TWO[:1],
            [dataclasses.replace(HALVES[0], expected_seconds=5), *HALVES[1:]],
            now_seconds=100,
            reservations=(sa.Reservation("r", at("n1"), 200),),
        ),
        True,
    ),
}


@pytest.mark.parametrize("sentence", RETURNS)
def test_a_job_returns(sentence: str) -> None:
    snapshot, starts = RETURNS[sentence]
    plan = sa.plan(snapshot)
    assert ("b" in plan.placements) == starts
    if not starts:
        assert plan.waiting["b"].reason is sa.Reason.WAITING_FOR_PREEMPTION
        assert "b" in plan.held


def test_two_that_return_share_what_is_left_of_a_quota() -> None:
    nodes = [*TWO, node("n3")]
    plan = sa.plan(world(nodes, [OLD, BACK, dataclasses.replace(BACK, id="c", name="c")], **queue(16)))
    assert plan.placements.keys() == {"b"}
    assert plan.held.keys() == {"c"}


ASKERS = [running(f"s{i}", {f"n{i}": 1}, 4, cost=10) for i in range(1, 5)]
FOUR = [node(f"n{i}") for i in range(1, 5)]


@pytest.mark.parametrize("preemption", [sa.Preemption.NEVER, sa.Preemption.LOWER_PRIORITY])
def test_two_ask_and_the_first_has_a_reservation(preemption: sa.Preemption) -> None:
    asking = [job(name, 1, 8, created_at_seconds=i, make_room=1000) for i, name in enumerate("ab")]
    kept = (sa.Reservation("a", at("n1"), 9000, True),)
    snapshot = world(FOUR, [*ASKERS, *asking], move_budget=10**6, now_seconds=5000, reservations=kept)
    plan = sa.plan(snapshot, sa.Settings(preemption=preemption))
    assert [(move.job_id, move.for_job) for move in plan.moves] == [("s1", "a"), ("s3", "b")]


@pytest.mark.parametrize("strategy", [sa.Strategy.EXACT, sa.Strategy.GREEDY])
def test_who_gets_room_by_moves_no_longer_needs_his_reservation(strategy: sa.Strategy) -> None:
    jobs = [
        running("fixed", {"n1": 1}, 4, cost=None, expected_seconds=4000),
        running("small", {"n2": 1}, 4, cost=10),
        running("x", {"n3": 1}, 4, cost=None),
        job("a", 1, 8, created_at_seconds=1, make_room=1000),
        job("w", 1, 4, created_at_seconds=2),
    ]
    kept = (sa.Reservation("a", at("n1"), 9000),)
    snapshot = world([*TWO, node("n3")], jobs, move_budget=10**6, now_seconds=5000, reservations=kept)
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    assert [(move.job_id, move.for_job) for move in plan.moves] == [("small", "a")]
    assert plan.held["a"] == at("n2")
    assert plan.placements.keys() == {"w"}


VIP = job("vip", 1, 8, priority=5)
ASKING = [job(f"a{i}", 1, 8, created_at_seconds=i, make_room=1000) for i in range(6)]
LOADED = [dataclasses.replace(one, pod=worlds.amounts(5)) for one in ASKERS]
CROWDED = world(FOUR, [*LOADED, VIP, *ASKING], move_budget=10**6)
LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)


def test_who_is_ahead_with_victims_is_found_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    decide = preempting.decide

    def counted(*args: Any, **named: Any) -> Any:
        calls.append(args)
        return decide(*args, **named)

    monkeypatch.setattr(preempting, "decide", counted)
    plan = sa.plan(CROWDED, LOWER)
    assert [one.for_job for one in plan.evictions] == ["vip"]
    assert len(calls) == 2, "once for those who ask, once for the plan"


def test_the_clock_is_looked_at_though_somebody_ahead_has_victims(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ahead = making_room._Scene._is_evicting

    def noted(scene: Any, job: sa.Job) -> bool:
        asked.append(job.id)
        return ahead(scene, job)

    monkeypatch.setattr(making_room._Scene, "_is_evicting", noted)
    sa.plan(CROWDED, dataclasses.replace(LOWER, time_limit_seconds=1e-6))
    assert asked == ["a0"]
