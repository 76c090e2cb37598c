"""Where a waiting job stands in the line of its queue."""

from __future__ import annotations

import dataclasses

import pytest

import stowplan_allocator as sa
from stowplan_allocator import lines
from unit.allocator import worlds
from unit.allocator.test_queues import queue
from unit.allocator.worlds import job, node, running

TWO = (queue("a", 8), queue("b", 8))
# What waits, in which queues -> the place of each.
CASES: dict[str, tuple[list[sa.Job], tuple[sa.Queue, ...], dict[str, int]]] = {
    "without queues all stand in one line": (
        [job("x", created_at_seconds=1), job("y", created_at_seconds=2), job("z", created_at_seconds=0)],
        (),
        {"z": 1, "x": 2, "y": 3},
    ),
    "priority comes before age": (
        [job("old", created_at_seconds=0), job("high", priority=1, created_at_seconds=9)],
        (),
        {"high": 1, "old": 2},
    ),
    "every queue has a line of its own, and so has the default queue": (
        [
            job("a1", queue="a", created_at_seconds=0),
            job("b1", queue="b", priority=5, created_at_seconds=1),
            job("a2", queue="a", created_at_seconds=2),
            job("none", created_at_seconds=3),
        ],
        TWO,
        {"b1": 1, "a1": 1, "a2": 2, "none": 1},
    ),
    "a job that can never be planned is in nobody's way, and has no place": (
        [job("wrong", 0, created_at_seconds=0), job("x", created_at_seconds=1)],
        (),
        {"x": 1},
    ),
    "nor has one that is larger than the cluster": (
        [job("huge", 9, created_at_seconds=0), job("x", created_at_seconds=1)],
        (),
        {"x": 1},
    ),
    "nor one that is more than its queue allows": (
        [job("huge", 9, queue="a", created_at_seconds=0), job("x", queue="a", created_at_seconds=1)],
        (queue("a", 8, max_accelerators_per_job=8), queue("b", 8)),
        {"x": 1},
    ),
    "who starts now does not stand in the line any more": (
        [job("small", 1, 2, created_at_seconds=0), job("x", created_at_seconds=1)],
        (),
        {"x": 1},
    ),
    "who returns to its place comes first": (
        [job("old", created_at_seconds=0), job("back", returning=True, leaving=True, created_at_seconds=1)],
        (),
        {"back": 1, "old": 2},
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_positions(sentence: str) -> None:
    jobs, queues, want = CASES[sentence]
    there = [*jobs, running("busy", {"n1": 1}, 6)]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1")], there), queues=queues)
    found = lines.positions(snapshot, plan=sa.plan(snapshot))
    assert (found, list(found)) == (want, list(want))


def test_other_orders() -> None:
    jobs = [job(f"j{i}", created_at_seconds=i, expected_seconds=3600 * (5 - i)) for i in range(3)]
    snapshot = worlds.snapshot([node("n1", 0)], jobs)
    shortest = sa.QueueOrder.SHORTEST
    found = lines.positions(snapshot, plan=sa.plan(snapshot, sa.Settings(order=shortest)), order=shortest)
    assert found == {"j2": 1, "j1": 2, "j0": 3}
