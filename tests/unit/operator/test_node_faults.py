"""Which running gang a node's state breaks, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from fakes.builders import GPU, NOW, NodeBuilder, PodBuilder, a_gang, a_job, a_node, a_pod, time_text
from stowplan_operator import health, node_faults
from stowplan_operator.failures import Cause, Failure
from stowplan_operator.node_faults import DEVICE_SETTLE_SECONDS
from stowplan_operator.settings import Settings

JOB = a_job("a").placed_on("n1", "n2").started()
FIRST, SECOND = (pod.running() for pod in a_gang(JOB, "n1", "n2"))
OTHER = a_node("n2")
DRAIN = Settings().health.drain_taints[0]


def find(
    *nodes: NodeBuilder, pods: Sequence[PodBuilder] = (FIRST, SECOND), short: dict[str, float] | None = None
) -> Failure | None:
    return node_faults.find(
        [pod.view() for pod in pods],
        nodes={node.name: node.view() for node in nodes},
        shortages=short or {},
        settings=Settings(),
        now_seconds=NOW,
    )


def added(node: NodeBuilder, key: str, at: float) -> NodeBuilder:
    """The node with a NoExecute taint that says when it was added."""
    taint = {"key": key, "effect": "NoExecute", "timeAdded": time_text(at)}
    return node._with(spec__taints=[taint])


def tolerating(pod: PodBuilder, **toleration: object) -> PodBuilder:
    return pod._with(spec__tolerations=[toleration])


@dataclass(frozen=True)
class Case:
    """A node and its pod, and the cause that must come of them."""

    node: NodeBuilder
    pod: PodBuilder = FIRST
    short_since: float | None = None
    want: Cause | None = None
    want_in_message: str = ""
    want_planned: bool = True


LONG_AGO = NOW - DEVICE_SETTLE_SECONDS
FOREVER = tolerating(FIRST, key="k", operator="Exists")
FOR_A_MINUTE = tolerating(FIRST, key="k", operator="Exists", effect="NoExecute", tolerationSeconds=60)

CASES: dict[str, Case] = {
    "a healthy node": Case(a_node("n1")),
    "a node that is only cordoned keeps its pods": Case(a_node("n1").cordoned().tainted(health.TAINT_UNSCHEDULABLE)),
    "a taint that keeps new pods away only": Case(a_node("n1").tainted("k", "NoSchedule")),
    "a taint that announces the node's end": Case(
        a_node("n1").tainted(DRAIN), want=Cause.NODE_DRAINING, want_in_message=f"taint {DRAIN} announces"
    ),
    "the same, where the job tolerates everything": Case(
        a_node("n1").tainted(DRAIN), tolerating(FIRST, operator="Exists"), want=Cause.NODE_DRAINING
    ),
    "out of service, and still there": Case(
        a_node("n1").tainted(health.TAINT_OUT_OF_SERVICE, "NoExecute"), want=Cause.NODE_DRAINING
    ),
    "a NoExecute taint that the job does not tolerate": Case(
        a_node("n1").tainted("k", "NoExecute"),
        want=Cause.NODE_TAINTED,
        want_in_message="taint k:NoExecute of node n1 evicts pod a-1-0",
    ),
    "on a node that does not answer nobody can save": Case(
        a_node("n1").not_ready().tainted("k", "NoExecute"), want=Cause.NODE_TAINTED, want_planned=False
    ),
    "a NoExecute taint that the job tolerates": Case(a_node("n1").tainted("k", "NoExecute"), FOREVER),
    "a NoExecute taint tolerated for a time that is not over": Case(added(a_node("n1"), "k", NOW - 59), FOR_A_MINUTE),
    "a NoExecute taint tolerated for a time that is over": Case(
        added(a_node("n1"), "k", NOW - 60), FOR_A_MINUTE, want=Cause.NODE_TAINTED
    ),
    "a NoExecute taint tolerated for a time, that does not say since when": Case(
        a_node("n1").tainted("k", "NoExecute"), FOR_A_MINUTE
    ),
    "Kubernetes' own taint of a node that is not ready is judged by time": Case(
        a_node("n1").not_ready().tainted("node.kubernetes.io/unreachable", "NoExecute")
    ),
    "the cloud says that the hardware is not ready": Case(
        a_node("n1")._with(
            status__conditions=[
                {"type": "Ready", "status": "True"},
                {"type": "AcceleratedHardwareReady", "status": "False"},
            ]
        ),
        want=Cause.NODE_UNHEALTHY,
        want_in_message="node condition AcceleratedHardwareReady is False on node n1",
    ),
    "HyperPod wants to replace the node": Case(
        a_node("n1").with_labels({health.LABEL_HYPERPOD_HEALTH: "UnschedulablePendingReplacement"}),
        want=Cause.NODE_UNHEALTHY,
    ),
    "fewer healthy devices than the pod holds": Case(
        a_node("n1").gpus(3, capacity=4),
        short_since=LONG_AGO,
        want=Cause.GPU_UNHEALTHY,
        want_in_message="reports 3 healthy accelerators, and pod a-1-0 holds 4",
    ),
    "the same, but not for long: a device plugin restarts": Case(
        a_node("n1").gpus(0, capacity=4), short_since=NOW - 59
    ),
    "others may hold the failed device": Case(a_node("n1").gpus(3, capacity=4), FIRST.gpus(2), short_since=LONG_AGO),
    "a pod that has ended": Case(a_node("n1").tainted(DRAIN), FIRST.succeeded()),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_faults(case: Case) -> None:
    short = {} if case.short_since is None else {"n1": case.short_since}
    found = find(case.node, OTHER, pods=(case.pod, SECOND), short=short)
    assert (found.cause if found else None) is case.want
    if found:
        assert case.want_in_message in found.message
        assert (found.node, found.rank, found.pod, found.is_planned) == ("n1", 0, "a-1-0", case.want_planned)


def test_a_gang_elsewhere_is_not_concerned() -> None:
    assert find(a_node("n1"), OTHER, a_node("n3").tainted(DRAIN)) is None
    assert find(a_node("n1")) is None, "a node that is not known is judged as lost, elsewhere"


def test_the_time_that_a_toleration_leaves_is_a_deadline() -> None:
    nodes = {"n1": added(a_node("n1"), "k", NOW - 10).view(), "n2": OTHER.view()}
    times = node_faults.deadlines([FOR_A_MINUTE.view(), SECOND.view()], nodes=nodes, shortages={"n2": NOW - 5})
    assert times == [NOW + 50, NOW - 5 + DEVICE_SETTLE_SECONDS]


SHORTAGES: dict[str, tuple[NodeBuilder, tuple[PodBuilder, ...], bool]] = {
    "all devices healthy": (a_node("n1"), (FIRST,), False),
    "a device failed that nobody holds": (a_node("n1").gpus(3, capacity=4), (FIRST.gpus(2),), False),
    "a device failed on a full node": (a_node("n1").gpus(3, capacity=4), (FIRST,), True),
    "others' pods hold devices, too": (
        a_node("n1").gpus(3, capacity=4),
        (FIRST.gpus(2), a_pod("x").on("n1").requests(**{GPU: "2"}).running()),
        True,
    ),
    "pods that have ended hold none": (a_node("n1").gpus(3, capacity=4), (FIRST.failed(),), False),
    "a node that does not answer says nothing of its devices": (a_node("n1").gpus(0).not_ready(), (FIRST,), False),
}


@pytest.mark.parametrize(("node", "pods", "want"), SHORTAGES.values(), ids=SHORTAGES)
def test_shortages(node: NodeBuilder, pods: tuple[PodBuilder, ...], want: bool) -> None:
    shortages = node_faults.Shortages()
    shortages.observe([node.view()], [pod.view() for pod in pods], now_seconds=NOW)
    assert shortages.since == ({"n1": NOW} if want else {})


def test_a_shortage_keeps_its_beginning_until_it_is_over() -> None:
    shortages = node_faults.Shortages()
    short, whole, pods = a_node("n1").gpus(3, capacity=4).view(), a_node("n1").view(), [FIRST.view()]
    for node, at, want in (
        (short, 0, {"n1": NOW}),
        (short, 9, {"n1": NOW}),
        (whole, 12, {}),
        (short, 20, {"n1": NOW + 20}),
    ):
        shortages.observe([node], pods, now_seconds=NOW + at)
        assert shortages.since == want
