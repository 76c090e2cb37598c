"""Who gets room kept, where, and when it changes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest

import stowplan_allocator as sa
from stowplan_allocator import forecast, starvation
from unit.allocator import worlds
from unit.allocator.test_queues import queue
from unit.allocator.worlds import job, node, running

NOW, AFTER = 1_000, 600
OLD = NOW - AFTER


def kept(job_id: str, start: int, *nodes: str, assumed: bool = False) -> sa.Reservation:
    shares = tuple(sa.NodeShare(name, 1) for name in nodes)
    return sa.Reservation(job_id, sa.Placement(worlds.H100, shares), NOW + start, assumed)


@dataclass(frozen=True)
class Case:
    """Two nodes of 8, n1 and n2, unless said otherwise; starts are told from now on."""

    jobs: list[sa.Job]
    want: list[sa.Reservation]
    had: list[sa.Reservation] = field(default_factory=list)
    queues: tuple[sa.Queue, ...] = ()
    nodes: tuple[sa.Node, ...] = (node("n1"), node("n2"))
    at_most: int = 8
    preemption: sa.Preemption = sa.Preemption.NEVER


LARGE = job("large", 2, created_at_seconds=OLD)
A = running("a", {"n1": 1}, 8, expected_seconds=50)
B = running("b", {"n2": 1}, 8, expected_seconds=70)
UNKNOWN = running("u", {"n2": 1}, 8, attained_accelerator_seconds=8 * 5_000)
BIG_A, BIG_B = queue("a", 8, parent="org"), queue("b", 8, parent="org")
QUEUES = (queue("org"), BIG_A, BIG_B, queue("c", parent="org"))

CASES = {
    "who waits long gets the room that known ends make": Case([A, B, LARGE], [kept("large", 70, "n1", "n2")]),
    "who does not wait long gets none": Case([A, B, job("large", 2, created_at_seconds=OLD + 1)], []),
    "nor does who starts now": Case([A, job("small", 1, created_at_seconds=0)], []),
    "of one line only the first gets room": Case(
        [A, B, LARGE, job("next", 2, created_at_seconds=OLD)], [kept("large", 70, "n1", "n2")]
    ),
    "the first is the first by priority, not by age, and there is no room for others while it is new": Case(
        [A, B, LARGE, job("urgent", 2, priority=5, created_at_seconds=NOW)], []
    ),
    "what the cluster cannot hold is passed over": Case(
        [A, B, job("huge", 3, created_at_seconds=0), LARGE], [kept("large", 70, "n1", "n2")]
    ),
    "where an end is unknown it is assumed, and the start is told to be no promise": Case(
        [A, UNKNOWN, LARGE], [kept("large", 5_000, "n1", "n2", assumed=True)]
    ),
    "of unknown ends the least is an hour": Case(
        [running("u", {"n1": 1, "n2": 1}, 8), LARGE], [kept("large", 3_600, "n1", "n2", assumed=True)]
    ),
    "room of known ends is a promise whatever others do": Case(
        [A, UNKNOWN, job("one", 1, created_at_seconds=OLD)], [kept("one", 50, "n1")]
    ),
    "a job that was told to leave is as good as gone": Case(
        [A, running("l", {"n2": 1}, 8, leaving=True), LARGE], [kept("large", 50, "n1", "n2")]
    ),
    "a reservation stays where it is": Case(
        [running("a", {"n1": 1}, 8, expected_seconds=3_000), running("b", {"n2": 1}, 8, expected_seconds=2_900), LARGE],
        [kept("large", 3_100, "n1", "n2")],
        had=[kept("large", 3_100, "n1", "n2")],
    ),
    "a reservation moves to a clearly earlier moment": Case(
        [A, B, LARGE], [kept("large", 70, "n1", "n2")], had=[kept("large", 3_000, "n1", "n2")]
    ),
    "and to other nodes, where room comes clearly earlier": Case(
        [A, running("b", {"n2": 1}, 8, expected_seconds=900), job("one", 1, created_at_seconds=OLD)],
        [kept("one", 50, "n1")],
        had=[kept("one", 900, "n2")],
    ),
    "a reservation whose moment has passed stays while those there overrun": Case(
        [A, running("b", {"n2": 1}, 8, expected_seconds=100), LARGE],
        [kept("large", -500, "n1", "n2")],
        had=[kept("large", -500, "n1", "n2")],
    ),
    "a reservation of unknown end stays, though by now it would be assumed to come later": Case(
        [UNKNOWN, A, LARGE],
        [kept("large", 300, "n1", "n2", assumed=True)],
        had=[kept("large", 300, "n1", "n2", assumed=True)],
    ),
    "it moves to a later moment where known ends give room in less than half of the time that its own needs": Case(
        [running("a", {"n1": 1}, 8, expected_seconds=90), UNKNOWN, job("one", 1, created_at_seconds=OLD)],
        [kept("one", 90, "n1")],
        had=[kept("one", -10, "n2")],
    ),
    "it moves where its room has vanished": Case(
        [A, B, running("c", {"n3": 1}, 8, expected_seconds=500), LARGE],
        [kept("large", 500, "n1", "n3")],
        had=[kept("large", 70, "n1", "n2")],
        nodes=(node("n1"), node("n2", blocked="cordoned"), node("n3")),
    ),
    "it is given up for a job of higher priority": Case(
        [A, B, LARGE, job("urgent", 2, priority=5, created_at_seconds=NOW)],
        [],
        had=[kept("large", 70, "n1", "n2")],
    ),
    "it is not given up for an older job of the same priority": Case(
        [A, B, LARGE, job("again", 2, created_at_seconds=0)],
        [kept("large", 70, "n1", "n2")],
        had=[kept("large", 70, "n1", "n2")],
    ),
    "a job that is gone has no reservation": Case([A, B], [], had=[kept("large", 70, "n1", "n2")]),
    "a job that starts keeps it until then": Case(
        [job("one", 1, created_at_seconds=OLD)], [kept("one", 70, "n1")], had=[kept("one", 70, "n1")]
    ),
    "those behind it who would start now do not": Case(
        [
            running("a", {"n1": 1}, 4, expected_seconds=50),
            B,
            LARGE,
            job("small", 1, 4, created_at_seconds=NOW, expected_seconds=900),
        ],
        [kept("large", 70, "n1", "n2")],
    ),
    "nor is room kept where somebody starts now of whom nobody knows the end: it would keep him from it": Case(
        [A, job("starts", 1, created_at_seconds=0), job("next", 2, created_at_seconds=OLD)], []
    ),
    "but it is where his end is known": Case(
        [A, job("starts", 1, created_at_seconds=0, expected_seconds=900), job("next", 2, created_at_seconds=OLD)],
        [kept("next", 900, "n1", "n2")],
    ),
    "those of other queues do": Case(
        [
            *(
                running("a", {"n1": 1}, 4, expected_seconds=50, queue="a"),
                running("b", {"n2": 1}, 8, expected_seconds=70),
            ),
            job("large", 2, queue="c", created_at_seconds=OLD),
            job("small", 1, 4, expected_seconds=900, queue="a"),
        ],
        [kept("large", 900, "n1", "n2")],
        queues=QUEUES,
    ),
    "every queue has its line": Case(
        [
            A,
            B,
            job("x", 1, queue="a", created_at_seconds=OLD),
            job("y", 1, queue="b", created_at_seconds=OLD),
            job("y2", 1, queue="b", created_at_seconds=OLD),
        ],
        [kept("x", 50, "n1"), kept("y", 70, "n2")],
        queues=QUEUES,
    ),
    "two lines' room is apart where nobody knows when the first one ends": Case(
        [A, B, job("x", 2, 4, queue="a", created_at_seconds=0), job("y", 2, 8, queue="", created_at_seconds=OLD)],
        [kept("x", 50, "n1")],
        queues=QUEUES,
    ),
    "who owns quota comes before who borrows, and the number is bounded": Case(
        [A, B, job("c", 1, queue="c", created_at_seconds=0), job("x", 1, queue="a", created_at_seconds=OLD)],
        [kept("x", 50, "n1")],
        queues=QUEUES,
        at_most=1,
    ),
    "who borrowed room that an owner now waits for gives it up": Case(
        [A, B, job("c", 2, queue="c", created_at_seconds=0), job("x", 1, queue="a", created_at_seconds=OLD)],
        [kept("x", 50, "n1")],
        had=[kept("c", 70, "n1", "n2")],
        queues=QUEUES,
    ),
    "room that victims leave is decided already": Case(
        [A, B, job("large", 2, priority=5, created_at_seconds=OLD)],
        [],
        preemption=sa.Preemption.LOWER_PRIORITY,
    ),
    "and a reservation stays meanwhile": Case(
        [A, B, job("large", 2, priority=5, created_at_seconds=OLD)],
        [kept("large", 70, "n1", "n2")],
        had=[kept("large", 70, "n1", "n2")],
        preemption=sa.Preemption.LOWER_PRIORITY,
    ),
    "an elastic job is kept room for its smallest size": Case(
        [A, B, job("elastic", 2, allowed_num_pods=(1, 2), created_at_seconds=OLD)], [kept("elastic", 50, "n1")]
    ),
}


def world(case: Case) -> sa.Snapshot:
    return sa.Snapshot(case.nodes, tuple(case.jobs), worlds.LEVELS, NOW, tuple(case.had), case.queues)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_reservations(case: Case) -> None:
    found = starvation.reservations(
        world(case), settings=sa.Settings(preemption=case.preemption), after_seconds=AFTER, at_most=case.at_most
    )
    assert [_plain(one) for one in found] == [_plain(one) for one in case.want]


def _plain(one: sa.Reservation) -> tuple[str, list[str], int, bool]:
    return one.job_id, sorted(share.node for share in one.placement.shares), one.starts_at_seconds - NOW, one.assumed


def test_without_time_for_it_nothing_changes() -> None:
    had = (kept("large", 3_000, "n1", "n2"),)
    snapshot = world(Case([A, B, LARGE], [], had=list(had)))
    assert starvation.reservations(snapshot, after_seconds=AFTER, budget_seconds=0.0) == had
    assert (
        starvation.reservations(dataclasses.replace(snapshot, reservations=()), after_seconds=AFTER, budget_seconds=0.0)
        == ()
    )


def test_the_same_question_a_minute_later_has_the_same_answer() -> None:
    snapshot = world(Case([A, B, LARGE], []))
    found = starvation.reservations(snapshot, after_seconds=AFTER)
    jobs = tuple(
        dataclasses.replace(one, expected_seconds=one.expected_seconds - 30) if one.expected_seconds else one
        for one in snapshot.jobs
    )
    later = dataclasses.replace(snapshot, jobs=jobs, now_seconds=NOW + 30, reservations=found)
    assert starvation.reservations(later, after_seconds=AFTER) == found


def test_how_long_a_job_of_unknown_end_is_taken_to_run() -> None:
    hours = [
        forecast.assumed_seconds(dataclasses.replace(UNKNOWN, attained_accelerator_seconds=8 * 3600 * had)) / 3600
        for had in (0, 3, 100)
    ]
    assert hours == [1, 3, 24]
