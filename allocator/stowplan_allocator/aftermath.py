"""Who has a place once everybody who is told to leave has left: evictions must not be in vain.

Room that is freed for one job is free to all who wait. A job ahead that may take nobody's place, or that a limit kept
out, could have it; a second victim would then be taken. So what a plan decides is played through before anybody is
told: who starts stands there, who leaves waits with his place in the queue, also he who is on his way out already,
and all who wait are planned anew.

What must stay true: the world played through is the one that the next plans see if nobody else comes or goes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from stowplan_allocator import compiling, goodput, greedy, reserving, strategies, types
from stowplan_allocator import problem as problems
from stowplan_allocator.decisions import Decision
from stowplan_allocator.problem import Problem
from stowplan_allocator.stopwatch import Stopwatch

_AS_THEY_ARE: Mapping[str, int] = {}


def play(
    snapshot: types.Snapshot,
    *,
    decision: Decision,
    problem: Problem,
    settings: types.Settings,
    deadline: float,
    watch: Stopwatch,
    most: Mapping[str, int] = _AS_THEY_ARE,
) -> Mapping[str, greedy.Spot]:
    """Where those stand who wait then and have a place; nothing is played through where nobody is to leave.

    ``snapshot`` has reservations as such; elastic jobs of ``most``, by id, take no more pods than it says.
    """
    if not decision.for_whom():
        return {}
    settled = _settled(snapshot, decision=decision, problem=problem)
    cut = (goodput.cut(job, most=most[job.id]) if job.id in most else job for job in settled.jobs)
    later = reserving.with_reservations(replace(settled, jobs=tuple(cut)))
    compiled = compiling.compile_problem(later, seed=settings.seed, order=settings.order)
    return strategies.solve(compiled, settings=settings, deadline=deadline, watch=watch).spots


def takers(
    job_id: str,
    *,
    snapshot: types.Snapshot,
    decision: Decision,
    later: Mapping[str, greedy.Spot],
    problem: Problem,
    order: types.QueueOrder,
) -> list[types.Job]:
    """Those ahead, without room now, who ``later`` have nodes of the job or its victims; else all who have a place."""
    hold = decision.holds[job_id]
    nodes = {node for node, _ in hold.spot.takes}.union(*(victim.held for victim in hold.solution.leaving))
    ahead = list(itertools.takewhile(lambda job: job.id != job_id, problem.queue))
    last = problems.queue_key(problem.queue[len(ahead)], order=order)
    # Between queues it is their shares that say who is ahead: whoever has a place is.
    ahead += [job for job in snapshot.coming_back if snapshot.queues or problems.queue_key(job, order=order) < last]
    found = [job for job in ahead if job.id in later and job.id not in decision.holds]
    near = [job for job in found if not nodes.isdisjoint(node for node, _ in later[job.id].takes)]
    return near or found


def _settled(snapshot: types.Snapshot, *, decision: Decision, problem: Problem) -> types.Snapshot:
    """The snapshot when all who start have started, and all who leave have left."""
    sizes = {victim.job.id: victim.size for hold in decision.holds.values() for victim in hold.solution.leaving}
    jobs = []
    for job in snapshot.jobs:
        spot = decision.outcome.spots.get(job.id)
        if spot is not None:
            place = greedy.to_placement(spot, problem=problem, request=problem.shape_of[job.id].request)
            jobs.append(replace(job, placement=place, returning=False, make_room=0))
        elif job.id in sizes:
            jobs.append(
                replace(job, placement=None, returning=sizes[job.id] > 0, disruption_cost=None, resize_cost=None)
            )
        elif job.placement is None:
            jobs.append(replace(job, leaving=False))
        elif not job.leaving:
            jobs.append(job)
    return replace(snapshot, jobs=(*jobs, *snapshot.coming_back), coming_back=())
