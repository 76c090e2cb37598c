"""One run of a strategy over one sample of pods, from empty nodes to the last arrival.

What must stay true: each strategy says in its module what it may know and do; every figure is the verifier's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stowplan_allocator.bench import (
    openb_moving,
    openb_offline,
    openb_online,
    openb_policies,
    openb_verify,
    openb_workload,
)
from stowplan_allocator.bench.openb_cluster import Cluster
from stowplan_allocator.bench.openb_online import Outcome
from stowplan_allocator.bench.openb_policies import Rows
from stowplan_allocator.bench.openb_workload import Workload


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run came to, measured by the verifier."""

    unallocated_percent: float
    dropped_cpu_pods: int


Run = Callable[[Cluster, Sequence[int]], Outcome]


# The strategy on the command line -> the policy that grades nodes, and the order in which pods are served.
STRATEGIES: dict[str, tuple[str, Run]] = {
    "bestfit": ("bestfit", openb_online.online),
    "fgd": ("fgd", openb_online.online),
    "stow": ("stow", openb_online.online),
    "stow-migrate": ("stow", openb_moving.moving),
    "stow-offline": ("stow", openb_offline.offline),
}


def run(workload: Workload, *, rows: Rows, strategy: str, ties: str, seed: int) -> Figures:
    """Sample, serve, verify."""
    policy, serve = STRATEGIES[strategy]
    arriving = openb_workload.sample(workload, seed=seed)
    rng = random.Random(f"ties {seed}") if ties == "random" else None  # noqa: S311 - no secret
    chosen = openb_policies.make(policy, rows=rows, workload=workload)
    cluster = Cluster(workload, rows=rows, policy=chosen, rng=rng)
    outcome = serve(cluster, arriving)
    assert outcome.moves <= openb_moving.MOST_MOVES * len(outcome.stands), f"{strategy} moved {outcome.moves} pods"
    free = openb_verify.verify(
        workload,
        arriving=arriving,
        stands=outcome.stands,
        names=cluster.names,
        all_fitting_placed=not outcome.moves,
    )
    dropped = [workload.wants[want] for pod, want in enumerate(arriving) if pod not in outcome.stands]
    return Figures(
        unallocated_percent=100 * free / workload.capacity_milli,
        dropped_cpu_pods=sum(not want.num_gpus for want in dropped),
    )
