"""Who may start now beside all that stands, those included who are leaving: room, quotas, limits, and what is kept.

A plan for later counts on what leaves. Whoever is placed by such a plan and is to start before all have left is
asked about here, one after the other. What must stay true: what passes holds in the finished plan's checks.
"""

from __future__ import annotations

from stowplan_allocator import compiling, namespaces, quotas, reserving, types


class Now:
    """What is free now, less what has started here. ``snapshot`` has no reservations but those that are to be kept."""

    def __init__(self, snapshot: types.Snapshot) -> None:
        kept = reserving.with_reservations(snapshot)
        self._jobs = {job.id: job for job in kept.jobs}
        self._free = {node.name: node.available for node in kept.nodes}
        for job in kept.jobs:
            _take(job, job.placement, free=self._free)
        self._limits = namespaces.compile_limits(snapshot)
        self._spare = namespaces.Spare({} if self._limits is None else self._limits.left())
        shared = quotas.compile_quotas(snapshot)
        self._allowance = None if shared is None else compiling.allowance_of(snapshot, shared=shared)

    def starts(self, job_id: str, place: types.Placement) -> bool:
        """Whether the job may start there now; what it takes is then no longer free."""
        job = self._jobs[job_id]
        charges = () if self._limits is None else self._limits.charges(job)
        fits = all((job.pod * share.num_pods).fits_in(self._free[share.node]) for share in place.shares)
        if not fits or not self._spare.fits(charges, place.num_pods) or not self._has_quota(job, place):
            return False
        self._spare.add(charges, place.num_pods)
        _take(job, place, free=self._free)
        return True

    def _has_quota(self, job: types.Job, place: types.Placement) -> bool:
        """Whether the job is within all quotas; it then counts there."""
        if self._allowance is None:
            return True
        leaf = self._allowance.quotas.leaf(job)
        amount = place.num_pods * job.pod.accelerators
        bound = reserving.binding(name for name, _ in job.pod.other)
        if self._allowance.is_full(leaf, bound=bound):
            return False
        if not self._allowance.fits(leaf, place.product, amount, bound=bound):
            return False
        self._allowance.add(leaf, place.product, amount, jobs=1, bound=bound)
        return True


def _take(job: types.Job, place: types.Placement | None, *, free: dict[str, types.Resources]) -> None:
    for share in place.shares if place is not None else ():
        if share.node in free:
            free[share.node] -= job.pod * share.num_pods
