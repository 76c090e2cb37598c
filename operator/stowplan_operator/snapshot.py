"""From watched objects to the allocator's frozen snapshot. Pure.

A node's room is its allocatable, less withheld devices, less every pod on it that is not part of a job's
current placement: other people's pods count, pods of old attempts count, Terminating ones until they are gone,
unbound ones on the node that they are pinned to. The number of pods that a node may hold is room like any other.
A placed job takes its room through its placement, whether its pods exist yet or not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from stowplan_allocator import types
from stowplan_operator import api, elastic, health, lifecycle, podspec, queueing, throughput, views
from stowplan_operator.settings import Settings

# Times numNodes it fits the status' 32 bits; shares of devices count, so a node may have many.
_MAX_ACCELERATORS_PER_POD = 10_000
# In thousandths, MiB, bytes or pieces: far beyond any machine, and still a number for the solver.
_MAX_AMOUNT = 10**14


def build_nodes(
    nodes: Iterable[views.NodeView],
    pods: Iterable[views.PodView],
    jobs: Mapping[str, views.JobView],
    *,
    assessments: Mapping[str, health.NodeHealth],
    settings: Settings,
    leaving: Collection[str] = (),
) -> tuple[types.Node, ...]:
    """The allocator's nodes, sorted by name.

    In the snapshot, and so not in what nodes have used, are the ``jobs`` with a placement, by UID, and the pods
    ``leaving``, by UID.
    """
    used: dict[str, types.Resources] = {}
    counted: dict[str, int] = {}
    for pod in pods:
        if pod.claimed_node and pod.uid not in leaving and not is_current(pod, jobs):
            used[pod.claimed_node] = used.get(pod.claimed_node, types.Resources()) + pod.requests
            counted[pod.claimed_node] = counted.get(pod.claimed_node, 0) + 1
    built = []
    for node in nodes:
        assessment = assessments[node.name]
        withheld = types.Resources(accelerators=assessment.withheld_accelerators)
        built.append(
            types.Node(
                name=node.name,
                product=node.labels.get(settings.product_label, "") if node.allocatable.has_devices else "",
                available=_with_pods(
                    node.allocatable - withheld - used.get(node.name, types.Resources()),
                    number=node.max_pods - counted.get(node.name, 0),
                ),
                allocatable=_with_pods(node.allocatable, number=node.max_pods),
                topology=tuple(node.labels.get(level.label) for level in settings.topology_levels),
                labels=node.labels,
                taints=node.taints,
                blocked=assessment.blocked,
                unhealthy_accelerators=assessment.unhealthy_accelerators,
            )
        )
    return tuple(sorted(built, key=lambda node: node.name))


def _with_pods(amounts: types.Resources, *, number: int) -> types.Resources:
    """The amounts with a number of pods: every pod takes one of the pods that its node may hold."""
    return dataclasses.replace(amounts, other=(*amounts.other, ("pods", number)))


def is_current(pod: views.PodView, jobs: Mapping[str, views.JobView]) -> bool:
    """Whether the pod's requests are already counted through its job's placement."""
    job = jobs.get(pod.owner_uid)
    if job is None or job.namespace != pod.namespace or api.phase_of(job.status).is_terminal:
        return False
    placement = job.status.get("placement")
    return placement is not None and placement.get("attempt") == pod.attempt


def build_job(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    *,
    priorities: Mapping[str, views.PriorityClass],
    default_priority: views.PriorityClass,
    settings: Settings,
    pods: Sequence[views.PodView] = (),
    queues: queueing.Queues = queueing.NONE,
) -> types.Job:
    """The allocator's job. ValueError where the spec asks for something that cannot be, naming the field.

    A job that has a place keeps it, whatever has become of PriorityClasses, queues and topology levels since: without
    its request in the snapshot, what it holds would be given to others.
    """
    placement = read_placement(job.status, finished_ranks=_finished_ranks(job, pods))
    if placement is not None:
        stood_in = str(job.status.get("queue") or "")
        choice = queueing.Choice(queues.of_placed(job.namespace, named=spec.queue, stood_in=stood_in))
    else:
        choice = queues.choose(job.namespace, named=spec.queue)
    class_name = spec.priority_class_name or queues.default_class(choice.queue)
    standing = priorities.get(class_name, default_priority)
    request = types.Job(
        id=job.uid,
        name=job.key,
        num_pods=spec.num_nodes,
        pod=_with_pods(pod_resources(spec, settings=settings), number=1),
        priority=standing.value,
        preempts=standing.preempts,
        created_at_seconds=int(job.created_at),
        queue=choice.queue,
        other_queues=choice.others,
    )
    if placement is not None:
        with contextlib.suppress(ValueError):
            request = _with_wishes(request, spec, settings)
        return _standing(dataclasses.replace(request, placement=placement), job, spec)
    if class_name and class_name not in priorities:
        known = ", ".join(sorted(priorities)[:8]) or "none"
        if spec.priority_class_name:
            raise ValueError(f"spec.priorityClassName: there is no PriorityClass {class_name!r}; existing: {known}")
        raise ValueError(
            f'spec.priorityClassName: queue "{choice.queue}" gives its jobs PriorityClass {class_name!r} (its '
            f"spec.defaultPriorityClassName), which does not exist; name one of {known}, or have the queue changed"
        )
    return _with_sizes(_with_wishes(request, spec, settings), job, elastic.usable(spec, job.status))


def _with_wishes(request: types.Job, spec: api.TrainingJobSpec, settings: Settings) -> types.Job:
    """Where the job may stand; ValueError where it asks for what there is not.

    For a placed job that only says where else it may go.
    """
    return dataclasses.replace(
        request,
        products=_products(spec),
        topology=_topology(spec, settings),
        node_selector=tuple(sorted(spec.node_selector.items())),
        tolerations=_tolerations(spec, settings),
    )


def _standing(request: types.Job, job: views.JobView, spec: api.TrainingJobSpec) -> types.Job:
    """The job with the size of its placement; with its other sizes, unless some of its pods have ended."""
    assert request.placement is not None
    size, sizes = elastic.placed_pods(job.status), elastic.usable(spec, job.status)
    if not sizes or request.placement.num_pods != size:
        return dataclasses.replace(request, num_pods=request.placement.num_pods)
    return _with_sizes(request, job, tuple(sorted({*sizes, size})))


def _with_sizes(request: types.Job, job: views.JobView, sizes: tuple[int, ...]) -> types.Job:
    if not sizes:
        return request
    goodput = throughput.goodput_milli(job, sizes, preferred=request.num_pods)
    return dataclasses.replace(request, allowed_num_pods=sizes, goodput_milli=goodput)


def pod_resources(spec: api.TrainingJobSpec, *, settings: Settings) -> types.Resources:
    """What one pod of the job asks for; ValueError names the resource that cannot be read, or that no node can have."""
    try:
        wanted = views.parse_resources(
            spec.resources_per_node, accelerator=settings.accelerator_resource, round_up=True
        )
    except ValueError as error:
        raise ValueError(f"spec.resourcesPerNode.{error}") from None
    if wanted.accelerators > _MAX_ACCELERATORS_PER_POD:
        raise ValueError(
            f"spec.resourcesPerNode.{settings.accelerator_resource}: {wanted.accelerators} is more than any node has; "
            "lower it and raise spec.numNodes"
        )
    if any(amount > _MAX_AMOUNT for _, amount in wanted.items()):
        raise ValueError("spec.resourcesPerNode: an amount is larger than any node has; write for example 8 or 64Gi")
    return wanted


def _products(spec: api.TrainingJobSpec) -> tuple[types.ProductChoice, ...]:
    choices = []
    for position, accelerator in enumerate(spec.accelerators):
        try:
            milli = int(Decimal(accelerator.relative_throughput) * 1000)
        except InvalidOperation:
            raise ValueError(
                f"spec.accelerators[{position}].relativeThroughput: {accelerator.relative_throughput!r} is not a "
                'decimal number; write it as a string such as "0.45"'
            ) from None
        choices.append(types.ProductChoice(product=accelerator.product, relative_throughput_milli=milli))
    return tuple(choices)


def _topology(spec: api.TrainingJobSpec, settings: Settings) -> types.TopologyRequest | None:
    if spec.topology is None:
        return None
    levels = (*settings.level_names, "node")
    if spec.topology.level not in levels:
        raise ValueError(
            f"spec.topology.level: there is no level {spec.topology.level!r}; the levels of this cluster are "
            f"{', '.join(levels)} (setting topologyLevels)"
        )
    return types.TopologyRequest(
        level=spec.topology.level,
        mode=types.TopologyMode(spec.topology.mode),
        slice_size=spec.topology.slice_size,
    )


def _tolerations(spec: api.TrainingJobSpec, settings: Settings) -> tuple[types.Toleration, ...]:
    raw = list(spec.tolerations)
    if pod_resources(spec, settings=settings).has_devices:
        raw.append(podspec.GPU_TOLERATION)
    # One that holds for a time only is no reason to go there: the pod would be evicted again when it is over.
    parsed = (views.parse_toleration(one) for one in raw if one.get("tolerationSeconds") is None)
    return tuple(toleration for toleration in parsed if toleration is not None)


def _finished_ranks(job: views.JobView, pods: Sequence[views.PodView]) -> frozenset[int]:
    current = lifecycle.current_pods(job, pods)
    ended = frozenset(rank for rank, pod in current.items() if pod.is_terminal)
    return ended | podspec.finished_ranks(job.status.get("placement") or {})


def read_placement(
    status: Mapping[str, object], *, finished_ranks: frozenset[int] = frozenset()
) -> types.Placement | None:
    """The placement in a status as the allocator's; ranks whose pods have ended take no room any more."""
    placement = status.get("placement")
    if not isinstance(placement, Mapping):
        return None
    shares = []
    for share in placement["nodes"]:
        ranks = [rank for rank in podspec.parse_ranks(share["ranks"]) if rank not in finished_ranks]
        if ranks:
            shares.append(types.NodeShare(node=share["name"], num_pods=len(ranks)))
    return types.Placement(product=placement.get("product", ""), shares=tuple(shares))


def domains_of(
    placement: types.Placement, nodes: Mapping[str, views.NodeView], *, settings: Settings
) -> tuple[str, ...]:
    """The topology domains that a placement spans, as paths from the widest level such as ``z1/r1``, in rank order."""
    paths = []
    for share in placement.shares:
        labels = nodes[share.node].labels if share.node in nodes else {}
        names = [labels[level.label] for level in settings.topology_levels if level.label in labels]
        if names:
            paths.append("/".join(names))
    return tuple(dict.fromkeys(paths))


def write_placement(
    placement: types.Placement, *, attempt: int, planned_at: str, domains: Sequence[str] = ()
) -> dict[str, object]:
    """The allocator's placement as ``status.placement``: ranks by node, not pod by pod."""
    nodes = []
    rank = 0
    for share in placement.shares:
        last = rank + share.num_pods - 1
        nodes.append({"name": share.node, "ranks": f"{rank}-{last}" if last > rank else str(rank)})
        rank = last + 1
    written: dict[str, object] = {"attempt": attempt, "nodes": nodes, "plannedAt": planned_at}
    if placement.product:
        written["product"] = placement.product
    if domains:
        written["domains"] = list(domains)
    return written
