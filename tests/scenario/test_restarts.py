"""A gang that loses a rank, a pod or a node begins again, whole, when the old pods are gone, and not too often."""

from __future__ import annotations

from fakes.builders import a_job, a_node
from fakes.world import World, two_nodes
from stowplan_operator.views import parse_time


async def test_cordoning_a_node_does_not_disturb_the_gang_on_it() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.cordon("n1")
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)


async def test_a_failed_worker_restarts_the_gang_only_after_the_old_pods_are_gone() -> None:
    world = two_nodes()
    world.submit(a_job("a").gpus(1))  # there would be room beside them
    await world.settle()
    world.machinery.terminates = False
    world.fail("a", 1, exit_code=42, message="Traceback: boom")
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["reason"]) == ("Restarting", "WaitingForOldPods")
    assert world.pod_names("a") == ["a-1-0", "a-1-1"]
    failure = status["lastFailure"]
    assert (failure["rank"], failure["exitCode"], failure["logTail"]) == (1, 42, "Traceback: boom")
    world.machinery.terminates = True
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Running", 2, 1)
    assert world.pod_names("a") == ["a-1-1", "a-2-0", "a-2-1"], "the failed pod stays readable"
    assert "GangRestart" in world.told("a")
    assert world.condition("a", "Restarting") == "False"


async def test_survivors_of_a_fault_get_two_seconds() -> None:
    world = two_nodes()
    world.machinery.terminates = False
    world.submit(a_job("a").spec(checkpoint={"gracePeriodSeconds": 300}))
    await world.settle()
    world.fail("a", 1)
    await world.cycle()
    survivor = world.server.get("pods", "team", "a-1-0")
    assert survivor is not None
    assert survivor["metadata"]["deletionGracePeriodSeconds"] == 2


async def test_max_restarts_ends_the_job_and_says_why() -> None:
    world = two_nodes()
    world.submit(a_job("a").max_restarts(1))
    for _ in range(2):
        await world.settle()
        world.fail("a", 0, exit_code=3)
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["reason"], status["restarts"]) == ("Failed", "ContainerFailed", 1)
    assert "spec.failurePolicy.maxRestarts" in status["message"]
    assert [entry["attempt"] for entry in status["history"]] == [1, 2]
    assert world.condition("a", "Failed") == "True"


async def test_a_crash_loop_backs_off() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    for _ in range(2):
        await world.settle()
        world.fail("a", 0)
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["reason"], status["attempt"]) == ("Restarting", "BackOff", 2)
    assert world.pause <= 5
    await world.wait(parse_time(status["retryAfter"]) - world.now)
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 3)
    assert "retryAfter" not in world.status("a")


async def test_only_the_pods_of_the_last_two_attempts_are_kept() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    for _ in range(3):
        await world.settle()
        world.fail("a")
        await world.wait(100)
    assert world.status("a")["attempt"] == 4
    assert world.pod_names("a") == ["a-3-0", "a-3-1", "a-4-0", "a-4-1"]


async def test_a_pod_deleted_by_a_user_restarts_the_gang_without_charge() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.remove_pod("a-1-1")
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Running", 2, 0)
    assert (status["infrastructureRestarts"], status["lastFailure"]["reason"]) == (1, "PodDeleted")


async def test_a_pod_gone_before_anybody_saw_it_terminate_counts_as_deleted() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.remove_pod("a-1-1", grace_seconds=0)
    await world.settle()
    assert (world.phase("a"), world.status("a")["lastFailure"]["reason"]) == ("Running", "PodDeleted")


async def test_a_pod_deleted_while_the_gang_starts_is_made_again() -> None:
    world = two_nodes()
    world.machinery.starts = False
    world.submit(a_job("a"))
    await world.settle()
    world.remove_pod("a-1-1", grace_seconds=0)
    world.machinery.starts = True
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)


async def test_a_lost_node_moves_the_gang_elsewhere() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(a_job("a"))
    await world.settle()
    lost = world.nodes_of("a")[1]
    world.lose_node(lost)
    await world.settle()
    assert world.status("a")["attempt"] == 1, "a node may come back within the limit"
    assert world.pause <= world.settings.health.node_lost_after_seconds
    await world.wait(world.settings.health.node_lost_after_seconds)
    status = world.status("a")
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Running", 2, 0)
    assert (status["lastFailure"]["reason"], status["lastFailure"]["node"]) == ("NodeLost", lost)
    assert lost not in world.nodes_of("a")
    world.restore_node(lost)
    await world.settle()
    assert world.pod_names("a") == ["a-2-0", "a-2-1"], "the old pod on the node leaves when its kubelet is back"


async def test_a_node_that_is_removed_moves_the_gang_at_once() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(a_job("a"))
    await world.settle()
    lost = world.nodes_of("a")[0]
    world.remove_node(lost)
    await world.settle()
    assert (world.phase("a"), world.status("a")["lastFailure"]["reason"]) == ("Running", "NodeLost")
