"""How much of a node's free accelerators the usual requests could not use: fragmentation as FGD measures it.

"Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (USENIX ATC'23):
against one request, a node's free accelerators are fragments where the request does not fit on the node at all,
and where it does, those devices on which too little is free for it. A request without accelerators makes
fragments of all of them. The measure of a node is the expectation over the usual requests; a policy that places
every pod where this grows least walks down its gradient.

What must stay true: amounts are integers and weights add up to 1, so that the measure of a node lies between 0
and what is free on its devices; nothing here depends on how many nodes there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

WHOLE = 1000


@dataclass(frozen=True, slots=True)
class Want:
    """One kind of request and how often it comes: ``milli`` of each of ``num_gpus`` devices, and other amounts.

    ``kinds`` are the kinds of node that will do; None stands for all.
    """

    num_gpus: int
    milli: int
    others: tuple[int, ...]
    weight: float = 1.0
    kinds: frozenset[str] | None = None

    @property
    def total_milli(self) -> int:
        """What it takes of all its devices together."""
        return self.num_gpus * self.milli


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on one node: in thousandths of each device, and of everything else."""

    kind: str
    devices: tuple[int, ...]
    others: tuple[int, ...]


def weighted(wants: Iterable[Want]) -> tuple[Want, ...]:
    """The same requests with weights that add up to 1."""
    wants = tuple(wants)
    total = sum(want.weight for want in wants)
    return tuple(replace(want, weight=want.weight / total) for want in wants if want.weight > 0)


def usual(wants: Iterable[Want], *, share: float) -> tuple[Want, ...]:
    """The most frequent requests that together make up ``share`` of all, with weights that add up to 1."""
    ranked = sorted(weighted(wants), key=lambda want: (-want.weight, want.num_gpus, want.milli, want.others))
    kept: list[Want] = []
    covered = 0.0
    for want in ranked:
        if covered >= share:
            break
        kept.append(want)
        covered += want.weight
    return weighted(kept)


def fits(want: Want, room: Room) -> bool:
    """Whether one such request fits into the room."""
    if want.kinds is not None and room.kind not in want.kinds:
        return False
    if any(need > have for need, have in zip(want.others, room.others, strict=True)):
        return False
    return sum(free >= want.milli for free in room.devices) >= want.num_gpus


def fragment(want: Want, room: Room) -> int:
    """What this request could not use of the room's devices, in thousandths of one."""
    if want.num_gpus == 0 or not fits(want, room):
        return sum(room.devices)
    return sum(free for free in room.devices if free < want.milli)


def expected(room: Room, *, wants: Sequence[Want]) -> float:
    """The room's fragmentation: the expectation of ``fragment`` over requests whose weights add up to 1."""
    return sum(want.weight * fragment(want, room) for want in wants)


def after(room: Room, want: Want) -> tuple[Room, ...]:
    """The different rooms that placing the request may leave: one for each device that a share could go to.

    Devices are ordered by what is free on them; whole devices are alike.
    """
    if not fits(want, room):
        return ()
    others = tuple(have - need for have, need in zip(room.others, want.others, strict=True))
    if want.num_gpus == 0:
        return (replace(room, others=others),)
    fitting = sorted({free for free in room.devices if free >= want.milli})
    if want.num_gpus > 1 or want.milli == WHOLE:
        fitting = fitting[-1:]
    return tuple(
        Room(room.kind, _taken(room.devices, level, want), others)
        for level in fitting
        if room.devices.count(level) >= want.num_gpus
    )


def _taken(devices: tuple[int, ...], level: int, want: Want) -> tuple[int, ...]:
    left = list(devices)
    for _ in range(want.num_gpus):
        left[left.index(level)] -= want.milli
        # A device that was just taken from is not taken from again.
        left.sort(reverse=True)
    return tuple(left)
