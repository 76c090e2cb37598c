"""Where each waiting job stands in its line, and who is before it: without queues one line, else one for each queue.

A line is the order in which the jobs of one queue are served. What must stay true: it is the order that ``plan`` keeps;
jobs that can never be planned stand in nobody's way. Whose turn it is between queues depends on who
has started (``fairness``), so that no number says it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stowplan_allocator import compiling, types
from stowplan_allocator import problem as problems

MAX_NAMES = 10


@dataclass(frozen=True, slots=True)
class Standing:
    """The place in the line of ``queue``, 1 for the first; ``ahead`` names the jobs before it, the next one first."""

    position: int
    queue: str = ""
    ahead: tuple[str, ...] = ()


def standings(snapshot: types.Snapshot, *, order: types.QueueOrder = types.QueueOrder.AGE) -> dict[str, Standing]:
    """Every waiting job's, by id, in the order of all lines taken together. At most ``MAX_NAMES`` are named."""
    problem = compiling.compile_problem(snapshot, order=order)
    plannable = {job.id for job in problem.queue}
    waiting = [job for job in snapshot.jobs if job.placement is None]
    waiting.sort(key=lambda job: problems.queue_key(job, order=order))
    lines: dict[str, list[str]] = {}
    found = {}
    for job in waiting:
        queue = job.queue if snapshot.queues else ""
        line = lines.setdefault(queue, [])
        found[job.id] = Standing(len(line) + 1, queue, tuple(reversed(line[-MAX_NAMES:])))
        if job.id in plannable:
            line.append(job.name)
    return found
