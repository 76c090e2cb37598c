"""The JSON and YAML forms of answers: a public surface, described in docs/cli.md and frozen by a test.

Every key is always there; null, an empty list or an empty object says that status does not know it.
A later version adds keys, or changes ``schema``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stowplan_operator.cli import parts
from stowplan_operator.cli.explaining import Explanation
from stowplan_operator.cli.model import Job, event_time, mapping, number, objects, text

SCHEMA = "stowplan-cli/1"


def _optional(value: str) -> str | None:
    return value or None


def summary(job: Job) -> dict[str, Any]:
    """What ``list`` says of a job."""
    status = job.status
    return {
        "name": job.name,
        "namespace": job.namespace,
        "phase": _optional(job.phase),
        "reason": _optional(job.reason),
        "message": _optional(job.message),
        "suspend": job.suspend,
        "queue": _optional(text(status, "queue")),
        "ready": _optional(text(status, "ready")),
        "readyNodes": number(status, "readyNodes"),
        "numNodes": job.num_nodes,
        "gpus": number(status, "gpus"),
        "progress": mapping(status, "progress"),
        "eta": _optional(text(status, "eta")),
        "attempt": number(status, "attempt"),
        "restarts": number(status, "restarts"),
        "infrastructureRestarts": number(status, "infrastructureRestarts"),
        "preemptions": number(status, "preemptions"),
        "createdAt": _optional(text(job.meta, "creationTimestamp")),
        "startTime": _optional(text(status, "startTime")),
        "completionTime": _optional(text(status, "completionTime")),
    }


def job_list(jobs: Iterable[Job]) -> dict[str, Any]:
    """The answer of ``list``."""
    return {"schema": SCHEMA, "kind": "JobList", "items": [summary(job) for job in jobs]}


def job_details(job: Job, events: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    """The answer of ``get``; ``events`` is null where they could not be read."""
    status = job.status
    return {
        "schema": SCHEMA,
        "kind": "Job",
        **summary(job),
        "generation": number(job.meta, "generation"),
        "observedGeneration": number(status, "observedGeneration"),
        "retryAfter": _optional(text(status, "retryAfter")),
        "gpuSeconds": number(status, "gpuSeconds"),
        "placement": mapping(status, "placement") or None,
        "decision": mapping(status, "decision") or None,
        "conditions": list(objects(status, "conditions")),
        "lastFailure": mapping(status, "lastFailure") or None,
        "history": list(objects(status, "history")),
        "events": None if events is None else [_event(one) for one in events],
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "time": _optional(event_time(event)),
        "type": _optional(text(event, "type")),
        "reason": _optional(text(event, "reason")),
        "message": _optional(text(event, "message")),
        "count": number(event, "series", "count") or number(event, "count") or 1,
    }


def explanation(job: Job, said: Explanation, *, deep: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer of ``explain``; ``deep`` is what ``--deep`` found, None where nothing was tried."""
    decision = job.decision
    return {
        "schema": SCHEMA,
        "kind": "Explanation",
        "name": job.name,
        "namespace": job.namespace,
        "answer": said.answer.value,
        "phase": _optional(job.phase),
        "reason": _optional(said.reason),
        "message": _optional(said.message),
        "meaning": _optional(said.meaning),
        "since": _optional(said.since),
        "seconds": said.seconds,
        "notes": list(said.notes),
        "numbers": mapping(decision, "numbers"),
        "blockers": parts.names(decision, "blockers"),
        "certificate": mapping(decision, "certificate") or None,
        "reasonSince": _optional(text(decision, "since")),
        "decidedAt": _optional(text(decision, "lastUpdated")),
        "operatorSeenAt": said.pulse.seen_at if said.pulse else None,
        "placement": mapping(job.status, "placement") or None,
        "progress": mapping(job.status, "progress"),
        "lastFailure": mapping(job.status, "lastFailure") or None,
        "position": number(decision, "position"),
        "predictedStart": _optional(text(decision, "predictedStart")),
        "predictedStartBasis": _optional(text(decision, "predictedStartBasis")),
        "estimate": mapping(job.status, "estimate") or None,
        "next": [{"command": one.command, "shows": one.shows} for one in said.next],
        **(deep or _known_alternatives(decision)),
    }


def _known_alternatives(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the operator found beside its plans, which keeps no more of them than their sentences."""
    found: list[dict[str, Any]] = [
        {"kind": text(one, "kind"), "sentence": text(one, "message"), "numbers": {}, "smallest": None}
        for one in objects(decision, "alternatives")
    ]
    is_told = "alternatives" in decision or "alternativesNotTried" in decision
    return {
        "alternatives": found if is_told else None,
        "notTried": parts.names(decision, "alternativesNotTried") if is_told else None,
    }
