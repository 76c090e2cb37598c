"""Run times that are spread, and forecasts from them."""

from __future__ import annotations

import dataclasses

import pytest

import stowplan_allocator as sa
from stowplan_allocator import forecast, spread
from unit.allocator import worlds
from unit.allocator.worlds import job, node, running


@pytest.mark.parametrize(
    ("durations", "ran", "want"),
    [
        ([], 0, ()),
        ([10], 0, (10,)),
        ([10, 20, 30], 0, (10, 20, 30)),
        ([10, 20, 30], 10, (10, 20)),
        ([10, 20, 30], 30, ()),
        (range(1, 129), 0, tuple(range(2, 129, 2))),
        (range(1, 101), 50, tuple(range(1, 51))),
    ],
)
def test_quantiles_are_of_what_is_still_to_come(durations: list[int], ran: int, want: tuple[int, ...]) -> None:
    assert spread.rest_quantiles(durations, ran_seconds=ran) == want


def _running(number: int, quantiles: tuple[int, ...]) -> sa.Snapshot:
    jobs = [running(f"r{i}", {"n1": 1}, 1, expected_seconds=7, rest_quantiles=quantiles) for i in range(number)]
    return worlds.snapshot([node("n1", 100, of=100)], jobs)


@pytest.mark.parametrize(("number", "times"), [(1, 5), (20, 5), (21, 3), (60, 3), (61, 1), (2_000, 1)])
def test_few_jobs_are_drawn_several_times_and_many_together_are_spread_as_told(number: int, times: int) -> None:
    quantiles = tuple(range(16))
    drawn = [[one.expected_seconds for one in found.jobs] for found in spread.draws(_running(number, quantiles))]
    assert len(drawn) == times
    if number > 1_000:
        assert all(90 <= drawn[0].count(value) <= 160 for value in quantiles)
    for each in zip(*drawn, strict=True):
        # The draws of one job are as far apart as can be.
        assert len(set(each)) == times
        assert max(sorted(each)[1:], default=0) >= max(each) * (times - 1) // times


def test_without_quantiles_nothing_is_drawn() -> None:
    snapshot = _running(3, ())
    assert spread.draws(snapshot) == (snapshot,)


def test_of_one_job_the_forecast_takes_the_middle() -> None:
    quantiles = (10, 20, 30, 40, 50)
    for i in range(6):
        one = running(f"r{i}", {"n1": 1}, 8, rest_quantiles=quantiles)
        assert forecast.predict_starts(worlds.snapshot([node("n1")], [one, job("x")]))["x"].starts_at_seconds == 30
    unknown = dataclasses.replace(one, rest_quantiles=())
    assert forecast.predict_starts(worlds.snapshot([node("n1")], [unknown, job("x")]))["x"].starts_at_seconds is None


def test_of_many_jobs_the_forecast_knows_that_some_end_soon() -> None:
    # Ninety of a hundred nodes' jobs run for a day, ten for a minute; each could be either.
    quantiles = (60, *[86_400] * 9)
    jobs = [running(f"r{i}", {f"n{i}": 1}, 8, expected_seconds=86_400, rest_quantiles=quantiles) for i in range(100)]
    waiting = job("x", 4)
    snapshot = worlds.snapshot([node(f"n{i}") for i in range(100)], [*jobs, waiting])
    assert forecast.predict_starts(snapshot)["x"].starts_at_seconds == 60
    median = [dataclasses.replace(one, rest_quantiles=()) for one in jobs]
    snapshot = dataclasses.replace(snapshot, jobs=(*median, waiting))
    assert forecast.predict_starts(snapshot)["x"].starts_at_seconds == 86_400
