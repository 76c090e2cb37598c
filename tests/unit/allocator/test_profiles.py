"""Profiles against brute force: the number is exact, and the nodes hold what the filling says."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator.heuristics import profiles
from stowplan_allocator.heuristics.profiles import Kind, Room
from unit.allocator import brute, worlds

BOTH = frozenset({0, 1})


def most(rooms: list[Room], kinds: list[Kind], beside: tuple[int, ...], asked: int) -> int | None:
    """The slow way: every way of placing one block after the other."""
    blocks = [i for i, count in enumerate(beside) if i != asked for _ in range(count)]

    @functools.cache
    def descend(position: int, frees: tuple[tuple[int, ...], ...]) -> int:
        kind = blocks[position] if position < len(blocks) else asked
        best = -1 if position < len(blocks) else 0
        for n, free in enumerate(frees):
            left = tuple(have - need for have, need in zip(free, kinds[kind].block, strict=True))
            if min(left) >= 0 and rooms[n].cell in kinds[kind].cells:
                below = descend(position + 1, (*frees[:n], left, *frees[n + 1 :]))
                if below >= 0:
                    best = max(best, below + (position >= len(blocks)))
        return best

    found = descend(0, tuple(room.free for room in rooms))
    return None if found < 0 else found


def check(rooms: list[Room], kinds: list[Kind], beside: tuple[int, ...], asked: int) -> None:
    got, want = profiles.fill(rooms, kinds=kinds, beside=beside, asked=asked), most(rooms, kinds, beside, asked)
    assert (None if got is None else got.most) == want
    if got is None:
        return
    placed = [sum(mix[i] for _, mix in got.nodes) for i in range(len(kinds))]
    assert placed == [got.most if i == asked else count for i, count in enumerate(beside)]
    for room, (node, mix) in zip(rooms, got.nodes, strict=True):
        assert node == room.node
        assert all(not count or room.cell in kinds[i].cells for i, count in enumerate(mix))
        used = [sum(count * kinds[i].block[d] for i, count in enumerate(mix)) for d in range(len(room.free))]
        assert all(need <= have for need, have in zip(used, room.free, strict=True))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_table_gives_the_exact_number_whatever_the_sizes(data: st.DataObject) -> None:
    frees = data.draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9)), min_size=1, max_size=3))
    rooms = [Room(i, data.draw(st.integers(0, 1)), free) for i, free in enumerate(frees)]
    some = st.tuples(st.integers(1, 6), st.integers(0, 6))
    cells = st.sampled_from([BOTH, BOTH, frozenset({0})])
    kinds = [Kind(block, data.draw(cells)) for block in data.draw(st.lists(some, min_size=1, max_size=3, unique=True))]
    beside = tuple(data.draw(st.integers(0, 2)) for _ in kinds)
    check(rooms, kinds, beside, data.draw(st.integers(0, len(kinds) - 1)))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_sizes_that_divide_each_other_need_no_table(data: st.DataObject) -> None:
    rooms = [Room(i, 0, (free, 8 * free)) for i, free in enumerate(data.draw(st.lists(st.integers(0, 8), max_size=4)))]
    sizes = data.draw(st.sampled_from([(8, 4, 2, 1), (6, 3, 1), (4, 2), (8, 1), (5,)]))
    kinds = [Kind((size, 8 * size), BOTH) for size in sizes]
    beside = tuple(data.draw(st.integers(0, 2)) for _ in kinds)
    assert profiles._is_nested(rooms, kinds=kinds)
    check(rooms, kinds, beside, data.draw(st.integers(0, len(kinds) - 1)))


NESTED = {
    "powers of two, accelerators alone": ([(8, 0), (4, 0)], [(4, 0), (2, 0)], True),
    "3 and 5 do not divide each other": ([(8, 0)], [(3, 0), (5, 0)], False),
    "CPUs in step with accelerators": ([(8, 16)], [(4, 8), (2, 4)], True),
    "CPUs run out first": ([(8, 15)], [(4, 8), (2, 4)], False),
    "a pod without accelerators": ([(8, 16)], [(4, 8), (0, 1)], False),
}


@pytest.mark.parametrize(("frees", "blocks", "want"), NESTED.values(), ids=NESTED)
def test_when_no_table_is_needed(frees: list[tuple[int, int]], blocks: list[tuple[int, int]], want: bool) -> None:
    rooms = [Room(i, 0, free) for i, free in enumerate(frees)]
    assert profiles._is_nested(rooms, kinds=[Kind(block, BOTH) for block in blocks]) is want


def test_a_kind_that_may_not_go_everywhere_needs_a_table() -> None:
    assert not profiles._is_nested([Room(0, 0, (8,)), Room(1, 1, (8,))], kinds=[Kind((4,), frozenset({0}))])


def test_a_table_that_would_be_too_large_is_refused() -> None:
    rooms = [Room(i, 0, (8,)) for i in range(400)]
    kinds = [Kind((size,), BOTH) for size in (1, 2, 3, 5, 6)]
    with pytest.raises(profiles.TooMany):
        profiles.fill(rooms, kinds=kinds, beside=(300, 300, 300, 300, 0), asked=4)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_in_one_product_without_required_levels_the_dp_strategy_admits_like_brute_force(data: st.DataObject) -> None:
    gpus = data.draw(st.sampled_from([(1, 2, 4, 8), (3, 5, 6), (2, 3)]))
    nodes = [
        worlds.node(f"n{i}", data.draw(st.sampled_from([8, 8, 6, 4])), rack=f"r{i % 2}")
        for i in range(data.draw(st.integers(1, 3)))
    ]
    jobs = [
        worlds.job(f"j{i}", data.draw(st.integers(1, 2)), data.draw(st.sampled_from(gpus)), created_at_seconds=i)
        for i in range(data.draw(st.integers(1, 5)))
    ]
    snapshot = worlds.snapshot(nodes, jobs)
    plan = sa.plan(snapshot, sa.Settings(strategy=sa.Strategy.DP))
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    assert got[: len(jobs)] == want[: len(jobs)]
    assert plan.certificate.tiers[0].status is sa.SolveStatus.OPTIMAL
