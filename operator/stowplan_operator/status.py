"""What a TrainingJob's status says, derived from what its pods show.

``derive`` adds to the core of the status (attempt, placement, counters: see ``lifecycle``) all that is only
for reading: phase, reason, ready count, conditions, decision, progress. Pure; it never invents: what the pods
do not show is not said. ``merge_patch`` is the one write that follows, and only when a user can see a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stowplan_allocator.advising import Advice
from stowplan_allocator.types import Certificate, Waiting
from stowplan_operator import (
    answered,
    api,
    deadlines,
    elastic,
    estimates,
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

DECISION_NUMBERS_SECONDS = 60
# A decision that names nobody who is still in the way, or a place in the line that is another one by now, is renewed
# sooner, but over all jobs no more often than this: of 1,000 jobs that wait each still has a minute.
_RENEWALS_PER_SECOND = 1000 / DECISION_NUMBERS_SECONDS
ALTERNATIVES_SECONDS = 600
# Fields of the decision that are found beside the plan, and stay until they are found anew.
_CHANGES = ("alternatives", "alternativesNotTried")
_ADVICE = ("predictedStart", "predictedStartBasis", "reserved", *_CHANGES)
UNKNOWN_PROGRESS_SECONDS = 60
_UNKNOWN = "progress is unknown: "
_NAMED_NODES = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a job in this cycle, beside its own status and pods."""

    now_seconds: float
    accelerators: int
    waiting: Waiting | None = None
    # Its place in the line of its queue, 1 for the first.
    position: int | None = None
    certificate: Certificate | None = None
    misconfigured: str = ""
    # The Queue that is to be corrected, where that is what is misconfigured.
    queue_to_mend: str = ""
    cleaning_up: bool = False
    pace: progress.Pace | None = None
    progress: progress.Progress | None = None
    progress_seconds: float = 10.0
    progress_error: str = ""
    grace_seconds: int | None = None
    eta: str = ""
    estimate: estimates.Estimate | None = None
    goal: deadlines.Goal = deadlines.NONE
    advice: Advice | None = None
    # The answer for which the alternatives of ``advice`` were found.
    advised_on: answered.Answer | None = None
    telemetry_stale: str | None = None
    problem: str = ""
    queue: str = ""
    # Whether a job, as blockers name it, runs or waits; and how many wait.
    is_there: Callable[[str], bool] = lambda name: True
    num_waiting: int = 0


def derive(job: views.JobView, core: Mapping[str, Any], pods: Sequence[views.PodView], facts: Facts) -> Json:
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
        _decide(job, status, phase, facts)
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


def _decide(job: views.JobView, status: Json, phase: api.Phase, facts: Facts) -> None:
    """Keep ``status.decision``: a new reason at once, other words not before they are due."""
    now = views.format_time(facts.now_seconds)
    if facts.misconfigured:
        new: Json = {"reason": "Misconfigured", "message": facts.misconfigured}
        if facts.queue_to_mend:
            new["numbers"] = {api.QUEUE_TO_MEND: facts.queue_to_mend}
    elif facts.waiting is not None:
        new = {"reason": facts.waiting.reason.value, "message": facts.waiting.message}
        if facts.waiting.numbers:
            new["numbers"] = dict(facts.waiting.numbers)
        if facts.waiting.blockers:
            new["blockers"] = list(facts.waiting.blockers)
        if facts.position is not None:
            new["position"] = facts.position
    elif phase is api.Phase.SUSPENDED:
        new = {"reason": "Suspended", "message": "spec.suspend is true"}
    else:
        return
    if facts.certificate is not None and not facts.misconfigured:
        new["certificate"] = certificate_json(facts.certificate)
    old = status.get("decision") or {}
    is_same_reason = old.get("reason") == new["reason"]
    if facts.waiting is not None and not facts.misconfigured:
        answer = answered.of_plan(facts.waiting, generation=job.generation)
        new |= _found_beside(answer, job, old if is_same_reason else {}, facts)
    if is_same_reason:
        is_new_spec = job.status.get("observedGeneration") != job.generation
        hold = 0.0 if is_new_spec else _hold_seconds(old, new, facts)
        fresh = facts.now_seconds - views.parse_time(old.get("lastUpdated")) < hold
        if fresh or _same_decision(old, new, facts.now_seconds):
            return
        status["decision"] = {**new, "since": old.get("since", now), "lastUpdated": now}
    else:
        status["decision"] = {**new, "since": now, "lastUpdated": now}


def _hold_seconds(old: Json, new: Json, facts: Facts) -> float:
    """For how long after its last renewal a decision of the same reason stays as it is.

    What a user's own change makes of it, and the first advice on a new job, are told at once; numbers every minute.
    """
    is_advised, is_found = any(key in old for key in _ADVICE), any(key in new and key not in old for key in _ADVICE)
    if answered.is_by_user(old, new) or (is_found and not is_advised):
        return 0.0
    blockers = old.get("blockers", ())
    has_moved = old.get("position") != new.get("position")
    is_gone = bool(blockers) and not any(map(facts.is_there, blockers))
    if is_found or has_moved or is_gone or ("alternatives" in old and "alternatives" not in new):
        seconds = facts.num_waiting / _RENEWALS_PER_SECOND
        return 0.0 if seconds < 1 else min(DECISION_NUMBERS_SECONDS, seconds)
    return DECISION_NUMBERS_SECONDS


def _found_beside(answer: answered.Answer, job: views.JobView, old: Json, facts: Facts) -> Json:
    """What is known beside the plan, new or of the ``old`` decision; alternatives only where found for this answer."""
    found: Json = {}
    if facts.advice is not None:
        found = _advice_json(facts.advice)
        then = facts.advised_on
        if then is None or not (answer.is_same(then) and answer.has_room_of(then)):
            found = {key: value for key, value in found.items() if key not in _CHANGES}
    kept = set(_ADVICE) if facts.advice is None else set(_CHANGES) if facts.advice.changes is None else set()
    if not answer.is_same(answered.of_decision(old, generation=int(job.status.get("observedGeneration", 0)))):
        kept.difference_update(_CHANGES)
    return {key: value for key, value in old.items() if key in kept} | found


def _same_decision(old: Mapping[str, Any], new: Mapping[str, Any], now_seconds: float) -> bool:
    """Whether a user would see nothing new: a predicted start may move by a tenth of the time until then.

    What an alternative would lose grows all the time, and counts where it has become another price.
    """
    keys = ("reason", "message", "numbers", "blockers", "position", "reserved", "alternativesNotTried")
    if any(old.get(key) != new.get(key) for key in keys):
        return False
    before, after = ([str(one) for one in each.get("alternatives", ())] for each in (old, new))
    is_old = now_seconds - views.parse_time(old.get("lastUpdated")) >= ALTERNATIVES_SECONDS
    if before != after and (is_old or not answered.costs_about_the_same(before, after)):
        return False
    was, start = views.parse_time(old.get("predictedStart")), views.parse_time(new.get("predictedStart"))
    if not was or not start:
        return was == start
    return abs(start - was) <= max(60.0, 0.1 * (was - views.parse_time(old.get("lastUpdated"))))


def _advice_json(advice: Advice) -> Json:
    """Predicted start and alternatives, as far as they are known."""
    fields: Json = {}
    room = ""
    if advice.reservation is not None:
        fields["reserved"] = True
        nodes = [share.node for share in advice.reservation.placement.shares]
        room = f"; room is kept for it on {wording.some(nodes, most=_NAMED_NODES)}"
    if advice.forecast is not None:
        fields["predictedStartBasis"] = advice.forecast.basis + room
        if advice.forecast.starts_at_seconds is not None:
            fields["predictedStart"] = views.format_time(advice.forecast.starts_at_seconds)
    if advice.changes is not None:
        fields["alternatives"] = [{"kind": one.kind.value, "message": one.sentence} for one in advice.changes]
    if advice.not_tried:
        fields["alternativesNotTried"] = [kind.value for kind in advice.not_tried]
    return fields


def certificate_json(certificate: Certificate) -> Json:
    """How good the plan is, as text: the gap as a decimal (0.01 is one percent), seconds with three decimals."""
    return {
        "status": certificate.status.value,
        "strategy": certificate.strategy,
        "gap": f"{certificate.gap:.3g}",
        "bound": f"{certificate.bound:.6g}",
        "seconds": f"{certificate.seconds:.3f}",
        **({"note": certificate.note} if certificate.note else {}),
    }


def _reason(
    status: Mapping[str, Any], phase: api.Phase, current: Mapping[int, views.PodView], facts: Facts
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
    decision = status.get("decision") or {}
    if decision:
        return decision["reason"], decision["message"]
    return "Planning", "waiting for the next plan"


def _last_rank_zero(job: views.JobView, pods: Sequence[views.PodView]) -> views.PodView | None:
    """Rank 0 of the last attempt, whether that still has its place or not: its last word counts."""
    attempt = job.status.get("attempt")
    return next((pod for pod in pods if (pod.owner_uid, pod.rank, pod.attempt) == (job.uid, 0, attempt)), None)


def _add_progress(status: Json, phase: api.Phase, rank_zero: views.PodView | None, facts: Facts) -> None:
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
    decision = status.get("decision") or {}
    if phase not in (api.Phase.PENDING, api.Phase.RESTARTING) or "predictedStart" not in decision:
        return ""
    left = views.parse_time(decision["predictedStart"]) - views.parse_time(decision["lastUpdated"])
    return f"starts in {progress.eta_text(max(0.0, left))}" + (" (reserved)" if decision.get("reserved") else "")


def _say_unknown_progress(status: Json, old: Json, phase: api.Phase, facts: Facts) -> None:
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
    facts: Facts,
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
    return f"attempt {placement['attempt']} on {wording.some(nodes, most=_NAMED_NODES)}"


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
