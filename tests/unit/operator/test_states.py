"""What one cycle observes before it decides."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import A100, NOW, Builder, JobBuilder, NodeBuilder, PodBuilder, a_gang, a_job, a_node, a_pod
from stowplan_operator import api, health, states
from stowplan_operator.metrics import GpuCounts
from stowplan_operator.settings import Settings
from stowplan_operator.store import Store

RUNNING = a_job("a").placed_on("n1", "n2").started()


def a_store(*objects: Builder) -> Store:
    tables: dict[type, dict[str, list[Any]]] = {NodeBuilder: {}, PodBuilder: {}, JobBuilder: {}}
    for one in objects:
        view = one.view()
        tables[type(one)][view.uid] = [view]
    return Store(
        nodes=tables[NodeBuilder],
        pods=tables[PodBuilder],
        jobs=tables[JobBuilder],
        priorities={},
        queues={},
        imposed={},
    )


def observe(*objects: Builder) -> dict[str, states.JobState]:
    return {state.job.name: state for state in states.observe(a_store(*objects), Settings())}


def test_jobs_come_by_age_and_then_by_uid() -> None:
    young, old = a_job("a").created(NOW + 5), a_job("z").created(NOW)
    assert list(observe(young, old, a_job("b").created(NOW + 5))) == ["z", "a", "b"]


def test_every_job_gets_its_own_pods() -> None:
    stranger = a_pod("a-1-0").meta(uid="somebody's").on("n1")
    found = observe(a_job("a"), a_job("b"), *a_gang(a_job("a"), "n1", "n2"), *a_gang(a_job("b"), "n3"), stranger)
    assert sorted(pod.name for pod in found["a"].pods) == ["a-1-0", "a-1-1"]
    assert [pod.uid for pod in found["b"].pods] == ["uid-b-1-0"]


def test_a_pod_of_another_namespace_is_not_the_jobs_whatever_its_labels_say() -> None:
    forged = a_pod().of(a_job("a")).meta(namespace="other").on("n1").failed()
    assert observe(a_job("a"), forged)["a"].pods == []


def test_a_spec_that_cannot_be_is_kept_as_words() -> None:
    state = observe(a_job("a").spec(priorityClassName="nope"))["a"]
    assert state.misconfigured.startswith("spec.priorityClassName: ")
    assert (state.request, state.accelerators) == (None, 8)
    assert state.spec is not None


def test_a_spec_that_cannot_be_read_is_kept_as_words() -> None:
    state = observe(a_job("a").spec(numNodes="many"))["a"]
    assert state.misconfigured.startswith("spec.numNodes: ")
    assert state.spec is None


def test_accelerators_of_the_whole_gang() -> None:
    state = observe(a_job("a").nodes(3).gpus(2))["a"]
    assert (state.accelerators_per_pod, state.accelerators) == (2, 6)


PREDECESSORS: dict[str, tuple[PodBuilder, bool]] = {
    "a pod of a job of the same name that is gone": (a_pod().of(a_job("a").meta(uid="old")).on("n1"), True),
    "an ended one, whose name is taken all the same": (a_pod().of(a_job("a").meta(uid="old")).failed(), True),
    "a pod of its own": (a_pod().of(a_job("a")).on("n1"), False),
    "a pod of another job": (a_pod().of(a_job("b")).on("n1"), False),
    "a pod of the same name's job in another namespace": (
        a_pod().of(a_job("a").meta(uid="old", namespace="other")),
        False,
    ),
}


@pytest.mark.parametrize(("pod", "want"), PREDECESSORS.values(), ids=PREDECESSORS)
def test_predecessors(pod: PodBuilder, want: bool) -> None:
    assert observe(a_job("a"), pod)["a"].has_predecessors is want


LIMIT = Settings().health.node_lost_after_seconds
LOST: dict[str, tuple[tuple[Builder, ...], set[str]]] = {
    "nodes that are there and ready": ((a_node("n1"), a_node("n2"), RUNNING), set()),
    "a node that is NotReady for less than the limit": ((a_node("n1").not_ready(NOW - LIMIT + 1),), set()),
    "a node that is NotReady for the limit": ((a_node("n1").not_ready(NOW - LIMIT),), {"n1"}),
    "a NotReady node that is declared out of service": (
        (a_node("n1").not_ready(NOW).tainted(health.TAINT_OUT_OF_SERVICE, "NoExecute"),),
        {"n1"},
    ),
    "an out-of-service node that answers is drained, not lost": (
        (a_node("n1").tainted(health.TAINT_OUT_OF_SERVICE, "NoExecute"),),
        set(),
    ),
    "a node of a placement that is gone": ((a_node("n1"), RUNNING), {"n2"}),
    "a node of one of our pods that is gone": ((a_pod().of(a_job("a")).on("n7"),), {"n7"}),
    "a node of somebody's pod that is gone is not our concern": ((a_pod().on("n7"),), set()),
    "a node of a finished job that is gone is nobody's concern": ((RUNNING.phase(api.Phase.SUCCEEDED),), set()),
    "a cordoned node is not lost": ((a_node("n1").cordoned(),), set()),
}


@pytest.mark.parametrize(("objects", "want"), LOST.values(), ids=LOST)
def test_lost_nodes(objects: tuple[Builder, ...], want: set[str]) -> None:
    store = a_store(*objects)
    assert states.lost_nodes(store, list(store.nodes), Settings(), now_seconds=NOW) == want


def test_accelerators_are_counted_by_product_and_state() -> None:
    nodes = [a_node("n1"), a_node("n2"), a_node("n3").of_product(A100), a_node("n4").gpus(0)]
    views = [node.view() for node in nodes]
    assessments = {view.name: health.NodeHealth() for view in views}
    assessments["n1"] = health.NodeHealth(withheld_accelerators=1, unhealthy_accelerators=1)
    assessments["n2"] = health.NodeHealth(blocked="cordoned")
    pods = [a_pod("x").gpus(2).on("n1").running().view(), a_pod("y").gpus(1).on("n2").running().view()]
    counts = states.gpu_counts(views, assessments, pods, settings=Settings())
    assert counts == {
        "NVIDIA-H100-80GB-HBM3": GpuCounts(capacity=8, allocated=3, free=1, unhealthy=1),
        A100: GpuCounts(capacity=4, allocated=0, free=4, unhealthy=0),
    }
