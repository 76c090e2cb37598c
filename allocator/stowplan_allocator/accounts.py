"""What quotas and limits of namespaces allow once some running jobs have left and others have come: for ``preempting``.

What must stay true: everything is counted from the snapshot each time, so that nothing is paid twice; without
queues and limits there is nothing to count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stowplan_allocator import budgets, compiling, greedy, reserving, terms, types
from stowplan_allocator.namespaces import Key, Spare
from stowplan_allocator.problem import Problem
from stowplan_allocator.quotas import Allowance
from stowplan_allocator.reclaiming import Claim
from stowplan_allocator.terms import Terms
from stowplan_allocator.victims import Victim

Spots = Mapping[str, greedy.Spot]


@dataclass(frozen=True, slots=True)
class Accounts:
    """What is allowed once the victims ``gone`` have left, and the waiting jobs of ``spots`` stand there."""

    snapshot: types.Snapshot
    problem: Problem

    def allowance(self, *, gone: Iterable[Victim], spots: Spots) -> Allowance | None:
        """What quotas allow; None without queues."""
        shared = self.problem.quotas
        if shared is None:
            return None
        left = {victim.job.id: victim for victim in gone}
        allowance = compiling.allowance_of(self.snapshot, shared=shared, gone=left.keys())
        for victim in left.values():
            if victim.size and victim.job.placement is not None:
                bound = reserving.binding(name for name, _ in victim.job.pod.other)
                amount = victim.size * victim.job.pod.accelerators
                leaf = shared.leaf(victim.job)
                allowance.add(leaf, victim.job.placement.product, amount, jobs=1, bound=bound)
        for job_id, spot in spots.items():
            self._count(job_id, spot=spot, allowance=allowance)
        return allowance

    def _count(self, job_id: str, *, spot: greedy.Spot, allowance: Allowance) -> None:
        request = self.problem.shape_of[job_id].request
        amount = spot.num_pods * request.vector[0]
        allowance.add(request.leaf, spot.product, amount, jobs=1, bound=request.bound)

    def left(self, *, gone: Iterable[Victim], spots: Spots) -> dict[Key, int]:
        """What limits of namespaces leave; nothing without any."""
        if self.problem.namespaces is None:
            return {}
        jobs = {job.id: job for job in self.problem.queue if job.id in spots}
        come = [(jobs[job_id], spot.num_pods) for job_id, spot in spots.items()]
        left = {victim.job.id: victim for victim in gone}
        come += [(victim.job, victim.size) for victim in left.values() if victim.size]
        return self.problem.namespaces.left(gone=left.keys(), come=come)

    def terms(self, job: types.Job, *, num_pods: int, gone: Iterable[Victim], spots: Spots) -> Terms:
        """What one more job, with so many pods, may take of quotas and limits, and of whom."""
        leaving = list(gone)
        allowance, claim, bill = self.allowance(gone=leaving, spots=spots), None, None
        if allowance is not None:
            bound = self.problem.shape_of[job.id].request.bound
            claim = Claim(allowance, job, num_pods * job.pod.accelerators, bound)
        if self.problem.namespaces is not None:
            left = self.left(gone=leaving, spots=spots)
            bill = terms.bill_of(job, num_pods=num_pods, namespaces=self.problem.namespaces, left=left)
        guard = budgets.guard_of(self.snapshot)
        return Terms(claim, bill, None if guard is None else guard.after({victim.job.id for victim in leaving}))

    def allow(self, more: Spots, *, beside: Allowance | None, left: Mapping[Key, int]) -> bool:
        """Whether these jobs are within what ``allowance`` and ``left`` have said."""
        spare, allowance = Spare(left), None if beside is None else beside.copy()
        for job_id, spot in more.items():
            request = self.problem.shape_of[job_id].request
            if not spare.take(request.charges, spot.num_pods):
                return False
            if allowance is None:
                continue
            amount = spot.num_pods * request.vector[0]
            if allowance.is_full(request.leaf, bound=request.bound):
                return False
            if not allowance.fits(request.leaf, spot.product, amount, bound=request.bound):
                return False
            self._count(job_id, spot=spot, allowance=allowance)
        return True
