"""Jobs from submission to their end, with the real planner and the real allocator on a fake API server.

``World`` checks the invariants (``fakes.invariants``) after every cycle, and ``settle`` that a cycle over an
unchanged world writes nothing.
"""

from __future__ import annotations

import collections

from fakes.builders import A100, H100, a_job, a_node, a_pod
from fakes.world import World
from stowplan_operator import api, kube, podspec, settings
from stowplan_operator.failures import BIND_TIMEOUT_SECONDS
from stowplan_operator.moments import Readings
from stowplan_operator.retries import AVOID_SECONDS
from stowplan_operator.views import GpuReading, Telemetry, parse_time


def two_nodes() -> World:
    return World(a_node("n1"), a_node("n2"))


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


async def test_suspend_gives_the_place_back_and_resume_takes_one_again() -> None:
    world = two_nodes()
    world.submit(a_job("a").spec(checkpoint={"gracePeriodSeconds": 120}))
    await world.settle()
    world.submit(a_job("b"))
    world.machinery.terminates = False
    world.edit("a", suspend=True)
    await world.settle()
    assert (world.phase("a"), world.reason("a")) == ("Suspended", "WaitingForOldPods")
    assert world.phase("b") == "Pending", "pods that may still save keep their accelerators"
    pod = world.server.get("pods", "team", "a-1-0")
    assert pod is not None
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 120
    world.machinery.terminates = True
    await world.settle()
    assert (world.phase("a"), world.reason("a"), world.phase("b")) == ("Suspended", "Suspended", "Running")
    assert world.condition("a", "Suspended") == "True"
    assert world.status("a")["history"][-1]["outcome"] == "Suspended"
    world.edit("a", suspend=False)
    await world.settle()
    assert (world.phase("a"), world.reason("a")) == ("Pending", "WaitingForCapacity")
    world.succeed("b")
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"], world.status("a")["restarts"]) == ("Running", 2, 0)
    assert world.condition("a", "Suspended") == "False"


async def test_a_job_submitted_suspended_waits_for_its_user() -> None:
    world = two_nodes()
    world.submit(a_job("a").suspended())
    await world.settle()
    assert (world.phase("a"), world.reason("a"), world.pod_names("a")) == ("Suspended", "Suspended", [])
    assert len(world.writes("patch")) == 1
    world.edit("a", suspend=False, numNodes=1)
    await world.settle()
    assert (world.phase("a"), world.status("a")["ready"]) == ("Running", "1/1")


async def test_a_suspended_job_may_change_its_size() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    world.edit("a", suspend=True)
    await world.settle()
    world.edit("a", suspend=False, numNodes=1)
    await world.settle()
    assert (world.status("a")["ready"], world.gang("a").keys()) == ("1/1", {0})


async def test_a_node_with_xid_79_gets_no_new_pod() -> None:
    world = two_nodes()
    bad = GpuReading(index="3", uuid="GPU-3", xid=79, sampled_at=world.now)
    world.readings = Readings(
        telemetry=Telemetry(configured=True, read_at=world.now, gpus={"n1": (bad,)}), progress={}, eta={}
    )
    world.submit(a_job("a"))
    await world.settle()
    assert (world.phase("a"), world.server.all("pods")) == ("Pending", [])
    world.submit(a_job("b").nodes(1))
    await world.settle()
    assert world.nodes_of("b") == ["n2"]


async def test_an_xid_that_was_there_before_anybody_watched_does_not_stop_the_gang_that_runs_there() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    bad = GpuReading(index="3", uuid="GPU-3", xid=79, sampled_at=world.now)
    telemetry = Telemetry(configured=True, read_at=world.now, gpus={"n1": (bad,)})
    world.readings = Readings(telemetry=telemetry, progress={}, eta={})
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)


async def test_telemetry_that_is_away_is_said_and_does_not_block() -> None:
    world = two_nodes()
    world.readings = Readings(telemetry=Telemetry(configured=True, error="connection refused"), progress={}, eta={})
    world.submit(a_job("a"))
    await world.settle()
    assert world.phase("a") == "Running"
    assert world.condition("a", "TelemetryStale") == "True"
    since = next(one for one in world.status("a")["conditions"] if one["type"] == "TelemetryStale")
    world.now += 100
    world.fail("a")
    await world.settle()
    after = next(one for one in world.status("a")["conditions"] if one["type"] == "TelemetryStale")
    assert after["lastTransitionTime"] == since["lastTransitionTime"], "the condition's status has not changed"
    world.readings = Readings(telemetry=Telemetry(configured=True, read_at=world.now), progress={}, eta={})
    await world.settle()
    assert world.condition("a", "TelemetryStale") == "False"


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
