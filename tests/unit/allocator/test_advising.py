"""Answers beside the plan: predicted starts and changes, from a child that may fail."""

from __future__ import annotations

import dataclasses

import pytest

import stowplan_allocator as sa
from stowplan_allocator import advising, relaxing
from unit.allocator import worlds
from unit.allocator.worlds import job, node, running

# Two nodes of 8, one of them busy for 50 s more; x wants both, y one.
WORLD = worlds.snapshot(
    [node("n1"), node("n2")],
    [
        running("a", {"n1": 1}, 8, expected_seconds=50),
        running("b", {"n2": 1}, 8, cost=7),
        job("x", 2, created_at_seconds=1),
        job("y", 1, created_at_seconds=2),
    ],
)


def a_question(*asked: str, budget_seconds: float = 600) -> advising.Question:
    return advising.Question(WORLD, sa.Settings(), asked, budget_seconds)


def test_every_waiting_job_gets_its_forecast_and_the_asked_ones_what_would_start_them() -> None:
    found = advising.answer(a_question("y"))
    assert list(found) == ["x", "y"]
    assert found["x"].forecast is not None
    assert found["x"].forecast.starts_at_seconds is None
    assert found["y"].forecast is not None
    assert found["y"].forecast.starts_at_seconds == WORLD.now_seconds + 50
    assert found["x"].changes is None
    assert found["y"].changes
    assert all(one.sentence for one in found["y"].changes)


def test_whoever_waits_long_gets_room_and_all_forecasts_reckon_with_it() -> None:
    """y would start once a has ended; now that is kept for x, as long as it is not known when y ends."""
    question = dataclasses.replace(a_question(), reserve_after_seconds=1)
    found = advising.answer(dataclasses.replace(question, snapshot=dataclasses.replace(WORLD, now_seconds=1000)))
    assert found["y"].reservation is None
    kept = found["x"].reservation
    assert kept is not None
    assert (kept.job_id, kept.placement.num_pods, kept.assumed) == ("x", 2, True)
    assert found["y"].forecast is not None
    assert found["y"].forecast.starts_at_seconds is None
    assert advising.answer(a_question())["x"].reservation is None


@pytest.mark.parametrize(("longest", "want"), [({}, False), ({"y": 60}, True)], ids=["in time", "perhaps too late"])
def test_what_would_start_a_job_beside_kept_room_is_asked_as_the_planner_plans(
    longest: dict[str, int], want: bool
) -> None:
    """y would end before x's room is there, if it took no longer than most runs like it."""
    jobs = [
        running("b", {"n2": 1}, 8, expected_seconds=50),
        job("x", 2),
        job("y", 1, created_at_seconds=2, expected_seconds=20),
    ]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1"), node("n2")], jobs), now_seconds=1000)
    question = advising.Question(snapshot, sa.Settings(), ("y",), 600, reserve_after_seconds=1, longest=longest)
    found = advising.answer(question)["y"].changes
    assert found is not None
    assert (relaxing.ChangeKind.RESERVATION_RELEASED in {one.kind for one in found}) is want


def test_without_time_nothing_is_said_to_have_been_tried() -> None:
    found = advising.answer(a_question("x", "y", budget_seconds=0))
    assert {job_id: one.changes for job_id, one in found.items()} == {"x": None, "y": None}


async def test_a_child_answers_the_same() -> None:
    assert await advising.ask(a_question("x", "y")) == advising.answer(a_question("x", "y"))


async def test_a_child_that_fails_is_an_error_in_words() -> None:
    broken = advising.Question(WORLD, "no settings", (), 1)
    with pytest.raises(advising.AdviceError, match="ended with code 1"):
        await advising.ask(broken)


async def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advising, "_START_SECONDS", 0.0)
    with pytest.raises(advising.AdviceError, match="no answer within"):
        await advising.ask(a_question("x", budget_seconds=0.01))
