"""Whose place a waiting job may take, and whose surplus."""

from __future__ import annotations

from stowplan_allocator import goodput, types
from stowplan_allocator import problem as problems
from stowplan_allocator.reclaiming import Claim


def may_evict(victim: types.Job, *, job: types.Job, settings: types.Settings, claim: Claim | None = None) -> bool:
    """Whether the settings let ``job`` take the place of the running ``victim``; with queues, whether these do."""
    if victim.disruption_cost is None or victim.leaving or not job.preempts:
        return False
    if settings.preemption is types.Preemption.NEVER:
        return False
    is_equal = problems.has_had_more(victim, job, order=settings.order)
    if claim is not None:
        return claim.is_open_to(victim) or (is_equal and claim.is_open_to_equal(victim, settings=settings))
    if settings.preemption is types.Preemption.LEAST_ATTAINED:
        return victim.priority < job.priority or is_equal
    if settings.preemption is types.Preemption.LOWER_PRIORITY:
        return victim.priority < job.priority
    order = settings.order
    return problems.standing_key(victim, order=order) > problems.queue_key(job, order=order)


def surplus(
    victim: types.Job, *, job: types.Job, settings: types.Settings, claim: Claim | None = None
) -> tuple[int, ...]:
    """The smaller sizes that ``job`` may ask the running ``victim`` to come back with, ascending.

    Any that is allowed, where the victim's priority is not higher; otherwise it keeps its preferred size. With queues,
    these say who may be asked at all, and priorities count only within one.
    """
    if not settings.resize or victim.resize_cost is None or victim.leaving or not job.preempts:
        return ()
    if victim.placement is None or (claim is not None and not claim.is_open_to_shrink(victim)):
        return ()
    least = 0
    if victim.priority > job.priority and (claim is None or claim.is_same_queue(victim)):
        least = victim.num_pods
    return tuple(size for size in goodput.useful(victim) if least <= size < victim.placement.num_pods)
