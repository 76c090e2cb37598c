"""Who waits too long, and the room that is kept for them: age ends starvation.

Small jobs can always use what is free before a large one could, so that it waits for ever.
``reservations`` gives the first of each line that has waited long the earliest room that ends
make (EASY backfilling: D. Lifka, The ANL/IBM SP scheduling system, JSSPP 1995; what a promise to the
first alone, or to all, costs: A. Mu'alem, D. Feitelson, IEEE TPDS 12(6), 2001). ``plan`` then puts
there only what is known to end in time, and the job itself.

A start rests on known ends, and where there are none on assumed ones: that is no promise, and
says so. Nobody needs to know an end for nobody to starve: once the moment has come nothing more
is put there, so that whoever stands there is the last.

What must stay true: a reservation moves only to an earlier moment, or where its room has
vanished, or where known ends give other room in less than half of the time that its own still
needs; it is given up only for a job of higher priority in the same queue, or for one to whose
queue the room belongs; how many plans are made is bounded; the same snapshot gives the same
reservations unless the budget cut it, and then those that were there stay.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from stowplan_allocator import compiling, forecast, planner, types
from stowplan_allocator import problem as problems
from stowplan_allocator.fairness import kinds_of
from stowplan_allocator.problem import Problem

# Each one keeps room idle now and then; the oldest first.
AT_MOST = 8
# Of all lines: jobs asked whether the cluster could hold them at all.
MAX_TRIED = 100
# A start moves earlier by at least this part of the time until then, and this much: plans should not change for less.
EARLIER_SHARE, EARLIER_SECONDS = 0.1, 60
# One job is placed at a time, on a cluster on which all others stay: that is quick.
TIME_LIMIT_SECONDS = 2.0


def reservations(
    snapshot: types.Snapshot,
    *,
    settings: types.Settings | None = None,
    after_seconds: int,
    at_most: int = AT_MOST,
    budget_seconds: float | None = None,
) -> tuple[types.Reservation, ...]:
    """What should stand in ``Snapshot.reservations``: one for each line whose first job waits so long, at most so many.

    ``snapshot`` has those of before. Only jobs that this snapshot's plan leaves waiting count.
    """
    settings = replace(settings or types.Settings(), explain=False)
    deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
    kept = {one.job_id: one for one in snapshot.reservations}
    late = snapshot.now_seconds - after_seconds
    if not kept and all(job.placement is not None or job.created_at_seconds > late for job in snapshot.jobs):
        return ()
    made = planner.plan(snapshot, replace(settings, strategy=types.Strategy.GREEDY))
    settings = replace(settings, time_limit_seconds=min(settings.time_limit_seconds, TIME_LIMIT_SECONDS))
    then = _after(snapshot, made=made)
    # Whose room is decided already waits for others to leave.
    found = [kept[job_id] for job_id in sorted(made.held) if job_id in kept]
    taken = _decided(made.held, now=snapshot.now_seconds)
    started = tuple(replace(job, placement=made.placements.get(job.id, job.placement)) for job in then.jobs)
    problem = compiling.compile_problem(replace(then, jobs=started, reservations=()), order=settings.order)
    waiting = [job for job in problem.queue if job.id not in made.held and not job.returning]
    firsts = _firsts(
        waiting, problem=problem, snapshot=then, settings=settings, late=late, kept=kept, deadline=deadline
    )

    def rank(job: types.Job) -> tuple[int, bool, int, str]:
        """Who has room already comes before others of the same standing, in the order of starts: promises are kept."""
        old = kept.get(job.id)
        turn = job.created_at_seconds if old is None else old.starts_at_seconds
        return _standing(job, problem=problem), old is None, turn, job.id

    for job in sorted(firsts, key=rank):
        if len(found) >= at_most:
            break
        old = kept.get(job.id)
        if deadline is not None and time.monotonic() > deadline:
            promised = expected = old
        else:
            seen = then if old is not None else _before(job, then=then, made=made, order=settings.order)
            beside = (*_decided(made.placements, now=snapshot.now_seconds), *taken)
            promised, expected = _reserve(replace(seen, reservations=beside), job, old=old, settings=settings)
        if promised is not None and expected is not None:
            found.append(promised)
            taken.append(expected)
    # Until they have started, or the same plan without their reservations would give their room to others.
    starting = [one for one in snapshot.reservations if one.job_id in made.placements]
    return (*starting, *found)


def _decided(placements: Mapping[str, types.Placement], *, now: int) -> list[types.Reservation]:
    """Who is to start there now. As reservations: where nobody knows their ends, nobody's room may rest on them."""
    return [types.Reservation(job_id, placements[job_id], now) for job_id in sorted(placements)]


def _after(snapshot: types.Snapshot, *, made: types.Plan) -> types.Snapshot:
    """The cluster once its victims were told."""
    leaving = {one.job_id for one in made.evictions}
    jobs = tuple(replace(job, leaving=True) if job.id in leaving else job for job in snapshot.jobs)
    return replace(snapshot, jobs=jobs)


def _before(job: types.Job, *, then: types.Snapshot, made: types.Plan, order: types.QueueOrder) -> types.Snapshot:
    """The same without those behind the job in its own line, who would start now: its room comes first."""
    last = problems.queue_key(job, order=order)

    def is_behind(one: types.Job) -> bool:
        return (
            one.id in made.placements
            and (one.queue == job.queue or not then.queues)
            and problems.queue_key(one, order=order) > last
        )

    return replace(then, jobs=tuple(one for one in then.jobs if not is_behind(one)))


def _firsts(
    waiting: Iterable[types.Job],
    *,
    problem: Problem,
    snapshot: types.Snapshot,
    settings: types.Settings,
    late: int,
    kept: dict[str, types.Reservation],
    deadline: float | None,
) -> Iterator[types.Job]:
    """Of each line whoever has room already, else the first that the cluster could hold, if it waits too long.

    A job of higher priority that comes later takes the turn from one that has room already. Beyond the deadline
    nobody else is asked.
    """
    lines: dict[int, list[types.Job]] = {}
    for job in waiting:
        lines.setdefault(problem.shape_of[job.id].request.leaf, []).append(job)
    empty = replace(snapshot, reservations=())
    known: dict[int, bool] = {}
    for line in lines.values():
        holder = next((job for job in line if job.id in kept), None)
        for job in line:
            if holder is not None and job.priority == holder.priority:
                yield holder
                break
            request = problem.shape_of[job.id].request.index
            if request not in known:
                is_late = deadline is not None and time.monotonic() > deadline
                if is_late or len(known) >= MAX_TRIED:
                    yield from [holder] if holder is not None else []
                    break
                known[request] = _could_hold(empty, job, settings=settings)
            if known[request]:
                if job.created_at_seconds <= late:
                    yield job
                break


def _could_hold(snapshot: types.Snapshot, job: types.Job, *, settings: types.Settings) -> bool:
    """Whether the job would start if nothing else ran."""
    alone = replace(snapshot, jobs=(job,), coming_back=())
    return job.id in planner.plan(alone, replace(settings, preemption=types.Preemption.NEVER)).placements


def _standing(job: types.Job, *, problem: Problem) -> int:
    """Who comes first where room is short: whose queue owns what it asks for, then borrowers, then guests."""
    if problem.quotas is None or problem.allowance is None:
        return 0
    request = problem.shape_of[job.id].request
    leaf = problem.quotas.branches[request.leaf]
    if not leaf.is_limited:
        return 2
    used = problem.allowance.states[0].totals.get(leaf.index, {})
    wanted = request.num_pods * request.vector[0]
    kinds = kinds_of(request, problem=problem)
    owns = not wanted or any(used.get(kind, 0) + wanted <= leaf.owned.get(kind, 0) for kind in kinds)
    return 0 if owns else 1


def _reserve(
    snapshot: types.Snapshot, job: types.Job, *, old: types.Reservation | None, settings: types.Settings
) -> tuple[types.Reservation | None, types.Reservation | None]:
    """Room for the job beside the reservations of the snapshot, as promised and as expected by now.

    That of before stays as long as it is good. Where those on it overrun, the promise stays and the expectation moves.
    """
    fresh = forecast.reserve(snapshot, job.id, settings=settings, assume=True)
    if fresh is None or old is None:
        return fresh, fresh
    nodes = {share.node for share in old.placement.shares}
    there = forecast.reserve(snapshot, job.id, settings=settings, assume=True, nodes=nodes)
    if there is None:
        return fresh, fresh
    if there.starts_at_seconds > old.starts_at_seconds and snapshot.reservations:
        alone = forecast.reserve(
            replace(snapshot, reservations=()), job.id, settings=settings, assume=True, nodes=nodes
        )
        # Two that wait for each other's room would wait for ever.
        if alone is None or there.starts_at_seconds > max(old.starts_at_seconds, alone.starts_at_seconds):
            return fresh, fresh
    now = snapshot.now_seconds
    best = min(there, fresh, key=lambda one: one.starts_at_seconds)
    earlier = old.starts_at_seconds - best.starts_at_seconds
    if earlier > max(EARLIER_SECONDS, EARLIER_SHARE * (old.starts_at_seconds - now)):
        return best, best
    if not fresh.assumed and 2 * (fresh.starts_at_seconds - now) < there.starts_at_seconds - now - EARLIER_SECONDS:
        return fresh, fresh
    return old, replace(old, starts_at_seconds=max(old.starts_at_seconds, there.starts_at_seconds))
