"""Nobody leaves in vain: whoever takes others' places has one once they have left, whoever else waits."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from unit.allocator import worlds
from unit.allocator.worlds import running

LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
STRATEGIES = pytest.mark.parametrize("strategy", [sa.Strategy.EXACT, sa.Strategy.GREEDY], ids=str)


def told(snapshot: sa.Snapshot, plan: sa.Plan) -> sa.Snapshot:
    """The snapshot once who starts has started, and who was told to leave is on the way."""
    gone = {eviction.job_id for eviction in plan.evictions}
    jobs = (
        dataclasses.replace(job, placement=plan.placements.get(job.id, job.placement), leaving=job.id in gone)
        for job in snapshot.jobs
    )
    return dataclasses.replace(snapshot, jobs=tuple(jobs))


def left(snapshot: sa.Snapshot) -> sa.Snapshot:
    """The snapshot once all who are on the way have left."""
    jobs = (
        dataclasses.replace(job, placement=None, leaving=False, disruption_cost=None) if job.leaving else job
        for job in snapshot.jobs
    )
    return dataclasses.replace(snapshot, jobs=tuple(jobs))


@STRATEGIES
def test_nobody_leaves_for_room_that_a_polite_job_ahead_would_take(strategy: sa.Strategy) -> None:
    polite = worlds.job("polite", priority=9, preempts=False)
    high = worlds.job("high", priority=5)
    snapshot = worlds.snapshot([worlds.node("n1")], [running("low", {"n1": 1}, 8), polite, high])
    plan = sa.plan(snapshot, dataclasses.replace(LOWER, strategy=strategy))
    assert (plan.evictions, plan.held) == ((), {})
    assert plan.waiting["high"].message.endswith(
        "; it may take the place of low, but polite, ahead of it, would have that room"
    )
    assert "would have that room" not in plan.waiting["polite"].message


@STRATEGIES
def test_where_more_can_leave_both_have_room_and_no_further_victim_is_taken(strategy: sa.Strategy) -> None:
    chosen = dataclasses.replace(LOWER, strategy=strategy)
    low = [running("low1", {"n1": 1}, 8, cost=1), running("low2", {"n2": 1}, 8, cost=2)]
    polite = worlds.job("polite", 1, 5, priority=9, preempts=False)
    snapshot = worlds.snapshot([worlds.node("n1"), worlds.node("n2")], [*low, polite, worlds.job("high", priority=5)])
    plan = sa.plan(snapshot, chosen)
    assert plan.evictions == (sa.Eviction("low1", "high", 1), sa.Eviction("low2", "high", 2))
    assert list(plan.held) == ["polite", "high"]
    snapshot = told(snapshot, plan)
    plan = sa.plan(snapshot, chosen)
    assert (plan.evictions, list(plan.held)) == ((), ["polite", "high"])
    plan = sa.plan(left(snapshot), chosen)
    assert plan.placements.keys() == {"polite", "high"}


HALVES = [
    running("low", {"n1": 1}, 8, cost=1),
    running("half", {"n2": 1}, 4, cost=2),
    running("dear", {"n2": 1}, 4, cost=90),
]


@STRATEGIES
def test_for_a_polite_job_that_could_grow_no_more_leave_than_its_smallest_size_needs(strategy: sa.Strategy) -> None:
    chosen = dataclasses.replace(LOWER, strategy=strategy)
    polite = worlds.job("polite", 1, 1, priority=9, preempts=False, allowed_num_pods=(1, 2, 4, 8))
    # Two of its pods fit beside the pod of the polite one only if it does not grow.
    high = worlds.job("high", 2, 4, priority=5)
    snapshot = worlds.snapshot([worlds.node("n1"), worlds.node("n2")], [*HALVES, polite, high])
    plan = sa.plan(snapshot, chosen)
    assert {eviction.job_id for eviction in plan.evictions} == {"low", "half"}
    assert plan.held["polite"].num_pods == 1
    placed = sa.plan(left(told(snapshot, plan)), chosen).placements
    assert placed["high"].num_pods == 2
    assert placed["polite"].num_pods == 4


@STRATEGIES
def test_what_others_leave_anyway_is_promised_to_a_polite_job_as_far_as_it_needs_it(strategy: sa.Strategy) -> None:
    chosen = dataclasses.replace(LOWER, strategy=strategy)
    polite = worlds.job("polite", 1, 1, priority=9, preempts=False, allowed_num_pods=(1, 2, 4, 8))
    leaves = dataclasses.replace(HALVES[0], leaving=True)
    snapshot = worlds.snapshot(
        [worlds.node("n1"), worlds.node("n2")], [leaves, *HALVES[1:], polite, worlds.job("high", 2, 4, priority=5)]
    )
    plan = sa.plan(snapshot, chosen)
    assert [eviction.job_id for eviction in plan.evictions] == ["half"]
    assert {job_id: place.num_pods for job_id, place in plan.held.items()} == {"polite": 1, "high": 2}


def test_a_polite_job_of_higher_priority_has_its_preferred_size_before_the_other_starts() -> None:
    polite = worlds.job("polite", 8, 1, priority=9, preempts=False, allowed_num_pods=(1, 2, 4, 8))
    high = worlds.job("high", 1, 4, priority=5)
    snapshot = worlds.snapshot([worlds.node("n1"), worlds.node("n2")], [*HALVES, polite, high])
    plan = sa.plan(snapshot, LOWER)
    assert {eviction.job_id for eviction in plan.evictions} == {"low", "half"}
    assert {job_id: place.num_pods for job_id, place in plan.held.items()} == {"polite": 8, "high": 1}
    later = sa.plan(left(told(snapshot, plan)), LOWER)
    assert later.placements.keys() == {"polite", "high"}


def test_nobody_leaves_where_a_polite_job_would_take_whatever_becomes_free() -> None:
    polite = worlds.job("polite", 12, 1, priority=9, preempts=False, allowed_num_pods=(1, 2, 4, 8, 12))
    stays = running("stays", {"n2": 1}, 4, cost=None)
    high = worlds.job("high", 1, 4, priority=5)
    plan = sa.plan(worlds.snapshot([worlds.node("n1"), worlds.node("n2")], [*HALVES[:2], stays, polite, high]), LOWER)
    assert (plan.evictions, plan.certificate.note) == ((), "")
    assert plan.waiting["high"].message.endswith("polite, ahead of it, would have that room")


def test_a_polite_job_that_fits_nowhere_there_keeps_nobody_from_preempting() -> None:
    polite = worlds.job("polite", 2, 8, priority=9, preempts=False)
    snapshot = worlds.snapshot(
        [worlds.node("n1")], [running("low", {"n1": 1}, 8), polite, worlds.job("high", priority=5)]
    )
    plan = sa.plan(snapshot, LOWER)
    assert [eviction.for_job for eviction in plan.evictions] == ["high"]


def test_nobody_leaves_for_quota_that_a_polite_job_ahead_would_take() -> None:
    queues = (sa.Queue("a", quotas=(sa.Quota("*", 8, 0),)), sa.Queue("b", quotas=(sa.Quota("*", 8, 8),)))
    jobs = [
        running("other", {"n1": 1}, 4, queue="b", cost=None),
        running("low", {"n1": 1}, 4, queue="a"),
        worlds.job("polite", 1, 8, queue="a", priority=9, preempts=False),
        worlds.job("high", 1, 8, queue="a", priority=5),
    ]
    snapshot = dataclasses.replace(worlds.snapshot([worlds.node("n1"), worlds.node("n2")], jobs), queues=queues)
    plan = sa.plan(snapshot, LOWER)
    assert plan.evictions == ()


ON_ITS_WAY = running("x/1", {"n2": 1}, 8, cost=None, leaving=True)
COMING_BACK = {
    "who comes back ahead of the job would have its room": (worlds.job("x", priority=7), False),
    "of equal priority, too, if older": (worlds.job("x", priority=5, created_at_seconds=-1), False),
    "who comes back behind it keeps nobody from preempting": (worlds.job("x", priority=5, created_at_seconds=9), True),
    "nor who has another place": (worlds.job("x", 1, 4, priority=7), True),
    "nor who fits nowhere": (worlds.job("x", 2, 8, priority=7), True),
}


@pytest.mark.parametrize(("x", "leaves"), COMING_BACK.values(), ids=COMING_BACK)
def test_victims_that_are_on_their_way_out_wait_again(x: sa.Job, leaves: bool) -> None:
    x = dataclasses.replace(x, name="x/1")
    there = [running("low", {"n1": 1}, 8), ON_ITS_WAY, worlds.job("vip", priority=9), worlds.job("high", priority=5)]
    nodes = [worlds.node("n1"), worlds.node("n2"), worlds.node("n3", 4)]
    snapshot = dataclasses.replace(worlds.snapshot(nodes, there), coming_back=(x,))
    plan = sa.plan(snapshot, LOWER)
    assert [eviction.for_job for eviction in plan.evictions] == (["high"] if leaves else [])
    assert list(plan.held) == ["vip", *(["high"] if leaves else [])]
    assert plan.waiting.keys() == {"vip", "high"}
    assert plan.waiting["high"].message.endswith("low, but x/1, ahead of it, would have that room") is not leaves


def test_between_queues_it_is_played_through_who_comes_back_first() -> None:
    """A queue that uses less has the next turn, whatever the priorities."""
    queues = tuple(sa.Queue(name, quotas=(sa.Quota("*", 24),)) for name in "ab")
    jobs = [
        running("low", {"n1": 1}, 8, queue="a"),
        running("stays", {"n3": 2}, 6, queue="a", cost=None),
        running("x/1", {"n2": 1}, 8, cost=None, leaving=True, queue="b"),
        worlds.job("vip", priority=9, queue="b"),
        worlds.job("high", priority=5, queue="a"),
    ]
    snapshot = dataclasses.replace(
        worlds.snapshot([worlds.node(f"n{i}", 12, of=12) for i in (1, 2, 3)], jobs), queues=queues
    )
    assert len(sa.plan(snapshot, LOWER).evictions) == 1
    back = dataclasses.replace(worlds.job("x", queue="b"), name="x/1")
    assert sa.plan(dataclasses.replace(snapshot, coming_back=(back,)), LOWER).evictions == ()


@given(worlds.busy_snapshots(max_nodes=5, max_waiting=4), st.data())
@settings(max_examples=100, deadline=None)
def test_whoever_takes_places_has_one_once_they_have_left(snapshot: sa.Snapshot, data: st.DataObject) -> None:
    jobs = [
        dataclasses.replace(job, preempts=data.draw(st.booleans())) if job.placement is None else job
        for job in snapshot.jobs
    ]
    snapshot = dataclasses.replace(snapshot, jobs=tuple(jobs))
    plan = sa.plan(snapshot, LOWER)
    later = sa.plan(left(told(snapshot, plan)), LOWER)
    assert {eviction.for_job for eviction in plan.evictions} <= later.placements.keys()


A100, H100 = worlds.A100, worlds.H100


def on_a100(name: str, node: str) -> sa.Job:
    job = running(name, {node: 1}, 8)
    assert job.placement is not None
    return dataclasses.replace(job, placement=dataclasses.replace(job.placement, product=A100))


@pytest.mark.parametrize("in_vain", [1, 2, 6])
def test_who_would_evict_in_vain_keeps_nobody_else_from_evicting(in_vain: int) -> None:
    """On the H100 all of them would free room for the polite job, one after the other."""
    snapshot = worlds.snapshot(
        [worlds.node("h"), worlds.node("a1", product=A100), worlds.node("a2", product=A100)],
        [
            running("low", {"h": 1}, 8),
            on_a100("low-a1", "a1"),
            on_a100("low-a2", "a2"),
            worlds.job("polite", priority=19, preempts=False, products=(H100,)),
            *(worlds.job(f"vain{i}", priority=18 - i, cpu=i, products=(H100,)) for i in range(in_vain)),
            worlds.job("polite-a", 1, 5, priority=9, preempts=False, products=(A100,)),
            worlds.job("good", priority=5, products=(A100,)),
        ],
    )
    plan = sa.plan(snapshot, LOWER)
    assert {(eviction.job_id, eviction.for_job) for eviction in plan.evictions} == {
        ("low-a1", "good"),
        ("low-a2", "good"),
    }
    assert list(plan.held) == ["polite-a", "good"]
    assert plan.waiting["vain0"].message.endswith("low, but polite, ahead of it, would have that room")


def test_those_who_need_more_victims_for_a_polite_one_get_them_in_one_plan() -> None:
    nodes, jobs = [], []
    for i in range(3):
        product = f"P{i}"
        for k in range(2):
            nodes.append(worlds.node(f"n{i}{k}", product=product))
            low = running(f"low{i}{k}", {f"n{i}{k}": 1}, 8)
            assert low.placement is not None
            jobs.append(dataclasses.replace(low, placement=dataclasses.replace(low.placement, product=product)))
        jobs.append(worlds.job(f"polite{i}", 1, 5, priority=9, preempts=False, products=(product,)))
        jobs.append(worlds.job(f"high{i}", priority=5, products=(product,)))
    plan = sa.plan(worlds.snapshot(nodes, jobs), LOWER)
    assert len(plan.evictions) == 6
    assert len(plan.held) == 6
