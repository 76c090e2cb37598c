"""Real torchrun in real pods: digits to its end, resumed after a killed worker, and a script that is not ours."""

from __future__ import annotations

import pathlib
import time
from typing import Any

import pytest
import yaml

from kind.cluster import (
    ROOT,
    Cluster,
    Workspace,
    placed_nodes,
    training_job,
    wait_for,
)

pytestmark = pytest.mark.kind

EXAMPLES = ROOT / "examples"


def apply_example(workspace: Workspace, path: pathlib.Path) -> None:
    """Apply an example as it is, but in the test's namespace."""
    workspace.apply([document for document in yaml.safe_load_all(path.read_text()) if document])


def test_digits_trains_on_two_nodes_where_the_plan_said(cluster: Cluster, workspace: Workspace) -> None:
    began = time.monotonic()
    apply_example(workspace, EXAMPLES / "digits.yaml")
    status = workspace.wait_phase("digits", "Running", seconds=120)
    nodes = placed_nodes(status)
    assert len(nodes) == 2
    pods = workspace.pods("digits")
    ranks = {pod["metadata"]["labels"]["stowplan.dev/rank"]: pod["spec"]["nodeName"] for pod in pods}
    assert ranks == {rank: node for node, rank in nodes.items()}
    workspace.wait_status("digits", "a first step", lambda one: (one.get("progress") or {}).get("step"), seconds=120)
    print(f"apply to first reported step: {time.monotonic() - began:.1f} s")
    status = workspace.wait_phase("digits", "Succeeded", seconds=240)
    progress = status["progress"]
    assert progress["step"] == progress["totalSteps"]
    assert progress["percent"] == "100%"
    assert float(progress["accuracy"]) >= 0.95
    assert status["attempt"] == 1
    assert status["restarts"] == 0
    assert status["history"][-1]["outcome"] == "Succeeded"
    text = cluster.stowplan("get", "digits", "-n", workspace.namespace)
    assert "Succeeded" in text
    logs = cluster.stowplan("logs", "digits", "-n", workspace.namespace)
    assert "accuracy" in logs


def test_plain_torchrun_script_of_another_image_works(workspace: Workspace) -> None:
    apply_example(workspace, EXAMPLES / "plain-torchrun.yaml")
    status = workspace.wait_phase("plain-torchrun", "Succeeded", seconds=240)
    assert status["attempt"] == 1
    assert "step" not in (status.get("progress") or {})


def test_killed_worker_restarts_the_gang_from_the_last_commit(
    workspace: Workspace, undisturbed: dict[str, Any]
) -> None:
    apply_example(workspace, EXAMPLES / "digits-checkpoint.yaml")
    status = workspace.wait_status(
        "digits-checkpoint",
        "a committed checkpoint in mid-training",
        lambda one: (one.get("progress") or {}).get("checkpointStep", 0) >= 20,
        seconds=180,
    )
    committed = status["progress"]["checkpointStep"]
    assert status["progress"]["step"] < status["progress"]["totalSteps"]
    killed = time.monotonic()
    workspace.kubectl("delete", "pod", "digits-checkpoint-1-1", "--wait=false")
    wait_for(
        "pods of attempt 2",
        lambda: [
            pod
            for pod in workspace.pods("digits-checkpoint")
            if pod["metadata"]["name"].startswith("digits-checkpoint-2-")
        ],
        seconds=60,
        show=lambda: workspace.describe("digits-checkpoint"),
    )
    print(f"pod deleted to pods of attempt 2: {time.monotonic() - killed:.1f} s")
    seen: list[int] = []

    def resumed(one: dict[str, Any]) -> bool:
        progress = one.get("progress") or {}
        if one.get("attempt") == 2 and one["phase"] == "Running":
            seen.append(progress.get("step", committed))
        return one["phase"] == "Succeeded"

    final = workspace.wait_status("digits-checkpoint", "phase Succeeded", resumed, seconds=300)
    assert final["attempt"] == 2
    assert final["lastFailure"]["reason"] in ("PodDeleted", "ContainerFailed")
    assert min(seen) >= committed
    assert final["progress"]["step"] == undisturbed["step"] == undisturbed["totalSteps"]
    assert final["progress"]["accuracy"] == undisturbed["accuracy"]
    assert final["progress"]["loss"] == undisturbed["loss"]


def test_failing_script_ends_as_failed_with_exit_code_and_log_tail(workspace: Workspace) -> None:
    script = "import sys; print('the data set is missing', file=sys.stderr); sys.exit(3)"
    workspace.apply(
        training_job(
            "broken",
            command=["python3", "-c", script],
            numNodes=1,
            resourcesPerNode={"nvidia.com/gpu": 1},
            failurePolicy={"maxRestarts": 1},
        )
    )
    status = workspace.wait_phase("broken", "Failed", seconds=90)
    assert status["attempt"] == 2
    assert status["restarts"] == 1
    assert status["lastFailure"]["exitCode"] == 3
    assert "the data set is missing" in status["lastFailure"]["logTail"]
