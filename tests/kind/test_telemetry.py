"""What Prometheus says of the GPUs, and what happens when it says nothing."""

from __future__ import annotations

import pytest

from kind.cluster import H100, Cluster, Workspace, placed_nodes, training_job, wait_for

pytestmark = pytest.mark.kind


def test_node_with_xid_79_gets_no_new_pod(cluster: Cluster, workspace: Workspace) -> None:
    cluster.kubectl("annotate", "node", "stowplan-worker", "mock.stowplan.dev/xid=1=79", "--overwrite")
    try:
        job = training_job(
            "avoids", numNodes=2, resourcesPerNode={"nvidia.com/gpu": 4}, accelerators=[{"product": H100}]
        )

        def blocked() -> bool:
            workspace.delete("avoids")
            workspace.apply(job)
            status = workspace.wait_status("avoids", "a decision", lambda one: one.get("decision"))
            return status["phase"] == "Pending" and "XID 79" in status["message"]

        wait_for("the plan knows of the XID", blocked, seconds=60, show=lambda: workspace.describe("avoids"))
        assert workspace.status("avoids")["reason"] == "NodesUnhealthy"
        assert workspace.pods("avoids") == []
        small = training_job(
            "elsewhere", numNodes=1, resourcesPerNode={"nvidia.com/gpu": 4}, accelerators=[{"product": H100}]
        )
        workspace.delete("avoids")
        workspace.apply(small)
        status = workspace.wait_phase("elsewhere", "Running")
        assert set(placed_nodes(status)) == {"stowplan-worker2"}
        workspace.delete("elsewhere")
        workspace.apply(job)
    finally:
        cluster.kubectl("annotate", "node", "stowplan-worker", "mock.stowplan.dev/xid-")
    workspace.wait_phase("avoids", "Running", seconds=90)


def test_without_prometheus_placement_goes_on_and_says_telemetry_stale(cluster: Cluster, workspace: Workspace) -> None:
    cluster.kubectl("-n", "monitoring", "scale", "deployment/prometheus", "--replicas=0")
    try:
        workspace.apply(training_job("blind"))

        def stale(status: dict[str, object]) -> bool:
            return condition(status, "TelemetryStale") == "True" and status["phase"] == "Running"

        workspace.wait_status("blind", "runs with TelemetryStale", stale, seconds=120)
        workspace.apply(training_job("also-blind", numNodes=1))
        workspace.wait_phase("also-blind", "Running")
    finally:
        cluster.kubectl("-n", "monitoring", "scale", "deployment/prometheus", "--replicas=1")
        cluster.kubectl("-n", "monitoring", "rollout", "status", "deployment/prometheus", "--timeout=120s")
    workspace.wait_status(
        "blind", "telemetry is fresh again", lambda one: condition(one, "TelemetryStale") == "False", seconds=90
    )


def condition(status: dict[str, object], kind: str) -> str:
    """The status of a condition, empty where there is none."""
    conditions = status.get("conditions") or []
    assert isinstance(conditions, list)
    return next((one["status"] for one in conditions if one["type"] == kind), "")
