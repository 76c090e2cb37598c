"""Why each waiting job waits (first form)."""

from __future__ import annotations

from stowplan_allocator import problem as problems
from stowplan_allocator import types
from stowplan_allocator.strategies import Outcome


def explain(
    snapshot: types.Snapshot, *, problem: problems.Problem, outcome: Outcome, settings: types.Settings
) -> dict[str, types.Waiting]:
    """A reason for every job that the outcome does not place."""
    waiting = {
        job_id: types.Waiting(types.Reason.MISCONFIGURED, message) for job_id, message in problem.misconfigured.items()
    }
    for job in problem.queue:
        if job.id not in outcome.spots:
            waiting[job.id] = types.Waiting(
                types.Reason.WAITING_FOR_CAPACITY,
                f"needs {job.num_pods} pods x {job.pod.accelerators} accelerators; not enough is free",
                (("accelerators_needed", str(job.num_pods * job.pod.accelerators)),),
            )
    return waiting
