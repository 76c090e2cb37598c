"""SIGKILL of the operator at every stage of a job's life: same end, no orphan, no GPU given twice."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kind.cluster import CHECKPOINT_CLAIM, SYSTEM, Cluster, Workspace, digits, wait_for
from kind.conftest import RESULTS
from kind.operator_process import OperatorProcess

pytestmark = pytest.mark.kind

Probe = Callable[[dict[str, Any], list[dict[str, Any]]], object]


@pytest.fixture
def outside(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[OperatorProcess]:
    """The operator outside the cluster; the one inside stands still meanwhile."""
    cluster.kubectl("-n", SYSTEM, "scale", "deployment/stowplan", "--replicas=0")
    wait_for(
        "the operator inside is gone",
        lambda: not cluster.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=stowplan")["items"],
        seconds=90,
    )
    process = OperatorProcess(cluster, pathlib.Path(RESULTS) / "outside" / request.node.name)
    yield process
    process.stop()
    cluster.kubectl("-n", SYSTEM, "scale", "deployment/stowplan", "--replicas=1")
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/stowplan", "--timeout=120s")


def _pods_of(pods: list[dict[str, Any]], attempt: int) -> list[dict[str, Any]]:
    return [pod for pod in pods if pod["metadata"]["labels"]["stowplan.dev/attempt"] == str(attempt)]


def test_operator_killed_at_every_stage_changes_nothing(workspace: Workspace, outside: OperatorProcess) -> None:
    name = "tenacious"
    workspace.apply(CHECKPOINT_CLAIM)
    # Each stage is passed once; the operator is killed right when it shows, and a new process takes over.
    stages: list[tuple[str, Probe]] = [
        ("the job has a status", lambda status, pods: status),
        ("a placement is written", lambda status, pods: status.get("placement")),
        ("a pod exists", lambda status, pods: pods),
        ("all pods exist", lambda status, pods: len(pods) == 2),
        ("a pod is bound", lambda status, pods: any(pod["spec"].get("nodeName") for pod in pods)),
        ("the gang runs", lambda status, pods: status.get("phase") == "Running"),
        ("a step is reported", lambda status, pods: (status.get("progress") or {}).get("step")),
        ("a checkpoint is committed", lambda status, pods: (status.get("progress") or {}).get("checkpointStep")),
        ("a worker was killed", lambda status, pods: _kill_worker(workspace, name, pods)),
        ("attempt 2 is placed", lambda status, pods: (status.get("placement") or {}).get("attempt") == 2),
        ("pods of attempt 2 exist", lambda status, pods: _pods_of(pods, 2)),
        ("attempt 2 runs", lambda status, pods: status.get("attempt") == 2 and status.get("phase") == "Running"),
    ]
    outside.start()
    workspace.apply(digits(name, step_seconds=0.4))
    began = time.monotonic()
    for what, probe in stages:
        wait_for(
            what,
            lambda probe=probe: probe(workspace.status(name), workspace.pods(name)),
            seconds=180,
            show=lambda: workspace.describe(name),
        )
        outside.kill()
        _assert_sound(workspace, name)
        outside.start()
    final = workspace.wait_phase(name, "Succeeded", seconds=300)
    print(f"{len(stages)} kills, {time.monotonic() - began:.0f} s to the end")
    assert final["attempt"] == 2
    assert final["progress"]["step"] == final["progress"]["totalSteps"]
    assert float(final["progress"]["accuracy"]) >= 0.95
    pods = workspace.pods(name)
    assert {pod["status"]["phase"] for pod in _pods_of(pods, 2)} == {"Succeeded"}
    assert all(int(pod["metadata"]["labels"]["stowplan.dev/attempt"]) <= 2 for pod in pods)
    workspace.delete(name)
    assert workspace.pods(name) == []


def _kill_worker(workspace: Workspace, name: str, pods: list[dict[str, Any]]) -> bool:
    workspace.kubectl("delete", "pod", f"{name}-1-1", "--wait=false")
    return True


def _assert_sound(workspace: Workspace, name: str) -> None:
    """No pod without a live owner, no two live attempts, no GPU given twice, status not ahead of the pods."""
    job = workspace.job(name)
    pods = workspace.pods(name)
    live = [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
    assert all(pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"] for pod in pods)
    assert len({pod["metadata"]["labels"]["stowplan.dev/attempt"] for pod in live}) <= 1
    used: dict[str, int] = {}
    for pod in live:
        node = pod["spec"].get("nodeName", "")
        gpus = int(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        used[node] = used.get(node, 0) + gpus
    assert all(gpus <= 4 for node, gpus in used.items() if node)
