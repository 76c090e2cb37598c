"""Why a limit of its namespace keeps a job waiting, with numbers: a part of ``reasons``.

What must stay true: a job is said to exceed a ResourceQuota only if it would with nobody else in the
namespace; it is said to wait for one only if that refuses it beside what runs and what this plan
starts, whatever room there is; the numbers are those of that state.
"""

from __future__ import annotations

from collections.abc import Mapping

from stowplan_allocator import namespaces, reserving, types, words
from stowplan_allocator.greedy import Spot
from stowplan_allocator.namespaces import NOW
from stowplan_allocator.problem import Problem, Request

MAX_BLOCKERS = 10
Numbers = dict[str, str]
# A reason, its message, its numbers, and who uses what is limited.
Answer = tuple[types.Reason, str, Numbers, tuple[str, ...]]


class LimitCounts:
    """The limits of namespaces beside what runs and what a plan starts."""

    def __init__(self, snapshot: types.Snapshot, *, problem: Problem, spots: Mapping[str, Spot]) -> None:
        self._snapshot = snapshot
        self._problem = problem
        self._standing = [(job, job.placement.num_pods) for job in snapshot.jobs if job.placement is not None]
        self._spare = namespaces.Spare(problem.left)
        for job in problem.queue:
            spot = spots.get(job.id)
            if spot is not None:
                self._standing.append((job, spot.num_pods))
                self._spare.add(problem.shape_of[job.id].request.charges, spot.num_pods)
        self._users: dict[int, list[tuple[int, str]]] = {}

    def answer(self, request: Request) -> Answer | None:
        """What the limits say to one more such job; None where they do not refuse it."""
        limits = self._snapshot.namespace_limits
        charges = [(i, moment, amount * request.num_pods) for (i, moment), amount in request.charges]
        needs = words.needs(request, dims=self._problem.dims)
        for i, _, amount in charges:
            if amount > limits[i].hard:
                return self._exceeds(i, amount=amount, needs=needs)
        short = [one for one in charges if one[2] > self._spare.left[one[0], one[1]]]
        for i, moment, amount in short:
            if moment == NOW:
                return self._waits(i, amount=amount, needs=needs)
        return self._kept_for_others(short[0], needs=needs) if short else None

    def _numbers(self, i: int, *, amount: int) -> Numbers:
        limit = self._snapshot.namespace_limits[i]
        used = limit.used_by_others + sum(taken for taken, _ in self._users_of(i))
        return {
            "resource_quota": limit.name,
            "resource_quota_resource": limit.resource,
            "resource_quota_hard": quantity(limit.hard, limit.counts),
            "resource_quota_used": quantity(used, limit.counts),
            "resource_quota_used_by_others": quantity(limit.used_by_others, limit.counts),
            "resource_quota_needed": quantity(amount, limit.counts),
        }

    def _users_of(self, i: int) -> list[tuple[int, str]]:
        """Jobs that take of it, and how much, the largest first."""
        known = self._users.get(i)
        if known is None:
            limit = self._snapshot.namespace_limits[i]
            taken = [
                (pods * namespaces.amount_of(limit, job), job.name)
                for job, pods in self._standing
                if namespaces.namespace_of(job) == limit.namespace
            ]
            known = self._users[i] = sorted((one for one in taken if one[0]), key=lambda one: (-one[0], one[1]))
        return known

    def _exceeds(self, i: int, *, amount: int, needs: str) -> Answer:
        limit, numbers = self._snapshot.namespace_limits[i], self._numbers(i, amount=amount)
        message = (
            f"needs {needs}; {_quota(limit)} allows {numbers['resource_quota_hard']} of {limit.resource} in all, and "
            f"the job takes {numbers['resource_quota_needed']}: ask for less, or have the quota raised"
        )
        return types.Reason.EXCEEDS_RESOURCE_QUOTA, message, numbers, ()

    def _waits(self, i: int, *, amount: int, needs: str) -> Answer:
        limit, numbers = self._snapshot.namespace_limits[i], self._numbers(i, amount=amount)
        users = tuple(name for _, name in self._users_of(i))
        who = [words.names(users)] if users else []
        if limit.used_by_others:
            who.append(f"other pods ({numbers['resource_quota_used_by_others']})")
        held = f", by {' and '.join(who)}" if who else ""
        message = (
            f"needs {needs}; {_quota(limit)} allows {numbers['resource_quota_hard']} of {limit.resource}, "
            f"{numbers['resource_quota_used']} {'is' if numbers['resource_quota_used'] == '1' else 'are'} used{held}, "
            f"and the job takes {numbers['resource_quota_needed']} more"
        )
        return types.Reason.WAITING_FOR_RESOURCE_QUOTA, message, numbers, users[:MAX_BLOCKERS]

    def _kept_for_others(self, short: tuple[int, int, int], *, needs: str) -> Answer:
        """It could start now, and would still use what others need when they are to start."""
        i, moment, amount = short
        limit = self._snapshot.namespace_limits[i]
        kept = reserving.limits(self._snapshot)[moment].reservations
        owners = {one.job_id for one in kept}
        names = tuple(job.name for job in self._snapshot.jobs if job.id in owners)
        message = (
            f"needs {needs}; {_quota(limit)} allows it now, but its {limit.resource} is kept for {words.names(names)}, "
            "and this job is not known to end in time"
        )
        return types.Reason.RESERVED_FOR_LARGER_JOB, message, self._numbers(i, amount=amount), names[:MAX_BLOCKERS]


def _quota(limit: types.NamespaceLimit) -> str:
    return f'ResourceQuota "{limit.name}" of namespace "{limit.namespace}"'


def quantity(value: int, counts: str) -> str:
    """An amount as Kubernetes writes it: ``8``, ``1.5``, ``64Gi``."""
    if counts == "cpu_milli":
        return f"{value / 1000:g}"
    if counts == "memory_mib":
        return f"{value // 1024}Gi" if value % 1024 == 0 else f"{value}Mi"
    return str(value)
