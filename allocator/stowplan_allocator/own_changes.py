"""Alternatives that the owner of a waiting job can choose alone: other wishes, smaller sizes, a higher priority.

What must stay true: each alternative changes one wish of the job and names it; of several
values the one nearest to the wish is given, and it was planned.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from stowplan_allocator import eligibility, types, words
from stowplan_allocator import problem as problems
from stowplan_allocator.oracle import Oracle
from stowplan_allocator.relaxing import Alternative, ChangeKind, Patch


def preferred_topology(oracle: Oracle) -> Iterator[Alternative]:
    """The level as a wish and no longer a must."""
    asked = oracle.job.topology
    if asked is None or asked.mode is not types.TopologyMode.REQUIRED:
        return
    patch = _patch(oracle.job, topology=replace(asked, mode=types.TopologyMode.PREFERRED))
    if oracle.starts(patch):
        sentence = f"wish for one {asked.level} instead of requiring it (topology.mode: Preferred)"
        yield Alternative(ChangeKind.TOPOLOGY_PREFERRED, sentence, (("level", asked.level),), patch)


def wider_level(oracle: Oracle) -> Iterator[Alternative]:
    """The narrowest wider level that holds the job."""
    asked = oracle.job.topology
    levels = (*oracle.snapshot.levels, eligibility.NODE_LEVEL)
    if asked is None or asked.mode is not types.TopologyMode.REQUIRED or asked.level not in levels:
        return
    for level in reversed(levels[: levels.index(asked.level)]):
        patch = _patch(oracle.job, topology=replace(asked, level=level))
        if oracle.starts(patch):
            sentence = f"require one {level} instead of one {asked.level} (topology.level: {level})"
            numbers = (("level", level), ("instead_of", asked.level))
            yield Alternative(ChangeKind.WIDER_LEVEL, sentence, numbers, patch)
            return


def avoided_nodes(oracle: Oracle) -> Iterator[Alternative]:
    """The nodes that the job avoids after failures, but for those that it avoids anyway."""
    allowed = oracle.job.avoided_nodes - oracle.job.avoided_anyway
    if allowed:
        patch = _patch(oracle.job, avoided_nodes=oracle.job.avoided_nodes - allowed)
        if oracle.starts(patch):
            names = sorted(allowed, key=problems.natural)
            sentence = (
                f"allow the nodes that it avoids after failures: {words.names(names)} "
                "(failurePolicy.avoidFailedNodes: false)"
            )
            yield Alternative(ChangeKind.AVOIDED_NODES_ALLOWED, sentence, (("nodes", ",".join(names)),), patch)


def tolerated_taint(oracle: Oracle) -> Iterator[Alternative]:
    """One more toleration; if no single one will do, of all taints."""
    profile = eligibility.Profile.of(oracle.job)
    taints = sorted(
        {taint for node in oracle.snapshot.nodes for taint in eligibility.untolerated_taints(node, profile=profile)},
        key=lambda taint: (taint.key, taint.value, taint.effect.value),
    )
    found = False
    for taint in taints:
        more = types.Toleration(taint.key, "Equal", taint.value, taint.effect)
        text = f"{taint.key}={taint.value}:{taint.effect.value}"
        for one in _tolerating(oracle, (more,), text=text):
            found = True
            yield one
    if len(taints) > 1 and not found:
        all_of = tuple(types.Toleration(taint.key, "Equal", taint.value, taint.effect) for taint in taints)
        text = ", ".join(f"{taint.key}={taint.value}:{taint.effect.value}" for taint in taints)
        yield from _tolerating(oracle, all_of, text=text)


def _tolerating(oracle: Oracle, more: tuple[types.Toleration, ...], *, text: str) -> Iterator[Alternative]:
    patch = _patch(oracle.job, tolerations=(*oracle.job.tolerations, *more))
    if oracle.starts(patch):
        yield Alternative(ChangeKind.TAINT_TOLERATED, f"tolerate {text} (tolerations)", (("taints", text),), patch)


def without_selector(oracle: Oracle) -> Iterator[Alternative]:
    """Without one label of the node selector; if no single one will do, without all."""
    labels = oracle.job.node_selector
    singles = [(label,) for label in labels]
    found = False
    for gone in [*singles, labels] if len(labels) > 1 else singles:
        if found and gone == labels:
            return
        patch = _patch(oracle.job, node_selector=tuple(label for label in labels if label not in gone))
        if oracle.starts(patch):
            found = True
            text = ", ".join(f"{key}={value}" for key, value in gone)
            yield Alternative(
                ChangeKind.WITHOUT_SELECTOR, f"remove {text} from the nodeSelector", (("labels", text),), patch
            )


def without_affinity(oracle: Oracle) -> Iterator[Alternative]:
    """Without the node affinity."""
    if oracle.job.node_affinity:
        patch = _patch(oracle.job, node_affinity=())
        if oracle.starts(patch):
            number = str(len(oracle.job.node_affinity))
            yield Alternative(ChangeKind.WITHOUT_AFFINITY, "remove the nodeAffinity", (("terms", number),), patch)


def any_capacity_type(oracle: Oracle) -> Iterator[Alternative]:
    """Spot and on-demand nodes alike."""
    asked = oracle.job.capacity_type
    if asked is not types.CapacityType.ANY:
        patch = _patch(oracle.job, capacity_type=types.CapacityType.ANY)
        if oracle.starts(patch):
            other = "spot" if asked is types.CapacityType.ON_DEMAND else "on-demand"
            sentence = f"allow {other} nodes too (capacityType: Any)"
            yield Alternative(ChangeKind.ANY_CAPACITY_TYPE, sentence, (("instead_of", asked.value),), patch)


def other_product(oracle: Oracle) -> Iterator[Alternative]:
    """Each further product of the cluster that would start the job."""
    chosen = oracle.job.products
    if not chosen:
        return
    there = {node.product for node in oracle.snapshot.nodes if node.product}
    for product in sorted(there - {choice.product for choice in chosen}):
        patch = _patch(oracle.job, products=(*chosen, types.ProductChoice(product)))
        if oracle.starts(patch):
            sentence = f"accept {product} too (accelerators)"
            yield Alternative(ChangeKind.OTHER_PRODUCT, sentence, (("product", product),), patch)


def other_queue(oracle: Oracle) -> Iterator[Alternative]:
    """Each other queue that the job's owner may use and in which it would start."""
    for name in oracle.job.other_queues:
        patch = _patch(oracle.job, queue=name)
        if name != oracle.job.queue and oracle.starts(patch):
            numbers = (("queue", name), ("instead_of", oracle.job.queue))
            yield Alternative(ChangeKind.OTHER_QUEUE, f'use queue "{name}" (queue: {name})', numbers, patch)


def smaller_pods(oracle: Oracle) -> Iterator[Alternative]:
    """The largest pods that start, resource by resource."""
    for resource, amount in oracle.job.pod.items():
        patch = functools.partial(_resized, oracle.job, resource)
        best = oracle.easiest(range(1, amount), patch)
        if best is not None:
            less, asked = words.amount(best, resource), words.amount(amount, resource)
            sentence = f"ask for {less} per pod instead of {asked} (resourcesPerNode)"
            numbers = (("resource", resource), ("amount", str(best)), ("instead_of", str(amount)))
            yield Alternative(ChangeKind.SMALLER_PODS, sentence, numbers, patch(best))


def _resized(job: types.Job, resource: str, amount: int) -> Patch:
    return _patch(job, pod=_with(job, resource, amount))


def _with(job: types.Job, resource: str, amount: int) -> types.Resources:
    pod = job.pod
    if resource == "accelerators":
        return replace(pod, accelerators=amount)
    if resource == "cpu_milli":
        return replace(pod, cpu_milli=amount)
    if resource == "memory_mib":
        return replace(pod, memory_mib=amount)
    return replace(pod, other=(*(one for one in pod.other if one[0] != resource), (resource, amount)))


def fewer_pods(oracle: Oracle) -> Iterator[Alternative]:
    """The largest number of pods that starts."""
    job = oracle.job
    smallest = min(job.allowed_num_pods, default=job.num_pods)
    step = (job.topology.slice_size or 1) if job.topology else 1
    best = oracle.easiest(range(step, smallest, step), lambda number: _sized(job, number))
    if best is not None:
        pods = "1 pod" if best == 1 else f"{best} pods"
        sentence = f"ask for {pods} instead of {smallest} (numNodes: {best})"
        if job.allowed_num_pods:
            field = f"elastic.minNodes: {best}, or {best} in elastic.allowedNodes"
            sentence = f"run with {pods} too, instead of at least {smallest} ({field})"
        numbers = (("pods", str(best)), ("instead_of", str(smallest)))
        yield Alternative(ChangeKind.FEWER_PODS, sentence, numbers, _sized(job, best))


def _sized(job: types.Job, number: int) -> Patch:
    """An elastic job may have this size beside the others."""
    if job.allowed_num_pods:
        return _patch(job, allowed_num_pods=(number, *job.allowed_num_pods))
    return _patch(job, num_pods=number)


def higher_priority(oracle: Oracle) -> Iterator[Alternative]:
    """The least priority that starts the job, of those that it can be given.

    It helps only where those ahead take its room.
    """
    job = oracle.job
    ahead = {one.priority for one in oracle.ahead.jobs if one.placement is None and one.id != job.id}
    values = {value for p in ahead for value in (p, p + 1) if value > job.priority}
    if not values:
        return
    classes = oracle.snapshot.priority_classes
    if classes is None:
        classes = tuple(types.PriorityClass("", value, job.preempts) for value in values)
    choices = sorted((one for one in classes if one.value >= min(values)), key=lambda one: (-one.value, one.name))
    patches = [_patch(job, priority=one.value, preempts=one.preempts) for one in choices]
    best = oracle.easiest(range(len(choices)), lambda at: patches[at])
    if best is not None:
        name, value = choices[best].name, str(choices[best].value)
        named = f'use PriorityClass "{name}" of {value} instead of {job.priority} (priorityClassName: {name})'
        sentence = named if name else f"give it priority {value} instead of {job.priority}"
        numbers = (("priority", value), ("instead_of", str(job.priority)), *([("class", name)] if name else ()))
        yield Alternative(ChangeKind.HIGHER_PRIORITY, sentence, numbers, patches[best])


def _patch(job: types.Job, **wishes: object) -> Patch:
    # mypy cannot see through the names of the fields; dataclasses.replace refuses a wrong one.
    return Patch(jobs=(replace(job, **wishes),))  # type: ignore[arg-type]
