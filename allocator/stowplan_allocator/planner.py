"""plan(): the one function that everything calls.

Snapshot in, verified plan out. What must stay true: no plan leaves here unverified; every
waiting job of the snapshot gets exactly one answer; the same snapshot and settings give the
same plan unless the time limit cut it, which the certificate then says.
"""

from __future__ import annotations

import dataclasses
import time

from stowplan_allocator import (
    checks,
    compiling,
    decisions,
    expanding,
    fairness,
    greedy,
    making_room,
    preempting,
    reasons,
    reserving,
    strategies,
    types,
)
from stowplan_allocator.memory import Memory
from stowplan_allocator.stopwatch import Stopwatch

# Of the time limit; the rest is for packing, the reasons and the checks.
SOLVE_SHARE = 0.95


def plan(
    snapshot: types.Snapshot, settings: types.Settings | None = None, *, memory: Memory | None = None
) -> types.Plan:
    """Decide for every waiting job of the snapshot: a full placement, or a reason with numbers.

    Whoever plans again and again gives the same ``memory`` each time: it saves work and changes nothing.
    """
    settings = settings or types.Settings()
    started = time.monotonic()
    deadline = started + settings.time_limit_seconds * SOLVE_SHARE
    watch = Stopwatch()
    original = snapshot
    with watch.phase("moves"):
        room = making_room.decide(original, settings=settings, deadline=deadline, watch=watch)
    with watch.phase("compile"):
        snapshot = reserving.with_reservations(room.snapshot)
        problem = compiling.compile_problem(snapshot, seed=settings.seed, order=settings.order, memory=memory)
    with watch.phase("strategy"):
        outcome = strategies.solve(problem, settings=settings, deadline=deadline, watch=watch)
        problem = fairness.in_turn(problem, spots=outcome.spots)
    with watch.phase("preemption"):
        decision = preempting.decide(
            room.snapshot,
            reserved=snapshot,
            problem=problem,
            outcome=outcome,
            settings=settings,
            deadline=deadline,
            watch=watch,
        )
    outcome = room.judge(decision.outcome)
    placements = dict(room.placements) | {
        job.id: greedy.to_placement(outcome.spots[job.id], problem=problem, request=problem.shape_of[job.id].request)
        for job in problem.queue
        if job.id in outcome.spots
    }
    with watch.phase("reasons"):
        counted = decision.with_holds()
        waiting = reasons.explain(snapshot, problem=problem, outcome=counted, settings=settings)
        waiting |= preempting.explain(decision, problem=problem) | dict(room.waiting)
        waiting |= preempting.protections(decision, problem=problem, waiting=waiting)
    with watch.phase("growth"):
        growth = expanding.decide(
            room.snapshot,
            placements=placements,
            waiting=waiting,
            settings=settings,
            deadline=deadline,
        )
        if growth is not None:
            outcome = decisions.with_tier(outcome, tier=growth.tier)
    certificate = types.Certificate(
        status=outcome.status,
        strategy=settings.strategy.value,
        value=outcome.value,
        bound=outcome.bound,
        gap=outcome.gap,
        tiers=outcome.tiers,
        note=outcome.note,
    )
    held = dict(room.held) | {
        job_id: greedy.to_placement(hold.spot, problem=problem, request=problem.shape_of[job_id].request)
        for job_id, hold in decision.holds.items()
    }
    finished = types.Plan(
        placements,
        waiting,
        certificate,
        evictions=decision.evictions(),
        held=held,
        resizes=decision.resizes if growth is None else growth.resizes,
        moves=room.moves,
    )
    with watch.phase("checks"):
        # Who has room by moves, or returns, needs what was reserved no longer.
        kept = dataclasses.replace(original, reservations=room.snapshot.reservations)
        checks.verify(finished, snapshot=kept, settings=settings)
    timed = dataclasses.replace(certificate, seconds=time.monotonic() - started, phases=watch.phases())
    return dataclasses.replace(finished, certificate=timed)
