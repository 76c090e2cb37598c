"""Why a job waits: one case per sentence."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings

import stowplan_allocator as sa
from stowplan_allocator import Reason, reasons
from unit.allocator import brute, worlds
from unit.allocator.worlds import A100, H100, job, node


def running(name: str, where: str, gpus: int, pods: int = 1, *, cpu: int = 0) -> sa.Job:
    return job(name, pods, gpus, cpu=cpu, placement=sa.Placement(H100, (sa.NodeShare(where, pods),)))


def trial(**second: Any) -> list[sa.Node]:
    """The trial cluster: two nodes of one product in two racks, one of another, four accelerators each."""
    return [
        node("stowplan-worker", 4, of=4, cpu=16),
        node("stowplan-worker2", 4, of=4, cpu=16, rack="r2", **second),
        node("stowplan-worker3", 4, of=4, cpu=16, rack="r2", product=A100),
    ]


OLD = sa.LabelExpression("old", worlds.MISSING)
TAINTED = sa.Taint("team", sa.TaintEffect.NO_SCHEDULE, "x")


@dataclasses.dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    want_reason: Reason
    want_message: str
    want_numbers: dict[str, str]
    want_blockers: tuple[str, ...] = ()


CASES = {
    "a job of two nodes waits for a cordoned one and names it": Case(
        trial(blocked="cordoned"),
        [job("x", 2, 4, products=[H100])],
        Reason.NODES_UNHEALTHY,
        "needs 2 pods × 4 NVIDIA-H100-80GB-HBM3; 1 of 2 pods fits now: stowplan-worker has 4 free; "
        "not usable: stowplan-worker2 (cordoned)",
        {
            "pods_needed": "2",
            "pods_fitting": "1",
            "accelerators_needed": "8",
            "accelerators_free": "4",
            "nodes_matching": "2",
            "nodes_blocked": "1",
            "nodes_unusable": "1",
            "product": H100,
        },
    ),
    "an unhealthy device keeps a job of a whole node away": Case(
        [node("a", 7, unhealthy_accelerators=1)],
        [job("x")],
        Reason.NODES_UNHEALTHY,
        "needs 1 pod × 8 accelerators; no pod fits now: a has 7 free; not usable: a (1 unhealthy accelerator)",
        {"pods_fitting": "0", "accelerators_free": "7"},
    ),
    "the only node is avoided by the job": Case(
        [node("a")],
        [job("x", avoided_nodes=frozenset({"a"}))],
        Reason.NODES_UNHEALTHY,
        "needs 1 pod × 8 accelerators; no pod fits now; not usable: a (avoided after a failure)",
        {"pods_fitting": "0"},
    ),
    "the job before took the room and is named": Case(
        trial(),
        [job("first", 2, 4, products=[H100]), job("x", 2, 4, products=[H100], created_at_seconds=5)],
        Reason.QUEUED_BEHIND,
        "needs 2 pods × 4 NVIDIA-H100-80GB-HBM3; it would fit now but for the job ahead of it: first",
        {"jobs_ahead": "1", "accelerators_free": "0"},
        ("first",),
    ),
    "many jobs ahead are named in part and counted": Case(
        [node("a")],
        [*(job(f"j{i}", 1, 1, priority=1, created_at_seconds=i) for i in range(8)), job("x", 1, 8)],
        Reason.QUEUED_BEHIND,
        "needs 1 pod × 8 accelerators; it would fit now but for the 8 jobs ahead of it: j0, j1, j2 and 5 more",
        {"jobs_ahead": "8"},
        tuple(f"j{i}" for i in range(8)),
    ),
    "too little is free because a job runs": Case(
        trial(),
        [running("r", "stowplan-worker", 4), job("x", 2, 4, products=[H100])],
        Reason.WAITING_FOR_CAPACITY,
        "needs 2 pods × 4 NVIDIA-H100-80GB-HBM3, 8 accelerators in all, of which 4 are free; "
        "1 of 2 pods fits now: stowplan-worker2 has 4 free, stowplan-worker has 0 free",
        {"accelerators_free": "4", "binding_resource": "accelerators", "largest_free": "4,0"},
        ("r",),
    ),
    "accelerators are free but CPUs are not": Case(
        [node("a", cpu_free=12), node("b", cpu_free=12)],
        [job("x", 2, 4, cpu=16)],
        Reason.WAITING_FOR_CAPACITY,
        "needs 2 pods × 4 accelerators, 32 CPUs in all, of which 24 are free; no pod fits now: "
        "a has 8 free but only 12 of 16 CPUs, b has 8 free but only 12 of 16 CPUs",
        {"binding_resource": "cpu_milli", "accelerators_free": "16", "pods_fitting": "0"},
    ),
    "enough is free in all, but not in whole pods": Case(
        [node("a"), node("b"), node("c")],
        [running("r1", "a", 6), running("r2", "b", 5), running("r3", "c", 4), job("x", 2, 4)],
        Reason.FRAGMENTED,
        "needs 2 pods × 4 accelerators; 9 are free, but not in whole pods: the emptiest nodes have 4, 3, 2 free, "
        "and 1 of 2 pods fits",
        {"accelerators_free": "9", "largest_free": "4,3,2", "pods_fitting": "1"},
        ("r1", "r2", "r3"),
    ),
    "CPUs are scattered": Case(
        [node("a", cpu_free=12), node("b", cpu_free=20)],
        [job("x", 2, 1, cpu=16)],
        Reason.FRAGMENTED,
        "needs 2 pods × 1 accelerator, 32 CPUs in all, of which 32 are free, but only 1 of 2 pods find 16 CPUs "
        "on one node: a has 8 free but only 12 of 16 CPUs, b has 8 free",
        {"binding_resource": "cpu_milli"},
    ),
    "accelerators and CPUs are free on different nodes": Case(
        [node("a", 4, cpu_free=12), node("b", 0, cpu_free=90)],
        [job("x", 1, 4, cpu=16)],
        Reason.FRAGMENTED,
        "needs 1 pod × 4 accelerators; no pod fits now, because accelerators and CPUs are free on different nodes: "
        "a has 4 free but only 12 of 16 CPUs, b has 0 free",
        {"pods_fitting": "0"},
    ),
    "the pods fit now, but not into one rack": Case(
        [node("a"), node("b"), node("c", rack="r2")],
        [running("r", "a", 8), job("x", 2, 8, level="rack")],
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 2 pods × 8 accelerators in one rack; 2 pods fit now in all, but the best rack, z1/r1, "
        "has room for 1 of 2",
        {"best_domain": "z1/r1", "best_domain_pods": "1"},
    ),
    "no rack could ever hold the job": Case(
        [node("a"), node("b", rack="r2")],
        [job("x", 2, 8, level="rack")],
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 2 pods × 8 accelerators in one rack; the largest, z1/r1, holds 1 of 2 pods even when empty",
        {"best_domain": "z1/r1", "best_domain_pods": "1"},
    ),
    "no node carries the label of the required level": Case(
        [node("a", rack=None)],
        [job("x", 1, 8, level="rack")],
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 1 pod × 8 accelerators in one rack, but no matching node carries the label of that level",
        {"pods_needed": "1"},
    ),
    "the pods fit now, but not onto one node": Case(
        [node("a"), node("b")],
        [running("r1", "a", 4), running("r2", "b", 4), job("x", 2, 4, level="node")],
        Reason.TOPOLOGY_UNSATISFIED,
        "needs 2 pods × 4 accelerators in one node; 2 pods fit now in all, but the best node, a, has room for 1 of 2",
        {"best_domain": "a"},
    ),
    "the product's nodes are too few even when empty": Case(
        trial(),
        [job("x", 4, 4, products=[H100])],
        Reason.EXCEEDS_CLUSTER_CAPACITY,
        "needs 4 pods × 4 NVIDIA-H100-80GB-HBM3; all 2 matching nodes together hold 2 of 4 pods even when empty",
        {"capacity_pods": "2", "nodes_matching": "2"},
    ),
    "one pod is larger than any node": Case(
        trial(),
        [job("x", 1, 16)],
        Reason.EXCEEDS_CLUSTER_CAPACITY,
        "needs 1 pod × 16 accelerators, but one pod asks for 16 accelerators and the largest matching node has "
        "4 accelerators",
        {"capacity_pods": "0", "binding_resource": "accelerators"},
    ),
    "one pod asks for more CPUs than any node has": Case(
        trial(),
        [job("x", 1, 4, cpu=32)],
        Reason.EXCEEDS_CLUSTER_CAPACITY,
        "needs 1 pod × 4 accelerators, but one pod asks for 32 CPUs and the largest matching node has 16 CPUs",
        {"binding_resource": "cpu_milli"},
    ),
    "two products together would do, but a job never mixes them": Case(
        trial(),
        [job("x", 3, 4)],
        Reason.EXCEEDS_CLUSTER_CAPACITY,
        "needs 3 pods × 4 accelerators of one product; NVIDIA-H100-80GB-HBM3 alone holds 2 of 3 even when all its "
        "nodes are empty, and a job never mixes products",
        {"capacity_pods": "2"},
    ),
    "no node has the product": Case(
        trial(),
        [job("x", 1, 4, products=["B200"])],
        Reason.NO_MATCHING_ACCELERATOR,
        "needs 1 pod × 4 B200, but no node has that product; products in the cluster: NVIDIA-A100-SXM4-80GB, "
        "NVIDIA-H100-80GB-HBM3",
        {"products_in_cluster": f"{A100}, {H100}"},
    ),
    "no node carries the selector's label": Case(
        trial(),
        [job("x", 1, 4, node_selector=(("pool", "b"),))],
        Reason.NO_MATCHING_ACCELERATOR,
        "needs 1 pod × 4 accelerators; each of the 3 GPU nodes lacks a label of the nodeSelector: pool=b",
        {"nodes_of_product": "3"},
    ),
    "no node satisfies the affinity": Case(
        [node("a", labels={"gen": "4"}), node("b", labels={"gen": "x", "old": ""})],
        [
            job(
                "x",
                node_affinity=(
                    (sa.LabelExpression("gen", worlds.GT, ("4",)), OLD),
                    (sa.LabelExpression("pool", worlds.IN, ("p", "q")),),
                    (),
                ),
            )
        ],
        Reason.NO_MATCHING_ACCELERATOR,
        "needs 1 pod × 8 accelerators; each of the 2 GPU nodes fails the node affinity: gen Gt 4 and "
        "old DoesNotExist or pool In p|q or an empty term, which matches no node",
        {"nodes_of_product": "2"},
    ),
    "every node is spot": Case(
        [node("a", spot=True), node("b", spot=True)],
        [job("x", capacity_type=sa.CapacityType.ON_DEMAND)],
        Reason.NO_MATCHING_ACCELERATOR,
        "needs 1 pod × 8 accelerators; each of the 2 GPU nodes is spot, and the job asks for capacity type OnDemand",
        {"nodes_of_product": "2"},
    ),
    "the only spot node is too small": Case(
        [node("a", spot=True, of=4, free=4), node("b")],
        [job("x", capacity_type=sa.CapacityType.SPOT)],
        Reason.EXCEEDS_CLUSTER_CAPACITY,
        "needs 1 pod × 8 accelerators, but one pod asks for 8 accelerators and the largest matching node has "
        "4 accelerators",
        {"nodes_matching": "1"},
    ),
    "an affinity expression has values that it must not have": Case(
        [node("a")],
        [job("x", node_affinity=((sa.LabelExpression("gen", worlds.EXISTS, ("4",)),),))],
        Reason.MISCONFIGURED,
        'nodeAffinity "gen Exists 4" takes no values; remove them',
        {},
    ),
    "an affinity expression compares with a word": Case(
        [node("a")],
        [job("x", node_affinity=((sa.LabelExpression("gen", worlds.LT, ("four",)),),))],
        Reason.MISCONFIGURED,
        'nodeAffinity "gen Lt four" needs exactly one value, an integer',
        {},
    ),
    "every node has a taint": Case(
        [node("a", taints=(TAINTED,))],
        [job("x")],
        Reason.NO_MATCHING_ACCELERATOR,
        "needs 1 pod × 8 accelerators; the only GPU node has a taint that the job does not tolerate: team=x:NoSchedule",
        {"nodes_of_product": "1"},
    ),
    "there is no node at all": Case(
        [],
        [job("x")],
        Reason.NO_MATCHING_ACCELERATOR,
        "needs 1 pod × 8 accelerators, but the cluster has no node",
        {"products_in_cluster": "none"},
    ),
    "the topology level is unknown": Case(
        [node("a")],
        [job("x", level="moon")],
        Reason.MISCONFIGURED,
        'topology.level "moon" is not a level of this cluster; use one of zone, rack, node',
        {},
    ),
    "a job has no pods": Case(
        [node("a")],
        [job("x", 0)],
        Reason.MISCONFIGURED,
        "numNodes is 0; it must be at least 1",
        {},
    ),
    "a product is named twice": Case(
        [node("a")],
        [job("x", products=[H100, H100])],
        Reason.MISCONFIGURED,
        f'accelerators names product "{H100}" twice; name it once',
        {},
    ),
}


@pytest.mark.parametrize("strategy", list(sa.Strategy))
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_reason(case: Case, strategy: sa.Strategy) -> None:
    plan = sa.plan(worlds.snapshot(case.nodes, case.jobs), sa.Settings(strategy=strategy))
    got = plan.waiting["x"]
    assert got.reason is case.want_reason
    assert got.message == case.want_message
    numbers = dict(got.numbers)
    assert {name: numbers.get(name) for name in case.want_numbers} == case.want_numbers
    if case.want_blockers:
        assert got.blockers == case.want_blockers


def test_without_explanation_no_reason_is_claimed_that_was_not_looked_for() -> None:
    jobs = [job("wrong", 0), job("huge", 9), job("fits"), job("other", products=["B200"])]
    plan = sa.plan(worlds.snapshot([node("a")], jobs), sa.Settings(explain=False))
    assert plan.placements.keys() == {"fits"}
    assert plan.waiting["wrong"].reason is Reason.MISCONFIGURED
    assert plan.waiting["huge"] == plan.waiting["other"] == reasons.UNEXPLAINED


def test_a_job_that_the_solver_had_no_time_for_says_so() -> None:
    # Greed spreads the first job over what the second needs; only a solve can tell that both fit.
    plan = sa.plan(needs_a_solver(), sa.Settings(time_limit_seconds=0.0))
    got = plan.waiting["x"]
    assert got.reason is Reason.SOLVER_TIME_LIMIT
    assert "time limit of 0 s" in got.message
    assert plan.certificate.status is sa.SolveStatus.FEASIBLE
    assert "admit at priority 0" in plan.certificate.note
    assert not sa.plan(needs_a_solver()).waiting


def needs_a_solver() -> sa.Snapshot:
    """Greed takes the best product for the first job, which leaves nothing for the second, which needs it."""
    flexible = [sa.ProductChoice(H100), sa.ProductChoice(A100, 900)]
    return worlds.snapshot(
        [node("h"), node("a", product=A100)],
        [job("first", products=flexible), job("x", products=[H100], created_at_seconds=1)],
    )


def everything_free(snapshot: sa.Snapshot) -> sa.Snapshot:
    room = worlds.amounts(99, 999, 999)
    nodes = tuple(dataclasses.replace(one, available=room, allocatable=room, blocked="") for one in snapshot.nodes)
    return dataclasses.replace(snapshot, nodes=nodes, jobs=())


@given(worlds.snapshots())
@settings(max_examples=150, deadline=None)
def test_numbers_never_contradict_the_reason(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot)
    jobs = {one.id: one for one in snapshot.jobs}
    for job_id, waiting in plan.waiting.items():
        numbers = dict(waiting.numbers)
        one = jobs[job_id]
        assert waiting.message
        assert "<" not in waiting.message
        if waiting.reason is Reason.MISCONFIGURED:
            assert not brute.ways(one, everything_free(snapshot))
            continue
        assert numbers["pods_needed"] == str(one.num_pods)
        assert numbers["accelerators_needed"] == str(one.num_pods * one.pod.accelerators)
        if "pods_fitting" in numbers:
            assert int(numbers["pods_fitting"]) < one.num_pods
        alone = dataclasses.replace(snapshot, jobs=(one, *(j for j in snapshot.jobs if j.placement)))
        fits_alone = bool(brute.best_rank(alone)[0])
        assert fits_alone is (waiting.reason is Reason.QUEUED_BEHIND), waiting
        if waiting.reason is Reason.QUEUED_BEHIND:
            assert waiting.blockers
            ahead = {j.name for j in brute.queue(snapshot)[: brute.queue(snapshot).index(one)]}
            assert set(waiting.blockers) <= ahead & {jobs[placed].name for placed in plan.placements}
        if waiting.reason is Reason.EXCEEDS_CLUSTER_CAPACITY:
            assert int(numbers["capacity_pods"]) < one.num_pods
        if waiting.reason is Reason.NODES_UNHEALTHY:
            healed = tuple(
                dataclasses.replace(
                    n,
                    blocked="",
                    unhealthy_accelerators=0,
                    available=n.available + sa.Resources(n.unhealthy_accelerators),
                )
                for n in snapshot.nodes
            )
            freed = dataclasses.replace(
                alone, nodes=healed, jobs=tuple(dataclasses.replace(j, avoided_nodes=frozenset()) for j in alone.jobs)
            )
            assert brute.best_rank(freed)[0], waiting
