"""From watched objects to the allocator's snapshot: what counts as used, and what a job asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fakes.builders import A100, GPU, H100, NOW, JobBuilder, NodeBuilder, PodBuilder, a_gang, a_job, a_node, a_pod
from stowplan_allocator import types
from stowplan_operator import api, health, snapshot, views
from stowplan_operator.settings import Settings

RUNNING = a_job("a").placed_on("n1", "n2").started()


@dataclass(frozen=True)
class Case:
    """A node, the pods on it and the jobs behind them, and how many accelerators may be given."""

    pods: tuple[PodBuilder, ...] = ()
    jobs: tuple[JobBuilder, ...] = ()
    node: NodeBuilder = field(default_factory=lambda: a_node("n1"))
    assessment: health.NodeHealth = field(default_factory=health.NodeHealth)
    want_free: int = 4


def build(case: Case) -> types.Node:
    (node,) = snapshot.build_nodes(
        [case.node.view()],
        [pod.view() for pod in case.pods],
        {job.view().uid: job.view() for job in case.jobs},
        assessments={"n1": case.assessment},
        settings=Settings(),
    )
    return node


OTHERS = a_pod().gpus(1).on("n1")
OURS = a_pod().of(RUNNING).gpus(4).on("n1").running()

ROOM: dict[str, Case] = {
    "an empty node": Case(),
    "somebody's running pod counts": Case((OTHERS.running(),), want_free=3),
    "somebody's pod counts from its binding on": Case((OTHERS,), want_free=3),
    "a Terminating pod counts until it is gone": Case((OTHERS.running().deleting(),), want_free=3),
    "a pod that succeeded holds nothing": Case((OTHERS.succeeded(),)),
    "a pod that failed holds nothing": Case((OTHERS.failed(),)),
    "a pod on another node holds nothing here": Case((a_pod().gpus(1).on("n2").running(),)),
    "a pod that may go anywhere holds nothing yet": Case((a_pod().gpus(1),)),
    "a pod that is pinned here holds its room before it is bound": Case(
        (a_pod().gpus(1).pinned_to("n1"),), want_free=3
    ),
    "a pod without a request takes nothing": Case((a_pod().on("n1").running(),)),
    "pods of a placement in the snapshot are counted there": Case((OURS,), (RUNNING,)),
    "pods of a placement that is not in the snapshot count here": Case((OURS,), want_free=0),
    "pods of another namespace that pretend to be of the placement count": Case(
        (OURS.meta(namespace="other"),), (RUNNING,), want_free=0
    ),
    "pods of an older attempt count": Case((OURS,), (a_job("a").placed_on("n2", attempt=2),), want_free=0),
    "pods of a job that lost its place count": Case((OURS,), (a_job("a").status(attempt=1),), want_free=0),
    "pods of a finished job count until they have ended": Case(
        (OURS,), (RUNNING.phase(api.Phase.FAILED),), want_free=0
    ),
    "withheld devices cannot be given": Case(assessment=health.NodeHealth(withheld_accelerators=1), want_free=3),
    "a node that lost devices under its pods is overdrawn": Case(
        (OTHERS.gpus(4),), node=a_node("n1").gpus(3, capacity=4), want_free=-1
    ),
}


@pytest.mark.parametrize("case", ROOM.values(), ids=ROOM)
def test_the_room_of_a_node(case: Case) -> None:
    assert build(case).available.accelerators == case.want_free


def test_a_node_as_the_allocator_sees_it() -> None:
    case = Case(
        node=a_node("n1").of_product(A100).in_rack("r7").tainted("team", "NoExecute", "x"),
        assessment=health.NodeHealth(blocked="cordoned", unhealthy_accelerators=2),
    )
    node = build(case)
    assert (node.name, node.product, node.topology) == ("n1", A100, ("z1", "r7"))
    assert node.taints == (types.Taint("team", types.TaintEffect.NO_EXECUTE, "x"),)
    assert (node.blocked, node.unhealthy_accelerators) == ("cordoned", 2)
    assert (node.allocatable.cpu_milli, node.allocatable.memory_mib) == (64000, 512 * 1024)


def test_a_node_without_devices_has_no_product_and_one_without_labels_no_domain() -> None:
    node = build(Case(node=a_node("n1").gpus(0).meta(labels={"nvidia.com/gpu.product": H100})))
    assert (node.product, node.topology) == ("", (None, None))


MIG, SHARED = "nvidia.com/mig-1g.5gb", "nvidia.com/gpu.shared"


@pytest.mark.parametrize("resource", [MIG, SHARED])
def test_a_node_with_parts_of_devices_only_has_a_product(resource: str) -> None:
    node = build(Case(node=a_node("n1").gpus(0).of_product(A100).allocatable(**{resource: "7"})))
    assert node.product == A100
    assert dict(node.allocatable.other)[resource] == 7
    assert node.allocatable.has_devices


def test_slices_that_others_hold_are_not_given_twice() -> None:
    node = a_node("n1").gpus(0).of_product(A100).allocatable(**{MIG: "7"})
    theirs = a_pod().on("n1").running().requests(**{MIG: "3"})
    assert dict(build(Case((theirs,), node=node)).available.other)[MIG] == 4


def test_a_job_of_slices_tolerates_the_taint_of_devices() -> None:
    job = build_job(a_job("a").spec(resourcesPerNode={MIG: 1}))
    assert [one.key for one in job.tolerations] == ["nvidia.com/gpu"]
    assert (job.pod.accelerators, job.pod.has_devices) == (0, True)


def test_every_pod_on_a_node_takes_one_of_the_pods_that_it_may_hold() -> None:
    node = a_node("n1").allocatable(pods="5")
    pods = (a_pod().on("n1").running(), OURS, OTHERS.running(), a_pod().on("n1").succeeded())
    built = build(Case(pods, (RUNNING,), node=node))
    assert dict(built.allocatable.other)["pods"] == 5
    assert dict(built.available.other)["pods"] == 3  # OURS is counted through its placement


def test_nodes_come_in_the_order_of_their_names() -> None:
    nodes = [a_node(name).view() for name in ("n2", "n10", "n1")]
    assessments = {node.name: health.NodeHealth() for node in nodes}
    built = snapshot.build_nodes(nodes, [], {}, assessments=assessments, settings=Settings())
    assert [node.name for node in built] == ["n1", "n10", "n2"]


def build_job(job: JobBuilder, *pods: PodBuilder, **classes: int) -> types.Job:
    return snapshot.build_job(
        job.view(),
        job.parsed(),
        priorities={name: views.PriorityClass(value) for name, value in classes.items()},
        default_priority=views.PriorityClass(7),
        settings=Settings(),
        pods=[pod.view() for pod in pods],
    )


def test_a_job_as_the_allocator_sees_it() -> None:
    job = a_job("a").spec(
        numNodes=3,
        resourcesPerNode={GPU: 2, "cpu": "1500m", "memory": "1500Mi", "rdma/hca": 1, "ephemeral-storage": "1Gi"},
        accelerators=[{"product": H100}, {"product": A100, "relativeThroughput": "0.45"}],
        topology={"level": "rack", "mode": "Required", "sliceSize": 3},
        priorityClassName="research",
        nodeSelector={"b": "2", "a": "1"},
        tolerations=[{"key": "team", "value": "x", "effect": "NoExecute"}],
    )
    assert build_job(job, research=1000) == types.Job(
        id="uid-a",
        name="team/a",
        num_pods=3,
        pod=types.Resources(accelerators=2, cpu_milli=1500, memory_mib=1500, other=(("pods", 1), ("rdma/hca", 1))),
        priority=1000,
        created_at_seconds=int(NOW),
        products=(types.ProductChoice(H100, 1000), types.ProductChoice(A100, 450)),
        topology=types.TopologyRequest("rack", types.TopologyMode.REQUIRED, 3),
        node_selector=(("a", "1"), ("b", "2")),
        tolerations=(
            types.Toleration("team", "Equal", "x", types.TaintEffect.NO_EXECUTE),
            types.Toleration("nvidia.com/gpu", "Exists", "", types.TaintEffect.NO_SCHEDULE),
        ),
    )


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        ({"operator": "Exists"}, types.Toleration(operator="Exists")),
        ({"key": "k", "operator": "Exists", "effect": ""}, types.Toleration("k", "Exists")),
        ({"key": "k", "value": "v"}, types.Toleration("k", "Equal", "v")),
        ({"key": "k", "effect": "PreferNoSchedule"}, None),
    ],
)
def test_tolerations(raw: dict[str, str], want: types.Toleration | None) -> None:
    found = build_job(a_job().gpus(0).spec(tolerations=[raw])).tolerations
    assert found == (() if want is None else (want,))


def test_without_a_class_the_cluster_default_is_the_priority() -> None:
    assert build_job(a_job()).priority == 7


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown PriorityClass": (
        {"priorityClassName": "nope"},
        r"^spec\.priorityClassName: there is no PriorityClass 'nope'; existing: high, low$",
    ),
    "an unknown topology level": (
        {"topology": {"level": "planet"}},
        r"^spec\.topology\.level: there is no level 'planet'; the levels of this cluster are zone, rack, node",
    ),
    "a throughput that is no number": (
        {"accelerators": [{"product": H100}, {"product": A100, "relativeThroughput": "half"}]},
        r"^spec\.accelerators\[1\]\.relativeThroughput: 'half' is not a decimal number",
    ),
    "a quantity that cannot be read": (
        {"resourcesPerNode": {"memory": "64G1"}},
        r"^spec\.resourcesPerNode\.memory: '64G1' is not a quantity",
    ),
}


@pytest.mark.parametrize(("fields", "want"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_names_its_field(fields: dict[str, Any], want: str) -> None:
    with pytest.raises(ValueError, match=want):
        build_job(a_job().spec(**fields), low=1, high=2)


@pytest.mark.parametrize("level", ["zone", "rack", "node"])
def test_the_node_is_always_the_last_level(level: str) -> None:
    topology = build_job(a_job().spec(topology={"level": level})).topology
    assert topology == types.TopologyRequest(level, types.TopologyMode.PREFERRED)


def test_a_placed_job_keeps_its_place_whatever_became_of_what_it_names() -> None:
    job = build_job(RUNNING.spec(priorityClassName="gone", topology={"level": "gone"}))
    assert job.placement == types.Placement(H100, (types.NodeShare("n1", 1), types.NodeShare("n2", 1)))
    assert (job.num_pods, job.pod.accelerators) == (2, 4)


def test_a_toleration_for_a_time_is_no_reason_to_go_there() -> None:
    brief = {"key": "team", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    assert build_job(a_job("a").gpus(0).spec(tolerations=[brief])).tolerations == ()


def test_finished_ranks_give_their_room_back() -> None:
    first, second = a_gang(RUNNING, "n1", "n2")
    job = build_job(RUNNING, first.succeeded(), second.running())
    assert (job.num_pods, job.placement) == (1, types.Placement(H100, (types.NodeShare("n2", 1),)))
    done = build_job(RUNNING, first.succeeded(), second.failed())
    assert (done.num_pods, done.placement) == (0, types.Placement(H100, ()))


def test_a_placement_survives_being_written_and_read() -> None:
    placement = types.Placement(H100, (types.NodeShare("n2", 3), types.NodeShare("n1", 1), types.NodeShare("n3", 2)))
    written = snapshot.write_placement(placement, attempt=4, planned_at="2026-11-02T10:00:00Z")
    assert written == {
        "attempt": 4,
        "product": H100,
        "plannedAt": "2026-11-02T10:00:00Z",
        "nodes": [{"name": "n2", "ranks": "0-2"}, {"name": "n1", "ranks": "3"}, {"name": "n3", "ranks": "4-5"}],
    }
    assert snapshot.read_placement({"placement": written}) == placement


def test_a_placement_without_accelerators_has_no_product() -> None:
    placement = types.Placement("", (types.NodeShare("n1", 1),))
    written = snapshot.write_placement(placement, attempt=1, planned_at="t")
    assert "product" not in written
    assert snapshot.read_placement({"placement": written}) == placement
    assert snapshot.read_placement({}) is None
