"""Whether a job will have ended by its spec.deadline, and the cheapest thing that would help. Pure.

A deadline is a statement, never a limit: nothing is ended or started for it. What must stay true: nothing here moves
with the clock alone, so that a status is written only when a user can see something new; a job that is at risk is said
to be safe again only when its expected end has a margin before the deadline, so that the answer does not flap; a fix is
named only where it would make the deadline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from stowplan_allocator.relaxing import ChangeKind
from stowplan_operator import api, estimates, progress, views
from stowplan_operator.estimates import Estimate

# Of the time until the expected end, and at least so much, must lie between that and the deadline for a job to be safe
# again.
MARGIN = 0.05
_LEAST_MARGIN_SECONDS = 60
# Changes that start a job now and make it longer: nobody knows by how much.
_SLOWER = frozenset({ChangeKind.FEWER_PODS, ChangeKind.SMALLER_PODS, ChangeKind.OTHER_PRODUCT})
_MOVE = "move spec.deadline"


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """When a job shall have ended (Unix seconds), 0 for never mind; what it gets done at each size that it may have.

    ``goodput`` is (pods, against the preferred size in thousandths), the smallest size first; empty where it has one
    size only. ``restart_seconds`` is what another size costs a running job.
    """

    deadline: float = 0.0
    goodput: tuple[tuple[int, int], ...] = ()
    preferred_pods: int = 1
    restart_seconds: int = 0


NONE = Goal()


@dataclasses.dataclass(frozen=True, slots=True)
class Outlook:
    """``status.estimate``, and the condition DeadlineAtRisk; None where the job has no deadline that is still open."""

    estimate: dict[str, Any] | None
    verdict: tuple[api.Condition, bool | None, str, str] | None


def look(
    status: Mapping[str, Any],
    phase: api.Phase,
    goal: Goal,
    found: Estimate | None,
    *,
    num_pods: int,
    now_seconds: float,
) -> Outlook:
    """The outlook of a job whose ``status`` is derived as far as its decision; ``num_pods`` is the size it has."""
    if phase.is_terminal:
        return Outlook(None, _ended(status, phase, goal))
    is_placed = status.get("placement") is not None
    starts_at = now_seconds if is_placed else views.parse_time((status.get("decision") or {}).get("predictedStart"))
    ends_at = starts_at + found.seconds if found and starts_at else 0.0
    was_at_risk = is_at_risk(status)
    at_risk = _passes(ends_at, goal, was_at_risk=was_at_risk, now_seconds=now_seconds)
    said = estimates.to_status(
        found,
        status.get("estimate") or {},
        starts_at=starts_at or None,
        is_placed=is_placed,
        is_news=at_risk != was_at_risk,
        now_seconds=now_seconds,
    )
    if not goal.deadline:
        return Outlook(said, None)
    if now_seconds >= goal.deadline:
        return Outlook(said, _verdict(True, "DeadlinePassed", _passed(said, goal)))
    if found is None or said is None:
        return Outlook(said, _verdict(None, "RunTimeUnknown", _UNKNOWN))
    if "endTime" in said:
        reason = "EndsLate" if at_risk else "EndsInTime"
        text = _expected_text(said, found, goal)
        if at_risk:
            text += "; " + _fix(status, goal, said, is_placed=is_placed, num_pods=num_pods, now_seconds=now_seconds)
        return Outlook(said, _verdict(at_risk, reason, text))
    must_start = views.format_time(goal.deadline - said["runSeconds"])
    if _passes(now_seconds + said["runSeconds"], goal, was_at_risk=was_at_risk, now_seconds=now_seconds):
        text = f"it would have had to start by {must_start} to end by spec.deadline ({_time(goal)}, {found.basis}); "
        text += _larger(goal, said["runSeconds"], pods=goal.preferred_pods, now_seconds=now_seconds)
        return Outlook(said, _verdict(True, "EndsLate", text))
    text = f"it has to start by {must_start} to end by spec.deadline ({_time(goal)}, {found.basis})"
    why = "; it is suspended" if phase is api.Phase.SUSPENDED else "; no start can be predicted"
    return Outlook(said, _verdict(None, "StartUnknown", text + why))


def is_at_risk(status: Mapping[str, Any]) -> bool:
    """Whether the status says so."""
    return any(
        one["type"] == api.Condition.DEADLINE_AT_RISK and one["status"] == "True"
        for one in status.get("conditions") or ()
    )


def raised(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What to tell the user where the new status says for the first time that the deadline is at risk; else nothing."""
    if is_at_risk(old) or not is_at_risk(new):
        return ""
    said = next(one for one in new["conditions"] if one["type"] == api.Condition.DEADLINE_AT_RISK)
    return str(said["message"])


_UNKNOWN = (
    "nobody knows how long the job runs: it reports no steps, no job like it has succeeded, and "
    "spec.activeDeadlineSeconds is not set"
)


def _passes(ends_at: float, goal: Goal, *, was_at_risk: bool, now_seconds: float) -> bool:
    if not goal.deadline or not ends_at:
        return was_at_risk and bool(goal.deadline)
    margin = max(_LEAST_MARGIN_SECONDS, MARGIN * (ends_at - now_seconds)) if was_at_risk else 0.0
    return ends_at > goal.deadline - margin


def _verdict(at_risk: bool | None, reason: str, text: str) -> tuple[api.Condition, bool | None, str, str]:
    return api.Condition.DEADLINE_AT_RISK, at_risk, reason, text


def _ended(
    status: Mapping[str, Any], phase: api.Phase, goal: Goal
) -> tuple[api.Condition, bool | None, str, str] | None:
    """Of a job that succeeded; one that failed has not kept its deadline, and its failure says more."""
    if not goal.deadline or phase is not api.Phase.SUCCEEDED:
        return None
    ended_at = views.parse_time(status["completionTime"])
    late = ended_at > goal.deadline
    text = f"ended at {status['completionTime']}, {_apart(ended_at, goal)} spec.deadline ({_time(goal)})"
    return _verdict(late, "EndedLate" if late else "EndedInTime", text)


def _passed(said: Mapping[str, Any] | None, goal: Goal) -> str:
    text = f"spec.deadline ({_time(goal)}) has passed; the job goes on"
    if said is None or "endTime" not in said or views.parse_time(said["endTime"]) <= goal.deadline:
        return text
    return f"{text} and is expected to end at {said['endTime']}, {_apart(views.parse_time(said['endTime']), goal)} it"


def _expected_text(said: Mapping[str, Any], found: Estimate, goal: Goal) -> str:
    at_most = " at the latest" if found.is_bound else ""
    apart = _apart(views.parse_time(said["endTime"]), goal)
    return f"expected to end at {said['endTime']}{at_most} ({found.basis}), {apart} spec.deadline ({_time(goal)})"


def _fix(
    status: Mapping[str, Any],
    goal: Goal,
    said: Mapping[str, Any],
    *,
    is_placed: bool,
    num_pods: int,
    now_seconds: float,
) -> str:
    if is_placed:
        left = views.parse_time(said["endTime"]) - now_seconds
        return _larger(goal, left, pods=num_pods, now_seconds=now_seconds + goal.restart_seconds)
    if now_seconds + said["runSeconds"] > goal.deadline:
        return "started now it would end late as well; " + _larger(
            goal, said["runSeconds"], pods=goal.preferred_pods, now_seconds=now_seconds
        )
    must_start = views.format_time(goal.deadline - said["runSeconds"])
    changes = ((status.get("decision") or {}).get("alternatives")) or ()
    quick = next((one["message"] for one in changes if one["kind"] not in _SLOWER), "")
    if quick:
        return f"it has to start by {must_start}; what would start it now: {quick}"
    return f"it has to start by {must_start}; no change is known that would start it now without making it slower"


def _larger(goal: Goal, seconds: float, *, pods: int, now_seconds: float) -> str:
    """The smallest size with which what takes so many seconds at the size ``pods`` ends in time."""
    done = dict(goal.goodput)
    here = done.get(pods, 0)
    for number, milli in goal.goodput:
        if number > pods and milli > here > 0 and now_seconds + seconds * here / milli <= goal.deadline:
            return f"with {number} pods instead of {pods} it would end in time: raise spec.elastic.minNodes to {number}"
    if goal.goodput:
        return f"no size that spec.elastic allows ends in time: {_MOVE}, or have it make fewer steps"
    return f"nothing that Stowplan can do makes it faster: {_MOVE}, or have it make fewer steps"


def _apart(moment: float, goal: Goal) -> str:
    away = progress.eta_text(abs(moment - goal.deadline))
    return f"{away} {'after' if moment > goal.deadline else 'before'}"


def _time(goal: Goal) -> str:
    return views.format_time(goal.deadline)
