"""Slices and spread: what stays together, what stands apart, and what a waiting job is told."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import Reason, growing, sizes
from unit.allocator import brute, worlds
from unit.allocator.worlds import PREFERRED, REQUIRED, job, node

STRATEGIES = (sa.Strategy.EXACT, sa.Strategy.GREEDY)


def rack(name: str, *free: int, zone: str = "z1") -> list[sa.Node]:
    return [node(f"{name}{i}", free[i], rack=name, zone=zone) for i in range(len(free))]


def slices(level: str, size: int, mode: sa.TopologyMode = REQUIRED) -> sa.TopologyRequest:
    return sa.TopologyRequest(level, mode, size)


@dataclasses.dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    want: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    want_reason: Reason | None = None
    want_message: str = ""


CASES = {
    "slices of two pods fill two racks that hold three each": Case(
        rack("a", 8, 8, 8) + rack("b", 8, 8, 8),
        [job("x", 4, topology=slices("rack", 2))],
        {"x": ["a0", "a1", "b0", "b1"]},
    ),
    "six pods have room, but only four in whole slices": Case(
        rack("a", 8, 8, 8) + rack("b", 8, 8, 8),
        [job("x", 6, topology=slices("rack", 2))],
        {},
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 6 pods × 8 accelerators in slices of 2 pods, each in one rack; matching nodes hold 4 of 6 pods that way "
        "even when empty",
    ),
    "a slice that is not free now": Case(
        rack("a", 8, 8) + rack("b", 8, 0) + rack("c", 8, 0),
        [job("x", 4, topology=slices("rack", 2))],
        {},
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 4 pods × 8 accelerators in slices of 2 pods, each in one rack; 4 pods fit now in all, but 2 of 4 that "
        "way",
    ),
    "slices on one node each": Case(
        rack("a", 6, 6, 5),
        [job("x", 6, 2, topology=slices("node", 2))],
        {"x": ["a0", "a0", "a1", "a1", "a2", "a2"]},
    ),
    "slices of a job in one zone": Case(
        rack("a", 8, 8, zone="z1") + rack("b", 8, 8, zone="z2"),
        [job("x", 4, topology=slices("zone", 2))],
        {"x": ["a0", "a1", "b0", "b1"]},
    ),
    "wished slices are kept where they can be": Case(
        rack("a", 8, 8, 8) + rack("b", 8, 8, 8),
        [job("x", 4, topology=slices("rack", 2, PREFERRED))],
        {"x": ["a0", "a1", "b0", "b1"]},
    ),
    "wished slices are given up where they cannot be": Case(
        rack("a", 8) + rack("b", 8) + rack("c", 8, 8),
        [job("x", 4, topology=slices("rack", 2, PREFERRED))],
        {"x": ["c0", "c1", "a0", "b0"]},
    ),
    "at most one pod on a node": Case(
        rack("a", 8, 8, 8),
        [job("x", 3, 2, spread=sa.Spread("node", 1))],
        {"x": ["a0", "a1", "a2"]},
    ),
    "spread over nodes runs out of nodes": Case(
        rack("a", 8, 8),
        [job("x", 3, 2, spread=sa.Spread("node", 1))],
        {},
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 3 pods × 2 accelerators with at most 1 pod in a node; matching nodes hold 2 of 3 pods that way even "
        "when empty",
    ),
    "at most two pods in a rack, all in one zone": Case(
        rack("a", 8, 8, 8) + rack("b", 8, 8, 8) + rack("c", 8, 8, 8, zone="z2"),
        [job("x", 4, level="zone", spread=sa.Spread("rack", 2))],
        {"x": ["a0", "a1", "b0", "b1"]},
    ),
    "a zone short of racks": Case(
        rack("a", 8, 8, 8) + rack("b", 8, 8, 8, zone="z2"),
        [job("x", 3, level="zone", spread=sa.Spread("rack", 2))],
        {},
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 3 pods × 8 accelerators in one zone, with at most 2 pods in a rack; matching nodes hold 2 of 3 pods "
        "that way even when empty",
    ),
    "a node in no rack is not used where racks are spread over": Case(
        [node("lost", rack=None), *rack("a", 8)],
        [job("x", 1, spread=sa.Spread("rack", 1))],
        {"x": ["a0"]},
    ),
    "slices and spread together: one slice in a rack": Case(
        rack("a", 8, 8, 8, 8) + rack("b", 8, 8),
        [job("x", 4, topology=slices("rack", 2), spread=sa.Spread("rack", 2))],
        {"x": ["a0", "a1", "b0", "b1"]},
    ),
    "slices and spread together: a slice on as many nodes as it has pods": Case(
        rack("a", 8, 8) + rack("b", 8, 8),
        [job("x", 4, 2, topology=slices("rack", 2), spread=sa.Spread("node", 1))],
        {"x": ["a0", "a1", "b0", "b1"]},
    ),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_patterns(case: Case, strategy: sa.Strategy) -> None:
    plan = sa.plan(worlds.snapshot(case.nodes, case.jobs), sa.Settings(strategy=strategy))
    ranks = {
        name: [share.node for share in placement.shares for _ in range(share.num_pods)]
        for name, placement in plan.placements.items()
    }
    assert ranks == case.want
    if case.want_reason is not None:
        assert (plan.waiting["x"].reason, plan.waiting["x"].message) == (case.want_reason, case.want_message)


WRONG = {
    "slices that do not make up the job": (
        job("x", 5, topology=slices("rack", 2)),
        "topology.sliceSize 2 does not divide 5 pods; slices must make up the whole job",
    ),
    "slices that do not make up one of the sizes": (
        job("x", 4, topology=slices("rack", 2), allowed_num_pods=(3, 4)),
        "topology.sliceSize 2 does not divide 3 pods; slices must make up the whole job",
    ),
    "a slice of nothing": (
        job("x", 4, topology=slices("rack", 0)),
        "topology.sliceSize 0 does not divide 4 pods; slices must make up the whole job",
    ),
    "spread over an unknown level": (
        job("x", spread=sa.Spread("moon", 1)),
        'spread.level "moon" is not a level of this cluster; use one of zone, rack, node',
    ),
    "spread that allows nothing": (job("x", spread=sa.Spread("rack", 0)), "spread.maxPods is 0; it must be at least 1"),
    "together and apart at once": (
        job("x", 4, level="rack", spread=sa.Spread("zone", 2)),
        "topology keeps 4 pods in one rack, and spread allows only 2 in one zone; raise spread.maxPods",
    ),
}


@pytest.mark.parametrize(("wrong", "want"), WRONG.values(), ids=WRONG.keys())
def test_what_can_never_hold_is_named(wrong: sa.Job, want: str) -> None:
    plan = sa.plan(worlds.snapshot(rack("a", 8, 8, 8, 8), [wrong]))
    assert plan.waiting["x"] == sa.Waiting(Reason.MISCONFIGURED, want)


@pytest.mark.parametrize("level", ["node", "rack"])
def test_the_model_alone_grows_jobs_in_whole_slices(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "grow", lambda *args, **kwargs: None)
    monkeypatch.setattr(growing, "_coarsely", lambda *args, **kwargs: (None, None))
    nodes = rack("a", 3, 2, 2) + rack("b", 3)
    plan = sa.plan(worlds.snapshot(nodes, [job("x", 8, 1, topology=slices(level, 2), allowed_num_pods=(2, 4, 6, 8))]))
    assert plan.placements["x"].num_pods == 8
    assert plan.certificate.status is sa.SolveStatus.OPTIMAL


@st.composite
def patterned(draw: st.DrawFn) -> sa.Snapshot:
    """Few nodes in few domains, all jobs with slices or spread, so that these bind."""
    places = st.tuples(st.sampled_from(["z1", "z2"]), st.sampled_from(["r1", "r2", None]), st.integers(0, 4))
    nodes = [
        node(f"n{i}", free, zone=zone, rack=name)
        for i, (zone, name, free) in enumerate(draw(st.lists(places, min_size=2, max_size=4)))
    ]
    jobs = []
    for i in range(draw(st.integers(1, 2))):
        pods = draw(st.sampled_from([2, 4]))
        fields: dict[str, object] = {}
        if draw(st.booleans()):
            fields["topology"] = slices(draw(st.sampled_from(["zone", "rack", "node"])), 2)
        if not fields or draw(st.booleans()):
            fields["spread"] = sa.Spread(draw(st.sampled_from(["zone", "rack", "node"])), draw(st.integers(1, 3)))
        if draw(st.booleans()):
            fields["allowed_num_pods"] = (2, 4)
            pods = 4
        jobs.append(job(f"j{i}", pods, draw(st.sampled_from([1, 1, 2])), **fields))
    return worlds.snapshot(nodes, jobs)


@given(patterned())
@settings(max_examples=120, deadline=None)
def test_no_assignment_admits_more_or_has_more_goodput(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot)
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    assert got[:-2] == want[:-2]
    assert {tier.status for tier in plan.certificate.tiers[:2]} <= {sa.SolveStatus.OPTIMAL}


@given(patterned())
@settings(max_examples=60, deadline=None)
def test_greed_finds_a_way_for_the_first_job_whenever_there_is_one(snapshot: sa.Snapshot) -> None:
    first = brute.queue(snapshot)[0]
    alone = dataclasses.replace(snapshot, jobs=(first,))
    plan = sa.plan(alone, sa.Settings(strategy=sa.Strategy.GREEDY))
    assert (first.id in plan.placements) is bool(brute.ways(first, alone))
