"""What is known of run times reaches statuses, plans and questions, and makes no plans or writes while it holds."""

from __future__ import annotations

import pytest

import stowplan_allocator
from fakes import world as worlds
from fakes.builders import JobBuilder, a_job
from fakes.world import World, a_world
from stowplan_allocator import types
from stowplan_operator import answers
from stowplan_operator.moments import Readings
from stowplan_operator.views import Telemetry, format_time


def count_plans(monkeypatch: pytest.MonkeyPatch) -> list[types.Snapshot]:
    planned: list[types.Snapshot] = []

    async def plan(_: worlds.InlineSolver, snapshot: types.Snapshot, chosen: types.Settings) -> types.Plan:
        planned.append(snapshot)
        return stowplan_allocator.plan(snapshot, chosen)

    monkeypatch.setattr(worlds.InlineSolver, "plan", plan)
    return planned


async def run(world: World, job: JobBuilder, *, seconds: float) -> None:
    """The job runs so long and succeeds."""
    world.submit(job)
    await world.settle()
    world.now += seconds
    world.succeed(job.name)
    await world.settle()


def left(world: World, **seconds: float) -> None:
    uids = {name: world.job(name)["metadata"]["uid"] for name in seconds}
    progress = {uids[name]: value for name, value in seconds.items()}
    world.readings = Readings(telemetry=Telemetry(), progress={}, eta={}, seconds_left=progress)


async def test_a_job_is_expected_to_run_as_long_as_those_before_it() -> None:
    world = a_world()
    for number, seconds in enumerate((3000, 4000, 9000)):
        await run(world, a_job(f"nightly-{number}"), seconds=seconds)
    world.submit(a_job("nightly-3"))
    world.submit(a_job("nightly-4"))
    await world.settle()
    estimate, waits = world.status("nightly-3")["estimate"], world.status("nightly-4")["estimate"]
    started = world.status("nightly-3")["startTime"]
    assert estimate["basis"] == waits["basis"] == "history of 3 runs"
    assert abs(worlds.views.parse_time(estimate["endTime"]) - worlds.views.parse_time(started) - 4000) <= 10
    assert abs(waits["runSeconds"] - 4000) <= 10
    seen = world.process.desk.seen
    assert seen is not None
    spreads = [job.rest_quantiles for job in answers.observe(seen).snapshot.jobs]
    assert [len(one) for one in spreads] == [3, 3], "forecasts are told how run times are spread"
    world.now += 5000
    await world.settle()
    assert world.status("nightly-3")["estimate"]["basis"] == "history of 1 run"
    left(world, **{"nightly-3": 120.0})
    ends = format_time(world.now + 120)
    await world.settle()
    assert world.status("nightly-3")["estimate"] == {"basis": "progress", "endTime": ends}
    seen = world.process.desk.seen
    assert seen is not None
    observed = answers.observe(seen)
    uid = world.job("nightly-3")["metadata"]["uid"]
    assert observed.bases[uid] == "progress"
    assert next(job for job in observed.snapshot.jobs if job.id == uid).expected_seconds in range(120, 181)
    world.succeed("nightly-3")
    await world.settle()
    assert "estimate" not in world.status("nightly-3")


async def test_steps_and_a_deadline_beyond_all_calendars_disturb_nobody() -> None:
    """30,000 years of steps; the jobs that wait behind them are told when they start, and why they wait."""
    world = a_world()
    world.submit(a_job("endless").spec(deadline="9999-12-31T23:59:59-23:59", args=["x"]))
    await world.settle()
    world.submit(a_job("waits").spec(activeDeadlineSeconds=3600))
    left(world, endless=1e12)
    await world.settle()
    world.advise()
    await world.settle()
    assert "estimate" not in world.status("endless")
    risk = next(one for one in world.status("endless")["conditions"] if one["type"] == "DeadlineAtRisk")
    assert risk["reason"] == "RunTimeUnknown"
    assert world.status("waits")["decision"]["position"] == 1
    assert await world.cycle() == []
    world.succeed("endless")
    await world.settle()
    assert (world.phase("endless"), world.phase("waits")) == ("Succeeded", "Running")


@pytest.mark.parametrize("order", ["age", "shortest", "least-attained"])
async def test_ten_idle_cycles_make_no_plan_and_no_write(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_world(order=order, nodes=4)
    await run(world, a_job("nightly-1"), seconds=4000)
    world.submit(a_job("nightly-2"))
    world.submit(a_job("bounded").spec(activeDeadlineSeconds=7200, args=["x"]))
    await world.settle()
    world.submit(a_job("nightly-3"))
    left(world, bounded=5000.0)
    await world.settle()
    planned = count_plans(monkeypatch)
    for _ in range(10):
        world.now += 9.87  # the clock is seldom on a whole second
        left(world, bounded=world.readings.seconds_left[world.job("bounded")["metadata"]["uid"]] - 9.87)
        assert await world.cycle() == []
    assert planned == []
    await world.wait(4000)
    assert not any(job.rest_quantiles for snapshot in planned for job in snapshot.jobs), "they would be new each second"


async def test_the_shortest_job_goes_first_where_that_is_chosen() -> None:
    world = a_world(order="shortest")
    await run(world, a_job("short-1").spec(args=["x"]), seconds=300)
    world.submit(a_job("holder"))
    await world.settle()
    world.submit(a_job("unknown"))
    world.now += 60
    world.submit(a_job("short-2").spec(args=["x"]))
    await world.settle()
    world.succeed("holder")
    await world.settle()
    assert (world.phase("short-2"), world.phase("unknown")) == ("Running", "Pending")


async def test_who_has_had_the_least_goes_first_where_that_is_chosen() -> None:
    """A job that was preempted after an hour on eight GPUs waits behind one that is younger."""
    world = a_world(order="least-attained")
    world.add_priority_class("high", 1000)
    world.submit(a_job("old"))
    await world.settle()
    world.now += 3600
    world.submit(a_job("fresh"))
    world.submit(a_job("vip").spec(priorityClassName="high"))
    await world.settle()
    assert world.phase("vip") == "Running"
    world.succeed("vip")
    await world.settle()
    assert (world.phase("fresh"), world.phase("old")) == ("Running", "Pending")
