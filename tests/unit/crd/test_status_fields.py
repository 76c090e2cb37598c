"""Every field that the operator writes into a status is in the CRD: what is not there vanishes in a cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

import crd_schema
from stowplan_allocator import types
from stowplan_operator import api, failures, findings, lifecycle, progress, snapshot, status, views

NOW = 1_800_000_000.0
CERTIFICATE = types.Certificate(
    status=types.SolveStatus.FEASIBLE, strategy="exact", bound=3.0, gap=0.01, seconds=1.5, note="tier 3 was cut"
)
FACTS = findings.Facts(now_seconds=NOW, accelerators=8, certificate=CERTIFICATE, telemetry_stale="no answer")


def _job(**current: Any) -> views.JobView:
    return views.JobView(
        namespace="default",
        name="digits",
        uid="u",
        resource_version="1",
        generation=1,
        created_at=NOW - 100,
        deleting=False,
        spec={"image": "i", "numNodes": 2},
        status=current,
    )


def _placed() -> dict[str, Any]:
    placement = types.Placement(product="A", shares=(types.NodeShare(node="n1", num_pods=2),))
    written = snapshot.write_placement(placement, attempt=1, planned_at=views.format_time(NOW - 60))
    return {"attempt": 1, "phase": "Running", "placement": {**written, "startedAt": views.format_time(NOW - 30)}}


def _assert_known(derived: dict[str, Any]) -> None:
    assert crd_schema.unknown_fields({"status": derived}) == []


def test_of_a_waiting_job() -> None:
    waiting = types.Waiting(
        reason=types.Reason.FRAGMENTED, message="no node has 4 free", numbers=(("free", "6"),), blockers=("default/b",)
    )
    derived = status.derive(_job(), {}, [], dataclasses.replace(FACTS, waiting=waiting))
    assert derived["decision"]["blockers"] == ["default/b"]
    assert derived["decision"]["certificate"]["note"]
    _assert_known(derived)


def test_of_a_running_job_with_progress() -> None:
    reading = progress.Progress(
        step=5,
        steps_total=10,
        loss=0.5,
        samples_per_second=100.0,
        checkpoint_step=4,
        checkpoint_timestamp_seconds=NOW - 10,
        eval_accuracy=0.9,
        message="odd",
        read_at_seconds=NOW,
    )
    derived = status.derive(_job(), _placed(), [], dataclasses.replace(FACTS, progress=reading, eta="about 3m"))
    assert derived["progress"]["accuracy"]
    _assert_known(derived)


def test_of_a_job_that_restarts_or_fails() -> None:
    spec = api.TrainingJobSpec(image="i", num_nodes=2)
    for cause in failures.Cause:
        transition = lifecycle.advance(
            _job(**_placed()),
            spec,
            [],
            lost_nodes=["n1"],
            accelerators_per_pod=4,
            max_infrastructure_restarts=50,
            now_seconds=NOW,
        )
        assert transition is not None
        assert transition.failure is not None
        failure = dataclasses.replace(
            transition.failure, cause=cause, rank=1, pod="p", node="n1", exit_code=1, signal=9, xid=79, log_tail="tail"
        )
        failed = {**transition.status, "lastFailure": failure.to_status(attempt=1, now_seconds=NOW)}
        failed |= {"retryAfter": views.format_time(NOW + 5), "restarts": 1}
        derived = status.derive(_job(), failed, [], FACTS)
        assert derived["history"]
        _assert_known(derived)
