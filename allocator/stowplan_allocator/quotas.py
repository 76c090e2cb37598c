"""What queues own, lend and borrow, as numbers that every way of planning asks.

Sets
    v ∈ V            queues; a queue that has both children and jobs of its own gets one more child for
                     these, which has its quotas; so jobs stand in leaves only
    k ∈ K            kinds of accelerators: products; in a tree that names ``*``, all that it does not name together
Data
    n_{v,k}          nominal: what v itself owns; 0 where it names no quota of k
    l_{v,k}, b_{v,k} lending and borrowing limits; ∞ where there are none
    s_{v,k}          what the subtree of v owns: n_{v,k} + Σ over children c of min(s_{c,k}, l_{c,k})
    g_{v,k}          what v keeps for itself: max(0, s_{v,k} − l_{v,k})
    u_{v,k}          accelerators in use by running jobs and by those that the plan starts: of the jobs of a
                     leaf; else Σ over children c of max(0, u_{c,k} − g_{c,k}), what reaches v from below
Constraints
    (1) a queue with a parent     u_{v,k} ≤ s_{v,k} + b_{v,k}
    (2) a queue without a parent  u_{v,k} ≤ s_{v,k}

So a queue borrows what its siblings lend before anything reaches its grandparent: the nearest
common ancestor first. What is lent comes back only when a borrower ends or is evicted. A tree in
which no queue names a quota is not limited: its jobs are guests, who own nothing. In any other
tree what no queue names, and ``*`` does not stand for, is owned by nobody, so nobody has it. Jobs
count with their accelerators; pods without accelerators take nothing of a quota.

Where running jobs use more than a limit, because it was lowered, nobody is stopped, and nothing
more starts there. What must stay true: ``fits`` is exact for one more job; what fits beside more
usage fits beside less; several states of the cluster (now, and once all victims are gone) may
have to hold at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import queues, types
from stowplan_allocator.queues import ANY_PRODUCT, Queue

DEFAULT = ""
ROOT = -1


@dataclass(frozen=True, slots=True)
class Branch:
    """v: a queue, or the jobs of a queue's own; ``limit`` holds s + b, or s without a parent, where there is one."""

    index: int
    queue: str
    parent: int
    weight_milli: int
    owned: Mapping[str, int]
    kept: Mapping[str, int]
    limit: Mapping[str, int]
    is_limited: bool
    max_running_jobs: int | None
    max_accelerators_per_job: int | None
    preemption: tuple[types.QueuePreemption, ...]
    children: tuple[int, ...] = ()

    def most(self, kind: str) -> int | None:
        """The right-hand side of (1) or (2); None where there is none."""
        return self.limit.get(kind, 0 if self.parent == ROOT else None)


@dataclass(frozen=True, slots=True)
class Quotas:
    """All queues of a snapshot. ``leaf_of`` finds the leaf of a queue's jobs; ``capacity`` is of each product.

    ``named`` has for each branch the products that its tree names, and ``roots`` the branches without a parent.
    """

    branches: tuple[Branch, ...]
    leaf_of: Mapping[str, int]
    capacity: Mapping[str, int]
    named: tuple[frozenset[str], ...]
    roots: tuple[int, ...]

    def leaf(self, job: types.Job) -> int:
        """Where the job's usage counts; a running job whose queue is gone counts in the default queue."""
        return self.leaf_of.get(job.queue, self.leaf_of[DEFAULT])

    def kind(self, leaf: int, product: str) -> str:
        """k: what a product counts as in the leaf's tree."""
        names = self.named[leaf]
        return ANY_PRODUCT if product not in names and ANY_PRODUCT in names else product

    def path(self, leaf: int) -> list[Branch]:
        """The leaf and all above it."""
        found = [self.branches[leaf]]
        while found[-1].parent != ROOT:
            found.append(self.branches[found[-1].parent])
        return found

    def share(self, branch: int, *, usage: Usage) -> float:
        """The dominant share: the largest part of any kind that the subtree uses, by weight. One division, so exact."""
        weight = self.branches[branch].weight_milli
        used = usage.totals.get(branch, {})
        return max(
            (amount / (max(self.capacity_of(branch, kind), 1) * weight) for kind, amount in used.items()), default=0.0
        )

    def capacity_of(self, branch: int, kind: str) -> int:
        """Accelerators of the kind in the cluster."""
        if kind != ANY_PRODUCT or ANY_PRODUCT not in self.named[branch]:
            return self.capacity.get(kind, 0)
        return sum(amount for product, amount in self.capacity.items() if product not in self.named[branch])

    def most(self, leaf: int, kind: str) -> int | None:
        """What the jobs of the leaf could use if nobody else used anything; None where nothing limits it."""
        if not self.branches[leaf].is_limited:
            return None
        most, below = None, 0
        # What passes through from below comes on top of what each level keeps.
        for branch in self.path(leaf):
            limit = branch.most(kind)
            if limit is not None:
                here = limit + below
                most = here if most is None else min(most, here)
            below += branch.kept.get(kind, 0)
        return most


class Usage:
    """u of the model: what is used, by branch and kind. Cheap to copy."""

    __slots__ = ("_quotas", "jobs", "totals", "used")

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        # What reaches a branch, as (1) and (2) count it.
        self.used: dict[tuple[int, str], int] = {}
        # What its subtree uses in all, as shares count it, and its jobs.
        self.totals: dict[int, dict[str, int]] = {}
        self.jobs: dict[int, int] = {}

    def copy(self) -> Usage:
        """An independent copy."""
        twin = Usage(self._quotas)
        twin.used = dict(self.used)
        twin.totals = {branch: dict(amounts) for branch, amounts in self.totals.items()}
        twin.jobs = dict(self.jobs)
        return twin

    def fits(self, leaf: int, kind: str, amount: int) -> bool:
        """Whether (1) and (2) hold with so many more."""
        return self.binds_at(leaf, kind, amount) is None

    def binds_at(self, leaf: int, kind: str, amount: int) -> Branch | None:
        """The first branch that so many more would take beyond its limit."""
        branches = self._quotas.branches
        branch = branches[leaf]
        if not branch.is_limited:
            return None
        while amount > 0:
            used = self.used.get((branch.index, kind), 0)
            most = branch.most(kind)
            if most is not None and used + amount > most:
                return branch
            kept = branch.kept.get(kind, 0)
            amount = max(used + amount - kept, 0) - max(used - kept, 0)
            if branch.parent == ROOT:
                break
            branch = branches[branch.parent]
        return None

    def left(self, leaf: int, kind: str) -> int:
        """How many more the leaf may use; in a tree with quotas."""
        left = 0
        for branch in reversed(self._quotas.path(leaf)):
            used, most = self.used.get((branch.index, kind), 0), branch.most(kind)
            if branch.parent != ROOT:
                left += max(branch.kept.get(kind, 0) - used, 0)
            else:
                left = (most or 0) - used
            if most is not None:
                left = min(left, most - used)
            left = max(left, 0)
        return left

    def add(self, leaf: int, kind: str, amount: int, *, jobs: int = 0) -> None:
        """Use so many more, or fewer."""
        branches = self._quotas.branches
        index, passed = leaf, amount
        while index != ROOT:
            if amount:
                totals = self.totals.setdefault(index, {})
                totals[kind] = totals.get(kind, 0) + amount
            self.jobs[index] = self.jobs.get(index, 0) + jobs
            if passed:
                used = self.used.get((index, kind), 0)
                self.used[index, kind] = used + passed
                kept = branches[index].kept.get(kind, 0)
                passed = max(used + passed - kept, 0) - max(used - kept, 0)
            index = branches[index].parent

    def is_full(self, leaf: int) -> Branch | None:
        """The first branch above the leaf that has all the running jobs that it may have."""
        for branch in self._quotas.path(leaf):
            most = branch.max_running_jobs
            if most is not None and self.jobs.get(branch.index, 0) >= most:
                return branch
        return None


class Allowance:
    """Usage in every state of the cluster that has to hold, the first being now: what all of them allow.

    ``kept`` are further states, by the number of what is reserved: as it will be then. They hold for jobs only that
    may still stand then (``bound``).
    """

    __slots__ = ("kept", "quotas", "states")

    def __init__(
        self, quotas: Quotas, states: Sequence[Usage], *, kept: Mapping[int, Sequence[Usage]] | None = None
    ) -> None:
        self.quotas = quotas
        self.states = tuple(states)
        self.kept = dict(kept or {})

    def copy(self) -> Allowance:
        """An independent copy."""
        kept = {number: [usage.copy() for usage in usages] for number, usages in self.kept.items()}
        return Allowance(self.quotas, [usage.copy() for usage in self.states], kept=kept)

    def beside(self, other: Allowance) -> Allowance:
        """What both allow; the first state is this one's."""
        kept = {number: [*usages, *other.kept.get(number, ())] for number, usages in self.kept.items()}
        return Allowance(self.quotas, [*self.states, *other.states], kept=kept)

    def holding(self, bound: Collection[int]) -> list[Usage]:
        """The states that hold for a job."""
        return [*self.states, *(usage for number in bound for usage in self.kept.get(number, ()))]

    def fits(self, leaf: int, product: str, amount: int, *, bound: Collection[int] = ()) -> bool:
        """Whether so many more accelerators of the product are within all quotas."""
        kind = self.quotas.kind(leaf, product)
        return all(usage.fits(leaf, kind, amount) for usage in self.holding(bound))

    def is_full(self, leaf: int, *, bound: Collection[int] = ()) -> bool:
        """Whether no further job may run."""
        return any(usage.is_full(leaf) is not None for usage in self.holding(bound))

    def add(self, leaf: int, product: str, amount: int, *, jobs: int, bound: Collection[int] = ()) -> None:
        """So many more accelerators and jobs, or fewer."""
        kind = self.quotas.kind(leaf, product)
        for usage in self.holding(bound):
            usage.add(leaf, kind, amount, jobs=jobs)


def compile_quotas(snapshot: types.Snapshot) -> Quotas | None:
    """The trees of the snapshot's queues, and the default queue; None without any queue."""
    if not snapshot.queues:
        return None
    capacity: dict[str, int] = {}
    for node in snapshot.nodes:
        capacity[node.product] = capacity.get(node.product, 0) + node.allocatable.accelerators
    return of_queues(snapshot.queues, capacity=capacity)


def of_queues(known: Sequence[Queue], *, capacity: Mapping[str, int]) -> Quotas:
    """The trees of these queues, and the default queue; ValueError with what is wrong with them."""
    wrong = queues.faults(known)
    if wrong:
        raise ValueError("; ".join(f'queue "{name}": {what}' for name, what in wrong.items()))
    return _Builder(sorted(known, key=lambda queue: queue.name)).build(capacity)


class _Builder:
    """Branches from the leaves up."""

    def __init__(self, known: Sequence[Queue]) -> None:
        self._children: dict[str, list[Queue]] = {}
        for queue in known:
            self._children.setdefault(queue.parent, []).append(queue)
        self._branches: list[Branch] = []
        self._leaf_of: dict[str, int] = {}
        self._named: dict[int, frozenset[str]] = {}

    def build(self, capacity: Mapping[str, int]) -> Quotas:
        """All trees, in the order of names, and the default queue last."""
        roots = []
        for queue in [*self._children.get("", ()), Queue(DEFAULT)]:
            first = len(self._branches)
            names = self._names(queue)
            roots.append(self._add(queue, most=None, names=names))
            self._named |= dict.fromkeys(range(first, len(self._branches)), names)
        return Quotas(
            branches=tuple(self._branches),
            leaf_of=self._leaf_of,
            capacity=capacity,
            named=tuple(self._named[i] for i in range(len(self._branches))),
            roots=tuple(roots),
        )

    def _below(self, queue: Queue) -> list[Queue]:
        return self._children.get(queue.name, []) if queue.name else []

    def _names(self, queue: Queue) -> frozenset[str]:
        """The products that the tree under the queue names."""
        own = {quota.product for quota in queue.quotas}
        return frozenset(own.union(*(self._names(child) for child in self._below(queue))))

    def _add(self, queue: Queue, *, most: int | None, names: frozenset[str], of_its_own: bool = False) -> int:
        own = queue.max_accelerators_per_job
        most = own if most is None else most if own is None else min(most, own)
        below = [] if of_its_own else self._below(queue)
        children = [self._add(child, most=most, names=names) for child in below]
        quotas = {quota.product: quota for quota in queue.quotas}
        if below:
            children.append(self._add(replace(queue, weight_milli=1000), most=most, names=names, of_its_own=True))
            owned = {kind: sum(self._lent(child, kind) for child in children) for kind in names}
        else:
            owned = {kind: quotas[kind].nominal if kind in quotas else 0 for kind in names}
        index = len(self._branches)
        for child in children:
            self._branches[child] = replace(self._branches[child], parent=index)
        if not below:
            self._leaf_of[queue.name] = index
        # What a queue of its own jobs may lend and borrow is the affair of the queue itself.
        limits = {} if of_its_own else quotas
        lend = {kind: quota.lending_limit for kind, quota in limits.items()}
        borrow = {kind: quota.borrowing_limit for kind, quota in limits.items()}
        self._branches.append(
            Branch(
                index=index,
                queue=queue.name,
                parent=ROOT,
                weight_milli=queue.weight_milli,
                owned=owned,
                kept={kind: max(owned[kind] - most, 0) for kind, most in lend.items() if most is not None},
                limit=self._limits(owned, borrow=borrow, is_root=not queue.parent and not of_its_own),
                is_limited=bool(names),
                max_running_jobs=None if of_its_own else queue.max_running_jobs,
                max_accelerators_per_job=most,
                preemption=queue.preemption,
                children=tuple(children),
            )
        )
        return index

    def _lent(self, child: int, kind: str) -> int:
        branch = self._branches[child]
        return branch.owned[kind] - branch.kept.get(kind, 0)

    @staticmethod
    def _limits(owned: Mapping[str, int], *, borrow: Mapping[str, int | None], is_root: bool) -> dict[str, int]:
        if is_root:
            return dict(owned)
        return {kind: owned[kind] + more for kind, more in borrow.items() if more is not None}


def usage_of(quotas: Quotas, jobs: Sequence[types.Job]) -> Usage:
    """What the running ones of these jobs use."""
    usage = Usage(quotas)
    for job in jobs:
        if job.placement is not None:
            leaf = quotas.leaf(job)
            amount = job.placement.num_pods * job.pod.accelerators
            usage.add(leaf, quotas.kind(leaf, job.placement.product), amount, jobs=1)
    return usage
