"""Room kept for a waiting job: who may stand there meanwhile, who may not, and what these are told."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import Reason, checks, reserving
from unit.allocator import brute, worlds
from unit.allocator.worlds import H100, job, node

STRATEGIES = (sa.Strategy.EXACT, sa.Strategy.GREEDY)
NOW = 1_000


def kept(job_id: str, start: int, **pods: int) -> sa.Reservation:
    shares = tuple(sa.NodeShare(name, count) for name, count in pods.items())
    return sa.Reservation(job_id, sa.Placement(H100, shares), NOW + start)


def on(name: str, node_name: str, gpus: int, seconds: int | None) -> sa.Job:
    placement = sa.Placement(H100, (sa.NodeShare(node_name, 1),))
    return job(name, 1, gpus, placement=placement, expected_seconds=seconds)


@dataclasses.dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    reservations: list[sa.Reservation]
    want: set[str]


BIG = job("big", 2, 8)

CASES = {
    "a job that ends in time stands on room that is kept": Case(
        [node("a"), node("b", 0)],
        [BIG, job("short", expected_seconds=100)],
        [kept("big", 100, a=1, b=1)],
        {"short"},
    ),
    "a job that ends a second too late does not": Case(
        [node("a"), node("b", 0)],
        [BIG, job("long", expected_seconds=101)],
        [kept("big", 100, a=1, b=1)],
        set(),
    ),
    "a job of which nobody knows the end does not": Case(
        [node("a"), node("b", 0)],
        [BIG, job("unknown")],
        [kept("big", 100, a=1, b=1)],
        set(),
    ),
    "what is left beside the room that is kept is for everybody": Case(
        [node("a"), node("b", 0)],
        [job("big", 2, 6), job("small", 1, 2), job("young", 1, 1)],
        [kept("big", 100, a=1, b=1)],
        {"small"},
    ),
    "the job itself may start there as soon as it is free": Case(
        [node("a"), node("b")],
        [BIG, job("unknown", created_at_seconds=-1, priority=9)],
        [kept("big", 100, a=1, b=1)],
        {"big"},
    ),
    "room that a running job will have left by then counts": Case(
        [node("a"), node("b")],
        [job("big", 2, 4), on("ends", "a", 4, 50), on("b", "b", 8, None), job("unknown", 1, 4)],
        [kept("big", 100, a=1, b=1)],
        {"unknown"},
    ),
    "room that a running job may still hold then does not": Case(
        [node("a"), node("b")],
        [job("big", 2, 4), on("stays", "a", 4, None), on("b", "b", 8, None), job("unknown", 1, 4)],
        [kept("big", 100, a=1, b=1)],
        set(),
    ),
    "a reservation of a job that is gone keeps nothing": Case(
        [node("a")],
        [job("unknown")],
        [kept("gone", 100, a=1)],
        {"unknown"},
    ),
    "two reservations of one node are kept together": Case(
        [node("a"), node("b", 0)],
        [job("one", 2, 4), job("two", 2, 4), job("unknown", 1, 4), job("tiny", 1, 1, cpu=1)],
        [kept("one", 100, a=1, b=1), kept("two", 100, a=1, b=1)],
        set(),
    ),
    "a reservation that is over when the next one starts is not added to it": Case(
        [node("a"), node("b", 0)],
        [job("one", 3, 4, expected_seconds=50), job("two", 3, 4), job("unknown", 1, 4)],
        [kept("one", 100, a=1, b=2), kept("two", 200, a=1, b=2)],
        {"unknown"},
    ),
    "a job with room of its own does not stand on the room of another": Case(
        [node("a"), node("b", 0)],
        [job("one", 2, 8), job("two", 1, 8)],
        [kept("one", 100, a=1, b=1), kept("two", 500, b=1)],
        set(),
    ),
}


def world(case: Case) -> sa.Snapshot:
    return sa.Snapshot(tuple(case.nodes), tuple(case.jobs), worlds.LEVELS, NOW, tuple(case.reservations))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_reservations(case: Case, strategy: sa.Strategy) -> None:
    assert sa.plan(world(case), sa.Settings(strategy=strategy)).placements.keys() == case.want


def test_a_job_that_only_a_reservation_keeps_waiting_is_told_so() -> None:
    snapshot = world(CASES["a job of which nobody knows the end does not"])
    waiting = sa.plan(snapshot).waiting
    assert waiting["unknown"] == sa.Waiting(
        Reason.RESERVED_FOR_LARGER_JOB,
        "needs 1 pod × 8 accelerators; it would fit now but for 16 accelerators kept for big, and this job is not "
        "known to end in time",
        (
            ("pods_needed", "1"),
            ("accelerators_needed", "8"),
            ("pods_fitting", "0"),
            ("accelerators_free", "8"),
            ("nodes_matching", "2"),
            ("nodes_blocked", "0"),
            ("capacity_pods", "2"),
            ("product", H100),
            ("pods_unreserved", "1"),
            ("accelerators_reserved", "16"),
            ("reserved_from_seconds", "1100"),
        ),
        ("big",),
    )
    assert waiting["big"].reason is Reason.WAITING_FOR_CAPACITY


def test_a_job_that_would_not_fit_anyway_is_told_what_is_short() -> None:
    case = Case([node("a", 4), node("b", 0)], [BIG, job("x")], [kept("big", 100, a=1, b=1)], set())
    waiting = sa.plan(world(case)).waiting["x"]
    assert waiting.reason is Reason.WAITING_FOR_CAPACITY
    assert "kept" not in waiting.message
    assert dict(waiting.numbers)["binding_resource"] == "accelerators"


def test_cpus_are_kept_too() -> None:
    room = worlds.amounts(0, 8, 8)
    nodes = [sa.Node("c", "", room, room, ("z1", "r1"))]
    jobs = [job("big", 2, 0, cpu=8), job("x", 1, 0, cpu=1)]
    plan = sa.plan(world(Case(nodes, jobs, [kept("big", 100, c=1)], set())))
    assert plan.waiting["x"].message.startswith("needs 1 pod × 1 CPU; it would fit now but for the room kept for big")


def test_without_reservations_the_snapshot_is_the_very_same() -> None:
    snapshot = worlds.snapshot([node("a")], [job("x")])
    assert reserving.with_reservations(snapshot) is snapshot


def test_a_plan_that_takes_kept_room_is_refused() -> None:
    snapshot = world(CASES["a job of which nobody knows the end does not"])
    plan = sa.plan(snapshot)
    wrong = dataclasses.replace(
        plan,
        placements={"unknown": sa.Placement(H100, (sa.NodeShare("a", 1),))},
        waiting={"big": plan.waiting["big"]},
    )
    with pytest.raises(sa.PlanViolationError, match="a: 8 accelerators taken where 0 are not kept for big"):
        checks.verify(wrong, snapshot=snapshot)


def test_what_each_of_several_reservations_asks_of_a_node_is_checked() -> None:
    jobs = [job("four", gpus=4), job("more", gpus=4), job("cpus", gpus=0, cpu=8), job("wrong", gpus=4)]
    snapshot = dataclasses.replace(
        worlds.snapshot([node("a")], jobs),
        now_seconds=NOW,
        reservations=(kept("four", 10, a=1), kept("more", 10, a=1), kept("cpus", 10, a=1)),
    )
    plan = sa.plan(dataclasses.replace(snapshot, reservations=()), sa.Settings(strategy=sa.Strategy.GREEDY))
    wrong = dataclasses.replace(
        plan,
        placements={"wrong": sa.Placement(H100, (sa.NodeShare("a", 1),))},
        waiting={name: sa.Waiting(Reason.QUEUED_BEHIND, "") for name in ("four", "more", "cpus")},
    )
    with pytest.raises(
        sa.PlanViolationError, match="a: 4 accelerators taken where 0 are not kept for cpus, four, more"
    ):
        checks.verify(wrong, snapshot=snapshot)


@st.composite
def reserved(draw: st.DrawFn) -> sa.Snapshot:
    snapshot = draw(worlds.snapshots(max_nodes=3, max_jobs=3, max_pods=2))
    seconds = st.sampled_from([None, 5, 10, 20])
    jobs = tuple(dataclasses.replace(one, expected_seconds=draw(seconds)) for one in snapshot.jobs)
    waiting = [one for one in jobs if one.placement is None]
    reservations = []
    for owner in draw(st.lists(st.sampled_from(waiting), max_size=2, unique_by=lambda one: one.id)):
        name = draw(st.sampled_from([one.name for one in snapshot.nodes]))
        placement = sa.Placement(H100, (sa.NodeShare(name, owner.num_pods),))
        reservations.append(sa.Reservation(owner.id, placement, NOW + draw(st.sampled_from([5, 10, 15]))))
    return dataclasses.replace(snapshot, jobs=jobs, now_seconds=NOW, reservations=tuple(reservations))


@given(reserved())
@settings(max_examples=80, deadline=None)
def test_no_assignment_that_keeps_the_reservations_is_better(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot)
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    assert got[:-2] == want[:-2]


@given(reserved(), st.sampled_from([sa.Strategy.GREEDY]))
@settings(max_examples=40, deadline=None)
def test_greed_keeps_reservations_and_names_them(snapshot: sa.Snapshot, strategy: sa.Strategy) -> None:
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    assert brute.keeps_reservations(snapshot, dict(plan.placements))
    for waiting in plan.waiting.values():
        assert "<" not in waiting.message
        if waiting.reason is Reason.RESERVED_FOR_LARGER_JOB:
            assert waiting.blockers
            assert int(dict(waiting.numbers)["pods_unreserved"]) >= int(dict(waiting.numbers)["pods_needed"])
