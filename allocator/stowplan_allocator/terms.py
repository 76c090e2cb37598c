"""What must hold of the victims of one waiting job, beside that its gang then has room.

    quotas       what ``reclaiming`` says: who may leave together, and what of a quota must come back
    limits       (1) of ``namespaces`` with the job, once the victims have left
    budgets      (1) of ``budgets``: which gangs may stop together

What must stay true: more victims never make ``enough`` less; of victims that are ``admissible`` together any part is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stowplan_allocator import types
from stowplan_allocator.budgets import Guard
from stowplan_allocator.namespaces import Charges, Key, Namespaces
from stowplan_allocator.reclaiming import Claim
from stowplan_allocator.victims import Shrink, Victim, Way


@dataclass(frozen=True, slots=True)
class Bill:
    """What the job takes of its namespace's limits in all, and what is left of these while nobody leaves."""

    namespaces: Namespaces
    needed: Mapping[Key, int]
    left: Mapping[Key, int]
    held: dict[tuple[str, int], Charges] = field(default_factory=dict)

    def given_back(self, victim: Victim | Shrink) -> Charges:
        """What the victim frees of what the job needs."""
        job = victim.job
        known = self.held.get((job.id, victim.size))
        if known is None:
            pods = job.placement.num_pods - victim.size if job.placement is not None else 0
            charges = self.namespaces.charges(job)
            known = tuple((key, pods * amount) for key, amount in charges if key in self.needed)
            self.held[job.id, victim.size] = known
        return known

    def missing(self, victims: Iterable[Victim] = ()) -> dict[Key, int]:
        """What lacks once these have left; nothing where the limits allow the job."""
        left = {key: self.left[key] for key in self.needed}
        for victim in victims:
            for key, amount in self.given_back(victim):
                left[key] += amount
        return {key: need - left[key] for key, need in self.needed.items() if need > left[key]}


def bill_of(job: types.Job, *, num_pods: int, namespaces: Namespaces, left: Mapping[Key, int]) -> Bill:
    """The bill of a waiting job that comes with so many pods."""
    return Bill(namespaces, {key: num_pods * each for key, each in namespaces.charges(job)}, left)


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one job.

    Without a ``claim`` there are no queues, without a ``bill`` no limits of its namespace, without a ``guard`` no
    budgets.
    """

    claim: Claim | None = None
    bill: Bill | None = None
    guard: Guard | None = None

    def enough(self, product: str, victims: Iterable[Victim]) -> bool:
        """Whether the job may stand on the product once these have left."""
        leaving = list(victims)
        if self.bill is not None and self.bill.missing(leaving):
            return False
        return self.claim is None or self.claim.enough(product, leaving)

    def frees(self, product: str, victim: Victim | Shrink) -> bool:
        """Whether the victim's end could matter, wherever it stands."""
        if self.bill is not None:
            missing = self.bill.missing()
            if any(key in missing for key, _ in self.bill.given_back(victim)):
                return True
        return self.claim is not None and self.claim.frees(product, victim.job)

    def admissible(self, victims: Iterable[Victim], *, sparing: bool = False) -> list[Victim]:
        """Those of the victims, the first first, that may leave together; ``sparing``: without any ``excess``."""
        found = list(victims) if self.claim is None else self.claim.admissible(victims, sparing=sparing)
        return found if self.guard is None else self.guard.admissible(found)

    def is_owned(self, victims: Sequence[Victim]) -> bool:
        """Whether what the job takes is owned, once these have left."""
        return self.claim is None or self.claim.is_owned(victims)

    def may_be_owned(self, ways: Sequence[Way]) -> list[Way]:
        """Those who could leave for what is owned."""
        return list(ways) if self.claim is None else self.claim.may_be_owned(ways)

    def excess(self, victims: Sequence[Victim]) -> int:
        """What other queues lose of their own."""
        return 0 if self.claim is None else self.claim.excess(victims)

    def allows(self, product: str, victims: Sequence[Victim]) -> bool:
        """Whether these may leave together, and are enough."""
        if len(self.admissible(victims)) < len(victims) or not self.is_owned(victims):
            return False
        return self.enough(product, victims)
