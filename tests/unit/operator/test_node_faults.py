"""Which running gang a node's state breaks, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from fakes.builders import (
    GPU,
    NOW,
    JobBuilder,
    NodeBuilder,
    PodBuilder,
    a_gang,
    a_job,
    a_node,
    a_pod,
    an_attempt,
    time_text,
)
from stowplan_operator import api, health, node_faults
from stowplan_operator.failures import Cause, Failure
from stowplan_operator.node_faults import DEVICE_SETTLE_SECONDS, XID_NEAR_SECONDS, XID_SETTLE_SECONDS
from stowplan_operator.settings import Settings, parse
from stowplan_operator.views import GpuReading, Telemetry, XidSeen

JOB = a_job("a").placed_on("n1", "n2").started()
FIRST, SECOND = (pod.running(NOW - 500) for pod in a_gang(JOB, "n1", "n2"))
OTHER = a_node("n2")
DRAIN = Settings().health.drain_taints[0]


PLANNED_AT = NOW - 600


def a_scene(
    *nodes: NodeBuilder,
    short: dict[str, float] | None = None,
    seen: Sequence[XidSeen] = (),
    gpus: Sequence[GpuReading] = (),
) -> node_faults.Scene:
    """Those nodes, with XIDs and GPUs of n1."""
    return node_faults.Scene(
        nodes={node.name: node.view() for node in nodes},
        shortages=short or {},
        seen={"n1": tuple(seen)},
        telemetry=Telemetry(configured=True, read_at=NOW, gpus={"n1": tuple(gpus)}),
        now_seconds=NOW,
    )


def find(
    *nodes: NodeBuilder,
    pods: Sequence[PodBuilder] = (FIRST, SECOND),
    short: dict[str, float] | None = None,
    seen: Sequence[XidSeen] = (),
    gpus: Sequence[GpuReading] = (),
) -> Failure | None:
    return node_faults.find(
        [pod.view() for pod in pods],
        a_scene(*nodes, short=short, seen=seen, gpus=gpus),
        planned_at=PLANNED_AT,
        settings=Settings(),
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
    scene = a_scene(added(a_node("n1"), "k", NOW - 10), OTHER, short={"n2": NOW - 5})
    times = node_faults.deadlines([FOR_A_MINUTE.view(), SECOND.view()], scene)
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


HEALTHY = a_node("n1")
MINE = "team/a-1-0"
SOMEBODY = "team/notebook"


def an_xid(code: int, *, at: float = NOW - 10, pod: str = "", index: int = 3) -> XidSeen:
    return XidSeen(gpu=f"GPU-{index}", index=str(index), code=code, at=int(at), pod=pod)


def held_by(*pods: str) -> tuple[GpuReading, ...]:
    """The node's GPUs in order, and whose they are."""
    return tuple(GpuReading(index=str(n), uuid=f"GPU-{n}", pod=pod) for n, pod in enumerate(pods))


@dataclass(frozen=True)
class XidCase:
    """An XID on n1, and what must come of it for the gang of which rank 0 is there."""

    xid: XidSeen
    gpus: tuple[GpuReading, ...] = ()
    pod: PodBuilder = FIRST
    node: NodeBuilder = HEALTHY
    want: Cause | None = None
    want_planned: bool = False


XIDS: dict[str, XidCase] = {
    "an error of the application on a GPU of the pod": XidCase(an_xid(13, pod=MINE), want=Cause.XID_ERROR),
    "contained ECC errors are the application's to survive": XidCase(an_xid(94, pod=MINE), want=Cause.XID_ERROR),
    "nobody knows whose GPU it was: no gang is stopped on a guess": XidCase(an_xid(13)),
    "an error of somebody else's application": XidCase(an_xid(31, pod=SOMEBODY)),
    "just after a start it is the error that ended the attempt before": XidCase(
        an_xid(31, at=NOW, pod=MINE), pod=FIRST.running(NOW - XID_SETTLE_SECONDS + 1)
    ),
    "a GPU that must be reset": XidCase(an_xid(119, pod=MINE), want=Cause.GPU_UNHEALTHY, want_planned=True),
    "nobody knows whose GPU must be reset: all gangs on the node leave": XidCase(
        an_xid(95), want=Cause.GPU_UNHEALTHY, want_planned=True
    ),
    "a GPU that must be reset, on a node that does not answer": XidCase(
        an_xid(119, pod=MINE), node=a_node("n1").not_ready(), want=Cause.GPU_UNHEALTHY
    ),
    "the exporter says that the GPU is somebody else's, and that ours are others": XidCase(
        an_xid(119, pod="", index=3), held_by(MINE, MINE, SOMEBODY, SOMEBODY), FIRST.gpus(2)
    ),
    "the exporter says now that it is ours": XidCase(
        an_xid(119, index=1), held_by(MINE, MINE, "", ""), FIRST.gpus(2), want=Cause.GPU_UNHEALTHY, want_planned=True
    ),
    "the exporter knows of one of our two GPUs": XidCase(
        an_xid(119), held_by(MINE, "", "", ""), FIRST.gpus(2), want=Cause.GPU_UNHEALTHY, want_planned=True
    ),
    "a GPU that has fallen off the bus leaves nothing to save with": XidCase(an_xid(79), want=Cause.GPU_UNHEALTHY),
    "a pod without accelerators": XidCase(an_xid(79), pod=FIRST.gpus(0)),
    "an error until cleared keeps new pods away, and no more": XidCase(an_xid(48, pod=MINE)),
    "NVLink errors keep new pods away, and no more": XidCase(an_xid(145, pod=MINE)),
    "one that is only recorded": XidCase(an_xid(43, pod=MINE)),
    "an unknown one": XidCase(an_xid(998, pod=MINE)),
    "one that was there before the gang got its place": XidCase(an_xid(119, at=PLANNED_AT, pod=MINE)),
    "one that was there before anybody watched": XidCase(an_xid(79, at=0)),
    "a pod that has ended": XidCase(an_xid(79), pod=FIRST.succeeded()),
}


@pytest.mark.parametrize("case", XIDS.values(), ids=XIDS)
def test_xids(case: XidCase) -> None:
    found = find(case.node, OTHER, pods=(case.pod, SECOND), seen=[case.xid], gpus=case.gpus)
    assert (found.cause if found else None) is case.want
    if found:
        assert found.xid == case.xid.code
        assert found.message.startswith(f"XID {case.xid.code} (")
        assert found.message.endswith(f" on GPU {case.xid.index} of node n1")
        assert (found.node, found.rank, found.is_planned) == ("n1", 0, case.want_planned)


def test_a_fault_that_leaves_nobody_to_save_comes_before_one_that_does() -> None:
    found = find(a_node("n1").tainted(DRAIN), OTHER, seen=[an_xid(119), an_xid(79)])
    assert found is not None
    assert (found.xid, found.is_planned) == (79, False)


def test_what_an_xid_asks_for_is_a_setting() -> None:
    chosen = parse({"health": {"xidActions": {"48": "ResetGpu", "79": "Record"}}})
    scene = a_scene(a_node("n1"), OTHER, seen=[an_xid(79), an_xid(48)])
    found = node_faults.find([FIRST.view(), SECOND.view()], scene, planned_at=PLANNED_AT, settings=chosen)
    assert found is not None
    assert (found.xid, found.is_planned) == (48, True)


FAILED = a_job("a").status(
    phase="Restarting",
    attempt=1,
    restarts=3,
    history=[an_attempt(1)],
    lastFailure={
        "attempt": 1,
        "reason": "ContainerFailed",
        "node": "n1",
        "rank": 0,
        "time": time_text(NOW),
        "message": "rank 0 on n1 exited with code 1",
    },
)
EXPLAINED: dict[str, tuple[JobBuilder, XidSeen, int, str, int]] = {
    "the GPU was gone: the user gets the restart back": (FAILED, an_xid(79, at=NOW + 20), 79, "GPUUnhealthy", 2),
    "an error of the application stays the application's": (FAILED, an_xid(13, at=NOW + 20), 13, "ContainerFailed", 3),
    "the GPU is the next attempt's by now": (
        FAILED,
        an_xid(13, at=NOW + 20, pod="team/a-2-0"),
        13,
        "ContainerFailed",
        3,
    ),
    "the GPU was another job's": (FAILED, an_xid(13, at=NOW + 20, pod="team/b-1-0"), 0, "ContainerFailed", 3),
    "too long after": (FAILED, an_xid(79, at=NOW + XID_NEAR_SECONDS + 1), 0, "ContainerFailed", 3),
    "too long before": (FAILED, an_xid(79, at=NOW - XID_NEAR_SECONDS - 1), 0, "ContainerFailed", 3),
    "before anybody watched": (FAILED, an_xid(79, at=0), 0, "ContainerFailed", 3),
    "a rule saw to it that nobody was charged": (
        FAILED.spec(failurePolicy={"rules": [{"reasons": ["ContainerFailed"], "action": "Ignore"}]}),
        an_xid(79, at=NOW),
        79,
        "GPUUnhealthy",
        3,
    ),
    "a job that is over keeps its count": (FAILED.phase(api.Phase.FAILED), an_xid(79, at=NOW), 79, "GPUUnhealthy", 3),
}


@pytest.mark.parametrize(("job", "xid", "want_xid", "want_reason", "want_restarts"), EXPLAINED.values(), ids=EXPLAINED)
def test_explained(job: JobBuilder, xid: XidSeen, want_xid: int, want_reason: str, want_restarts: int) -> None:
    view = job.view()
    new = node_faults.explain(view, job.parsed(), {"n1": (xid,)}, Settings())
    status = new or view.status
    last = status["lastFailure"]
    assert (last.get("xid", 0), last["reason"], status["restarts"]) == (want_xid, want_reason, want_restarts)
    assert (new is None) == (want_xid == 0)
    if new:
        assert last["message"] == f"rank 0 on n1 exited with code 1; {node_faults.describe(xid, 'n1')}"
        assert (new["history"][-1]["xid"], new["history"][-1]["reason"]) == (want_xid, want_reason)
        assert new.get("infrastructureRestarts", 0) == 3 - want_restarts
        again = JobBuilder({**job.body(), "status": new}).view()
        assert node_faults.explain(again, job.parsed(), {"n1": (xid,)}, Settings()) is None, "said once"


def test_only_a_container_s_end_is_explained_by_an_xid() -> None:
    status = FAILED.view().status
    deleted = FAILED.status(lastFailure={**status["lastFailure"], "reason": "PodDeleted"}).view()
    assert node_faults.explain(deleted, FAILED.parsed(), {"n1": (an_xid(79, at=NOW),)}, Settings()) is None
    assert node_faults.explain(a_job("a").view(), FAILED.parsed(), {"n1": (an_xid(79, at=NOW),)}, Settings()) is None
