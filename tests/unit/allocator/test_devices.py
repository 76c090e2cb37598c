"""Parts of devices (MIG slices, shared replicas), the number of pods on a node, and deep topologies."""

from __future__ import annotations

import dataclasses

import pytest

import stowplan_allocator as sa
from stowplan_allocator import Reason, checks, compiling
from unit.allocator import worlds
from unit.allocator.worlds import A100, H100, PREFERRED, REQUIRED, job, node

STRATEGIES = (sa.Strategy.EXACT, sa.Strategy.GREEDY)
MIG, SHARED = "nvidia.com/mig-1g.5gb", "nvidia.com/gpu.shared"


def part_node(name: str, parts: int, *, product: str = A100, resource: str = MIG, gpus: int = 0) -> sa.Node:
    room = sa.Resources(gpus, 16_000, 64_000, ((resource, parts),) if parts else ())
    return sa.Node(name, product, room, room, ("z1", "r1"))


def plain_node(name: str) -> sa.Node:
    room = sa.Resources(0, 16_000, 64_000)
    return sa.Node(name, "", room, room, ("z1", "r1"))


def parts_job(name: str, pods: int, parts: int, *, resource: str = MIG, products: tuple[str, ...] = ()) -> sa.Job:
    pod = sa.Resources(0, 1_000, 0, ((resource, parts),))
    return sa.Job(name, name, pods, pod, products=tuple(sa.ProductChoice(one) for one in products))


@dataclasses.dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    want: dict[str, tuple[str, list[str]]]


CASES = {
    "slices of one product only": Case(
        [part_node("a", 1), part_node("b", 2, product=H100), part_node("c", 1)],
        [parts_job("x", 3, 1)],
        {},
    ),
    "slices of the product that is asked for": Case(
        [part_node("a", 2), part_node("b", 2, product=H100)],
        [parts_job("x", 2, 1, products=(H100,))],
        {"x": (H100, ["b"])},
    ),
    "replicas of shared devices": Case(
        [part_node("a", 1, resource=SHARED), part_node("b", 4, resource=SHARED)],
        [parts_job("x", 1, 3, resource=SHARED)],
        {"x": (A100, ["b"])},
    ),
    "a pod without accelerators keeps away from a node that has slices only": Case(
        [part_node("a", 7), plain_node("b")],
        [job("x", 1, 0, cpu=1)],
        {"x": ("", ["b"])},
    ),
    "MIG slices under the name of whole devices": Case(
        [node("a", 3, product=f"{A100}-MIG-1g.5gb", of=7), node("b", product=A100)],
        [job("x", 1, 3, products=[f"{A100}-MIG-1g.5gb"])],
        {"x": (f"{A100}-MIG-1g.5gb", ["a"])},
    ),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_parts_of_devices(case: Case, strategy: sa.Strategy) -> None:
    plan = sa.plan(worlds.snapshot(case.nodes, case.jobs), sa.Settings(strategy=strategy))
    got = {name: (one.product, [share.node for share in one.shares]) for name, one in plan.placements.items()}
    assert got == case.want


def test_slices_on_a_node_with_whole_devices_are_at_home_there() -> None:
    # A stray pod would count against the tier; a slice belongs where the devices are.
    plan = sa.plan(worlds.snapshot([part_node("a", 4, gpus=2)], [parts_job("x", 2, 1)]))
    [slots] = [tier for tier in plan.certificate.tiers if tier.name == "whole slots"]
    assert slots.value == slots.bound == 1  # two free devices in one piece, nothing lost
    assert plan.certificate.status is sa.SolveStatus.OPTIMAL


def test_a_plan_that_mixes_products_of_slices_is_refused() -> None:
    snapshot = worlds.snapshot([part_node("a", 1), part_node("b", 1, product=H100)], [parts_job("x", 2, 1)])
    plan = sa.plan(snapshot)
    wrong = sa.Placement(A100, (sa.NodeShare("a", 1), sa.NodeShare("b", 1)))
    with pytest.raises(sa.PlanViolationError, match="the node is"):
        checks.verify(dataclasses.replace(plan, placements={"x": wrong}, waiting={}), snapshot=snapshot)


def test_a_waiting_job_of_slices_is_told_so() -> None:
    plan = sa.plan(worlds.snapshot([part_node("a", 7), part_node("b", 7)], [parts_job("x", 3, 4, products=(A100,))]))
    assert plan.waiting["x"].reason is Reason.EXCEEDS_CLUSTER_CAPACITY
    assert plan.waiting["x"].message == (
        f"needs 3 pods × 4 {MIG} of {A100}; all 2 matching nodes together hold 2 of 3 pods even when empty"
    )


def with_pods(one: sa.Node, number: int, *, of: int = 110) -> sa.Node:
    return dataclasses.replace(
        one,
        available=dataclasses.replace(one.available, other=(("pods", number),)),
        allocatable=dataclasses.replace(one.allocatable, other=(("pods", of),)),
    )


def one_pod_each(one: sa.Job) -> sa.Job:
    return dataclasses.replace(one, pod=dataclasses.replace(one.pod, other=(("pods", 1),)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_node_holds_no_more_pods_than_it_may(strategy: sa.Strategy) -> None:
    nodes = [with_pods(node("a"), 1), with_pods(node("b"), 5)]
    plan = sa.plan(worlds.snapshot(nodes, [one_pod_each(job("x", 4, 2))]), sa.Settings(strategy=strategy))
    assert {share.node: share.num_pods for share in plan.placements["x"].shares}["b"] >= 3
    full = [with_pods(node("a"), 1), with_pods(node("b"), 0)]
    waiting = sa.plan(worlds.snapshot(full, [one_pod_each(job("x", 2, 2))])).waiting["x"]
    assert waiting.reason is Reason.WAITING_FOR_CAPACITY
    assert waiting.message.startswith("needs 2 pods × 2 accelerators, room for 2 pods in all, of which 1 is free")
    assert dict(waiting.numbers)["binding_resource"] == "pods"


def test_the_number_of_pods_is_no_resource_where_it_cannot_run_out() -> None:
    jobs = [one_pod_each(job("x", 2, 1))]
    assert "pods" not in compiling.compile_problem(worlds.snapshot([with_pods(node("a"), 8)], jobs)).dims
    assert "pods" in compiling.compile_problem(worlds.snapshot([with_pods(node("a"), 7)], jobs)).dims
    some_cpu = [*jobs, one_pod_each(job("y", 1, 0, cpu=1))]
    assert "pods" in compiling.compile_problem(worlds.snapshot([with_pods(node("a"), 8)], some_cpu)).dims


LEVELS = ("region", "zone", "spine", "leaf", "rack")


def deep(name: str, *path: str | None) -> sa.Node:
    return dataclasses.replace(node(name), topology=path)


FOREST = [
    deep("a1", "e", "z1", "s1", "l1", "r1"),
    deep("a2", "e", "z1", "s1", "l1", "r2"),
    deep("a3", "e", "z1", "s1", "l2", "r1"),
    deep("b1", "e", "z1", "s2", "l1", "r1"),
    deep("b2", "e", "z1", "s2", "l1", "r1"),
    deep("c1", "e", "z2", None, "l1", "r1"),
    deep("c2", "e", "z2", None, "l1", "r1"),
    deep("c3", "e", "z2", None, "l1", None),
    deep("d1", None, None, None, None, None),
    deep("d2"),
]


@dataclasses.dataclass(frozen=True)
class Deep:
    pods: int
    level: str
    mode: sa.TopologyMode
    want: set[str] | None


DEPTHS = {
    "one rack of two": Deep(2, "rack", REQUIRED, {"b1", "b2"}),
    "no rack holds three": Deep(3, "rack", REQUIRED, None),
    "a leaf of three nodes needs no label above it": Deep(3, "leaf", REQUIRED, {"c1", "c2", "c3"}),
    "a spine of three": Deep(3, "spine", REQUIRED, {"a1", "a2", "a3"}),
    "no spine holds four": Deep(4, "spine", REQUIRED, None),
    "a zone of five": Deep(5, "zone", REQUIRED, {"a1", "a2", "a3", "b1", "b2"}),
    "a region of eight, and the others are in none": Deep(8, "region", REQUIRED, {one.name for one in FOREST[:8]}),
    "no region holds nine": Deep(9, "region", REQUIRED, None),
    "a wish may cross what a rule may not": Deep(9, "rack", PREFERRED, set()),
    "a wished leaf is kept": Deep(3, "leaf", PREFERRED, {"c1", "c2", "c3"}),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", DEPTHS.values(), ids=DEPTHS.keys())
def test_five_levels_with_labels_missing(case: Deep, strategy: sa.Strategy) -> None:
    asked = [job("x", case.pods, level=case.level, mode=case.mode)]
    plan = sa.plan(worlds.snapshot(FOREST, asked, LEVELS), sa.Settings(strategy=strategy))
    if case.want is None:
        assert plan.waiting["x"].reason is Reason.TOPOLOGY_UNSATISFIED
        return
    nodes = {share.node for share in plan.placements["x"].shares}
    assert len(nodes) == case.pods
    assert not case.want or nodes == case.want
