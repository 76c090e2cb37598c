"""What ResourceQuotas leave to the jobs of a namespace, wherever these stand.

Sets
    l ∈ L            limits: one resource of one ResourceQuota, on the jobs of its namespace
    t ∈ T            moments that have to hold: now, and for each number of reservations when these start
Data
    h_l, o_l         the quota's hard limit, and what pods outside the snapshot's jobs use of it
    a_{j,l}          what one pod of job j takes of it; 0 for jobs of other namespaces
    n_j              pods of j: those placed, for a job that runs
    c_{l,t}          what is left: h_l − o_l − Σ n_j·a_{j,l} over the jobs that stand at t; less than 0 where the
                     limit was lowered
Constraint
    (1) Σ n_j·a_{j,l} ≤ max(0, c_{l,t}) over the jobs that the plan starts and that may still stand at t       for l, t

Where a job stands is of no matter to a limit, so that whether one more job is within all of them is
counted and never searched for. What must stay true: a job that takes nothing of a resource is not kept by
it, however much is used; a limit that was lowered stops nobody who runs; what fits beside more
usage fits beside less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from stowplan_allocator import imposed, reserving, types

# The moment that is now; others are numbers of ``reserving.limits``.
NOW = -1
# l and t: the limit by its index in the snapshot, and the moment.
Key = tuple[int, int]
# What one pod takes of each.
Charges = tuple[tuple[Key, int], ...]


def namespace_of(job: types.Job) -> str:
    """The part of the job's name before the slash; empty for a job without one, which no limit is on."""
    return job.name.partition("/")[0] if "/" in job.name else ""


def amount_of(limit: types.NamespaceLimit, job: types.Job) -> int:
    """a: what one pod of the job takes, if the limit is one of its namespace."""
    if not _covers(limit, job):
        return 0
    if limit.counts == imposed.COUNTS_PODS:
        return 1
    return max(0, dict(job.pod.items()).get(limit.counts, 0)) or limit.default


def _covers(limit: types.NamespaceLimit, job: types.Job) -> bool:
    if limit.best_effort is None:
        return True
    return limit.best_effort is not bool(job.pod.cpu_milli or job.pod.memory_mib)


class Spare:
    """c: what is left while a plan is being made. Cheap to copy."""

    __slots__ = ("left",)

    def __init__(self, left: Mapping[Key, int]) -> None:
        self.left = dict(left)

    def copy(self) -> Spare:
        """An independent copy."""
        return Spare(self.left)

    def fits(self, charges: Charges, num_pods: int) -> bool:
        """Whether (1) holds with so many more pods."""
        return all(amount * num_pods <= self.left[key] for key, amount in charges)

    def add(self, charges: Charges, num_pods: int) -> None:
        """So many more pods, or fewer."""
        for key, amount in charges:
            self.left[key] -= amount * num_pods

    def take(self, charges: Charges, num_pods: int) -> bool:
        """Add so many more if they fit."""
        fits = self.fits(charges, num_pods)
        if fits:
            self.add(charges, num_pods)
        return fits


class Namespaces:
    """The limits of a snapshot by namespace."""

    def __init__(self, snapshot: types.Snapshot) -> None:
        self._snapshot = snapshot
        self._moments = reserving.limits(snapshot)
        self._limits: dict[str, list[tuple[int, types.NamespaceLimit]]] = {}
        for i, limit in enumerate(snapshot.namespace_limits):
            self._limits.setdefault(limit.namespace, []).append((i, limit))

    def of(self, job: types.Job) -> Sequence[tuple[int, types.NamespaceLimit]]:
        """The limits on the job, with their indexes."""
        return self._limits.get(namespace_of(job), ()) if "/" in job.name else ()

    def charges(self, job: types.Job) -> Charges:
        """What a pod of the job takes, now and at each moment at which it may still stand."""
        limits = self.of(job)
        if not limits:
            return ()
        now = self._snapshot.now_seconds
        moments = (NOW, *(i for i, kept in enumerate(self._moments) if kept.binds(job, now_seconds=now)))
        amounts = [(i, amount_of(limit, job)) for i, limit in limits]
        return tuple(((i, moment), amount) for i, amount in amounts if amount for moment in moments)

    def refusal(self, job: types.Job) -> types.Waiting | None:
        """The answer to a job whose pods ask for nothing of what they must ask for."""
        for _, limit in self.of(job):
            if limit.mandatory and _covers(limit, job) and not amount_of(limit, job):
                base = limit.resource.rpartition(".")[2]
                fix = f"set resourcesPerNode.{base}, or give" if limit.counts else "give"
                message = (
                    f'ResourceQuota "{limit.name}" of namespace "{limit.namespace}" limits {limit.resource}, so the '
                    f"API server refuses pods without it: {fix} the namespace a LimitRange with a default for {base}"
                )
                numbers = (("resource_quota", limit.name), ("resource_quota_resource", limit.resource))
                return types.Waiting(types.Reason.EXCEEDS_RESOURCE_QUOTA, message, numbers)
        return None

    def left(self, *, gone: Collection[str] = (), come: Iterable[tuple[types.Job, int]] = ()) -> dict[Key, int]:
        """c, once some running jobs are gone (by id) and others have come with so many pods."""
        arriving = list(come)
        standing = [
            (job, job.placement.num_pods)
            for job in self._snapshot.jobs
            if job.placement is not None and job.id not in gone and self.of(job)
        ]
        left = self._beside([*standing, *arriving], moment=NOW)
        for number, kept in enumerate(self._moments):
            owners = {one.job_id: one.placement.num_pods for one in kept.reservations}
            then = [
                (job, pods)
                for job, pods in [*standing, *arriving]
                if job.id not in owners and kept.binds(job, now_seconds=self._snapshot.now_seconds)
            ]
            then += [(job, owners[job.id]) for job in self._snapshot.jobs if job.id in owners]
            left |= self._beside(then, moment=number)
        return left

    def _beside(self, standing: Iterable[tuple[types.Job, int]], *, moment: int) -> dict[Key, int]:
        used = [limit.used_by_others for limit in self._snapshot.namespace_limits]
        for job, pods in standing:
            for i, limit in self.of(job):
                used[i] += pods * amount_of(limit, job)
        limits = self._snapshot.namespace_limits
        return {(i, moment): limit.hard - used[i] for i, limit in enumerate(limits)}


def compile_limits(snapshot: types.Snapshot) -> Namespaces | None:
    """The limits of the snapshot; None without any."""
    return Namespaces(snapshot) if snapshot.namespace_limits else None
