"""Observations of a cluster in memory with the real planner, for the commands that ask about them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from fakes.builders import GPU, a_job, a_node
from fakes.world import World
from stowplan_operator import observation
from stowplan_operator.moments import Readings
from stowplan_operator.progress import Progress
from stowplan_operator.views import GpuReading, Telemetry

Story = Callable[[World], Awaitable[None]]


async def a_busy_day(world: World) -> None:
    """Four nodes of four GPUs in two racks: one cordoned, one with a GPU lost; two jobs run, one large job waits."""
    world.add_priority_class("high", 1000)
    world.submit(a_job("llama").nodes(1).gpus(4).spec(activeDeadlineSeconds=7200))
    await world.settle()
    world.submit(a_job("digits").nodes(1).gpus(2).spec(activeDeadlineSeconds=3600))
    await world.settle()
    world.now += 600
    world.submit(a_job("giant").nodes(2).gpus(4).spec(activeDeadlineSeconds=1800))
    await world.settle()


async def a_wide_job(world: World) -> None:
    """Two of three pods of an elastic job run, on all of the cluster, and save checkpoints."""
    world.submit(a_job("wide").nodes(3).spec(elastic={"minNodes": 1}))
    await world.settle()
    uid = world.job("wide")["metadata"]["uid"]
    for step in (1, 600):
        world.now += 600
        told = Progress(
            step=step,
            checkpoint_step=step,
            checkpoint_timestamp_seconds=world.now,
            read_at_seconds=world.now,
        )
        world.readings = Readings(telemetry=Telemetry(), progress={uid: told}, eta={})
        await world.settle()


def two_nodes() -> World:
    """Two nodes of four GPUs each."""
    return World(a_node("gpu-1"), a_node("gpu-2"))


def a_small_cluster() -> World:
    """The nodes of a busy day, with telemetry of two of them."""
    world = World(
        a_node("gpu-1").in_rack("r1"),
        a_node("gpu-2").in_rack("r1"),
        a_node("gpu-3").in_rack("r2").gpus(3, capacity=4),
        a_node("gpu-4").in_rack("r2").cordoned(),
    )
    readings = {
        "gpu-1": tuple(GpuReading(str(i), f"GPU-1{i}", utilisation_percent=90.0 + i) for i in range(4)),
        "gpu-2": (GpuReading("0", "GPU-20", utilisation_percent=7.0), GpuReading("1", "GPU-21")),
    }
    telemetry = Telemetry(configured=True, read_at=world.now, gpus=readings)
    world.readings = Readings(telemetry=telemetry, progress={}, eta={})
    world.settings = world.settings.model_copy(
        update={"prometheus": world.settings.prometheus.model_copy(update={"stale_after_seconds": 1e9, "url": "x"})}
    )
    return world


@functools.cache
def a_document(story: Story = a_busy_day, make: Callable[[], World] = a_small_cluster) -> str:
    """What the operator answers after the story."""

    async def play() -> str:
        world = make()
        await story(world)
        return world.document()

    return asyncio.run(play())


def an_observation(story: Story = a_busy_day) -> observation.Observation:
    return observation.read(a_document(story))


__all__ = ["GPU", "World", "a_busy_day", "a_document", "a_small_cluster", "an_observation"]
