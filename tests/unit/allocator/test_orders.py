"""The orders of the queue: who comes first, and that nobody is passed for ever."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import problem as problems
from unit.allocator import worlds

AGE, SHORTEST, LEAST_ATTAINED = sa.QueueOrder.AGE, sa.QueueOrder.SHORTEST, sa.QueueOrder.LEAST_ATTAINED
HOUR = 3600


@dataclass(frozen=True)
class Case:
    order: sa.QueueOrder
    want_first: sa.Job
    want_second: sa.Job


CASES = {
    "by age the older job is first, however long it takes": Case(
        AGE,
        worlds.job("old", created_at_seconds=1, expected_seconds=9000),
        worlds.job("young", created_at_seconds=2, expected_seconds=10),
    ),
    "the job that is expected to take less time is first": Case(
        SHORTEST,
        worlds.job("short", created_at_seconds=100, expected_seconds=HOUR),
        worlds.job("long", created_at_seconds=1, expected_seconds=2 * HOUR),
    ),
    "a long job that has waited twenty times its time is not passed any more": Case(
        SHORTEST,
        worlds.job("long", created_at_seconds=0, expected_seconds=HOUR),
        worlds.job("short", created_at_seconds=20 * HOUR + 1, expected_seconds=0),
    ),
    "a job without an estimate counts as a day": Case(
        SHORTEST,
        worlds.job("half a day", created_at_seconds=0, expected_seconds=12 * HOUR),
        worlds.job("unknown", created_at_seconds=0),
    ),
    "without an estimate it still comes before one of two days": Case(
        SHORTEST,
        worlds.job("unknown", created_at_seconds=0),
        worlds.job("two days", created_at_seconds=0, expected_seconds=48 * HOUR),
    ),
    "a job without an estimate that has run for two days is expected to take two more": Case(
        SHORTEST,
        worlds.job("a day and a half", created_at_seconds=0, expected_seconds=36 * HOUR),
        worlds.job("unknown", created_at_seconds=0, attained_accelerator_seconds=8 * 48 * HOUR),
    ),
    "the job that has had less is first": Case(
        LEAST_ATTAINED,
        worlds.job("new", created_at_seconds=9),
        worlds.job("restarted", created_at_seconds=1, attained_accelerator_seconds=2 * HOUR),
    ),
    "what two jobs have had is compared roughly, and then age counts": Case(
        LEAST_ATTAINED,
        worlds.job("old", created_at_seconds=1, attained_accelerator_seconds=9 * HOUR),
        worlds.job("young", created_at_seconds=2, attained_accelerator_seconds=2 * HOUR),
    ),
    "priority comes before every order": Case(
        SHORTEST,
        worlds.job("urgent", priority=1, created_at_seconds=9, expected_seconds=99 * HOUR),
        worlds.job("short", created_at_seconds=1, expected_seconds=1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_in_the_order_gets_the_only_place(name: str) -> None:
    case = CASES[name]
    jobs = [case.want_second, case.want_first]
    for strategy in (sa.Strategy.EXACT, sa.Strategy.GREEDY):
        plan = sa.plan(worlds.snapshot([worlds.node("n1")], jobs), sa.Settings(strategy=strategy, order=case.order))
        assert list(plan.placements) == [case.want_first.id]


@st.composite
def any_job(draw: st.DrawFn, name: str) -> sa.Job:
    times = st.integers(0, 10**6)
    return worlds.job(
        name,
        draw(st.integers(1, 4)),
        draw(st.sampled_from([0, 1, 8])),
        created_at_seconds=draw(times),
        expected_seconds=draw(st.none() | times),
        attained_accelerator_seconds=draw(times),
        disruption_cost=draw(st.none() | st.integers(0, 10**5)),
    )


@given(any_job("a"), st.integers(1, 10**9), st.sampled_from(list(sa.QueueOrder)))
@settings(max_examples=200, deadline=None)
def test_nobody_is_passed_by_those_who_come_much_later(job: sa.Job, later: int, order: sa.QueueOrder) -> None:
    ran = job.attained_accelerator_seconds // max(1, job.num_pods * job.pod.accelerators)
    expected = max(problems.UNKNOWN_SECONDS, ran) if job.expected_seconds is None else job.expected_seconds
    bound = {AGE: 0, SHORTEST: expected, LEAST_ATTAINED: job.attained_accelerator_seconds}[order] * problems.STRETCH
    newcomer = worlds.job("b", created_at_seconds=job.created_at_seconds + bound + later, expected_seconds=0)
    assert problems.queue_key(job, order=order) < problems.queue_key(newcomer, order=order)


@given(any_job("a"), st.sampled_from(list(sa.QueueOrder)))
@settings(max_examples=100, deadline=None)
def test_a_running_job_never_stands_behind_its_own_turn(job: sa.Job, order: sa.QueueOrder) -> None:
    # So a victim that waits again does not take the place back from the one that took it.
    assert problems.standing_key(job, order=order) <= problems.queue_key(job, order=order)


def test_a_place_changes_hands_for_a_clear_gain_only() -> None:
    running = worlds.job("running", created_at_seconds=0, expected_seconds=1000, disruption_cost=60 * 8)
    stands = problems.standing_key(running, order=SHORTEST)
    for left, want in ((430, True), (450, False), (600, False)):
        rival = worlds.job("rival", created_at_seconds=0, expected_seconds=left)
        assert (problems.queue_key(rival, order=SHORTEST) < stands) is want
