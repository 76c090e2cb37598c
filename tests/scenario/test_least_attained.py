"""Least attained service among equals, chosen in the settings: what the operator bounds holds here, too."""

from __future__ import annotations

import pytest

from fakes.builders import NOW, a_job, a_node
from fakes.world import World
from stowplan_operator import settings

CHOSEN = {"preemption": {"policy": "LeastAttained"}, "planner": {"order": "least-attained"}}
HOUR = 3600


async def a_world_with_one_that_has_had_much() -> World:
    """One node of four GPUs; the job has had eight GPU-hours, a level of one."""
    world = World(a_node("n0"), settings=settings.parse(CHOSEN))
    world.submit(a_job("old").nodes(1).created(NOW))
    await world.settle()
    world.now += 2 * HOUR
    await world.settle()
    return world


async def test_who_has_had_much_makes_way_for_an_equal_and_does_not_take_the_place_back() -> None:
    world = await a_world_with_one_that_has_had_much()
    world.submit(a_job("new").nodes(1).created(world.now))
    await world.settle()
    assert (world.phase("old"), world.phase("new")) == ("Pending", "Running")
    assert world.status("old")["history"][-1]["reason"].endswith("it has the same priority and has had much less")
    [told] = [one for one in world.status("old")["conditions"] if one["type"] == "Preempted"]
    assert (told["status"], told["reason"]) == ("True", "LeastAttained")
    # The same level: nobody takes turns.
    await world.wait(2 * HOUR)
    assert (world.phase("old"), world.phase("new")) == ("Pending", "Running")
    # A level more.
    await world.wait(9 * HOUR)
    assert (world.phase("old"), world.phase("new")) == ("Running", "Pending")


async def test_the_minimum_of_run_time_holds() -> None:
    world = World(a_node("n0"), settings=settings.parse(CHOSEN))
    world.submit(a_job("old").nodes(1).spec(preemption={"minRuntimeSeconds": 5 * HOUR}).created(NOW))
    await world.settle()
    world.now += 2 * HOUR
    world.submit(a_job("new").nodes(1).created(world.now))
    await world.settle()
    assert (world.phase("old"), world.phase("new")) == ("Running", "Pending")
    await world.wait(4 * HOUR)
    assert (world.phase("old"), world.phase("new")) == ("Pending", "Running")


async def test_nobody_makes_way_more_often_than_the_settings_allow_within_an_hour() -> None:
    world = await a_world_with_one_that_has_had_much()
    for i in range(4):
        name = f"new{i}"
        world.submit(a_job(name).nodes(1).created(world.now))
        await world.settle()
        if world.phase(name) == "Running":
            world.succeed(name)
            await world.settle()
    assert world.phase("new3") == "Pending"
    assert sum(one["outcome"] == "Preempted" for one in world.status("old")["history"]) == 3


def test_the_settings_must_agree() -> None:
    with pytest.raises(ValueError, match=r"set planner.order to least-attained, too"):
        settings.parse({"preemption": {"policy": "LeastAttained"}})
