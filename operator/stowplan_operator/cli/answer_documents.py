"""The JSON and YAML forms of the answers to questions: a public surface, described in docs/cli.md, frozen by a test.

Every key is always there; null says that there is nothing to say. ``documents`` has the forms of the other commands.
"""

from __future__ import annotations

from typing import Any

from stowplan_allocator import types
from stowplan_operator import observation, views
from stowplan_operator.cli import figures, schedule
from stowplan_operator.cli.defrag import Answer, free_of
from stowplan_operator.cli.documents import SCHEMA
from stowplan_operator.cli.what_if import Comparison, Fate, Lot, Side, start_of


def top_nodes(seen: observation.Observation, rows: list[figures.NodeFigures], totals: figures.Totals) -> dict[str, Any]:
    """The answer of ``top nodes``."""
    return {
        "schema": SCHEMA,
        "kind": "NodeList",
        "gpus": _totals(totals),
        "telemetry": seen.telemetry,
        "items": [
            {
                "name": row.node.name,
                "product": row.node.product,
                "domains": list(row.node.topology),
                "gpus": _totals(row),
                "utilisation": seen.utilisation.get(row.node.name),
                "blocked": row.node.blocked or None,
                "notes": list(seen.notes.get(row.node.name, ())),
            }
            for row in rows
        ],
    }


def top_queues(rows: list[figures.QueueFigures]) -> dict[str, Any]:
    """The answer of ``top queues``."""
    return {
        "schema": SCHEMA,
        "kind": "QueueList",
        "items": [
            {
                "name": row.name,
                "product": row.product or None,
                "nominal": row.nominal,
                "used": row.used,
                "borrowed": row.borrowed,
                "lent": row.lent,
                "pending": row.pending,
                "running": row.running,
                "waiting": row.waiting,
                "share": round(row.share, 4),
                "ideal": round(row.ideal, 4),
                "fault": row.fault or None,
            }
            for row in rows
        ],
    }


def explanation(job: types.Job, fate: Fate, deep: dict[str, Any]) -> dict[str, Any]:
    """The answer of ``explain`` on a saved snapshot: of the job's status nothing is known."""
    return {"schema": SCHEMA, "kind": "PlannedExplanation", "name": job.name, **_fate(fate), **deep}


def plan(seen: observation.Observation, made: types.Plan, future: schedule.Schedule) -> dict[str, Any]:
    """The answer of ``plan``."""
    names = {job.id: job.name for job in seen.snapshot.jobs}
    now = seen.snapshot.now_seconds
    return {
        "schema": SCHEMA,
        "kind": "Plan",
        "madeAt": views.format_time(now),
        "solver": seen.settings.solver,
        "timeLimitSeconds": seen.settings.time_limit_seconds,
        "certificate": _certificate(made.certificate),
        "evictions": [
            {"name": names.get(one.job_id), "for": names.get(one.for_job), "loses": one.cost} for one in made.evictions
        ],
        "moves": [
            {
                "name": names.get(one.job_id),
                "for": names.get(one.for_job),
                "loses": one.cost,
                "nodes": _placement(one.placement),
            }
            for one in made.moves
        ],
        "resizes": [
            {
                "name": names.get(one.job_id),
                "pods": one.num_pods,
                "for": names.get(one.for_job),
                "loses": one.cost,
                "gains": one.gain,
            }
            for one in made.resizes
        ],
        "outside": [{"name": name, "why": why} for name, why in seen.outside.items()],
        "jobs": [
            *(
                {
                    "name": span.job.name,
                    "running": span.is_running,
                    "startsAt": None if span.is_running else views.format_time(now + span.starts_in),
                    "endsAt": None if span.ends_in is None else views.format_time(now + span.ends_in),
                    "basis": span.basis,
                    "waitsFor": list(span.waits_for),
                    "nodes": _placement(span.placement),
                }
                for span in future.spans
            ),
            *(
                {
                    "name": one.job.name,
                    "running": False,
                    "startsAt": None,
                    "endsAt": None,
                    "basis": one.basis,
                    "waitsFor": list(one.waits_for),
                    "nodes": [],
                }
                for one in future.unknown
            ),
        ],
    }


def defrag(found: Answer, command: str) -> dict[str, Any]:
    """The answer of ``defrag``."""
    before, after = free_of(found.snapshot), free_of(found.after)
    names = {job.id: job.name for job in found.snapshot.jobs}
    return {
        "schema": SCHEMA,
        "kind": "Defragmentation",
        "yes": found.is_yes,
        "job": found.job.name if found.job else None,
        "budget": found.budget,
        "moves": _moves(found.snapshot, found.moves),
        "loses": found.cost if found.beyond is None else found.beyond,
        "bound": found.bound,
        "starts": sorted(names[job_id] for job_id in found.starts),
        "whyNot": found.why_not or None,
        "before": {"gpusFree": before.gpus, "wholeNodesFree": before.nodes},
        "after": {"gpusFree": after.gpus, "wholeNodesFree": after.nodes},
        "products": [
            {
                "product": one.product,
                "size": one.size,
                "wholeNodesFree": one.slots,
                "atMost": one.most,
                "steps": [
                    {
                        "more": step.more,
                        "loses": step.cost,
                        "bound": step.bound,
                        "moves": _moves(found.snapshot, step.moves),
                    }
                    for step in one.steps
                ],
                "cut": one.cut or None,
            }
            for one in found.found
        ],
        "command": command or None,
    }


def _moves(snapshot: types.Snapshot, moves: tuple[types.Move, ...]) -> list[dict[str, Any]]:
    jobs = {job.id: job for job in snapshot.jobs}
    return [
        {
            "name": jobs[move.job_id].name,
            "from": _placement(jobs[move.job_id].placement),
            "to": _placement(move.placement),
            "loses": move.cost,
        }
        for move in moves
    ]


def what_if(found: Comparison) -> dict[str, Any]:
    """The answer of ``what-if``."""
    return {
        "schema": SCHEMA,
        "kind": "WhatIf",
        "changes": [str(change) for change in found.changes],
        "yes": found.is_yes,
        "jobs": [
            {
                "name": job.name,
                "gpus": job.num_pods * job.pod.accelerators,
                "differs": found.differs(job),
                "before": _fate(found.before.fates.get(job.id)),
                "after": _fate(found.after.fates.get(job.id)),
            }
            for job in found.jobs
        ],
        "submitted": [
            {
                "name": job.name,
                "runSeconds": job.expected_seconds,
                "mostSeconds": found.changed.longest.get(job.id),
                "basis": found.changed.bases.get(job.id),
                "startsAt": None if (start := start_of(found, job.id)) is None else views.format_time(start),
                "startBasis": found.starts[job.id].basis if job.id in found.starts else None,
            }
            for job in found.jobs
            if job.id in found.changed.submitted
        ],
        "before": _side(found.before),
        "after": _side(found.after),
    }


def _fate(fate: Fate | None) -> dict[str, Any]:
    fate = fate or Fate(Lot.ABSENT)
    return {
        "lot": fate.lot.value,
        "reason": fate.reason or None,
        "message": fate.message or None,
        "product": fate.placement.product if fate.placement else None,
        "nodes": _placement(fate.placement),
        "loses": fate.cost or None,
        "other": fate.other or None,
    }


def _placement(placement: types.Placement | None) -> list[dict[str, Any]]:
    return [{"name": share.node, "pods": share.num_pods} for share in placement.shares] if placement else []


def _side(one: Side) -> dict[str, Any]:
    return {
        "running": one.num_running,
        "starting": one.num_starting,
        "waiting": one.num_waiting,
        "evictions": len(one.plan.evictions),
        "moves": len(one.plan.moves),
        "resizes": len(one.plan.resizes),
        "gpus": _totals(one.totals),
        "certificate": _certificate(one.plan.certificate),
    }


def _totals(totals: figures.Totals | figures.NodeFigures) -> dict[str, Any]:
    return {
        "total": totals.total,
        "used": totals.used,
        "others": totals.others,
        "free": totals.free,
        "blocked": totals.blocked,
        "broken": totals.broken,
        "fragmented": None if totals.fragmented is None else round(totals.fragmented, 4),
    }


def _certificate(certificate: types.Certificate) -> dict[str, Any]:
    return {
        "status": certificate.status.value,
        "strategy": certificate.strategy,
        "value": certificate.value,
        "bound": certificate.bound,
        "gap": certificate.gap,
        "seconds": round(certificate.seconds, 3),
        "note": certificate.note or None,
        "tiers": [
            {"name": tier.name, "value": tier.value, "bound": tier.bound, "gap": tier.gap, "status": tier.status.value}
            for tier in certificate.tiers
        ],
        "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in certificate.phases],
    }
