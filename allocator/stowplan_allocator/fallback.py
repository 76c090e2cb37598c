"""A plan of starts alone where the whole plan fails: one error must not end all planning.

A plan that breaks a rule is never applied, and the same snapshot would bring the same error each time. So what is
decided on top of starts (moves, evictions, sizes, the order of those who return) is left out once, and what remains
is planned by greed and verified as always. What must stay true: such a plan says what happened, and is logged; who
cannot start yet is answered; where that fails too, as for a snapshot that contradicts itself, the first error goes on.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from stowplan_allocator import types
from stowplan_allocator.memory import Memory
from stowplan_allocator.planner import plan

_LOG = logging.getLogger(__name__)
_LEAVES = types.Waiting(
    types.Reason.WAITING_FOR_PREEMPTION, "was stopped to start again; waits until its own pods are gone"
)


def plan_anyway(snapshot: types.Snapshot, settings: types.Settings, *, error: Exception) -> types.Plan:
    """Starts alone. Raises the ``error`` of the whole plan if there is none of these either."""
    leaves = {job.id for job in snapshot.jobs if job.placement is None and job.leaving}
    jobs = tuple(replace(job, returning=False) for job in snapshot.jobs if job.id not in leaves)
    plain = replace(settings, strategy=types.Strategy.GREEDY, preemption=types.Preemption.NEVER, resize=False)
    try:
        made = plan(replace(snapshot, jobs=jobs, move_budget=0), plain, memory=Memory())
    except Exception:
        raise error from None
    what = f"{type(error).__name__}: {error}"
    _LOG.error("the plan failed, and starts alone were planned: %s", what, exc_info=error)
    certificate = replace(made.certificate, note=f"starts alone, by greed, for the whole plan failed: {what}")
    return replace(made, waiting={**made.waiting, **dict.fromkeys(leaves, _LEAVES)}, certificate=certificate)
