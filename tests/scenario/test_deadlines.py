"""A deadline at risk is said at once, once, with what would help; nothing is ended for it."""

from __future__ import annotations

import dataclasses
from typing import Any

from fakes.builders import NAMESPACE, a_job, time_text
from fakes.world import World, two_nodes
from stowplan_operator.moments import Readings
from stowplan_operator.progress import Progress
from stowplan_operator.views import Telemetry


def left(world: World, name: str, seconds: float) -> None:
    uid = world.job(name)["metadata"]["uid"]
    world.readings = Readings(telemetry=Telemetry(), progress={}, eta={}, seconds_left={uid: seconds})


def risk(world: World, name: str) -> dict[str, Any]:
    found = [one for one in world.status(name)["conditions"] if one["type"] == "DeadlineAtRisk"]
    return found[0] if found else {}


def warnings(world: World) -> list[str]:
    return [one["message"] for one in world.server.all("events") if one["reason"] == "DeadlineAtRisk"]


async def test_a_running_job_that_falls_behind_is_told_once_and_runs_on_past_its_deadline() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(deadline=time_text(world.now + 7200)))
    await world.settle()
    assert (risk(world, "a")["status"], risk(world, "a")["reason"]) == ("Unknown", "RunTimeUnknown")
    left(world, "a", 3600)
    await world.settle()
    assert (risk(world, "a")["status"], risk(world, "a")["reason"]) == ("False", "EndsInTime")
    assert warnings(world) == []
    left(world, "a", 10_800)
    await world.settle()
    assert (risk(world, "a")["status"], risk(world, "a")["reason"]) == ("True", "EndsLate")
    assert warnings(world) == [risk(world, "a")["message"]]
    for _ in range(10):
        world.now += 60
        left(world, "a", next(iter(world.readings.seconds_left.values())) - 60)
        assert await world.cycle() == []
    world.now += 7200
    left(world, "a", 1800)
    await world.settle()
    assert (world.phase("a"), risk(world, "a")["reason"]) == ("Running", "DeadlinePassed")
    assert len(warnings(world)) == 1
    world.succeed("a")
    await world.settle()
    assert (risk(world, "a")["status"], risk(world, "a")["reason"]) == ("True", "EndedLate")


async def test_a_new_operator_process_goes_on_with_the_end_that_was_expected() -> None:
    """It knows the pace of a running job only after two reports, and until then what the status says."""
    world = two_nodes()
    world.submit(a_job("a").spec(deadline=time_text(world.now + 7200)))
    await world.settle()
    left(world, "a", 10_800)
    uid = world.job("a")["metadata"]["uid"]
    told = Progress(step=10, steps_total=1000, read_at_seconds=world.now)
    world.readings = dataclasses.replace(world.readings, progress={uid: told})
    await world.settle()
    said = world.status("a")["estimate"]
    world.readings = Readings(telemetry=Telemetry(), progress={}, eta={})
    for _ in range(3):
        world.now += 10
        assert await world.cycle() == []
    assert (world.status("a")["estimate"], risk(world, "a")["status"], len(warnings(world))) == (said, "True", 1)
    await world.wait(11_000)
    assert "estimate" not in world.status("a"), "that end has passed, and nobody knows more"


async def test_a_waiting_job_says_what_would_start_it_in_time_and_starts_when_that_is_done() -> None:
    world = two_nodes()
    world.submit(a_job("holder").spec(activeDeadlineSeconds=36_000))
    await world.settle()
    world.submit(a_job("late").spec(activeDeadlineSeconds=3600, deadline=time_text(world.now + 7200)))
    await world.settle()
    assert risk(world, "late")["reason"] == "StartUnknown"
    world.advise()
    await world.settle()
    said = risk(world, "late")
    assert (said["status"], said["reason"]) == ("True", "EndsLate")
    assert "about 9h after spec.deadline" in said["message"]
    assert "what would start it now: end team/holder" in said["message"]
    assert len(warnings(world)) == 1
    world.delete("holder")
    await world.settle()
    assert world.phase("late") == "Running"
    assert (risk(world, "late")["status"], risk(world, "late")["reason"]) == ("False", "EndsInTime")


async def test_a_deadline_that_is_moved_or_removed_counts_at_once() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(deadline=time_text(world.now + 7200)))
    await world.settle()
    left(world, "a", 10_800)
    await world.settle()
    assert risk(world, "a")["status"] == "True"
    world.edit("a", deadline=time_text(world.now + 36_000))
    await world.settle()
    assert risk(world, "a")["status"] == "False"
    world.server.change("trainingjobs", NAMESPACE, "a", lambda body: body["spec"].pop("deadline"))
    await world.settle()
    assert risk(world, "a") == {}
