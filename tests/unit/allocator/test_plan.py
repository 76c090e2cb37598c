"""What plan() decides, one sentence per case, for all strategies where they must agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import stowplan_allocator as sa
from unit.allocator import worlds
from unit.allocator.worlds import A100, H100, PREFERRED, job, node

TAINT = sa.Taint("team", sa.TaintEffect.NO_SCHEDULE, "x")


def placed(plan: sa.Plan) -> dict[str, dict[str, int]]:
    """Pods by node, by job."""
    return {name: {s.node: s.num_pods for s in placement.shares} for name, placement in plan.placements.items()}


def cpu_node(name: str, cpu: int = 32, **fields: Any) -> sa.Node:
    return sa.Node(name, "", worlds.amounts(0, cpu, 64), worlds.amounts(0, cpu, 64), ("z1", "r1"), **fields)


@dataclasses.dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    want: dict[str, dict[str, int]]
    strategies: tuple[sa.Strategy, ...] = tuple(sa.Strategy)


EXACT = (sa.Strategy.EXACT,)
# Fragmentation gradient descent looks at what the queue's requests cannot use, and not at whole nodes.
ALL_BUT_FGD = tuple(strategy for strategy in sa.Strategy if strategy is not sa.Strategy.FGD)

CASES = {
    "a gang that does not fit whole gets nothing": Case([node("a"), node("b", 4)], [job("x", 2, 8)], {}),
    "the older of two equal jobs goes first": Case(
        [node("a")],
        [job("young", created_at_seconds=9), job("old", created_at_seconds=1)],
        {"old": {"a": 1}},
    ),
    "jobs of one age go by id": Case([node("a")], [job("j2"), job("j1")], {"j1": {"a": 1}}),
    "priority goes before age": Case(
        [node("a")],
        [job("old", created_at_seconds=1), job("urgent", created_at_seconds=9, priority=5)],
        {"urgent": {"a": 1}},
    ),
    "a small job of low priority runs where the large one of high priority cannot": Case(
        [node("a", 4)],
        [job("large", priority=9), job("small", 1, 4)],
        {"small": {"a": 1}},
    ),
    "one large old job wins against many small young ones": Case(
        [node("a")],
        [job("large", created_at_seconds=1), *(job(f"s{i}", 1, 1, created_at_seconds=2) for i in range(8))],
        {"large": {"a": 1}},
    ),
    "the best acceptable product is taken": Case(
        [node("a", product=A100), node("h")],
        [job("x", products=[sa.ProductChoice(A100, 450), sa.ProductChoice(H100)])],
        {"x": {"h": 1}},
    ),
    "a worse product is better than waiting": Case(
        [node("a", product=A100), node("h", 4)],
        [job("x", products=[H100, sa.ProductChoice(A100, 450)])],
        {"x": {"a": 1}},
    ),
    "products are never mixed in one job": Case(
        [node("a", product=A100), node("h")], [job("x", 2, products=[H100, A100]), job("y", 2)], {}
    ),
    "an older job makes room on the product that a younger one needs": Case(
        [node("a", product=A100), node("h")],
        [
            job("flexible", products=[H100, sa.ProductChoice(A100, 450)]),
            job("picky", products=[H100], created_at_seconds=1),
        ],
        {"flexible": {"a": 1}, "picky": {"h": 1}},
        EXACT,
    ),
    "a job of lower priority does not push one of higher priority to a worse product": Case(
        [node("a", product=A100), node("h")],
        [
            job("flexible", products=[H100, sa.ProductChoice(A100, 450)], priority=5),
            job("picky", products=[H100]),
        ],
        {"flexible": {"h": 1}},
    ),
    "the faster product goes to the job that gains more": Case(
        [node("a", product=A100), node("h")],
        [
            job("indifferent", products=[H100, sa.ProductChoice(A100, 990)]),
            job("eager", products=[H100, sa.ProductChoice(A100, 450)], created_at_seconds=1),
        ],
        {"indifferent": {"a": 1}, "eager": {"h": 1}},
        EXACT,
    ),
    "selectors, taints, blocked and avoided nodes are kept to": Case(
        [
            node("blocked", blocked="cordoned", labels={"pool": "p"}),
            node("tainted", labels={"pool": "p"}, taints=(TAINT,)),
            node("other"),
            node("avoided", labels={"pool": "p"}),
            node("good", labels={"pool": "p"}),
        ],
        [job("x", 1, 1, node_selector=(("pool", "p"),), avoided_nodes=frozenset({"avoided"}))],
        {"x": {"good": 1}},
    ),
    "a toleration opens a tainted node": Case(
        [node("a", taints=(TAINT,))],
        [job("x", tolerations=(sa.Toleration("team", "Equal", "x"),))],
        {"x": {"a": 1}},
    ),
    "running jobs keep their place and their room": Case(
        [node("a"), node("b")],
        [
            job("running", 1, 8, placement=sa.Placement(H100, (sa.NodeShare("a", 1),))),
            job("x", 1, 8, priority=9),
            job("y", 1, 8),
        ],
        {"x": {"b": 1}},
    ),
    "a job without accelerators goes to a node without them": Case(
        [node("gpu"), cpu_node("plain")], [job("x", 1, 0, cpu=8)], {"x": {"plain": 1}}
    ),
    "a job without accelerators takes a node that has some rather than wait": Case(
        [node("gpu"), cpu_node("plain", 4)], [job("x", 1, 0, cpu=8)], {"x": {"gpu": 1}}
    ),
    "pods without accelerators may stand on nodes of several products": Case(
        [node("h", cpu_free=8), node("a", cpu_free=8, product=A100)], [job("x", 2, 0, cpu=8)], {"x": {"h": 1, "a": 1}}
    ),
    "a pod that asks for nothing is placed": Case([cpu_node("plain")], [job("x", 3, 0)], {"x": {"plain": 3}}),
    "a required rack is kept to": Case(
        [node("a"), node("b", rack="r2"), node("c", rack="r2")],
        [job("x", 2, 8, level="rack")],
        {"x": {"b": 1, "c": 1}},
    ),
    "racks of one name in two zones are two racks": Case(
        [node("a"), node("b", zone="z2")], [job("x", 2, 8, level="rack")], {}
    ),
    "a node without the label is in no rack": Case([node("a", rack=None)], [job("x", 1, 8, level="rack")], {}),
    "a required node holds the whole gang": Case(
        [node("a", 6), node("b", 8)], [job("x", 2, 4, level="node")], {"x": {"b": 2}}
    ),
    "a preferred rack is taken where it has room": Case(
        [node("a"), node("b", rack="r2"), node("c", rack="r2")],
        [job("x", 2, 8, level="rack", mode=PREFERRED)],
        {"x": {"b": 1, "c": 1}},
    ),
    "a preferred rack does not keep a job waiting": Case(
        [node("a"), node("b", rack="r2")],
        [job("x", 2, 8, level="rack", mode=PREFERRED)],
        {"x": {"a": 1, "b": 1}},
    ),
    "a preferred node is taken where it has room": Case(
        [node("a", 7), node("b", 4, rack="r2"), node("c", 4, rack="r2")],
        [job("x", 2, 3, level="node", mode=PREFERRED)],
        {"x": {"a": 2}},
    ),
    "a gang without a wish stays in few racks all the same": Case(
        [node("a", 4), node("b", 8, rack="r2"), node("c", 8, rack="r2")],
        [job("x", 4, 4)],
        {"x": {"b": 2, "c": 2}},
    ),
    "a single pod leaves the large slot whole": Case(
        [node("a", 4), node("b", 6), node("c", 6)], [job("x", 1, 1)], {"x": {"b": 1}}
    ),
    "small jobs are put where they leave whole nodes free": Case(
        [node("a", 3), node("b", 8)],
        [job("x", 1, 2), job("y", 1, 1)],
        {"x": {"a": 1}, "y": {"a": 1}},
        ALL_BUT_FGD,
    ),
    "of equal nodes the cheaper one is taken": Case(
        [node("dear", price_per_hour_micros=9_000_000), node("cheap", price_per_hour_micros=1_000_000)],
        [job("x")],
        {"x": {"cheap": 1}},
        EXACT,
    ),
    "sizes that do not divide each other are packed": Case(
        [node("a"), node("b")],
        [job("x", 2, 5), job("y", 2, 3)],
        {"x": {"a": 1, "b": 1}, "y": {"a": 1, "b": 1}},
    ),
    "CPUs and accelerators are packed together": Case(
        [node("a", cpu=10), node("b", cpu=10)],
        [job("fat", 2, 4, cpu=7), job("lean", 2, 4, cpu=3)],
        {"fat": {"a": 1, "b": 1}, "lean": {"a": 1, "b": 1}},
    ),
}


@pytest.mark.parametrize(
    ("case", "strategy"),
    [pytest.param(case, s, id=f"{name}-{s}") for name, case in CASES.items() for s in case.strategies],
)
def test_placement(case: Case, strategy: sa.Strategy) -> None:
    plan = sa.plan(worlds.snapshot(case.nodes, case.jobs), sa.Settings(strategy=strategy))
    assert placed(plan) == case.want
    assert plan.placements.keys() | plan.waiting.keys() == {j.id for j in case.jobs if j.placement is None}


def test_other_resources_bind() -> None:
    rdma = sa.Resources(1, other=(("rdma/hca", 1),))
    room = sa.Resources(8, other=(("rdma/hca", 2),))
    snapshot = worlds.snapshot([sa.Node("a", H100, room, room, ("z1", "r1"))], [sa.Job("x", "x", 3, rdma)])
    assert not sa.plan(snapshot).placements
    two = dataclasses.replace(snapshot.jobs[0], num_pods=2)
    assert sa.plan(worlds.snapshot(list(snapshot.nodes), [two])).placements


def test_ranks_follow_topology_and_natural_order() -> None:
    nodes = [node(f"n{i}", rack=f"r{i % 2}") for i in (10, 9, 2, 1)]
    [placement] = sa.plan(worlds.snapshot(nodes, [job("x", 4, 8)])).placements.values()
    assert [share.node for share in placement.shares] == ["n2", "n10", "n1", "n9"]
    assert placement.product == H100


def test_a_node_that_lost_a_device_under_a_running_pod_has_no_room_and_no_debt() -> None:
    holder = job("running", 1, 8, placement=sa.Placement(H100, (sa.NodeShare("a", 1),)))
    plan = sa.plan(worlds.snapshot([node("a", 7), node("b")], [holder, job("x")]))
    assert placed(plan) == {"x": {"b": 1}}


def test_nothing_to_do_is_said() -> None:
    plan = sa.plan(worlds.snapshot([node("a")], []))
    assert plan.certificate.status is sa.SolveStatus.NOTHING_TO_DO
    assert not plan.placements
    assert not plan.waiting


@pytest.mark.parametrize(
    "snapshot",
    [
        worlds.snapshot([node("a"), node("a")], []),
        worlds.snapshot([node("a")], [job("x"), job("x")]),
    ],
    ids=["a node twice", "a job twice"],
)
def test_a_snapshot_that_contradicts_itself_is_refused(snapshot: sa.Snapshot) -> None:
    with pytest.raises(ValueError, match=r"twice; every .* must be unique"):
        sa.plan(snapshot)


def test_an_unknown_solver_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r'planner.solver "Abacus" is not available here; use one of .*HiGHS'):
        sa.plan(worlds.snapshot([node("a")], [job("x")]), sa.Settings(solver="Abacus"))


def test_the_public_names_are_these() -> None:
    want = (
        "AffinityTerm CapacityType Certificate DisruptionBudget Eviction Job LabelExpression LabelOperator Move "
        "NamespaceLimit Node NodeShare Placement Plan PlanViolationError Preemption PriorityClass ProductChoice "
        "Protection Queue QueueOrder QueuePreemption Quota Reason Reservation Resize Resources Settings Snapshot "
        "SolveStatus Spread Strategy Taint TaintEffect TierResult Toleration TopologyMode TopologyRequest Waiting plan"
    )
    assert set(sa.__all__) == set(want.split(" "))
    assert {reason.value for reason in sa.Reason} == {
        "Misconfigured",
        "ExceedsClusterCapacity",
        "NoMatchingAccelerator",
        "ExceedsQuota",
        "WaitingForQuota",
        "ExceedsResourceQuota",
        "WaitingForResourceQuota",
        "WaitingForCapacity",
        "Fragmented",
        "TopologyUnsatisfied",
        "NodesUnhealthy",
        "ReservedForLargerJob",
        "WaitingForPreemption",
        "QueuedBehind",
        "Suspended",
        "SolverTimeLimit",
    }
