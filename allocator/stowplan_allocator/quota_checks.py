"""Quotas, verified on the finished plan against the snapshot's queues alone: a part of ``checks``.

Shares no code with ``quotas``: it reads queues by their names and works the tree out from the top.
What must stay true: every queue that gets more accelerators than it had is within its limits, with
what runs and what the plan starts, and so are all above it; limits on jobs hold; what a queue's
subtree reclaims for a job it owns, and nobody who is within his own loses anything to another queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from stowplan_allocator import limit_checks, types

# Behind a queue's name: its own jobs, without those of its children.
OWN = " itself"
# Jobs with where they stand.
Standing = list[tuple[types.Job, types.Placement]]


def find_breaches(placements: Mapping[str, types.Placement], *, snapshot: types.Snapshot) -> Iterator[str]:
    """Every breach of a quota or a queue's limit by these placements beside what runs."""
    if not snapshot.queues:
        return
    jobs = {job.id: job for job in snapshot.jobs}
    running = [(job, job.placement) for job in snapshot.jobs if job.placement is not None]
    started = [(jobs[job_id], placement) for job_id, placement in placements.items() if job_id in jobs]
    tree = Tree(snapshot.queues)
    yield from _limits(tree, running=running, started=started)
    yield from _exceeded(tree, before=running, started=started)
    for one in snapshot.reservations:
        if one.job_id in jobs and jobs[one.job_id].placement is None:
            asks = jobs[one.job_id].make_room > 0
            coming = [(job, at) for job, at in started if not (asks and job.returning)]
            stay = [
                [(job, at) for job, at in some if limit_checks.is_beside(one, job=job, snapshot=snapshot)]
                for some in (running, coming)
            ]
            then = [*stay[0], (jobs[one.job_id], one.placement)]
            for breach in (
                *_exceeded(tree, before=then, started=stay[1]),
                *_too_many(tree, running=then, started=stay[1]),
            ):
                yield f"when {one.job_id} is to start: {breach}"


def _exceeded(tree: Tree, *, before: Standing, started: Standing) -> Iterator[str]:
    was, now = tree.amounts(before), tree.amounts(started)
    now |= {key: amount + now.get(key, 0) for key, amount in was.items()}
    for root in tree.roots:
        for kind in sorted({kind for kind, _ in now} & tree.kinds_under(root, amounts=now)):
            if tree.names_any(root):
                yield from tree.exceeded(root, kind=kind, before=was, after=now)


def in_known_queues(snapshot: types.Snapshot) -> types.Snapshot:
    """The snapshot in which jobs of a queue that is gone are in the default queue, where they count."""
    names = {queue.name for queue in snapshot.queues} | {""}
    if all(job.queue in names for job in snapshot.jobs):
        return snapshot
    return replace(snapshot, jobs=tuple(job if job.queue in names else replace(job, queue="") for job in snapshot.jobs))


def has_had_more(victim: types.Job, job: types.Job) -> bool:
    """Whether the one has had at least an accelerator-hour, and ten times the power of ten below what the other had."""
    more, less = (one.attained_accelerator_seconds // 3600 for one in (victim, job))
    return len(str(more)) > len(str(less)) or (more > 0 and not less)


def find_eviction_breaches(plan: types.Plan, *, snapshot: types.Snapshot, settings: types.Settings) -> Iterator[str]:
    """Every victim that a job had no right to, one preempting job after the other, as the plan names them.

    Who gives surplus up is one, too, but for what priorities say: that ``resize_checks`` asks.
    """
    snapshot = in_known_queues(snapshot)
    jobs = {job.id: job for job in snapshot.jobs}
    tree = Tree(snapshot.queues)
    running = {job.id: (job, job.placement) for job in snapshot.jobs if job.placement is not None and not job.leaving}
    started = [(jobs[job_id], placement) for job_id, placement in plan.placements.items() if job_id in jobs]
    come: Standing = []
    for job_id, placement in plan.held.items():
        if job_id not in jobs:
            continue
        job = jobs[job_id]
        victims = [one.job_id for one in plan.evictions if one.for_job == job_id and one.job_id in running]
        smaller = {
            one.job_id: one.placement
            for one in plan.resizes
            if one.for_job == job_id and one.job_id in running and one.placement is not None
        }
        victims += smaller
        stay = [one for name, one in running.items() if name not in victims]
        stay += [(running[name][0], at) for name, at in smaller.items()]
        own = tree.amounts([*stay, *come, (job, placement)])
        for victim_id in victims:
            victim, held = running[victim_id]
            what = f"eviction of {victim_id} for {job_id}"
            if victim.queue == job.queue:
                if victim.priority == job.priority and victim_id not in smaller:
                    yield from _equals(victim, job, policy=tree.policy(job.queue), settings=settings, what=what)
                    continue
                if victim.priority > job.priority and victim_id not in smaller:
                    yield f"{what}: the victim is of the same queue and not of lower priority"
                if types.QueuePreemption.WITHIN_QUEUE not in tree.policy(job.queue):
                    yield f'{what}: queue "{job.queue}" does not allow it within the queue'
                continue
            if types.QueuePreemption.RECLAIM_LENT not in tree.policy(job.queue):
                yield f'{what}: queue "{job.queue}" does not reclaim'
            kind, claimed = tree.kind(victim.queue, held.product), tree.kind(job.queue, held.product)
            mine, theirs = tree.sides(job.queue, victim.queue)
            if theirs is None:
                yield f"{what}: the victim's queue lends and borrows elsewhere"
            elif mine is None or tree.used(mine, claimed, amounts=own) > tree.owned(mine, claimed):
                yield f"{what}: its queue does not own what it takes"
            else:
                others = [one for name, one in running.items() if name not in victims or name == victim_id]
                others += [(running[name][0], at) for name, at in smaller.items() if name != victim_id]
                left = tree.amounts([*others, *started, *come])
                for name in theirs:
                    if name and tree.used(name, kind, amounts=left) <= tree.owned(name, kind):
                        yield f'{what}: queue "{name}" is within its own without the other victims'
        come.append((job, placement))
        for victim_id in victims:
            victim, _ = running.pop(victim_id)
            if victim_id in smaller:
                running[victim_id] = victim, smaller[victim_id]


def _equals(
    victim: types.Job,
    job: types.Job,
    *,
    policy: Iterable[types.QueuePreemption],
    settings: types.Settings,
    what: str,
) -> Iterator[str]:
    """Of one queue and of one priority."""
    may = types.QueuePreemption.LEAST_ATTAINED in policy
    if not job.queue:
        may = settings.preemption is types.Preemption.LEAST_ATTAINED
    if not may:
        yield f"{what}: the victim is of the same queue and not of lower priority"
    elif not has_had_more(victim, job):
        yield f"{what}: the victim is of the same queue and has not had much more"


def _limits(tree: Tree, *, running: Standing, started: Standing) -> Iterator[str]:
    for job, placement in started:
        for queue in tree.upwards(job.queue):
            size, most = placement.num_pods * job.pod.accelerators, queue.max_accelerators_per_job
            if most is not None and size > most:
                yield f'{job.id}: {size} accelerators where queue "{queue.name}" allows {most} for one job'
    yield from _too_many(tree, running=running, started=started)


def _too_many(tree: Tree, *, running: Standing, started: Standing) -> Iterator[str]:
    for queue in tree.queues.values():
        most = queue.max_running_jobs
        if most is not None:
            new, old = (sum(queue in tree.upwards(job.queue) for job, _ in some) for some in (started, running))
            if new and new + old > most:
                yield f'queue "{queue.name}": {new + old} jobs run where {most} may'


class Tree:
    """Queues by name, the jobs of a queue with children being one more child of it, without a name."""

    def __init__(self, queues: Iterable[types.Queue]) -> None:
        self.queues = {queue.name: queue for queue in queues}
        self.roots = [queue.name for queue in self.queues.values() if not queue.parent]
        self._upwards: dict[str, list[types.Queue]] = {}
        self._kinds: dict[tuple[str, str], str] = {}

    def upwards(self, name: str) -> list[types.Queue]:
        """The queue and its ancestors."""
        if name not in self._upwards:
            queue = self.queues.get(name)
            self._upwards[name] = [] if queue is None else [queue, *self.upwards(queue.parent)]
        return self._upwards[name]

    def policy(self, name: str) -> tuple[types.QueuePreemption, ...]:
        """Whose places its jobs may take."""
        return self.queues.get(name, types.Queue("")).preemption

    def sides(self, job: str, victim: str) -> tuple[str | None, list[str] | None]:
        """The subtree that must own what a job takes, and the queues that must borrow what its victim has.

        None where there is no such subtree, or where the two have nothing in common; no queues for a guest.
        """
        mine, theirs = ([queue.name for queue in self.upwards(name)] for name in (job, victim))
        common = next((name for name in mine if name in theirs), None)
        if common is None:
            limited = [bool(names) and self.names_any(names[-1]) for names in (mine, theirs)]
            return (mine[-1] if limited[0] else None), (None if limited[1] else [])
        # A queue that is above the other stands for its own jobs: they own what it owns itself.
        own = mine[mine.index(common) - 1] if mine[0] != common else f"{common}{OWN}"
        return own, theirs[: theirs.index(common)] or [f"{common}{OWN}"]

    def below(self, name: str) -> list[str]:
        """The children."""
        return [queue.name for queue in self.queues.values() if queue.parent == name]

    def names_any(self, root: str) -> bool:
        """Whether any queue of the tree has a quota."""
        return bool(self.queues[root].quotas) or any(self.names_any(child) for child in self.below(root))

    def _named(self, root: str) -> set[str]:
        own = {quota.product for quota in self.queues[root].quotas}
        return own.union(*(self._named(child) for child in self.below(root)))

    def kind(self, queue: str, product: str) -> str:
        """What a product counts as for a queue."""
        if (queue, product) not in self._kinds:
            above = self.upwards(queue)
            named = self._named(above[-1].name) if above else set()
            self._kinds[queue, product] = "*" if "*" in named and product not in named else product
        return self._kinds[queue, product]

    def amounts(self, standing: Standing) -> dict[tuple[str, str], int]:
        """Accelerators by kind and queue."""
        found: dict[tuple[str, str], int] = {}
        for job, placement in standing:
            key = (self.kind(job.queue, placement.product), job.queue)
            found[key] = found.get(key, 0) + placement.num_pods * job.pod.accelerators
        return found

    def kinds_under(self, root: str, *, amounts: Mapping[tuple[str, str], int]) -> set[str]:
        """The kinds that the tree uses."""
        return {kind for kind, queue in amounts if any(above.name == root for above in self.upwards(queue))}

    def _quota(self, name: str, kind: str) -> types.Quota:
        return next((quota for quota in self.queues[name].quotas if quota.product == kind), types.Quota(kind))

    def owned(self, name: str, kind: str) -> int:
        """What the subtree owns: its own, and what its children lend."""
        if name.endswith(OWN):
            return self._quota(name.removesuffix(OWN), kind).nominal
        lent = 0
        for child in self.below(name):
            theirs, most = self.owned(child, kind), self._quota(child, kind).lending_limit
            lent += theirs if most is None else min(theirs, most)
        return self._quota(name, kind).nominal + lent

    def used(self, name: str, kind: str, *, amounts: Mapping[tuple[str, str], int]) -> int:
        """What counts at the queue: its own jobs, and of each child what it does not keep for itself."""
        if name.endswith(OWN):
            return amounts.get((kind, name.removesuffix(OWN)), 0)
        total = amounts.get((kind, name), 0)
        for child in self.below(name):
            theirs, lends = self.used(child, kind, amounts=amounts), self._quota(child, kind).lending_limit
            keeps = 0 if lends is None else max(self.owned(child, kind) - lends, 0)
            total += max(theirs - keeps, 0)
        return total

    def exceeded(
        self,
        name: str,
        *,
        kind: str,
        before: Mapping[tuple[str, str], int],
        after: Mapping[tuple[str, str], int],
    ) -> Iterator[str]:
        """Every queue of the subtree that got more than it had, and now has more than it may."""
        queue = self.queues[name]
        now, then = (self.used(name, kind, amounts=amounts) for amounts in (after, before))
        borrows = self._quota(name, kind).borrowing_limit
        if not queue.parent:
            borrows = 0
        if borrows is not None and now > then and now > self.owned(name, kind) + borrows:
            most = self.owned(name, kind) + borrows
            yield f'queue "{name}": {now} accelerators "{kind}" in use where it owns and may borrow {most}'
        for child in self.below(name):
            yield from self.exceeded(child, kind=kind, before=before, after=after)
