"""What mixes of pods some nodes can hold, exactly: dynamic programming over nodes.

Sets
    i ∈ K            kinds: a block of pods that must stay on one node, and the cells that may take it
    n ∈ N            nodes, with what is free; P_n the maximal mixes (p_i) of kinds that n holds
Data
    b_i              blocks of kind i that must find room; one kind, the asked one, has no such number
Recursion
    f_0(0) = 0, f_0(a) = −∞ otherwise
    f_n(a) = max over p ∈ P_n of f_{n−1}(max(a − p, 0)) + p_asked          for 0 ≤ a ≤ b
Answer
    f_N(b): how many blocks of the asked kind fit beside all others, however they are moved

The table has Π (b_i + 1) entries, so this is for few kinds. Where sizes divide each other and
accelerators alone bind, no table is needed: the number is the least over all sizes s of what
is left of the whole slots of s, and filling by size, the largest first, always reaches it.
What must stay true: the answer is exact, and the nodes that ``nodes`` gives hold it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Vector

MAX_PATTERNS = 250
MAX_WORK = 60_000_000  # nodes × patterns × entries
UNREACHED = -(1 << 30)

Mix = tuple[int, ...]
Table = NDArray[np.int32]


class TooMany(Exception):  # noqa: N818 - not an error: the strategy goes on without this profile
    """The table would be too large."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A block of pods and the cells that may take it."""

    block: Vector
    cells: frozenset[int]


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on one node."""

    node: int
    cell: int
    free: Vector


@dataclass(frozen=True, slots=True)
class Filling:
    """``most`` blocks of the asked kind fit beside the others; ``nodes`` is the mix that each node then takes."""

    most: int
    nodes: tuple[tuple[int, Mix], ...]


def fill(rooms: Sequence[Room], *, kinds: Sequence[Kind], beside: Mix, asked: int) -> Filling | None:
    """The most blocks of kind ``asked`` beside ``beside[i]`` blocks of the others; None where these alone do not fit.

    ``beside[asked]`` blocks of the asked kind are part of the answer. Raises ``TooMany``.
    """
    if _is_nested(rooms, kinds=kinds):
        return _by_size(rooms, kinds=kinds, beside=beside, asked=asked)
    return _by_table(rooms, kinds=kinds, beside=beside, asked=asked)


def _is_nested(rooms: Sequence[Room], *, kinds: Sequence[Kind]) -> bool:
    """Whether sizes divide each other, every node takes every kind, and accelerators bind before all else."""
    sizes = sorted({kind.block[0] for kind in kinds})
    if not sizes or not sizes[0] or any(big % small for small, big in itertools.pairwise(sizes)):
        return False
    cells = {room.cell for room in rooms}
    if any(not cells <= kind.cells for kind in kinds):
        return False
    return all(
        kind.block[d] * room.free[0] <= room.free[d] * kind.block[0]
        for room in {room.free: room for room in rooms}.values()
        for kind in kinds
        for d in range(1, len(room.free))
    )


def _by_size(rooms: Sequence[Room], *, kinds: Sequence[Kind], beside: Mix, asked: int) -> Filling | None:
    frees = [room.free[0] for room in rooms]
    others = [(kind.block[0], 0 if i == asked else beside[i]) for i, kind in enumerate(kinds)]
    wanted = kinds[asked].block[0]
    most = sum(free // wanted for free in frees)
    for size in sorted({size for size, _ in others}):
        left = sum(free // size for free in frees) - sum(other // size * count for other, count in others)
        if left < 0:
            return None
        if size <= wanted:
            most = min(most, left // (wanted // size))
    counts = [most if i == asked else count for i, (_, count) in enumerate(others)]
    mixes = [[0] * len(kinds) for _ in rooms]
    for i in sorted(range(len(kinds)), key=lambda i: (-kinds[i].block[0], i)):
        size, missing = kinds[i].block[0], counts[i]
        # The fullest nodes first, so that what stays free stays whole.
        for n in sorted(range(len(rooms)), key=lambda n: (frees[n], n)):
            here = min(frees[n] // size, missing)
            mixes[n][i] += here
            frees[n] -= here * size
            missing -= here
        assert not missing, "filling by size failed although the slots suffice"
    return Filling(most, tuple((room.node, tuple(mix)) for room, mix in zip(rooms, mixes, strict=True)))


def _by_table(rooms: Sequence[Room], *, kinds: Sequence[Kind], beside: Mix, asked: int) -> Filling | None:
    others = [i for i in range(len(kinds)) if i != asked and beside[i]]
    shape = tuple(beside[i] + 1 for i in others)
    entries = int(np.prod(shape, dtype=np.float64)) if shape else 1
    known: dict[tuple[int, Vector], list[Mix]] = {}
    work = 0
    for room in rooms:
        key = room.cell, room.free
        if key not in known:
            limits = [count if i in others else 0 for i, count in enumerate(beside)]
            known[key] = patterns(room, kinds=kinds, limits=limits, asked=asked)
        work += len(known[key]) * entries
        if work > MAX_WORK:
            raise TooMany
    table: Table = np.full(shape, UNREACHED, dtype=np.int32)
    table[(0,) * len(shape)] = 0
    steps: list[NDArray[np.uint8]] = []
    for room in rooms:
        offers = []
        for mix in known[room.cell, room.free]:
            sources = np.ix_(*(np.maximum(np.arange(n) - mix[i], 0) for i, n in zip(others, shape, strict=True)))
            offers.append((table[sources] if others else table) + np.int32(mix[asked]))
        stacked = np.stack(offers)
        steps.append(stacked.argmax(axis=0).astype(np.uint8))
        table = stacked.max(axis=0)
    most = int(table[tuple(n - 1 for n in shape)])
    if most < 0:
        return None
    return Filling(most, tuple(_trace(rooms, steps=steps, known=known, others=others, beside=beside, asked=asked)))


def _trace(
    rooms: Sequence[Room],
    *,
    steps: Sequence[NDArray[np.uint8]],
    known: dict[tuple[int, Vector], list[Mix]],
    others: Sequence[int],
    beside: Mix,
    asked: int,
) -> list[tuple[int, Mix]]:
    """Walk back through the choices: what each node takes."""
    left = [beside[i] for i in others]
    found = []
    for room, step in zip(reversed(rooms), reversed(steps), strict=True):
        pattern = known[room.cell, room.free][int(step[tuple(left)])]
        mix = [0] * len(pattern)
        mix[asked] = pattern[asked]
        for position, i in enumerate(others):
            mix[i] = min(pattern[i], left[position])
            left[position] -= mix[i]
        found.append((room.node, tuple(mix)))
    assert not any(left), "the walk back lost blocks"
    return found[::-1]


def patterns(room: Room, *, kinds: Sequence[Kind], limits: Sequence[int], asked: int) -> list[Mix]:
    """The maximal mixes that the room holds, no kind beyond its limit; the asked kind has none. Raises ``TooMany``."""
    order = [i for i in range(len(kinds)) if i != asked and limits[i]]
    found: dict[Mix, None] = {}

    def descend(position: int, free: Vector, mix: Mix) -> None:
        if position == len(order):
            count = problems.slots(free, kinds[asked].block) if room.cell in kinds[asked].cells else 0
            found[(*mix[:asked], count, *mix[asked + 1 :])] = None
            if len(found) > 40 * MAX_PATTERNS:
                raise TooMany
            return
        i = order[position]
        fitting = min(problems.slots(free, kinds[i].block), limits[i]) if room.cell in kinds[i].cells else 0
        for count in range(fitting + 1):
            left = tuple(have - need * count for have, need in zip(free, kinds[i].block, strict=True))
            descend(position + 1, left, (*mix[:i], count, *mix[i + 1 :]))

    descend(0, room.free, (0,) * len(kinds))
    # A mix that dominates another has a larger sum, so it stands before it.
    maximal: list[Mix] = []
    for mix in sorted(found, key=lambda mix: (-sum(mix), mix)):
        if not any(all(a <= b for a, b in zip(mix, other, strict=True)) for other in maximal):
            maximal.append(mix)
            if len(maximal) > MAX_PATTERNS:
                raise TooMany
    return maximal
