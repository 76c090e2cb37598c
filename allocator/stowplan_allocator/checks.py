"""Every hard constraint, verified on the finished plan against the snapshot alone.

This module shares no code with the model, the packing or the eligibility rules: it reads
the snapshot as an outsider would, and takes from the planner only what the queue's order is
defined to be. What must stay true: a plan that breaks a constraint
raises ``PlanViolationError`` with every breach in words, in production too, and is never applied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from stowplan_allocator import limit_checks, move_checks, problem, quota_checks, resize_checks, types

NOWHERE = -1
ANY = types.CapacityType.ANY
REQUIRED = types.TopologyMode.REQUIRED


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


class _Sums:
    """What is taken of each node, by its index: flat lists of numbers, since every plan pays for them."""

    def __init__(self, num_nodes: int) -> None:
        self.accelerators = [0] * num_nodes
        self.cpu_milli = [0] * num_nodes
        self.memory_mib = [0] * num_nodes
        self.other: dict[int, dict[str, int]] = {}

    def add(self, at: list[int], *, counts: list[int], pod: types.Resources) -> None:
        """So many pods on each of these nodes."""
        accelerators, cpu_milli, memory_mib = self.accelerators, self.cpu_milli, self.memory_mib
        for i, count in zip(at, counts, strict=True):
            accelerators[i] += pod.accelerators * count
            cpu_milli[i] += pod.cpu_milli * count
            memory_mib[i] += pod.memory_mib * count
            if pod.other:
                held = self.other.setdefault(i, {})
                for resource, amount in pod.other:
                    held[resource] = held.get(resource, 0) + amount * count

    def of(self, i: int) -> dict[str, int]:
        """All amounts of one node by resource."""
        own = {"accelerators": self.accelerators[i], "cpu_milli": self.cpu_milli[i], "memory_mib": self.memory_mib[i]}
        return own | self.other.get(i, {})


def find_breaches(plan: types.Plan, *, snapshot: types.Snapshot) -> Iterator[str]:
    """Every breach in words; nothing for a sound plan. What matters to some jobs only is asked of these alone."""
    nodes = snapshot.nodes
    index = {node.name: i for i, node in enumerate(nodes)}
    pending = {job.id: job for job in snapshot.jobs if job.placement is None}
    yield from _answers(plan, pending=pending)
    added, touched = _Sums(len(nodes)), set[int]()
    for job_id, placement in plan.placements.items():
        job = pending.get(job_id)
        if job is None:
            continue
        at = [index.get(share.node, NOWHERE) for share in placement.shares]
        counts = [share.num_pods for share in placement.shares]
        yield from _gang(job, placement=placement, counts=counts)
        if NOWHERE in at:
            lost = [share.node for share in placement.shares if share.node not in index]
            yield from (f"{job.id}: node {name} is not in the snapshot" for name in lost)
            at, counts = _known(placement, index=index)
        added.add(at, counts=counts, pod=job.pod)
        touched.update(at)
        product = placement.product
        if job.products and all(choice.product != product for choice in job.products):
            yield f'{job.id}: product "{product}" is not acceptable'
        fussy = _wants_product(job)
        picky = job.node_selector or job.avoided_nodes or job.node_affinity or job.capacity_type is not ANY
        for i in at:
            node = nodes[i]
            if fussy and node.product != product:
                yield f'{job.id} on {node.name}: the node is "{node.product}", the placement says "{product}"'
            if picky or node.taints or node.blocked:
                yield from _node_rules(job, node=node)
        if job.spread is not None or (job.topology is not None and job.topology.mode is REQUIRED):
            placed_on = [nodes[i] for i in at]
            yield from _spread(job, nodes=placed_on, counts=counts, levels=snapshot.levels)
            yield from _slices(job, nodes=placed_on, counts=counts, levels=snapshot.levels)
            yield from _topology(job, nodes=placed_on, levels=snapshot.levels)
    yield from _capacity(added, touched=touched, index=index, snapshot=snapshot)
    if snapshot.reservations:
        yield from _reservations(plan, index=index, snapshot=snapshot)
    if snapshot.queues:
        yield from quota_checks.find_breaches(plan.placements, snapshot=snapshot)
    if snapshot.namespace_limits:
        yield from limit_checks.find_breaches(plan.placements, snapshot=snapshot)


def _known(placement: types.Placement, *, index: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """The nodes of a placement by index, but for those that do not exist, and the pods on each."""
    known = [share for share in placement.shares if share.node in index]
    return [index[share.node] for share in known], [share.num_pods for share in known]


def find_eviction_breaches(plan: types.Plan, *, snapshot: types.Snapshot, settings: types.Settings) -> Iterator[str]:
    """Every breach of the rules of eviction and moves in words, and of the hard constraints once all are gone."""
    if not plan.evictions and not plan.held and not plan.moves and not plan.resizes:
        return
    if plan.evictions and settings.preemption is types.Preemption.NEVER:
        yield "the plan evicts jobs, and the settings never allow that"
    jobs = {job.id: job for job in snapshot.jobs}
    gone = {job.id for job in snapshot.jobs if job.leaving and job.placement is not None}
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
        elif not job.preempts:
            yield f"{what}: it may not preempt"
        elif not snapshot.queues and not _ranks_below(victim, job=job, settings=settings):
            yield f"{what}: the victim does not rank below it"
    if snapshot.queues:
        yield from quota_checks.find_eviction_breaches(plan, snapshot=snapshot, settings=settings)
    for job_id in plan.held:
        if job_id not in plan.waiting or plan.waiting[job_id].reason is not types.Reason.WAITING_FOR_PREEMPTION:
            yield f"{job_id}: room is held for a job that does not wait for preemption"
    yield from move_checks.find_breaches(plan, snapshot=snapshot)
    yield from limit_checks.find_disruptions(plan, snapshot=snapshot)
    yield from resize_checks.find_breaches(plan, snapshot=snapshot, settings=settings)
    moved = {move.job_id: move.placement for move in plan.moves}
    resized = {resize.job_id: resize.placement for resize in plan.resizes if resize.placement is not None}
    later = dataclasses.replace(
        plan,
        placements={**plan.placements, **plan.held, **moved, **resized},
        waiting={job_id: why for job_id, why in plan.waiting.items() if job_id not in plan.held},
    )
    staying = (job for job in snapshot.jobs if job.id not in gone)
    stopped = (move_checks.lifted(job) if job.id in moved and job.placement else job for job in staying)
    left = dataclasses.replace(
        snapshot, jobs=tuple(dataclasses.replace(job, placement=None) if job.id in resized else job for job in stopped)
    )
    yield from (f"once victims are gone: {breach}" for breach in find_breaches(later, snapshot=left))


def _ranks_below(victim: types.Job, *, job: types.Job, settings: types.Settings) -> bool:
    if victim.priority != job.priority:
        return victim.priority < job.priority
    if settings.preemption is types.Preemption.LOWER_PRIORITY:
        return False
    if settings.preemption is types.Preemption.LEAST_ATTAINED:
        return quota_checks.has_had_more(victim, job)
    return problem.standing_key(victim, order=settings.order) > problem.queue_key(job, order=settings.order)


def _answers(plan: types.Plan, *, pending: dict[str, types.Job]) -> Iterator[str]:
    for job_id in sorted((plan.placements.keys() | plan.waiting.keys()) - pending.keys()):
        yield f"{job_id}: the plan speaks of a job that does not wait in the snapshot"
    for job_id in pending:
        answers = (job_id in plan.placements) + (job_id in plan.waiting)
        if answers != 1:
            yield f"{job_id}: the plan gives {answers} answers, not one"


def _gang(job: types.Job, *, placement: types.Placement, counts: list[int]) -> list[str]:
    found = []
    placed = sum(counts)
    if job.allowed_num_pods and placed not in job.allowed_num_pods:
        allowed = ", ".join(map(str, job.allowed_num_pods))
        found.append(f"{job.id}: {placed} pods are placed where only {allowed} are allowed")
    if not job.allowed_num_pods and placed != job.num_pods:
        found.append(f"{job.id}: {placed} of {job.num_pods} pods are placed")
    if counts and min(counts) < 1:
        found.append(f"{job.id}: a share of less than one pod")
    if len(counts) > 1 and len({share.node for share in placement.shares}) != len(counts):
        found.append(f"{job.id}: a node is named in two shares")
    return found


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


def _wants_product(job: types.Job) -> bool:
    """Whether the job takes accelerators or parts of them, or names products."""
    if job.pod.accelerators or job.products:
        return True
    return any("/mig-" in name or name.endswith(".shared") for name, _ in job.pod.other)


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


def _slices(job: types.Job, *, nodes: list[types.Node], counts: list[int], levels: tuple[str, ...]) -> Iterator[str]:
    asked = job.topology
    if asked is None or asked.slice_size is None or asked.mode is not types.TopologyMode.REQUIRED:
        return
    ranks = [node for node, count in zip(nodes, counts, strict=True) for _ in range(count)]
    for first in range(0, len(ranks), asked.slice_size):
        inside = {_domain(node, level=asked.level, levels=levels) for node in ranks[first : first + asked.slice_size]}
        if None in inside or len(inside) > 1:
            yield f"{job.id}: ranks {first} to {first + asked.slice_size - 1} are not in one {asked.level}"


def _spread(job: types.Job, *, nodes: list[types.Node], counts: list[int], levels: tuple[str, ...]) -> Iterator[str]:
    if job.spread is None:
        return
    pods: dict[tuple[str | None, ...], int] = {}
    for node, placed in zip(nodes, counts, strict=True):
        domain = _domain(node, level=job.spread.level, levels=levels)
        if domain is None:
            yield f"{job.id} on {node.name}: the node is in no {job.spread.level}"
        else:
            pods[domain] = pods.get(domain, 0) + placed
    for domain, count in pods.items():
        if count > job.spread.max_pods:
            where = "/".join(name or "?" for name in domain)
            yield f"{job.id}: {count} pods in {job.spread.level} {where}, where at most {job.spread.max_pods} may be"


def _capacity(added: _Sums, *, touched: set[int], index: dict[str, int], snapshot: types.Snapshot) -> Iterator[str]:
    nodes = snapshot.nodes
    names = {nodes[i].name for i in touched}
    used = _Sums(len(nodes))
    for job in snapshot.jobs:
        if job.placement is not None:
            for share in job.placement.shares:
                if share.node in names:
                    at, counts = _known(job.placement, index=index)
                    used.add(at, counts=counts, pod=job.pod)
                    break
    for i in touched:
        there = nodes[i].available
        if (
            added.accelerators[i] + used.accelerators[i] > there.accelerators
            or added.cpu_milli[i] + used.cpu_milli[i] > there.cpu_milli
            or added.memory_mib[i] + used.memory_mib[i] > there.memory_mib
            or i in added.other
        ):
            yield from _node_capacity(nodes[i], added=added.of(i), used=used.of(i))


def _node_capacity(node: types.Node, *, added: Mapping[str, int], used: Mapping[str, int]) -> Iterator[str]:
    there = dict(node.available.items())
    for resource, amount in added.items():
        free = max(there.get(resource, 0) - used.get(resource, 0), 0)
        if amount > free:
            yield f"{node.name}: {amount} {resource} given where {free} are free"


def _reservations(plan: types.Plan, *, index: dict[str, int], snapshot: types.Snapshot) -> Iterator[str]:
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
        room, taken = _Sums(len(snapshot.nodes)), _Sums(len(snapshot.nodes))
        asks = any(jobs[job_id].make_room > 0 for job_id in owners)
        standing = [(one.placement, jobs[one.job_id]) for one in group]
        standing += [
            (job.placement, job)
            for job in snapshot.jobs
            if job.placement is not None and stands(job, moment=moment, since=snapshot.now_seconds)
        ]
        started = [
            (placement, jobs[job_id])
            for job_id, placement in plan.placements.items()
            if job_id in jobs and job_id not in owners
            # Whoever comes back may have room that is kept for one who has others moved, and so stands elsewhere.
            if not (asks and jobs[job_id].returning)
            if stands(jobs[job_id], moment=moment, since=snapshot.now_seconds)
        ]
        for sums, placed in ((room, standing), (taken, started)):
            for placement, job in placed:
                at, counts = _known(placement, index=index)
                sums.add(at, counts=counts, pod=job.pod)
        asked: dict[str, dict[str, None]] = {}
        for one in group:
            resources = dict.fromkeys(resource for resource, _ in jobs[one.job_id].pod.items())
            for share in one.placement.shares:
                asked.setdefault(share.node, {}).update(resources)
        for name in sorted(asked.keys() & index.keys()):
            i = index[name]
            there, kept_here, taken_here = dict(snapshot.nodes[i].available.items()), room.of(i), taken.of(i)
            for resource in asked[name]:
                amount = taken_here.get(resource, 0)
                left = max(there.get(resource, 0) - kept_here.get(resource, 0), 0)
                if amount > left:
                    yield f"{name}: {amount} {resource} taken where {left} are not kept for {', '.join(sorted(owners))}"
