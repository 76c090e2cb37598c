"""Jobs from submission to their end, with the real planner and the real allocator on a fake API server.

``World`` checks the invariants (``fakes.invariants``) after every cycle, and ``settle`` that a cycle over an
unchanged world writes nothing.
"""

from __future__ import annotations

import collections

from fakes.builders import A100, H100, a_job, a_node, a_pod
from fakes.world import World, two_nodes
from stowplan_operator import api, podspec, settings


async def test_one_job_runs_to_succeeded() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    assert (world.phase("a"), world.reason("a"), world.status("a")["ready"]) == ("Running", "AllPodsRunning", "2/2")
    assert world.nodes_of("a") == ["n1", "n2"]
    assert world.pod_names("a") == ["a-1-0", "a-1-1"]
    world.now += 30
    world.succeed("a")
    await world.settle()
    status = world.status("a")
    assert (world.phase("a"), world.reason("a"), world.condition("a", "Complete")) == ("Succeeded", "Completed", "True")
    assert status["gpuSeconds"] >= 30 * 8
    assert status["history"][0]["outcome"] == "Succeeded"
    assert world.told("a") == ["Placed", "Running", "Succeeded"]
    assert world.pod_names("a") == ["a-1-0", "a-1-1"], "finished pods stay readable"


async def test_the_budget_of_writes_of_one_gang() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.succeed("a")
    await world.settle()
    counts = {
        kind: len(world.writes(kind=kind)) for kind in ("trainingjobs", "pods", "services", "networkpolicies", "events")
    }
    # Status: placed, running, succeeded.
    assert counts == {"trainingjobs": 3, "pods": 2, "services": 1, "networkpolicies": 2, "events": 3}


async def test_the_budget_of_writes_of_a_second_job_of_one_pod() -> None:
    world = two_nodes()
    world.submit(a_job("a").nodes(1))
    await world.settle()
    before = len(world.writes())
    world.submit(a_job("b").nodes(1))
    await world.settle()
    kinds = collections.Counter(one.kind for one in world.writes()[before:])
    assert kinds == {"trainingjobs": 2, "pods": 1, "events": 2}, "the namespace has its policy already"


async def test_the_placement_is_written_before_any_child() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    writes = await world.cycle()
    assert [one.kind for one in writes][:2] == [api.PLURAL, "events"]
    assert {one.kind for one in writes[2:5]} == {"services", "networkpolicies"}
    assert [one.name for one in writes[5:]] == ["a-1-0", "a-1-1"]


async def test_a_job_of_one_pod_gets_no_service_but_the_policy_of_its_namespace() -> None:
    world = two_nodes()
    world.submit(a_job("a").nodes(1))
    writes = await world.cycle()
    assert [one.name for one in writes if one.kind in ("networkpolicies", "pods")] == [
        podspec.NAMESPACE_POLICY,
        "a-1-0",
    ]
    await world.settle()
    assert world.phase("a") == "Running"
    assert not world.server.all("services")
    (policy,) = world.server.all("networkpolicies")
    assert "ownerReferences" not in policy["metadata"], "it outlives the job, for the next one"


async def test_without_network_policies_none_is_made() -> None:
    world = World(a_node("n1"), a_node("n2"), settings=settings.parse({"networkPolicy": False}))
    world.submit(a_job("a"))
    await world.cycle()
    assert world.pod_names("a") == ["a-1-0", "a-1-1"]
    assert not world.server.all("networkpolicies")


async def test_of_two_jobs_beyond_capacity_one_runs_whole_and_the_other_waits_whole() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.submit(a_job("b"))
    await world.settle()
    assert (world.phase("a"), world.phase("b")) == ("Running", "Pending")
    assert world.pod_names("b") == []
    assert world.reason("b") == "WaitingForCapacity"
    assert world.status("b")["decision"]["numbers"]
    world.succeed("a")
    await world.settle()
    assert (world.phase("a"), world.phase("b")) == ("Succeeded", "Running")
    assert len(world.pod_names("b")) == 2


async def test_ranks_that_finished_give_their_room_back_before_the_gang_ends() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.submit(a_job("b").nodes(1))
    await world.settle()
    assert world.phase("b") == "Pending"
    world.succeed("a", 1)
    await world.settle()
    assert (world.phase("a"), world.phase("b"), world.nodes_of("b")) == ("Running", "Running", ["n2"])
    assert world.status("a")["ready"] == "2/2"


async def test_a_cordoned_node_keeps_a_job_pending_with_numbers_until_it_returns() -> None:
    world = World(a_node("n1"), a_node("n2").cordoned(), a_node("n3").of_product(A100))
    world.submit(a_job("a").spec(accelerators=[{"product": H100}]))
    await world.settle()
    status = world.status("a")
    assert world.phase("a") == "Pending"
    assert status["reason"] == status["decision"]["reason"]
    assert status["decision"]["numbers"]
    assert any(character.isdigit() for character in status["message"])
    assert world.server.all("pods") == []
    world.cordon("n2", False)
    await world.settle()
    assert (world.phase("a"), world.nodes_of("a")) == ("Running", ["n1", "n2"])


async def test_other_peoples_pods_count_until_they_are_gone() -> None:
    world = World(a_node("n1"), is_strict=True)
    world.add_pod(a_pod("notebook").on("n1").gpus(2))
    world.submit(a_job("a").nodes(1))
    await world.settle()
    assert world.phase("a") == "Pending"
    world.machinery.terminates = False
    world.remove_pod("notebook")
    await world.settle()
    assert world.phase("a") == "Pending", "a Terminating pod still holds its devices"
    world.machinery.terminates = True
    await world.settle()
    assert world.phase("a") == "Running"


async def test_priority_decides_who_waits() -> None:
    world = two_nodes()
    world.add_priority_class("research", 1000)
    world.submit(a_job("a"))
    world.submit(a_job("b").spec(priorityClassName="research"))
    await world.settle()
    assert (world.phase("a"), world.phase("b")) == ("Pending", "Running")


async def test_a_running_job_keeps_its_place_when_its_priority_class_is_deleted() -> None:
    world = two_nodes()
    world.add_priority_class("research", 1000)
    world.submit(a_job("a").spec(priorityClassName="research"))
    await world.settle()
    world.server.remove("priorityclasses", "", "research")
    world.submit(a_job("b"))
    await world.settle()
    assert (world.phase("a"), world.phase("b")) == ("Running", "Pending")
    world.restart()
    await world.settle()
    assert (world.phase("a"), world.phase("b"), world.status("a")["gpus"]) == ("Running", "Pending", 8)


async def test_a_deadline_ends_the_job() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(activeDeadlineSeconds=600))
    await world.settle()
    assert world.pause <= 600
    await world.wait(600)
    assert (world.phase("a"), world.reason("a")) == ("Failed", "DeadlineExceeded")
    assert world.gang("a") == {}
