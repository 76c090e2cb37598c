"""A ledger that was kept up to date answers what counting all cells anew answers."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from stowplan_allocator import topology
from stowplan_allocator.problem import Cell
from stowplan_allocator.stock import Stock

LEVELS = 2


def cells_of(rng: random.Random, num_cells: int) -> tuple[list[Cell], list[tuple[int, ...]]]:
    cells, free = [], []
    for index in range(num_cells):
        path = (rng.choice(["z1", "z2", None]), rng.choice(["r1", "r2", "r10", None]))
        nodes = tuple(range(len(free), len(free) + rng.randint(1, 4)))
        free += [(rng.randint(0, 8),) for _ in nodes]
        cells.append(Cell(index, "H100", path, nodes, frozenset(), True, 0))
    return cells, free


@given(st.integers(0, 10_000))
def test_a_ledger_follows_what_is_taken_and_given_back(seed: int) -> None:
    rng = random.Random(seed)
    cells, free = cells_of(rng, rng.randint(1, 10))
    stock = Stock([cell.nodes for cell in cells], free=free, sizes=[1, 2, 4, 8])
    some = cells[: rng.randint(1, len(cells))]
    held = []
    for _ in range(12):
        pod = (rng.choice([1, 2, 3, 4]),)
        if held and rng.random() < 0.3:
            cell, of, takes = held.pop(rng.randrange(len(held)))
            stock.give_back(cell, of, takes)
        num_pods, required = rng.randint(1, 12), rng.choice([None, 0, 1])
        slots = {cell.index: stock.slots(cell.index, pod) for cell in some}
        want = topology.choose_cells(num_pods, cells=some, slots=slots, num_levels=LEVELS, required=required)
        got = stock.ledger(some, pod=pod, num_levels=LEVELS).choose(num_pods, required=required)
        assert got == want
        for cell, count in got or ():
            held.append((cell, pod, stock.take(cell, pod, count)))
        if rng.random() < 0.1:
            stock = stock.copy()
