"""What a status says of a gang's progress: of this attempt, in words and numbers, and not more often than is useful."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fakes.builders import NOW, a_gang, a_job, time_text
from stowplan_operator import api
from stowplan_operator.progress import Progress
from unit.operator.deriving import READING, Json, again, conditions, derive, facts
from unit.operator.gang import BOTH_RUN, FIRST, PLACED, RUNNING, SECOND

LATER = dataclasses.replace(READING, step=60)


def reported() -> Json:
    return derive(RUNNING, BOTH_RUN, facts(progress=READING, eta="about 3m"))


@pytest.mark.parametrize(
    ("took", "grace", "told"), [(61.2, 60, True), (60.0, 60, False), (61.2, None, False), (None, 1, False)]
)
def test_a_checkpoint_that_takes_longer_than_a_stop_leaves_is_told(
    took: float | None, grace: int | None, told: bool
) -> None:
    reading = dataclasses.replace(READING, checkpoint_save_seconds=took)
    message = derive(RUNNING, BOTH_RUN, facts(progress=reading, grace_seconds=grace))["progress"].get("message", "")
    want = "a checkpoint takes 61 s; raise spec.checkpoint.gracePeriodSeconds (60), or a stop loses it"
    assert message == (want if told else "")


def test_progress_is_told_in_words_and_numbers() -> None:
    derived = reported()
    assert derived["progress"] == {
        "attempt": 1,
        "step": 50,
        "firstStep": 50,
        "stepTime": time_text(NOW),
        "totalSteps": 200,
        "percent": "25%",
        "loss": "0.1235",
        "samplesPerSecond": "812.5",
        "checkpointStep": 40,
        "lastReportTime": time_text(NOW),
    }
    assert derived["eta"] == "about 3m"
    assert conditions(derived)["Progressing"] == "True"


@pytest.mark.parametrize(
    ("after", "reading", "want_step", "want_time"),
    [
        pytest.param(9, LATER, 50, 0, id="sooner than the interval it is not told"),
        pytest.param(10, LATER, 60, 10, id="after the interval it is"),
        pytest.param(500, READING, 50, 0, id="the same reading is not told again"),
    ],
)
def test_when_progress_is_renewed(after: float, reading: Progress, want_step: int, want_time: float) -> None:
    old = again(RUNNING, reported())
    told = derive(old, BOTH_RUN, facts(NOW + after, progress=reading))["progress"]
    assert (told["step"], told["lastReportTime"]) == (want_step, time_text(NOW + want_time))


def test_a_finished_rank_zero_has_the_last_word() -> None:
    summary = json.dumps({"stowplan": {"step": 200, "stepsTotal": 200, "evalAccuracy": 0.9712}})
    ended = (FIRST.succeeded(message=f"done\n{summary}\n"), SECOND.succeeded())
    told = derive(again(RUNNING, reported()).phase(api.Phase.SUCCEEDED), ended, facts(NOW + 1))["progress"]
    assert told["step"] == 200


def test_a_gang_that_has_lost_its_place_still_has_its_last_word() -> None:
    summary = json.dumps({"stowplan": {"step": 66, "checkpointStep": 60}})
    ended = (FIRST.failed(message=summary), SECOND.failed())
    released = again(RUNNING, reported()).status(placement=None).phase(api.Phase.RESTARTING)
    assert derive(released, ended, facts(NOW + 1))["progress"]["checkpointStep"] == 60


def test_what_a_reading_lacks_stays() -> None:
    told = derive(again(RUNNING, reported()), BOTH_RUN, facts(NOW + 60, progress=Progress(step=70)))["progress"]
    assert (told["step"], told["totalSteps"], told["checkpointStep"]) == (70, 200, 40)


def test_when_a_step_was_last_seen_to_move() -> None:
    still = derive(again(RUNNING, reported()), BOTH_RUN, facts(NOW + 60, progress=READING))
    assert still["progress"]["stepTime"] == time_text(NOW)
    moved = derive(again(RUNNING, still), BOTH_RUN, facts(NOW + 90, progress=LATER))
    assert (moved["progress"]["stepTime"], moved["progress"]["firstStep"]) == (time_text(NOW + 90), 50)
    saved = dataclasses.replace(LATER, checkpoint_step=60)
    after = derive(again(RUNNING, moved), BOTH_RUN, facts(NOW + 120, progress=saved))
    assert after["progress"]["stepTime"] == time_text(NOW + 120), "a checkpoint is movement too"


def test_the_next_attempt_begins_its_own_account() -> None:
    second = a_job("a").placed_on("n1", "n2", attempt=2, at=NOW + 100).started(NOW + 100)
    before = second.status(progress=reported()["progress"])
    pods = tuple(pod.running() for pod in a_gang(second, "n1", "n2", attempt=2))
    old = derive(before, pods, facts(NOW + 99, progress=LATER))
    assert old["progress"]["attempt"] == 1, "a reading from before its start is not its own"
    told = derive(before, pods, facts(NOW + 110, progress=dataclasses.replace(READING, loss=None)))["progress"]
    assert (told["attempt"], told["firstStep"], told["stepTime"]) == (2, 50, time_text(NOW + 110))
    assert "loss" not in told, "what the first attempt reported is not said of the second"
    assert told["checkpointStep"] == 40


def test_an_eta_is_for_gangs_that_run() -> None:
    assert "eta" not in derive(PLACED, (), facts(eta="about 3m"))


def test_progress_of_a_gang_that_starts_again_is_not_said_to_move() -> None:
    derived = derive(again(PLACED, {**PLACED.body()["status"], "progress": {"step": 50}}), ())
    assert conditions(derived)["Progressing"] == "False"


def test_why_nothing_was_read_is_said_only_while_the_gang_runs() -> None:
    known = {"progress_error": "pod c-1-0 at 10.0.0.1:9400 cannot be read (ClientConnectorError)"}
    running = derive(RUNNING, BOTH_RUN, facts(NOW + 100, **known))
    assert running["progress"]["message"].startswith("progress is unknown: pod c-1-0")
    (progressing,) = (one for one in running["conditions"] if one["type"] == "Progressing")
    assert (progressing["status"], progressing["message"]) == ("Unknown", "no step has been reported")
    waiting = {key: value for key, value in running.items() if key != "placement"} | {"phase": "Pending"}
    left = derive(again(RUNNING, waiting), (), facts(NOW + 110))
    assert left["phase"] == "Pending"
    assert "progress" not in left
    assert "last step ?" not in str(left["conditions"])


def test_what_was_reported_before_stays_when_the_reason_for_not_knowing_more_goes() -> None:
    silent = derive(again(RUNNING, reported()), BOTH_RUN, facts(NOW + 100, progress_error="pod gone"))
    assert silent["progress"]["message"] == "progress is unknown: pod gone"
    waiting = {key: value for key, value in silent.items() if key != "placement"} | {"phase": "Pending"}
    left = derive(again(RUNNING, waiting), (), facts(NOW + 110))
    assert left["progress"] == reported()["progress"]
