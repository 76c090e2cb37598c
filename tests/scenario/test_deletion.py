"""Jobs that go, and jobs made again under their names: their children go along, and nobody else's are touched."""

from __future__ import annotations

from fakes.builders import a_job
from fakes.world import two_nodes
from stowplan_operator import podspec


async def test_ttl_deletes_a_finished_job_and_its_children() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(ttlSecondsAfterFinished=60))
    await world.settle()
    world.succeed("a")
    await world.settle()
    assert world.exists("a")
    assert world.pause <= 60
    await world.wait(60)
    assert not world.exists("a")
    assert not world.server.all("pods")
    assert not world.server.all("services")
    assert [one["metadata"]["name"] for one in world.server.all("networkpolicies")] == [podspec.NAMESPACE_POLICY]


async def test_deleting_a_job_frees_its_place_when_its_pods_are_gone() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.submit(a_job("b"))
    world.machinery.terminates = False
    world.delete("a")
    await world.settle()
    assert world.phase("b") == "Pending"
    world.machinery.terminates = True
    await world.settle()
    assert world.phase("b") == "Running"


async def test_a_job_made_again_under_its_name_waits_for_the_old_pods() -> None:
    world = two_nodes()
    world.submit(a_job("a").gpus(1))
    await world.settle()
    old = world.job("a")["metadata"]["uid"]
    world.machinery.terminates = False
    world.delete("a")
    world.submit(a_job("a").gpus(1))
    await world.settle()
    assert world.job("a")["metadata"]["uid"] != old
    assert (world.phase("a"), world.reason("a"), world.gang("a")) == ("Pending", "WaitingForOldPods", {})
    world.machinery.terminates = True
    await world.settle()
    assert world.phase("a") == "Running"
    assert all(pod["metadata"]["ownerReferences"][0]["uid"] != old for pod in world.server.all("pods"))


async def test_a_job_made_again_gets_a_service_of_its_own() -> None:
    world = two_nodes()
    world.submit(a_job("a").gpus(1))
    await world.settle()
    world.machinery.collects = False
    for rank in range(2):
        world.remove_pod(f"a-1-{rank}", grace_seconds=0)
    world.delete("a")
    world.submit(a_job("a").gpus(1))
    for _ in range(3):
        world.process.watch.deliver()
        await world.process.planner.cycle()
        world.machinery.step()
    assert world.gang("a") == {}, "without its Service the gang could never meet"
    assert "exists already and does not belong to this job" in world.status("a")["message"]
    world.machinery.collects = True
    await world.settle()
    (service,) = world.server.all("services")
    assert service["metadata"]["ownerReferences"][0]["uid"] == world.job("a")["metadata"]["uid"]
    assert {one["metadata"]["name"] for one in world.server.all("networkpolicies")} == {"a", podspec.NAMESPACE_POLICY}
    assert world.phase("a") == "Running"


async def test_somebody_elses_service_of_the_same_name_is_left_alone_and_said() -> None:
    world = two_nodes()
    world.server.create("services", {"metadata": {"name": "a", "namespace": "team"}, "spec": {}})
    world.submit(a_job("a"))
    await world.settle()
    assert (world.phase("a"), world.reason("a")) == ("Starting", "ApiError")
    assert "exists already and does not belong to this job" in world.status("a")["message"]
    assert world.gang("a") == {}
