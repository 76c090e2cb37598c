"""Who may have running jobs moved elsewhere so that it fits, and how much work that may lose. Pure.

Moves disturb other people's jobs, so an administrator decides about them: by the settings, and by the right to the
verb ``make-room``, without which the admission policy refuses the annotation. What must stay true: all moves of any
hour lose at most ``budget_gpu_seconds_per_hour``, over restarts of the operator, too, since what was spent stands in
the histories of the jobs that moved; what is asked changes with the clock only at few moments, or every cycle would
be a new plan.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from stowplan_allocator import types
from stowplan_operator import api, views
from stowplan_operator.settings import DefragmentationSettings

# As the admission policy has it, which a cluster may have switched off.
_WHOLE_NUMBER = re.compile("[0-9]{1,9}")
_HOUR_SECONDS = 3600
# With WhenWaiting, reasons that moves can end. The last one is a job's while others move for it: an interrupted round
# goes on.
_SCATTERED = frozenset(
    {types.Reason.FRAGMENTED, types.Reason.TOPOLOGY_UNSATISFIED, types.Reason.WAITING_FOR_PREEMPTION}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What moves may lose in GPU-seconds: all of them together, and those for each job that asks, by UID."""

    budget: int = 0
    by_job: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def told(self, waiting: Iterable[types.Job]) -> list[types.Job]:
        """The waiting jobs with what moves may lose for them."""
        return [
            dataclasses.replace(request, make_room=self.by_job[request.id]) if request.id in self.by_job else request
            for request in waiting
        ]


def asked(
    jobs: Iterable[views.JobView],
    waiting: Iterable[str],
    *,
    settings: DefragmentationSettings,
    now_seconds: float,
) -> Asked:
    """Who of the ``waiting``, by UID, asks now; nobody where nothing of the hour's budget is left."""
    if settings.policy == "Never":
        return Asked()
    wanted = set(waiting)
    views_of = list(jobs)
    limits = {
        job.uid: limit
        for job in views_of
        if job.uid in wanted and (limit := _limit(job, settings=settings, now_seconds=now_seconds))
    }
    if not limits:
        return Asked()
    left = budget_left(views_of, settings=settings, now_seconds=now_seconds)
    return Asked(left, {uid: min(limit, left) for uid, limit in limits.items()}) if left else Asked()


def budget_left(jobs: Iterable[views.JobView], *, settings: DefragmentationSettings, now_seconds: float) -> int:
    """GPU-seconds that moves may still lose within this hour."""
    return max(0, settings.budget_gpu_seconds_per_hour - spent(jobs, now_seconds=now_seconds))


def spent(jobs: Iterable[views.JobView], *, now_seconds: float) -> int:
    """GPU-seconds that moves have lost within the last hour, as the histories of the jobs say."""
    return sum(
        int(entry.get("gpuSecondsLost", 0))
        for job in jobs
        for entry in job.status.get("history") or ()
        if entry["outcome"] == api.Outcome.DEFRAGMENTED
        and now_seconds - views.parse_time(entry["endTime"]) < _HOUR_SECONDS
    )


def _limit(job: views.JobView, *, settings: DefragmentationSettings, now_seconds: float) -> int:
    """What moves for the job may lose, whatever is left of the budget; 0 where it does not ask."""
    if _WHOLE_NUMBER.fullmatch(job.make_room) and int(job.make_room):
        return int(job.make_room)
    return settings.budget_gpu_seconds_per_hour if now_seconds >= asks_from(job, settings=settings) else 0


def asks_from(job: views.JobView, *, settings: DefragmentationSettings) -> float:
    """From when (Unix seconds) on the waiting job asks for moves by waiting; infinity where it does not."""
    if settings.policy != "WhenWaiting" or (job.status.get("decision") or {}).get("reason") not in _SCATTERED:
        return math.inf
    history: Any = job.status.get("history") or ({},)
    return max(job.created_at, views.parse_time(history[-1].get("endTime"))) + settings.wait_seconds


def can_come_back(request: types.Job, spec: api.TrainingJobSpec, *, num_pods: int) -> bool:
    """Whether the running job would start again as it is: none of its ``num_pods`` has ended, its spec is understood.

    A level or a product that is no longer known is not in the request: it would be moved to where it may not stand.
    """
    assert request.placement is not None
    is_whole = request.placement.num_pods == num_pods
    return (
        is_whole
        and (spec.topology is None) == (request.topology is None)
        and (len(request.products) == len(spec.accelerators))
    )


def at_its_size(request: types.Job, status: Mapping[str, Any]) -> types.Job:
    """The returning job with as many pods as it had when it was moved: larger, it would take the room of who asked."""
    ended = status["history"][-1]
    if ended["outcome"] != api.Outcome.DEFRAGMENTED:
        return request
    if request.allowed_num_pods and ended["nodes"] in request.allowed_num_pods:
        return dataclasses.replace(request, num_pods=ended["nodes"], allowed_num_pods=(), goodput_milli=())
    # Its spec was changed meanwhile: it waits like any other job.
    is_same = bool(ended["nodes"] == request.num_pods)
    return dataclasses.replace(request, returning=is_same, leaving=is_same and request.leaving)
