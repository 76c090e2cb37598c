"""plan(): the one function that everything calls.

Snapshot in, verified plan out. What must stay true: no plan leaves here unverified; every
waiting job of the snapshot gets exactly one answer; the same snapshot and settings give the
same plan unless the time limit cut it, which the certificate then says.
"""

from __future__ import annotations

import time

from stowplan_allocator import checks, compiling, greedy, reasons, strategies, topology, types
from stowplan_allocator import problem as problems

# Of the time limit; the rest is for packing, the reasons and the checks.
SOLVE_SHARE = 0.95


def plan(snapshot: types.Snapshot, settings: types.Settings | None = None) -> types.Plan:
    """Decide for every waiting job of the snapshot: a full placement, or a reason with numbers."""
    settings = settings or types.Settings()
    started = time.monotonic()
    problem = compiling.compile_problem(snapshot)
    outcome = strategies.solve(problem, settings=settings, deadline=started + settings.time_limit_seconds * SOLVE_SHARE)
    placements = {
        job.id: to_placement(outcome.spots[job.id], problem=problem) for job in problem.queue if job.id in outcome.spots
    }
    waiting = reasons.explain(snapshot, problem=problem, outcome=outcome, settings=settings)
    finished = types.Plan(
        placements=placements,
        waiting=waiting,
        certificate=types.Certificate(
            status=outcome.status,
            strategy=settings.strategy.value,
            value=outcome.value,
            bound=outcome.bound,
            gap=outcome.gap,
            seconds=time.monotonic() - started,
            tiers=outcome.tiers,
            note=outcome.note,
        ),
    )
    checks.verify(finished, snapshot=snapshot)
    return finished


def to_placement(spot: greedy.Spot, *, problem: problems.Problem) -> types.Placement:
    """A spot in the words of the outside, shares in rank order."""
    pods: dict[int, int] = {}
    for node, count in spot.takes:
        pods[node] = pods.get(node, 0) + count
    return types.Placement(
        product=spot.product,
        shares=tuple(
            types.NodeShare(problem.nodes[node].name, count)
            for node, count in topology.rank_order(pods, problem=problem)
        ),
    )
