"""Where a waiting job stands, and who is before it."""

from __future__ import annotations

import dataclasses

import pytest

import stowplan_allocator as sa
from stowplan_allocator import advising, lines
from unit.allocator import worlds
from unit.allocator.test_queues import queue
from unit.allocator.worlds import job, node

TWO = (queue("a", 8), queue("b", 8))
# What waits, in which queues -> the place of each, and who is before it, the next one first.
CASES: dict[str, tuple[list[sa.Job], tuple[sa.Queue, ...], dict[str, tuple[int, tuple[str, ...]]]]] = {
    "without queues all stand in one line": (
        [job("x", created_at_seconds=1), job("y", created_at_seconds=2), job("z", created_at_seconds=0)],
        (),
        {"z": (1, ()), "x": (2, ("z",)), "y": (3, ("x", "z"))},
    ),
    "priority comes before age": (
        [job("old", created_at_seconds=0), job("high", priority=1, created_at_seconds=9)],
        (),
        {"high": (1, ()), "old": (2, ("high",))},
    ),
    "every queue has a line of its own, and so has the default queue": (
        [
            job("a1", queue="a", created_at_seconds=0),
            job("b1", queue="b", priority=5, created_at_seconds=1),
            job("a2", queue="a", created_at_seconds=2),
            job("none", created_at_seconds=3),
        ],
        TWO,
        {"b1": (1, ()), "a1": (1, ()), "a2": (2, ("a1",)), "none": (1, ())},
    ),
    "a job that can never be planned is in nobody's way": (
        [job("wrong", 0, created_at_seconds=0), job("x", created_at_seconds=1)],
        (),
        {"wrong": (1, ()), "x": (1, ())},
    ),
    "nor is one that is more than its queue allows": (
        [job("huge", 9, queue="a", created_at_seconds=0), job("x", queue="a", created_at_seconds=1)],
        (queue("a", 8, max_accelerators_per_job=8), queue("b", 8)),
        {"huge": (1, ()), "x": (1, ())},
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_standings(sentence: str) -> None:
    jobs, queues, want = CASES[sentence]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1", 0)], jobs), queues=queues)
    found = lines.standings(snapshot)
    assert {job_id: (one.position, one.ahead) for job_id, one in found.items()} == want
    assert list(found) == list(want)
    told = advising.answer(advising.Question(snapshot, sa.Settings(), (), 60))
    assert {job_id: (one.position, one.ahead) for job_id, one in told.items()} == want


def test_other_orders_and_long_lines() -> None:
    jobs = [job(f"j{i:02}", created_at_seconds=i, expected_seconds=3600 * (20 - i)) for i in range(15)]
    snapshot = worlds.snapshot([node("n1", 0)], jobs)
    last = lines.standings(snapshot, order=sa.QueueOrder.SHORTEST)["j00"]
    assert (last.position, last.ahead) == (15, tuple(f"j{i:02}" for i in range(1, 11)))
