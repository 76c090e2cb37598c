"""A simulated run as one JSON object: what went in, the figures, and every record.

What must stay true: the object says its ``schema``; keys are always there, null where there is nothing; lists hold one
object per line, so that other tools can cut and compare them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stowplan_allocator import types
from stowplan_allocator.simulate import records, summary

SCHEMA = "stowplan-simulation/1"


def write(
    history: records.History, *, about: Mapping[str, object], downtimes: summary.Downtimes | None = None
) -> Iterator[str]:
    """The document in pieces of text. ``about`` are its first fields: inputs, versions, times."""
    head: dict[str, Any] = {
        "schema": SCHEMA,
        **about,
        "started_at_seconds": history.started_at_seconds,
        "ended_at_seconds": history.ended_at_seconds,
        "summary": summary.summarise(history),
    }
    yield "{\n"
    for name, value in head.items():
        yield f" {_text(name)}: {_text(value)},\n"
    yield from _list("nodes", (_node(node, downtimes or {}) for node in history.nodes), last=False)
    yield from _list("jobs", (_job(job) for job in history.jobs), last=False)
    yield from _list("samples", (_sample(sample) for sample in history.samples), last=True)
    yield "}\n"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _list(name: str, rows: Iterator[dict[str, Any]], *, last: bool) -> Iterator[str]:
    yield f" {_text(name)}: ["
    gap = "\n"
    for row in rows:
        yield f"{gap}  {_text(row)}"
        gap = ",\n"
    yield "]\n" if last else "],\n"


def _node(node: types.Node, downtimes: summary.Downtimes) -> dict[str, Any]:
    return {
        "name": node.name,
        "product": node.product,
        "accelerators": node.allocatable.accelerators,
        "cpu_milli": node.allocatable.cpu_milli,
        "memory_mib": node.allocatable.memory_mib,
        "topology": list(node.topology),
        "downtimes": [list(span) for span in downtimes.get(node.name, ())],
    }


def _job(record: records.JobRecord) -> dict[str, Any]:
    job = record.job
    return {
        "id": job.id,
        "name": job.name,
        "num_pods": job.num_pods,
        "accelerators_per_pod": job.pod.accelerators,
        "priority": job.priority,
        "queue": job.queue,
        "expected_seconds": job.expected_seconds,
        "state": summary.state(record),
        "submitted_seconds": record.submitted_seconds,
        "started_seconds": record.started_seconds,
        "ended_seconds": record.ended_seconds,
        "completion_seconds": record.completion_seconds,
        "queue_seconds": record.queue_seconds,
        "run_seconds": record.run_seconds,
        "lost_seconds": record.lost_seconds,
        "first_reason": _waiting(record.first_reason),
        "last_reason": _waiting(record.last_reason),
        "runs": [_run(run) for run in record.runs],
    }


def _waiting(waiting: types.Waiting | None) -> dict[str, Any] | None:
    if waiting is None:
        return None
    return {
        "reason": waiting.reason.value,
        "message": waiting.message,
        "numbers": dict(waiting.numbers),
        "blockers": list(waiting.blockers),
    }


def _run(run: records.Run) -> dict[str, Any]:
    return {
        "start_seconds": run.start_seconds,
        "end_seconds": run.end_seconds,
        "outcome": run.outcome.value,
        "product": run.placement.product,
        "shares": [{"node": share.node, "num_pods": share.num_pods} for share in run.placement.shares],
    }


def _sample(sample: records.Sample) -> dict[str, Any]:
    return {
        "time_seconds": sample.time_seconds,
        "accelerators_total": sample.accelerators_total,
        "accelerators_used": sample.accelerators_used,
        "accelerators_free": sample.accelerators_free,
        "accelerators_broken": sample.accelerators_broken,
        "accelerators_waiting": sample.accelerators_waiting,
        "jobs_running": sample.jobs_running,
        "jobs_waiting": sample.jobs_waiting,
        "fragmented_share": round(sample.fragmented_share, 4),
        "reasons": {reason.value: number for reason, number in sample.reasons},
    }
