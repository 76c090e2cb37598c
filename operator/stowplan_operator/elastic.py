"""Elastic jobs: at which sizes a job may run, and at which it does. Pure.

numNodes is the size that the user prefers, and stays what the spec says; the size that an attempt has is its
placement's. What must stay true: nothing but the placement says how many pods a placed gang has; a job that is placed
at a size which its spec no longer allows keeps it until it stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stowplan_allocator import allowed
from stowplan_operator import api, podspec


def sizes(spec: api.TrainingJobSpec) -> tuple[int, ...]:
    """Numbers of pods at which the job may run, ascending; empty where that is numNodes alone."""
    if spec.elastic is None:
        return ()
    found = tuple(spec.elastic.allowed_nodes)  # the CRD's rules see to it that these ascend, between the bounds
    if not found:
        least, most = spec.elastic.min_nodes or 1, spec.elastic.max_nodes or spec.num_nodes
        multiple = (spec.topology.slice_size if spec.topology else None) or 1
        found = allowed.between(least, most, preferred=spec.num_nodes, multiple=multiple)
    return found if found != (spec.num_nodes,) else ()


def num_pods(spec: api.TrainingJobSpec, status: Mapping[str, Any]) -> int:
    """Pods of the placed attempt, or of the job as it prefers to be."""
    return placed_pods(status) or spec.num_nodes


def placed_pods(status: Mapping[str, Any]) -> int:
    """Pods of the placed attempt, ended ones too; 0 where there is none."""
    placement = status.get("placement")
    return sum(1 for _ in podspec.ranks_by_node(placement)) if placement else 0
