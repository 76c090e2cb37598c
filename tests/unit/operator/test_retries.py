"""When a job may start again, and which nodes it stays away from."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import NOW, JobBuilder, a_job, an_attempt, time_text
from stowplan_operator import lifecycle, retries
from stowplan_operator.failures import Cause

LONG = {"seconds": 3600.0, "gpu_seconds": 28800}
BACK_OFFS: dict[str, tuple[list[dict[str, Any]], int]] = {
    "the first failure": ([an_attempt()], 0),
    "the second quick failure": ([an_attempt(1), an_attempt(2)], 5),
    "the third": ([an_attempt(1), an_attempt(2), an_attempt(3)], 10),
    "the fifth": ([an_attempt(number) for number in range(5)], 40),
    "a long run between forgives what was before it": (
        [an_attempt(1), an_attempt(2), an_attempt(3, **LONG), an_attempt(4)],
        0,
    ),
    "a failure after a long run": ([an_attempt(1), an_attempt(2, **LONG)], 0),
    "a long wait for the start is no long run": (
        [an_attempt(number, seconds=1800, gpu_seconds=0, reason="StartupTimeout") for number in (1, 2)],
        5,
    ),
    "a long run without accelerators is a long run": (
        [an_attempt(number, seconds=1800, gpu_seconds=0) for number in (1, 2)],
        0,
    ),
    "a suspension forgives": ([an_attempt(1), an_attempt(2), an_attempt(3, outcome="Suspended"), an_attempt(4)], 0),
    "no wait is longer than the limit": ([an_attempt(number) for number in range(40)], retries.MAX_BACKOFF_SECONDS),
}


@pytest.mark.parametrize(("history", "want"), BACK_OFFS.values(), ids=BACK_OFFS)
def test_backoff_seconds(history: list[dict[str, Any]], want: int) -> None:
    assert retries.backoff_seconds(history) == want


def after(cause: Cause, *, node: str = "n1", rule: bool = False, **policy: bool) -> JobBuilder:
    failure = {"reason": cause.value, "node": node, "time": time_text(NOW), **({"avoidNode": True} if rule else {})}
    return a_job("a").status(lastFailure=failure).spec(failurePolicy=policy)


AVOIDED: dict[str, tuple[JobBuilder, float, set[str]]] = {
    "a job that never failed": (a_job("a"), 0, set()),
    "a node that was lost": (after(Cause.NODE_LOST), 0, {"n1"}),
    "a node whose kubelet refused the pod": (after(Cause.REFUSED_BY_KUBELET), 0, {"n1"}),
    "a node on which nothing started": (after(Cause.STARTUP_TIMEOUT), 0, {"n1"}),
    "a node is not to blame for the user's code": (after(Cause.CONTAINER_FAILED), 0, set()),
    "nor for a pod that somebody deleted": (after(Cause.POD_DELETED), 0, set()),
    "it is avoided for a while": (after(Cause.NODE_LOST), retries.AVOID_SECONDS - 1, {"n1"}),
    "and then no longer": (after(Cause.NODE_LOST), retries.AVOID_SECONDS, set()),
    "a node that is only suspected for a shorter while": (
        after(Cause.PEER_LOST),
        retries.SUSPECT_SECONDS - 1,
        {"n1"},
    ),
    "and not by a job that found no other place": (
        after(Cause.PEER_LOST).status(decision={"reason": "NodesUnhealthy"}),
        1,
        set(),
    ),
    "by which it would be NotReady": (after(Cause.PEER_LOST), retries.SUSPECT_SECONDS, set()),
    "the user may do without": (after(Cause.NODE_LOST, avoidFailedNodes=False), 0, set()),
    "a node that a rule keeps the job away from, whatever else the user wants": (
        after(Cause.OUT_OF_MEMORY, rule=True, avoidFailedNodes=False),
        0,
        {"n1"},
    ),
    "a failure that names no node": (after(Cause.STARTUP_TIMEOUT, node=""), 0, set()),
}


@pytest.mark.parametrize(("job", "later", "want"), AVOIDED.values(), ids=AVOIDED)
def test_avoided_nodes(job: JobBuilder, later: float, want: set[str]) -> None:
    assert retries.avoided_nodes(job.view().status, job.parsed(), now_seconds=NOW + later) == want


def test_the_end_of_avoidance_is_announced() -> None:
    job = after(Cause.NODE_LOST)
    assert lifecycle.deadlines(job.view(), job.parsed(), []) == [NOW + retries.AVOID_SECONDS]
