"""Limits of namespaces (ResourceQuotas): no plan exceeds them, and who waits for one is told so with numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import alternatives, checks, snapshots
from unit.allocator import brute, worlds

GPUS = "requests.nvidia.com/gpu"
BOTH = [sa.Strategy.EXACT, sa.Strategy.GREEDY]
LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)


def limit(
    hard: int, *, of: str = "a", counts: str = "accelerators", others: int = 0, default: int = 0
) -> sa.NamespaceLimit:
    names = {"accelerators": GPUS, "cpu_milli": "requests.cpu", "memory_mib": "limits.memory"}
    return sa.NamespaceLimit("quota", of, names.get(counts, counts), counts, hard, others, default)


def job(name: str, pods: int = 1, gpus: int = 4, **fields: Any) -> sa.Job:
    made = worlds.job(name, pods, gpus, **fields)
    return dataclasses.replace(made, id=name.split("/")[1])


def runs(name: str, gpus: int = 4, *, on: str = "n0", **fields: Any) -> sa.Job:
    made = worlds.running(name, {on: 1}, gpus, **fields)
    return dataclasses.replace(made, id=name.split("/")[1])


def world(limits: list[sa.NamespaceLimit], jobs: list[sa.Job], **fields: Any) -> sa.Snapshot:
    made = worlds.snapshot([worlds.node(f"n{i}") for i in range(4)], jobs)
    return dataclasses.replace(made, namespace_limits=tuple(limits), **fields)


@dataclass(frozen=True)
class Case:
    """Who starts on four empty nodes of eight accelerators, with how many pods."""

    limits: list[sa.NamespaceLimit]
    jobs: list[sa.Job]
    want: dict[str, int] = field(default_factory=dict)
    reservations: tuple[sa.Reservation, ...] = ()


AT_N3 = sa.Placement(worlds.H100, (sa.NodeShare("n3", 1),))
CASES = {
    "no more starts than the quota allows": Case([limit(8)], [job("a/1"), job("a/2"), job("a/3")], {"1": 1, "2": 1}),
    "jobs of other namespaces, and of none, are free": Case(
        [limit(0)], [job("b/1"), dataclasses.replace(job("x/2"), name="a"), job("ab/3")], {"1": 1, "2": 1, "3": 1}
    ),
    "running jobs count": Case([limit(8)], [runs("a/r"), job("a/1"), job("a/2")], {"1": 1}),
    "and jobs that are leaving, until they are gone": Case([limit(4)], [runs("a/r", leaving=True), job("a/1")], {}),
    "what other pods use is not there": Case([limit(8, others=3)], [job("a/1"), job("a/2")], {"1": 1}),
    "a gang starts whole or not at all": Case([limit(8)], [job("a/1", 3)], {}),
    "a younger job that fits goes ahead of one that does not": Case(
        [limit(8)], [job("a/1", 3), job("a/2", 2, created_at_seconds=9)], {"2": 2}
    ),
    "but never takes what an older one could have": Case(
        [limit(8)], [job("a/1", 2), job("a/2", 1, created_at_seconds=9)], {"1": 2}
    ),
    "a job that takes nothing of it starts, however much is used": Case(
        [limit(1, others=9)], [job("a/1", gpus=0, cpu=1)], {"1": 1}
    ),
    "a lowered quota stops nobody, and nothing more starts": Case([limit(2)], [runs("a/r"), job("a/1", 1, 1)], {}),
    "every quota of the namespace holds": Case([limit(8), limit(1, counts="pods")], [job("a/1"), job("a/2")], {"1": 1}),
    "CPUs are counted in thousandths": Case(
        [limit(2500, counts="cpu_milli")], [job("a/1", cpu=1), job("a/2", 2, cpu=1)], {"1": 1}
    ),
    "a pod that asks for nothing takes the namespace's default": Case(
        [limit(2500, counts="cpu_milli", default=2000)], [job("a/1"), job("a/2")], {"1": 1}
    ),
    "an elastic job starts at the size that is allowed": Case(
        [limit(12)], [job("a/1", 4, allowed_num_pods=(1, 2, 3, 4))], {"1": 3}
    ),
    "and takes nobody's share by growing": Case(
        [limit(12)], [job("a/1", 4, allowed_num_pods=(1, 2, 3, 4)), job("a/2", created_at_seconds=9)], {"1": 2, "2": 1}
    ),
    "also from jobs that ask for nothing that the reserved one asks for": Case(
        [limit(2, counts="pods")],
        [
            runs("a/r", expected_seconds=50),
            job("a/big", 2, 0, cpu=1),
            job("a/1"),
            job("a/2", expected_seconds=90),
        ],
        {"2": 1},
        (sa.Reservation("big", sa.Placement("", (sa.NodeShare("n3", 2),)), 100),),
    ),
    "quota is kept with the room of a reservation": Case(
        [limit(11)],
        [runs("a/r", expected_seconds=50), job("a/big", gpus=8), job("a/1"), job("a/2", expected_seconds=90)],
        {"2": 1},
        (sa.Reservation("big", AT_N3, 100),),
    ),
}


@pytest.mark.parametrize("strategy", sa.Strategy)
@pytest.mark.parametrize("sentence", CASES)
def test_who_starts(sentence: str, strategy: sa.Strategy) -> None:
    case = CASES[sentence]
    snapshot = world(case.limits, case.jobs, reservations=case.reservations)
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    assert {name: placement.num_pods for name, placement in plan.placements.items()} == case.want
    if strategy is sa.Strategy.EXACT:
        assert plan.certificate.gap == 0


def test_a_full_cluster_is_packed_anew_for_those_that_the_quota_allows() -> None:
    # Greed spreads the small ones; a large one needs a node nearly whole, and the quota lets one of the two in.
    nodes = [worlds.node("n0", 6), worlds.node("n1", 6)]
    small = [dataclasses.replace(job(f"b/{i}", 1, 2), created_at_seconds=i) for i in range(2)]
    pairs = [job(f"a/p{i}", 1, 5, created_at_seconds=10 + i) for i in range(2)]
    snapshot = dataclasses.replace(worlds.snapshot(nodes, [*small, *pairs]), namespace_limits=(limit(5),))
    plan = sa.plan(snapshot)
    assert plan.placements.keys() == {"0", "1", "p0"}
    assert plan.waiting["p1"].reason is sa.Reason.WAITING_FOR_RESOURCE_QUOTA
    assert plan.certificate.gap == 0


def test_reasons_have_the_quotas_numbers_and_who_uses_it() -> None:
    snapshot = world([limit(16, others=3)], [runs("a/r", 8), job("a/1"), job("a/big", 3, 8), job("a/2")])
    plan = sa.plan(snapshot)
    waits, exceeds = plan.waiting["2"], plan.waiting["big"]
    assert waits.reason is sa.Reason.WAITING_FOR_RESOURCE_QUOTA
    assert waits.message == (
        'needs 1 pod × 4 accelerators; ResourceQuota "quota" of namespace "a" allows 16 of requests.nvidia.com/gpu, '
        "15 are used, by a/r, a/1 and other pods (3), and the job takes 4 more"
    )
    assert waits.blockers == ("a/r", "a/1")
    assert (
        dict(waits.numbers).items()
        >= {
            "resource_quota": "quota",
            "resource_quota_resource": GPUS,
            "resource_quota_hard": "16",
            "resource_quota_used": "15",
            "resource_quota_used_by_others": "3",
            "resource_quota_needed": "4",
        }.items()
    )
    assert exceeds.reason is sa.Reason.EXCEEDS_RESOURCE_QUOTA
    assert exceeds.message == (
        'needs 3 pods × 8 accelerators; ResourceQuota "quota" of namespace "a" allows 16 of requests.nvidia.com/gpu in '
        "all, and the job takes 24: ask for less, or have the quota raised"
    )


def test_room_is_no_answer_to_who_waits_for_a_reservation_of_quota() -> None:
    case = CASES["quota is kept with the room of a reservation"]
    plan = sa.plan(world(case.limits, case.jobs[:-1], reservations=case.reservations))
    assert plan.waiting["1"].reason is sa.Reason.RESERVED_FOR_LARGER_JOB
    assert plan.waiting["1"].blockers == ("a/big",)


@dataclass(frozen=True)
class Eviction:
    limits: list[sa.NamespaceLimit]
    jobs: list[sa.Job]
    want: dict[str, str] = field(default_factory=dict)


EVICTIONS = {
    "where the quota lacks, one of the namespace leaves, wherever it stands": Eviction(
        [limit(8)],
        [runs("a/r", cost=9), runs("a/s", on="n1", cost=5), runs("b/t", on="n1", cost=1), job("a/1", priority=5)],
        {"s": "1"},
    ),
    "nobody leaves where that would not be enough": Eviction(
        [limit(8, others=8)], [runs("a/r"), job("a/1", priority=5)]
    ),
    "nobody of another namespace leaves for room that the quota does not allow to use": Eviction(
        [limit(2)], [runs(f"b/b{i}", 8, on=f"n{i}") for i in range(4)] + [job("a/1", priority=5)]
    ),
    "room and quota may take a victim each": Eviction(
        [limit(8)],
        [runs("a/r", 6, cost=7)]
        + [runs(f"b/b{i}", 8, on=f"n{i}", cost=9) for i in range(1, 4)]
        + [job("a/1", gpus=8, priority=5)],
        {"r": "1"},
    ),
    "of a quota that was lowered more must come back": Eviction(
        [limit(4)], [runs("a/r"), runs("a/s", on="n1"), job("a/1", priority=5)], {"r": "1", "s": "1"}
    ),
    "what is held is not given to younger jobs": Eviction(
        [limit(8)], [runs("a/r", 6), job("a/1", 1, 6, priority=5), job("a/2", 1, 2), job("a/3", 1, 1)], {"r": "1"}
    ),
}


@pytest.mark.parametrize("strategy", BOTH)
@pytest.mark.parametrize("sentence", EVICTIONS)
def test_evictions(sentence: str, strategy: sa.Strategy) -> None:
    case = EVICTIONS[sentence]
    plan = sa.plan(world(case.limits, case.jobs), dataclasses.replace(LOWER, strategy=strategy))
    assert {eviction.job_id: eviction.for_job for eviction in plan.evictions} == case.want
    assert plan.held.keys() == set(case.want.values())


def test_the_checks_find_what_exceeds_a_quota() -> None:
    snapshot = world([limit(8, others=1)], [runs("a/r"), job("a/1")])
    assert not list(checks.find_breaches(sa.plan(snapshot), snapshot=snapshot))
    placed = {"1": sa.Placement(worlds.H100, (sa.NodeShare("n1", 1),))}
    forged = sa.Plan(placed, {}, sa.Certificate(sa.SolveStatus.GREEDY, "greedy"))
    assert list(checks.find_breaches(forged, snapshot=snapshot)) == [
        'ResourceQuota "quota" of namespace "a": 4 requests.nvidia.com/gpu given beside 5 in use where 8 may be'
    ]


def test_a_snapshot_with_limits_is_written_and_read() -> None:
    snapshot = world([limit(8, others=1, default=2)], [job("a/1")])
    assert snapshots.read(snapshots.write(snapshot)) == snapshot


def test_the_ends_that_are_offered_free_the_quota() -> None:
    snapshot = world([limit(8)], [runs("a/r", cost=9), runs("a/s", on="n1", cost=5), runs("b/t", cost=1), job("a/1")])
    found = {one.kind.value: one for one in alternatives.alternatives(snapshot, "1")}
    assert found["JobEnded"].sentence == "end a/s, which loses 5 accelerator-seconds of work"
    more = found["MoreResourceQuota"]
    assert more.sentence == 'raise requests.nvidia.com/gpu of ResourceQuota "quota" in namespace "a" from 8 to 12'
    assert sa.plan(more.apply(snapshot)).placements.keys() == {"1"}
    assert "MoreNodes" not in found
    assert "JobsMoved" not in found


@st.composite
def limited(draw: st.DrawFn, snapshots: st.SearchStrategy[sa.Snapshot]) -> sa.Snapshot:
    """A snapshot whose jobs live in two namespaces, with a few quotas."""
    made = draw(snapshots)
    jobs = tuple(dataclasses.replace(one, name=f"{draw(st.sampled_from('ab'))}/{one.name}") for one in made.jobs)
    quotas = [
        limit(
            draw(st.integers(0, 12)) * (1000 if counts == "cpu_milli" else 1),
            of=of,
            counts=counts,
            others=draw(st.sampled_from([0, 0, 1])),
            default=draw(st.sampled_from([0, 0, 0, 2])),
        )
        for of, counts in draw(
            st.lists(st.sampled_from([("a", "accelerators"), ("a", "cpu_milli"), ("b", "accelerators")]), max_size=3)
        )
    ]
    return dataclasses.replace(made, jobs=jobs, namespace_limits=tuple(quotas))


@given(limited(worlds.snapshots(max_nodes=4, max_jobs=3, max_pods=3)))
@settings(max_examples=60, deadline=None)
def test_no_assignment_within_the_limits_is_better(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot)
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    assert got[:-2] == want[:-2]


@given(limited(worlds.busy_snapshots()))
@settings(max_examples=60, deadline=None)
def test_no_set_of_victims_within_the_limits_loses_less(snapshot: sa.Snapshot) -> None:
    [waiting] = brute.queue(snapshot)
    plan = sa.plan(snapshot, LOWER)
    may_leave = [
        other
        for other in snapshot.jobs
        if other.placement and other.disruption_cost is not None and other.priority < waiting.priority
    ]
    want = brute.cheapest_victims(snapshot, waiting, may_leave)
    if waiting.id in plan.held:
        assert (sum(eviction.cost for eviction in plan.evictions), len(plan.evictions)) == want
    else:
        assert want == ((0, 0) if waiting.id in plan.placements else None)


@given(limited(worlds.snapshots()), st.sampled_from([one for one in sa.Strategy if one is not sa.Strategy.GREEDY]))
@settings(max_examples=30, deadline=None)
def test_every_strategy_keeps_them_and_its_bounds_hold(snapshot: sa.Snapshot, strategy: sa.Strategy) -> None:
    exact, other = sa.plan(snapshot), sa.plan(snapshot, sa.Settings(strategy=strategy))  # verify themselves
    queue = [one.id for one in brute.queue(snapshot)]
    assert [name in exact.placements for name in queue] >= [name in other.placements for name in queue]
    assert other.certificate.bound >= exact.certificate.value
