"""One run of a strategy over one sample of pods, from empty nodes to the last arrival.

What must stay true: online, pods are offered one by one in the order of the sample and nobody looks at those behind;
a pod that fits anywhere is placed; one that does not is dropped for good; nothing ever leaves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stowplan_allocator.bench import openb_policies, openb_verify, openb_workload
from stowplan_allocator.bench.openb_cluster import Cluster, Stand
from stowplan_allocator.bench.openb_policies import Rows
from stowplan_allocator.bench.openb_workload import Workload


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where pods stand at the end, by their place in the sample; ``moves`` counts pods that were moved."""

    stands: dict[int, Stand]
    moves: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run came to, measured by the verifier."""

    unallocated_percent: float
    dropped_cpu_pods: int


Run = Callable[[Cluster, Sequence[int]], Outcome]


def online(cluster: Cluster, arriving: Sequence[int]) -> Outcome:
    """One after the other, each where the policy wants it."""
    stands: dict[int, Stand] = {}
    # Room only shrinks: what did not fit once never will.
    refused: set[int] = set()
    for pod, want in enumerate(arriving):
        if want in refused:
            continue
        node = cluster.choose(want)
        if node is None:
            refused.add(want)
        else:
            stands[pod] = cluster.place(want, node)
    return Outcome(stands)


# The strategy on the command line -> the policy that grades nodes, and the order in which pods are served.
STRATEGIES: dict[str, tuple[str, Run]] = {
    "bestfit": ("bestfit", online),
    "fgd": ("fgd", online),
    "stow": ("stow", online),
}


def run(workload: Workload, *, rows: Rows, strategy: str, ties: str, seed: int) -> Figures:
    """Sample, serve, verify."""
    policy, serve = STRATEGIES[strategy]
    arriving = openb_workload.sample(workload, seed=seed)
    rng = random.Random(f"ties {seed}") if ties == "random" else None  # noqa: S311 - no secret
    chosen = openb_policies.make(policy, rows=rows, workload=workload)
    cluster = Cluster(workload, rows=rows, policy=chosen, rng=rng)
    outcome = serve(cluster, arriving)
    free = openb_verify.verify(workload, arriving=arriving, stands=outcome.stands, names=cluster.names)
    dropped = [workload.wants[want] for pod, want in enumerate(arriving) if pod not in outcome.stands]
    return Figures(
        unallocated_percent=100 * free / workload.capacity_milli,
        dropped_cpu_pods=sum(not want.num_gpus for want in dropped),
    )
