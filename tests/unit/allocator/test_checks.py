"""checks.py finds each kind of breach: a sound plan is broken once in every way."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable

import pytest

import stowplan_allocator as sa
from stowplan_allocator import checks
from unit.allocator import worlds
from unit.allocator.worlds import A100, H100, job, node

ON_DEMAND = sa.CapacityType.ON_DEMAND
SNAPSHOT = worlds.snapshot(
    [
        node("a", labels={"pool": "p"}),
        node("b", labels={"pool": "p"}),
        node("far", rack="r2", labels={"pool": "p"}),
        node("unlabelled", rack=None, labels={"pool": "p"}),
        node("cordoned", labels={"pool": "p"}, blocked="cordoned"),
        node("tainted", labels={"pool": "p"}, taints=(sa.Taint("k", sa.TaintEffect.NO_EXECUTE),)),
        node("plain"),
        node("avoided", labels={"pool": "p"}),
        node("spot", labels={"k": "4"}, spot=True),
        node("good", labels={"k": "4"}),
        node("other", labels={"pool": "p"}, product=A100),
    ],
    [
        job("running", 1, 4, placement=sa.Placement(H100, (sa.NodeShare("b", 1),))),
        job(
            "x",
            2,
            4,
            cpu=8,
            products=[H100],
            level="rack",
            node_selector=(("pool", "p"),),
            avoided_nodes=frozenset({"avoided"}),
        ),
        job("one", 2, 1, level="node"),
        job("huge", 1, 16),
        job("sliced", 4, 0, topology=sa.TopologyRequest("rack", worlds.REQUIRED, 2)),
        job("apart", 2, 0, spread=sa.Spread("rack", 1)),
        job("elastic", 3, 0, allowed_num_pods=(1, 3)),
        job("picky", node_affinity=((sa.LabelExpression("k", worlds.GT, ("3",)),),), capacity_type=ON_DEMAND),
    ],
)


def shares(**pods: int) -> tuple[sa.NodeShare, ...]:
    return tuple(sa.NodeShare(name, count) for name, count in pods.items())


GOOD = sa.Plan(
    {
        "x": sa.Placement(H100, shares(a=1, b=1)),
        "one": sa.Placement(H100, shares(a=2)),
        "sliced": sa.Placement(H100, shares(a=2, far=2)),
        "apart": sa.Placement(H100, shares(far=1, b=1)),
        "picky": sa.Placement(H100, shares(good=1)),
    },
    {
        "elastic": sa.Waiting(sa.Reason.FRAGMENTED, ""),
        "huge": sa.Waiting(sa.Reason.EXCEEDS_CLUSTER_CAPACITY, "too large"),
    },
    sa.Certificate(sa.SolveStatus.OPTIMAL, "exact"),
)


def moved(name: str, placement: sa.Placement) -> sa.Plan:
    return dataclasses.replace(GOOD, placements={**GOOD.placements, name: placement})


def x_on(**pods: int) -> sa.Plan:
    return moved("x", sa.Placement(H100, shares(**pods)))


BREACHES: dict[str, tuple[sa.Plan, str]] = {
    "a pod too few": (x_on(a=1), "1 of 2 pods are placed"),
    "a size that is not allowed": (
        moved("elastic", sa.Placement(H100, shares(a=2))),
        "elastic: 2 pods are placed where only 1, 3 are allowed",
    ),
    "a pod too many": (x_on(a=1, b=1, far=1), "3 of 2 pods are placed"),
    "a share without pods": (x_on(a=2, b=0), "a share of less than one pod"),
    "a node in two shares": (
        moved("x", sa.Placement(H100, (sa.NodeShare("a", 1), sa.NodeShare("a", 1)))),
        "a node is named in two shares",
    ),
    "a node that does not exist": (x_on(a=1, ghost=1), "node ghost is not in the snapshot"),
    "a node beside one that does not exist": (x_on(ghost=1, far=2), "x: 3 of 2 pods are placed"),
    "too much of a node beside one that does not exist": (x_on(ghost=1, b=2), "b: 8 accelerators given where 4"),
    "a blocked node": (x_on(a=1, cordoned=1), "the node is blocked (cordoned)"),
    "an avoided node": (x_on(a=1, avoided=1), "the job avoids the node"),
    "a node without the selector's label": (x_on(a=1, plain=1), "the node lacks label pool=p"),
    "a taint that is not tolerated": (x_on(a=1, tainted=1), "taint k is not tolerated"),
    "a node of another product": (x_on(a=1, other=1), f'the node is "{A100}"'),
    "a product that is not acceptable": (moved("x", sa.Placement(A100, shares(other=2))), "is not acceptable"),
    "a node that fails the affinity": (
        moved("picky", sa.Placement(H100, shares(a=1))),
        "picky on a: no term of the node affinity holds",
    ),
    "a spot node for a job that asks for on-demand": (
        moved("picky", sa.Placement(H100, shares(spot=1))),
        "picky on spot: the job asks for OnDemand and the node is spot",
    ),
    "a slice over two racks": (
        moved("sliced", sa.Placement(H100, shares(a=1, far=2, b=1))),
        "sliced: ranks 0 to 1 are not in one rack",
    ),
    "a slice on a node in no rack": (
        moved("sliced", sa.Placement(H100, shares(unlabelled=2, b=2))),
        "sliced: ranks 0 to 1 are not in one rack",
    ),
    "more pods in a rack than its spread lets in": (
        moved("apart", sa.Placement(H100, shares(a=1, b=1))),
        "apart: 2 pods in rack z1/r1, where at most 1 may be",
    ),
    "a node in no rack where pods are spread over racks": (
        moved("apart", sa.Placement(H100, shares(a=1, unlabelled=1))),
        "apart on unlabelled: the node is in no rack",
    ),
    "two racks where one is required": (x_on(a=1, far=1), "spread over 2 domains of rack"),
    "a node without the required level's label": (x_on(unlabelled=2), "the node is in no rack"),
    "two nodes where one is required": (
        moved("one", sa.Placement(H100, shares(a=1, far=1))),
        "spread over 2 nodes where one is required",
    ),
    "more accelerators than the running job leaves": (x_on(b=2), "b: 8 accelerators given where 4 are free"),
    "more than a node has, by two jobs": (x_on(a=2), "a: 10 accelerators given where 8 are free"),
    "a job that is running": (
        moved("running", sa.Placement(H100, shares(a=1))),
        "running: the plan speaks of a job that does not wait",
    ),
    "no answer": (dataclasses.replace(GOOD, waiting={}), "huge: the plan gives 0 answers"),
    "two answers": (
        dataclasses.replace(GOOD, waiting={**GOOD.waiting, "x": sa.Waiting(sa.Reason.FRAGMENTED, "")}),
        "x: the plan gives 2 answers",
    ),
}


def test_a_sound_plan_passes() -> None:
    checks.verify(GOOD, snapshot=SNAPSHOT)


@pytest.mark.parametrize(("plan", "want"), BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_is_found(plan: sa.Plan, want: str) -> None:
    with pytest.raises(sa.PlanViolationError) as caught:
        checks.verify(plan, snapshot=SNAPSHOT)
    assert any(want in breach for breach in caught.value.breaches), caught.value.breaches


@pytest.mark.parametrize("resource", ["cpu_milli", "memory_mib", "rdma/hca"])
def test_every_resource_is_counted(resource: str) -> None:
    def amounts(count: int) -> sa.Resources:
        if resource == "rdma/hca":
            return sa.Resources(other=((resource, count),))
        return sa.Resources(cpu_milli=count if resource == "cpu_milli" else 0, memory_mib=count)

    nodes = [sa.Node("a", "", amounts(3), amounts(9))]
    snapshot = worlds.snapshot(nodes, [sa.Job("x", "x", 2, amounts(2))], ())
    plan = dataclasses.replace(GOOD, placements={"x": sa.Placement("", shares(a=2))}, waiting={})
    with pytest.raises(sa.PlanViolationError, match=f"4 {resource} given where 3 are free"):
        checks.verify(plan, snapshot=snapshot)


@pytest.mark.parametrize("resource", ["cpu_milli", "memory_mib", "rdma/hca"])
def test_what_running_jobs_hold_is_counted_even_beside_a_lost_node(resource: str) -> None:
    def amounts(count: int) -> sa.Resources:
        own = {} if "/" in resource else {resource: count}
        return sa.Resources(**own, other=((resource, count),) if "/" in resource else ())

    held = sa.Placement("", shares(lost=1, a=2))
    jobs = [sa.Job("held", "held", 3, amounts(2), placement=held), sa.Job("x", "x", 1, amounts(3))]
    snapshot = worlds.snapshot([sa.Node("a", "", amounts(6), amounts(6))], jobs, ())
    plan = dataclasses.replace(GOOD, placements={"x": sa.Placement("", shares(a=1))}, waiting={})
    with pytest.raises(sa.PlanViolationError, match=f"a: 3 {resource} given where 2 are free"):
        checks.verify(plan, snapshot=snapshot)


def test_a_plan_that_fails_its_check_never_leaves_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    from stowplan_allocator import greedy

    original: Callable[..., sa.Placement] = greedy.to_placement

    def broken(*args: object, **kwargs: object) -> sa.Placement:
        placement = original(*args, **kwargs)
        return dataclasses.replace(placement, shares=placement.shares[:-1])

    monkeypatch.setattr(greedy, "to_placement", broken)
    with pytest.raises(sa.PlanViolationError):
        sa.plan(SNAPSHOT)


def test_a_violation_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(sa.PlanViolationError(["one", "two"])))
    assert error.breaches == ("one", "two")


LEFT = worlds.snapshot(
    [node("a"), node("b")],
    [
        job("low", 1, 8, disruption_cost=7, placement=sa.Placement(H100, shares(a=1))),
        job("equal", 1, 8, disruption_cost=1, priority=5, placement=sa.Placement(H100, shares(b=1))),
        job("high", 1, 8, priority=5),
        job("small", 1, 4),
        job("polite", 1, 8, priority=9, preempts=False),
    ],
)
EVICTING = sa.Plan(
    {},
    {
        "high": sa.Waiting(sa.Reason.WAITING_FOR_PREEMPTION, ""),
        "small": sa.Waiting(sa.Reason.WAITING_FOR_CAPACITY, ""),
        "polite": sa.Waiting(sa.Reason.WAITING_FOR_PREEMPTION, ""),
    },
    sa.Certificate(sa.SolveStatus.OPTIMAL, "exact"),
    (sa.Eviction("low", "high", 7),),
    {"high": sa.Placement(H100, shares(a=1))},
)
TOO_MANY = (sa.Eviction("low", "high", 7), sa.Eviction("low", "high", 7))
WRONG: dict[str, tuple[sa.Plan, str]] = {
    "a victim that does not run": (
        dataclasses.replace(EVICTING, evictions=(sa.Eviction("small", "high", 7),)),
        "eviction of small for high: the victim does not run",
    ),
    "a victim told twice": (dataclasses.replace(EVICTING, evictions=TOO_MANY), "the victim is leaving already"),
    "another cost": (dataclasses.replace(EVICTING, evictions=(sa.Eviction("low", "high", 6),)), "it costs 7, not 6"),
    "a victim of equal priority": (
        dataclasses.replace(
            EVICTING, evictions=(sa.Eviction("equal", "high", 1),), held={"high": sa.Placement(H100, shares(b=1))}
        ),
        "the victim does not rank below it",
    ),
    "a job that may not preempt": (
        dataclasses.replace(
            EVICTING,
            evictions=(sa.Eviction("low", "polite", 7),),
            held={"polite": sa.Placement(H100, shares(a=1))},
        ),
        "eviction of low for polite: it may not preempt",
    ),
    "no room held": (dataclasses.replace(EVICTING, held={}), "no room is held for it"),
    "held room that no victim leaves": (
        dataclasses.replace(EVICTING, held={"high": sa.Placement(H100, shares(b=1))}),
        "once victims are gone: b: 8 accelerators given where 0 are free",
    ),
    "held room that a younger job takes": (
        dataclasses.replace(
            EVICTING,
            placements={"small": sa.Placement(H100, shares(a=1))},
            waiting={"high": EVICTING.waiting["high"]},
        ),
        "once victims are gone: a: 12 accelerators given where 8 are free",
    ),
    "too few pods held": (
        dataclasses.replace(EVICTING, held={"high": sa.Placement(H100, ())}),
        "once victims are gone: high: 0 of 1 pods are placed",
    ),
    "another reason": (
        dataclasses.replace(EVICTING, waiting={**EVICTING.waiting, "high": EVICTING.waiting["small"]}),
        "room is held for a job that does not wait for preemption",
    ),
}
LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)


def test_sound_evictions_pass() -> None:
    checks.verify(EVICTING, snapshot=LEFT, settings=LOWER)


@pytest.mark.parametrize(("plan", "want"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_eviction_is_found(plan: sa.Plan, want: str) -> None:
    with pytest.raises(sa.PlanViolationError) as caught:
        checks.verify(plan, snapshot=LEFT, settings=LOWER)
    assert any(want in breach for breach in caught.value.breaches), caught.value.breaches


def test_evictions_need_leave() -> None:
    with pytest.raises(sa.PlanViolationError, match="the settings never allow that"):
        checks.verify(EVICTING, snapshot=LEFT, settings=sa.Settings())
