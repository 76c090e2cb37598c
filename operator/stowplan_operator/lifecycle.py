"""The life of one gang as a pure function: what its pods show → what its status must become.

``advance`` decides only what gives or takes accelerators: a gang has started, failed, succeeded, was
suspended or ran out of time. It knows no edges: it looks at the job, its pods and the clock, so that
any step may be repeated, by this process or the next. The placement leaves the status first; the pods of
that attempt are deleted afterwards (``pods_to_delete``), and the job is planned anew only when none of them
can still hold an accelerator (``is_plannable``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stowplan_operator import api, failures, podspec, queueing, retries, rules, steps, views

Json = dict[str, Any]

FAULT_GRACE_SECONDS = 2
KEPT_ATTEMPTS = 2
_NOTHING_HEARD = steps.Heard()
HISTORY_LENGTH = 10
# Stops that settings allow so often within an hour, at most 24 times each: they stay in the history for so long.
_COUNTED_STOPS = (api.Outcome.PREEMPTED, *sorted(api.RETURNING_STOPS))
_COUNTED_SECONDS = 3600
_LONGEST_HISTORY = 64
# In the reason of an attempt that was preempted for its quota, and not for a higher priority.
RECLAIMS = "takes back quota"
# In that of one that made way for an equal.
HAS_HAD_LESS = "has had much less"


@dataclass(frozen=True, slots=True)
class Transition:
    """A new status, and what to tell the user about it (``event`` is reason and message)."""

    status: Json
    event: tuple[str, str]
    is_warning: bool = False
    failure: failures.Failure | None = None


def current_pods(job: views.JobView, pods: Sequence[views.PodView]) -> dict[int, views.PodView]:
    """Pods of the placed attempt by rank."""
    placement = job.status.get("placement") or {}
    attempt = placement.get("attempt")
    return {pod.rank: pod for pod in pods if pod.owner_uid == job.uid and pod.attempt == attempt}


def finished_ranks(placement: Mapping[str, Any], current: Mapping[int, views.PodView]) -> frozenset[int]:
    """Ranks that have exited 0: those that the status remembers, and those whose pods show it."""
    return podspec.finished_ranks(placement) | {rank for rank, pod in current.items() if pod.phase == "Succeeded"}


def advance(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    pods: Sequence[views.PodView],
    *,
    lost_nodes: Collection[str],
    accelerators_per_pod: int,
    max_infrastructure_restarts: int,
    now_seconds: float,
    node_fault: failures.Failure | None = None,
    heard: steps.Heard = _NOTHING_HEARD,
    queue_limit: queueing.RunLimit | None = None,
) -> Transition | None:
    """What the job's status must become, or None where it stands right.

    ``lost_nodes`` are nodes that are gone or NotReady for too long; ``node_fault`` is what is wrong with a node or
    GPU under the gang (see ``node_faults``). ``max_infrastructure_restarts`` is for faults that are not charged.
    ``heard`` is what is known of its progress, ``queue_limit`` what its queue allows.
    """
    status = job.status
    if api.phase_of(status).is_terminal:
        return None
    placement = status.get("placement")
    overrun = _overrun(status, spec, queue_limit, now_seconds=now_seconds)
    if placement is None:
        if overrun and not spec.suspend:
            return _failed_waiting(status, overrun, now_seconds=now_seconds)
        if spec.suspend and api.phase_of(status) is not api.Phase.SUSPENDED:
            new = dict(status, phase=api.Phase.SUSPENDED.value)
            return Transition(new, ("Suspended", "The job is suspended; it holds no accelerators."))
        if not spec.suspend and api.phase_of(status) is api.Phase.SUSPENDED:
            new = dict(status, phase=api.Phase.PENDING.value)
            return Transition(new, ("Resumed", "The job is no longer suspended; it waits for a place."))
        return None

    current = current_pods(job, pods)
    ranks = dict(podspec.ranks_by_node(placement))
    end = Ending(
        job=job,
        accelerators_per_pod=accelerators_per_pod,
        now_seconds=now_seconds,
        steps=steps.span(status, heard, current.get(0)),
    )

    succeeded = finished_ranks(placement, current)
    if succeeded >= ranks.keys():
        new = end.finished(api.Phase.SUCCEEDED, api.Outcome.SUCCEEDED, "")
        return Transition(new, ("Succeeded", f"All {len(ranks)} pods of attempt {placement['attempt']} exited 0."))
    if spec.suspend:
        new = end.released(api.Outcome.SUSPENDED, "suspend was set")
        new["phase"] = api.Phase.SUSPENDED.value
        return Transition(
            new, ("Suspended", f"Attempt {placement['attempt']} stops; its {len(ranks)} pods may save first.")
        )
    if overrun:
        return end.failed(overrun)
    failure_found = failures.find_failure(
        current,
        placement,
        ranks={rank: node for rank, node in ranks.items() if rank not in succeeded},
        spec=spec,
        lost_nodes=lost_nodes,
        now_seconds=now_seconds,
        refusal=status.get("message", "") if status.get("reason") == "ApiError" else "",
        node_fault=node_fault,
    ) or steps.find_hang(status, spec, heard, now_seconds=now_seconds)
    if failure_found:
        failure_found = steps.described(failure_found, status, heard, current.get(0))
        return end.restarted_or_failed(failure_found, spec, max_infrastructure_restarts=max_infrastructure_restarts)
    all_run = all(rank in succeeded or (rank in current and current[rank].running) for rank in ranks)
    if all_run and not placement.get("startedAt"):
        now = views.format_time(now_seconds)
        new = dict(status, phase=api.Phase.RUNNING.value, placement=dict(placement, startedAt=now))
        new.setdefault("startTime", now)
        return Transition(new, ("Running", f"All {len(ranks)} pods of attempt {placement['attempt']} are running."))
    return None


def _overrun(
    status: Mapping[str, Any], spec: api.TrainingJobSpec, queue_limit: queueing.RunLimit | None, *, now_seconds: float
) -> failures.Failure | None:
    """What ends a job whose first start is longer ago than it, or its queue, allows."""
    started = views.parse_time(status.get("startTime"))
    limit = queueing.shorter(spec.active_deadline_seconds, queue_limit)
    if limit is None or not started or now_seconds - started < limit.seconds:
        return None
    text = f"the job ran longer than {limit.source} ({limit.seconds} s)"
    if status.get("history") or status.get("placement") is None:
        text = (
            f"the job first started {int(now_seconds - started)} s ago, and {limit.source} ({limit.seconds} s) counts "
            "from then on, restarts and waiting in between included"
        )
    return failures.Failure(failures.Cause.DEADLINE_EXCEEDED, text)


def _failed_waiting(status: Mapping[str, Any], failure: failures.Failure, *, now_seconds: float) -> Transition:
    """The job is over, without success, while it waits to start again: no attempt ends with it."""
    new = {name: value for name, value in status.items() if name not in ("decision", "retryAfter")}
    new["phase"] = api.Phase.FAILED.value
    new["completionTime"] = views.format_time(now_seconds)
    new["lastFailure"] = failure.to_status(attempt=int(status.get("attempt", 0)), now_seconds=now_seconds)
    return Transition(new, ("Failed", failure.message), is_warning=True, failure=failure)


def preempted(
    job: views.JobView,
    *,
    by: str,
    cost: int,
    accelerators_per_pod: int,
    grace_seconds: int,
    now_seconds: float,
    reclaim: str = "",
) -> Transition:
    """The job gives its place to the job ``by`` (namespace/name), and waits again with its place by age.

    ``cost`` is what it loses, in accelerator-seconds; its pods get ``grace_seconds`` to write a checkpoint. ``reclaim``
    says whose quota is taken back, in words with ``RECLAIMS``, or that an equal ``HAS_HAD_LESS``; it is empty where a
    higher priority decides.
    """
    end = Ending(
        job=job,
        accelerators_per_pod=accelerators_per_pod,
        now_seconds=now_seconds,
        steps=steps.span(job.status, _NOTHING_HEARD, None),
    )
    attempt = job.status["placement"]["attempt"]
    new = end.released(api.Outcome.PREEMPTED, f"{by} takes its place" + (f": {reclaim}" if reclaim else ""))
    new["phase"] = api.Phase.PENDING.value
    new["preemptions"] = int(new.get("preemptions", 0)) + 1
    why = f": {reclaim}" if reclaim else ", which has a higher priority"
    text = (
        f"Attempt {attempt} gives its place to {by}{why}; it loses about {cost} GPU-seconds. "
        f"Its pods get {grace_seconds} s to write a checkpoint; then the job waits again, at its place by age."
    )
    return Transition(new, ("Preempted", text), is_warning=True)


@dataclass(frozen=True, slots=True)
class Ending:
    """New statuses in which an attempt has ended."""

    job: views.JobView
    accelerators_per_pod: int
    now_seconds: float
    # First and last step that the attempt reported.
    steps: tuple[int | None, int | None] = (None, None)

    def _ended(self, outcome: api.Outcome, reason: str, failure: failures.Failure | None = None) -> Json:
        status = dict(self.job.status)
        placement = status["placement"]
        nodes = [node for _, node in podspec.ranks_by_node(placement)]
        begin = placement.get("startedAt") or placement["plannedAt"]
        seconds = max(0, int(self.now_seconds - views.parse_time(begin))) if placement.get("startedAt") else 0
        spent = seconds * self.accelerators_per_pod * len(nodes)
        entry = {
            "attempt": placement["attempt"],
            "startTime": begin,
            "endTime": views.format_time(self.now_seconds),
            "outcome": outcome.value,
            "reason": reason,
            "nodes": len(nodes),
            "gpuSeconds": spent,
            **(failure.to_history() if failure else {}),
            **{
                name: step for name, step in zip(("firstStep", "lastStep"), self.steps, strict=True) if step is not None
            },
        }
        status["history"] = _kept([*status.get("history", ()), entry], now_seconds=self.now_seconds)
        status["gpuSeconds"] = int(status.get("gpuSeconds", 0)) + spent
        return status

    def released(self, outcome: api.Outcome, reason: str, failure: failures.Failure | None = None) -> Json:
        """The attempt is over and its accelerators are given back."""
        status = self._ended(outcome, reason, failure)
        del status["placement"]
        status.pop("decision", None)
        return status

    def finished(
        self, phase: api.Phase, outcome: api.Outcome, reason: str, failure: failures.Failure | None = None
    ) -> Json:
        """The job is over; its last placement stays readable."""
        status = self._ended(outcome, reason, failure)
        status["phase"] = phase.value
        status["completionTime"] = views.format_time(self.now_seconds)
        status.pop("retryAfter", None)
        return status

    def failed(self, failure: failures.Failure) -> Transition:
        """The job is over, without success."""
        status = self.finished(api.Phase.FAILED, api.Outcome.FAILED, failure.cause.value, failure)
        attempt = self.job.status["placement"]["attempt"]
        status["lastFailure"] = failure.to_status(attempt=attempt, now_seconds=self.now_seconds)
        return Transition(status, ("Failed", failure.message), is_warning=True, failure=failure)

    def migrated(self, failure: failures.Failure) -> Transition:
        """The gang stops, with the time to save, and starts again elsewhere; no budget pays for it."""
        new = self.released(api.Outcome.MIGRATED, failure.cause.value, failure)
        attempt = self.job.status["placement"]["attempt"]
        new["phase"] = api.Phase.RESTARTING.value
        new["lastFailure"] = failure.to_status(attempt=attempt, now_seconds=self.now_seconds)
        new.pop("retryAfter", None)
        text = f"Attempt {attempt} stops and may save first: {failure.message}. The gang starts again elsewhere."
        return Transition(new, ("Migrating", text), is_warning=True, failure=failure)

    def restarted_or_failed(
        self, failure: failures.Failure, spec: api.TrainingJobSpec, *, max_infrastructure_restarts: int
    ) -> Transition:
        """The next attempt, unless a rule forbids it or the budget that pays for this failure is spent."""
        status, policy = self.job.status, spec.failure_policy
        rule, rule_name = rules.first_match(
            policy.rules, reason=failure.cause.value, exit_code=failure.exit_code, signal=failure.signal
        ) or (None, "")
        action = rule.action if rule else api.FailureAction.RESTART
        if action is api.FailureAction.FAIL_JOB:
            return self.failed(dataclasses.replace(failure, message=f"{failure.message}; {rule_name} says FailJob"))
        if failure.is_planned:
            return self.migrated(failure)
        charged = failure.cause.is_charged and action is not api.FailureAction.IGNORE
        counter = "restarts" if charged else "infrastructureRestarts"
        used = int(status.get(counter, 0))
        allowed = policy.max_restarts if charged else max_infrastructure_restarts
        if used >= allowed and failure.cause not in failures.UNLIMITED:
            which = "spec.failurePolicy.maxRestarts" if charged else "the setting recovery.maxInfrastructureRestarts"
            why = f"{failure.message}; all {allowed} restarts of {which} are used"
            return self.failed(dataclasses.replace(failure, message=why))
        new = self.released(api.Outcome.FAILED, failure.cause.value, failure)
        attempt = status["placement"]["attempt"]
        new["phase"] = api.Phase.RESTARTING.value
        new[counter] = used + 1
        new["lastFailure"] = failure.to_status(attempt=attempt, now_seconds=self.now_seconds)
        if action is api.FailureAction.RESTART_ELSEWHERE:
            new["lastFailure"]["avoidNode"] = True
        delay = retries.backoff_seconds(new["history"])
        if failure.cause is failures.Cause.NOT_CREATED:
            delay = max(
                delay, retries.FIRST_BACKOFF_SECONDS
            )  # or it would take its accelerators back before others see them
        new.pop("retryAfter", None)
        if delay:
            new["retryAfter"] = views.format_time(self.now_seconds + delay)
        budget = f"restart {used + 1} of {allowed}" if charged else "not charged to maxRestarts"
        by = f", as {rule_name} says {action.value}" if rule else ""
        later = f", after {delay} s" if delay else ""
        text = f"Attempt {attempt} ended: {failure.message}. The gang starts again ({budget}{by}){later}."
        return Transition(new, ("GangRestart", text), is_warning=True, failure=failure)


def _kept(history: Sequence[Json], *, now_seconds: float) -> list[Json]:
    """The latest attempts, and those before them that still count for what an hour may see."""
    latest, before = history[-HISTORY_LENGTH:], history[:-HISTORY_LENGTH]
    counted = [
        entry
        for entry in before
        if entry["outcome"] in _COUNTED_STOPS and now_seconds - views.parse_time(entry["endTime"]) < _COUNTED_SECONDS
    ]
    return [*counted, *latest][-_LONGEST_HISTORY:]


def is_plannable(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    pods: Sequence[views.PodView],
    *,
    lost_nodes: Collection[str],
    now_seconds: float,
) -> bool:
    """Whether the job may get a place: it wants one, has none, and no older pod can still hold an accelerator."""
    if job.deleting or spec.suspend or job.status.get("placement") is not None:
        return False
    if api.phase_of(job.status).is_terminal or views.parse_time(job.status.get("retryAfter")) > now_seconds:
        return False
    return not any(pod.owner_uid == job.uid and not pod.is_terminal and pod.node not in lost_nodes for pod in pods)


def pods_to_delete(
    job: views.JobView, spec: api.TrainingJobSpec, pods: Sequence[views.PodView]
) -> list[tuple[views.PodView, int]]:
    """Pods that the status no longer asks for, each with the grace (seconds) that it gets.

    After a fault the survivors hang in collectives and get 2 s; a planned stop of their attempt gives them time to
    save. Pods that ended stay readable for the last two attempts.
    """
    placement = job.status.get("placement") or {}
    phase = api.phase_of(job.status)
    keep = placement.get("attempt") if not phase.is_terminal else None
    last = int(job.status.get("attempt", 0))
    history = job.status.get("history") or ()
    planned = {entry["attempt"] for entry in history if entry["outcome"] in api.PLANNED_STOPS}
    doomed = []
    for pod in pods:
        if pod.owner_uid != job.uid or pod.attempt == keep or pod.deleting_since:
            continue
        if not pod.is_terminal or pod.attempt <= last - KEPT_ATTEMPTS:
            grace = spec.grace_period_seconds if pod.attempt in planned else FAULT_GRACE_SECONDS
            doomed.append((pod, grace))
    return doomed


def expires_at(job: views.JobView, spec: api.TrainingJobSpec | None) -> float:
    """When a finished job is deleted (Unix seconds); 0 for never."""
    if spec is None or spec.ttl_seconds_after_finished is None or not api.phase_of(job.status).is_terminal:
        return 0.0
    return views.parse_time(job.status.get("completionTime")) + spec.ttl_seconds_after_finished


def deadlines(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    pods: Sequence[views.PodView],
    *,
    queue_limit: queueing.RunLimit | None = None,
) -> list[float]:
    """Times (Unix seconds) at which the clock alone, without any watch event, changes what is to be done."""
    status = job.status
    times = [expires_at(job, spec), views.parse_time(status.get("retryAfter"))]
    failure = status.get("lastFailure") or {}
    if failure.get("time") and status.get("placement") is None:
        times.append(retries.avoided_until(failure))
    placement = status.get("placement")
    if placement is not None and not api.phase_of(status).is_terminal:
        times.extend(steps.deadlines(status, spec))
        times.append(failures.judged_at(current_pods(job, pods)))
        if not placement.get("startedAt"):
            planned = views.parse_time(placement.get("plannedAt"))
            times.extend((planned + spec.startup_timeout_seconds, planned + failures.CREATE_TIMEOUT_SECONDS))
            times.extend(failures.patience_ends(current_pods(job, pods).values()))
            times.extend(
                pod.created_at + failures.BIND_TIMEOUT_SECONDS
                for pod in current_pods(job, pods).values()
                if not pod.node and pod.created_at
            )
    limit = queueing.shorter(spec.active_deadline_seconds, queue_limit)
    if limit is not None and status.get("startTime") and not api.phase_of(status).is_terminal:
        times.append(views.parse_time(status["startTime"]) + limit.seconds)
    return [at for at in times if at]
