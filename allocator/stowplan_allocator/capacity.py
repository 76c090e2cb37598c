"""Constraint (3) of the model: what a cell's nodes hold, as inequalities over counts.

Two kinds of rows bound how many blocks nodes can take. Whole slots of one size along one
resource; and, where these do not tell all, weights of blocks against the most weight that each
node holds, found by looking at the node's own room. What must stay true: every row holds for
every packing of the cell, and a row that cannot bind is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pulp

from stowplan_allocator import holding
from stowplan_allocator.problem import Vector

Term = tuple[pulp.LpVariable, float]
Block = tuple[Vector, pulp.LpVariable, int]  # what a block takes, how many there are, and its pods
Row = tuple[list[Term], float]


class Capacity:
    """Makes the rows; what nodes of equal room hold is remembered from cell to cell, and from model to model."""

    def __init__(self) -> None:
        self._holding = holding.Holding()
        self._useful: dict[tuple[holding.Item, ...], tuple[holding.Item, ...]] = {}

    def rows(
        self, blocks: Sequence[Block], *, phantoms: Mapping[int, pulp.LpVariable], rooms: Mapping[Vector, int]
    ) -> Iterator[Row]:
        """For each resource, whole slots of every size that could bind; ``rooms`` are the free amounts of nodes."""
        vectors = {vector for vector, _, _ in blocks}
        loose = not slots_tell_all(vectors, rooms=rooms)
        for r in range(len(next(iter(rooms)))):
            amounts = {vector[r] for vector in vectors if vector[r]}
            largest = max(room[r] for room in rooms)
            sizes = {1} | (amounts | phantoms.keys() if r == 0 else {a for a in amounts if a * 4 > largest})
            for s in sorted(sizes):
                held = {size: size // s for size in phantoms} if r == 0 else {}
                weights = {vector: vector[r] // s for vector in vectors}
                right = sum(number * (room[r] // s) for room, number in rooms.items())
                terms = _weighed(blocks, weights=weights)
                terms += [(phantoms[size], weight) for size, weight in held.items() if weight]
                yield from self._row(terms, weights=weights, held=held, right=right, rooms=rooms if loose else {})
            if loose and amounts:
                for least in holding.thresholds(amounts, largest=largest):
                    weights = {v: holding.threshold_weight(v[r], least=least, largest=largest) for v in vectors}
                    right = largest * sum(rooms.values())
                    terms = _weighed(blocks, weights=weights)
                    yield from self._row(terms, weights=weights, held={}, right=right, rooms=rooms)

    def _row(
        self,
        terms: Sequence[tuple[pulp.LpVariable, int]],
        *,
        weights: Mapping[Vector, int],
        held: Mapping[int, int],
        right: int,
        rooms: Mapping[Vector, int],
    ) -> Iterator[Row]:
        """Blocks and phantoms by weight, at most ``right``, or less where a closer look at ``rooms`` says so."""
        if rooms:
            alone = (0,) * (len(next(iter(rooms))) - 1)
            items = tuple(sorted([*weights.items(), *(((size, *alone), weight) for size, weight in held.items())]))
            if items not in self._useful:
                self._useful[items] = holding.useful(items)
            items = self._useful[items]
            closer = [self._holding.most(room, items) for room in rooms]
            if None not in closer:
                holds = zip(rooms.values(), closer, strict=True)
                right = min(right, sum(number * (most or 0) for number, most in holds))
        if sum(factor * int(variable.upBound or 0) for variable, factor in terms) <= right:
            return
        divisor = math.gcd(*(factor for _, factor in terms))
        yield [(v, float(factor // divisor)) for v, factor in terms], float(right // divisor)


def _weighed(blocks: Sequence[Block], *, weights: Mapping[Vector, int]) -> list[tuple[pulp.LpVariable, int]]:
    return [(x, weights[vector]) for vector, x, _ in blocks if weights[vector]]


def slots_tell_all(vectors: Iterable[Vector], *, rooms: Iterable[Vector]) -> bool:
    """Whether sizes divide each other and nothing but accelerators can run out: then whole slots are exact."""
    pods = sorted(vectors)
    if any(not pod[0] for pod in pods) or any(b[0] % a[0] for a, b in itertools.pairwise(pods)):
        return False
    dims = range(1, len(pods[0])) if pods else ()
    dearest = [max(pod[d] / pod[0] for pod in pods) for d in dims]
    return all(room[d] >= room[0] * dear for room in rooms for d, dear in zip(dims, dearest, strict=True))
