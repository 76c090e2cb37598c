"""What a TrainingJob's status says, derived from what its pods show.

``derive`` adds to the core of the status (attempt, placement, counters: see ``lifecycle``) all that is only
for reading: phase, reason, ready count, conditions, decision, progress. Pure; it never invents: what the pods
do not show is not said. ``merge_patch`` is the one write that follows, and only when a user can see a change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stowplan_operator import (
    api,
    deadlines,
    decision,
    elastic,
    findings,
    lifecycle,
    podspec,
    progress,
    restart_time,
    steps,
    throughput,
    views,
    wording,
)

Json = dict[str, Any]

UNKNOWN_PROGRESS_SECONDS = 60
_UNKNOWN = "progress is unknown: "


def derive(job: views.JobView, core: Mapping[str, Any], pods: Sequence[views.PodView], facts: findings.Facts) -> Json:
    """The full status of the job. ``core`` is its status after ``lifecycle.advance``."""
    status = dict(core)
    status["observedGeneration"] = job.generation
    num_pods = elastic.placed_pods(status) or int(job.spec.get("numNodes", 1))
    placed = replace(job, status=status)
    current = lifecycle.current_pods(placed, pods)
    succeeded: frozenset[int] = frozenset()
    if placement := status.get("placement"):
        succeeded = lifecycle.finished_ranks(placement, current)
        if succeeded:
            status["placement"] = {**placement, "finishedRanks": podspec.format_ranks(succeeded)}
    running = len(succeeded | {rank for rank, pod in current.items() if pod.running})
    phase = _phase(status)
    status["phase"] = phase.value
    status["ready"] = f"{running}/{num_pods}"
    status["readyNodes"] = running
    status["gpus"] = facts.accelerators
    status["queue"] = facts.queue or None
    status.setdefault("restarts", 0)
    if not phase.is_terminal:
        decision.decide(job, status, phase, facts)
    status["reason"], status["message"] = _reason(status, phase, current, facts)
    _add_progress(status, phase, _last_rank_zero(placed, pods), facts)
    seconds = restart_time.measured(status, facts.progress, facts.pace)
    if seconds is not None:
        status["restartSeconds"], status["progress"] = seconds, {**status["progress"], "startSeconds": seconds}
    outlook = deadlines.look(
        status, phase, facts.goal, facts.estimate, num_pods=num_pods, now_seconds=facts.now_seconds
    )
    status["estimate"] = outlook.estimate
    status["elastic"] = throughput.noted(job, status, facts.pace)
    status["conditions"] = _conditions(job, status, phase, running == num_pods, facts, outlook.verdict)
    return {key: value for key, value in status.items() if value is not None}


def _phase(status: Mapping[str, Any]) -> api.Phase:
    phase = api.phase_of(status)
    if phase.is_terminal or phase is api.Phase.SUSPENDED:
        return phase
    if placement := status.get("placement"):
        return api.Phase.RUNNING if placement.get("startedAt") else api.Phase.STARTING
    history = status.get("history") or ()
    begins_again = history and history[-1]["outcome"] in api.BEGINNING_AGAIN
    return api.Phase.RESTARTING if begins_again else api.Phase.PENDING


def _reason(
    status: Mapping[str, Any], phase: api.Phase, current: Mapping[int, views.PodView], facts: findings.Facts
) -> tuple[str, str]:
    """The one word of the REASON column and its sentence; the specific beats the general."""
    failure = status.get("lastFailure") or {}
    if phase is api.Phase.SUCCEEDED:
        return "Completed", "all pods exited 0"
    if phase is api.Phase.FAILED:
        return failure.get("reason", "Failed"), failure.get("message", "")
    if phase is api.Phase.RUNNING:
        return "AllPodsRunning", ""
    if facts.problem:
        return "ApiError", facts.problem
    if phase is api.Phase.STARTING:
        for _, pod in sorted(current.items()):
            if not pod.running and pod.waiting_reason not in ("", "ContainerCreating", "PodInitializing"):
                return pod.waiting_reason, f"pod {pod.name} on {pod.node or 'no node'}: {pod.waiting_message}"
        return "PodsStarting", "placed; waiting for all pods to run"
    if facts.cleaning_up:
        return "WaitingForOldPods", "older pods of this job, or of one of the same name, have not left yet"
    if phase is api.Phase.RESTARTING and views.parse_time(status.get("retryAfter")) > facts.now_seconds:
        return "BackOff", f"next attempt at {status['retryAfter']}; last failure: {failure.get('message', '')}"
    decided = status.get("decision") or {}
    if decided:
        return decided["reason"], decided["message"]
    return "Planning", "waiting for the next plan"


def _last_rank_zero(job: views.JobView, pods: Sequence[views.PodView]) -> views.PodView | None:
    """Rank 0 of the last attempt, whether that still has its place or not: its last word counts."""
    attempt = job.status.get("attempt")
    return next((pod for pod in pods if (pod.owner_uid, pod.rank, pod.attempt) == (job.uid, 0, attempt)), None)


def _add_progress(status: Json, phase: api.Phase, rank_zero: views.PodView | None, facts: findings.Facts) -> None:
    status["eta"] = (facts.eta if phase is api.Phase.RUNNING else _start_text(status, phase)) or None
    reading = steps.current(status, facts.progress) if status.get("placement") else facts.progress
    if rank_zero is not None and rank_zero.end is not None:
        reading = progress.final_from_termination(rank_zero.end.message) or reading
    old = status.get("progress") or {}
    if reading is None:
        _say_unknown_progress(status, old, phase, facts)
        return
    new = steps.to_status(reading, old, attempt=int(status.get("attempt", 0)), now_seconds=facts.now_seconds)
    took, grace = reading.checkpoint_save_seconds, facts.grace_seconds
    if took is not None and grace is not None and took > grace:
        text = (
            f"a checkpoint takes {took:.0f} s; raise spec.checkpoint.gracePeriodSeconds ({grace}), or a stop loses it"
        )
        new.setdefault("message", text)
    unchanged = all(old.get(key) == value for key, value in new.items() if key != "lastReportTime")
    recent = facts.now_seconds - views.parse_time(old.get("lastReportTime")) < facts.progress_seconds
    if unchanged or (recent and not phase.is_terminal and rank_zero is not None and rank_zero.end is None):
        return
    status["progress"] = new


def _start_text(status: Mapping[str, Any], phase: api.Phase) -> str:
    """When a waiting job starts, as of the decision's last update, so that the text changes only with it."""
    decided = status.get("decision") or {}
    if phase not in (api.Phase.PENDING, api.Phase.RESTARTING) or "predictedStart" not in decided:
        return ""
    left = views.parse_time(decided["predictedStart"]) - views.parse_time(decided["lastUpdated"])
    return f"starts in {progress.eta_text(max(0.0, left))}" + (" (reserved)" if decided.get("reserved") else "")


def _say_unknown_progress(status: Json, old: Json, phase: api.Phase, facts: findings.Facts) -> None:
    """A gang that has run for a while without a report: say why nothing is known, as long as it runs; guess nothing."""
    if phase is not api.Phase.RUNNING and str(old.get("message", "")).startswith(_UNKNOWN):
        status["progress"] = {key: value for key, value in old.items() if key != "message"} or None
    started = views.parse_time((status.get("placement") or {}).get("startedAt"))
    if phase is api.Phase.RUNNING and facts.progress_error and facts.now_seconds - started >= UNKNOWN_PROGRESS_SECONDS:
        status["progress"] = {**old, "message": f"{_UNKNOWN}{facts.progress_error}"[:512]}


def _conditions(
    job: views.JobView,
    status: Mapping[str, Any],
    phase: api.Phase,
    all_run: bool,
    facts: findings.Facts,
    deadline: tuple[api.Condition, bool | None, str, str] | None,
) -> list[Json]:
    placed = status.get("placement") is not None
    restarting = phase is api.Phase.RESTARTING
    failure = status.get("lastFailure") or {}
    history = status.get("history") or ()
    stopped = history[-1] if history and not placed else {}
    ready = all_run and not phase.is_terminal and placed
    wanted: list[tuple[api.Condition, bool | None, str, str]] = [
        (
            api.Condition.ADMITTED,
            placed,
            "Placed" if placed else status["reason"],
            _placement_text(status) if placed else status["message"],
        ),
        (
            api.Condition.PODS_READY,
            ready,
            "AllPodsRunning" if ready else status["reason"],
            f"{status['ready']} pods run" + (f"; {facts.problem}" if facts.problem and not ready else ""),
        ),
    ]
    if status.get("progress") and not phase.is_terminal:
        step = status["progress"].get("step")
        last = "no step has been reported" if step is None else f"last step {step}"
        if phase is not api.Phase.RUNNING:
            wanted.append((api.Condition.PROGRESSING, False, "NotRunning", last))
        elif step is None:
            wanted.append((api.Condition.PROGRESSING, None, "NothingReported", last))
        else:
            wanted.append((api.Condition.PROGRESSING, True, "StepsReported", last))
    if phase is api.Phase.SUSPENDED or _has(job, api.Condition.SUSPENDED):
        suspended = phase is api.Phase.SUSPENDED
        wanted.append((api.Condition.SUSPENDED, suspended, "Suspended" if suspended else "Resumed", ""))
    if restarting or _has(job, api.Condition.RESTARTING):
        word, why = failure.get("reason", "Failed"), failure.get("message", "")
        if stopped.get("outcome") in api.RETURNING_STOPS:
            word = "Resizing" if stopped["outcome"] == api.Outcome.RESIZED else "Moving"
            why = stopped["reason"]
        said = (word, why) if restarting else ("Restarted", "")
        wanted.append((api.Condition.RESTARTING, restarting, *said))
    preempted = stopped.get("outcome") == api.Outcome.PREEMPTED
    if preempted or _has(job, api.Condition.PREEMPTED):
        why = str(stopped.get("reason", "")) if preempted else ""
        word = "HigherPriority" if preempted else "NotPreempted"
        for words, known in ((lifecycle.RECLAIMS, "QuotaReclaimed"), (lifecycle.HAS_HAD_LESS, "LeastAttained")):
            word = known if words in why else word
        wanted.append((api.Condition.PREEMPTED, preempted, word, why))
    if facts.telemetry_stale is not None and (facts.telemetry_stale or _has(job, api.Condition.TELEMETRY_STALE)):
        stale = bool(facts.telemetry_stale)
        word = "PrometheusNotAnswering" if stale else "TelemetryFresh"
        wanted.append((api.Condition.TELEMETRY_STALE, stale, word, facts.telemetry_stale))
    if deadline is not None:
        wanted.append(deadline)
    if phase is api.Phase.SUCCEEDED:
        wanted.append((api.Condition.COMPLETE, True, "Completed", "all pods exited 0"))
    if phase is api.Phase.FAILED:
        wanted.append((api.Condition.FAILED, True, status["reason"], failure.get("message", "")))
    before = job.status.get("conditions") or ()
    return merge_conditions(before, wanted, generation=job.generation, now_seconds=facts.now_seconds)


def _has(job: views.JobView, condition: api.Condition) -> bool:
    return any(one["type"] == condition.value for one in job.status.get("conditions") or ())


def _placement_text(status: Mapping[str, Any]) -> str:
    placement = status["placement"]
    nodes = [share["name"] for share in placement["nodes"]]
    return f"attempt {placement['attempt']} on {wording.some(nodes, most=decision.NAMED_NODES)}"


def merge_conditions(
    old: Iterable[Mapping[str, Any]],
    wanted: Sequence[tuple[api.Condition | api.QueueCondition, bool | None, str, str]],
    *,
    generation: int,
    now_seconds: float,
) -> list[Json]:
    """metav1 Conditions in the order of ``wanted``; lastTransitionTime moves only when the status does."""
    before = {one["type"]: one for one in old}
    now = views.format_time(now_seconds)
    merged = []
    for condition, is_true, reason, message in wanted:
        state = "Unknown" if is_true is None else str(is_true)
        last = before.get(condition.value, {})
        since = last.get("lastTransitionTime", now) if last.get("status") == state else now
        merged.append(
            {
                "type": condition.value,
                "status": state,
                "reason": reason,
                "message": message[:1024],
                "observedGeneration": generation,
                "lastTransitionTime": since,
            }
        )
    return merged


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """The JSON merge patch (RFC 7386) that turns ``old`` into ``new``; empty when nothing differs."""
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, Mapping) and isinstance(old[key], Mapping):
            if inner := merge_patch(old[key], value):
                patch[key] = inner
        elif value != old[key]:
            patch[key] = value
    return patch
