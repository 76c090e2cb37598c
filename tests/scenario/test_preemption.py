"""A waiting job of higher priority takes the place of running ones: who leaves, what that loses, who starts when."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from fakes.builders import NAMESPACE, JobBuilder, a_job, a_node, time_text
from fakes.world import World
from stowplan_operator import answers, api
from stowplan_operator.moments import Readings
from stowplan_operator.progress import Pace, Progress
from stowplan_operator.settings import PreemptionSettings, Settings
from stowplan_operator.views import Telemetry, parse_time


def a_world(*, policy: str = "LowerPriority", nodes: int = 2) -> World:
    settings = Settings(preemption=PreemptionSettings.model_validate({"policy": policy}))
    world = World(*(a_node(f"n{number}") for number in range(1, nodes + 1)), settings=settings)
    world.add_priority_class("high", 1000)
    world.add_priority_class("polite", 1000, policy="Never")
    return world


def a_saving_job(name: str = "low") -> JobBuilder:
    checkpoint = {"persistentVolumeClaim": "ckpt", "path": "/ckpt", "gracePeriodSeconds": 120}
    return a_job(name).spec(checkpoint=checkpoint)


def an_urgent_job(name: str = "vip", *, nodes: int = 2, priority_class: str = "high") -> JobBuilder:
    return a_job(name).nodes(nodes).spec(priorityClassName=priority_class)


def graces(world: World, job: str) -> set[int]:
    pods = [world.server.get("pods", NAMESPACE, name) for name in world.pod_names(job)]
    return {pod["metadata"]["deletionGracePeriodSeconds"] for pod in pods if pod}


COMING_BACK: dict[str, tuple[Callable[[World], None], list[str]]] = {
    "a victim waits again": (lambda world: None, ["team/low"]),
    "a suspended one does not": (lambda world: world.edit("low", suspend=True), []),
    "nor does one that is deleted": (lambda world: world.delete("low"), []),
    "nor, for now, one that is to be tried again later": (lambda world: _retried_later(world, "low"), []),
}


def _retried_later(world: World, name: str) -> None:
    later = {"retryAfter": time_text(world.now + 600)}
    world.server.change(api.PLURAL, NAMESPACE, name, lambda body: body["status"].update(later))


@pytest.mark.parametrize(("change", "want"), COMING_BACK.values(), ids=COMING_BACK)
async def test_a_plan_knows_who_waits_again_once_his_gang_has_left(
    change: Callable[[World], None], want: list[str]
) -> None:
    world = a_world(nodes=1)
    world.submit(a_job("low").spec(numNodes=1))
    await world.settle()
    world.machinery.terminates = False
    world.submit(an_urgent_job("vip", nodes=1))
    await world.cycle()
    change(world)
    await world.cycle()
    seen = world.process.desk.seen
    assert seen is not None
    snapshot = answers.observe(seen).snapshot
    assert [job.name for job in snapshot.coming_back] == want
    assert all(job.num_pods == 1 and not job.placement for job in snapshot.coming_back)
    world.machinery.terminates = True
    await world.settle()
    seen = world.process.desk.seen
    assert seen is not None
    assert answers.observe(seen).snapshot.coming_back == ()


async def test_a_running_job_saves_leaves_and_returns_when_the_urgent_one_has_ended() -> None:
    world = a_world()
    world.submit(a_saving_job("low"))
    await world.settle()
    world.now += 600
    world.submit(an_urgent_job("vip"))
    await world.cycle()
    assert (world.phase("low"), world.phase("vip")) == ("Pending", "Pending")
    assert world.reason("vip") == "WaitingForPreemption"
    assert (world.condition("low", "Preempted"), world.told("low")[-1]) == ("True", "Preempted")
    assert graces(world, "low") == {120}
    status = world.status("low")
    assert (status["preemptions"], status["restarts"], "retryAfter" in status) == (1, 0, False)
    ended = status["history"][-1]
    assert (ended["outcome"], ended["reason"]) == ("Preempted", f"{NAMESPACE}/vip takes its place")
    await world.settle()
    assert (world.phase("low"), world.phase("vip")) == ("Pending", "Running")
    world.succeed("vip")
    await world.settle()
    assert (world.phase("low"), world.status("low")["attempt"]) == ("Running", 2)
    assert world.condition("low", "Preempted") == "False"


async def test_the_clock_alone_ends_the_protection_of_a_minimum_runtime() -> None:
    world = a_world()
    world.submit(a_saving_job("low").spec(preemption={"minRuntimeSeconds": 1800}))
    await world.settle()
    world.submit(an_urgent_job("vip"))
    await world.wait(600)
    assert (world.phase("low"), world.phase("vip")) == ("Running", "Pending")
    assert 0 < world.pause <= 1200
    await world.wait(world.pause)
    assert (world.phase("low"), world.phase("vip")) == ("Pending", "Running")


async def test_who_waits_for_the_end_of_a_minimum_runtime_is_told_when_that_is_and_the_plan_stays_as_it_is() -> None:
    world = a_world()
    world.submit(a_saving_job("low").spec(preemption={"minRuntimeSeconds": 1800}))
    await world.settle()
    started = parse_time(world.status("low")["placement"]["startedAt"])
    world.submit(an_urgent_job("vip"))
    await world.settle()
    world.advise()
    await world.settle()
    decision = world.status("vip")["decision"]
    assert parse_time(decision["predictedStart"]) == started + 1800
    clock = time_text(started + 1800)[11:19]
    want = f"team/low keeps its place until {clock} UTC (preemption.minRuntimeSeconds)"
    assert decision["predictedStartBasis"] == f"starts once team/low has left; {want}"
    before = world.process.desk.seen
    await world.wait(60)
    after = world.process.desk.seen
    assert before is not None
    assert after is not None
    assert after is not before
    assert after.plan.certificate is before.plan.certificate, "what changes no plan makes no new one"
    await world.wait(started + 1800 - world.now)
    assert (world.phase("low"), world.phase("vip")) == ("Pending", "Running")


async def test_the_clock_alone_ends_the_protection_of_a_job_that_was_preempted_often() -> None:
    world = a_world()
    world.submit(a_saving_job("low"))
    await world.settle()
    for number in range(world.settings.preemption.max_per_hour):
        world.submit(an_urgent_job(f"vip-{number}"))
        await world.settle()
        world.succeed(f"vip-{number}")
        await world.settle()
    world.submit(an_urgent_job("vip"))
    await world.settle()
    assert (world.phase("low"), world.phase("vip")) == ("Running", "Pending")
    assert 0 < world.pause <= 3600
    await world.wait(world.pause)
    assert (world.phase("low"), world.phase("vip")) == ("Pending", "Running")


async def test_who_loses_its_place_is_still_known_to_need_the_steps_that_are_left() -> None:
    """Ten seconds for each step so far, and 80 steps from the last checkpoint on."""
    world = a_world()
    world.submit(a_saving_job("low").spec(deadline=time_text(world.now + 36_000)))
    await world.settle()
    uid = world.job("low")["metadata"]["uid"]
    started = parse_time(world.status("low")["startTime"])
    for step in (0, 30):
        world.now = started + 10 * step
        told = Progress(
            step=step,
            steps_total=100,
            checkpoint_step=20,
            checkpoint_timestamp_seconds=started + 200,
            read_at_seconds=world.now,
        )
        world.readings = Readings(telemetry=Telemetry(), progress={uid: told}, eta={})
        await world.cycle()
    world.submit(an_urgent_job("vip"))
    await world.settle()
    status = world.status("low")
    assert (status["history"][-1]["firstStep"], status["history"][-1]["lastStep"]) == (0, 30)
    assert (status["estimate"]["basis"], abs(status["estimate"]["runSeconds"] - 800) <= 10) == ("progress", True)


async def test_a_job_whose_time_is_over_while_it_waits_ends_without_another_place() -> None:
    world = a_world()
    world.submit(a_saving_job("low").spec(activeDeadlineSeconds=3600))
    await world.settle()
    world.submit(an_urgent_job("vip"))
    await world.settle()
    assert world.phase("low") == "Pending"
    assert world.pause <= 3600
    await world.wait(3600)
    status = world.status("low")
    assert (world.phase("low"), world.reason("low"), world.phase("vip")) == ("Failed", "DeadlineExceeded", "Running")
    told = status["lastFailure"]["message"]
    assert told.startswith("the job first started 3605 s ago, and spec.activeDeadlineSeconds (3600 s) counts from then")
    assert ("decision" in status, "completionTime" in status, len(status["history"])) == (False, True, 1)
    assert (world.condition("low", "Failed"), world.told("low")[-1]) == ("True", "Failed")
    world.succeed("vip")
    await world.settle()
    assert (world.status("low")["attempt"], world.gang("low")) == (1, {})


async def test_a_suspended_job_is_ended_by_its_time_only_when_it_is_resumed() -> None:
    world = a_world()
    world.submit(a_saving_job("low").spec(activeDeadlineSeconds=3600))
    await world.settle()
    world.edit("low", suspend=True)
    await world.settle()
    await world.wait(4000)
    assert world.phase("low") == "Suspended"
    world.edit("low", suspend=False)
    await world.settle()
    assert (world.phase("low"), world.status("low")["attempt"]) == ("Failed", 1)


async def test_while_the_victims_leave_nobody_else_is_told_to() -> None:
    world = a_world(nodes=4)
    world.submit(a_job("a"))
    world.submit(a_job("b"))
    await world.settle()
    world.machinery.terminates = False
    world.submit(an_urgent_job("vip"))
    for _ in range(5):
        await world.step(seconds=61)
    victims = [name for name in ("a", "b") if world.status(name).get("preemptions")]
    assert len(victims) == 1
    assert world.reason("vip") == "WaitingForPreemption"
    assert world.process.metrics.registry.get_sample_value("stowplan_preemptions_total") == 1
    world.machinery.terminates = True
    await world.settle()
    assert sorted(world.phase(name) for name in ("a", "b", "vip")) == ["Pending", "Running", "Running"]


async def test_a_smaller_job_does_not_take_the_room_that_a_victim_leaves() -> None:
    world = a_world()
    world.submit(a_job("low"))
    await world.settle()
    world.machinery.terminates = False
    world.submit(an_urgent_job("vip"))
    await world.step()
    world.submit(a_job("late").nodes(1))
    world.machinery.terminates = True
    await world.settle()
    assert {name: world.phase(name) for name in ("low", "vip", "late")} == {
        "low": "Pending",
        "vip": "Running",
        "late": "Pending",
    }


async def test_the_job_that_saved_last_loses_its_place() -> None:
    world = a_world(nodes=2)
    for name in ("long-ago", "just-now"):
        world.submit(a_saving_job(name).nodes(1))
    await world.settle()
    world.now += 3600
    uids = {name: world.job(name)["metadata"]["uid"] for name in ("long-ago", "just-now")}
    saved = {uids["long-ago"]: world.now - 1800, uids["just-now"]: world.now - 60}
    world.readings = Readings(
        telemetry=Telemetry(),
        progress={
            uid: Progress(step=10, checkpoint_step=9, checkpoint_timestamp_seconds=at, read_at_seconds=world.now)
            for uid, at in saved.items()
        },
        eta={},
    )
    await world.settle()
    world.submit(an_urgent_job("vip", nodes=1))
    await world.settle()
    assert {name: world.phase(name) for name in ("long-ago", "just-now")} == {
        "long-ago": "Running",
        "just-now": "Pending",
    }


UNDISTURBED: dict[str, tuple[World, JobBuilder, JobBuilder]] = {
    "when the administrator allows no preemption": (a_world(policy="Never"), a_job("low"), an_urgent_job()),
    "when the job is not preemptible": (
        a_world(),
        a_job("low").spec(preemption={"preemptible": False}),
        an_urgent_job(),
    ),
    "when it has not run long enough": (
        a_world(),
        a_job("low").spec(preemption={"minRuntimeSeconds": 3600}),
        an_urgent_job(),
    ),
    "by one of equal priority": (a_world(), a_job("low").spec(priorityClassName="high"), an_urgent_job()),
    "by one whose PriorityClass preempts nobody": (
        a_world(),
        a_job("low"),
        an_urgent_job(priority_class="polite"),
    ),
    "when the urgent job would still not fit": (a_world(), a_job("low"), an_urgent_job(nodes=3)),
}


@pytest.mark.parametrize(("world", "low", "urgent"), UNDISTURBED.values(), ids=UNDISTURBED)
async def test_a_running_job_keeps_its_place(world: World, low: JobBuilder, urgent: JobBuilder) -> None:
    world.submit(low)
    await world.settle()
    world.now += 600
    world.submit(urgent)
    await world.settle()
    assert (world.phase("low"), world.phase("vip")) == ("Running", "Pending")
    assert not world.status("low").get("preemptions")


async def test_after_its_minimum_runtime_it_leaves() -> None:
    world = a_world()
    world.submit(a_job("low").spec(preemption={"minRuntimeSeconds": 3600}))
    await world.settle()
    world.submit(an_urgent_job())
    await world.settle()
    assert world.phase("vip") == "Pending"
    await world.wait(3600)
    assert (world.phase("low"), world.phase("vip")) == ("Pending", "Running")


async def test_a_job_is_preempted_only_so_often_within_an_hour() -> None:
    world = a_world()
    world.submit(a_job("low"))
    for number in range(4):
        await world.settle()
        world.submit(an_urgent_job(f"vip{number}"))
        await world.settle()
        if number < 3:
            assert world.phase(f"vip{number}") == "Running"
            world.succeed(f"vip{number}")
    assert (world.status("low")["preemptions"], world.phase("low"), world.phase("vip3")) == (3, "Running", "Pending")
    await world.wait(3600)
    assert (world.status("low")["preemptions"], world.phase("vip3")) == (4, "Running")


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("before", [True, False])
async def test_killed_at_any_write_of_a_preemption(number: int, *, before: bool) -> None:
    world = a_world()
    world.submit(a_job("low"))
    await world.settle()
    world.restart(crash_at=number, crash_before=before)
    world.submit(an_urgent_job())
    await world.settle()
    assert (world.phase("low"), world.phase("vip"), world.status("low")["preemptions"]) == ("Pending", "Running", 1)


async def test_the_job_that_starts_again_sooner_loses_its_place() -> None:
    """How long each took from the creation of its pods to its first new step is measured, and told in its status."""
    world = a_world(nodes=2)
    for name in ("slow", "quick"):
        world.submit(a_saving_job(name).nodes(1))
    await world.settle()
    uids = {name: world.job(name)["metadata"]["uid"] for name in ("slow", "quick")}
    begun, took = world.now, {"slow": 600, "quick": 40}
    world.now += 700

    def readings(step: int, later: float) -> dict[str, Progress]:
        saved = begun + 690
        return {
            uids[name]: Progress(
                step=step,
                checkpoint_step=1,
                checkpoint_timestamp_seconds=saved,
                read_at_seconds=begun + seconds + later,
            )
            for name, seconds in took.items()
        }

    first = readings(1, 0.0)
    world.readings = Readings(telemetry=Telemetry(), progress=first, eta={})
    await world.settle()
    world.now += 60
    paces = {uid: Pace(29, 60.0) for uid in first}
    world.readings = dataclasses.replace(world.readings, progress=readings(30, 60.0), paces=paces)
    await world.settle()
    measured = {name: world.status(name)["restartSeconds"] for name in took}
    assert all(abs(measured[name] - seconds) <= 10 for name, seconds in took.items())
    world.submit(an_urgent_job("vip", nodes=1))
    await world.settle()
    assert {name: world.phase(name) for name in took} == {"slow": "Running", "quick": "Pending"}
