"""Kubernetes' own limits on a namespace: ResourceQuotas that jobs wait for, before any pod of theirs is refused."""

from __future__ import annotations

import pytest

from fakes.builders import NAMESPACE, NOW, a_job, a_node, a_pod
from fakes.world import World
from stowplan_operator import failures
from stowplan_operator.imposed import Imposed


def a_world(**hard: int) -> World:
    world = World(*(a_node(f"n{i}") for i in range(4)))
    world.set_quota(**hard)
    return world


def message(world: World, name: str) -> str:
    return str(world.status(name)["message"])


async def test_a_gang_that_the_quota_would_refuse_waits_for_it_and_is_told_so() -> None:
    world = a_world(gpus=12)
    world.submit(a_job("a").created(NOW))
    world.submit(a_job("b").created(NOW + 1))
    await world.settle()
    assert (world.phase("a"), world.phase("b")) == ("Running", "Pending")
    assert world.reason("b") == "WaitingForResourceQuota"
    assert message(world, "b") == (
        'needs 2 pods × 4 accelerators; ResourceQuota "quota" of namespace "team" allows 12 of '
        "requests.nvidia.com/gpu, 8 are used, by team/a, and the job takes 8 more"
    )
    assert not world.writes("create", "pods", 403)
    world.succeed("a")
    await world.settle()
    assert world.phase("b") == "Running"
    assert not world.writes("create", "pods", 403)


async def test_a_gang_that_the_quota_never_allows_is_told_within_one_cycle() -> None:
    world = a_world(gpus=4)
    world.submit(a_job("a"))
    await world.cycle()
    assert world.reason("a") == "ExceedsResourceQuota"
    world.set_quota(gpus=8)
    await world.settle()
    assert world.phase("a") == "Running"


async def test_a_younger_job_that_the_quota_allows_goes_ahead() -> None:
    world = a_world(gpus=12)
    world.submit(a_job("a").created(NOW))
    world.submit(a_job("b").created(NOW + 1))
    world.submit(a_job("c").nodes(1).created(NOW + 2))
    await world.settle()
    assert (world.phase("b"), world.phase("c")) == ("Pending", "Running")


async def test_a_placement_counts_before_its_pods_exist_and_while_the_watches_lag() -> None:
    world = a_world(pods=3)
    world.lag_cycles = 2
    for name in "abc":
        world.submit(a_job(name).gpus(1).created(NOW + ord(name)))
    await world.settle()
    assert [world.phase(name) for name in "abc"] == ["Running", "Pending", "Pending"]
    assert not world.writes("create", "pods", 403)


async def test_pods_on_their_way_out_count_until_they_are_gone() -> None:
    world = a_world(gpus=8)
    world.submit(a_job("a").created(NOW))
    await world.settle()
    world.machinery.terminates = False
    world.delete("a")
    world.submit(a_job("b").created(NOW + 1))
    await world.settle()
    assert world.reason("b") == "WaitingForResourceQuota"
    assert "by other pods (8)" in message(world, "b")
    world.machinery.terminates = True
    await world.settle()
    assert world.phase("b") == "Running"
    assert not world.writes("create", "pods", 403)


async def test_pods_of_others_count() -> None:
    world = a_world(gpus=8)
    world.add_pod(a_pod("theirs").on("n0").gpus(1))
    world.submit(a_job("a"))
    await world.settle()
    assert world.reason("a") == "WaitingForResourceQuota"
    world.remove_pod("theirs")
    await world.settle()
    assert world.phase("a") == "Running"


async def test_a_gang_that_restarts_waits_for_nobody_but_its_own_pods() -> None:
    world = a_world(gpus=8, pods=2)
    world.submit(a_job("a"))
    await world.settle()
    world.fail("a", 0)
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 2)
    assert not world.writes("create", "pods", 403)


async def test_the_one_of_higher_priority_takes_the_quota_of_the_one_of_lower() -> None:
    world = a_world(gpus=8)
    world.add_priority_class("high", 9)
    world.submit(a_job("a").created(NOW))
    await world.settle()
    world.submit(a_job("b").spec(priorityClassName="high").created(NOW + 1))
    await world.settle()
    assert (world.phase("b"), world.reason("a")) == ("Running", "WaitingForResourceQuota")
    assert not world.writes("create", "pods", 403)


async def test_other_namespaces_are_free() -> None:
    world = World(a_node("n0"), a_node("n1"))
    world.set_quota(namespace="elsewhere", gpus=0)
    world.submit(a_job("a"))
    await world.settle()
    assert world.phase("a") == "Running"


async def test_a_quota_that_was_lowered_in_between_is_answered_by_the_api_server_and_does_not_run_hot() -> None:
    world = a_world(gpus=8)
    world.process.connection.on_write = lambda: _lower(world)
    world.submit(a_job("a"))
    for _ in range(int(failures.CREATE_TIMEOUT_SECONDS) + 5):
        await world.step()
    assert len(world.writes("create", "pods", 403)) < 40
    conditions = {one["type"]: one["message"] for one in world.status("a")["conditions"]}
    assert "exceeded quota: quota" in conditions["PodsReady"] or "exceeded quota" in str(world.status("a"))
    assert world.pod_names("a") == []
    await world.wait(400)
    assert world.reason("a") == "ExceedsResourceQuota"


def _lower(world: World) -> None:
    """As soon as a place was written, the quota allows half of it, which no watch has shown yet."""
    if any(one.kind == "trainingjobs" for one in world.server.writes) and world.status("a").get("placement"):
        hard = world.server.all("resourcequotas")[0]["spec"]["hard"]
        if hard["requests.nvidia.com/gpu"] != "4":
            world.set_quota(gpus=4)


async def test_pods_that_the_quota_would_not_take_without_cpu_are_not_tried() -> None:
    world = a_world(cpu=8)
    world.submit(a_job("a"))
    await world.settle()
    assert world.reason("a") == "ExceedsResourceQuota"
    assert message(world, "a") == (
        'ResourceQuota "quota" of namespace "team" limits cpu, so the API server refuses pods without it: set '
        "resourcesPerNode.cpu, or give the namespace a LimitRange with a default for cpu"
    )
    body = {"metadata": {"name": "r", "namespace": NAMESPACE}, "spec": {"limits": []}}
    body["spec"]["limits"] = [{"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2"}}]
    world.server.create("limitranges", body)
    await world.settle()
    assert world.phase("a") == "Running"


@pytest.mark.parametrize("number", [1, 20])
async def test_a_cycle_reads_the_limits_once_however_many_jobs_there_are(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = a_world(gpus=16)
    store = world.process.watch.store
    read = store.imposed
    found: list[Imposed] = []

    def counted() -> Imposed:
        found.append(read())
        return found[-1]

    monkeypatch.setattr(store, "imposed", counted)
    for one in range(number):
        world.submit(a_job(f"j{one}"))
    await world.cycle()
    assert len(found) == 1
