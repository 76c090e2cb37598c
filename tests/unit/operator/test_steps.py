"""How far an attempt came, and when it hangs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest

from fakes.builders import NOW, a_job, a_pod, time_text
from stowplan_operator import steps
from stowplan_operator.progress import Progress

LIMIT = 300
SINCE = NOW + 20
TOLD: dict[str, Any] = {"attempt": 1, "step": 40, "checkpointStep": 30, "firstStep": 30, "stepTime": time_text(SINCE)}
STILL = Progress(step=40, steps_total=100, checkpoint_step=30, read_at_seconds=SINCE + LIMIT)


@dataclass(frozen=True)
class Case:
    """What status says, what was read, and whether that is a hang."""

    told: dict[str, Any] = field(default_factory=lambda: TOLD)
    reading: Progress | None = STILL
    limit: int | None = LIMIT
    later: float = 0
    want: bool = False


HANGS: dict[str, Case] = {
    "the same step for as long as the limit": Case(want=True),
    "a second less": Case(reading=dataclasses.replace(STILL, read_at_seconds=SINCE + LIMIT - 1)),
    "no limit was set": Case(limit=None),
    "the read failed": Case(reading=None),
    "a reading that is old tells nothing": Case(later=steps.FRESH_SECONDS + 1),
    "a reading that has some age still does": Case(later=steps.FRESH_SECONDS, want=True),
    "time alone makes no hang: the last reading was within the limit": Case(
        reading=dataclasses.replace(STILL, read_at_seconds=SINCE + LIMIT - 30), later=60
    ),
    "the reading shows another step": Case(reading=dataclasses.replace(STILL, step=41)),
    "the reading shows another checkpoint": Case(reading=dataclasses.replace(STILL, checkpoint_step=40)),
    "a reading without a step": Case(reading=dataclasses.replace(STILL, step=None)),
    "all steps are made": Case(reading=dataclasses.replace(STILL, steps_total=40)),
    "this attempt has not reported yet": Case(told={**TOLD, "attempt": 0}),
    "nothing was ever reported": Case(told={}),
    "a reading from before the start": Case(reading=dataclasses.replace(STILL, read_at_seconds=NOW - 1)),
    "the operator's clock went back": Case(told={**TOLD, "stepTime": time_text(NOW + 86400)}),
}


@pytest.mark.parametrize("case", HANGS.values(), ids=HANGS)
def test_find_hang(case: Case) -> None:
    job = a_job().spec(hangTimeoutSeconds=case.limit).placed_on("n1", "n2").started(NOW).status(progress=case.told)
    now = (case.reading.read_at_seconds if case.reading else SINCE + LIMIT) + case.later
    found = steps.find_hang(job.view().status, job.parsed(), steps.Heard(case.reading), now_seconds=now)
    assert (found is not None) is case.want


def test_a_hang_wakes_the_planner() -> None:
    job = a_job().spec(hangTimeoutSeconds=LIMIT).placed_on("n1", "n2").started(NOW).status(progress=TOLD)
    times = steps.deadlines(job.view().status, job.parsed())
    assert times[0] == SINCE + LIMIT
    assert max(times) >= SINCE + LIMIT + 11, "the next reading comes a little later"
    assert not steps.deadlines(job.view().status, a_job().parsed())


SPANS: dict[str, tuple[dict[str, Any], Progress | None, str, tuple[int | None, int | None]]] = {
    "nothing was reported": ({}, None, "", (None, None)),
    "status has it": (TOLD, None, "", (30, 40)),
    "a newer reading": (TOLD, dataclasses.replace(STILL, step=45), "", (30, 45)),
    "another attempt's report": ({**TOLD, "attempt": 0}, None, "", (None, None)),
    "only a reading, not yet told": ({}, STILL, "", (40, 40)),
    "rank 0 has the last word": (TOLD, STILL, '{"stowplan": {"step": 50}}', (30, 50)),
}


@pytest.mark.parametrize(("told", "reading", "message", "want"), SPANS.values(), ids=SPANS)
def test_span(
    told: dict[str, Any], reading: Progress | None, message: str, want: tuple[int | None, int | None]
) -> None:
    job = a_job().placed_on("n1", "n2").started(NOW).status(progress=told)
    pod = a_pod().of(job).failed(message=message).view()
    assert steps.span(job.view().status, steps.Heard(reading), pod) == want
