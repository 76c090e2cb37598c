"""Events say what the status says, in a form that the API server takes."""

from __future__ import annotations

from typing import Any

from fakes.builders import NOW, a_job
from stowplan_operator import events


def build(message: str = "placed", *, reason: str = "Placed", warning: bool = False, at: float = NOW) -> dict[str, Any]:
    return events.build_event(a_job("train").view(), reason, message, warning=warning, now_seconds=at)


def test_an_event_names_the_job_that_it_is_about() -> None:
    about = build()["involvedObject"]
    assert (about["kind"], about["namespace"], about["name"], about["uid"]) == (
        "TrainingJob",
        "team",
        "train",
        "uid-train",
    )


def test_an_event_is_normal_or_a_warning() -> None:
    assert (build()["type"], build(warning=True)["type"]) == ("Normal", "Warning")


def test_the_same_event_has_the_same_name_and_another_one_another() -> None:
    name = build()["metadata"]["name"]
    assert name == build(at=NOW + 0.9)["metadata"]["name"]
    others = [build("other"), build(reason="Running"), build(at=NOW + 1)]
    assert name not in [one["metadata"]["name"] for one in others]


def test_a_long_message_is_cut_to_what_the_api_server_takes() -> None:
    assert len(build("x" * 5000)["message"]) == 1024


def test_times_are_rfc_3339() -> None:
    assert build(at=NOW)["firstTimestamp"] == "2026-11-02T10:00:00Z"
