"""The terms of one waiting job as rows of the programme of ``disruption``: (6) to (8), (11) and (12) there.

What must stay true: whoever leaves by the rows ``terms`` allows to leave; rows that cannot bind are left out, and
nothing else.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pulp

from stowplan_allocator import quota_rows
from stowplan_allocator.namespaces import Key
from stowplan_allocator.quota_rows import Term
from stowplan_allocator.reclaiming import Claim
from stowplan_allocator.terms import Terms
from stowplan_allocator.victims import Way

Row = tuple[list[Term], str, float]


@dataclass(frozen=True, slots=True)
class TermRows:
    """Rows over the ways to give room (leave_j, y_{j,k}) and the products that the job may take (z).

    ``variable`` makes integers from 0 to a number, by kind. ``excess`` are e_v, once the rows were asked for;
    ``sparing``: none is above 0.
    """

    terms: Terms
    ways: Sequence[tuple[Way, pulp.LpVariable]]
    products: Sequence[tuple[str, pulp.LpVariable]]
    variable: Callable[[str, float], pulp.LpVariable]
    sparing: bool = False
    excess: list[pulp.LpVariable] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """Terms, how they compare, and with what."""
        if self.terms.claim is not None:
            yield from self._quotas(self.terms.claim)
            yield from self._lent_only(self.terms.claim)
        if self.terms.bill is not None:
            freed: dict[Key, list[Term]] = defaultdict(list)
            for way, leave in self.ways:
                for key, amount in self.terms.bill.given_back(way):
                    freed[key].append((leave, -float(amount)))
            for key, missing in self.terms.bill.missing().items():
                yield freed[key], "<=", -float(missing)  # (8)
        if self.terms.guard is not None:
            stopped: dict[int, list[Term]] = defaultdict(list)
            for way, leave in self.ways:
                for i, pods in self.terms.guard.pods.get(way.job.id, ()):
                    stopped[i].append((leave, float(pods)))
            for i, some in stopped.items():
                yield some, "<=", float(max(self.terms.guard.left[i], 0))  # (11)

    def _quotas(self, claim: Claim) -> Iterator[Row]:
        terms: dict[tuple[int, str], list[Term]] = defaultdict(list)
        for product, z in self.products:
            terms[claim.leaf, claim.quotas.kind(claim.leaf, product)].append((z, float(claim.size)))
        owned: dict[tuple[int, str], pulp.LpVariable] = {}
        for way, leave in self.ways:
            holding, owner = claim.holding(way.job, size=way.size), claim.owner(way.job)
            if holding.amount:
                terms[holding.leaf, holding.kind].append((leave, -float(holding.amount)))
            if owner is not None:
                if owner not in owned:
                    owned[owner] = self.variable("w", 1)
                yield [(leave, 1.0), (owned[owner], -1.0)], "<=", 0.0  # (12)
        rows = quota_rows.rows(
            claim.quotas,
            usage=claim.usage,
            terms=terms,
            variable=functools.partial(self.variable, "r"),
            owned=owned,
            comes=self._comes(claim),
        )
        for left, right in rows:
            yield left, "<=", right  # (6), (12)

    def _comes(self, claim: Claim) -> dict[tuple[int, str], list[pulp.LpVariable]]:
        """Where the job surely counts, by kinds that it may take: what branches keep for themselves may end there."""
        found: dict[tuple[int, str], list[pulp.LpVariable]] = defaultdict(list)
        for product, z in self.products:
            kind, amount = claim.quotas.kind(claim.leaf, product), claim.size
            for branch in claim.quotas.path(claim.leaf):
                if amount > 0:
                    found[branch.index, kind].append(z)
                amount -= branch.kept.get(kind, 0)
        return found

    def _lent_only(self, claim: Claim) -> Iterator[Row]:
        """(7)."""
        for beyond, amounts in claim.floors([way for way, _ in self.ways]).values():
            total = float(sum(amounts.values()))
            given = [(self.ways[i][1], float(amount)) for i, amount in amounts.items()]
            if total <= beyond:
                continue
            if self.sparing:
                yield given, "<=", float(beyond)
                continue
            t, e = self.variable("t", total), self.variable("e", total - beyond)
            self.excess.append(e)
            yield [*given, (t, -1.0)], "==", 0.0
            yield [(t, 1.0), (e, -1.0)], "<=", float(beyond)
            for i, amount in amounts.items():
                yield [(t, 1.0), (self.ways[i][1], total)], "<=", beyond - 1 + amount + total
