"""Why a queue keeps a job waiting, with numbers: a part of ``reasons``.

What must stay true: a job is said to exceed a quota only if it would with nobody else in the
cluster; it is said to wait for quota only if quotas refuse it beside what runs and what this
plan starts, whatever room there is; the numbers are those of that state.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator import fairness, quotas, reserving, types, words
from stowplan_allocator.greedy import Spot
from stowplan_allocator.problem import Problem, Request
from stowplan_allocator.queues import ANY_PRODUCT
from stowplan_allocator.quotas import Branch, Quotas

MAX_BLOCKERS = 10
Numbers = dict[str, str]
# A reason, its message, its numbers, and who uses the quota.
Answer = tuple[types.Reason, str, Numbers, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _User:
    """A job that runs or was placed, and what it takes."""

    name: str
    leaf: int
    kind: str
    amount: int


class QuotaCounts:
    """The quotas beside what runs and what a plan starts."""

    def __init__(
        self, snapshot: types.Snapshot, *, problem: Problem, shared: Quotas, spots: Mapping[str, Spot]
    ) -> None:
        self._problem = problem
        self._shared = shared
        self._snapshot = snapshot
        self._usage = quotas.usage_of(shared, snapshot.jobs)
        assert problem.allowance is not None, "quotas come with an allowance"
        self._then = problem.allowance.copy()
        users = [
            self._user(job, product=job.placement.product, pods=job.placement.num_pods)
            for job in snapshot.jobs
            if job.placement is not None
        ]
        for job in problem.queue:
            spot = spots.get(job.id)
            if spot is not None:
                problem.count(job, usage=self._usage, product=spot.product, num_pods=spot.num_pods)
                request = problem.shape_of[job.id].request
                amount = spot.num_pods * job.pod.accelerators
                self._then.add(request.leaf, spot.product, amount, jobs=1, bound=request.bound)
                users.append(self._user(job, product=spot.product, pods=spot.num_pods))
        self._named: dict[tuple[int, str | None], tuple[str, ...]] = {}
        self._users = sorted(users, key=lambda user: (-user.amount, user.name))

    def _user(self, job: types.Job, *, product: str, pods: int) -> _User:
        leaf = self._shared.leaf(job)
        return _User(job.name, leaf, self._shared.kind(leaf, product), pods * job.pod.accelerators)

    def answer(self, request: Request) -> Answer | None:
        """What the request's queue says to one more such job; None where it does not refuse it."""
        needs = words.needs(request, dims=self._problem.dims)
        amount = request.num_pods * request.vector[0]
        kinds = fairness.kinds_of(request, problem=self._problem)
        most = [self._shared.most(request.leaf, kind) for kind in kinds]
        if amount and kinds and all(one is not None and one < amount for one in most):
            best = max(range(len(kinds)), key=lambda i: most[i] or 0)
            return self._exceeds(request, kind=kinds[best], most=most[best] or 0, needs=needs)
        full = self._usage.is_full(request.leaf)
        if full is not None:
            return self._full(request, branch=full, needs=needs)
        kept = self._kept_for_others(request, kinds=kinds, needs=needs)
        if kept is not None:
            return kept
        binding = [self._usage.binds_at(request.leaf, kind, amount) for kind in kinds]
        if not binding or binding[0] is None or None in binding:
            return None
        return self._waits(request, kind=kinds[0], branch=binding[0], needs=needs)

    def _kept_for_others(self, request: Request, *, kinds: Sequence[str], needs: str) -> Answer | None:
        """It could have the quota now, and would still use it when others are to start for whom it is kept."""
        allowance, amount = self._then, request.num_pods * request.vector[0]
        full = [n for n in request.bound if any(usage.is_full(request.leaf) for usage in allowance.kept.get(n, ()))]
        if full:
            what, numbers = "may run one more job", {"queue": self._shared.branches[request.leaf].queue}
        elif amount and any(self._usage.fits(request.leaf, kind, amount) for kind in kinds):
            if any(allowance.fits(request.leaf, kind, amount, bound=request.bound) for kind in kinds):
                return None
            what, numbers = "has quota", self._numbers(request, kind=kinds[0])
        else:
            return None
        limits = reserving.limits(self._snapshot)
        owners = {one.job_id for number in full or request.bound for one in limits[number].reservations}
        names = tuple(job.name for job in self._snapshot.jobs if job.id in owners)
        message = (
            f"needs {needs}; its queue {what} now, but that is kept for {words.names(names)}, and this job is not "
            "known to end in time"
        )
        return types.Reason.RESERVED_FOR_LARGER_JOB, message, numbers, names[:MAX_BLOCKERS]

    def _numbers(self, request: Request, *, kind: str) -> Numbers:
        """How the job's own queue stands."""
        own = self._shared.branches[request.leaf]
        used = self._usage.used.get((own.index, kind), 0)
        owned = own.owned.get(kind, 0)
        return {
            "queue": own.queue,
            "quota_product": kind,
            "quota_wanted": str(request.num_pods * request.vector[0]),
            "quota_used": str(used),
            "quota_nominal": str(owned),
            "quota_borrowed": str(max(used - owned, 0)),
            "quota_lent": str(max(owned - used - self._usage.left(request.leaf, kind), 0)),
        }

    def _exceeds(self, request: Request, *, kind: str, most: int, needs: str) -> Answer:
        numbers = self._numbers(request, kind=kind) | {"quota_limit": str(most)}
        amount = numbers["quota_wanted"]
        if not most:
            message = f'needs {needs}; queue "{numbers["queue"]}" has no quota of {_product(kind)} and may borrow none'
        else:
            message = (
                f'needs {needs}, {amount} accelerators in all; queue "{numbers["queue"]}" may use at most {most} of '
                f"{_product(kind)}, with all that it may borrow"
            )
        return types.Reason.EXCEEDS_QUOTA, message, numbers, ()

    def _full(self, request: Request, *, branch: Branch, needs: str) -> Answer:
        running = self._usage.jobs.get(branch.index, 0)
        numbers = {
            "queue": self._shared.branches[request.leaf].queue,
            "quota_binds_at": branch.queue,
            "running_jobs": str(running),
            "max_running_jobs": str(branch.max_running_jobs),
        }
        jobs = "1 job" if branch.max_running_jobs == 1 else f"{branch.max_running_jobs} jobs"
        message = f'needs {needs}; queue "{branch.queue}" may run {jobs} and runs {running}'
        return types.Reason.WAITING_FOR_QUOTA, message, numbers, self._names(branch, kind=None)

    def _waits(self, request: Request, *, kind: str, branch: Branch, needs: str) -> Answer:
        there, most = self._usage.used.get((branch.index, kind), 0), branch.most(kind) or 0
        numbers = self._numbers(request, kind=kind) | {
            "quota_binds_at": branch.queue,
            "quota_limit": str(most),
            "quota_used_there": str(there),
        }
        names = self._names(branch, kind=kind)
        own = (
            f'queue "{numbers["queue"]}" uses {numbers["quota_used"]} of {_product(kind)} '
            f"and owns {numbers['quota_nominal']}"
        )
        if numbers["quota_lent"] != "0":
            own += f", of which {numbers['quota_lent']} {'is' if numbers['quota_lent'] == '1' else 'are'} lent"
        binds = (
            f"with what it may borrow it has {max(most - there, 0)} left"
            if branch.index == request.leaf
            else f'queue "{branch.queue}" above it has {max(most - there, 0)} of {most} left'
        )
        held = f"; {words.names(names)} {'holds' if len(names) == 1 else 'hold'} it" if names else ""
        message = f"needs {needs}, {numbers['quota_wanted']} accelerators in all; {own}; {binds}{held}"
        return types.Reason.WAITING_FOR_QUOTA, message, numbers, names

    def _names(self, branch: Branch, *, kind: str | None) -> tuple[str, ...]:
        """Who uses the quota, or counts as a job, under the branch; the largest first."""
        known = self._named.get((branch.index, kind))
        if known is None:
            under = set(_leaves(self._shared.branches, branch))
            users = (
                user.name
                for user in self._users
                if user.leaf in under and (kind is None or (user.kind == kind and user.amount))
            )
            known = self._named[branch.index, kind] = tuple(itertools.islice(users, MAX_BLOCKERS))
        return known


def _product(kind: str) -> str:
    return "other products" if kind == ANY_PRODUCT else kind


def _leaves(branches: Sequence[Branch], branch: Branch) -> list[int]:
    if not branch.children:
        return [branch.index]
    return [leaf for child in branch.children for leaf in _leaves(branches, branches[child])]
