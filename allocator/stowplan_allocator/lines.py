"""Where each waiting job stands in its line: without queues one line, else one for each queue.

A line is the order in which the jobs of one queue are served. What must stay true: it is the order that ``plan`` keeps;
no two jobs of a line have one place; jobs that can never start as they are stand in nobody's way, and have none. Whose
turn it is between queues depends on who has started (``fairness``), so that no number says it.
"""

from __future__ import annotations

from stowplan_allocator import expanding, types
from stowplan_allocator import problem as problems


def positions(
    snapshot: types.Snapshot, *, plan: types.Plan, order: types.QueueOrder = types.QueueOrder.AGE
) -> dict[str, int]:
    """The place in the line of its queue of every job that the plan leaves waiting, by id, 1 for the first."""
    left = [
        job
        for job in snapshot.jobs
        if (why := plan.waiting.get(job.id)) is not None and why.reason not in expanding.HOPELESS
    ]
    left.sort(key=lambda job: (not job.returning, problems.queue_key(job, order=order)))
    lengths: dict[str, int] = {}
    found = {}
    for job in left:
        queue = job.queue if snapshot.queues else ""
        lengths[queue] = found[job.id] = lengths.get(queue, 0) + 1
    return found
