"""How much one node can hold at most, counted by any weights: exact where whole slots are not.

Whole slots tell all where pod sizes divide each other. A node with 8 free holds no pod of 4
beside one of 5, and no slot of any size says so; nor do slots of one resource know that
another one runs out. A small search over what fits together does. What must stay true:
``most`` is never less than any set of pods that fits into the room weighs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stowplan_allocator.problem import Vector

MAX_STEPS = 2_000

# What a pod takes, and what it weighs.
Item = tuple[Vector, int]


class Holding:
    """Remembers what rooms hold at most."""

    def __init__(self) -> None:
        self._known: dict[tuple[Vector, tuple[Item, ...]], int | None] = {}

    def most(self, room: Vector, items: tuple[Item, ...]) -> int | None:
        """The largest weight of pods, any number of each item, that fit together; None where that takes too long."""
        key = (room, items)
        if key not in self._known:
            self._known[key] = _most(room, items)
        return self._known[key]


def useful(items: Iterable[Item]) -> tuple[Item, ...]:
    """The items without those that another one betters: takes no more and weighs no less. Heavy ones first."""
    kept: list[Item] = []
    for vector, weight in sorted(set(items), key=lambda item: (-item[1], item[0])):
        if weight and not any(
            heavier >= weight and all(a <= b for a, b in zip(smaller, vector, strict=True)) for smaller, heavier in kept
        ):
            kept.append((vector, weight))
    return tuple(kept)


def thresholds(sizes: Iterable[int], *, largest: int) -> list[int]:
    """The λ that differ for these sizes: see ``threshold_weight``."""
    found = set(sizes) | {largest - size + 1 for size in sizes}
    return sorted(size for size in found if 1 < size <= largest // 2)


def threshold_weight(size: int, *, least: int, largest: int) -> int:
    """What a pod of the size weighs if pods below ``least`` are left out: all of a node that no other pod fits on."""
    if size < least:
        return 0
    return largest if size > largest - least else size


def _most(room: Vector, items: Sequence[Item]) -> int | None:
    known: dict[tuple[Vector, int], int] = {}
    steps = 0

    def best(left: Vector, first: int) -> int:
        """The most that items from the first on add to what is left."""
        nonlocal steps
        if first == len(items):
            return 0
        key = (left, first)
        found = known.get(key)
        if found is None:
            steps += 1
            if steps > MAX_STEPS:
                raise _TooLongError
            found = best(left, first + 1)
            vector, weight = items[first]
            rest = tuple(have - need for have, need in zip(left, vector, strict=True))
            if min(rest) >= 0:
                found = max(found, weight + best(rest, first))
            known[key] = found
        return found

    try:
        return best(room, 0)
    except _TooLongError:
        return None


class _TooLongError(Exception):
    pass
