"""Filling a cell node by node, each as full as what is left allows.

Largest first wastes room where sizes do not divide each other: 5, 5, 3, 3 on two nodes of 8
goes well only if each 5 gets its 3. Here each node in turn gets the largest pod that is left
and, beside it, what fills it best. What must stay true: the stock is changed only by a filling
that places everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stowplan_allocator.problem import Vector
from stowplan_allocator.stock import Stock, Take

MAX_STEPS = 400
MAX_NODES = 300


@dataclass(frozen=True, slots=True)
class Block:
    """``count`` pods alike, at most ``most`` of them on one node, each of which is so large a ``share`` of the cell."""

    vector: Vector
    count: int
    most: int
    share: float


def fill_nodes(nodes: Sequence[int], *, cell: int, blocks: Sequence[Block], stock: Stock) -> list[list[Take]] | None:
    """What each of the blocks takes, or None."""
    if len(nodes) > MAX_NODES:
        return None
    ranked = sorted(range(len(blocks)), key=lambda i: (-blocks[i].share, blocks[i].vector, i))
    left = [blocks[i].count for i in ranked]
    takes: list[list[Take]] = [[] for _ in blocks]
    for node in sorted(nodes, key=lambda node: (stock.free[node], node)):
        chosen = _best(stock.free[node], blocks=[blocks[i] for i in ranked], left=left)
        for position, count in enumerate(chosen):
            if count:
                takes[ranked[position]].append((node, count))
                left[position] -= count
    if any(left):
        return None
    for block, taken in zip(blocks, takes, strict=True):
        for node, count in taken:
            stock.take_on(cell, node, block.vector, count)
    return takes


def _best(room: Vector, *, blocks: Sequence[Block], left: Sequence[int]) -> list[int]:
    """How many of each to put into the room: with the largest that fits, and then as much as fits."""
    steps = 0
    best: list[int] = [0] * len(blocks)
    worth = -1.0
    counts = [0] * len(blocks)

    def descend(room: Vector, position: int, value: float) -> None:
        nonlocal steps, best, worth
        steps += 1
        if value > worth + 1e-9:
            worth, best = value, list(counts)
        for i in range(position, len(blocks)):
            if steps > MAX_STEPS:
                return
            rest = tuple(have - need for have, need in zip(room, blocks[i].vector, strict=True))
            if counts[i] < min(left[i], blocks[i].most) and min(rest) >= 0:
                counts[i] += 1
                descend(rest, i, value + blocks[i].share)
                counts[i] -= 1
                if position == 0 and not any(counts):
                    return  # only with the largest that fits

    descend(room, 0, 0.0)
    return best
