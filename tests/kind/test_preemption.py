"""A running job gives its place to an urgent one in mid-training, saves, and later ends as if undisturbed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kind.cluster import CHECKPOINT_CLAIM, H100, Cluster, Workspace, digits, training_job

pytestmark = pytest.mark.kind


@pytest.fixture
def urgent(cluster: Cluster) -> Iterator[str]:
    """A PriorityClass, for the time of the test."""
    name = "test-urgent"
    body = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": 1000,
    }
    cluster.apply(body, "default")
    yield name
    cluster.kubectl("delete", "priorityclass", name, "--ignore-not-found")


def test_a_preempted_job_loses_at_most_a_step_and_ends_as_undisturbed(
    workspace: Workspace, urgent: str, undisturbed: dict[str, Any]
) -> None:
    workspace.apply(CHECKPOINT_CLAIM)
    workspace.apply(digits("patient", step_seconds=0.2))
    before = workspace.wait_status(
        "patient",
        "a step in mid-training",
        lambda one: (one.get("progress") or {}).get("step", 0) >= 25,
        seconds=180,
    )["progress"]
    vip = training_job(
        "vip",
        command=["sleep", "3"],
        resourcesPerNode={"nvidia.com/gpu": 4},
        accelerators=[{"product": H100}],
        priorityClassName=urgent,
    )
    workspace.apply(vip)
    status = workspace.wait_status("patient", "preempted", lambda one: one.get("preemptions"), seconds=60)
    assert status["history"][-1]["outcome"] == "Preempted"
    assert status["restarts"] == 0
    workspace.wait_phase("vip", "Succeeded", seconds=180)

    steps: list[int] = []

    def ended(one: dict[str, Any]) -> bool:
        progress = one.get("progress") or {}
        if one.get("attempt") == 2 and one["phase"] == "Running":
            steps.append(progress["step"])
        return one["phase"] == "Succeeded"

    final = workspace.wait_status("patient", "phase Succeeded", ended, seconds=300)
    assert (final["attempt"], final["preemptions"], final["restarts"]) == (2, 1, 0)
    # The step that was under way when SIGTERM came is finished and saved, so no step that was reported is done again.
    assert min(steps) >= before["step"]
    assert final["progress"]["step"] == undisturbed["step"] == undisturbed["totalSteps"]
    assert (final["progress"]["loss"], final["progress"]["accuracy"]) == (undisturbed["loss"], undisturbed["accuracy"])
