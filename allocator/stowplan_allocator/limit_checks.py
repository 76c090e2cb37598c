"""What Kubernetes imposes, verified on the finished plan against the snapshot alone: a part of ``checks``.

Shares no code with ``namespaces`` and ``budgets``. What must stay true: no ResourceQuota is used beyond its limit by
what the plan starts beside what runs, nor by both beside a reserved job when that is to start; no PodDisruptionBudget
loses more pods than it allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from stowplan_allocator import types

Standing = list[tuple[types.Job, int]]


def find_breaches(placements: Mapping[str, types.Placement], *, snapshot: types.Snapshot) -> Iterator[str]:
    """Every limit of a namespace that these placements exceed beside what runs."""
    jobs = {job.id: job for job in snapshot.jobs}
    running = [(job, job.placement.num_pods) for job in snapshot.jobs if job.placement is not None]
    started = [(jobs[job_id], placed.num_pods) for job_id, placed in placements.items() if job_id in jobs]
    for limit in snapshot.namespace_limits:
        there = f'ResourceQuota "{limit.name}" of namespace "{limit.namespace}"'
        for breach in _exceeded(limit, running=running, started=started):
            yield f"{there}: {breach}"
        for one in snapshot.reservations:
            if one.job_id in jobs and jobs[one.job_id].placement is None:
                asks = jobs[one.job_id].make_room > 0
                coming = [(job, pods) for job, pods in started if not (asks and job.returning)]
                stay = [
                    [(job, pods) for job, pods in some if is_beside(one, job=job, snapshot=snapshot)]
                    for some in (running, coming)
                ]
                then = [*stay[0], (jobs[one.job_id], one.placement.num_pods)]
                for breach in _exceeded(limit, running=then, started=stay[1]):
                    yield f"{there} when {one.job_id} is to start: {breach}"


def find_disruptions(plan: types.Plan, *, snapshot: types.Snapshot) -> Iterator[str]:
    """Every PodDisruptionBudget of which the plan stops more pods than may be."""
    stopped = {one.job_id for some in (plan.evictions, plan.moves, plan.resizes) for one in some}
    for budget in snapshot.disruption_budgets:
        pods = sum(number for job_id, number in budget.pods if job_id in stopped)
        if pods > max(budget.allowed, 0):
            yield f'PodDisruptionBudget "{budget.name}": {pods} pods are stopped where {budget.allowed} may be'


def is_beside(one: types.Reservation, *, job: types.Job, snapshot: types.Snapshot) -> bool:
    """Whether another job that runs now may still do so when the reservation starts."""
    if job.id == one.job_id:
        return False
    return job.expected_seconds is None or snapshot.now_seconds + job.expected_seconds > one.starts_at_seconds


def _exceeded(limit: types.NamespaceLimit, *, running: Standing, started: Standing) -> Iterator[str]:
    new, old = _taken(limit, started), _taken(limit, running)
    if new and new + old + limit.used_by_others > limit.hard:
        yield f"{new} {limit.resource} given beside {old + limit.used_by_others} in use where {limit.hard} may be"


def _taken(limit: types.NamespaceLimit, standing: Iterable[tuple[types.Job, int]]) -> int:
    total = 0
    for job, pods in standing:
        if not job.name.startswith(f"{limit.namespace}/"):
            continue
        is_best_effort = all(name not in ("cpu_milli", "memory_mib") for name, _ in job.pod.items())
        if limit.best_effort in (True, False) and limit.best_effort != is_best_effort:
            continue
        if limit.counts == "pods":
            each = 1
        else:
            each = sum(amount for name, amount in job.pod.items() if name == limit.counts) or limit.default
        total += pods * each
    return total
