"""Starts alone where the whole plan fails: the rest of the cluster goes on, and the certificate says why."""

from __future__ import annotations

import dataclasses
import logging

import pytest

import stowplan_allocator as sa
from stowplan_allocator import checks, fallback, planner
from stowplan_allocator import worker as worker_module
from unit.allocator import worlds
from unit.allocator.worlds import job, node, running

ERROR = sa.PlanViolationError(["n1: 16 accelerators taken where 8 are free"])
HALVES = [running("a", {"n1": 1}, 4, cost=900), running("b", {"n2": 1}, 4, cost=500)]
NODES = [node("n1"), node("n2"), node("n3")]
JOBS = [
    *HALVES,
    job("x", 1, 8, make_room=1000),
    job("back", 1, 4, returning=True),
    job("gone", 1, 4, returning=True, leaving=True),
]
SNAPSHOT = dataclasses.replace(worlds.snapshot(NODES[:2], JOBS), move_budget=10_000)


def test_starts_alone_are_planned_and_say_what_happened(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        plan = fallback.plan_anyway(SNAPSHOT, sa.Settings(resize=True), error=ERROR)
    assert plan.placements.keys() == {"back"}
    assert plan.waiting.keys() == {"x", "gone"}
    assert plan.waiting["gone"].reason is sa.Reason.WAITING_FOR_PREEMPTION
    assert (plan.moves, plan.evictions, plan.resizes) == ((), (), ())
    assert "n1: 16 accelerators taken where 8 are free" in plan.certificate.note
    assert "n1: 16 accelerators taken where 8 are free" in caplog.text


def test_where_starts_alone_fail_too_the_first_error_goes_on() -> None:
    twice = dataclasses.replace(SNAPSHOT, nodes=(NODES[0], NODES[0]))
    with pytest.raises(sa.PlanViolationError, match="16 accelerators"):
        fallback.plan_anyway(twice, sa.Settings(), error=ERROR)


def test_a_plan_that_breaks_a_rule_is_tried_once_more_without_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    verify = checks.verify

    def strict(plan: sa.Plan, *, snapshot: sa.Snapshot, settings: sa.Settings | None = None) -> None:
        if plan.moves:
            raise ERROR
        verify(plan, snapshot=snapshot, settings=settings)

    monkeypatch.setattr(planner.checks, "verify", strict)
    with pytest.raises(sa.PlanViolationError):
        sa.plan(dataclasses.replace(SNAPSHOT, jobs=tuple(JOBS[:3])))
    moving = dataclasses.replace(SNAPSHOT, jobs=tuple(JOBS[:3]))
    plan = worker_module.answer(moving, sa.Settings())
    assert plan.waiting.keys() == {"x"}
    assert "whole plan failed" in plan.certificate.note
