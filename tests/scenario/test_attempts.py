"""Whatever ends an attempt: the next begins when no old pod can run any more, with a rendezvous that nobody knew."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes.builders import NodeBuilder, a_job, a_node
from fakes.world import World


def drains(node: NodeBuilder) -> NodeBuilder:
    return node.tainted("ToBeDeletedByClusterAutoscaler")


CAUSES: dict[str, tuple[Callable[[World], None], str]] = {
    "a container fails": (lambda world: world.fail("a", 1, exit_code=42), "ContainerFailed"),
    "a container runs out of memory": (
        lambda world: world.fail("a", 1, exit_code=137, reason="OOMKilled"),
        "OOMKilled",
    ),
    "a rank is told to stop": (lambda world: world.fail("a", 1, exit_code=143), "PodStopped"),
    "a pod is deleted": (lambda world: world.remove_pod("a-1-1", grace_seconds=0), "PodDeleted"),
    "a node is gone": (lambda world: world.remove_node("n2"), "NodeLost"),
    "a node will be gone": (lambda world: world.change_node("n2", drains), "NodeDraining"),
}


def rendezvous_ids(world: World, attempt: int) -> set[str]:
    return {
        one["value"]
        for name in world.pod_names("a")
        if name.startswith(f"a-{attempt}-")
        for one in (world.server.get("pods", "team", name) or {})["spec"]["containers"][0]["env"]
        if one["name"] == "PET_RDZV_ID"
    }


@pytest.mark.parametrize(("happens", "want"), CAUSES.values(), ids=CAUSES)
async def test_the_next_attempt_is_alone_and_new(happens: Callable[[World], None], want: str) -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(a_job("a"))
    await world.settle()
    first = rendezvous_ids(world, 1)
    assert len(first) == 1
    world.machinery.terminates = False
    happens(world)
    await world.settle()
    old = [name for name in world.pod_names("a") if name.startswith("a-1-")]
    assert old == world.pod_names("a"), "an old pod can still run"
    world.machinery.terminates = True
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["attempt"], status["lastFailure"]["reason"]) == ("Running", 2, want)
    second = rendezvous_ids(world, 2)
    assert len(second) == 1
    assert not first & second
