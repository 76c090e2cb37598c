"""Jobs that wait: whole or not at all, with reason and numbers, and they start by themselves."""

from __future__ import annotations

import time

import pytest

from kind.cluster import H100, Cluster, Workspace, placed_nodes, training_job, wait_for

pytestmark = pytest.mark.kind


def test_cordoned_node_keeps_job_pending_until_it_returns(cluster: Cluster, workspace: Workspace) -> None:
    job = training_job(
        "needs-both", resourcesPerNode={"nvidia.com/gpu": 4}, accelerators=[{"product": H100}], numNodes=2
    )
    cluster.kubectl("cordon", "stowplan-worker2")
    try:
        workspace.apply(job)
        status = workspace.wait_status("needs-both", "a reason", lambda one: one.get("decision"))
        assert status["phase"] == "Pending"
        assert status["reason"] == "NodesUnhealthy"
        assert "stowplan-worker2" in status["message"]
        assert "cordoned" in status["message"]
        assert status["decision"]["numbers"]["accelerators_needed"] == "8"
        assert workspace.pods("needs-both") == []
        explanation = cluster.stowplan("explain", "needs-both", "-n", workspace.namespace, check=False)
        assert "stowplan-worker2" in explanation
    finally:
        cluster.kubectl("uncordon", "stowplan-worker2")
    status = workspace.wait_phase("needs-both", "Running", seconds=60)
    assert set(placed_nodes(status)) == {"stowplan-worker", "stowplan-worker2"}
    assert {pod["spec"]["nodeName"] for pod in workspace.pods("needs-both")} == set(placed_nodes(status))


def test_two_jobs_that_exceed_capacity_run_one_after_the_other(workspace: Workspace) -> None:
    for name in ("first", "second"):
        workspace.apply(
            training_job(
                name,
                command=["timeout", "60", "sleep", "12"],
                resourcesPerNode={"nvidia.com/gpu": 3},
                accelerators=[{"product": H100}],
            )
        )
        workspace.wait_status(name, "a decision", lambda one: one.get("decision"))
        time.sleep(1.1)  # creation times have whole seconds, and the older job goes first
    workspace.wait_phase("first", "Running")
    waiting = workspace.status("second")
    assert waiting["phase"] == "Pending"
    assert waiting["ready"] == "0/2"
    assert workspace.pods("second") == []
    assert waiting["reason"] == "WaitingForCapacity"
    assert waiting["decision"]["numbers"]["accelerators_needed"] == "6"
    assert waiting["decision"]["blockers"] == [f"{workspace.namespace}/first"]
    workspace.wait_phase("first", "Succeeded", seconds=90)
    workspace.wait_phase("second", "Running", seconds=60)
    assert len(workspace.pods("second")) == 2
    workspace.wait_phase("second", "Succeeded", seconds=90)


def test_suspend_gives_the_gpus_back_and_resume_starts_the_next_attempt(cluster: Cluster, workspace: Workspace) -> None:
    workspace.apply(training_job("paused"))
    workspace.wait_phase("paused", "Running")
    cluster.stowplan("suspend", "paused", "-n", workspace.namespace)
    workspace.wait_phase("paused", "Suspended")
    wait_for(
        "no pod left",
        lambda: not [p for p in workspace.pods("paused") if p["status"]["phase"] == "Running"],
        seconds=90,
    )
    assert "placement" not in workspace.status("paused")
    cluster.stowplan("resume", "paused", "-n", workspace.namespace)
    status = workspace.wait_phase("paused", "Running", seconds=90)
    assert status["attempt"] == 2
    assert status["restarts"] == 0
