"""The figures of a simulated run: one flat object, the same for the terminal, the JSON file and the report.

What must stay true: every figure is computed from the records; times are those of jobs that ended, and jobs that did
not end are counted beside them, so that a policy cannot look fast by never ending its jobs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stowplan_allocator import types
from stowplan_allocator.simulate import failures, records

type Figure = int | float | None


def state(job: records.JobRecord) -> str:
    """``completed``, ``failed``, ``unfinished`` or ``never-started``."""
    if job.ended_seconds is not None:
        return job.runs[-1].outcome.value
    return "unfinished" if job.runs else "never-started"


def accelerators(job: records.JobRecord, run: records.Run) -> int:
    """Accelerators that a run of the job held."""
    return run.placement.num_pods * job.job.pod.accelerators


def quantile(ordered: Sequence[int], share: float) -> int | None:
    """The smallest value that at least this share of all does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def mean(values: Sequence[float]) -> float | None:
    """Their mean; None of nothing."""
    return round(math.fsum(values) / len(values), 3) if values else None


def summarise(history: records.History) -> dict[str, Figure]:
    """All figures by name; docs/simulator.md explains each."""
    states = [state(job) for job in history.jobs]
    outcomes = [run.outcome for job in history.jobs for run in job.runs]
    completion = sorted(job.completion_seconds for job in history.jobs if job.completion_seconds is not None)
    queue = sorted(job.queue_seconds for job in history.jobs if job.queue_seconds is not None)
    last_submission = max((job.submitted_seconds for job in history.jobs), default=history.started_at_seconds)
    fragmented = [sample.fragmented_share for sample in history.samples if sample.accelerators_free > 0]
    return {
        "nodes": len(history.nodes),
        "accelerators": sum(node.allocatable.accelerators for node in history.nodes),
        "jobs": len(states),
        "completed": states.count("completed"),
        "failed": states.count("failed"),
        "unfinished": states.count("unfinished"),
        "never_started": states.count("never-started"),
        "span_seconds": history.ended_at_seconds - history.started_at_seconds,
        "utilisation_percent": _utilisation(history, until=history.ended_at_seconds),
        "utilisation_while_submitting_percent": _utilisation(history, until=last_submission),
        "fragmentation_mean_percent": _percent(mean(fragmented)),
        "completion_mean_seconds": mean(completion),
        "completion_p50_seconds": quantile(completion, 0.5),
        "completion_p95_seconds": quantile(completion, 0.95),
        "queue_mean_seconds": mean(queue),
        "queue_p50_seconds": quantile(queue, 0.5),
        "queue_p95_seconds": quantile(queue, 0.95),
        "queue_max_seconds": queue[-1] if queue else None,
        "waiting_jobs_max": max((sample.jobs_waiting for sample in history.samples), default=0),
        "runs": len(outcomes),
        "runs_preempted": outcomes.count(records.Outcome.PREEMPTED),
        "runs_node_lost": outcomes.count(records.Outcome.NODE_LOST),
        "lost_job_seconds": sum(job.lost_seconds for job in history.jobs),
        "events": history.num_events,
        "plans": history.num_plans,
        "plan_cpu_seconds": round(history.plan_seconds, 3),
    }


def facts(figures: Mapping[str, Figure]) -> str:
    """The run in a line."""
    nodes, held, jobs = (f"{figures[name]:,}" for name in ("nodes", "accelerators", "jobs"))
    return f"{jobs} jobs on {nodes} nodes with {held} accelerators, {duration(figures['span_seconds'])} of cluster time"


def duration(seconds: float | None) -> str:
    """A duration in at most two units: ``12 s``, ``4 min``, ``2 h 30 min``, ``3 d 4 h``; a dash for none."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    sign = "-" if whole < 0 else ""
    whole = abs(whole)
    if whole < 60:
        return f"{sign}{whole} s"
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(index for index, (amount, _) in enumerate(parts) if amount)
    return sign + " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


def _utilisation(history: records.History, *, until: int) -> float | None:
    """Accelerator time that jobs held, of all that there was between the start and ``until``."""
    total = sum(node.allocatable.accelerators for node in history.nodes)
    there = total * (until - history.started_at_seconds)
    if there <= 0:
        return None
    held = sum(
        accelerators(job, run) * max(0, min(run.end_seconds, until) - run.start_seconds)
        for job in history.jobs
        for run in job.runs
    )
    return round(held / there * 100, 2)


def waiting_reasons(history: records.History) -> list[tuple[types.Reason, int, int]]:
    """For each reason: jobs that gave it first, and jobs that never started and gave it last."""
    first: dict[types.Reason, int] = {}
    last: dict[types.Reason, int] = {}
    for job in history.jobs:
        if job.first_reason is not None:
            first[job.first_reason.reason] = first.get(job.first_reason.reason, 0) + 1
        if not job.runs and job.last_reason is not None:
            last[job.last_reason.reason] = last.get(job.last_reason.reason, 0) + 1
    return [(reason, first.get(reason, 0), last.get(reason, 0)) for reason in types.Reason if reason in first | last]


def size_classes(jobs: Iterable[records.JobRecord]) -> dict[str, list[records.JobRecord]]:
    """Jobs by how many accelerators they ask for: none, 1, 2–8, 9–64, more."""
    classes: dict[str, list[records.JobRecord]] = {name: [] for name, _ in _SIZES}
    for job in jobs:
        asked = job.job.num_pods * job.job.pod.accelerators
        classes[next(name for name, most in _SIZES if asked <= most)].append(job)
    return {name: some for name, some in classes.items() if some}


def by_queue(jobs: Iterable[records.JobRecord]) -> dict[str, list[records.JobRecord]]:
    """Jobs by the queue that they name, in the order of its name."""
    found: dict[str, list[records.JobRecord]] = {}
    for job in jobs:
        found.setdefault(job.job.queue, []).append(job)
    return dict(sorted(found.items()))


def held_seconds(job: records.JobRecord) -> int:
    """Accelerator-seconds that the job held."""
    return sum((run.end_seconds - run.start_seconds) * accelerators(job, run) for run in job.runs)


_SIZES: tuple[tuple[str, float], ...] = (("none", 0), ("1", 1), ("2–8", 8), ("9–64", 64), ("65 and more", math.inf))

type Downtimes = Mapping[str, tuple[tuple[int, int], ...]]


def downtimes(history: records.History, *, model: failures.Failures, seed: int) -> Downtimes:
    """When each node was away, in the same way as the engine drew it; nodes that were never away are left out."""
    found = {node.name: tuple(_away(node, history=history, model=model, seed=seed)) for node in history.nodes}
    return {name: spans for name, spans in found.items() if spans}


def _away(
    node: types.Node, *, history: records.History, model: failures.Failures, seed: int
) -> Iterator[tuple[int, int]]:
    if node.blocked:
        yield history.started_at_seconds, history.ended_at_seconds
        return
    start, end = history.started_at_seconds, history.ended_at_seconds
    for down, back in failures.moments(node.name, failures=model, seed=seed, from_seconds=start):
        if down >= end:
            return
        yield down, min(back, end)
