"""How queues stand: what each uses, owns, borrows and has lent, what its jobs wait for, and its part of the cluster.

Figures for people; no plan depends on them. They are counted as ``quotas`` counts, each queue with all below it. What
must stay true: what a queue uses is what its jobs hold; the fair part of a queue is never more than it uses and waits
for; the fair parts of the queues of one parent are together no more than that of the parent.

The fair part (``ideal``). Of each product, what is used and asked for is divided from the top down: every queue first
gets what its subtree owns, the rest goes by weight, until nobody wants more (water-filling: all rise to one level of
amount / weight). That is where the turns of ``fairness`` lead if jobs were as small as one accelerator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator import quotas, types
from stowplan_allocator.quotas import ROOT, Branch, Quotas, Usage

_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Line:
    """Accelerators of one product. ``nominal`` is the queue's own quota, None without one; ``owned`` its subtree's.

    ``borrowed`` are used beyond what it owns; ``lent`` are owned and could not be had now because others use them:
    queues of the tree, of its quota, and guests, of what quotas would leave it, as far as too little is free.
    """

    product: str
    nominal: int | None
    owned: int
    used: int
    pending: int
    borrowed: int
    lent: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A queue with all below it; the empty name is the default queue. ``share`` and ``ideal`` are parts of the cluster.

    ``pending`` counts accelerators of waiting jobs, ``share`` is of the product of which the queue has most.
    """

    queue: str
    lines: tuple[Line, ...]
    running: int
    waiting: int
    pending: int
    share: float
    ideal: float


def standings(
    queues: Sequence[types.Queue], jobs: Iterable[types.Job], *, capacity: Mapping[str, int]
) -> dict[str, Standing]:
    """By name, the default queue included. ``capacity`` is of each product; a job with a placement runs.

    A waiting job that takes any product counts for the most common one.
    """
    shared = quotas.of_queues(queues, capacity=capacity)
    everyone = list(jobs)
    usage = quotas.usage_of(shared, everyone)
    wanted = _wanted(shared, everyone, capacity=capacity)
    owned = _owned(shared)
    ideal = _Division(shared, owned=owned, usage=usage, wanted=wanted).parts()
    room = _Room(shared, everyone)
    own = {queue.name: {quota.product: quota.nominal for quota in queue.quotas} for queue in queues}
    found = {}
    for branch in shared.branches:
        if branch.parent != ROOT and shared.branches[branch.parent].queue == branch.queue:
            continue  # the queue's own jobs, which the queue counts too
        used, pending = usage.totals.get(branch.index, {}), wanted.totals.get(branch.index, {})
        nominal = own.get(branch.queue, {})
        kinds = {kind for kind in (*used, *pending, *nominal) if kind}
        kinds |= {kind for kind, amount in owned[branch.index].items() if amount}
        found[branch.queue] = Standing(
            queue=branch.queue,
            lines=tuple(
                _line(
                    branch,
                    kind,
                    usage=usage,
                    room=room,
                    nominal=nominal.get(kind),
                    owned=owned[branch.index].get(kind, 0),
                    pending=pending.get(kind, 0),
                )
                for kind in sorted(kinds)
            ),
            running=usage.jobs.get(branch.index, 0),
            waiting=wanted.jobs.get(branch.index, 0),
            pending=sum(pending.values()),
            share=max((_part(shared, branch, kind, amount) for kind, amount in used.items()), default=0.0),
            ideal=max(
                (_part(shared, branch, kind, amount) for kind, amount in ideal[branch.index].items()), default=0.0
            ),
        )
    return found


def _owned(shared: Quotas) -> list[dict[str, int]]:
    """Nominal quotas by kind, of every branch with all below it, lent or not."""
    found: list[dict[str, int]] = []
    for branch in shared.branches:  # children come before their parents
        if not branch.children:
            found.append(dict(branch.owned))
            continue
        total: dict[str, int] = {}
        for child in branch.children:
            for kind, amount in found[child].items():
                total[kind] = total.get(kind, 0) + amount
        found.append(total)
    return found


class _Room:
    """What is free of each kind, whoever owns it, and what guests use of it."""

    def __init__(self, shared: Quotas, jobs: Iterable[types.Job]) -> None:
        self._shared = shared
        self._used: dict[str, int] = {}
        self._guests: dict[str, int] = {}
        for job in jobs:
            if job.placement is not None:
                product, amount = job.placement.product, job.placement.num_pods * job.pod.accelerators
                self._used[product] = self._used.get(product, 0) + amount
                if not shared.branches[shared.leaf(job)].is_limited:
                    self._guests[product] = self._guests.get(product, 0) + amount

    def of(self, branch: Branch, kind: str) -> tuple[int, int]:
        """Free accelerators, and those of guests, of what the kind stands for in the tree of the branch."""
        used, guests = (
            sum(amount for product, amount in amounts.items() if self._shared.kind(branch.index, product) == kind)
            for amounts in (self._used, self._guests)
        )
        return max(self._shared.capacity_of(branch.index, kind) - used, 0), guests


def _line(
    branch: Branch, kind: str, *, usage: Usage, room: _Room, nominal: int | None, owned: int, pending: int
) -> Line:
    # Of what is owned below, only what may be lent reaches the branch, and only that is borrowed and lent here.
    reached, most = usage.used.get((branch.index, kind), 0), branch.owned.get(kind, 0)
    left = usage.left(branch.index, kind) if branch.is_limited else most
    free, guests = room.of(branch, kind)
    unused = max(most - reached, 0)
    to_be_had = min(unused, left)
    return Line(
        product=kind,
        nominal=nominal,
        owned=owned,
        used=usage.totals.get(branch.index, {}).get(kind, 0),
        pending=pending,
        borrowed=max(reached - most, 0) if branch.is_limited else 0,
        lent=unused - to_be_had + min(max(to_be_had - free, 0), guests),
    )


def _part(shared: Quotas, branch: Branch, kind: str, amount: float) -> float:
    return amount / max(shared.capacity_of(branch.index, kind), 1)


def _wanted(shared: Quotas, jobs: Iterable[types.Job], *, capacity: Mapping[str, int]) -> Usage:
    """What waiting jobs ask for, as if they had it on the product that they would like best."""
    common = max(sorted(capacity), key=lambda product: capacity[product], default="")
    wanted = Usage(shared)
    for job in jobs:
        if job.placement is None:
            leaf = shared.leaf(job)
            product = (
                max(job.products, key=lambda one: one.relative_throughput_milli).product if job.products else common
            )
            wanted.add(leaf, shared.kind(leaf, product), job.num_pods * job.pod.accelerators, jobs=1)
    return wanted


class _Division:
    """Of each product, what is used and asked for, divided fairly."""

    def __init__(self, shared: Quotas, *, owned: Sequence[Mapping[str, int]], usage: Usage, wanted: Usage) -> None:
        self._shared = shared
        self._owned = owned
        self._demand: list[dict[str, int]] = []
        for branch in shared.branches:
            used, pending = usage.totals.get(branch.index, {}), wanted.totals.get(branch.index, {})
            self._demand.append({kind: used.get(kind, 0) + pending.get(kind, 0) for kind in {*used, *pending}})

    def parts(self) -> list[dict[str, float]]:
        """Amounts by kind, of every branch."""
        found: list[dict[str, float]] = [{} for _ in self._shared.branches]
        # A kind is of a tree: "*" stands for other products in each.
        for kind in sorted({kind for demand in self._demand for kind in demand}):
            room = max((self._shared.capacity_of(root, kind) for root in self._shared.roots), default=0)
            self._divide(self._shared.roots, kind, float(room), most=self._most(kind), found=found)
        return found

    def _divide(
        self, among: Sequence[int], kind: str, room: float, *, most: Sequence[int], found: list[dict[str, float]]
    ) -> None:
        high = [float(most[index]) for index in among]
        low = [min(float(self._owned[index].get(kind, 0)), high[i]) for i, index in enumerate(among)]
        weights = [self._shared.branches[index].weight_milli for index in among]
        for index, amount in zip(among, _level(low, high, weights=weights, room=room), strict=True):
            if amount:
                found[index][kind] = amount
                self._divide(self._shared.branches[index].children, kind, amount, most=most, found=found)

    def _most(self, kind: str) -> list[int]:
        """What each branch would use of what is asked for in it, if nobody else asked for anything: (1) and (2)."""
        most: list[int] = []
        reach: list[int] = []
        for branch in self._shared.branches:  # children come before their parents
            asked = sum(reach[child] for child in branch.children)
            below = sum(most[child] - reach[child] for child in branch.children)
            if not branch.children:
                asked = self._demand[branch.index].get(kind, 0)
            limit = branch.most(kind) if branch.is_limited else None
            here = asked if limit is None else min(asked, limit)
            most.append(below + here)
            reach.append(max(here - branch.kept.get(kind, 0), 0))
        return most


def _level(least: Sequence[float], most: Sequence[float], *, weights: Sequence[int], room: float) -> list[float]:
    """Amounts between ``least`` and ``most`` that rise to one level of amount / weight, all together in the room."""
    if sum(least) >= room:
        return [amount * room / sum(least) if sum(least) else 0.0 for amount in least]
    if sum(most) <= room:
        return list(most)

    def at(level: float) -> list[float]:
        return [min(max(low, level * weight), high) for low, high, weight in zip(least, most, weights, strict=True)]

    low, high = 0.0, max(amount / weight for amount, weight in zip(most, weights, strict=True))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(at(middle)) > room else (middle, high)
    return at(low)
