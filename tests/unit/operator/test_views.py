"""Kubernetes objects as the operator keeps them: quantities, times, states."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import GPU, NOW, NodeBuilder, PodBuilder, a_job, a_node, a_pod, time_text
from stowplan_allocator.types import Resources, Taint, TaintEffect
from stowplan_operator import views

TIMES = {"2026-11-02T10:00:00Z": NOW, "2026-11-02T10:00:00.5Z": NOW + 0.5, "2026-11-02T11:00:00+01:00": NOW}


@pytest.mark.parametrize(("text", "want"), TIMES.items())
def test_parse_time(text: str, want: float) -> None:
    assert views.parse_time(text) == want


@pytest.mark.parametrize("nothing", [None, "", "10000-01-01T00:00:00Z", "2026-11-02T23:59:60Z"])
def test_no_time_is_zero(nothing: str | None) -> None:
    assert views.parse_time(nothing) == 0.0


def test_times_are_written_as_kubernetes_writes_them() -> None:
    assert views.format_time(NOW + 0.999) == "2026-11-02T10:00:00Z"


def test_a_time_that_cannot_be_written_becomes_the_last_or_the_first_that_can() -> None:
    for late in (views.parse_time("9999-12-31T23:59:59-23:59"), 1e12, 1e300, float("inf")):
        assert views.format_time(late) == "9999-12-31T23:59:59Z"
    assert views.format_time(-1e12) == "1970-01-01T00:00:00Z"


QUANTITIES: dict[str, tuple[dict[str, Any], bool, Resources]] = {
    "nothing": ({}, True, Resources()),
    "whole devices": ({GPU: 8}, True, Resources(accelerators=8)),
    "devices as text": ({GPU: "8"}, True, Resources(accelerators=8)),
    "cores": ({"cpu": "64"}, True, Resources(cpu_milli=64000)),
    "milli cores": ({"cpu": "1500m"}, True, Resources(cpu_milli=1500)),
    "decimal cores": ({"cpu": "0.1"}, True, Resources(cpu_milli=100)),
    "memory in Gi": ({"memory": "900Gi"}, True, Resources(memory_mib=921600)),
    "a request of part of a MiB is rounded up": ({"memory": 1}, True, Resources(memory_mib=1)),
    "room of part of a MiB is rounded down": ({"memory": "2097151"}, False, Resources(memory_mib=1)),
    "memory in decimal units": ({"memory": "1G"}, True, Resources(memory_mib=954)),
    "memory in exponents": ({"memory": "1e9"}, False, Resources(memory_mib=953)),
    "extended resources": ({"rdma/hca": "2"}, True, Resources(other=(("rdma/hca", 2),))),
    "what is not planned is left out": ({"ephemeral-storage": "1Gi", "pods": "110"}, True, Resources()),
}


@pytest.mark.parametrize(("amounts", "round_up", "want"), QUANTITIES.values(), ids=QUANTITIES)
def test_parse_resources(amounts: dict[str, Any], round_up: bool, want: Resources) -> None:
    assert views.parse_resources(amounts, accelerator=GPU, round_up=round_up) == want


@pytest.mark.parametrize("amount", ["lots", "", "1Qi", "1..2", None, "0x10", "NaN", "Infinity"])
def test_what_is_no_quantity_is_named(amount: Any) -> None:
    with pytest.raises(ValueError, match=r"^memory: .* is not a quantity such as 8, 500m or 64Gi"):
        views.parse_resources({"memory": amount}, accelerator=GPU, round_up=True)


@pytest.mark.parametrize("amount", ["1e400", "9e99999", "-1e30", "9e999999"])
def test_an_amount_beyond_all_bounds_is_refused_and_not_computed(amount: str) -> None:
    with pytest.raises(ValueError, match=r"^memory: .* is not a quantity"):
        views.parse_resources({"memory": amount}, accelerator=GPU, round_up=True)


def container(**amounts: str) -> dict[str, Any]:
    return {"resources": {"requests": {name.replace("gpu", GPU): amount for name, amount in amounts.items()}}}


SIDECAR = {**container(cpu="1"), "restartPolicy": "Always"}
REQUESTS: dict[str, tuple[dict[str, Any], Resources]] = {
    "containers add up": (
        {"containers": [container(gpu="1", cpu="1"), container(gpu="2")]},
        Resources(accelerators=3, cpu_milli=1000),
    ),
    "limits stand in for requests": (
        {"containers": [{"resources": {"limits": {GPU: "2", "cpu": "4"}, "requests": {"cpu": "1"}}}]},
        Resources(accelerators=2, cpu_milli=1000),
    ),
    "an init container that needs more": (
        {"containers": [container(cpu="1")], "initContainers": [container(cpu="3"), container(cpu="2")]},
        Resources(cpu_milli=3000),
    ),
    "an init container that needs less": (
        {"containers": [container(gpu="1", cpu="4")], "initContainers": [container(cpu="3")]},
        Resources(accelerators=1, cpu_milli=4000),
    ),
    "sidecars run beside": (
        {"containers": [container(cpu="1")], "initContainers": [SIDECAR]},
        Resources(cpu_milli=2000),
    ),
    "an init container beside the sidecars before it": (
        {"containers": [container(cpu="1")], "initContainers": [SIDECAR, container(cpu="3"), SIDECAR]},
        Resources(cpu_milli=4000),
    ),
    "the runtime class takes its part": (
        {"containers": [container(cpu="1")], "overhead": {"cpu": "250m"}},
        Resources(cpu_milli=1250),
    ),
    "nothing is asked for": ({"containers": [{}]}, Resources()),
    "what cannot be read counts as nothing": ({"containers": [container(cpu="x")]}, Resources()),
}


@pytest.mark.parametrize(("spec", "want"), REQUESTS.values(), ids=REQUESTS)
def test_pod_requests(spec: dict[str, Any], want: Resources) -> None:
    assert views.pod_requests(spec, accelerator=GPU) == want


def test_a_node() -> None:
    node = a_node("n1").gpus(3, capacity=4).tainted("a", "NoExecute", "b").tainted("c", "PreferNoSchedule").view()
    assert (node.name, node.ready, node.ready_since, node.unschedulable) == ("n1", True, NOW - 3600, False)
    assert (node.allocatable.accelerators, node.capacity.accelerators, node.max_pods) == (3, 4, 110)
    assert node.taints == (Taint("a", TaintEffect.NO_EXECUTE, "b"),), "a preference keeps nobody away"


@pytest.mark.parametrize(
    ("node", "want_ready"),
    [(a_node(), True), (a_node().not_ready(), False), (a_node()._with(status__conditions=[]), False)],
)
def test_a_node_is_ready_only_when_it_says_so(node: NodeBuilder, want_ready: bool) -> None:
    assert node.view().ready is want_ready


def test_an_empty_node_can_be_read() -> None:
    node = views.NodeView.from_body({"metadata": {"name": "n"}}, accelerator=GPU)
    assert (node.ready, node.allocatable, node.taints) == (False, Resources(), ())


OURS = a_pod().of(a_job("a"), rank=3, attempt=2)


def test_one_of_our_pods() -> None:
    pod = OURS.on("n1").gpus(4).running(NOW).view()
    assert (pod.managed, pod.job, pod.attempt, pod.rank, pod.owner_uid) == (True, "a", 2, 3, "uid-a")
    assert (pod.node, pod.running, pod.started_at, pod.requests.accelerators) == ("n1", True, NOW, 4)


MANAGED: dict[str, tuple[PodBuilder, bool]] = {
    "ours": (OURS, True),
    "somebody's": (a_pod(), False),
    "somebody's with our labels": (a_pod().with_labels(OURS.body()["metadata"]["labels"]), False),
    "of our owner without our labels": (OURS.meta(labels={}), False),
    "of another kind of owner": (
        OURS.meta(ownerReferences=[{"kind": "Job", "name": "a", "uid": "u", "controller": True}]),
        False,
    ),
}


@pytest.mark.parametrize(("pod", "want"), MANAGED.values(), ids=MANAGED)
def test_labels_alone_do_not_make_a_pod_ours(pod: PodBuilder, want: bool) -> None:
    view = pod.view()
    assert view.managed is want
    if not want:
        assert (view.job, view.attempt, view.rank) == ("", 0, 0)


def test_labels_that_are_no_numbers_are_read_as_zero() -> None:
    assert OURS.with_labels({"stowplan.dev/rank": "x", "stowplan.dev/attempt": "-1"}).view().rank == 0


def test_how_a_container_ended() -> None:
    end = OURS.failed(137, at=NOW, reason="OOMKilled", message="tail").view().end
    assert end == views.ContainerEnd(exit_code=137, signal=9, reason="OOMKilled", message="tail", finished_at=NOW)
    clean = OURS.succeeded(NOW).view().end
    assert clean is not None
    assert (clean.exit_code, clean.signal) == (0, 0)


STATES: dict[str, tuple[PodBuilder, dict[str, Any]]] = {
    "a new pod": (OURS, {"phase": "Pending", "running": False, "is_terminal": False, "claimed_node": ""}),
    "a bound pod": (OURS.on("n1"), {"claimed_node": "n1"}),
    "a pinned pod": (OURS.pinned_to("n2"), {"node": "", "pinned_to": "n2", "claimed_node": "n2"}),
    "a pod that ended": (OURS.on("n1").failed(), {"is_terminal": True, "claimed_node": ""}),
    "a Terminating pod": (
        OURS.on("n1").running().deleting(NOW + 30),
        {"deleting_since": NOW + 30, "claimed_node": "n1", "running": True},
    ),
    "an image that cannot be pulled": (
        OURS.waiting("ErrImagePull", "not found"),
        {"waiting_reason": "ErrImagePull", "waiting_message": "not found"},
    ),
    "a pod that cannot be scheduled": (
        OURS.unschedulable("0/3 nodes"),
        {"waiting_reason": "Unschedulable", "waiting_message": "0/3 nodes"},
    ),
    "a pod that the kubelet refused": (
        OURS.on("n1").refused("OutOfcpu", "no room"),
        {"waiting_reason": "OutOfcpu", "waiting_message": "no room", "end": None},
    ),
    "an evicted pod": (OURS.evicted("PreemptionByScheduler"), {"disruption": "PreemptionByScheduler"}),
    "a long message is cut": (OURS.waiting("X", "m" * 900), {"waiting_message": "m" * 500}),
}


@pytest.mark.parametrize(("pod", "want"), STATES.values(), ids=STATES)
def test_the_state_of_a_pod(pod: PodBuilder, want: dict[str, Any]) -> None:
    view = pod.view()
    assert {name: getattr(view, name) for name in want} == want


@pytest.mark.parametrize(
    "terms",
    [
        [],
        [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}],
        [{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}],
        [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1", "n2"]}]}],
        [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
            {"matchExpressions": [{"key": "rack", "operator": "Exists"}]},
        ],
    ],
)
def test_a_pod_that_may_go_elsewhere_is_not_pinned(terms: list[dict[str, Any]]) -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    assert a_pod()._with(spec__affinity=affinity).view().pinned_to == ""


def test_the_main_container_is_the_trainer() -> None:
    sidecar = {"name": "proxy", "state": {"terminated": {"exitCode": 3}}}
    trainer = {"name": "trainer", "state": {"running": {"startedAt": time_text(NOW)}}}
    view = OURS._with(status__containerStatuses=[sidecar, trainer]).view()
    assert (view.running, view.end) == (True, None)


def test_a_job() -> None:
    job = a_job("a").meta(generation=4, deletionTimestamp=time_text(NOW)).status(phase="Running").view()
    assert (job.key, job.uid, job.generation, job.deleting, job.created_at) == ("team/a", "uid-a", 4, True, NOW)
    assert job.status == {"phase": "Running"}
    assert views.JobView.from_body(a_job().body()).status == {}
