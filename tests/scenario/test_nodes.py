"""What happens to running gangs when their nodes go, are taken away, or get sick."""

from __future__ import annotations

from typing import Any

from fakes.builders import NAMESPACE, a_job, a_node
from fakes.world import World
from stowplan_operator import kube
from stowplan_operator.moments import Readings
from stowplan_operator.node_faults import DEVICE_SETTLE_SECONDS
from stowplan_operator.settings import Settings
from stowplan_operator.views import GpuReading, Telemetry

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


def evict(world: World, name: str) -> None:
    """What the eviction API does: say why, and delete with the pod's own grace."""

    def say(body: dict[str, Any]) -> None:
        body["status"].setdefault("conditions", []).append(
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        )

    world.server.change("pods", NAMESPACE, name, say)
    world.server.delete_pod(NAMESPACE, name, grace_seconds=GRACE)


async def moved(world: World, reason: str, *, outcome: str = "Migrated") -> None:
    """The old pods go, and the next attempt runs elsewhere; nobody paid for it."""
    world.machinery.terminates = True
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Running", 2, 0)
    assert (status["lastFailure"]["reason"], status["lastFailure"]["node"]) == (reason, "n2")
    assert status["history"][-1]["outcome"] == outcome
    assert "n2" not in world.nodes_of("a")


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


def show(world: World, **codes: int | tuple[int, str]) -> None:
    """What Prometheus says of GPU 3 of each node: its last XID, and whose it is where that is known."""
    gpus = {}
    for node, said in codes.items():
        xid, pod = said if isinstance(said, tuple) else (said, "")
        gpus[node] = (GpuReading(index="3", uuid=f"GPU-{node}-3", xid=xid, pod=pod, sampled_at=world.now),)
    telemetry = Telemetry(configured=True, read_at=world.now, gpus=gpus)
    world.readings = Readings(telemetry=telemetry, progress={}, eta={})


async def watched(*, nodes: int = 3) -> World:
    """A job that has run for ten minutes, under the eyes of Prometheus."""
    world = await running(nodes=nodes)
    show(world, n1=0, n2=0)
    await world.settle()
    await world.wait(600)
    return world


async def test_a_gpu_that_must_be_reset_moves_the_gang_with_time_to_save() -> None:
    world = await watched()
    show(world, n1=0, n2=119)
    await world.settle()
    assert graces(world) == {"a-1-0": GRACE, "a-1-1": GRACE}
    await moved(world, "GPUUnhealthy")
    failure = world.status("a")["lastFailure"]
    assert failure["xid"] == 119
    assert "XID 119 (GSP RPC timeout) on GPU 3 of node n2" in failure["message"]
    world.restart()
    await world.settle()
    assert world.status("a")["attempt"] == 2, "an operator that restarts does not do it again"


async def test_a_gpu_that_is_gone_leaves_nothing_to_save_with() -> None:
    world = await watched()
    show(world, n1=0, n2=79)
    await world.settle()
    assert graces(world) == {"a-1-0": 2, "a-1-1": 2}
    await moved(world, "GPUUnhealthy", outcome="Failed")
    assert world.status("a")["infrastructureRestarts"] == 1


async def test_an_xid_that_came_while_the_operator_was_away_is_not_lost() -> None:
    world = await watched()
    show(world, n1=0, n2=119)
    world.restart()
    await world.settle()
    await moved(world, "GPUUnhealthy")


async def test_an_application_s_error_on_its_gpu_is_charged_and_the_second_one_keeps_it_away() -> None:
    world = await watched()
    world.machinery.terminates = True
    for attempt, want_nodes in ((1, ["n1", "n2"]), (2, ["n1", "n3"])):
        show(world, n1=0, n2=(31, f"team/a-{attempt}-1"))
        await world.settle()
        status = world.status("a")
        assert (status["attempt"], status["restarts"]) == (attempt + 1, attempt)
        assert (status["lastFailure"]["reason"], status["lastFailure"]["xid"]) == ("XidError", 31)
        assert world.nodes_of("a") == want_nodes
        show(world, n1=0, n2=0)
        await world.wait(600)
    assert world.phase("a") == "Running"


async def test_an_old_xid_does_not_stop_the_next_attempt_on_the_same_gpu() -> None:
    world = await watched(nodes=2)
    world.machinery.terminates = True
    show(world, n1=0, n2=(31, "team/a-1-1"))
    await world.settle()
    assert world.status("a")["attempt"] == 2
    show(world, n1=0, n2=(31, "team/a-2-1"))
    for _ in range(3):
        world.restart()
        await world.wait(600)
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 2)


async def test_an_application_s_error_that_nobody_can_place_stops_nothing() -> None:
    world = await watched()
    show(world, n1=0, n2=31)
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)
    world.add_priority_class("unused", 1)  # a cycle later as well
    await world.wait(60)
    assert world.status("a")["attempt"] == 1


async def test_a_container_that_died_of_an_xid_says_so_when_it_is_known_and_the_user_does_not_pay() -> None:
    world = await watched()
    world.machinery.terminates = True
    world.fail("a", 1, exit_code=134)
    await world.settle()
    assert (world.status("a")["restarts"], world.status("a")["lastFailure"]["reason"]) == (1, "ContainerFailed")
    world.now += 20
    show(world, n1=0, n2=48)
    await world.settle()
    status = world.status("a")
    assert (status["restarts"], status["infrastructureRestarts"]) == (0, 1)
    assert (status["lastFailure"]["reason"], status["lastFailure"]["xid"]) == ("GPUUnhealthy", 48)
    assert status["lastFailure"]["message"].endswith("; XID 48 (double-bit ECC error) on GPU 3 of node n2")


async def test_when_most_nodes_look_sick_only_the_first_are_excluded_and_no_gang_moves_for_the_others() -> None:
    world = await watched(nodes=6)
    show(world, **{f"n{number}": 119 for number in range(1, 7)})
    await world.settle()
    await world.wait(60)
    world.machinery.terminates = True
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["attempt"]) == ("Running", 2), "n1 and n2, by name, are the first two"
    assert not {"n1", "n2"} & set(world.nodes_of("a"))
    assert "NodesNotExcluded" in world.told("a")
    metrics = world.process.metrics.registry
    assert metrics.get_sample_value("stowplan_sick_nodes", {"state": "spared"}) == 4
    world.cordon("n6")
    world.submit(a_job("b").nodes(2))
    await world.settle()
    assert "n6" not in world.nodes_of("b"), "what Kubernetes says holds all the same"


async def test_without_the_right_to_keep_history_nodes_are_judged_and_gangs_are_left_alone() -> None:
    world = await running()
    world.process.connection.refuse = lambda verb, kind, name: (
        kube.ApiError(403, "Forbidden", "no right") if kind == "configmaps" else None
    )
    show(world, n1=0, n2=0)
    await world.settle()
    await world.wait(600)
    show(world, n1=0, n2=119)
    await world.wait(60)
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)
    world.submit(a_job("b").nodes(1))
    await world.settle()
    assert world.nodes_of("b") == ["n3"]


async def test_a_crash_at_any_write_of_an_xid_s_consequences_ends_the_same() -> None:
    for crash_before in (True, False):
        for crash_at in range(1, 9):
            world = await watched()
            show(world, n1=0, n2=119)
            world.restart(crash_at=crash_at, crash_before=crash_before)
            await world.settle()
            await moved(world, "GPUUnhealthy")
            assert len(world.status("a")["history"]) == 1
