"""Whose place a job may take where there are queues, and what of a quota its victims must give back.

A job may take the place of

- a job of its own queue of lower priority (policy ``WithinQueue``); of equal priority only one that has had much
  more (policy ``LeastAttained``);
- a job of another queue that borrows (policy ``ReclaimLent``). At the nearest common ancestor the side of
  the job must own what it then uses, itself included, once all who leave for it have left; and on the
  other side every queue from the victim's up must use more than it owns, even without what all other
  victims have. Where the two have no common ancestor, the victim must be a guest: of a tree without
  quotas; the job's tree is its side.

So nobody is evicted for what would be borrowed again, and a queue loses what it owns to another one only as the
rest of a gang that also borrows. That is its ``excess``: the set of victims with the least is taken, whatever it
costs. What elastic jobs can do without may be taken of whom the policy names, whatever their
priority. All is asked of the state in which those who were told to leave are gone, and those ahead
stand. What must stay true: of victims that are ``admissible`` together any part is; more victims never make
``enough`` less, nor more of those below a queue ``is_owned``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from stowplan_allocator import reserving, types
from stowplan_allocator.queues import QueuePreemption
from stowplan_allocator.quotas import DEFAULT, ROOT, Allowance, Branch, Quotas, Usage
from stowplan_allocator.victims import Victim, Way, deepest


@dataclass(frozen=True, slots=True)
class Holding:
    """What a running job has of a quota. ``claimed`` is what its product counts as where the claiming job stands."""

    leaf: int
    kind: str
    amount: int
    claimed: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What a branch loses by a victim, and what it uses beyond what it owns."""

    branch: int
    amount: int
    beyond: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One job's right to the places of others. ``size`` is in accelerators; ``allowance`` the state described above.

    ``bound`` are the reservations that the job may outlast.
    """

    allowance: Allowance
    job: types.Job
    size: int
    bound: frozenset[int] = frozenset()
    held: dict[tuple[str, int], Holding] = field(default_factory=dict)

    @property
    def quotas(self) -> Quotas:
        """The queues."""
        return self.allowance.quotas

    @property
    def usage(self) -> Usage:
        """What is used."""
        return self.allowance.states[0]

    @property
    def leaf(self) -> int:
        """Where the job counts."""
        return self.quotas.leaf(self.job)

    def holding(self, victim: types.Job, *, size: int = 0) -> Holding:
        """What the victim gives back if it keeps so many pods."""
        known = self.held.get((victim.id, size))
        if known is None:
            leaf, product, pods = self.quotas.leaf(victim), "", 0
            if victim.placement is not None:
                product, pods = victim.placement.product, victim.placement.num_pods - size
            amount = pods * victim.pod.accelerators
            known = Holding(leaf, self.quotas.kind(leaf, product), amount, self.quotas.kind(self.leaf, product))
            self.held[victim.id, size] = known
        return known

    def is_same_queue(self, victim: types.Job) -> bool:
        """Whether the two are of one queue."""
        return self.quotas.leaf(victim) == self.leaf

    def is_open_to(self, victim: types.Job) -> bool:
        """Whether the job may take the victim's place, if it is owned once others have left."""
        return self.is_open_to_shrink(victim) and (
            not self.is_same_queue(victim) or victim.priority < self.job.priority
        )

    def is_open_to_equal(self, victim: types.Job, *, settings: types.Settings) -> bool:
        """Whether the queue lets the job take the place of one of equal priority; outside of queues the settings do."""
        if not self.is_same_queue(victim):
            return False
        if self.leaf == self.quotas.leaf_of[DEFAULT]:
            return settings.preemption is types.Preemption.LEAST_ATTAINED
        return QueuePreemption.LEAST_ATTAINED in self.quotas.branches[self.leaf].preemption

    def is_open_to_shrink(self, victim: types.Job) -> bool:
        """Whether the job may take what the victim can do without; how much its priority says, within one queue."""
        policy = self.quotas.branches[self.leaf].preemption
        if self.is_same_queue(victim):
            return QueuePreemption.WITHIN_QUEUE in policy
        if QueuePreemption.RECLAIM_LENT not in policy:
            return False
        holding = self.holding(victim)
        mine, theirs = self._sides(holding.leaf)
        if not mine[-1].is_limited or (mine[-1].parent == ROOT and theirs[-1].is_limited):
            return False
        return bool(holding.amount) and all(loss.beyond > 0 for loss in self._losses(holding))

    def _sides(self, leaf: int) -> tuple[list[Branch], list[Branch]]:
        """Below the nearest common ancestor: the job's branches and those of the other leaf, from the leaves up."""
        mine, theirs = self.quotas.path(self.leaf), self.quotas.path(leaf)
        while mine and theirs and mine[-1].index == theirs[-1].index:
            mine, theirs = mine[:-1], theirs[:-1]
        return mine, theirs

    def owner(self, victim: types.Job) -> tuple[int, str] | None:
        """The branch that must own what it uses if the victim leaves, and of which kind; None within one queue."""
        if self.is_same_queue(victim):
            return None
        holding = self.holding(victim)
        return self._sides(holding.leaf)[0][-1].index, holding.claimed

    def _owns(self, owner: tuple[int, str], *, usage: Usage) -> bool:
        """Whether the branch owns what it uses with the job."""
        index, kind = owner
        amount = self.size
        for branch in self.quotas.path(self.leaf):
            used, kept = usage.used.get((branch.index, kind), 0), branch.kept.get(kind, 0)
            if branch.index == index:
                return used + amount <= branch.owned.get(kind, 0)
            amount = max(used + amount - kept, 0) - max(used - kept, 0)
        raise AssertionError("a side ends at its top")

    def is_owned(self, victims: Sequence[Way]) -> bool:
        """Whether the job's side owns what it uses for each of the victims, once all of them have left."""
        owners = {owner for victim in victims if (owner := self.owner(victim.job)) is not None}
        owners = {owner for owner in owners if not self._owns(owner, usage=self.usage)}
        return not owners or self._is_owned_without(owners, victims=victims)

    def _is_owned_without(self, owners: Iterable[tuple[int, str]], *, victims: Sequence[Way]) -> bool:
        usage = self._without(victims).states[0]
        return all(self._owns(owner, usage=usage) for owner in owners)

    def may_be_owned(self, ways: Sequence[Way]) -> list[Way]:
        """Those for whom the job's side could own what it uses, if all others whom that asks for leave."""
        owners = {way.job.id: self.owner(way.job) for way in ways}
        open_to = [owner for owner in owners.values() if owner is not None]
        ranks = {branch.index: rank for rank, branch in enumerate(self.quotas.path(self.leaf))}
        owned: set[tuple[int, str] | None] = {None}
        # From below: who leaves there makes the branches above use less.
        for owner in sorted(set(open_to), key=lambda one: (ranks[one[0]], one[1])):
            below = [way for way in ways if owners[way.job.id] in owned]
            if self._owns(owner, usage=self.usage) or self._is_owned_without([owner], victims=deepest(below)):
                owned.add(owner)
        return [way for way in ways if owners[way.job.id] in owned]

    def _without(self, victims: Iterable[Way]) -> Allowance:
        allowance = self.allowance.copy()
        for victim in victims:
            holding = self.holding(victim.job, size=victim.size)
            bound = reserving.binding(name for name, _ in victim.job.pod.other)
            allowance.add(holding.leaf, holding.kind, -holding.amount, jobs=0 if victim.size else -1, bound=bound)
        return allowance

    def admissible(self, victims: Iterable[Victim], *, sparing: bool = False) -> list[Victim]:
        """Those of the victims, the first first, that may leave together, as far as what they have says it.

        ``sparing``: without any ``excess``.
        """
        found = []
        lost: dict[tuple[int, str], tuple[int, int]] = {}
        for victim in victims:
            holding = self.holding(victim.job, size=victim.size)
            after = {}
            for loss in self._losses(holding):
                total, least = lost.get((loss.branch, holding.kind), (0, loss.amount))
                total, least = total + loss.amount, min(least, loss.amount)
                if total - (0 if sparing else least) >= loss.beyond + sparing:
                    break
                after[loss.branch, holding.kind] = total, least
            else:
                lost |= after
                found.append(victim)
        return found

    def _losses(self, holding: Holding) -> Iterator[Loss]:
        """What each branch loses to another queue, from the victim's up: nothing of what is kept below reaches it."""
        amount = holding.amount
        for branch in self._sides(holding.leaf)[1]:
            used, kept = self.usage.used.get((branch.index, holding.kind), 0), branch.kept.get(holding.kind, 0)
            yield Loss(branch.index, amount, used - branch.owned.get(holding.kind, 0))
            amount = max(used - kept, 0) - max(used - amount - kept, 0)

    def enough(self, product: str, victims: Iterable[Victim]) -> bool:
        """Whether the quotas let the job stand on the product once these have left."""
        left = self._without(victims)
        return not left.is_full(self.leaf, bound=self.bound) and left.fits(
            self.leaf, product, self.size, bound=self.bound
        )

    def frees(self, product: str, victim: types.Job) -> bool:
        """Whether the victim's end could matter to the job's quota, or to its queues' number of jobs."""
        holding = self.holding(victim)
        same_tree = self.quotas.path(holding.leaf)[-1].index == self.quotas.path(self.leaf)[-1].index
        return same_tree and (not holding.amount or holding.kind == self.quotas.kind(self.leaf, product))

    def excess(self, victims: Sequence[Way]) -> int:
        """What other queues lose of their own, in accelerators: what victims have beyond what their queue borrows.

        It is counted at each queue from a victim's up, so a team's loss may be its department's, too.
        """
        found = self.floors(victims).values()
        return sum(max(sum(given.values()) - beyond, 0) for beyond, given in found)

    def floors(self, victims: Sequence[Way]) -> dict[tuple[int, str], tuple[int, dict[int, int]]]:
        """For each branch and kind that loses to another queue: what it uses beyond its own, and amounts by victim.

        Of several victims it loses no more than their amounts together.
        """
        found: dict[tuple[int, str], tuple[int, dict[int, int]]] = {}
        for i, victim in enumerate(victims):
            holding = self.holding(victim.job, size=victim.size)
            for loss in self._losses(holding):
                found.setdefault((loss.branch, holding.kind), (loss.beyond, {}))[1][i] = loss.amount
        return found
