"""Policies by rank for long replays, with preemption or without, on equal nodes of accelerators.

The policies that we compare with need a decider of their own, and ours with preemption needs
one that decides in a millisecond: ``plan()`` looks for the cheapest victims with proof, this for
cheap ones. The rules are those of ``plan()`` with ``preemption: QueueOrder``: a running job may
lose its place to one whose turn is before where it stands; of all nodes that would do, the ones
where that costs the least, and of those the ones whose victims stand furthest behind. What must
stay true: nobody loses his place unless the job that comes then fits; of two jobs that could
start, the first in the queue does.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence

from stowplan_allocator import types
from stowplan_allocator.simulate import deciding, live
from stowplan_allocator.simulate.lives import Life


class Strict(live.ByLiveStock):
    """Nobody starts before the first in the queue has a place: no backfilling."""

    def _fill(self) -> list[tuple[int, types.Placement]]:
        starts = []
        while self._queues:
            kind = min(self._queues, key=self._queues.key)
            placement = self._room.place(kind)
            if placement is None:
                break
            starts.append((self._queues.pop(kind).number, placement))
        self._open.clear()
        return starts


class Displacing(live.ByLiveStock):
    """Backfilling, and running jobs lose their place to those ranked before where they stand."""

    def __init__(
        self, nodes: Sequence[types.Node], *, jobs: Sequence[types.Job], rank: live.Rank, standing: live.Rank
    ) -> None:
        if not live.is_plain(jobs) or any(job.topology or job.products or job.priority for job in jobs):
            raise ValueError("displacing by rank takes jobs without products, topology and priority")
        super().__init__(nodes, jobs=jobs, levels=(), settings=types.Settings(), rank=rank)
        self._standing = standing
        self._stands: dict[int, live.Key] = {}
        self._stands_at = -1

    def released(self, life: Life, *, placement: types.Placement) -> None:
        """See ``Decider``."""
        super().released(life, placement=placement)
        self._stands.pop(life.number, None)

    def decide(self, now: int, *, running: Iterable[Life]) -> deciding.Decision:
        """See ``Decider``."""
        lives = list(running)
        decision = super().decide(now, running=lives)
        if not self._queues:
            return decision
        if now != self._stands_at:
            self._stands = {life.number: self._standing(life, now) for life in lives}
            self._stands_at = now
        last = max(self._stands.values(), default=None)
        for kind in sorted(self._queues, key=self._queues.key):
            if last is None or self._queues.key(kind) >= last:
                break
            victims = self._victims(kind, lives=lives)
            if victims:
                return deciding.Decision(decision.starts, victims)
        return decision

    def _victims(self, kind: Hashable, *, lives: Iterable[Life]) -> list[int]:
        """Who must go for the first of this kind; nobody where not even that would do."""
        key, request = self._queues.key(kind), self._room.requests[kind]
        behind = [life for life in lives if life.number in self._stands and self._stands[life.number] > key]
        behind.sort(key=lambda life: self._stands[life.number], reverse=True)
        held: dict[str, list[tuple[int, int, Life]]] = {}
        for position, life in enumerate(behind):
            assert life.placement is not None, "a job stands without a place"
            for share in life.placement.shares:
                here = share.num_pods * life.job.pod.accelerators
                held.setdefault(share.node, []).append((position, here, life))
        offers = []
        for name, free in self._room.free():
            leaving = _enough(held.get(name, ()), short=request.vector[0] - free)
            if leaving is not None:
                cost = sum(life.accelerators for _, _, life in leaving)
                furthest = max((position for position, _, _ in leaving), default=-1)
                offers.append((cost, furthest, name, leaving))
        if len(offers) < request.num_pods:
            return []
        offers.sort(key=lambda offer: offer[:3])
        chosen = itertools.chain.from_iterable(leaving for *_, leaving in offers[: request.num_pods])
        return list(dict.fromkeys(life.number for _, _, life in chosen))


def _enough(held: Sequence[tuple[int, int, Life]], *, short: int) -> list[tuple[int, int, Life]] | None:
    """Of those on a node, furthest behind first, as few as free what is short; None where all are too few."""
    leaving: list[tuple[int, int, Life]] = []
    for one in held:
        if short <= 0:
            break
        leaving.append(one)
        short -= one[1]
    if short > 0:
        return None
    for one in leaving[::-1]:
        if short + one[1] <= 0:
            leaving.remove(one)
            short += one[1]
    return leaving
