"""Why a node, or some of its devices, gets no new pod. Pure; it judges only what was seen.

What must stay true: without telemetry nothing is unhealthy because of telemetry; texts hold no ages, so that a
reason changes only when a fact does; no device is subtracted twice. Of taints, only those by which Kubernetes
mirrors a node's state, and those that announce its end, are looked at here; all others are matched against each
job's tolerations.

An excluding XID blocks the whole node, not one device: no one but the kubelet's device plugin chooses which
device a container gets, so a node of which one GPU must not be used cannot be used at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stowplan_operator import views, xids
from stowplan_operator.settings import Settings
from stowplan_operator.views import GpuReading, NodeView, Telemetry, XidSeen

LABEL_GPU_MEMORY = "nvidia.com/gpu.memory"
LABEL_SHARING = "nvidia.com/gpu.sharing-strategy"
LABEL_MIG_STRATEGY = "nvidia.com/mig.strategy"
LABEL_HYPERPOD_HEALTH = "sagemaker.amazonaws.com/node-health-status"
TAINT_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
TAINTS_NOT_READY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
# Set by an administrator, or a tool, who knows that a machine which does not answer is off.
TAINT_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
LABEL_HOSTNAME = "kubernetes.io/hostname"
LEAST_MEMORY_FRACTION = 0.9

# Condition type → the status that means trouble.
CLOUD_CONDITIONS = {"AcceleratedHardwareReady": "False", "XidCriticalError": "True"}


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What a node's state means for planning.

    ``blocked`` says why no new pod may go there, empty when one may; ``is_judged`` that XIDs or lost memory count
    against the node, which is Stowplan's own judgement. ``withheld_accelerators`` are devices that must be subtracted
    although allocatable still counts them. ``unhealthy_accelerators`` is for display only: it includes devices that the
    kubelet has taken out of allocatable already. ``notes`` are for people.
    """

    blocked: str = ""
    is_judged: bool = False
    unhealthy_accelerators: int = 0
    withheld_accelerators: int = 0
    notes: tuple[str, ...] = ()


def assess(
    node: NodeView,
    telemetry: Telemetry,
    settings: Settings,
    now_seconds: float,
    *,
    seen: Sequence[XidSeen] = (),
    is_spared: bool = False,
) -> NodeHealth:
    """Judge one node. The notes come in a fixed order, GPUs by index.

    ``seen`` are XIDs that the node history remembers: one that excludes stays in force when the GPU reports another
    code, or nothing, later. ``is_spared`` is the breaker's word: what telemetry says does not count.
    """
    notes: list[str] = []
    readings = [gpu for gpu in readings_of(node, telemetry) if is_of_this_life(gpu, node, telemetry)]
    bad = [gpu for gpu in readings if _excludes(gpu.xid, settings)]
    bad.extend(_recalled(node, readings, seen, settings))
    if is_spared:
        notes.append("so many nodes look sick at once that XIDs and memory do not count against this one")
        readings, bad = [], []
    heard = {gpu.uuid or gpu.index for gpu in readings if gpu.xid not in (0, *(one.xid for one in bad))}
    silent = [gpu for gpu in bad if (gpu.uuid or gpu.index) not in heard]
    notes.extend(_remembered(silent, telemetry, settings, now_seconds=now_seconds))
    lost = max(0, node.capacity.accelerators - node.allocatable.accelerators)
    if lost:
        notes.append(f"the device plugin reports {_count(lost, 'device')} as unhealthy")
    small = _with_lost_memory(node, readings, notes)
    # A device may be both lost to the kubelet and short of memory: only the excess is ours to withhold.
    withheld = min(max(0, small - lost), node.allocatable.accelerators)
    if withheld:
        notes.append(f"{_count(withheld, 'device')} withheld")
    causes = [*_node_causes(node, settings), *(_describe_xid(gpu) for gpu in bad)]
    return NodeHealth(
        blocked="; ".join(causes),
        is_judged=bool(bad or withheld),
        unhealthy_accelerators=max(lost + withheld, len(bad)),
        withheld_accelerators=withheld,
        notes=tuple(notes),
    )


def readings_of(node: NodeView, telemetry: Telemetry) -> tuple[GpuReading, ...]:
    """The node's GPUs by its name, or by its host name where the exporter knows only that."""
    return telemetry.gpus.get(node.name) or telemetry.gpus.get(node.labels.get(LABEL_HOSTNAME, ""), ())


def is_of_this_life(gpu: GpuReading, node: NodeView, telemetry: Telemetry) -> bool:
    """Whether the GPU was read since the node last came up: a restart clears XIDs, and brings new GPUs."""
    return not node.ready or (gpu.sampled_at or telemetry.read_at) >= node.ready_since


def _excludes(code: int, settings: Settings) -> bool:
    return xids.action_of(code, settings.health.xid_actions).excludes


def _recalled(
    node: NodeView, readings: Sequence[GpuReading], seen: Sequence[XidSeen], settings: Settings
) -> Iterator[GpuReading]:
    """Excluding XIDs that are remembered and not read now; a node that came back since is a new one."""
    current = {(gpu.uuid or gpu.index, gpu.xid) for gpu in readings}
    for one in seen:
        is_over = node.ready and one.at < node.ready_since
        if _excludes(one.code, settings) and (one.gpu, one.code) not in current and not is_over:
            uuid = one.gpu if one.gpu != one.index else ""
            yield GpuReading(index=one.index, uuid=uuid, xid=one.code, sampled_at=one.at)


def hardware_trouble(node: NodeView) -> Iterator[str]:
    """What the cloud's own agents say of the node's accelerators, by condition or label."""
    for kind, trouble in CLOUD_CONDITIONS.items():
        if node.conditions.get(kind) == trouble:
            yield f"node condition {kind} is {trouble}"
    hyperpod = node.labels.get(LABEL_HYPERPOD_HEALTH, "Schedulable")
    if hyperpod != "Schedulable":
        yield f"node label {LABEL_HYPERPOD_HEALTH} is {hyperpod}"


def drain_taint(node: NodeView, settings: Settings) -> str:
    """The key of the first taint that announces the node's end; empty where there is none."""
    keys = (*(taint.key for taint in node.taints), *node.condition_taints)
    return next((key for key in keys if key in settings.health.drain_taints or key == TAINT_OUT_OF_SERVICE), "")


def _node_causes(node: NodeView, settings: Settings) -> Iterator[str]:
    if node.unschedulable:
        yield "cordoned"
    if not node.ready:
        yield f"NotReady since {views.format_time(node.ready_since)}" if node.ready_since else "NotReady"
    for taint in node.condition_taints:
        # The first two say what unschedulable and Ready say already.
        if (taint == TAINT_UNSCHEDULABLE and node.unschedulable) or (taint in TAINTS_NOT_READY and not node.ready):
            continue
        if taint != TAINT_OUT_OF_SERVICE:
            yield "cordoned" if taint == TAINT_UNSCHEDULABLE else f"taint {taint}"
    # A job that tolerates everything would go back to where it was just moved away from.
    if draining := drain_taint(node, settings):
        yield f"taint {draining} announces that the node goes"
    yield from hardware_trouble(node)


def _describe_xid(gpu: GpuReading) -> str:
    return f"{xids.describe(gpu.xid)} on GPU {gpu.index}" + (f", {gpu.uuid}" if gpu.uuid else "")


def _remembered(
    bad: list[GpuReading], telemetry: Telemetry, settings: Settings, *, now_seconds: float
) -> Iterator[str]:
    for gpu in bad:
        seen = gpu.sampled_at or telemetry.read_at
        if seen and now_seconds - seen > settings.prometheus.stale_after_seconds:
            yield f"GPU {gpu.index} last reported its XID {gpu.xid} at {views.format_time(seen)}, and nothing since"


def _with_lost_memory(node: NodeView, readings: list[GpuReading], notes: list[str]) -> int:
    """How many GPUs have less memory than their label says; 0 where the label does not speak of whole GPUs."""
    label = node.labels.get(LABEL_GPU_MEMORY, "")
    shared = node.labels.get(LABEL_SHARING, "none") not in ("none", "")
    partitioned = node.labels.get(LABEL_MIG_STRATEGY, "none") not in ("none", "")
    known = [gpu for gpu in readings if gpu.memory_total_mib is not None]
    if not label.isdecimal() or shared or partitioned or not known:
        return 0
    limit = LEAST_MEMORY_FRACTION * int(label)
    small = [gpu for gpu in known if (gpu.memory_total_mib or 0) < limit]
    if len(small) == len(known) > 1:
        notes.append(
            f"all {len(known)} GPUs report less than 90 % of label {LABEL_GPU_MEMORY}={label}: "
            "the label is taken to be wrong, and no device is withheld"
        )
        return 0
    notes.extend(f"GPU {gpu.index} has {gpu.memory_total_mib:.0f} of {label} MiB of memory" for gpu in small)
    return len(small)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
