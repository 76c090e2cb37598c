"""Gangs that do not start: not bound, not in time, refused by the API server. They go back whole and try again."""

from __future__ import annotations

from fakes.builders import a_job, a_node, a_pod
from fakes.world import World, two_nodes
from stowplan_operator import kube
from stowplan_operator.failures import BIND_TIMEOUT_SECONDS
from stowplan_operator.retries import AVOID_SECONDS


async def test_a_gang_that_does_not_bind_goes_back_whole() -> None:
    world = World(a_node("n1"), a_node("n2"), is_strict=True)
    world.submit(a_job("a"))
    await world.cycle()
    world.add_pod(a_pod("notebook").on("n2").gpus(1))
    await world.settle()
    assert (world.phase("a"), world.reason("a")) == ("Starting", "Unschedulable")
    assert 0 < world.pause <= BIND_TIMEOUT_SECONDS
    await world.wait(BIND_TIMEOUT_SECONDS)
    status = world.status("a")
    assert (status["phase"], status["lastFailure"]["reason"], status["restarts"]) == ("Restarting", "NotBound", 0)
    assert world.pod_names("a") == []
    world.remove_pod("notebook", grace_seconds=0)
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 2)


async def test_a_gang_that_does_not_start_in_time_is_charged_and_started_again() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.machinery.starts = False
    world.submit(a_job("a").spec(startupTimeoutSeconds=300))
    await world.settle()
    await world.wait(300)
    status = world.status("a")
    assert (status["lastFailure"]["reason"], status["restarts"], status["attempt"]) == ("StartupTimeout", 1, 2)


async def test_a_pod_refused_by_the_api_server_is_said_and_tried_again() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    quota = world.process.connection
    quota.refuse = lambda verb, kind, name: (
        kube.ApiError(403, "Forbidden", "exceeded quota: gpus") if (verb, name) == ("create", "a-1-1") else None
    )
    await world.step()
    await world.step()
    assert (world.phase("a"), world.reason("a")) == ("Starting", "ApiError")
    assert "exceeded quota: gpus" in world.status("a")["message"]
    assert 0 < world.pause <= 2
    quota.refuse = lambda verb, kind, name: None
    await world.wait(world.pause)
    assert world.phase("a") == "Running"


async def test_the_next_attempt_avoids_the_node_that_did_not_start_a_pod() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(a_job("a").spec(startupTimeoutSeconds=120))
    world.machinery.starts = False
    await world.settle()
    assert world.nodes_of("a") == ["n1", "n2"]
    await world.wait(120)
    assert world.status("a")["lastFailure"]["reason"] == "StartupTimeout"
    guilty = world.status("a")["lastFailure"]["node"]
    world.machinery.starts = True
    await world.settle()
    assert guilty not in world.nodes_of("a")
    assert world.phase("a") == "Running"


async def test_an_avoided_node_is_used_again_after_a_while() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(startupTimeoutSeconds=120))
    world.machinery.starts = False
    await world.settle()
    await world.wait(120)
    world.machinery.starts = True
    await world.settle()
    assert world.phase("a") == "Restarting"
    assert "avoided after a failure" in world.status("a")["message"]
    await world.wait(AVOID_SECONDS)
    assert world.phase("a") == "Running"
