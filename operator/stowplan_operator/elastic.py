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

# Causes of a failure, as ``failures.Cause`` has them, that can come from the size.
_OWN_DOING = ("ContainerFailed", "OOMKilled")


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


def usable(spec: api.TrainingJobSpec, status: Mapping[str, Any]) -> tuple[int, ...]:
    """``sizes`` without those at which the script itself ended before it had made a step, as the history shows.

    So it is where a size has more ranks than the batch has samples, or too little memory for each rank's share. A
    script that never told of a step shows nothing, and numNodes is for the failure policy to judge.
    """
    history = status.get("history") or ()
    reports = any("lastStep" in one for one in history) or "step" in (status.get("progress") or {})
    failed = {one["nodes"] for one in history if reports and _ended_at_once(one)}
    found = tuple(size for size in sizes(spec) if size == spec.num_nodes or size not in failed)
    return found if found != (spec.num_nodes,) else ()


def _ended_at_once(entry: Mapping[str, Any]) -> bool:
    """Whether an attempt of ``status.history`` failed by its own doing without a step beyond that it began with."""
    return entry["reason"] in _OWN_DOING and entry.get("lastStep") == entry.get("firstStep")


def num_pods(spec: api.TrainingJobSpec, status: Mapping[str, Any]) -> int:
    """Pods of the placed attempt, or of the job as it prefers to be."""
    return placed_pods(status) or spec.num_nodes


def placed_pods(status: Mapping[str, Any]) -> int:
    """Pods of the placed attempt, ended ones too; 0 where there is none."""
    placement = status.get("placement")
    return sum(1 for _ in podspec.ranks_by_node(placement)) if placement else 0
