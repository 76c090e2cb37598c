"""Every hard constraint, verified on the finished plan against the snapshot alone.

This module shares no code with the model, the packing or the eligibility rules: it reads
the snapshot as an outsider would, and takes from the planner only what the queue's order is
defined to be. What must stay true: a plan that breaks a constraint
raises ``PlanViolationError`` with every breach in words, in production too, and is never applied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from stowplan_allocator import problem, types

# Node -> resource -> how much of it is taken there.
Tally = dict[str, dict[str, int]]


ANY = types.CapacityType.ANY


class PlanViolationError(AssertionError):
    """A plan breaks a hard constraint: an error of the allocator, never of a user."""

    def __init__(self, breaches: list[str]) -> None:
        super().__init__("the plan breaks hard constraints: " + "; ".join(breaches))
        self.breaches = tuple(breaches)

    def __reduce__(self) -> tuple[type[PlanViolationError], tuple[list[str]]]:
        """Travel whole between the worker process and its parent."""
        return PlanViolationError, (list(self.breaches),)


def verify(plan: types.Plan, *, snapshot: types.Snapshot, settings: types.Settings | None = None) -> None:
    """Raise ``PlanViolationError`` unless the plan keeps every hard constraint of the snapshot."""
    breaches = list(find_breaches(plan, snapshot=snapshot))
    breaches += find_eviction_breaches(plan, snapshot=snapshot, settings=settings or types.Settings())
    if breaches:
        raise PlanViolationError(breaches)


def find_breaches(plan: types.Plan, *, snapshot: types.Snapshot) -> Iterator[str]:
    """Every breach in words; nothing for a sound plan."""
    nodes = {node.name: node for node in snapshot.nodes}
    pending = {job.id: job for job in snapshot.jobs if job.placement is None}
    yield from _answers(plan, pending=pending)
    added: Tally = {}
    for job_id, placement in plan.placements.items():
        job = pending.get(job_id)
        if job is None:
            continue
        yield from _gang(job, placement=placement)
        placed_on = []
        pod = job.pod.items()
        picky = job.node_selector or job.avoided_nodes or job.node_affinity or job.capacity_type is not ANY
        for share in placement.shares:
            node = nodes.get(share.node)
            if node is None:
                yield f"{job.id}: node {share.node} is not in the snapshot"
                continue
            placed_on.append(node)
            _add(added, share=share, pod=pod)
            if picky or node.blocked or node.taints:
                yield from _node_rules(job, node=node)
        yield from _product(job, placement=placement, nodes=placed_on)
        if job.spread is not None:
            yield from _spread(job, placement=placement, nodes=nodes, levels=snapshot.levels)
        if job.topology is not None:
            yield from _slices(job, placement=placement, nodes=nodes, levels=snapshot.levels)
            yield from _topology(job, nodes=placed_on, levels=snapshot.levels)
    yield from _capacity(added, nodes=nodes, snapshot=snapshot)
    if snapshot.reservations:
        yield from _reservations(plan, nodes=nodes, snapshot=snapshot)


def find_eviction_breaches(plan: types.Plan, *, snapshot: types.Snapshot, settings: types.Settings) -> Iterator[str]:
    """Every breach of the rules of eviction in words, and of the hard constraints once all victims are gone."""
    if not plan.evictions and not plan.held:
        return
    if settings.preemption is types.Preemption.NEVER:
        yield "the plan evicts jobs or holds room, and the settings never allow that"
    jobs = {job.id: job for job in snapshot.jobs}
    gone = {job.id for job in snapshot.jobs if job.leaving}
    for eviction in plan.evictions:
        victim, job = jobs.get(eviction.job_id), jobs.get(eviction.for_job)
        what = f"eviction of {eviction.job_id} for {eviction.for_job}"
        if victim is None or victim.placement is None:
            yield f"{what}: the victim does not run"
            continue
        if eviction.job_id in gone:
            yield f"{what}: the victim is leaving already"
        gone.add(eviction.job_id)
        if victim.disruption_cost is None or victim.disruption_cost != eviction.cost:
            yield f"{what}: it costs {victim.disruption_cost}, not {eviction.cost}"
        if job is None or eviction.for_job not in plan.held:
            yield f"{what}: no room is held for it"
        elif not _ranks_below(victim, job=job, settings=settings):
            yield f"{what}: the victim does not rank below it"
    for job_id in plan.held:
        if job_id not in plan.waiting or plan.waiting[job_id].reason is not types.Reason.WAITING_FOR_PREEMPTION:
            yield f"{job_id}: room is held for a job that does not wait for preemption"
    later = dataclasses.replace(
        plan,
        placements={**plan.placements, **plan.held},
        waiting={job_id: why for job_id, why in plan.waiting.items() if job_id not in plan.held},
    )
    left = dataclasses.replace(snapshot, jobs=tuple(job for job in snapshot.jobs if job.id not in gone))
    yield from (f"once victims are gone: {breach}" for breach in find_breaches(later, snapshot=left))


def _ranks_below(victim: types.Job, *, job: types.Job, settings: types.Settings) -> bool:
    if victim.priority != job.priority:
        return victim.priority < job.priority
    if settings.preemption is types.Preemption.LOWER_PRIORITY:
        return False
    return problem.standing_key(victim, order=settings.order) > problem.queue_key(job, order=settings.order)


def _answers(plan: types.Plan, *, pending: dict[str, types.Job]) -> Iterator[str]:
    for job_id in sorted((plan.placements.keys() | plan.waiting.keys()) - pending.keys()):
        yield f"{job_id}: the plan speaks of a job that does not wait in the snapshot"
    for job_id in pending:
        answers = (job_id in plan.placements) + (job_id in plan.waiting)
        if answers != 1:
            yield f"{job_id}: the plan gives {answers} answers, not one"


def _gang(job: types.Job, *, placement: types.Placement) -> Iterator[str]:
    if job.allowed_num_pods and placement.num_pods not in job.allowed_num_pods:
        allowed = ", ".join(map(str, job.allowed_num_pods))
        yield f"{job.id}: {placement.num_pods} pods are placed where only {allowed} are allowed"
    if not job.allowed_num_pods and placement.num_pods != job.num_pods:
        yield f"{job.id}: {placement.num_pods} of {job.num_pods} pods are placed"
    if any(share.num_pods < 1 for share in placement.shares):
        yield f"{job.id}: a share of less than one pod"
    if len(placement.shares) > 1 and len({share.node for share in placement.shares}) != len(placement.shares):
        yield f"{job.id}: a node is named in two shares"


def _node_rules(job: types.Job, *, node: types.Node) -> Iterator[str]:
    where = f"{job.id} on {node.name}"
    if node.blocked:
        yield f"{where}: the node is blocked ({node.blocked})"
    if node.name in job.avoided_nodes:
        yield f"{where}: the job avoids the node"
    for key, value in job.node_selector:
        if node.labels.get(key) != value:
            yield f"{where}: the node lacks label {key}={value}"
    if job.node_affinity and not any(_term_holds(term, labels=node.labels) for term in job.node_affinity):
        yield f"{where}: no term of the node affinity holds"
    if (job.capacity_type is types.CapacityType.SPOT and not node.spot) or (
        job.capacity_type is types.CapacityType.ON_DEMAND and node.spot
    ):
        yield f"{where}: the job asks for {job.capacity_type.value} and the node is {'spot' if node.spot else 'not'}"
    for taint in node.taints:
        if not any(toleration.tolerates(taint) for toleration in job.tolerations):
            yield f"{where}: taint {taint.key} is not tolerated"


def _term_holds(term: types.AffinityTerm, *, labels: Mapping[str, str]) -> bool:
    """All expressions of a term, read as core/v1 writes them; an empty term holds nowhere."""
    for one in term:
        there = one.key in labels
        value = labels.get(one.key, "")
        if one.operator.value in ("Gt", "Lt"):
            try:
                above = int(value) - int(one.values[0])
            except ValueError:
                return False
            holds = above > 0 if one.operator.value == "Gt" else above < 0
        else:
            holds = {
                "In": there and value in one.values,
                "NotIn": not there or value not in one.values,
                "Exists": there,
                "DoesNotExist": not there,
            }[one.operator.value]
        if not holds:
            return False
    return bool(term)


def _product(job: types.Job, *, placement: types.Placement, nodes: list[types.Node]) -> Iterator[str]:
    slices = any("/mig-" in name or name.endswith(".shared") for name, _ in job.pod.other)
    if not job.products and not job.pod.accelerators and not slices:
        return
    acceptable = {choice.product for choice in job.products}
    if acceptable and placement.product not in acceptable:
        yield f'{job.id}: product "{placement.product}" is not acceptable'
    for node in nodes:
        if node.product != placement.product:
            yield f'{job.id} on {node.name}: the node is "{node.product}", the placement says "{placement.product}"'


def _topology(job: types.Job, *, nodes: list[types.Node], levels: tuple[str, ...]) -> Iterator[str]:
    if job.topology is None or job.topology.mode is not types.TopologyMode.REQUIRED:
        return
    if job.topology.slice_size is not None:
        return
    if job.topology.level == "node":
        if len({node.name for node in nodes}) > 1:
            yield f"{job.id}: spread over {len(nodes)} nodes where one is required"
        return
    if job.topology.level not in levels:
        yield f"{job.id}: level {job.topology.level} is unknown"
        return
    depth = levels.index(job.topology.level)
    for node in nodes:
        if depth >= len(node.topology) or node.topology[depth] is None:
            yield f"{job.id} on {node.name}: the node is in no {job.topology.level}"
    domains = {node.topology[: depth + 1] for node in nodes}
    if len(domains) > 1:
        yield f"{job.id}: spread over {len(domains)} domains of {job.topology.level} where one is required"


def _domain(node: types.Node, *, level: str, levels: tuple[str, ...]) -> tuple[str | None, ...] | None:
    """The node's domain of a level by its path; None where the node has no label of it."""
    if level == "node":
        return (node.name,)
    depth = levels.index(level)
    return node.topology[: depth + 1] if depth < len(node.topology) and node.topology[depth] is not None else None


def _slices(
    job: types.Job, *, placement: types.Placement, nodes: dict[str, types.Node], levels: tuple[str, ...]
) -> Iterator[str]:
    asked = job.topology
    if asked is None or asked.slice_size is None or asked.mode is not types.TopologyMode.REQUIRED:
        return
    ranks = [nodes[share.node] for share in placement.shares for _ in range(share.num_pods) if share.node in nodes]
    for first in range(0, len(ranks), asked.slice_size):
        inside = {_domain(node, level=asked.level, levels=levels) for node in ranks[first : first + asked.slice_size]}
        if None in inside or len(inside) > 1:
            yield f"{job.id}: ranks {first} to {first + asked.slice_size - 1} are not in one {asked.level}"


def _spread(
    job: types.Job, *, placement: types.Placement, nodes: dict[str, types.Node], levels: tuple[str, ...]
) -> Iterator[str]:
    if job.spread is None:
        return
    pods: dict[tuple[str | None, ...], int] = {}
    for share in placement.shares:
        domain = _domain(nodes[share.node], level=job.spread.level, levels=levels) if share.node in nodes else None
        if domain is None:
            yield f"{job.id} on {share.node}: the node is in no {job.spread.level}"
        else:
            pods[domain] = pods.get(domain, 0) + share.num_pods
    for domain, count in pods.items():
        if count > job.spread.max_pods:
            where = "/".join(name or "?" for name in domain)
            yield f"{job.id}: {count} pods in {job.spread.level} {where}, where at most {job.spread.max_pods} may be"


def _add(tally: Tally, *, share: types.NodeShare, pod: tuple[tuple[str, int], ...]) -> None:
    held = tally.get(share.node)
    if held is None:
        tally[share.node] = {resource: amount * share.num_pods for resource, amount in pod}
        return
    for resource, amount in pod:
        held[resource] = held.get(resource, 0) + amount * share.num_pods


def _amount(there: types.Resources, resource: str) -> int:
    if resource == "accelerators":
        return there.accelerators
    if resource == "cpu_milli":
        return there.cpu_milli
    if resource == "memory_mib":
        return there.memory_mib
    return dict(there.other).get(resource, 0)


def _capacity(added: Tally, *, nodes: dict[str, types.Node], snapshot: types.Snapshot) -> Iterator[str]:
    used: Tally = {}
    for job in snapshot.jobs:
        if job.placement is not None:
            pod = job.pod.items()
            for share in job.placement.shares:
                if share.node in added:
                    _add(used, share=share, pod=pod)
    for name, amounts in sorted(added.items()):
        there = nodes[name].available
        gone = used.get(name)
        for resource, amount in amounts.items():
            free = _amount(there, resource) - (gone.get(resource, 0) if gone else 0)
            if amount > max(free, 0):
                yield f"{name}: {amount} {resource} given where {max(free, 0)} are free"


def _reservations(plan: types.Plan, *, nodes: dict[str, types.Node], snapshot: types.Snapshot) -> Iterator[str]:
    """Each reservation of a waiting job against all others, and all that hold at one moment against those without."""
    jobs = {job.id: job for job in snapshot.jobs}
    kept = [one for one in snapshot.reservations if one.job_id in jobs and jobs[one.job_id].placement is None]

    def stands(job: types.Job, *, moment: int, since: int) -> bool:
        return job.expected_seconds is None or since + job.expected_seconds > moment

    groups = [(one.starts_at_seconds, [one]) for one in kept]
    for start in {one.starts_at_seconds for one in kept}:
        early = [one for one in kept if one.starts_at_seconds <= start]
        late = [one for one in early if stands(jobs[one.job_id], moment=start, since=one.starts_at_seconds)]
        groups.append((start, late))
    for moment, group in groups:
        owners = {one.job_id for one in group}
        room: Tally = {}
        taken: Tally = {}
        for one in group:
            for share in one.placement.shares:
                _add(room, share=share, pod=jobs[one.job_id].pod.items())
        for job in snapshot.jobs:
            if job.placement is not None and stands(job, moment=moment, since=snapshot.now_seconds):
                for share in job.placement.shares:
                    _add(room, share=share, pod=job.pod.items())
        for job_id, placement in plan.placements.items():
            if job_id not in jobs or job_id in owners:
                continue
            if stands(jobs[job_id], moment=moment, since=snapshot.now_seconds):
                for share in placement.shares:
                    _add(taken, share=share, pod=jobs[job_id].pod.items())
        reserved = {share.node: one for one in group for share in one.placement.shares}
        for name in sorted(reserved.keys() & taken.keys() & nodes.keys()):
            there = dict(nodes[name].available.items())
            asked = {resource for resource, _ in jobs[reserved[name].job_id].pod.items()}
            for resource, amount in taken[name].items():
                left = max(there.get(resource, 0) - room.get(name, {}).get(resource, 0), 0)
                if resource in asked and amount > left:
                    yield f"{name}: {amount} {resource} taken where {left} are not kept for {', '.join(sorted(owners))}"
