"""The rules of moves, verified on the finished plan as ``checks`` verifies all else, sharing no code with what decides.

What must stay true: whoever moves may be disturbed and moved, is told once, and keeps its size; nobody goes to a slower
product; what moves lose is within what the waiting job and the snapshot allow. Whether all of them fit once
they have moved is asked in ``checks``, together with evictions and held room.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from stowplan_allocator import types


def find_breaches(plan: types.Plan, *, snapshot: types.Snapshot) -> Iterator[str]:
    """Every breach in words."""
    jobs = {job.id: job for job in snapshot.jobs}
    gone = {job.id for job in snapshot.jobs if job.leaving} | {eviction.job_id for eviction in plan.evictions}
    spent: dict[str, int] = {}
    for move in plan.moves:
        mover, job = jobs.get(move.job_id), jobs.get(move.for_job)
        what = f"move of {move.job_id} for {move.for_job}"
        if mover is None or mover.placement is None:
            yield f"{what}: it does not run"
            continue
        if move.job_id in gone:
            yield f"{what}: it leaves already"
        gone.add(move.job_id)
        if mover.disruption_cost is None or mover.disruption_cost != move.cost:
            yield f"{what}: it costs {mover.disruption_cost}, not {move.cost}"
        if mover.stays:
            yield f"{what}: it is not to be moved"
        if move.placement.num_pods != mover.placement.num_pods:
            yield f"{what}: it has {mover.placement.num_pods} pods, and would have {move.placement.num_pods}"
        speed = {choice.product: choice.relative_throughput_milli for choice in mover.products}
        if speed.get(move.placement.product, 0) < speed.get(mover.placement.product, 0):
            yield f"{what}: {move.placement.product} is slower than {mover.placement.product}"
        if job is None or move.for_job not in plan.held:
            yield f"{what}: no room is held for it"
        spent[move.for_job] = spent.get(move.for_job, 0) + move.cost
    for job_id, cost in spent.items():
        if job_id in jobs and cost > jobs[job_id].make_room:
            yield f"moves for {job_id} lose {cost}, where {jobs[job_id].make_room} are allowed"
    if sum(spent.values()) > snapshot.move_budget:
        yield f"moves lose {sum(spent.values())} in all, where {snapshot.move_budget} are allowed"


def lifted(job: types.Job) -> types.Job:
    """A running job as one that waits for a place at its size."""
    assert job.placement is not None, "only running jobs move"
    return dataclasses.replace(job, placement=None, num_pods=job.placement.num_pods, allowed_num_pods=())
