"""Running jobs move elsewhere, whole, so that a waiting job fits for which room was only scattered."""

from __future__ import annotations

import pytest

from fakes.builders import NAMESPACE, JobBuilder, a_job, a_node, a_queue
from fakes.world import World
from stowplan_operator.api import PLURAL, QUEUES
from stowplan_operator.settings import DefragmentationSettings, PreemptionSettings, Settings


def a_world(*, nodes: int = 2, preemption: str = "Never", **fields: object) -> World:
    """Nodes of four GPUs."""
    settings = Settings(
        defragmentation=DefragmentationSettings.model_validate(fields),
        preemption=PreemptionSettings.model_validate({"policy": preemption}),
    )
    return World(*(a_node(f"n{number}") for number in range(1, nodes + 1)), settings=settings)


async def scatter(world: World, *, nodes: int = 2, **fields: object) -> None:
    """One job of two GPUs on each node, s1, s2, …; those that filled the nodes with them have gone."""
    for number in range(1, nodes + 1):
        world.submit(a_job(f"s{number}").nodes(1).gpus(2).spec(**fields))
        await world.settle()
        world.submit(a_job(f"gone{number}").nodes(1).gpus(2))
        await world.settle()
    for number in range(1, nodes + 1):
        world.delete(f"gone{number}")
    await world.settle()
    world.now += 600


def a_large_job(name: str = "large", *, makes_room: int | None = 100_000) -> JobBuilder:
    job = a_job(name).nodes(1).gpus(4)
    return job if makes_room is None else job.meta(annotations={"stowplan.dev/make-room": str(makes_room)})


def phases(world: World, *names: str) -> list[str]:
    return [world.phase(name) for name in names]


async def test_on_request_a_job_saves_moves_and_both_run() -> None:
    world = a_world()
    checkpoint = {"persistentVolumeClaim": "ckpt", "path": "/ckpt", "gracePeriodSeconds": 120}
    await scatter(world, checkpoint=checkpoint)
    world.submit(a_large_job(makes_room=None))
    await world.settle()
    assert world.reason("large") == "Fragmented"
    annotations = {"stowplan.dev/make-room": "100000"}
    world.server.change(PLURAL, NAMESPACE, "large", lambda body: body["metadata"].update(annotations=annotations))
    await world.cycle()
    [moved] = [name for name in ("s1", "s2") if world.phase(name) == "Restarting"]
    assert world.reason("large") == "WaitingForPreemption"
    assert (
        f"{NAMESPACE}/{moved} moves elsewhere for it and loses 1320 accelerator-seconds"
        in (world.status("large")["decision"]["message"])
    )
    assert world.told(moved)[-1] == "Moving"
    ended = world.status(moved)["history"][-1]
    assert (ended["outcome"], ended["reason"]) == ("Defragmented", f"{NAMESPACE}/large gets room in one piece")
    assert (ended["gpuSecondsLost"], world.status(moved)["restarts"]) == (1320, 0)
    assert {
        pod["metadata"]["deletionGracePeriodSeconds"]
        for name in world.pod_names(moved)
        if (pod := world.server.get("pods", NAMESPACE, name))
    } == {120}
    await world.settle()
    assert phases(world, "s1", "s2", "large") == ["Running"] * 3
    assert world.nodes_of("s1") == world.nodes_of("s2")
    assert world.status(moved)["attempt"] == 2
    assert world.process.metrics.registry.get_sample_value("stowplan_moves_total") == 1


async def test_nobody_takes_a_promised_place() -> None:
    world = a_world()
    await scatter(world)
    world.machinery.terminates = False
    world.submit(a_large_job())
    await world.step()
    world.submit(a_job("late").nodes(1).gpus(2))
    for _ in range(3):
        await world.step(seconds=61)
    world.machinery.terminates = True
    await world.settle()
    assert phases(world, "s1", "s2", "large", "late") == ["Running", "Running", "Running", "Pending"]


NOBODY_MOVES: dict[str, tuple[World, JobBuilder, dict[str, object]]] = {
    "without a request": (a_world(), a_large_job(makes_room=None), {}),
    "for more than was asked for": (a_world(), a_large_job(makes_room=1319), {}),
    "for more than the hour allows": (a_world(budgetGpuSecondsPerHour=1319), a_large_job(), {}),
    "where the administrator allows none": (a_world(policy="Never"), a_large_job(), {}),
    "where jobs are not preemptible": (a_world(), a_large_job(), {"preemption": {"preemptible": False}}),
    "before jobs have run long enough": (a_world(), a_large_job(), {"preemption": {"minRuntimeSeconds": 3600}}),
    "where the request is no number": (
        a_world(),
        a_large_job(makes_room=None).meta(annotations={"stowplan.dev/make-room": "lots"}),
        {},
    ),
    "where the request is a number of ten digits": (a_world(), a_large_job(makes_room=10**9), {}),
    "where the request has more digits than Python reads": (
        a_world(),
        a_large_job(makes_room=None).meta(annotations={"stowplan.dev/make-room": "9" * 5000}),
        {},
    ),
}


@pytest.mark.parametrize("case", NOBODY_MOVES)
async def test_nobody_moves(case: str) -> None:
    world, large, fields = NOBODY_MOVES[case]
    await scatter(world, **fields)
    world.submit(large)
    await world.settle()
    assert phases(world, "s1", "s2", "large") == ["Running", "Running", "Pending"]
    assert world.reason("large") == "Fragmented"


async def test_nobody_moves_who_would_only_wait_then() -> None:
    world = a_world()
    await scatter(world)
    for name in ("red", "blue"):
        world.add_queue(a_queue(name))
    world.submit(a_large_job().spec(queue="red"))
    await world.settle()
    assert phases(world, "s1", "s2", "large") == ["Running", "Running", "Pending"]
    assert world.reason("large") == "Fragmented"
    world.server.remove(QUEUES, "", "blue")
    await world.settle()
    assert phases(world, "s1", "s2", "large") == ["Running"] * 3


async def test_a_job_that_waits_only_for_that_is_made_room_after_a_while() -> None:
    world = a_world(policy="WhenWaiting", waitSeconds=300)
    await scatter(world)
    world.submit(a_large_job(makes_room=None))
    await world.settle()
    assert world.phase("large") == "Pending"
    assert 0 < world.pause <= 300, "the clock alone calls for it"
    await world.wait(world.pause)
    await world.settle()
    assert phases(world, "s1", "s2", "large") == ["Running"] * 3


async def test_the_budget_is_that_of_an_hour_over_restarts_of_the_operator() -> None:
    world = a_world(nodes=4, budgetGpuSecondsPerHour=3800)
    await scatter(world, nodes=4)
    world.now += 1800
    world.submit(a_large_job("one"))
    await world.settle()
    assert world.phase("one") == "Running"
    world.restart()
    world.submit(a_large_job("two"))
    await world.settle()
    assert (world.phase("two"), world.reason("two")) == ("Pending", "Fragmented")
    await world.wait(3600)
    await world.settle()
    assert phases(world, "s1", "s2", "s3", "s4", "one", "two") == ["Running"] * 6


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("before", [True, False])
async def test_killed_at_any_write_of_two_moves(number: int, *, before: bool) -> None:
    world = a_world(nodes=4)
    await scatter(world, nodes=4)
    world.restart(crash_at=number, crash_before=before)
    world.submit(a_job("large").nodes(2).gpus(4).meta(annotations={"stowplan.dev/make-room": "100000"}))
    await world.settle()
    names = ("s1", "s2", "s3", "s4")
    assert phases(world, *names, "large") == ["Running"] * 5
    outcomes = [entry["outcome"] for name in names for entry in world.status(name).get("history", ())]
    assert outcomes == ["Defragmented"] * 2


async def test_an_idle_cluster_makes_no_new_plans_and_no_writes() -> None:
    world = a_world()
    await scatter(world, preemption={"preemptible": False})
    world.submit(a_large_job())
    await world.settle()
    await world.wait(120)
    before = len(world.writes())
    for _ in range(10):
        await world.step(seconds=1)
    assert len(world.writes()) == before
