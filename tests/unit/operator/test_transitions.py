"""What a gang's pods show, and what its status must become: every case of the tables in ``transitions``."""

from __future__ import annotations

import pytest

from fakes.builders import NOW, JobBuilder, an_attempt, time_text
from stowplan_operator import lifecycle
from stowplan_operator.failures import Cause
from unit.operator.gang import FIRST, RUNNING, SECOND
from unit.operator.transitions import charges, faults, precedence, starting, undisturbed
from unit.operator.transitions.case import Case, advance, with_rules

TABLES = (undisturbed.CASES, faults.CASES, starting.CASES, precedence.CASES, charges.CASES)
TRANSITIONS = {sentence: case for table in TABLES for sentence, case in table.items()}
assert len(TRANSITIONS) == sum(map(len, TABLES)), "a sentence stands in two tables"


@pytest.mark.parametrize("case", TRANSITIONS.values(), ids=TRANSITIONS)
def test_advance(case: Case) -> None:
    before = case.job.body()
    transition = advance(case.job, case.pods, lost=case.lost, at=case.at, fault=case.fault, heard=case.heard)
    assert case.job.body() == before, "the job was changed in place"
    if case.want_phase is None:
        assert transition is None
        return
    assert transition is not None
    assert (transition.status["phase"], transition.event[0]) == (case.want_phase, case.want_event)
    assert ("placement" in transition.status) == case.want_placed
    assert (transition.failure.cause if transition.failure else None) is case.want_cause
    assert transition.is_warning is (case.want_cause is not None)
    assert case.want_in_message in transition.event[1]
    assert {name: transition.status.get(name) for name in case.want_status} == case.want_status
    if transition.failure:
        assert transition.status["lastFailure"]["reason"] == transition.failure.cause
        assert case.want_in_message in transition.status["lastFailure"]["message"]


@pytest.mark.parametrize("case", TRANSITIONS.values(), ids=TRANSITIONS)
def test_a_transition_leads_to_a_status_that_stands_right(case: Case) -> None:
    """Level-triggered: seen again, with the same pods and clock, the new status asks for nothing more."""
    transition = advance(case.job, case.pods, lost=case.lost, at=case.at, fault=case.fault, heard=case.heard)
    if transition is not None:
        job = JobBuilder({**case.job.body(), "status": transition.status})
        assert advance(job, case.pods, lost=case.lost, at=case.at) is None


def test_every_cause_is_in_the_table() -> None:
    assert {case.want_cause for case in TRANSITIONS.values()} - {None} == set(Cause)


@pytest.mark.parametrize("case", TRANSITIONS.values(), ids=TRANSITIONS)
def test_what_the_clock_alone_changes_is_announced(case: Case) -> None:
    """A transition that comes by waiting is in ``deadlines`` of the moment before, or nobody would wake up for it."""
    pods = [pod.view() for pod in case.pods]

    def comes(at: float) -> bool:
        return advance(case.job, case.pods, at=at, heard=case.heard) is not None

    early = NOW + 1
    if case.lost or case.fault or comes(early) or case.want_phase is None:
        return
    first = next(at for at in range(int(early), int(case.at) + 1) if comes(at))
    assert first in lifecycle.deadlines(case.job.view(), case.job.parsed(), pods)


def test_an_event_names_the_rule_that_decided() -> None:
    job = with_rules(RUNNING, {"name": "elsewhere", "signals": [9], "action": "RestartElsewhere"})
    transition = advance(job, (FIRST.failed(137), SECOND.running()))
    assert transition is not None
    assert "restart 1 of 1, as spec.failurePolicy.rules[0] (elsewhere) says RestartElsewhere" in transition.event[1]
    assert transition.status["lastFailure"]["avoidNode"] is True


def test_a_restart_after_quick_failures_says_when() -> None:
    job = RUNNING.ended(an_attempt(0, begin=NOW - 100))
    transition = advance(job, (FIRST.failed(), SECOND.running()))
    assert transition is not None
    assert transition.status["retryAfter"] == time_text(NOW + 15)
    assert "after 5 s" in transition.event[1]


def test_a_restart_without_back_off_drops_an_old_one() -> None:
    transition = advance(RUNNING.status(retryAfter=time_text(NOW - 50)), (FIRST.failed(), SECOND.running()))
    assert transition is not None
    assert "retryAfter" not in transition.status


def test_what_is_given_back_leaves_no_decision_behind() -> None:
    transition = advance(RUNNING.status(decision={"reason": "Placed"}), (FIRST.failed(), SECOND.running()))
    assert transition is not None
    assert "decision" not in transition.status
