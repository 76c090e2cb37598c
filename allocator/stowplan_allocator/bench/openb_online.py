"""Pods in the order of their arrival, each where the policy wants it.

What must stay true: nobody looks at the pods behind; a pod that fits anywhere is placed; one that does not is
dropped for good; nothing ever leaves or moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stowplan_allocator.bench.openb_cluster import Cluster, Stand


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where pods stand at the end, by their place in the sample; ``moves`` counts how often a pod was moved."""

    stands: dict[int, Stand]
    moves: int = 0


def online(cluster: Cluster, arriving: Sequence[int]) -> Outcome:
    """One after the other."""
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
