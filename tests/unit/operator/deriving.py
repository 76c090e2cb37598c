"""A status derived in one call, from a job, its pods and what else is known, and what it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from fakes.builders import NOW, JobBuilder, PodBuilder
from stowplan_allocator.types import Certificate, Reason, SolveStatus, Waiting
from stowplan_operator import findings, status
from stowplan_operator.progress import Progress

Json = dict[str, Any]
WAITING = Waiting(Reason.WAITING_FOR_CAPACITY, "needs 8, 4 are free", (("free", "4"),), ("team/b",))
CERTIFICATE = Certificate(SolveStatus.OPTIMAL, "exact", value=1, bound=1, gap=0.00014, seconds=0.0123)
READING = Progress(step=50, steps_total=200, loss=0.12345, samples_per_second=812.456, checkpoint_step=40)


def facts(at: float = NOW, **known: Any) -> findings.Facts:
    if reading := known.get("progress"):
        known["progress"] = dataclasses.replace(reading, read_at_seconds=at)
    return findings.Facts(**{"now_seconds": at, "accelerators": 8, **known})


def derive(job: JobBuilder, pods: Sequence[PodBuilder] = (), known: findings.Facts | None = None) -> Json:
    view = job.view()
    return status.derive(view, view.status, [pod.view() for pod in pods], known or facts())


def again(job: JobBuilder, derived: Json) -> JobBuilder:
    """The job as it stands after the derived status was written."""
    return JobBuilder({**job.body(), "status": derived})


def conditions(derived: Json) -> dict[str, str]:
    return {one["type"]: one["status"] for one in derived["conditions"]}
