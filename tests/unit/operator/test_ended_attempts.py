"""What a status keeps of an attempt that has ended: its cause, its steps, its GPU time, its place in the history."""

from __future__ import annotations

import pytest

from fakes.builders import NOW, JobBuilder, PodBuilder, a_gang, a_job, an_attempt, time_text
from stowplan_operator import lifecycle, retries, steps
from stowplan_operator.failures import Cause
from stowplan_operator.progress import Progress
from unit.operator.gang import FIRST, PLACED, RUNNING, SECOND
from unit.operator.transitions.case import HANGS, a_fault, advance


def test_an_attempt_that_moved_says_so() -> None:
    transition = advance(RUNNING, (FIRST.running(), SECOND.running()), fault=a_fault(Cause.GPU_UNHEALTHY, xid=119))
    assert transition is not None
    assert transition.status["history"][-1]["outcome"] == "Migrated"
    assert transition.status["lastFailure"]["xid"] == 119
    avoided = retries.avoided_nodes(transition.status, RUNNING.parsed(), now_seconds=NOW + 20)
    assert avoided == {"n2"}


def test_a_failure_keeps_what_its_reader_needs() -> None:
    tail = "x" * 5000 + "RuntimeError: boom"
    transition = advance(RUNNING, (FIRST.running(), SECOND.failed(139, message=tail)))
    assert transition is not None
    failure = transition.status["lastFailure"]
    assert {name: failure[name] for name in ("attempt", "rank", "pod", "node", "exitCode", "signal", "time")} == {
        "attempt": 1,
        "rank": 1,
        "pod": "a-1-1",
        "node": "n2",
        "exitCode": 139,
        "signal": 11,
        "time": time_text(NOW + 10),
    }
    assert failure["logTail"].endswith("RuntimeError: boom")
    assert len(failure["logTail"]) == 2048


def test_an_attempt_that_ended_keeps_its_steps() -> None:
    transition = advance(HANGS, (FIRST.failed(), SECOND.running()), heard=steps.Heard(Progress(step=44)))
    assert transition is not None
    assert transition.status["lastFailure"]["step"] == 44
    ended = transition.status["history"][-1]
    assert (ended["firstStep"], ended["lastStep"]) == (30, 44)


def test_a_deadline_names_no_pod() -> None:
    transition = advance(RUNNING.spec(activeDeadlineSeconds=1), (FIRST.running(), SECOND.running()))
    assert transition is not None
    assert not {"rank", "pod", "node", "exitCode"} & transition.status["lastFailure"].keys()


@pytest.mark.parametrize(
    ("job", "pods", "want"),
    [
        pytest.param(RUNNING, (FIRST.failed(), SECOND.running()), 10 * 4 * 2, id="from the start to the end"),
        pytest.param(PLACED, (FIRST.failed(), SECOND), 0, id="a gang that never ran used nothing"),
        pytest.param(RUNNING.status(gpuSeconds=1000), (FIRST.failed(), SECOND), 1080, id="attempts add up"),
        pytest.param(RUNNING.started(NOW + 50), (FIRST.failed(), SECOND), 0, id="a clock that went back is no credit"),
    ],
)
def test_gpu_seconds(job: JobBuilder, pods: tuple[PodBuilder, ...], want: int) -> None:
    transition = advance(job, pods)
    assert transition is not None
    assert transition.status["gpuSeconds"] == want


def test_history_keeps_the_last_ten_attempts_enough_for_the_longest_backoff() -> None:
    old = [an_attempt(number, begin=NOW - 1000) for number in range(1, 11)]
    job = a_job("a").ended(*old).placed_on("n1", "n2", attempt=11).started()
    transition = advance(job, [pod.failed() for pod in a_gang(job, "n1", "n2", attempt=11)])
    assert transition is not None
    history = transition.status["history"]
    assert [entry["attempt"] for entry in history] == list(range(2, 12))
    quick = [an_attempt(number) for number in range(lifecycle.HISTORY_LENGTH)]
    assert retries.backoff_seconds(quick) == retries.MAX_BACKOFF_SECONDS
    assert history[-1] == {
        "attempt": 11,
        "startTime": time_text(NOW),
        "endTime": time_text(NOW + 10),
        "outcome": "Failed",
        "reason": "ContainerFailed",
        "nodes": 2,
        "gpuSeconds": 80,
        "rank": 0,
        "node": "n1",
        "exitCode": 1,
        "message": "rank 0 on n1 exited with code 1; no step was reported before it ended",
    }


def test_history_keeps_what_an_hour_may_see_only_so_often_for_an_hour() -> None:
    """Of forty attempts that ended a minute after each other: the last ten, and what is counted of the last hour."""
    outcomes = ("Failed", "Preempted", "Resized", "Defragmented", "Suspended")
    old = [an_attempt(n, begin=NOW - 60 * (41 - n), outcome=outcomes[n % 5]) for n in range(1, 41)]
    job = a_job("a").ended(*old).placed_on("n1", "n2", attempt=41).started()
    late = NOW + 1800
    ended = lifecycle.preempted(
        job.view(), by="team/b", cost=1, accelerators_per_pod=4, grace_seconds=30, now_seconds=late
    )
    history = ended.status["history"]
    assert [entry["attempt"] for entry in history[-10:]] == list(range(32, 42))
    before = [n for n in range(1, 32) if outcomes[n % 5] not in ("Failed", "Suspended") and n >= 11]
    assert [entry["attempt"] for entry in history[:-10]] == before
    of_this_hour = [one for one in history if one["outcome"] in ("Preempted", "Defragmented") and one["attempt"] >= 11]
    assert len(of_this_hour) == 13


def test_no_history_is_longer_than_the_api_takes() -> None:
    old = [an_attempt(n, outcome="Resized") for n in range(1, 65)]
    job = a_job("a").ended(*old).placed_on("n1", "n2", attempt=65).started()
    ended = lifecycle.preempted(
        job.view(), by="team/b", cost=1, accelerators_per_pod=4, grace_seconds=30, now_seconds=NOW + 60
    )
    assert [entry["attempt"] for entry in ended.status["history"]] == list(range(2, 66))
