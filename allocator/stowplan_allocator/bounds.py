"""Proofs that cost no solver: why a job cannot start beside those already admitted.

A job fits only if, for every size s, the room for whole slots of s in the cells that it may
use is at least what it and every admitted job confined to those cells take of it. What must
stay true: ``cannot_fit`` answers True only where no placement of all of them exists, however
the admitted ones are moved; False means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from stowplan_allocator import greedy
from stowplan_allocator.problem import Problem, Request, Vector

Sizes = tuple[tuple[int, int], ...]  # (dimension, size): whole slots of ``size`` along the dimension


class Bounds:
    """Remembers, for each set of cells, its whole slots and which requests are confined to it."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._blocks = [greedy.block_of(request, num_levels=len(problem.levels)) for request in problem.requests]
        # Equal requests of all queues have the same choice.
        options = {one.first: self._option_sets(one) for one in problem.requests if one.index == one.first}
        self._options = [options[request.first] for request in problem.requests]
        self._reach = [frozenset(indexes) for indexes in problem.cells_of]
        self._confined: dict[frozenset[int], list[int]] = {}
        self._slots: dict[tuple[frozenset[int], int, int], int] = {}

    def cannot_fit(self, request: Request, *, admitted: Mapping[int, int]) -> bool:
        """Whether one more such job is impossible beside ``admitted`` (request index to number of jobs)."""
        options = self._options[request.index]
        if not options:
            return True
        if self._overfull(self._reach[request.index], request=request, admitted=admitted):
            return True
        return all(self._overfull(cells, request=request, admitted=admitted) for cells in options)

    def _overfull(self, cells: frozenset[int], *, request: Request, admitted: Mapping[int, int]) -> bool:
        confined = self._confined.get(cells)
        if confined is None:
            confined = [i for i, reach in enumerate(self._reach) if reach <= cells]
            self._confined[cells] = confined
        num_blocks, block = self._blocks[request.index]
        for dim, size in _sizes_of(block):
            need = num_blocks * (block[dim] // size)
            for other in confined:
                number = admitted.get(other, 0)
                if number:
                    others_blocks, others_block = self._blocks[other]
                    need += number * others_blocks * (others_block[dim] // size)
            if need > self._slots_in(cells, dim=dim, size=size):
                return True
        return False

    def _slots_in(self, cells: frozenset[int], *, dim: int, size: int) -> int:
        known = self._slots.get((cells, dim, size))
        if known is None:
            problem = self._problem
            known = sum(problem.free[node][dim] // size for cell in cells for node in problem.cells[cell].nodes)
            self._slots[cells, dim, size] = known
        return known

    def _option_sets(self, request: Request) -> list[frozenset[int]]:
        """One set of cells for each product, and within it for each domain of a required level, that could hold it."""
        sets: list[frozenset[int]] = []
        for _, cells in greedy.cells_by_option(request, problem=self._problem):
            level = request.gang_level
            if level is not None and level < len(self._problem.levels):
                domains: dict[object, list[int]] = {}
                for cell in cells:
                    domains.setdefault(cell.path[: level + 1], []).append(cell.index)
                sets += [frozenset(indexes) for indexes in domains.values()]
            else:
                sets.append(frozenset(cell.index for cell in cells))
        return sets


def _sizes_of(block: Vector) -> Sizes:
    """Sizes worth asking about: 1 (plain sums), the block's own, and powers of two below it for accelerators."""
    sizes: list[tuple[int, int]] = []
    for dim, amount in enumerate(block):
        if amount:
            wanted = {1, amount}
            if dim == 0:
                wanted |= {1 << i for i in range(amount.bit_length()) if 1 << i <= amount}
            sizes += [(dim, size) for size in sorted(wanted)]
    return tuple(sizes)
