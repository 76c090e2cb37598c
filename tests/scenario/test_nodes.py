"""What happens to running gangs when their nodes go, are taken away, or get sick."""

from __future__ import annotations

from typing import Any

from fakes.builders import NAMESPACE, a_job, a_node
from fakes.world import World
from stowplan_operator.node_faults import DEVICE_SETTLE_SECONDS
from stowplan_operator.settings import Settings

GRACE = 120
DRAIN = Settings().health.drain_taints[0]


async def running(*, nodes: int = 3) -> World:
    """A job of two pods that runs on n1 and n2, of which every planned stop gets two minutes."""
    world = World(*(a_node(f"n{number}") for number in range(1, nodes + 1)))
    world.submit(a_job("a").spec(checkpoint={"gracePeriodSeconds": GRACE}))
    await world.settle()
    assert world.nodes_of("a") == ["n1", "n2"]
    world.machinery.terminates = False
    return world


def graces(world: World) -> dict[str, int]:
    """The grace that each pod that leaves was given."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["deletionGracePeriodSeconds"]
        for pod in world.server.all("pods")
        if "deletionTimestamp" in pod["metadata"]
    }


def evict(world: World, name: str, reason: str = "EvictionByEvictionAPI") -> None:
    """What the eviction API and the taint manager do: say why, and delete with the pod's own grace."""

    def say(body: dict[str, Any]) -> None:
        body["status"].setdefault("conditions", []).append(
            {"type": "DisruptionTarget", "status": "True", "reason": reason}
        )

    world.server.change("pods", NAMESPACE, name, say)
    world.server.delete_pod(NAMESPACE, name, grace_seconds=GRACE)


async def moved(world: World, reason: str, *, away_from: str = "n2", outcome: str = "Migrated") -> None:
    """The old pods go, and the next attempt runs elsewhere; nobody paid for it."""
    world.machinery.terminates = True
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Running", 2, 0)
    assert (status["lastFailure"]["reason"], status["lastFailure"]["node"]) == (reason, away_from)
    assert status["history"][-1]["outcome"] == outcome
    assert away_from not in world.nodes_of("a")


async def test_a_drained_pod_takes_the_whole_gang_along_with_time_to_save() -> None:
    world = await running()
    world.cordon("n2")
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1), "a cordon alone moves nothing"
    evict(world, "a-1-1")
    await world.settle()
    assert (world.phase("a"), world.reason("a")) == ("Restarting", "WaitingForOldPods")
    assert graces(world) == {"a-1-0": GRACE, "a-1-1": GRACE}
    assert world.told("a")[-1] == "Migrating"
    await moved(world, "PodEvicted")


async def test_a_taint_that_announces_a_drain_moves_the_gang_before_any_eviction() -> None:
    world = await running()
    world.change_node("n2", lambda node: node.tainted(DRAIN))
    await world.settle()
    assert graces(world) == {"a-1-0": GRACE, "a-1-1": GRACE}
    await moved(world, "NodeDraining")


async def test_a_noexecute_taint_moves_the_gang() -> None:
    world = await running()
    world.change_node("n2", lambda node: node.tainted("maintenance", "NoExecute"))
    await world.settle()
    assert graces(world) == {"a-1-0": GRACE, "a-1-1": GRACE}
    await moved(world, "NodeTainted")


async def test_a_noexecute_taint_tolerated_for_a_time_moves_the_gang_when_it_is_over_and_it_stays_away() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    toleration = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600}
    world.submit(a_job("a").spec(tolerations=[toleration]))
    await world.settle()
    taint = {"key": "maintenance", "effect": "NoExecute", "timeAdded": "2026-11-02T10:00:00Z"}
    begin = world.now
    world.change_node("n2", lambda node: node._with(spec__taints=[taint]))
    await world.settle()
    assert world.status("a")["attempt"] == 1
    await world.wait(610 - (world.now - begin))
    assert world.nodes_of("a") == ["n1", "n3"]
    await world.wait(600)
    assert (world.phase("a"), world.nodes_of("a")) == ("Running", ["n1", "n3"])


async def test_on_a_node_that_does_not_answer_nobody_waits_for_a_checkpoint() -> None:
    world = await running()
    world.lose_node("n2")
    world.change_node("n2", lambda node: node.tainted("node.kubernetes.io/out-of-service", "NoExecute"))
    await world.step()
    assert graces(world) == {"a-1-0": 2, "a-1-1": 2}, "at once, without waiting for nodeLostAfterSeconds"
    await moved(world, "NodeLost", outcome="Failed")


async def test_sick_hardware_moves_the_gang() -> None:
    world = await running()
    label = "sagemaker.amazonaws.com/node-health-status"
    world.change_node("n2", lambda node: node.with_labels({label: "UnschedulablePendingReboot"}))
    await world.settle()
    assert graces(world) == {"a-1-0": GRACE, "a-1-1": GRACE}
    await moved(world, "NodeUnhealthy")


async def test_a_failed_device_moves_the_gang_that_must_hold_it() -> None:
    world = await running()
    world.crowded.add("n2")
    world.change_node("n2", lambda node: node.gpus(3, capacity=4))
    await world.settle()
    assert world.status("a")["attempt"] == 1, "a device plugin that restarts looks the same"
    assert world.pause <= DEVICE_SETTLE_SECONDS
    await world.wait(DEVICE_SETTLE_SECONDS)
    assert graces(world) == {"a-1-0": GRACE, "a-1-1": GRACE}
    await moved(world, "GPUUnhealthy")


async def test_a_device_plugin_that_restarts_everywhere_moves_nothing() -> None:
    world = await running()
    for name in ("n1", "n2", "n3"):
        world.crowded.add(name)
        world.change_node(name, lambda node: node.gpus(0, capacity=4))
    await world.settle()
    world.now += DEVICE_SETTLE_SECONDS / 2
    for name in ("n1", "n2", "n3"):
        world.change_node(name, lambda node: node.gpus(4))
    await world.settle()
    await world.wait(DEVICE_SETTLE_SECONDS)
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)


async def test_a_crash_at_any_write_of_a_migration_ends_the_same() -> None:
    for crash_before in (True, False):
        for crash_at in range(1, 8):
            world = await running()
            world.restart(crash_at=crash_at, crash_before=crash_before)
            world.change_node("n2", lambda node: node.tainted(DRAIN))
            await world.settle()
            await moved(world, "NodeDraining")
            assert len(world.status("a")["history"]) == 1
