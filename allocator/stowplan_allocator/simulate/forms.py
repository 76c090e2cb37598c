"""Nodes and jobs in our own simple form: the same fields in a table and in YAML.

What must stay true: docs/simulator.md lists every field that is read here; amounts are of one node, or of one pod.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from decimal import Decimal

from stowplan_allocator import types
from stowplan_allocator.simulate import values, workload
from stowplan_allocator.simulate.fields import Fields

_TEXTS = values.many(values.text)
# What a queue allows that says nothing of it.
USUAL_PREEMPTION = types.Queue("").preemption
_PODS = values.up_to(values.MOST_PODS)


def _is_resource(name: str) -> bool:
    """Whether a field's name is that of an extended resource."""
    return "/" in name


@dataclass(frozen=True, slots=True)
class NodeForm:
    """Nodes of one record, and the levels that it names their domains at, in the order of the record."""

    nodes: tuple[types.Node, ...]
    levels: tuple[str, ...]
    domains: dict[str, str]


def read_nodes(fields: Fields) -> NodeForm:
    """The nodes of one record: one, or ``count`` equal ones whose names end in -0, -1 and so on."""
    name = fields.need("name", values.text, "", fix="give every node a name")
    count = fields.take("count", values.up_to(values.MOST_COPIES), 1)
    room = _resources(fields, up=False)
    sick = fields.take("unhealthy_gpus", values.count, 0)
    if sick > room.accelerators:
        fields.fault("unhealthy_gpus", f"{sick} of {room.accelerators} GPUs", "write at most the node's gpus")
    topology = fields.inner("topology")
    domains = {level: topology.take(level, values.text, "") for level in topology.rest()}
    labels = fields.inner("labels")
    node = types.Node(
        name=name,
        product=fields.take("product", values.text, "gpu" if room.has_devices else ""),
        available=room - types.Resources(accelerators=sick),
        allocatable=room,
        labels={key: labels.take(key, values.label, "") for key in labels.rest()},
        taints=fields.take("taints", values.many(values.taint), ()),
        blocked=fields.take("blocked", values.text, ""),
        unhealthy_accelerators=sick,
        price_per_hour_micros=fields.take("price_per_hour", values.micros, 0),
        spot=fields.take("spot", values.flag, False),
    )
    fields.close()
    names = [f"{name}-{index}" for index in range(count)] if count > 1 else [name]
    nodes = tuple(dataclasses.replace(node, name=one) for one in names)
    return NodeForm(nodes, tuple(domains), {level: domain for level, domain in domains.items() if domain})


def read_jobs(fields: Fields) -> tuple[workload.Submission, ...]:
    """The jobs of one record: one, or ``count`` equal ones, one ``every`` so many seconds."""
    name = fields.need("name", values.text, "", fix="give every job a name")
    count = fields.take("count", values.up_to(values.MOST_COPIES), 1)
    every = fields.take("every", values.seconds, 0)
    submitted = fields.take("submit", values.moment, 0)
    duration = fields.need("duration", values.seconds, 0, fix="say how long the job runs, as 90s, 10m or 1h30m")
    fails = fields.take("fails", values.flag, False)
    job = _read_job(fields, name=name)
    fields.close()
    made = []
    for index in range(count):
        full_name = f"{name}-{index}" if count > 1 else name
        came = submitted + index * every
        one = dataclasses.replace(job, id=full_name, name=full_name, created_at_seconds=came)
        made.append(workload.Submission(one, submitted_seconds=came, duration_seconds=duration, fails=fails))
    return tuple(made)


def read_queue(fields: Fields) -> types.Queue:
    """A queue: ``quotas`` has for each product what the queue owns, or that with its limits."""
    name = fields.need("name", values.text, "", fix="give every queue a name")
    given = fields.inner("quotas")
    queue = types.Queue(
        name=name,
        parent=fields.take("parent", values.text, ""),
        weight_milli=fields.take("weight", values.milli, 1000),
        quotas=tuple(_quota(given, product) for product in given.names()),
        max_running_jobs=fields.take("max_running_jobs", values.count, None),
        max_accelerators_per_job=fields.take("max_gpus_per_job", values.count, None),
        preemption=fields.take("preemption", values.many(values.choice(types.QueuePreemption)), USUAL_PREEMPTION),
    )
    fields.close()
    return queue


def _quota(given: Fields, product: str) -> types.Quota:
    if not given.is_object(product):
        return types.Quota(product, given.take(product, values.count, 0))
    inner = given.inner(product)
    quota = types.Quota(
        product,
        nominal=inner.take("nominal", values.count, 0),
        borrowing_limit=inner.take("borrow", values.count, None),
        lending_limit=inner.take("lend", values.count, None),
    )
    inner.close()
    return quota


def _read_job(fields: Fields, *, name: str) -> types.Job:
    pods = fields.take("pods", _PODS, 1)
    sizes = tuple(sorted(set(fields.take("sizes", values.many(_PODS), ()))))
    if sizes and pods not in sizes:
        fields.fault("sizes", f"{pods} pods are not among the sizes", f"add {pods}, the preferred size, or change pods")
    products = fields.take("products", values.many(values.product), ())
    if len({one.product for one in products}) < len(products):
        fields.fault("products", "a product stands twice", "name every product once, the best first")
    selector = fields.inner("node_selector")
    return types.Job(
        id=name,
        name=name,
        num_pods=pods,
        pod=_resources(fields, up=True),
        priority=fields.take("priority", values.whole, 0),
        products=products,
        topology=_topology(fields, sizes=sizes or (pods,)),
        node_selector=tuple(sorted((key, selector.take(key, values.label, "")) for key in selector.rest())),
        tolerations=fields.take("tolerations", values.many(values.toleration), ()),
        avoided_nodes=frozenset(fields.take("avoid_nodes", _TEXTS, ())),
        allowed_num_pods=sizes,
        spread=_spread(fields),
        capacity_type=fields.take("capacity_type", values.choice(types.CapacityType), types.CapacityType.ANY),
        queue=fields.take("queue", values.text, ""),
        expected_seconds=fields.take("estimate", values.seconds, -1) if fields.has("estimate") else None,
    )


def _resources(fields: Fields, *, up: bool) -> types.Resources:
    def other(name: str) -> tuple[str, int]:
        return name, fields.take(name, functools.partial(values.amount, unit=Decimal(1), up=up), 0)

    return types.Resources(
        accelerators=fields.take("gpus", values.count, 0),
        cpu_milli=fields.take("cpu", functools.partial(values.cpu_milli, up=up), 0),
        memory_mib=fields.take("memory", functools.partial(values.memory_mib, up=up), 0),
        other=tuple(other(name) for name in fields.rest(_is_resource)),
    )


def _topology(fields: Fields, *, sizes: tuple[int, ...]) -> types.TopologyRequest | None:
    given = fields.has("topology")
    inner = fields.inner("topology")
    if not given:
        return None
    level = inner.need("level", values.text, "", fix="name the level, as rack, or node for one node")
    mode = inner.take("mode", values.choice(types.TopologyMode), types.TopologyMode.PREFERRED)
    size = inner.take("slice_size", values.positive, 0) or None
    if size and any(pods % size for pods in sizes):
        inner.fault("slice_size", f"{size} does not divide {_listed(sizes)} pods", "choose a size that does")
    inner.close()
    return types.TopologyRequest(level, mode, size)


def _spread(fields: Fields) -> types.Spread | None:
    given = fields.has("spread")
    inner = fields.inner("spread")
    if not given:
        return None
    level = inner.need("level", values.text, "", fix="name the level, as rack, or node")
    most = inner.need("max_pods", values.positive, 1, fix="say how many pods may share a domain")
    inner.close()
    return types.Spread(level, most)


def _listed(numbers: tuple[int, ...]) -> str:
    return " or ".join(str(number) for number in numbers)
