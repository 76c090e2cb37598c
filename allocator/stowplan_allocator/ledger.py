"""How many pods of one kind each domain holds, kept up to date while pods are placed.

Placing a gang asks for the narrowest and fullest domain that holds it. Counting all cells
anew for every job makes a plan grow with jobs times cells; a ledger looks only at the cells
that have changed since it was asked last, and finds the domain by one pass over sums. What
must stay true: ``choose`` answers what ``topology.choose_cells`` answers for the same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stowplan_allocator import topology
from stowplan_allocator.problem import Cell, Path


class Layout:
    """Which domain of every level each cell lies in; all ledgers of the same cells share one."""

    def __init__(self, cells: Sequence[Cell], *, num_levels: int) -> None:
        self.cells = cells
        self.num_levels = num_levels
        self.homes: list[dict[int, int]] = []
        self.members: list[list[list[Cell]]] = []
        for level in range(num_levels):
            members: dict[Path, list[Cell]] = {}
            for cell in cells:
                if cell.path[level] is not None:
                    members.setdefault(cell.path[: level + 1], []).append(cell)
            # In the order of their names, so that of equal sums the first one found is the first by name.
            ordered = [members[path] for path in sorted(members, key=topology.path_key)]
            self.members.append(ordered)
            self.homes.append({cell.index: i for i, inside in enumerate(ordered) for cell in inside})


class Ledger:
    """Pods by cell and by domain of every level. The cells must not change; what they hold may."""

    def __init__(self, layout: Layout, *, count: Callable[[int], int]) -> None:
        """``count`` tells how many pods a cell holds now."""
        self._layout = layout
        self._count = count
        self.slots = {cell.index: count(cell.index) for cell in layout.cells}
        self.total = sum(self.slots.values())
        self._sums = [
            [sum([self.slots[cell.index] for cell in inside]) for inside in members] for members in layout.members
        ]

    def refresh(self, changed: set[int]) -> None:
        """Count these cells anew."""
        for index in changed & self.slots.keys():
            more = self._count(index) - self.slots[index]
            if more:
                self.slots[index] += more
                self.total += more
                for homes, sums in zip(self._layout.homes, self._sums, strict=True):
                    if index in homes:
                        sums[homes[index]] += more

    def choose(self, num_pods: int, *, required: int | None) -> list[topology.Share] | None:
        """Split the pods over cells, inside the narrowest and fullest domain that holds all of them."""
        if self.total < num_pods:
            return None
        for level in range(self._layout.num_levels - 1, -1 if required is None else required - 1, -1):
            sums = self._sums[level]
            best = min((held for held in sums if held >= num_pods), default=None)
            if best is not None:
                return self._spread(num_pods, cells=self._layout.members[level][sums.index(best)], level=level)
        return None if required is not None else self._spread(num_pods, cells=self._layout.cells, level=-1)

    def _spread(self, num_pods: int, *, cells: Sequence[Cell], level: int) -> list[topology.Share]:
        return topology.spread_over(
            num_pods, cells=cells, slots=self.slots, level=level, num_levels=self._layout.num_levels
        )
