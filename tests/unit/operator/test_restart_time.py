"""How long a start takes, and what is no measurement of it."""

from __future__ import annotations

import pytest

from fakes.builders import NOW, JobBuilder, a_job, an_attempt
from stowplan_operator import preemption, restart_time
from stowplan_operator.progress import Progress, pace_between


def reading(step: int | None, *, at: float) -> Progress:
    return Progress(step=step, read_at_seconds=NOW + at)


def job(*, first: int = 1, attempt: int = 1, **progress: int) -> JobBuilder:
    """Placed at NOW, all pods running after 20 s."""
    placed = a_job("a").placed_on("n1", "n2", attempt=attempt).started(NOW + 20)
    return placed.status(progress={"attempt": attempt, "firstStep": first, **progress})


RETURNED = {**an_attempt(1), "firstStep": 1, "lastStep": 540}
CASES: dict[str, tuple[JobBuilder, Progress | None, Progress | None, int | None]] = {
    "until its first step": (job(), reading(1, at=70), reading(4, at=100), 70),
    "steps before the first reading are taken off": (job(first=6), reading(6, at=70), reading(16, at=90), 60),
    "a job that goes on from a checkpoint": (
        job(first=502, attempt=2, checkpointStep=500).ended(RETURNED),
        reading(502, at=70),
        reading(512, at=80),
        69,
    ),
    "a checkpoint that it has written since is not where it began": (
        job(first=542, attempt=2, checkpointStep=600).ended(RETURNED),
        reading(542, at=70),
        reading(642, at=170),
        69,
    ),
    "a job that began anew": (
        job(first=2, attempt=2, checkpointStep=600).ended(RETURNED),
        reading(2, at=70),
        reading(12, at=80),
        69,
    ),
    "not before a second reading shows its pace": (job(), reading(1, at=70), reading(1, at=70), None),
    "not without any reading": (job(), None, None, None),
    "not by a reading without a step": (job(), reading(None, at=70), reading(3, at=80), None),
    "not by what was read before it ran": (job(), reading(1, at=5), reading(4, at=10), None),
    "once only": (job(startSeconds=70), reading(1, at=70), reading(4, at=100), None),
    "not by a process that came later": (job(first=1), reading(300, at=700), reading(310, at=710), None),
    "not where nobody watched for more than a minute": (
        job(first=200),
        reading(200, at=270),
        reading(210, at=280),
        None,
    ),
    "not by what another attempt reported": (
        job().status(progress={"attempt": 0, "firstStep": 1}),
        reading(1, at=70),
        reading(4, at=100),
        None,
    ),
    "not of a job without a place": (a_job("a"), reading(1, at=70), reading(4, at=100), None),
}


@pytest.mark.parametrize(("builder", "first", "last", "want"), CASES.values(), ids=CASES)
def test_a_start_is_measured(
    builder: JobBuilder, first: Progress | None, last: Progress | None, want: int | None
) -> None:
    pace = pace_between(first, last) if first and last else None
    assert restart_time.measured(builder.view().status, last, pace) == want


def test_until_it_is_measured_a_restart_counts_as_a_minute() -> None:
    assert preemption.restart_seconds({}) == 60
    assert preemption.restart_seconds({"restartSeconds": 200}) == 200
