"""Predicted starts: the plan replayed over expected ends."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import forecast, replay, simulate
from stowplan_allocator.simulate import workload
from unit.allocator import worlds
from unit.allocator.worlds import job, node, running

# What waits and runs on two nodes of 8 -> when each waiting job starts, and whom it waits for.
Want = dict[str, tuple[int | None, tuple[str, ...]]]
CASES: dict[str, tuple[list[sa.Job], Want]] = {
    "what fits starts now": ([job("x")], {"x": (100, ())}),
    "a job starts when the one in its place has ended": (
        [running("a", {"n1": 1}, 8, expected_seconds=50), running("b", {"n2": 1}, 8, expected_seconds=70), job("x")],
        {"x": (150, ("a",))},
    ),
    "a gang waits for both": (
        [
            running("a", {"n1": 1}, 8, expected_seconds=50),
            running("b", {"n2": 1}, 8, expected_seconds=70),
            job("x", 2),
        ],
        {"x": (170, ("b", "a"))},
    ),
    "one job after the other": (
        [
            running("a", {"n1": 1, "n2": 1}, 8, expected_seconds=50),
            job("x", 2, created_at_seconds=1, expected_seconds=30),
            job("y", 2, created_at_seconds=2),
        ],
        {"x": (150, ("a",)), "y": (180, ("x", "a"))},
    ),
    "an unknown end is named": (
        [running("a", {"n1": 1}, 8), running("b", {"n2": 1}, 8, expected_seconds=70), job("x", 2)],
        {"x": (None, ("a",))},
    ),
    "a job ahead without a known end is named": (
        [
            running("a", {"n1": 1, "n2": 1}, 8, expected_seconds=70),
            job("x", 2, created_at_seconds=1),
            job("y", created_at_seconds=2),
        ],
        {"x": (170, ("a",)), "y": (None, ("x",))},
    ),
    "what never fits has no time": ([job("x", 3)], {"x": (None, ())}),
    "what cannot be planned has no time": ([job("x", 0)], {"x": (None, ())}),
    "on a slower product the next one waits longer": (
        [
            job("x", 2, products=[sa.ProductChoice(worlds.H100, 500)], expected_seconds=30),
            job("y", 2, created_at_seconds=2),
        ],
        {"x": (100, ()), "y": (160, ("x",))},
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_predicted_starts(sentence: str) -> None:
    jobs, want = CASES[sentence]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1"), node("n2")], jobs), now_seconds=100)
    found = forecast.predict_starts(snapshot)
    assert {job_id: (one.starts_at_seconds, one.waits_for) for job_id, one in found.items()} == want
    assert all(one.basis for one in found.values())


def test_victims_leave_at_once_and_come_back() -> None:
    jobs = [running("low", {"n1": 1}, 8, expected_seconds=50), job("high", priority=5, expected_seconds=30)]
    setting = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
    future = replay.Replay(worlds.snapshot([node("n1")], jobs), settings=setting)
    starts = [(moment.snapshot.now_seconds, name) for moment in future.moments() for name in moment.started]
    assert starts == [(0, "high"), (30, "low")]


def test_who_is_on_his_way_out_comes_back_where_the_snapshot_says_so() -> None:
    gang = running("low/1", {"n1": 1}, 8, cost=None, leaving=True)
    back = dataclasses.replace(job("low", expected_seconds=50), name="low/1")
    jobs = [gang, job("high", priority=5, expected_seconds=30)]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1")], jobs), coming_back=(back,))
    for one in (snapshot, dataclasses.replace(snapshot, jobs=(jobs[1],))):
        future = replay.Replay(one, settings=sa.Settings())
        starts = [(moment.snapshot.now_seconds, name) for moment in future.moments() for name in moment.started]
        assert starts == [(0, "high"), (30, "low")]


def test_a_cut_forecast_says_so() -> None:
    jobs = [running("a", {"n1": 1}, 8, expected_seconds=50), job("x")]
    [found] = forecast.predict_starts(worlds.snapshot([node("n1")], jobs), budget_seconds=0.0).values()
    assert found == forecast.Forecast(None, "the budget for the forecast ran out")


def test_in_large_clusters_a_few_ends_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [running(f"r{i}", {"n1": 1}, 1, expected_seconds=10 * (i + 1)) for i in range(8)]
    snapshot = worlds.snapshot([node("n1")], [*jobs, job("x", 1, 3)])
    assert forecast.predict_starts(snapshot)["x"].starts_at_seconds == 30
    monkeypatch.setattr(replay, "MAX_STEPS", 4)
    assert forecast.predict_starts(snapshot)["x"].starts_at_seconds == 40


@st.composite
def timed_jobs(draw: st.DrawFn, index: int) -> sa.Job:
    return dataclasses.replace(draw(worlds.jobs(index, 2)), expected_seconds=draw(st.integers(1, 40)))


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4).flatmap(
        lambda sizes: st.tuples(*(worlds.nodes(i) for i in range(len(sizes))))
    ),
    st.integers(1, 7).flatmap(lambda number: st.tuples(*(timed_jobs(i) for i in range(number)))),
)
@settings(max_examples=60, deadline=None)
def test_with_exact_run_times_the_prediction_is_what_happens(
    nodes: tuple[sa.Node, ...], jobs: tuple[sa.Job, ...]
) -> None:
    found = forecast.predict_starts(worlds.snapshot(list(nodes), list(jobs)))
    history = simulate.simulate(
        nodes,
        [workload.Submission(one, 0, one.expected_seconds or 0) for one in jobs],
        options=simulate.Options(levels=worlds.LEVELS),
    )
    happened = {record.job.id: record.runs[0].start_seconds if record.runs else None for record in history.jobs}
    assert {job_id: one.starts_at_seconds for job_id, one in found.items()} == happened


def test_a_starving_job_gets_the_first_room_that_known_ends_give() -> None:
    jobs = [
        running("a", {"n1": 1}, 8, expected_seconds=50),
        running("b", {"n2": 1}, 4, expected_seconds=70),
        job("large", 2, created_at_seconds=1),
        job("small", 1, 4, created_at_seconds=2, expected_seconds=900),
    ]
    snapshot = worlds.snapshot([node("n1"), node("n2")], jobs)
    # Without a reservation the small job goes first and the large one waits for it.
    assert forecast.predict_starts(snapshot)["large"].starts_at_seconds == 900
    reserved = forecast.reserve(snapshot, "large")
    assert reserved is not None
    assert (reserved.job_id, reserved.starts_at_seconds) == ("large", 70)
    assert {share.node for share in reserved.placement.shares} == {"n1", "n2"}
    unknown = dataclasses.replace(jobs[0], expected_seconds=None)
    assert forecast.reserve(worlds.snapshot([node("n1"), node("n2")], [unknown, *jobs[1:]]), "large") is None
    with pytest.raises(ValueError, match="does not wait"):
        forecast.reserve(snapshot, "a")
