"""Writes that are refused, answers that are lost, watches that lag, a Lease that is gone, specs that cannot be."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import pytest

from fakes.builders import NAMESPACE, a_job, a_node, a_pod
from fakes.server import Connection, Write
from fakes.world import World
from stowplan_operator import api, kube, views
from stowplan_operator.failures import CREATE_TIMEOUT_SECONDS
from stowplan_operator.leader import NotLeaderError

MISCONFIGURED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown PriorityClass": (
        {"priorityClassName": "nope"},
        "spec.priorityClassName: there is no PriorityClass 'nope'; existing: research",
    ),
    "an unknown topology level": (
        {"topology": {"level": "planet", "mode": "Required"}},
        "spec.topology.level: there is no level 'planet'; the levels of this cluster are zone, rack, node "
        "(setting topologyLevels)",
    ),
    "a resource that cannot be read": (
        {"resourcesPerNode": {"memory": "lots"}},
        "spec.resourcesPerNode.memory: 'lots' is not a quantity such as 8, 500m or 64Gi",
    ),
    "an amount beyond all bounds": (
        {"resourcesPerNode": {"cpu": "1e5000"}},
        "spec.resourcesPerNode.cpu: '1e5000' is not a quantity such as 8, 500m or 64Gi",
    ),
    "an amount that no node has": (
        {"resourcesPerNode": {"cpu": "1e18"}},
        "spec.resourcesPerNode: an amount is larger than any node has; write for example 8 or 64Gi",
    ),
    "more devices than the status can count": (
        {"resourcesPerNode": {"nvidia.com/gpu": "9999999999"}},
        "spec.resourcesPerNode.nvidia.com/gpu: 9999999999 is more than any node has; lower it and raise spec.numNodes",
    ),
    "a throughput that is no number": (
        {"accelerators": [{"product": "H100", "relativeThroughput": "fast"}]},
        "spec.accelerators[0].relativeThroughput: 'fast' is not a decimal number; write it as a string such as "
        '"0.45"',
    ),
}


@pytest.mark.parametrize(("fields", "want_message"), MISCONFIGURED.values(), ids=MISCONFIGURED)
async def test_what_cel_cannot_see_is_answered_within_one_cycle(fields: dict[str, Any], want_message: str) -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.add_priority_class("research", 5)
    world.submit(a_job("a").spec(**fields))
    await world.cycle()
    assert (world.phase("a"), world.reason("a")) == ("Pending", "Misconfigured")
    assert world.status("a")["message"] == want_message
    await world.settle()
    assert world.server.all("pods") == []


async def test_a_misconfigured_job_does_not_hold_up_others() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(priorityClassName="nope"))
    world.submit(a_job("b"))
    await world.settle()
    assert (world.reason("a"), world.phase("b")) == ("Misconfigured", "Running")


@pytest.mark.parametrize(
    "broken",
    ["lifecycle.advance", "lifecycle.pods_to_delete", "lifecycle.expires_at", "status.derive", "snapshot.build_job"],
)
async def test_a_job_that_nobody_foresaw_stops_no_other(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(a_node("n1"), a_node("n2"))
    module, _, name = broken.partition(".")
    owner = importlib.import_module(f"stowplan_operator.{module}")
    whole = getattr(owner, name)

    def breaks(job: views.JobView, *args: Any, **kwargs: Any) -> Any:
        if job.name == "a":
            raise KeyError("odd")
        return whole(job, *args, **kwargs)

    monkeypatch.setattr(owner, name, breaks)
    world.submit(a_job("a").suspended())
    world.submit(a_job("b"))
    for _ in range(6):
        await world.step()
    assert world.phase("b") == "Running"


async def test_a_misconfigured_job_starts_when_what_it_names_appears() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(priorityClassName="research"))
    await world.settle()
    assert world.reason("a") == "Misconfigured"
    world.add_priority_class("research", 5)
    await world.settle()
    assert world.phase("a") == "Running"


async def test_a_second_mistake_is_said_at_once_when_the_first_is_mended() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(priorityClassName="nope"))
    await world.settle()
    world.edit("a", priorityClassName=None, topology={"level": "planet"})
    await world.cycle()
    assert world.status("a")["message"].startswith("spec.topology.level: ")


async def test_a_placement_that_is_refused_leads_to_no_pods() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a"))
    world.process.watch.deliver()
    world.edit("a", startupTimeoutSeconds=77)  # the job is newer now than the watch has shown
    world.lag_cycles = 100
    writes = await world.cycle()
    assert [(one.verb, one.kind, one.status) for one in writes] == [("patch", api.PLURAL, 409)]
    assert 0 < world.pause <= 1, "it is tried again soon, even if no watch event comes"
    world.lag_cycles = 0
    await world.settle()
    assert world.phase("a") == "Running"


@pytest.mark.parametrize("allowed_writes", range(10))
async def test_nothing_is_written_without_the_lease(allowed_writes: int) -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"), a_node("n4"))
    world.submit(a_job("done").spec(ttlSecondsAfterFinished=5))
    world.submit(a_job("old"))
    await world.settle()
    world.succeed("done")
    await world.settle()
    # Every kind of write is due now: a restart, a deletion of pods, a placement, children, Events, a TTL.
    world.now += 10
    world.fail("old", 0)
    world.submit(a_job("new"))
    made: list[Write] = []

    def guard() -> None:
        if len(made) >= allowed_writes:
            raise NotLeaderError

    world.guard = guard
    world.process.connection.on_write = lambda: made.append(world.server.writes[-1])
    before = len(world.server.writes)
    with pytest.raises(NotLeaderError):
        await _steps(world, 3)
    # Requests that were under way when the Lease went may still arrive, those of one gather step.
    late = len(world.server.writes) - before - allowed_writes
    assert late <= len(world.server.all(api.PLURAL))
    if not allowed_writes:
        assert late == 0
    world.guard = lambda: None
    world.restart()
    await world.settle()
    assert (world.phase("old"), world.phase("new"), world.exists("done")) == ("Running", "Running", False)


async def _steps(world: World, number: int) -> None:
    for _ in range(number):
        await world.step()


async def test_an_answer_that_is_lost_is_no_second_gang() -> None:
    """The request arrives, the answer does not: for every write of a job's start."""
    for lost in range(1, 9):
        world = World(a_node("n1"), a_node("n2"))
        world.lag_cycles = 2
        world.submit(a_job("a"))
        world.submit(a_job("b"))
        _lose_answer(world.process.connection, lost)
        await world.settle()
        assert sorted((world.phase("a"), world.phase("b"))) == ["Pending", "Running"], f"answer {lost} lost"
        assert len(world.server.all("pods")) == 2


def _lose_answer(connection: Connection, number: int) -> None:
    counter = itertools.count(1)

    def lose() -> None:
        if next(counter) == number:
            raise kube.ApiError(0, "ServerDisconnectedError", "the connection was closed")

    connection.on_write = lose


@pytest.mark.parametrize("lag_cycles", [1, 2, 3, 5, 8])
async def test_a_watch_that_lags_gives_no_accelerator_twice(lag_cycles: int) -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.lag_cycles = lag_cycles
    for name in "abc":
        world.submit(a_job(name))
    await world.settle()
    phases = [world.phase(name) for name in "abc"]
    assert sorted(phases) == ["Pending", "Pending", "Running"]
    for _ in range(3):
        running = [name for name in "abc" if world.phase(name) == "Running"]
        world.succeed(running[0])
        await world.settle()
    assert [world.phase(name) for name in "abc"] == ["Succeeded"] * 3
    assert all(world.status(name)["attempt"] == 1 for name in "abc")
    assert not world.writes(status=409), "what it wrote itself it knows without the watch"


@pytest.mark.parametrize("lag_cycles", [1, 3, 6])
async def test_a_watch_that_lags_restarts_a_failed_gang_once(lag_cycles: int) -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.lag_cycles = lag_cycles
    world.submit(a_job("a"))
    await world.settle()
    world.fail("a", 1)
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"], world.status("a")["restarts"]) == ("Running", 2, 1)


async def _urgent_job_backs_off_and_watches_lag() -> World:
    """The urgent job b waits for its delay, a has just come, and from now on the watches show nothing more."""
    world = World(a_node("n1"), a_node("n2"))
    world.add_priority_class("urgent", 1000, policy="Never")
    world.submit(a_job("b").spec(priorityClassName="urgent"))
    for _ in range(2):
        await world.settle()
        world.fail("b", 0)
    await world.settle()
    assert world.reason("b") == "BackOff"
    world.submit(a_job("a"))
    world.process.watch.deliver()
    world.lag_cycles = 100
    return world


async def test_a_more_urgent_job_does_not_take_what_the_watch_does_not_show_as_taken() -> None:
    world = await _urgent_job_backs_off_and_watches_lag()
    await world.cycle()
    assert world.nodes_of("a") == ["n1", "n2"]
    world.now += 10  # b may start again now, and no watch has shown what a got
    await world.cycle()
    assert (world.nodes_of("a"), world.nodes_of("b")) == (["n1", "n2"], [])


@pytest.mark.parametrize("arrives", [True, False], ids=["the write arrived", "the write never arrived"])
async def test_a_placement_whose_answer_was_lost_is_held_until_it_is_known(arrives: bool) -> None:
    world = await _urgent_job_backs_off_and_watches_lag()
    if arrives:
        _lose_answer(world.process.connection, 1)
    else:
        _refuse_once(world.process.connection, kube.ApiError(0, "Timeout", "no answer"))
    await world.cycle()
    assert world.nodes_of("a") == (["n1", "n2"] if arrives else [])
    world.now += 10  # b may start again now, and no watch has shown what a got, or whether it got anything
    await world.cycle()
    assert world.nodes_of("b") == []
    world.lag_cycles = 0
    await world.settle()
    assert (world.phase("a"), world.phase("b")) == ("Running", "Restarting")


async def test_a_placement_in_doubt_is_forgotten_with_its_job() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a"))
    _refuse_once(world.process.connection, kube.ApiError(0, "Timeout", "no answer"))
    await world.cycle()
    world.delete("a")
    world.submit(a_job("b"))
    await world.settle()
    assert world.phase("b") == "Running"


def _refuse_once(connection: Connection, error: kube.ApiError) -> None:
    errors = [error]
    connection.refuse = lambda verb, kind, name: errors.pop() if errors else None


async def test_pods_of_a_deleted_job_hold_their_room_even_before_they_are_bound() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.machinery.binds = world.machinery.terminates = False
    world.submit(a_job("a"))
    await world.settle()
    world.delete("a")
    world.submit(a_job("b"))
    world.process.watch.deliver()
    await world.process.planner.cycle()  # faster than garbage collection
    assert world.nodes_of("b") == []
    world.machinery.terminates = world.machinery.binds = True
    await world.settle()
    assert world.phase("b") == "Running"


async def test_the_overlay_does_not_outlive_what_the_watch_shows() -> None:
    """A pod that came and went between two looks at the watch is forgotten with it."""
    world = World(a_node("n1"), a_node("n2"))
    world.machinery.binds = False
    world.submit(a_job("a"))
    await world.cycle()
    world.remove_pod("a-1-0")
    await world.cycle()
    assert sorted(pod.name for pod in world.process.watch.store.pods) == ["a-1-0", "a-1-1"]
    pods = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in world.server.all("pods")}
    assert {pod.name: pod.uid for pod in world.process.watch.store.pods} == pods


async def test_an_event_that_cannot_be_written_stops_nothing() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.process.connection.refuse = lambda verb, kind, name: (
        kube.ApiError(403, "Forbidden", "events are forbidden") if kind == "events" else None
    )
    world.submit(a_job("a"))
    await world.settle()
    assert world.phase("a") == "Running"


async def test_refused_pods_are_tried_again_ever_later_and_not_all_of_them() -> None:
    world = World(*(a_node(f"n{number:03d}") for number in range(100)))
    refusing = True
    world.process.connection.refuse = lambda verb, kind, name: (
        kube.ApiError(403, "Forbidden", "exceeded quota: gpus") if refusing and kind == "pods" else None
    )
    world.submit(a_job("a").nodes(100))
    for _ in range(60):
        await world.step()
    assert (world.phase("a"), world.reason("a")) == ("Starting", "ApiError")
    assert "exceeded quota" in world.status("a")["message"]
    tries = len(world.writes(status=403)) / 64
    assert 3 <= tries <= 8, "after 0, 1, 3, 7, 15, 31, 47 s"
    refusing = False
    for _ in range(20):
        await world.step()
    assert world.phase("a") == "Running"


async def test_somebody_elses_pod_of_the_same_name_is_left_alone_and_said() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.server.create("pods", a_pod("a-1-1").on("n2").running().body())
    world.submit(a_job("a"))
    for _ in range(3):
        await world.step()
    assert (world.phase("a"), world.reason("a")) == ("Starting", "ApiError")
    assert "pod a-1-1 exists already" in world.status("a")["message"]
    assert world.server.get("pods", NAMESPACE, "a-1-1") is not None


async def test_a_job_that_asks_for_root_says_so_in_its_conditions() -> None:
    """Pod Security refuses its pods where the namespace's level is restricted."""
    world = World(a_node("n1"), a_node("n2"))
    refusal = 'pods "a-1-0" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    world.process.connection.refuse = lambda verb, kind, name: (
        kube.ApiError(403, "Forbidden", refusal) if kind == "pods" else None
    )
    context = {"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}
    world.submit(a_job("a").spec(podTemplate=context))
    await world.cycle()
    assert refusal in world.status("a")["message"]
    assert [one["type"] for one in world.status("a")["conditions"] if refusal in one["message"]] == ["PodsReady"]


async def test_a_gang_whose_pods_are_refused_gives_its_accelerators_to_others_for_a_while() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.process.connection.refuse = lambda verb, kind, name: (
        kube.ApiError(403, "Forbidden", "exceeded quota: gpus")
        if kind == "pods" and name.startswith("a-") and name.endswith("-1")
        else None
    )
    world.submit(a_job("a"))
    for _ in range(3):
        await world.step()
    world.now += 1
    world.submit(a_job("b"))
    for _ in range(3):
        await world.step()
    assert (world.phase("a"), world.phase("b")) == ("Starting", "Pending")
    await world.wait(CREATE_TIMEOUT_SECONDS)
    failure = world.status("a")["lastFailure"]
    assert failure["reason"] == "NotCreated"
    assert "1 of 2 pods could not be created" in failure["message"]
    assert "exceeded quota: gpus" in failure["message"]
    assert world.status("a")["restarts"] == 0
    for _ in range(4):
        await world.step()
    assert (world.phase("a"), world.phase("b")) == ("Restarting", "Running")
