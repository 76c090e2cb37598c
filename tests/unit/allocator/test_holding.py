"""What a node holds at most, against trying everything; and cells that only a close look fills."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import filling, holding
from stowplan_allocator.stock import Stock
from unit.allocator import worlds


def brute_most(room: tuple[int, ...], items: tuple[holding.Item, ...]) -> int:
    """Every number of every item."""
    best = 0
    ranges = [range(min(r // v for r, v in zip(room, vector, strict=True) if v) + 1) for vector, _ in items]
    for counts in itertools.product(*ranges):
        taken = [sum(n * vector[d] for n, (vector, _) in zip(counts, items, strict=True)) for d in range(len(room))]
        if all(t <= r for t, r in zip(taken, room, strict=True)):
            best = max(best, sum(n * weight for n, (_, weight) in zip(counts, items, strict=True)))
    return best


vectors = st.tuples(st.integers(1, 6), st.integers(0, 5))


@given(st.tuples(st.integers(0, 8), st.integers(0, 12)), st.lists(st.tuples(vectors, st.integers(0, 5)), max_size=4))
def test_most_is_what_the_best_set_of_pods_weighs(room: tuple[int, int], items: list[holding.Item]) -> None:
    assert holding.Holding().most(room, holding.useful(items)) == brute_most(room, tuple(items))


def test_a_search_that_takes_too_long_says_nothing() -> None:
    items = tuple(((i, 101 - i), i) for i in range(1, 100))
    assert holding.Holding().most((5_000, 5_000), items) is None


@given(st.integers(2, 4), st.integers(0, 10_000))
def test_thresholds_never_weigh_more_than_a_node(least: int, seed: int) -> None:
    """Pods that fit together on a node of 8 weigh 8 at most under every threshold."""
    rng = random.Random(seed)
    left, weight = 8, 0
    while left:
        size = rng.randint(1, left)
        left -= size
        weight += holding.threshold_weight(size, least=least, largest=8)
    assert weight <= 8


@given(st.integers(0, 10_000))
def test_a_filled_cell_holds_what_was_asked_and_a_failed_one_is_untouched(seed: int) -> None:
    rng = random.Random(seed)
    free = [(rng.randint(0, 8), rng.randint(0, 20)) for _ in range(5)]
    stock = Stock([range(5)], free=free, sizes=[1, 2, 4, 8])
    blocks = [
        filling.Block((rng.randint(1, 6), rng.randint(0, 6)), rng.randint(0, 4), rng.randint(1, 4), rng.random())
        for _ in range(3)
    ]
    takes = filling.fill_nodes(range(5), cell=0, blocks=blocks, stock=stock)
    if takes is None:
        assert stock.free == free
        return
    assert [sum(count for _, count in taken) for taken in takes] == [block.count for block in blocks]
    assert all(count <= block.most for block, taken in zip(blocks, takes, strict=True) for _, count in taken)
    assert all(amount >= 0 for room in stock.free for amount in room)


def test_fives_get_their_threes() -> None:
    stock = Stock([[0, 1]], free=[(8,), (8,)], sizes=[1, 2, 4, 8])
    blocks = [filling.Block((3,), 2, 2, 3.0), filling.Block((5,), 2, 2, 5.0)]
    takes = filling.fill_nodes([0, 1], cell=0, blocks=blocks, stock=stock)
    assert takes == [[(0, 1), (1, 1)], [(0, 1), (1, 1)]]


def test_sizes_that_shut_each_other_out_are_refused_with_proof_at_once() -> None:
    """On nodes of 8 no 4 stands beside a 5: plain sums and whole slots would let 10 of the 4s in."""
    nodes = [worlds.node(f"n{i}") for i in range(20)]
    jobs = [worlds.job(f"a{i}", gpus=5, created_at_seconds=1) for i in range(20)]
    jobs += [worlds.job(f"b{i}", gpus=4, created_at_seconds=2) for i in range(10)]
    plan = sa.plan(worlds.snapshot(nodes, jobs))
    assert len(plan.placements) == 20
    assert plan.certificate.status is sa.SolveStatus.OPTIMAL


def test_what_runs_out_first_is_not_always_the_accelerators() -> None:
    """Two pods fill a node's 16 CPUs to 14, and the third fits nowhere although 2 CPUs and 4 accelerators are free."""
    nodes = [worlds.node(f"n{i}", cpu=16) for i in range(10)]
    jobs = [worlds.job(f"a{i}", gpus=2, cpu=7, created_at_seconds=1) for i in range(20)]
    jobs += [worlds.job(f"b{i}", 2, gpus=1, cpu=3, created_at_seconds=2) for i in range(3)]
    plan = sa.plan(worlds.snapshot(nodes, jobs))
    assert len(plan.placements) == 20
    assert plan.certificate.status is sa.SolveStatus.OPTIMAL
