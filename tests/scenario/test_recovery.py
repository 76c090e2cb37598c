"""How gangs recover: the cause, who pays for it, and the next attempt, with the real planner on a fake API server."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import NAMESPACE, PEER_LOST, a_job, a_node
from fakes.world import World, two_nodes
from stowplan_operator import api
from stowplan_operator.failures import VICTIM_WAIT_SECONDS
from stowplan_operator.moments import Readings
from stowplan_operator.progress import Progress
from stowplan_operator.startup import PATIENCE_SECONDS
from stowplan_operator.views import Telemetry, format_time, parse_time


def report(world: World, step: int | None) -> None:
    """Rank 0 of job a was read; None for a read that failed."""
    uid = world.job("a")["metadata"]["uid"]
    read = Progress(step=step, steps_total=1000, read_at_seconds=world.now)
    world.readings = Readings(
        telemetry=Telemetry(),
        progress={} if step is None else {uid: read},
        eta={},
        progress_errors={uid: "no answer"} if step is None else {},
    )


async def test_a_gang_that_makes_no_step_is_started_again() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(hangTimeoutSeconds=300))
    await world.settle()
    world.now += 60
    report(world, 7)
    await world.settle()
    assert world.pause <= 300
    world.now += 299
    report(world, 7)
    await world.cycle()
    assert world.status("a")["attempt"] == 1
    world.now += 2
    report(world, 7)
    await world.settle()
    status = world.status("a")
    assert (status["attempt"], status["restarts"]) == (2, 1)
    assert (status["lastFailure"]["reason"], status["lastFailure"]["step"]) == ("Hang", 7)
    assert "rank" not in status["lastFailure"], "nobody knows which rank hangs"
    assert (status["history"][0]["firstStep"], status["history"][0]["lastStep"]) == (7, 7)


async def test_the_time_without_a_step_survives_a_new_operator_and_failed_reads_count_nothing() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(hangTimeoutSeconds=300))
    await world.settle()
    report(world, 7)
    await world.settle()
    world.now += 200
    world.restart()
    report(world, None)
    await world.wait(400)
    assert world.status("a")["attempt"] == 1, "nobody knows whether it moves"
    report(world, 7)
    await world.settle()
    assert (world.status("a")["attempt"], world.status("a")["lastFailure"]["reason"]) == (2, "Hang")


async def test_a_gang_that_never_reported_never_hangs() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(hangTimeoutSeconds=30))
    await world.settle()
    report(world, None)
    await world.wait(100_000)
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)


async def test_a_gang_that_moves_does_not_hang_however_long_it_takes() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(hangTimeoutSeconds=60))
    await world.settle()
    for step in range(1, 20):
        world.now += 55
        report(world, step)
        await world.cycle()
    assert world.status("a")["attempt"] == 1


async def test_a_victim_that_ends_first_is_not_the_cause() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.fail("a", 0, message=PEER_LOST)
    await world.cycle()
    assert world.phase("a") == "Running", "the cause may be seen in a moment"
    assert 0 < world.pause <= VICTIM_WAIT_SECONDS
    world.now += 1
    world.fail("a", 1, exit_code=137, reason="OOMKilled")
    await world.settle()
    failure = world.status("a")["lastFailure"]
    assert (failure["rank"], failure["reason"], world.status("a")["restarts"]) == (1, "OOMKilled", 1)


async def test_a_node_that_dies_is_not_charged_though_its_victims_are_seen_first() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(a_job("a"))
    await world.settle()
    dead = world.nodes_of("a")[1]
    world.lost.add(dead)
    world.machinery.terminates = False
    world.fail("a", 0, message=PEER_LOST)
    await world.settle()
    world.now += VICTIM_WAIT_SECONDS
    await world.settle()
    status = world.status("a")
    assert (status["lastFailure"]["reason"], status["lastFailure"]["node"]) == ("PeerLost", dead)
    assert (status["restarts"], status["infrastructureRestarts"]) == (0, 1)
    assert world.reason("a") == "WaitingForOldPods", "the silent pod may still run"
    world.lose_node(dead)
    await world.wait(world.settings.health.node_lost_after_seconds)
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 2)
    assert dead not in world.nodes_of("a")


@pytest.mark.parametrize(("others", "want_nodes"), [((), ["n1", "n2"]), (("n3",), ["n1", "n3"])])
async def test_a_node_that_is_only_suspected_is_left_where_there_is_another(
    others: tuple[str, ...], want_nodes: list[str]
) -> None:
    world = World(*(a_node(name) for name in ("n1", "n2", *others)))
    world.submit(a_job("a"))
    await world.settle()
    assert world.nodes_of("a") == ["n1", "n2"]
    world.fail("a", 0, message=PEER_LOST)  # rank 1 on n2 stays silent, and leaves when it is told to
    await world.settle()
    await world.wait(VICTIM_WAIT_SECONDS)
    assert world.status("a")["lastFailure"]["node"] == "n2"
    assert (world.phase("a"), world.nodes_of("a")) == ("Running", want_nodes)


async def test_a_rule_ends_the_job_with_its_name() -> None:
    world = two_nodes()
    rule = {"name": "bad data", "exitCodes": [3], "action": "FailJob"}
    world.submit(a_job("a").spec(failurePolicy={"maxRestarts": 10, "rules": [rule]}))
    await world.settle()
    world.fail("a", 1, exit_code=3)
    await world.settle()
    assert (world.phase("a"), world.reason("a"), world.status("a")["attempt"]) == ("Failed", "ContainerFailed", 1)
    assert "spec.failurePolicy.rules[0] (bad data) says FailJob" in world.status("a")["message"]


async def test_a_rule_keeps_the_next_attempt_off_the_node() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    rule = {"signals": [9], "action": "RestartElsewhere"}
    world.submit(a_job("a").spec(failurePolicy={"maxRestarts": 10, "rules": [rule]}))
    await world.settle()
    guilty = world.nodes_of("a")[1]
    world.fail("a", 1, exit_code=137)
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"], world.status("a")["restarts"]) == ("Running", 2, 1)
    assert guilty not in world.nodes_of("a")


async def test_a_finished_pod_may_be_deleted_while_its_peers_run() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(a_job("a").nodes(3))
    await world.settle()
    world.succeed("a", 1)
    await world.settle()
    world.remove_pod("a-1-1", grace_seconds=0)
    await world.settle()
    world.restart()
    await world.settle()
    status = world.status("a")
    assert (status["phase"], status["attempt"], status["ready"]) == ("Running", 1, "3/3")
    world.remove_node("n2")
    await world.settle()
    assert world.status("a")["attempt"] == 1, "nothing of the gang was left there"
    world.succeed("a")
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Succeeded", 1)


async def test_finished_pods_that_go_before_anybody_looked_have_finished() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.succeed("a")
    for rank in range(2):
        world.remove_pod(f"a-1-{rank}", grace_seconds=0)
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Succeeded", 1)


async def test_a_finished_pod_of_a_gang_that_starts_is_not_made_again() -> None:
    world = two_nodes()
    world.machinery.starts = False
    world.submit(a_job("a"))
    await world.settle()
    set_running(world, "a-1-1")
    world.succeed("a", 1)
    await world.settle()
    world.remove_pod("a-1-1", grace_seconds=0)
    await world.settle()
    assert world.pod_names("a") == ["a-1-0"]
    world.machinery.starts = True
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)


def set_waiting(world: World, name: str, reason: str, message: str = "") -> None:
    def wait(body: dict[str, Any]) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        body["status"]["containerStatuses"] = [{"name": api.CONTAINER_NAME, "state": state}]

    world.server.change("pods", NAMESPACE, name, wait)


async def test_a_gang_whose_image_does_not_exist_gives_everything_back_and_waits_ever_longer() -> None:
    world = two_nodes()
    world.machinery.starts = False
    world.submit(a_job("a"))
    waits = []
    for attempt in range(1, 5):
        await world.settle()
        assert world.status("a")["attempt"] == attempt
        set_waiting(world, f"a-{attempt}-1", "ImagePullBackOff", 'image "x:1": not found')
        await world.settle()
        assert (world.phase("a"), world.reason("a")) == ("Starting", "ImagePullBackOff")
        assert world.pause <= PATIENCE_SECONDS
        began = world.now
        await world.wait(PATIENCE_SECONDS)
        failure = world.status("a")["lastFailure"]
        assert (failure["reason"], failure["pod"], failure["node"]) == ("ImagePullFailed", f"a-{attempt}-1", "n2")
        if attempt > 1:
            assert world.gang("a") == {}, "everything is given back"
            waits.append(parse_time(world.status("a")["retryAfter"]) - began - PATIENCE_SECONDS)
            await world.wait(waits[-1] + 1)
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]
    assert world.status("a")["restarts"] == 4


async def test_a_gang_that_starts_on_all_nodes_but_one_leaves_that_one() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(a_job("a").spec(startupTimeoutSeconds=300))
    await world.cycle()
    stuck = world.nodes_of("a")[1]
    world.machinery.bind()
    set_waiting(world, "a-1-1", "ContainerCreating")
    hold = world.machinery.start

    def start_but_there() -> None:
        if world.status("a")["attempt"] > 1:
            hold()
            return
        body = world.server.get("pods", NAMESPACE, "a-1-0")
        if body is not None and body["status"]["phase"] == "Pending":
            set_running(world, "a-1-0")

    world.machinery.start = start_but_there
    await world.settle()
    assert world.phase("a") == "Starting"
    await world.wait(300)
    status = world.status("a")
    assert (status["lastFailure"]["reason"], status["lastFailure"]["node"]) == ("NodeStartupTimeout", stuck)
    assert (status["phase"], status["attempt"], status["restarts"]) == ("Running", 2, 0)
    assert stuck not in world.nodes_of("a")
    assert "see kubectl describe pod a-1-1" in status["lastFailure"]["message"]


def set_running(world: World, name: str) -> None:
    def run(body: dict[str, Any]) -> None:
        state = {"running": {"startedAt": format_time(world.now)}}
        body["status"] |= {
            "phase": "Running",
            "containerStatuses": [{"name": api.CONTAINER_NAME, "state": state}],
        }

    world.server.change("pods", NAMESPACE, name, run)
