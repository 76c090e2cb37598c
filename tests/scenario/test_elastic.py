"""Elastic jobs: they start at the size that fits, give up pods for a waiting job, and grow where nobody waits."""

from __future__ import annotations

from typing import Any

from fakes.builders import JobBuilder, a_job, a_node
from fakes.world import World


def an_elastic_job(name: str = "wide", *, nodes: int = 4, **elastic: Any) -> JobBuilder:
    return a_job(name).nodes(nodes).spec(elastic=elastic or {"minNodes": 1})


def environment(world: World, job: str, rank: int = 0) -> dict[str, str]:
    return {one["name"]: one.get("value") for one in world.gang(job)[rank]["spec"]["containers"][0]["env"]}


async def test_it_starts_at_the_largest_size_that_fits_and_ends_when_these_pods_have() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(an_elastic_job(nodes=4))
    await world.settle()
    status = world.status("wide")
    assert (world.phase("wide"), status["ready"], status["readyNodes"], status["gpus"]) == ("Running", "2/2", 2, 8)
    assert world.pod_names("wide") == ["wide-1-0", "wide-1-1"]
    assert environment(world, "wide")["PET_NNODES"] == "2"
    world.succeed("wide")
    await world.settle()
    ended = world.status("wide")["history"][-1]
    assert (world.phase("wide"), ended["nodes"]) == ("Succeeded", 2)


async def test_alone_on_one_node_it_needs_no_service() -> None:
    world = World(a_node("n1"))
    world.submit(an_elastic_job(nodes=4))
    await world.settle()
    assert (world.status("wide")["ready"], world.server.all("services")) == ("1/1", [])
    assert environment(world, "wide")["PET_MASTER_ADDR"] == "localhost"


async def test_after_a_failure_it_starts_at_the_size_that_fits_then() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(an_elastic_job(nodes=3))
    await world.settle()
    assert world.status("wide")["ready"] == "3/3"
    world.remove_node("n3")
    await world.settle()
    assert (world.status("wide")["ready"], world.status("wide")["attempt"]) == ("2/2", 2)


async def test_it_waits_where_its_smallest_size_does_not_fit() -> None:
    world = World(a_node("n1"))
    world.submit(an_elastic_job(nodes=4, minNodes=2))
    await world.settle()
    assert (world.phase("wide"), world.status("wide")["ready"]) == ("Pending", "0/4")
    world.edit("wide", elastic={"minNodes": 1})
    await world.settle()
    assert (world.phase("wide"), world.status("wide")["ready"]) == ("Running", "1/1")


async def test_a_size_that_is_no_longer_allowed_is_kept_until_the_next_attempt() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.cordon("n3")
    world.submit(an_elastic_job(nodes=4, allowedNodes=[2, 4]))
    await world.settle()
    world.edit("wide", elastic={"allowedNodes": [3, 4]})
    world.cordon("n3", False)
    await world.settle()
    assert world.status("wide")["ready"] == "2/2"
    world.fail("wide", 1)
    await world.settle()
    assert world.status("wide")["ready"] == "3/3"
