"""Moves: running jobs go elsewhere, whole, so that a waiting job fits, and as little work as possible is lost."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings

import stowplan_allocator as sa
from stowplan_allocator import moving
from unit.allocator import brute, worlds
from unit.allocator.worlds import job, node, running

CASES: dict[str, tuple[list[sa.Node], list[sa.Job], dict[str, set[str]] | None, int]] = {
    "one of two halves goes to the other node": (
        [node("n1"), node("n2")],
        [running("a", {"n1": 1}, 4, cost=9), running("b", {"n2": 1}, 4, cost=5), job("x")],
        {"b": {"n1"}},
        5,
    ),
    "a job that must not be disturbed stays, the dearer one goes": (
        [node("n1"), node("n2")],
        [running("a", {"n1": 1}, 4, cost=9), running("b", {"n2": 1}, 4, cost=None), job("x")],
        {"a": {"n2"}},
        9,
    ),
    "nothing moves where the job fits": ([node("n1")], [job("x")], {}, 0),
    "nothing helps where too little is free in all": (
        [node("n1"), node("n2")],
        [running("a", {"n1": 1}, 4), running("b", {"n2": 1}, 6), job("x")],
        None,
        0,
    ),
    "a job that has no other place does not move": (
        [node("n1", free=6), node("n2"), node("n3", free=3)],
        [running("a", {"n1": 1}, 6, cost=50), running("b", {"n2": 1}, 8, cost=1), job("x", 1, 6)],
        None,
        0,
    ),
    "the cheap victim is too large for what is left, so a dear small one moves": (
        [node("n1", free=8), node("n2", free=5), node("n3", free=2)],
        [
            running("cheap", {"n2": 1}, 5, cost=1),
            running("dear", {"n1": 1}, 2, cost=30),
            running("rest", {"n1": 1}, 2, cost=None),
            job("x", 1, 5),
        ],
        {"dear": {"n3"}},
        30,
    ),
    "two swap places": (
        [node("n1", rack="r1"), node("n2", rack="r1"), node("n3", rack="r2"), node("n4", rack="r2")],
        [
            running("a", {"n1": 1}, 8, cost=3),
            running("b", {"n3": 1}, 8, cost=4),
            job("x", 2, 8, level="rack"),
        ],
        {"a": {"n4"}},
        3,
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_moves(sentence: str) -> None:
    nodes, jobs, want, cost = CASES[sentence]
    found = moving.moves(worlds.snapshot(nodes, jobs), "x")
    if want is None:
        assert found is None
        return
    assert found is not None
    assert {move.job_id: {share.node for share in move.placement.shares} for move in found.moves} == want
    assert (found.cost, found.bound) == (cost, cost)


def test_nobody_moves_to_reserved_room() -> None:
    kept = sa.Reservation("big", sa.Placement(worlds.H100, (sa.NodeShare("n3", 1),)), 0)
    jobs = [running("a", {"n1": 1}, 4), running("b", {"n2": 1}, 6), job("big"), job("x")]
    snapshot = worlds.snapshot([node("n1"), node("n2"), node("n3", free=6)], jobs)
    free = moving.moves(snapshot, "x")
    assert free is not None
    assert [move.job_id for move in free.moves] == ["a"]
    assert moving.moves(dataclasses.replace(snapshot, reservations=(kept,)), "x") is None


def test_a_job_that_does_not_wait_cannot_be_moved_for() -> None:
    with pytest.raises(ValueError, match="does not wait"):
        moving.moves(worlds.snapshot([node("n1")], []), "x")


@given(worlds.busy_snapshots(max_nodes=3, max_running=4))
@settings(max_examples=120, deadline=None)
def test_no_set_of_moves_loses_less(snapshot: sa.Snapshot) -> None:
    [waiting] = brute.queue(snapshot)
    found = moving.moves(snapshot, waiting.id)
    want = cheapest_moves(snapshot)
    assert want == (None if found is None else found.cost)
    if found is not None:
        assert found.bound == found.cost
        after = {move.job_id: move.placement for move in found.moves}
        placed = [dataclasses.replace(one, placement=after.get(one.id, one.placement)) for one in snapshot.jobs]
        assert waiting.id in sa.plan(dataclasses.replace(snapshot, jobs=tuple(placed))).placements


def cheapest_moves(snapshot: sa.Snapshot) -> int | None:
    movable = [one for one in snapshot.jobs if one.placement is not None and one.disruption_cost is not None]
    found = []
    for number in range(len(movable) + 1):
        for moved in itertools.combinations(movable, number):
            names = {one.id for one in moved}
            lifted = [dataclasses.replace(one, placement=None) if one.id in names else one for one in snapshot.jobs]
            cost = sum(one.disruption_cost or 0 for one in moved)
            if not (found and min(found) <= cost) and brute.all_fit(dataclasses.replace(snapshot, jobs=tuple(lifted))):
                found.append(cost)
    return min(found, default=None)
