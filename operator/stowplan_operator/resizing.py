"""Which running elastic jobs may be restarted at another size now, and what that loses. Pure.

The allocator decides who is resized: it weighs what a size gets done (``throughput``) against this loss. A resize is a
planned stop: the pods save first, so what is lost is the restart. What must stay true: a job that is not known to save
checkpoints is never resized; an attempt that has made no step yet is left alone, so that each of them gets something
done; nobody grows into room that a gang between two attempts is about to take back; and nothing here moves with the
clock from one cycle to the next, or every cycle would be a new plan.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from stowplan_allocator import types
from stowplan_operator import api, estimates, preemption, steps, throughput, views
from stowplan_operator.settings import ElasticSettings

_HOUR_SECONDS = 3600
# A job that has had the time to leave goes before all others for so long; then it waits like any other.
RETURN_SECONDS = 600
# When a job ends matters only within the horizon, and in quarters of an hour.
_END_GRAIN_SECONDS = 900


def resizable(
    request: types.Job,
    job: views.JobView,
    spec: api.TrainingJobSpec,
    *,
    settings: ElasticSettings,
    expected: estimates.Estimate | None,
    avoided: Collection[str],
    now_seconds: float,
) -> types.Job:
    """The running job with what a restart at another size would lose, where it may be restarted so.

    ``expected`` is what is known of its end; ``avoided`` are nodes on which it is not to grow.
    """
    assert request.placement is not None
    cost = _cost(request, job, spec, settings=settings, now_seconds=now_seconds)
    if cost is None:
        return request
    standing = {share.node for share in request.placement.shares}
    left = None if expected is None else expected.seconds
    if left is not None:
        end = math.ceil((now_seconds + left) / _END_GRAIN_SECONDS) * _END_GRAIN_SECONDS
        left = end - int(now_seconds) if left < settings.horizon_seconds else None
    return dataclasses.replace(
        request, resize_cost=cost, avoided_nodes=frozenset(avoided) - standing, expected_seconds=left
    )


def _cost(
    request: types.Job,
    job: views.JobView,
    spec: api.TrainingJobSpec,
    *,
    settings: ElasticSettings,
    now_seconds: float,
) -> int | None:
    """Accelerator-seconds that a restart loses; None where the job must not be resized now."""
    assert request.placement is not None
    started = views.parse_time(job.status["placement"].get("startedAt"))
    told = steps.told(job.status)
    if (
        not settings.resize
        or not request.allowed_num_pods
        or job.deleting
        or spec.suspend
        or not started
        or now_seconds - started < spec.preemption.min_runtime_seconds
        or not (job.status.get("progress") or {}).get("checkpointTime")
        or told.get("step", 0) <= told.get("firstStep", 0)
        or recent_resizes(job.status, now_seconds=now_seconds) >= settings.max_per_hour
    ):
        return None
    return preemption.restart_seconds(job.status) * max(1, request.placement.num_pods * request.pod.accelerators)


def recent_resizes(status: Mapping[str, Any], *, now_seconds: float) -> int:
    """How often the job was resized within the last hour."""
    return sum(
        entry["outcome"] == api.Outcome.RESIZED and now_seconds - views.parse_time(entry["endTime"]) < _HOUR_SECONDS
        for entry in status.get("history") or ()
    )


def is_returning(status: Mapping[str, Any], spec: api.TrainingJobSpec, *, now_seconds: float) -> bool:
    """Whether the job has left its place only to start again at another size or place: its room is kept meanwhile."""
    history = status.get("history") or ()
    if not history or status.get("placement") is not None or history[-1]["outcome"] not in api.RETURNING_STOPS:
        return False
    left_at = views.parse_time(history[-1]["endTime"]) + spec.grace_period_seconds
    return now_seconds - left_at < RETURN_SECONDS


def wants_more(request: types.Job) -> bool:
    """Whether the running job may be resized, and is allowed a larger size."""
    assert request.placement is not None
    return request.resize_cost is not None and request.placement.num_pods < max(request.allowed_num_pods)


def is_room_for_one(growing: Iterable[types.Job], nodes: Iterable[types.Node]) -> bool:
    """Whether some node has room for one pod more of one of the jobs: else nobody needs to be asked who grows."""
    pods = {request.pod for request in growing}
    return any(not node.blocked and any(pod.fits_in(node.available) for pod in pods) for node in nodes)


def without_growth(request: types.Job, job: views.JobView) -> types.Job:
    """The resizable job with the sizes up to that it has; its own is then the one that it prefers, if it must be."""
    assert request.placement is not None
    size = request.placement.num_pods
    if not wants_more(request):
        return request
    sizes = tuple(one for one in request.allowed_num_pods if one <= size)
    preferred = min(request.num_pods, size)
    goodput = throughput.goodput_milli(job, sizes, preferred=preferred)
    return dataclasses.replace(request, num_pods=preferred, allowed_num_pods=sizes, goodput_milli=goodput)
