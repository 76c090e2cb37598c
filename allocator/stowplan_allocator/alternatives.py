"""The smallest single changes that would start a waiting job now, each found by planning with the change made.

Kinds are tried from those that the job's owner can choose alone to those that cost others
something or money. What must stay true: every alternative, applied, was planned with the whole
queue and the job was placed; what was not tried within the budget is said, and is not taken
for something that would not help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stowplan_allocator import cluster_changes, own_changes, types
from stowplan_allocator.oracle import Oracle, OutOfTime
from stowplan_allocator.relaxing import Alternative, ChangeKind

BUDGET_SECONDS = 10.0
Finder = Callable[[Oracle], Iterator[Alternative]]

FINDERS: dict[ChangeKind, Finder] = {
    ChangeKind.TOPOLOGY_PREFERRED: own_changes.preferred_topology,
    ChangeKind.WIDER_LEVEL: own_changes.wider_level,
    ChangeKind.AVOIDED_NODES_ALLOWED: own_changes.avoided_nodes,
    ChangeKind.TAINT_TOLERATED: own_changes.tolerated_taint,
    ChangeKind.WITHOUT_SELECTOR: own_changes.without_selector,
    ChangeKind.WITHOUT_AFFINITY: own_changes.without_affinity,
    ChangeKind.ANY_CAPACITY_TYPE: own_changes.any_capacity_type,
    ChangeKind.OTHER_PRODUCT: own_changes.other_product,
    ChangeKind.OTHER_QUEUE: own_changes.other_queue,
    ChangeKind.SMALLER_PODS: own_changes.smaller_pods,
    ChangeKind.FEWER_PODS: own_changes.fewer_pods,
    ChangeKind.HIGHER_PRIORITY: own_changes.higher_priority,
    ChangeKind.JOBS_MOVED: cluster_changes.jobs_moved,
    ChangeKind.RESERVATION_RELEASED: cluster_changes.reservation_released,
    ChangeKind.MORE_QUOTA: cluster_changes.more_quota,
    ChangeKind.MORE_RESOURCE_QUOTA: cluster_changes.more_resource_quota,
    ChangeKind.JOB_ENDED: cluster_changes.job_ended,
    ChangeKind.NODES_BACK: cluster_changes.nodes_back,
    ChangeKind.LATER: cluster_changes.later,
    ChangeKind.MORE_NODES: cluster_changes.more_nodes,
}


@dataclass(frozen=True, slots=True)
class Exploration:
    """Alternatives, the smallest kind of change first, and the kinds that the budget left untried or half tried."""

    alternatives: tuple[Alternative, ...]
    not_tried: tuple[ChangeKind, ...] = ()
    num_plans: int = 0


def alternatives(
    snapshot: types.Snapshot,
    job_id: str,
    *,
    settings: types.Settings | None = None,
    budget_seconds: float = BUDGET_SECONDS,
) -> tuple[Alternative, ...]:
    """The alternatives alone; see ``explore``."""
    return explore(snapshot, job_id, settings=settings, budget_seconds=budget_seconds).alternatives


def explore(
    snapshot: types.Snapshot,
    job_id: str,
    *,
    settings: types.Settings | None = None,
    budget_seconds: float = BUDGET_SECONDS,
) -> Exploration:
    """All kinds of changes, each tried for the waiting job; nothing for a job that starts anyway."""
    oracle = Oracle(snapshot, job_id, settings=settings or types.Settings(), budget_seconds=budget_seconds)
    found: list[Alternative] = []
    not_tried: list[ChangeKind] = []
    try:
        if job_id in oracle.plan(snapshot).placements:
            return Exploration((), num_plans=oracle.num_plans)
    except OutOfTime:
        return Exploration((), tuple(FINDERS))
    for kind, finder in FINDERS.items():
        try:
            for one in finder(oracle):
                if oracle.confirmed(one.patch):
                    found.append(one)
        except OutOfTime:
            not_tried.append(kind)
    return Exploration(tuple(found), tuple(not_tried), oracle.num_plans)
