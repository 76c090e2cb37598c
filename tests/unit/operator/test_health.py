"""What blocks a node and what is withheld from it."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from stowplan_allocator.types import Resources, Taint, TaintEffect
from stowplan_operator import health, settings
from stowplan_operator.health import NodeHealth
from stowplan_operator.views import GpuReading, NodeView, Telemetry, XidSeen

NOW = datetime.datetime(2026, 11, 2, 10, tzinfo=datetime.UTC).timestamp()
HYPERPOD = health.LABEL_HYPERPOD_HEALTH
XID_79 = "XID 79 (GPU has fallen off the bus) on GPU 1, GPU-1"
H100 = {health.LABEL_GPU_MEMORY: "81559"}


def node(**changes: Any) -> NodeView:
    base = NodeView(
        name="w1",
        uid="u1",
        resource_version="1",
        labels={},
        taints=(),
        unschedulable=False,
        ready=True,
        ready_since=NOW - 3600,
        allocatable=Resources(accelerators=4),
        capacity=Resources(accelerators=4),
        max_pods=110,
        conditions={},
    )
    return dataclasses.replace(base, **changes)


def gpus(*readings: GpuReading, at: str = "w1", read_at: float = NOW) -> Telemetry:
    return Telemetry(configured=True, read_at=read_at, gpus={at: readings})


def gpu(index: int, *, xid: int = 0, total: float | None = None, sampled_at: float = NOW) -> GpuReading:
    return GpuReading(index=str(index), uuid=f"GPU-{index}", xid=xid, memory_total_mib=total, sampled_at=sampled_at)


def lost(number: int) -> dict[str, Any]:
    return {"allocatable": Resources(accelerators=4 - number)}


BLOCKED: dict[str, tuple[NodeView, Telemetry, str]] = {
    "a healthy node": (node(), Telemetry(), ""),
    "cordoned": (node(unschedulable=True), Telemetry(), "cordoned"),
    "NotReady names the moment": (
        node(ready=False, ready_since=NOW - 60),
        Telemetry(),
        "NotReady since 2026-11-02T09:59:00Z",
    ),
    "NotReady without a time": (node(ready=False, ready_since=0), Telemetry(), "NotReady"),
    "a cordon and the taint that mirrors it are one cause": (
        node(unschedulable=True, condition_taints=("node.kubernetes.io/unschedulable",)),
        Telemetry(),
        "cordoned",
    ),
    "the taint of a cordon may come first or leave last": (
        node(condition_taints=("node.kubernetes.io/unschedulable",)),
        Telemetry(),
        "cordoned",
    ),
    "pressure keeps new pods away": (
        node(condition_taints=("node.kubernetes.io/disk-pressure",)),
        Telemetry(),
        "taint node.kubernetes.io/disk-pressure",
    ),
    "a taint that announces the node's end, whatever a job tolerates": (
        node(taints=(Taint("ToBeDeletedByClusterAutoscaler", TaintEffect.NO_SCHEDULE),)),
        Telemetry(),
        "taint ToBeDeletedByClusterAutoscaler announces that the node goes",
    ),
    "declared out of service": (
        node(condition_taints=(health.TAINT_OUT_OF_SERVICE,)),
        Telemetry(),
        f"taint {health.TAINT_OUT_OF_SERVICE} announces that the node goes",
    ),
    "taints are judged elsewhere": (node(taints=(Taint("k", TaintEffect.NO_EXECUTE),)), Telemetry(), ""),
    "EKS says that the hardware is not ready": (
        node(conditions={"AcceleratedHardwareReady": "False"}),
        Telemetry(),
        "node condition AcceleratedHardwareReady is False",
    ),
    "EKS says that it is": (node(conditions={"AcceleratedHardwareReady": "True"}), Telemetry(), ""),
    "EKS does not know": (node(conditions={"AcceleratedHardwareReady": "Unknown"}), Telemetry(), ""),
    "GKE saw a critical XID": (
        node(conditions={"XidCriticalError": "True"}),
        Telemetry(),
        "node condition XidCriticalError is True",
    ),
    "HyperPod wants to replace the node": (
        node(labels={HYPERPOD: "UnschedulablePendingReplacement"}),
        Telemetry(),
        f"node label {HYPERPOD} is UnschedulablePendingReplacement",
    ),
    "HyperPod is content": (node(labels={HYPERPOD: "Schedulable"}), Telemetry(), ""),
    "an excluding XID": (node(), gpus(gpu(0), gpu(1, xid=79)), XID_79),
    "an XID that only concerns the application": (node(), gpus(gpu(1, xid=13)), ""),
    "two causes are both named": (
        node(unschedulable=True),
        gpus(gpu(0, xid=48), gpu(1, xid=79)),
        f"cordoned; XID 48 (double-bit ECC error) on GPU 0, GPU-0; {XID_79}",
    ),
    "an XID of another node": (node(), gpus(gpu(1, xid=79), at="w2"), ""),
    "an exporter that knows only the host name": (
        node(labels={health.LABEL_HOSTNAME: "ip-10-0-0-7"}),
        gpus(gpu(1, xid=79), at="ip-10-0-0-7"),
        XID_79,
    ),
    "an XID read before the node came back is no longer one": (
        node(ready_since=NOW - 10),
        gpus(gpu(1, xid=79, sampled_at=NOW - 20)),
        "",
    ),
    "the same, of a reading without a time of its own": (
        node(ready_since=NOW - 10),
        gpus(gpu(1, xid=79, sampled_at=0), read_at=NOW - 20),
        "",
    ),
    "an XID read after the node came back is one": (
        node(ready_since=NOW - 20),
        gpus(gpu(1, xid=79, sampled_at=NOW - 10)),
        XID_79,
    ),
    "an old XID stays one while Prometheus is away": (
        node(ready_since=NOW - 9999),
        gpus(gpu(1, xid=79, sampled_at=NOW - 5000), read_at=NOW - 5000),
        XID_79,
    ),
}


@pytest.mark.parametrize(("seen", "telemetry", "want"), BLOCKED.values(), ids=BLOCKED)
def test_blocked(seen: NodeView, telemetry: Telemetry, want: str) -> None:
    assert health.assess(seen, telemetry, settings.Settings(), NOW).blocked == want


COUNTS: dict[str, tuple[NodeView, Telemetry, int, int]] = {
    "a healthy node": (node(), gpus(*(gpu(n) for n in range(4))), 0, 0),
    "a device that the kubelet took out is shown, not subtracted again": (node(**lost(1)), Telemetry(), 1, 0),
    "GPUs with an excluding XID are shown; the block withholds them": (node(), gpus(gpu(0, xid=79)), 1, 0),
    "an XID on the device that the kubelet took out counts once": (node(**lost(1)), gpus(gpu(0, xid=79)), 1, 0),
    "a GPU short of memory is withheld": (
        node(labels=H100),
        gpus(gpu(0, total=60_000), *(gpu(n, total=81_559) for n in (1, 2, 3))),
        1,
        1,
    ),
    "short of memory and out of allocatable is one device": (
        node(labels=H100, **lost(1)),
        gpus(gpu(0, total=60_000), *(gpu(n, total=81_559) for n in (1, 2, 3))),
        1,
        0,
    ),
    "exactly nine tenths is enough": (
        node(labels={health.LABEL_GPU_MEMORY: "80000"}),
        gpus(gpu(0, total=72_000), gpu(1, total=80_000)),
        0,
        0,
    ),
    "an exporter without FB_RESERVED is no loss": (
        node(labels=H100),
        gpus(gpu(0, total=80_900), gpu(1, total=80_900)),
        0,
        0,
    ),
    "all GPUs below means a wrong label": (node(labels=H100), gpus(gpu(0, total=40_000), gpu(1, total=40_000)), 0, 0),
    "an only GPU is believed": (node(labels=H100), gpus(gpu(0, total=40_000)), 1, 1),
    "unknown memory is no loss": (node(labels=H100), gpus(gpu(0), gpu(1)), 0, 0),
    "no label, no rule": (node(), gpus(gpu(0, total=10), gpu(1, total=81_559)), 0, 0),
    "a label that is no number": (
        node(labels={health.LABEL_GPU_MEMORY: "80Gi"}),
        gpus(gpu(0, total=10), gpu(1, total=81_559)),
        0,
        0,
    ),
    "shared devices have labels of their own": (
        node(labels={**H100, health.LABEL_SHARING: "time-slicing"}),
        gpus(gpu(0, total=10), gpu(1, total=81_559)),
        0,
        0,
    ),
    "not shared, said explicitly": (
        node(labels={**H100, health.LABEL_SHARING: "none", health.LABEL_MIG_STRATEGY: "none"}),
        gpus(gpu(0, total=10), gpu(1, total=81_559)),
        1,
        1,
    ),
    "MIG slices have labels of their own": (
        node(labels={**H100, health.LABEL_MIG_STRATEGY: "single"}),
        gpus(gpu(0, total=10), gpu(1, total=81_559)),
        0,
        0,
    ),
    "a node whose device plugin is gone has nothing to withhold": (
        node(labels=H100, capacity=Resources(), allocatable=Resources()),
        gpus(gpu(0, total=10), gpu(1, total=81_559)),
        0,
        0,
    ),
}


@pytest.mark.parametrize(("seen", "telemetry", "want_unhealthy", "want_withheld"), COUNTS.values(), ids=COUNTS)
def test_devices(seen: NodeView, telemetry: Telemetry, want_unhealthy: int, want_withheld: int) -> None:
    found = health.assess(seen, telemetry, settings.Settings(), NOW)
    assert (found.unhealthy_accelerators, found.withheld_accelerators) == (want_unhealthy, want_withheld)


def test_without_telemetry_nothing_is_guessed() -> None:
    assert health.assess(node(labels=H100), Telemetry(configured=True, error="away"), settings.Settings(), NOW) == (
        NodeHealth()
    )


def test_notes_say_what_was_seen_in_a_fixed_order() -> None:
    seen = node(labels=H100, **lost(1))
    telemetry = gpus(
        gpu(0, xid=79, total=81_559, sampled_at=NOW - 600), gpu(1, total=100), gpu(2, total=200), gpu(3, total=81_559)
    )
    found = health.assess(seen, telemetry, settings.Settings(), NOW)
    assert found.notes == (
        "GPU 0 last reported its XID 79 at 2026-11-02T09:50:00Z, and nothing since",
        "the device plugin reports 1 device as unhealthy",
        "GPU 1 has 100 of 81559 MiB of memory",
        "GPU 2 has 200 of 81559 MiB of memory",
        "1 device withheld",
    )
    assert found.withheld_accelerators == 1


def test_what_an_xid_asks_for_is_a_setting() -> None:
    chosen = settings.parse({"health": {"xidActions": {"79": "Record", 13: "Exclude"}}})
    assert health.assess(node(), gpus(gpu(0, xid=79)), chosen, NOW).blocked == ""
    assert health.assess(node(), gpus(gpu(0, xid=13)), chosen, NOW).blocked == (
        "XID 13 (graphics engine exception) on GPU 0, GPU-0"
    )
    assert health.assess(node(), gpus(gpu(0, xid=48)), chosen, NOW).blocked, "the table holds for all others"


def seen(code: int) -> XidSeen:
    return XidSeen(gpu="GPU-1", index="1", code=code, at=int(NOW - 60))


RECALLED: dict[str, tuple[NodeView, Telemetry, XidSeen, str]] = {
    "the GPU reports another code by now": (node(), gpus(gpu(1, xid=31)), seen(79), XID_79),
    "the GPU reports nothing any more": (node(), gpus(gpu(0)), seen(79), XID_79),
    "Prometheus has not been read yet": (node(), Telemetry(configured=True, error="away"), seen(79), XID_79),
    "the GPU still reports it: said once": (node(), gpus(gpu(1, xid=79)), seen(79), XID_79),
    "the node came back since": (node(ready_since=NOW - 30), gpus(gpu(0)), seen(79), ""),
    "a code that does not exclude": (node(), gpus(gpu(0)), seen(31), ""),
}


@pytest.mark.parametrize(("state", "telemetry", "xid", "want"), RECALLED.values(), ids=RECALLED)
def test_an_excluding_code_is_remembered(state: NodeView, telemetry: Telemetry, xid: XidSeen, want: str) -> None:
    found = health.assess(state, telemetry, settings.Settings(), NOW, seen=[xid])
    assert (found.blocked, found.is_judged) == (want, bool(want))


def test_the_breaker_lifts_only_our_own_judgement() -> None:
    sick = node(unschedulable=True, labels=H100, conditions={"XidCriticalError": "True"}, **lost(1))
    telemetry = gpus(gpu(0, xid=79, total=81_559), gpu(1, total=100), gpu(2, total=100), gpu(3, total=81_559))
    found = health.assess(sick, telemetry, settings.Settings(), NOW, seen=[seen(48)])
    assert (found.is_judged, found.withheld_accelerators) == (True, 1)
    spared = health.assess(sick, telemetry, settings.Settings(), NOW, seen=[seen(48)], is_spared=True)
    assert spared.blocked == "cordoned; node condition XidCriticalError is True"
    assert (spared.is_judged, spared.withheld_accelerators, spared.unhealthy_accelerators) == (False, 0, 1)
    assert spared.notes[0].startswith("so many nodes look sick at once")


def test_what_kubernetes_says_is_not_our_judgement() -> None:
    for state in (
        node(unschedulable=True),
        node(ready=False),
        node(conditions={"XidCriticalError": "True"}),
        node(**lost(1)),
    ):
        assert not health.assess(state, Telemetry(), settings.Settings(), NOW).is_judged
