"""SIGKILL at every write of a job's life, before and after it: the next process comes to the same end.

Each flow is first run undisturbed, which counts its writes; then once for each of them. After the crash a new process
starts with what a LIST shows. At the end the world must look the same, but for the number of Events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fakes.builders import a_job, a_node
from fakes.world import World, two_nodes
from stowplan_operator import api

Flow = Callable[[World], Awaitable[None]]


async def runs_to_its_end(world: World) -> None:
    world.submit(a_job("a"))
    await world.settle()
    world.succeed("a")
    await world.settle()


async def one_waits_for_the_other(world: World) -> None:
    world.submit(a_job("a"))
    await world.settle()
    world.submit(a_job("b"))
    await world.settle()
    world.succeed("a")
    await world.settle()


async def restarts_after_a_failure(world: World) -> None:
    world.submit(a_job("a"))
    await world.settle()
    world.fail("a", 1, exit_code=7)
    await world.settle()


async def uses_up_its_restarts(world: World) -> None:
    world.submit(a_job("a").max_restarts(1))
    for _ in range(2):
        await world.settle()
        world.fail("a", 0)
    await world.settle()


async def loses_a_node(world: World) -> None:
    world.submit(a_job("a"))
    await world.settle()
    world.remove_node("n1")
    world.server.create("nodes", a_node("n3").body())
    await world.settle()


async def is_suspended_and_resumed(world: World) -> None:
    world.submit(a_job("a"))
    await world.settle()
    world.edit("a", suspend=True)
    await world.settle()
    world.edit("a", suspend=False)
    await world.settle()


async def is_deleted_and_made_again(world: World) -> None:
    world.submit(a_job("a"))
    await world.settle()
    world.delete("a")
    world.submit(a_job("a").gpus(2))
    await world.settle()


async def expires(world: World) -> None:
    world.submit(a_job("a").spec(ttlSecondsAfterFinished=30))
    await world.settle()
    world.succeed("a")
    await world.settle()
    await world.wait(60)


FLOWS: dict[str, Flow] = {
    "a job runs to its end": runs_to_its_end,
    "one job waits for another": one_waits_for_the_other,
    "a gang restarts after a failure": restarts_after_a_failure,
    "a job uses up its restarts": uses_up_its_restarts,
    "a gang loses a node": loses_a_node,
    "a job is suspended and resumed": is_suspended_and_resumed,
    "a job is deleted and made again": is_deleted_and_made_again,
    "a finished job expires": expires,
}


def outcome(world: World) -> dict[str, Any]:
    """What users and other controllers see in the end."""
    jobs = {}
    for job in world.server.all(api.PLURAL):
        status = job["status"]
        jobs[job["metadata"]["name"]] = {
            "phase": status["phase"],
            "reason": status["reason"],
            "attempt": status.get("attempt"),
            "restarts": status["restarts"],
            "infrastructureRestarts": status.get("infrastructureRestarts", 0),
            "history": [(entry["attempt"], entry["outcome"], entry["reason"]) for entry in status.get("history", ())],
            "nodes": world.nodes_of(job["metadata"]["name"]),
            "conditions": {one["type"]: one["status"] for one in status["conditions"]},
        }
    children = {
        kind: sorted(body["metadata"]["name"] for body in world.server.all(kind))
        for kind in ("pods", "services", "networkpolicies")
    }
    return {"jobs": jobs, **children}


async def _undisturbed(flow: Flow) -> tuple[dict[str, Any], int]:
    world = two_nodes()
    await flow(world)
    return outcome(world), world.process.connection.num_writes


WANTED = {name: asyncio.run(_undisturbed(flow)) for name, flow in FLOWS.items()}
# All flows place a gang first: those writes are tried in the first flow only.
NUM_COMMON_WRITES = 6
CRASHES = [
    pytest.param(name, number, before, id=f"{name}: {'before' if before else 'after'} write {number}")
    for position, (name, (_, num_writes)) in enumerate(WANTED.items())
    for number in range(NUM_COMMON_WRITES + 1 if position else 1, num_writes + 1)
    for before in (True, False)
]


@pytest.mark.parametrize(("name", "number", "crash_before"), CRASHES)
async def test_the_next_process_comes_to_the_same_end(name: str, number: int, crash_before: bool) -> None:
    world = two_nodes()
    world.restart(crash_at=number, crash_before=crash_before)
    crashing = world.process
    await FLOWS[name](world)
    assert crashing.connection.is_dead, "the crash never came"
    assert outcome(world) == WANTED[name][0]


def test_the_sweep_covers_every_kind_of_write() -> None:
    assert len(CRASHES) > 150


async def test_a_process_that_crashes_again_and_again_comes_to_the_same_end() -> None:
    """Every new process lives for one write only."""
    world = two_nodes()
    world.submit(a_job("a"))
    for _ in range(30):
        world.restart(crash_at=1)
        await world.cycle()
        world.machinery.step()
        world.now += 1
    assert world.phase("a") == "Running"
    assert world.pod_names("a") == ["a-1-0", "a-1-1"]
