"""What is still free while a plan is being made, and which node a pod takes.

Nodes of a cell with equal free amounts stand in one bucket, so a choice looks at the
different amounts and not at the nodes. What must stay true: a pod goes only where all its
amounts fit; of the nodes it may take, it takes the one where it destroys the least, the
largest slots counting first (plain best fit can waste one: free 4, 6, 6, place 1); and of
equal nodes the first by name, so that the same questions get the same answers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from stowplan_allocator import problem as problems
from stowplan_allocator.ledger import Layout, Ledger
from stowplan_allocator.namespaces import Spare
from stowplan_allocator.problem import Cell, Vector
from stowplan_allocator.quotas import Allowance
from stowplan_allocator.scarce import Scarce

Take = tuple[int, int]  # node index, pods


class Stock:
    """Free amounts by cell. Cheap to copy; ``version`` grows with each change of a cell."""

    def __init__(
        self,
        cells: Sequence[Sequence[int]],
        *,
        free: Sequence[Vector],
        sizes: Sequence[int],
        least: Sequence[tuple[int, int]] = (),
        scarce: Scarce | None = None,
        allowance: Allowance | None = None,
        spare: Spare | None = None,
    ) -> None:
        """``least`` is what any pod takes at least of each further resource: (amount, for so many accelerators).

        ``allowance`` is what queues may still use, ``spare`` what is left of the limits of namespaces. ``greedy`` takes
        from them; whoever takes from cells sees to it.
        """
        self.allowance = allowance
        self.spare = spare
        self.free: list[Vector] = list(free)
        self.least = tuple(least)
        self.scarce = scarce
        self.sizes = tuple(sorted(sizes, reverse=True))
        self.version = [0] * len(cells)
        self.buckets: list[dict[Vector, list[int]]] = []
        self._slots: dict[Vector, dict[Vector, int]] = {}
        self._costs: dict[Vector, dict[Vector, tuple[int, ...]]] = {}
        self._costs_by_sizes = {self.sizes: self._costs}
        self._totals: dict[Vector, dict[int, tuple[int, int]]] = {}
        self._changes: list[int] = []
        self._ledgers: dict[tuple[Vector, int], tuple[Ledger, int]] = {}
        self._layouts: dict[int, Layout] = {}
        for members in cells:
            buckets: dict[Vector, list[int]] = {}
            for node in sorted(members):
                buckets.setdefault(self.free[node], []).append(node)
            self.buckets.append(buckets)

    def copy(self) -> Stock:
        """An independent copy; remembered slots and costs are shared, as they never change."""
        twin = object.__new__(Stock)
        twin.free = list(self.free)
        twin.sizes = self.sizes
        twin.least = self.least
        twin.scarce = self.scarce
        twin.version = list(self.version)
        twin.buckets = [{room: list(nodes) for room, nodes in buckets.items()} for buckets in self.buckets]
        twin._slots = self._slots
        twin._costs = self._costs
        twin._costs_by_sizes = self._costs_by_sizes
        twin._totals = {pod: dict(known) for pod, known in self._totals.items()}
        twin._changes = []
        twin._ledgers = {}
        twin._layouts = self._layouts
        twin.allowance = None if self.allowance is None else self.allowance.copy()
        twin.spare = None if self.spare is None else self.spare.copy()
        return twin

    def weigh(self, sizes: Iterable[int]) -> None:
        """From now on count what a pod destroys in slots of these sizes."""
        self.sizes = tuple(sorted(sizes, reverse=True))
        self._costs = self._costs_by_sizes.setdefault(self.sizes, {})

    def slots_in(self, room: Vector, pod: Vector) -> int:
        """How many such pods fit into the room (remembered)."""
        known = self._slots.setdefault(pod, {})
        count = known.get(room)
        if count is None:
            count = known[room] = problems.slots(room, pod)
        return count

    def slots(self, cell: int, pod: Vector) -> int:
        """How many such pods the cell holds, nothing else being added."""
        known = self._totals.setdefault(pod, {})
        version = self.version[cell]
        total = known.get(cell)
        if total is None or total[0] != version:
            count = 0
            need = pod[0]
            for room, nodes in self.buckets[cell].items():
                if room[0] >= need:
                    count += len(nodes) * self.slots_in(room, pod)
            total = known[cell] = (version, count)
        return total[1]

    def ledger(self, cells: Sequence[Cell], *, pod: Vector, num_levels: int) -> Ledger:
        """What these cells hold of such pods. Ask with the same sequence again, not with a copy of it."""
        key = (pod, id(cells))
        found, seen = self._ledgers.get(key, (None, 0))
        if found is None:
            # The layout holds on to the sequence, so that no other one can get its identity.
            layout = self._layouts.get(id(cells))
            if layout is None:
                layout = self._layouts[id(cells)] = Layout(cells, num_levels=num_levels)
            found = Ledger(layout, count=lambda cell: self.slots(cell, pod))
        elif seen < len(self._changes):
            found.refresh(set(self._changes[seen:]))
        self._ledgers[key] = (found, len(self._changes))
        return found

    def take(self, cell: int, pod: Vector, count: int) -> list[Take]:
        """Place up to ``count`` such pods in the cell; returns what was taken, in order."""
        taken: dict[int, int] = {}
        buckets = self.buckets[cell]
        for _ in range(count):
            best: tuple[tuple[int, ...], int, Vector] | None = None
            for room, nodes in buckets.items():
                if room[0] >= pod[0] and self.slots_in(room, pod):
                    offer = (self._cost(room, pod), nodes[0], room)
                    if best is None or offer < best:
                        best = offer
            if best is None:
                break
            node = self._move(cell, best[2], tuple(have - need for have, need in zip(best[2], pod, strict=True)))
            taken[node] = taken.get(node, 0) + 1
        return list(taken.items())

    def slots_apart(self, cell: int, pod: Vector, most: int) -> int:
        """How many such pods the cell holds, at most so many of them on one node."""
        return sum(len(nodes) * min(self.slots_in(room, pod), most) for room, nodes in self.buckets[cell].items())

    def take_apart(self, cell: int, pod: Vector, count: int, *, most: int) -> list[Take]:
        """Like ``take``, with at most so many pods on one node."""
        taken: dict[int, int] = {}
        for _ in range(count):
            offers = [
                (self._cost(room, pod), node)
                for room, nodes in self.buckets[cell].items()
                if self.slots_in(room, pod)
                for node in nodes
                if taken.get(node, 0) < most
            ]
            if not offers:
                break
            _, node = min(offers)
            self.take_on(cell, node, pod, 1)
            taken[node] = taken.get(node, 0) + 1
        return list(taken.items())

    def take_on(self, cell: int, node: int, pod: Vector, count: int) -> None:
        """Take ``count`` such pods from one node; whether they fit is the caller's promise."""
        room = self.free[node]
        left = tuple(have - need * count for have, need in zip(room, pod, strict=True))
        assert min(left) >= 0, "a pod was put where it does not fit"
        self._move(cell, room, left, node=node)

    def give_back(self, cell: int, pod: Vector, taken: Sequence[Take]) -> None:
        """Undo a ``take``."""
        for node, count in taken:
            room = self.free[node]
            back = tuple(have + need * count for have, need in zip(room, pod, strict=True))
            self._move(cell, room, back, node=node)

    def _move(self, cell: int, room: Vector, left: Vector, *, node: int | None = None) -> int:
        buckets = self.buckets[cell]
        nodes = buckets[room]
        if node is None:
            node = heapq.heappop(nodes)
        else:
            nodes.remove(node)
            heapq.heapify(nodes)
        if not nodes:
            del buckets[room]
        heapq.heappush(buckets.setdefault(left, []), node)
        self.free[node] = left
        self.version[cell] += 1
        self._changes.append(cell)
        return node

    def _cost(self, room: Vector, pod: Vector) -> tuple[int, ...]:
        """What the pod destroys in such a room.

        First the accelerators that it strands beside the ones it takes, because what is left
        of another resource is not enough for any pod that could take them; then what no pod
        will take of the resource that runs out first; then slots by size, the largest first;
        then what it leaves over.
        """
        known = self._costs.setdefault(pod, {})
        cost = known.get(room)
        if cost is None:
            left = tuple(have - need for have, need in zip(room, pod, strict=True))
            lost = tuple(room[0] // size - left[0] // size for size in self.sizes)
            stranded = self._usable(room) - self._usable(left) - pod[0]
            wasted = self.scarce.wasted(room, left=left) if self.scarce is not None else 0
            cost = known[room] = (max(stranded, 0), wasted, *lost, *left)
        return cost

    def _usable(self, room: Vector) -> int:
        """Accelerators that the other resources suffice for."""
        usable = room[0]
        for have, (amount, accelerators) in zip(room[1:], self.least, strict=False):
            if amount:
                usable = min(usable, have * accelerators // amount)
        return usable
