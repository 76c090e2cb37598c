"""After which pause a gang starts again, and from which node it keeps away. Pure.

What must stay true: both end by themselves, and are read from the status alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stowplan_operator import api, failures, views

AVOID_SECONDS = 300
# A node that is only suspected: if it is lost, it is NotReady by then.
SUSPECT_SECONDS = 60
FIRST_BACKOFF_SECONDS = 5
MAX_BACKOFF_SECONDS = 300
# An attempt that ran this long was no crash loop: the next one starts without delay.
_STEADY_SECONDS = 60


def backoff_seconds(history: Sequence[Mapping[str, Any]]) -> int:
    """Seconds before the next attempt: none after one failure, then 5 s doubling for each quick failure in a row."""
    quick = 0
    for entry in reversed(history):
        ran = views.parse_time(entry["endTime"]) - views.parse_time(entry["startTime"])
        if entry["outcome"] != api.Outcome.FAILED or (
            ran >= _STEADY_SECONDS and entry["reason"] not in failures.NEVER_STARTED
        ):
            break
        quick += 1
    return min(FIRST_BACKOFF_SECONDS * 2 ** (quick - 2), MAX_BACKOFF_SECONDS) if quick >= 2 else 0


def avoided_nodes(status: Mapping[str, Any], spec: api.TrainingJobSpec, *, now_seconds: float) -> frozenset[str]:
    """The node that the last attempt failed on, when it is to blame or a rule says so, while it is to be avoided.

    It ends by itself: on a small cluster the job would otherwise wait for ever for a node that it had. A node that is
    only suspected is avoided where there is another place at once: a job that was told to wait for one takes any.
    """
    return _avoided(status, with_failed=spec.failure_policy.avoid_failed_nodes, now_seconds=now_seconds)


def avoided_by_rule(status: Mapping[str, Any], *, now_seconds: float) -> frozenset[str]:
    """Of these the node that a rule keeps the job away from, whatever its ``avoidFailedNodes``."""
    return _avoided(status, with_failed=False, now_seconds=now_seconds)


def _avoided(status: Mapping[str, Any], *, with_failed: bool, now_seconds: float) -> frozenset[str]:
    failure = status.get("lastFailure") or {}
    is_to_blame = with_failed and failure.get("reason") in failures.NODES_FAULTS
    if not is_to_blame and not failure.get("avoidNode"):
        return frozenset()
    if now_seconds >= avoided_until(failure) or (_is_guess(failure) and status.get("decision")):
        return frozenset()
    return frozenset({failure["node"]}) if failure.get("node") else frozenset()


def _is_guess(failure: Mapping[str, Any]) -> bool:
    return failure.get("reason") == failures.Cause.PEER_LOST and not failure.get("avoidNode")


def avoided_until(failure: Mapping[str, Any]) -> float:
    """Until when (Unix seconds) the node of a failure is kept away from, if it is."""
    return views.parse_time(failure.get("time")) + (SUSPECT_SECONDS if _is_guess(failure) else AVOID_SECONDS)
