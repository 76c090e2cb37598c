"""Whose place a waiting job may take."""

from __future__ import annotations

from stowplan_allocator import problem as problems
from stowplan_allocator import types
from stowplan_allocator.reclaiming import Claim


def may_evict(victim: types.Job, *, job: types.Job, settings: types.Settings, claim: Claim | None = None) -> bool:
    """Whether the settings let ``job`` take the place of the running ``victim``; with queues, whether these do."""
    if victim.disruption_cost is None or victim.leaving or not job.preempts:
        return False
    if claim is not None:
        return settings.preemption is not types.Preemption.NEVER and claim.is_open_to(victim)
    if settings.preemption is types.Preemption.LOWER_PRIORITY:
        return victim.priority < job.priority
    if settings.preemption is types.Preemption.QUEUE_ORDER:
        order = settings.order
        return problems.standing_key(victim, order=order) > problems.queue_key(job, order=order)
    return False
