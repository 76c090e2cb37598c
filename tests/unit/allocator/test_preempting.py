"""Evictions: who must leave for whom, at the least cost, and nothing decided twice."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from unit.allocator import brute, worlds
from unit.allocator.worlds import running

LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
ORDER = sa.Settings(preemption=sa.Preemption.QUEUE_ORDER)
BOTH = [sa.Strategy.EXACT, sa.Strategy.GREEDY]


@dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    settings: sa.Settings = LOWER
    want_evicted: dict[str, str] = field(default_factory=dict)
    want_held: dict[str, set[str]] = field(default_factory=dict)
    want_placed: set[str] = field(default_factory=set)
    want_blockers: tuple[str, ...] | None = None


def node(name: str, **fields: object) -> sa.Node:
    return worlds.node(name, **fields)


CASES = {
    "by default nobody loses his place": Case(
        nodes=[node("n1")],
        jobs=[running("low", {"n1": 1}, 8), worlds.job("high", priority=5)],
        settings=sa.Settings(),
    ),
    "a job of lower priority leaves, and the room is held": Case(
        nodes=[node("n1")],
        jobs=[running("low", {"n1": 1}, 8), worlds.job("high", priority=5)],
        want_evicted={"low": "high"},
        want_held={"high": {"n1"}},
        want_blockers=("low",),
    ),
    "nobody of equal priority leaves": Case(
        nodes=[node("n1")],
        jobs=[running("low", {"n1": 1}, 8, priority=5), worlds.job("high", priority=5)],
    ),
    "in queue order a younger job of equal priority leaves": Case(
        nodes=[node("n1")],
        jobs=[running("young", {"n1": 1}, 8, created_at_seconds=9), worlds.job("old", created_at_seconds=1)],
        settings=ORDER,
        want_evicted={"young": "old"},
        want_held={"old": {"n1"}},
    ),
    "in queue order an older job of equal priority stays": Case(
        nodes=[node("n1")],
        jobs=[running("old", {"n1": 1}, 8, created_at_seconds=1), worlds.job("young", created_at_seconds=9)],
        settings=ORDER,
    ),
    "a job that must not be disturbed stays": Case(
        nodes=[node("n1")],
        jobs=[running("low", {"n1": 1}, 8, cost=None), worlds.job("high", priority=5)],
    ),
    "a job that does not preempt waits": Case(
        nodes=[node("n1")],
        jobs=[running("low", {"n1": 1}, 8), worlds.job("polite", priority=9, preempts=False)],
    ),
    "two victims on one node free a slot only together": Case(
        nodes=[node("n1"), node("n2")],
        jobs=[
            running("a1", {"n1": 1}, 4, cost=10),
            running("a2", {"n2": 1}, 4, cost=10),
            running("b1", {"n1": 1}, 4, cost=50),
            running("b2", {"n2": 1}, 4, cost=30),
            worlds.job("high", priority=5),
        ],
        want_evicted={"a2": "high", "b2": "high"},
        want_held={"high": {"n2"}},
    ),
    "one dear victim is kept where two cheap ones lose less": Case(
        nodes=[node("n1"), node("n2")],
        jobs=[
            running("dear", {"n1": 1}, 8, cost=100),
            running("x", {"n2": 1}, 4, cost=40),
            running("y", {"n2": 1}, 4, cost=40),
            worlds.job("high", priority=5),
        ],
        want_evicted={"x": "high", "y": "high"},
        want_held={"high": {"n2"}},
    ),
    "of equal losses the fewest victims": Case(
        nodes=[node("n1"), node("n2")],
        jobs=[
            running("one", {"n1": 1}, 8, cost=80),
            running("x", {"n2": 1}, 4, cost=40),
            running("y", {"n2": 1}, 4, cost=40),
            worlds.job("high", priority=5),
        ],
        want_evicted={"one": "high"},
        want_held={"high": {"n1"}},
    ),
    "of equal losses whoever stands last in the queue: the lowest priority, then the youngest": Case(
        nodes=[node("n1"), node("n2"), node("n3"), node("n4")],
        jobs=[
            running("high", {"n1": 1}, 8, priority=3, created_at_seconds=9),
            running("old", {"n2": 1}, 8, priority=2, created_at_seconds=1),
            running("young", {"n3": 1}, 8, priority=2, created_at_seconds=9),
            running("middle", {"n4": 1}, 8, priority=2, created_at_seconds=5),
            worlds.job("vip", priority=5),
        ],
        want_evicted={"young": "vip"},
        want_held={"vip": {"n3"}},
    ),
    "a gang leaves whole, and its other node is free for the next": Case(
        nodes=[node("n1"), node("n2")],
        jobs=[
            running("gang", {"n1": 1, "n2": 1}, 8, cost=80),
            worlds.job("first", priority=5, created_at_seconds=1),
            worlds.job("second", priority=5, created_at_seconds=2),
        ],
        want_evicted={"gang": "first"},
        want_held={"first": {"n1"}, "second": {"n2"}},
    ),
    "a younger job does not take what is held": Case(
        nodes=[node("n1"), node("n2")],
        jobs=[
            running("low", {"n1": 1}, 8),
            worlds.job("high", 2, 8, priority=5),
            worlds.job("small", 1, 4),
        ],
        want_evicted={"low": "high"},
        want_held={"high": {"n1", "n2"}},
    ),
    "a younger job takes what is not held": Case(
        nodes=[node("n1"), node("n2", free=4)],
        jobs=[
            running("low", {"n1": 1}, 8),
            worlds.job("high", 1, 8, priority=5),
            worlds.job("small", 1, 4),
        ],
        want_evicted={"low": "high"},
        want_held={"high": {"n1"}},
        want_placed={"small"},
    ),
    "the required rack decides who leaves": Case(
        nodes=[node("n1", rack="r1"), node("n2", rack="r2"), node("n3", rack="r2")],
        jobs=[
            running("cheap", {"n1": 1}, 8, cost=1),
            running("p", {"n2": 1}, 8, cost=50),
            running("q", {"n3": 1}, 8, cost=50),
            worlds.job("high", 2, 8, priority=5, level="rack"),
        ],
        want_evicted={"p": "high", "q": "high"},
        want_held={"high": {"n2", "n3"}},
    ),
    "the CPUs of a victim count too": Case(
        nodes=[node("n1", cpu=16), node("n2", cpu=16)],
        jobs=[
            running("few", {"n1": 1}, 8, cost=1, cpu=1),
            running("cpus", {"n1": 1}, 0, cost=9, cpu=15),
            running("all", {"n2": 1}, 8, cost=11, cpu=16),
            worlds.job("high", 1, 8, cpu=16, priority=5),
        ],
        want_evicted={"few": "high", "cpus": "high"},
        want_held={"high": {"n1"}},
    ),
    "a lost device is not given twice": Case(
        # n1 has lost one device under its two pods: with one of them gone 4 + 4 > 7.
        nodes=[node("n1", free=7), node("n2", free=4)],
        jobs=[
            running("a", {"n1": 1}, 4, cost=1),
            running("b", {"n1": 1}, 4, cost=2),
            running("c", {"n2": 1}, 4, cost=9),
            worlds.job("high", 1, 4, priority=5),
        ],
        want_evicted={"a": "high", "b": "high"},
        want_held={"high": {"n1"}},
    ),
    "who has been told to leave makes room for all whom that room holds together": Case(
        # Alone the first job would take a whole large node, and the second would need more victims.
        nodes=[node("n1"), node("n2"), node("n3", free=3), node("n4", free=3), node("n5"), node("n6")],
        jobs=[
            *(running(f"go{i}", {f"n{i}": 1}, 8 if i < 3 else 3, leaving=True) for i in (1, 2, 3, 4)),
            *(running(f"stay{i}", {f"n{i}": 1}, 8, cost=1) for i in (5, 6)),
            worlds.job("first", 2, 3, priority=5, created_at_seconds=1),
            worlds.job("second", 2, 8, priority=5, created_at_seconds=2),
        ],
        want_held={"first": {"n3", "n4"}, "second": {"n1", "n2"}},
    ),
    "a job that leaves already is not told twice": Case(
        nodes=[node("n1"), node("n2")],
        jobs=[
            running("low", {"n1": 1}, 8, cost=None, leaving=True),
            running("other", {"n2": 1}, 8, cost=1),
            worlds.job("high", priority=5),
        ],
        want_held={"high": {"n1"}},
        want_blockers=("low",),
    ),
    "while one leaves, the free part of the room stays held": Case(
        nodes=[node("n1")],
        jobs=[
            running("low", {"n1": 1}, 4, cost=1, leaving=True),
            worlds.job("high", 1, 8, priority=5),
            worlds.job("small", 1, 4),
        ],
        want_held={"high": {"n1"}},
    ),
    "an elastic job gives up its surplus before anybody leaves": Case(
        nodes=[node("n1"), node("n2"), node("n3")],
        jobs=[
            running("low", {"n3": 1}, 8),
            worlds.job("elastic", 2, 8, priority=5, created_at_seconds=1, allowed_num_pods=(1, 2)),
            worlds.job("high", 2, 8, priority=5, created_at_seconds=2),
        ],
        want_evicted={"low": "high"},
        want_held={"high": {"n2", "n3"}},
        want_placed={"elastic"},
    ),
    "what fits nowhere evicts nobody": Case(
        nodes=[node("n1")],
        jobs=[running("low", {"n1": 1}, 8), worlds.job("high", 2, 8, priority=5)],
    ),
    "a blocked node gives nothing back": Case(
        nodes=[node("n1", blocked="cordoned")],
        jobs=[running("low", {"n1": 1}, 8), worlds.job("high", priority=5)],
    ),
}


@pytest.mark.parametrize("strategy", BOTH)
@pytest.mark.parametrize("sentence", CASES)
def test_evictions(sentence: str, strategy: sa.Strategy) -> None:
    case = CASES[sentence]
    snapshot = worlds.snapshot(case.nodes, case.jobs)
    plan = sa.plan(snapshot, dataclasses.replace(case.settings, strategy=strategy))
    assert {eviction.job_id: eviction.for_job for eviction in plan.evictions} == case.want_evicted
    assert {job: {share.node for share in held.shares} for job, held in plan.held.items()} == case.want_held
    assert plan.placements.keys() == case.want_placed
    for job_id in case.want_held:
        assert plan.waiting[job_id].reason is sa.Reason.WAITING_FOR_PREEMPTION
        if case.want_blockers is not None:
            assert plan.waiting[job_id].blockers == case.want_blockers


@given(worlds.busy_snapshots(), st.sampled_from([sa.Preemption.LOWER_PRIORITY, sa.Preemption.QUEUE_ORDER]))
@settings(max_examples=150, deadline=None)
def test_no_set_of_victims_loses_less(snapshot: sa.Snapshot, preemption: sa.Preemption) -> None:
    [job] = brute.queue(snapshot)
    plan = sa.plan(snapshot, sa.Settings(preemption=preemption))
    may_leave = [
        other
        for other in snapshot.jobs
        if other.placement is not None and other.disruption_cost is not None and _ranks_below(other, job, preemption)
    ]
    want = brute.cheapest_victims(snapshot, job, may_leave)
    if job.id in plan.placements:
        assert want == (0, 0)
        assert not plan.evictions
    elif job.id in plan.held:
        assert (sum(eviction.cost for eviction in plan.evictions), len(plan.evictions)) == want
        [tier] = [tier for tier in plan.certificate.tiers if tier.name == "disruptions"]
        assert (tier.value, tier.bound, tier.gap, tier.status) == (want[0], want[0], 0.0, sa.SolveStatus.OPTIMAL)
    else:
        assert want is None


TWO_PAIRS = [
    running("a", {"n1": 1}, 4, cost=30),
    running("b", {"n1": 1}, 4, cost=30),
    running("c", {"n2": 1}, 6, cost=50),
    running("d", {"n2": 1}, 2, cost=1),
    worlds.job("high", 2, 4, priority=5),
]
# One of them gone, its node has room for three accelerators and not for four: a device was lost under them.
OVERFULL = [running("e", {"n3": 1}, 4, cost=20), running("f", {"n3": 1}, 4, cost=25)]


@pytest.mark.parametrize("more", [[], OVERFULL], ids=["two nodes", "a tempting third one"])
def test_the_programme_finds_what_no_simple_order_of_victims_finds(more: list[sa.Job]) -> None:
    snapshot = worlds.snapshot([node("n1"), node("n2"), node("n3", free=7 if more else 0)], TWO_PAIRS + more)
    exact = sa.plan(snapshot, LOWER)
    assert {eviction.job_id for eviction in exact.evictions} == {"c", "d"}
    [tier] = [tier for tier in exact.certificate.tiers if tier.name == "disruptions"]
    assert (tier.value, tier.bound, tier.status) == (51, 51, sa.SolveStatus.OPTIMAL)
    greedy = sa.plan(snapshot, dataclasses.replace(LOWER, strategy=sa.Strategy.GREEDY))
    assert sum(eviction.cost for eviction in greedy.evictions) > 51
    [tier] = [tier for tier in greedy.certificate.tiers if tier.name == "disruptions"]
    assert (tier.bound, tier.status) == (1, sa.SolveStatus.FEASIBLE)


def _ranks_below(victim: sa.Job, job: sa.Job, preemption: sa.Preemption) -> bool:
    if preemption is sa.Preemption.LOWER_PRIORITY:
        return victim.priority < job.priority
    keys = [(-one.priority, one.created_at_seconds, one.id) for one in (job, victim)]
    return keys[0] < keys[1]


@given(worlds.busy_snapshots(max_nodes=5, max_waiting=4), st.sampled_from(BOTH), st.integers(0, 1 << 30))
@settings(max_examples=100, deadline=None)
def test_one_eviction_leads_to_the_start_and_to_no_second_one(
    snapshot: sa.Snapshot, strategy: sa.Strategy, seed: int
) -> None:
    setting = dataclasses.replace(ORDER, strategy=strategy)
    plan = sa.plan(snapshot, setting)  # verifies itself: after the evictions all that is held fits
    assert len({eviction.job_id for eviction in plan.evictions}) == len(plan.evictions)
    shuffled = list(snapshot.jobs)
    random.Random(seed).shuffle(shuffled)
    assert sa.plan(dataclasses.replace(snapshot, jobs=tuple(shuffled)), setting) == plan
    told = {eviction.job_id for eviction in plan.evictions}
    while_leaving = [dataclasses.replace(job, leaving=True) if job.id in told else job for job in snapshot.jobs]
    waiting = [dataclasses.replace(job, placement=plan.placements.get(job.id, job.placement)) for job in while_leaving]
    again = sa.plan(dataclasses.replace(snapshot, jobs=tuple(waiting)), setting)
    if strategy is sa.Strategy.EXACT:  # greed may fill the promised room badly
        assert not again.evictions
        assert again.held.keys() >= plan.held.keys()
    gone = tuple(job for job in waiting if job.id not in told)
    later = sa.plan(dataclasses.replace(snapshot, jobs=gone), setting)
    if strategy is sa.Strategy.EXACT:
        assert later.placements.keys() >= plan.held.keys()


def test_the_clock_is_looked_at_though_nobody_finds_victims() -> None:
    stays = [running(f"s{i}", {f"n{i}": 1}, 8, cost=None) for i in range(2)]
    asks = [worlds.job(f"w{i}", 1, 8, cpu=i, priority=5, created_at_seconds=i) for i in range(9)]
    snapshot = worlds.snapshot([worlds.node("n0"), worlds.node("n1")], [*stays, *asks])
    limited = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY, strategy=sa.Strategy.GREEDY, time_limit_seconds=1e-6)
    assert "not all preempting jobs were decided" in sa.plan(snapshot, limited).certificate.note
    polite = tuple(dataclasses.replace(job, preempts=False) for job in snapshot.jobs)
    assert "not all" not in sa.plan(dataclasses.replace(snapshot, jobs=polite), limited).certificate.note
