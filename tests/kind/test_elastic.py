"""A running elastic job gives half of its pods to a waiting one in mid-training, and ends as if undisturbed."""

from __future__ import annotations

from typing import Any

import pytest

from kind.cluster import CHECKPOINT_CLAIM, H100, Workspace, digits, training_job

pytestmark = pytest.mark.kind
# The samples of each step are the same; dropout is drawn by each rank for itself, and 30 draws of it alone spread the
# accuracy on the 359 images from 0.950 to 0.992.
LEAST_ACCURACY = 0.9


def test_an_elastic_job_shrinks_for_a_waiting_one_and_loses_no_step(
    workspace: Workspace, undisturbed: dict[str, Any]
) -> None:
    workspace.apply(CHECKPOINT_CLAIM)
    job = digits("stretchy", step_seconds=0.2, elastic={"minNodes": 1, "maxNodes": 2})
    job["spec"]["command"] += ["--min-accuracy", str(LEAST_ACCURACY)]
    workspace.apply(job)
    before = workspace.wait_status(
        "stretchy",
        "a step in mid-training, and a checkpoint",
        lambda one: (one.get("progress") or {}).get("step", 0) >= 25 and one["progress"].get("checkpointStep"),
        seconds=180,
    )["progress"]
    guest = training_job(
        "guest",
        command=["timeout", "120", "sleep", "60"],
        numNodes=1,
        resourcesPerNode={"nvidia.com/gpu": 4},
        accelerators=[{"product": H100}],
    )
    workspace.apply(guest)
    status = workspace.wait_status("stretchy", "resized", lambda one: len(one.get("history", ())) == 1, seconds=60)
    assert status["history"][0]["outcome"] == "Resized"
    workspace.wait_phase("guest", "Running", seconds=120)
    smaller = workspace.wait_status(
        "stretchy",
        "a step of the smaller gang",
        lambda one: one.get("attempt") == 2 and (one.get("progress") or {}).get("attempt") == 2,
        seconds=120,
    )
    assert len(smaller["placement"]["nodes"]) == 1
    assert smaller["placement"]["nodes"][0]["ranks"] == "0"
    # The step that was under way when SIGTERM came is finished and saved, so no step that was reported is done again.
    assert smaller["progress"]["step"] >= before["step"]
    final = workspace.wait_phase("stretchy", "Succeeded", seconds=300)
    assert (final["attempt"], final["restarts"], final.get("preemptions", 0)) == (2, 0, 0)
    assert final["progress"]["step"] == undisturbed["step"] == undisturbed["totalSteps"]
    assert float(final["progress"]["accuracy"]) >= LEAST_ACCURACY
