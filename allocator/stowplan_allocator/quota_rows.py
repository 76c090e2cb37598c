"""Quotas, and limits of namespaces, as rows of an integer programme.

The limits are (1) of ``namespaces``. Quotas are (1) and (2) of ``quotas`` with u as variables:

    r_c ≥ u_c − g_c, r_c ≥ 0       what reaches the parent of c, where c keeps something (else it is u_c itself)
    u_v = own terms + Σ_c r_c      in terms of what a programme places, and of what it lets go
    u_v ≤ max(limit_v, what runs)  a limit that is exceeded already lets nothing more in;
    u_v ≤ limit_v                  where somebody surely comes in, as others leave for him

Only upper limits are asked, so that r_c may be any number above the larger of the two: the rows
are exact. What must stay true: rows that cannot bind are left out, and nothing else.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Never

import pulp

from stowplan_allocator.namespaces import Key
from stowplan_allocator.problem import Problem
from stowplan_allocator.quotas import Quotas, Usage

Term = tuple[pulp.LpVariable, float]
Row = tuple[list[Term], float]
# Accelerators as terms, by leaf and kind.
Terms = Mapping[tuple[int, str], Sequence[Term]]
NOTHING: Mapping[tuple[int, str], Never] = MappingProxyType({})


def limits(
    problem: Problem,
    *,
    blocks: Mapping[tuple[int, int, int], pulp.LpVariable],
    variable: Callable[[str, float], pulp.LpVariable],
) -> Iterator[Row]:
    """Every row for blocks of pods by shape, cell and size, in every state of the cluster that has to hold."""
    if problem.quotas is not None and problem.allowance is not None:
        allowance = problem.allowance
        states = [(None, usage) for usage in allowance.states]
        kept = [(number, usage) for number, usages in allowance.kept.items() for usage in usages]
        for number, usage in [*states, *kept]:
            terms: dict[tuple[int, str], list[Term]] = defaultdict(list)
            for (p, c, size), x in blocks.items():
                request = problem.shapes[p].request
                if request.vector[0] and (number is None or number in request.bound):
                    kind = problem.quotas.kind(request.leaf, problem.cells[c].product)
                    terms[request.leaf, kind].append((x, float(size * request.vector[0])))
            yield from rows(problem.quotas, usage=usage, terms=terms, variable=functools.partial(variable, "r"))
    if problem.namespaces is not None:
        charged: dict[Key, list[Term]] = defaultdict(list)
        for (p, _, size), x in blocks.items():
            for key, amount in problem.shapes[p].request.charges:
                charged[key].append((x, float(size * amount)))
        for key, some in charged.items():
            reach = sum(factor * float(x.upBound or 0) for x, factor in some)
            left = max(problem.left[key], 0)
            if reach > left:
                yield some, float(left)


def rows(
    quotas: Quotas,
    *,
    usage: Usage,
    terms: Terms,
    variable: Callable[[float], pulp.LpVariable],
    owned: Mapping[tuple[int, str], pulp.LpVariable] = NOTHING,
    comes: Mapping[tuple[int, str], Sequence[pulp.LpVariable]] = NOTHING,
) -> Iterator[Row]:
    """Rows of terms and what they may add up to at most, beside what is used; ``variable`` makes r.

    Where a variable of ``owned`` is 1, its branch uses no more of the kind than it owns; where one of ``comes`` is 1,
    somebody comes into it.
    """
    here: dict[tuple[int, str], list[Term]] = defaultdict(list)
    for (leaf, kind), some in terms.items():
        if quotas.branches[leaf].is_limited:
            here[leaf, kind] += some
    kinds = sorted({kind for _, kind in (*here, *owned)})
    # What of the usage the terms of a branch speak of already.
    spoken: dict[tuple[int, str], int] = defaultdict(int)
    for branch in quotas.branches:
        for kind in kinds:
            own = here.get((branch.index, kind), [])
            used = usage.used.get((branch.index, kind), 0)
            base = used - spoken[branch.index, kind]
            most = branch.most(kind)
            reach = sum(factor * float(some.upBound or 0) for some, factor in own if factor > 0)
            beyond = base + reach - branch.owned.get(kind, 0)
            if (branch.index, kind) in owned and beyond > 0:
                yield [*own, (owned[branch.index, kind], beyond)], reach
            if not own:
                continue
            over = 0 if most is None else max(used - most, 0)
            entering = [(one, float(over)) for one in comes.get((branch.index, kind), ()) if over]
            if most is not None and (entering or reach > most + over - base):
                yield [*own, *entering], float(most + over - base)
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
