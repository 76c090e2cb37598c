"""The quotas as rows of an integer programme: (1) and (2) of ``quotas`` with u as variables.

    r_c ≥ u_c − g_c, r_c ≥ 0       what reaches the parent of c, where c keeps something (else it is u_c itself)
    u_v = own terms + Σ_c r_c      in terms of what a programme places, and of what it lets go
    u_v ≤ max(limit_v, what runs)  a limit that is exceeded already lets nothing more in

Only upper limits are asked, so that r_c may be any number above the larger of the two: the rows
are exact. What must stay true: rows that cannot bind are left out, and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import pulp

from stowplan_allocator.quotas import Quotas, Usage

Term = tuple[pulp.LpVariable, float]
Row = tuple[list[Term], float]
# Accelerators as terms, by leaf and kind.
Terms = Mapping[tuple[int, str], Sequence[Term]]


def rows(quotas: Quotas, *, usage: Usage, terms: Terms, variable: Callable[[float], pulp.LpVariable]) -> Iterator[Row]:
    """Rows of terms and what they may add up to at most, beside what is used; ``variable`` makes r."""
    here: dict[tuple[int, str], list[Term]] = defaultdict(list)
    for (leaf, kind), some in terms.items():
        if quotas.branches[leaf].is_limited:
            here[leaf, kind] += some
    kinds = sorted({kind for _, kind in here})
    # What of the usage the terms of a branch speak of already.
    spoken: dict[tuple[int, str], int] = defaultdict(int)
    for branch in quotas.branches:
        for kind in kinds:
            own = here.get((branch.index, kind))
            if not own:
                continue
            used = usage.used.get((branch.index, kind), 0)
            base = used - spoken[branch.index, kind]
            most = branch.most(kind)
            reach = sum(factor * float(some.upBound or 0) for some, factor in own if factor > 0)
            if most is not None and reach > max(most, used) - base:
                yield own, float(max(most, used) - base)
            above = (branch.parent, kind)
            kept = branch.kept.get(kind, 0)
            if not kept:
                here[above] += own
                spoken[above] += spoken[branch.index, kind]
            elif base + reach > kept:
                r = variable(float(max(base + reach - kept, 0)))
                yield [*own, (r, -1.0)], float(kept - base)
                here[above].append((r, 1.0))
                spoken[above] += max(used - kept, 0)
