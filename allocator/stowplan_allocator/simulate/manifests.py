"""Kubernetes manifests as nodes and jobs: TrainingJobs as users have them, Nodes as kubectl prints them.

A TrainingJob does not know how long it runs: the annotation ``stowplan.dev/simulated-duration`` says so, and
``stowplan.dev/simulated-submit`` when it comes (else its creation time, else the start). What must stay true: a
field of a TrainingJob that decides where it goes is either used here or refused; those that only say what runs
in the pods are listed in ``NOT_FOR_PLANNING`` (a test compares both with the CRD).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from stowplan_allocator import allowed, inputs, types
from stowplan_allocator.simulate import values, workload
from stowplan_allocator.simulate.fields import Fields
from stowplan_allocator.simulate.forms import USUAL_PREEMPTION

DURATION = "stowplan.dev/simulated-duration"
SUBMIT = "stowplan.dev/simulated-submit"
ESTIMATE = "stowplan.dev/simulated-estimate"
FOR_PLANNING = frozenset(
    {
        *("numNodes", "resourcesPerNode", "accelerators", "topology", "elastic", "priorityClassName", "capacityType"),
        *("nodeSelector", "tolerations", "suspend", "queue"),
    }
)
NOT_FOR_PLANNING = frozenset(
    {
        *("image", "imagePullPolicy", "imagePullSecrets", "command", "args", "env", "envFromSecrets", "numProcPerNode"),
        *("sharedMemory", "checkpoint", "failurePolicy", "startupTimeoutSeconds", "hangTimeoutSeconds"),
        *("activeDeadlineSeconds", "ttlSecondsAfterFinished", "serviceAccountName", "runtimeClassName", "podTemplate"),
        *("tracking", "preemption", "deadline"),
    }
)
_PODS = values.up_to(values.MOST_PODS)
_UNTRACKED = ("ephemeral-storage", "pods")
_STATE_TAINTS = "node.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Reading:
    """What manifests mean in this cluster; ``levels`` pairs a level's name with the node label of its domains."""

    levels: tuple[tuple[str, str], ...] = (
        ("zone", "topology.kubernetes.io/zone"),
        ("rack", "topology.stowplan.dev/rack"),
    )
    accelerator: str = "nvidia.com/gpu"
    product_label: str = "nvidia.com/gpu.product"


def read_node(
    body: Mapping[str, Any], *, reading: Reading, where: str, faults: list[inputs.Fault]
) -> types.Node | None:
    """A core/v1 Node, with all of its allocatable free: pods are not looked at."""
    fields = Fields(body, place=lambda name: f"{where}: {name}", faults=faults)
    meta, spec, status = fields.inner("metadata"), fields.inner("spec"), fields.inner("status")
    name = meta.need("name", values.text, "", fix="name the node")
    given = meta.inner("labels")
    labels = {key: given.take(key, values.label, "") for key in given.rest()}
    room = _resources(status.inner("allocatable"), accelerator=reading.accelerator, up=False)
    blocked = "cordoned" if spec.take("unschedulable", values.flag, False) else ""
    conditions = status.take("conditions", _objects, ())
    ready = next((one.get("status") for one in conditions if one.get("type") == "Ready"), "True")
    if not fields.is_sound:
        return None
    return types.Node(
        name=name,
        product=labels.get(reading.product_label, "") if room.has_devices else "",
        available=room,
        allocatable=room,
        topology=tuple(labels.get(label) for _, label in reading.levels),
        labels=labels,
        taints=spec.take("taints", _taints, ()),
        blocked=blocked or ("" if ready == "True" else "NotReady"),
    )


def read_priority(body: Mapping[str, Any], *, where: str, faults: list[inputs.Fault]) -> tuple[str, int]:
    """The name and the value of a PriorityClass."""
    fields = Fields(body, place=lambda name: f"{where}: {name}", faults=faults)
    name = fields.inner("metadata").need("name", values.text, "", fix="name the PriorityClass")
    return name, fields.need("value", values.whole, 0, fix="give its priority")


def read_queue(body: Mapping[str, Any], *, where: str, faults: list[inputs.Fault]) -> types.Queue:
    """A Queue; who may use it, and what its jobs inherit, is not looked at."""
    fields = Fields(body, place=lambda name: f"{where}: {name}", faults=faults)
    meta, spec = fields.inner("metadata"), fields.inner("spec")
    limits = spec.inner("limits")
    return types.Queue(
        name=meta.need("name", values.text, "", fix="name the queue"),
        parent=spec.take("parent", values.text, ""),
        weight_milli=spec.take("weight", values.milli, 1000),
        quotas=spec.take("quotas", _quotas, ()),
        max_running_jobs=limits.take("runningJobs", values.count, None),
        max_accelerators_per_job=limits.take("acceleratorsPerJob", values.count, None),
        preemption=spec.take("preemption", values.many(values.choice(types.QueuePreemption)), USUAL_PREEMPTION),
    )


def read_job(
    body: Mapping[str, Any],
    *,
    reading: Reading,
    priorities: Mapping[str, int],
    duration: int | None,
    where: str,
    faults: list[inputs.Fault],
) -> workload.Submission | None:
    """A TrainingJob; None for one that is suspended. ``duration`` is for those that do not say their own."""
    fields = Fields(body, place=lambda name: f"{where}: {name}", faults=faults)
    meta, spec = fields.inner("metadata"), fields.inner("spec")
    notes = meta.inner("annotations")
    name = meta.need("name", values.text, "", fix="name the job")
    full_name = f"{meta.take('namespace', values.text, 'default')}/{name}"
    created = meta.take("creationTimestamp", values.moment, 0)
    submitted = notes.take(SUBMIT, values.moment, created)
    if duration is None or notes.has(DURATION):
        fix = f'annotate it with {DURATION}: "2h30m", or give --duration'
        duration = notes.need(DURATION, values.seconds, 0, fix=fix)
    estimate = notes.take(ESTIMATE, values.seconds, -1) if notes.has(ESTIMATE) else None
    pods = spec.take("numNodes", _PODS, 1)
    topology = _topology(spec)
    sizes = _sizes(spec, pods, multiple=(topology and topology.slice_size) or 1)
    pod = _resources(spec.inner("resourcesPerNode"), accelerator=reading.accelerator, up=True)
    tolerations = spec.take("tolerations", _tolerations, ())
    if pod.has_devices:
        tolerations += (types.Toleration(reading.accelerator, operator="Exists"),)
    job = types.Job(
        id=full_name,
        name=full_name,
        num_pods=pods,
        pod=pod,
        priority=_priority(spec, priorities),
        created_at_seconds=submitted,
        products=spec.take("accelerators", _products, ()),
        topology=topology,
        node_selector=_selector(spec),
        tolerations=tolerations,
        allowed_num_pods=sizes,
        capacity_type=spec.take("capacityType", values.choice(types.CapacityType), types.CapacityType.ANY),
        queue=spec.take("queue", values.text, ""),
        expected_seconds=estimate,
    )
    suspended = spec.take("suspend", values.flag, False)
    spec.rest(lambda name: name in NOT_FOR_PLANNING)
    spec.close(known=FOR_PLANNING | NOT_FOR_PLANNING)
    return None if suspended else workload.Submission(job, submitted, duration)


def _resources(fields: Fields, *, accelerator: str, up: bool) -> types.Resources:
    def whole(name: str) -> int:
        return fields.take(name, functools.partial(values.amount, unit=Decimal(1), up=up), 0)

    gpus = whole(accelerator)
    cpu = fields.take("cpu", functools.partial(values.cpu_milli, up=up), 0)
    memory = fields.take("memory", functools.partial(values.memory_mib, up=up), 0)
    fields.rest(lambda name: name in _UNTRACKED)
    return types.Resources(gpus, cpu, memory, tuple((name, whole(name)) for name in fields.rest()))


def _priority(spec: Fields, priorities: Mapping[str, int]) -> int:
    name = spec.take("priorityClassName", values.text, "")
    if name and name not in priorities:
        fix = inputs.unknown(name, known=priorities)
        spec.fault(
            "priorityClassName", f'there is no PriorityClass "{name}" in the inputs', f"{fix}; or use --priority"
        )
    return priorities.get(name, 0)


def _sizes(spec: Fields, pods: int, *, multiple: int) -> tuple[int, ...]:
    given = spec.has("elastic")
    elastic = spec.inner("elastic")
    if not given:
        return ()
    least = elastic.take("minNodes", _PODS, 1)
    most = elastic.take("maxNodes", _PODS, values.MOST_PODS if elastic.has("allowedNodes") else pods)
    between = allowed.between(least, most, preferred=pods, multiple=multiple) if least <= pods <= most else ()
    sizes = elastic.take("allowedNodes", values.many(_PODS), between)
    elastic.close()
    sizes = tuple(sorted({size for size in sizes if least <= size <= most}))
    if pods not in sizes:
        elastic.fault("allowedNodes", f"numNodes {pods} is not among the sizes", "allow it, or change numNodes")
    return sizes


def _topology(spec: Fields) -> types.TopologyRequest | None:
    given = spec.has("topology")
    inner = spec.inner("topology")
    if not given:
        return None
    level = inner.need("level", values.text, "", fix="name a level, as rack")
    mode = inner.take("mode", values.choice(types.TopologyMode), types.TopologyMode.PREFERRED)
    size = inner.take("sliceSize", values.positive, 0) or None
    inner.close()
    return types.TopologyRequest(level, mode, size)


def _selector(spec: Fields) -> tuple[tuple[str, str], ...]:
    selector = spec.inner("nodeSelector")
    return tuple(sorted((key, selector.take(key, values.label, "")) for key in selector.rest()))


def _objects(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise values.Bad(value, "a list of objects", "write them as in Kubernetes")
    return tuple(value)


def _quotas(value: Any) -> tuple[types.Quota, ...]:
    def most(one: Mapping[str, Any], name: str) -> int | None:
        return None if one.get(name) is None else values.count(one[name])

    return tuple(
        types.Quota(
            values.text(one.get("product")),
            values.count(one.get("nominal", 0)),
            most(one, "borrowingLimit"),
            most(one, "lendingLimit"),
        )
        for one in _objects(value)
    )


def _products(value: Any) -> tuple[types.ProductChoice, ...]:
    return tuple(
        types.ProductChoice(values.text(one.get("product")), values.milli(one.get("relativeThroughput", 1)))
        for one in _objects(value)
    )


def _effect(one: Mapping[str, Any]) -> types.TaintEffect | None:
    return next((effect for effect in types.TaintEffect if effect.value == one.get("effect")), None)


def _taints(value: Any) -> tuple[types.Taint, ...]:
    """Taints that keep pods away; those that mirror a state of the node are judged as its state."""
    found = ((one, _effect(one)) for one in _objects(value))
    return tuple(
        types.Taint(values.text(one.get("key")), effect, str(one.get("value") or ""))
        for one, effect in found
        if effect is not None and not str(one.get("key")).startswith(_STATE_TAINTS)
    )


def _tolerations(value: Any) -> tuple[types.Toleration, ...]:
    return tuple(
        types.Toleration(
            key=str(one.get("key") or ""),
            operator=str(one.get("operator") or "Equal"),
            value=str(one.get("value") or ""),
            effect=_effect(one),
        )
        for one in _objects(value)
        if not one.get("effect") or _effect(one) is not None
    )
