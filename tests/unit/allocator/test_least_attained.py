"""Least attained service among equals: who has had much more makes way, and nobody takes turns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import problem, quota_checks
from unit.allocator import worlds

HOUR = 3600
LEAST = sa.QueueOrder.LEAST_ATTAINED
EQUALS = sa.Settings(preemption=sa.Preemption.LEAST_ATTAINED, order=LEAST)
LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
BOTH = [sa.Strategy.EXACT, sa.Strategy.GREEDY]
OPEN = sa.Queue("q", preemption=(sa.QueuePreemption.LEAST_ATTAINED,))
SHUT = sa.Queue("q")


def runs(had: int, **fields: Any) -> sa.Job:
    """A running job that has had so many accelerator-hours, on a node of its own."""
    return worlds.running("old", {"n0": 1}, 8, attained_accelerator_seconds=had * HOUR, **fields)


def new(had: int = 0, **fields: Any) -> sa.Job:
    return worlds.job("new", 1, 8, attained_accelerator_seconds=had * HOUR, created_at_seconds=9, **fields)


@dataclass(frozen=True)
class Case:
    """Whether the running job makes way for the new one."""

    old: sa.Job
    new: sa.Job
    want: bool
    settings: sa.Settings = EQUALS
    queues: list[sa.Queue] = field(default_factory=list)


CASES = {
    "who has had much makes way for who has had nothing": Case(runs(1), new(), True),
    "who has had as much does not": Case(runs(9), new(1), False),
    "a level is ten times as much": Case(runs(10), new(9), True),
    "who has had nothing yet makes way for nobody": Case(runs(0), new(), False),
    "nor does who has less": Case(runs(1), new(10), False),
    "lower priority makes way whatever it has had": Case(runs(0, priority=-1), new(), True),
    "higher priority does not": Case(runs(99, priority=1), new(), False),
    "nor a job that must not be disturbed": Case(runs(99, cost=None), new(), False),
    "nor one that was created so much earlier that it would come first again": Case(
        runs(1), dataclasses.replace(new(), created_at_seconds=20 * HOUR + 1), False
    ),
    "nor for a job that may not preempt": Case(runs(99), new(preempts=False), False),
    "not without the policy": Case(runs(99), new(), False, LOWER),
    "a queue may choose it, with an order of its own": Case(
        runs(99, queue="q", order=LEAST), new(queue="q", order=LEAST), True, LOWER, [OPEN]
    ),
    "but its jobs take turns in no other order": Case(runs(99, queue="q"), new(queue="q"), False, LOWER, [OPEN]),
    "another queue does not": Case(runs(99, queue="q", order=LEAST), new(queue="q", order=LEAST), False, LOWER, [SHUT]),
    "whatever the settings say of jobs without a queue": Case(
        runs(99, queue="q", order=LEAST), new(queue="q", order=LEAST), False, EQUALS, [SHUT]
    ),
    "which these have": Case(runs(99), new(), True, EQUALS, [SHUT]),
    "jobs of different queues are not compared": Case(
        runs(99, queue="q", order=LEAST), new(order=LEAST), False, EQUALS, [OPEN]
    ),
    "and never where the settings allow no preemption": Case(
        runs(99, queue="q", order=LEAST), new(queue="q", order=LEAST), False, sa.Settings(), [OPEN]
    ),
}


@pytest.mark.parametrize("strategy", BOTH)
@pytest.mark.parametrize("sentence", CASES)
def test_who_makes_way(sentence: str, strategy: sa.Strategy) -> None:
    case = CASES[sentence]
    snapshot = worlds.snapshot([worlds.node("n0")], [case.old, case.new])
    snapshot = dataclasses.replace(snapshot, queues=tuple(case.queues))
    plan = sa.plan(snapshot, dataclasses.replace(case.settings, strategy=strategy))
    assert [one.job_id for one in plan.evictions] == (["old"] if case.want else [])


@given(st.integers(0, 10**8), st.integers(0, 10**8))
@settings(max_examples=100, deadline=None)
def test_the_checks_know_the_levels_by_other_arithmetic(more: int, less: int) -> None:
    jobs = [dataclasses.replace(new(), attained_accelerator_seconds=had) for had in (more, less)]
    assert quota_checks.has_had_more(*jobs) == (problem.attained_level(more) > problem.attained_level(less))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 16)), min_size=2, max_size=4),
    st.sampled_from([4, 8]),
    st.sampled_from([[], [OPEN]]),
)
@settings(max_examples=12, deadline=None)
def test_equals_do_not_take_turns(arrivals: list[tuple[int, int]], gpus: int, queues: list[sa.Queue]) -> None:
    """Hour by hour on one node: of jobs of one size nobody makes way twice for another one at the same level."""
    queue = "q" if queues else ""
    chosen = dataclasses.replace(EQUALS if not queues else LOWER, explain=False, strategy=sa.Strategy.GREEDY)
    order = LEAST if queues else None
    jobs = {
        f"j{i}": worlds.job(f"j{i}", 1, gpus, created_at_seconds=at * HOUR, queue=queue, order=order)
        for i, (at, _) in enumerate(arrivals)
    }
    work = {f"j{i}": hours for i, (_, hours) in enumerate(arrivals)}
    seen: set[tuple[str, str, int]] = set()
    for hour in range(100):
        there = [job for name, job in jobs.items() if job.created_at_seconds <= hour * HOUR and work[name] > 0]
        plan = sa.plan(dataclasses.replace(worlds.snapshot([worlds.node("n0")], there), queues=tuple(queues)), chosen)
        for one in plan.evictions:
            turn = (one.job_id, one.for_job, problem.attained_level(jobs[one.job_id].attained_accelerator_seconds))
            assert turn not in seen
            seen.add(turn)
            jobs[one.job_id] = dataclasses.replace(jobs[one.job_id], placement=None, disruption_cost=None)
        for name, placement in plan.placements.items():
            jobs[name] = dataclasses.replace(jobs[name], placement=placement, disruption_cost=1)
        for name, job in jobs.items():
            if job.placement is not None:
                had = job.attained_accelerator_seconds + HOUR * job.pod.accelerators
                work[name] -= 1
                placement = job.placement if work[name] > 0 else None
                jobs[name] = dataclasses.replace(job, attained_accelerator_seconds=had, placement=placement)
        if not any(work.values()):
            break
    assert not any(work.values()), "everybody ends"
