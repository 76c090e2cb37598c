"""What a Queue's status says: how it stands with all below it, and whether it is planned with. Pure.

What must stay true: nothing is written that a user cannot see; a new spec or another condition is said at once, numbers
at most every ten seconds, whatever comes and goes in a busy cluster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from stowplan_allocator import standings, types
from stowplan_operator import api, queueing, status, views, wording
from stowplan_operator.states import JobState

Json = dict[str, Any]

NUMBERS_SECONDS = 10
_NAMED = 4


def stand(
    states: Iterable[JobState], plan: types.Plan, queues: queueing.Queues, *, capacity: Mapping[str, int]
) -> dict[str, standings.Standing]:
    """How the queues stand at the end of a cycle, with the places that it gave and took; by name.

    One that is not planned with stands by itself, with the jobs that ran there or would wait there.
    """
    jobs = [job for state in states if (job := _as_left(state, plan)) is not None]
    alone = {queue.name for queue in queues.unplanned}
    planned = standings.standings(queues.planned, (job for job in jobs if job.queue not in alone), capacity=capacity)
    others = (job for job in jobs if job.queue in alone)
    return standings.standings(queues.unplanned, others, capacity=capacity) | planned


def _as_left(state: JobState, plan: types.Plan) -> types.Job | None:
    """The job where it counts; None where it neither has a place nor waits for one."""
    request = state.request or state.barred
    if request is None or state.spec is None or state.is_over or state.job.deleting:
        return None
    if state.is_adrift:
        request = dataclasses.replace(request, queue=state.queue)
    has_place = state.job.status.get("placement") is not None
    if not has_place:
        return None if state.spec.suspend else _placed(request, None)
    return _placed(request, plan.placements.get(state.job.uid) or request.placement)


def _placed(job: types.Job, placement: types.Placement | None) -> types.Job:
    return types.Job(
        job.id, job.name, job.num_pods, job.pod, products=job.products, placement=placement, queue=job.queue
    )


def derive(
    view: queueing.QueueView,
    queues: queueing.Queues,
    standing: standings.Standing,
    *,
    classes: Collection[str],
    now_seconds: float,
) -> tuple[Json, bool]:
    """The status of a queue, and whether newer numbers are held back.

    ``classes`` are the names of all PriorityClasses.
    """
    old = view.status
    conditions = status.merge_conditions(
        old.get("conditions") or (),
        [(api.QueueCondition.ACTIVE, *_active(queues.doors[view.name], classes))],
        generation=view.generation,
        now_seconds=now_seconds,
    )
    new = {"observedGeneration": view.generation, "conditions": conditions, **_numbers(standing)}
    if new == {key: value for key, value in old.items() if key != "lastUpdated"}:
        return dict(old), False
    same = ("observedGeneration", "conditions")
    if all(new[key] == old.get(key) for key in same) and now_seconds < due_at(view):
        return dict(old), True
    return {**new, "lastUpdated": views.format_time(now_seconds)}, False


def due_at(view: queueing.QueueView) -> float:
    """From when on (Unix seconds) its numbers may be written again."""
    return views.parse_time(view.status.get("lastUpdated")) + NUMBERS_SECONDS


def _active(door: queueing.Door, classes: Collection[str]) -> tuple[bool, str, str]:
    if door.fault:
        return False, "Misconfigured", f"{door.fault}. Its jobs wait; those that run keep their places"
    if door.shared:
        return True, "NamespaceShared", _shared(door)
    if door.default_priority_class and door.default_priority_class not in classes:
        text = f"spec.defaultPriorityClassName: there is no PriorityClass {door.default_priority_class!r}"
        return True, "PriorityClassMissing", f"{text}; jobs that name none themselves wait"
    return True, "Planned", "its jobs are planned"


def _shared(door: queueing.Door) -> str:
    namespace, others = door.shared[0]
    names = wording.some([f'"{other}"' for other in others], most=_NAMED)
    them = f"{'queue' if len(others) == 1 else 'queues'} {names}"
    if namespace == queueing.ALL_NAMESPACES:
        admit = "admits" if len(others) == 1 else "admit"
        return (
            f"spec.namespaces: {them} {admit} every namespace, too: jobs of namespaces that no queue names wait as "
            'Misconfigured where they name no queue. Keep "*" in one of the queues, or set spec.queue of those jobs'
        )
    more, which, each = "", "it", "the"
    if len(door.shared) > 1:
        more, which, each = f", and {len(door.shared) - 1} more of its namespaces may use others", "them", "each"
    return (
        f'spec.namespaces: namespace "{namespace}" may use {them}, too{more}: jobs of {which} that name no queue '
        f"wait as Misconfigured. Keep {each} namespace in one of the queues, or set spec.queue of its jobs"
    )


def _numbers(standing: standings.Standing) -> Json:
    lines = standing.lines
    owned = sum(line.owned for line in lines)
    return {
        "runningJobs": standing.running,
        "pendingJobs": standing.waiting,
        "gpus": f"{sum(line.used for line in lines)}/{owned}",
        "pendingGpus": str(standing.pending),
        "borrowed": str(sum(line.borrowed for line in lines)),
        "lent": str(sum(line.lent for line in lines)),
        "products": [_product(line) for line in lines],
        "fairShare": {"share": _percent(standing.share), "ideal": _percent(standing.ideal)},
    }


def _product(line: standings.Line) -> Json:
    return {
        "product": line.product,
        "nominal": line.nominal or 0,
        "owned": line.owned,
        "used": line.used,
        "pending": line.pending,
        "borrowed": line.borrowed,
        "lent": line.lent,
    }


def _percent(part: float) -> str:
    return f"{100 * part:.0f}%"
