"""All ways of placing a tiny snapshot, to compare a plan with: slow, obvious, and sharing no code with the planner."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import stowplan_allocator as sa

Assignment = dict[str, sa.Placement]


def queue(snapshot: sa.Snapshot) -> list[sa.Job]:
    return sorted(
        (job for job in snapshot.jobs if job.placement is None),
        key=lambda job: (-job.priority, job.created_at_seconds, job.id),
    )


def free_of(snapshot: sa.Snapshot) -> dict[str, sa.Resources]:
    free = {node.name: node.available for node in snapshot.nodes}
    for job in snapshot.jobs:
        for share in job.placement.shares if job.placement else ():
            free[share.node] = free[share.node] - job.pod * share.num_pods
    return free


def eligible(job: sa.Job, node: sa.Node, snapshot: sa.Snapshot) -> bool:
    if node.blocked or node.name in job.avoided_nodes:
        return False
    if any(node.labels.get(key) != value for key, value in job.node_selector):
        return False
    if job.node_affinity and not any(_term_holds(term, node.labels) for term in job.node_affinity):
        return False
    if job.capacity_type is not sa.CapacityType.ANY and node.spot != (job.capacity_type is sa.CapacityType.SPOT):
        return False
    if any(not any(t.tolerates(taint) for t in job.tolerations) for taint in node.taints):
        return False
    if job.products and node.product not in {choice.product for choice in job.products}:
        return False
    if job.spread and domain_of(node, job.spread.level, snapshot) is None:
        return False
    if job.topology and job.topology.mode is sa.TopologyMode.REQUIRED and job.topology.level != "node":
        return node.topology[snapshot.levels.index(job.topology.level)] is not None
    return True


def domain_of(node: sa.Node, level: str, snapshot: sa.Snapshot) -> tuple[str | None, ...] | None:
    if level == "node":
        return (node.name,)
    depth = snapshot.levels.index(level)
    return None if node.topology[depth] is None else node.topology[: depth + 1]


def _is_arranged(job: sa.Job, used: list[sa.Node], snapshot: sa.Snapshot) -> bool:
    """Whether the pods' nodes keep a required level, slices and spread: counted by domain, ranks in any order."""
    if job.spread:
        counts = collections.Counter(domain_of(node, job.spread.level, snapshot) for node in used)
        if max(counts.values()) > job.spread.max_pods:
            return False
    if job.topology and job.topology.mode is sa.TopologyMode.REQUIRED:
        counts = collections.Counter(domain_of(node, job.topology.level, snapshot) for node in used)
        size = job.topology.slice_size or len(used)
        return all(count % size == 0 for count in counts.values())
    return True


def _term_holds(term: sa.AffinityTerm, labels: Mapping[str, str]) -> bool:
    """The expressions that the random worlds draw, which have no wrong values."""
    tests = {
        "In": lambda one: labels.get(one.key) in one.values,
        "NotIn": lambda one: labels.get(one.key) not in one.values,
        "Exists": lambda one: one.key in labels,
        "DoesNotExist": lambda one: one.key not in labels,
        "Gt": lambda one: one.key in labels and int(labels[one.key]) > int(one.values[0]),
        "Lt": lambda one: one.key in labels and int(labels[one.key]) < int(one.values[0]),
    }
    return term != () and all(tests[one.operator.value](one) for one in term)


def ways(job: sa.Job, snapshot: sa.Snapshot) -> list[sa.Placement]:
    """Every placement of one job on the empty cluster, room aside."""
    nodes = [node for node in snapshot.nodes if eligible(job, node, snapshot)]
    free = free_of(snapshot)
    found = []
    sizes = job.allowed_num_pods or (job.num_pods,)
    for combination in itertools.chain.from_iterable(
        itertools.combinations_with_replacement(range(len(nodes)), size) for size in sizes
    ):
        used = [nodes[i] for i in combination]
        if (job.products or job.pod.accelerators) and len({node.product for node in used}) > 1:
            continue
        if not _is_arranged(job, used, snapshot):
            continue
        counts = {node.name: sum(n.name == node.name for n in used) for node in used}
        if all((job.pod * count).fits_in(free[name]) for name, count in counts.items()):
            product = used[0].product if job.products or job.pod.accelerators else ""
            shares = tuple(sa.NodeShare(name, count) for name, count in counts.items())
            found.append(sa.Placement(product, shares))
    return found


def assignments(snapshot: sa.Snapshot) -> Iterator[Assignment]:
    """Every feasible set of placements."""
    jobs = queue(snapshot)
    options = {job.id: ways(job, snapshot) for job in jobs}

    def descend(index: int, free: dict[str, sa.Resources], chosen: Assignment) -> Iterator[Assignment]:
        if index == len(jobs):
            if keeps_reservations(snapshot, chosen) and keeps_limits(snapshot, chosen):
                yield dict(chosen)
            return
        job = jobs[index]
        for placement in options[job.id]:
            if all((job.pod * share.num_pods).fits_in(free[share.node]) for share in placement.shares):
                less = dict(free)
                for share in placement.shares:
                    less[share.node] = less[share.node] - job.pod * share.num_pods
                yield from descend(index + 1, less, {**chosen, job.id: placement})
        yield from descend(index + 1, free, chosen)

    yield from descend(0, free_of(snapshot), {})


def keeps_reservations(snapshot: sa.Snapshot, placed: Assignment) -> bool:
    """Whether everything kept for waiting jobs is still there when they start: each alone, then all of a moment."""
    jobs = {job.id: job for job in snapshot.jobs}
    stay = {job.id: job.placement for job in snapshot.jobs if job.placement} | placed

    def gone_by(job: sa.Job, since: int, moment: int) -> bool:
        return job.expected_seconds is not None and since + job.expected_seconds <= moment

    kept = [one for one in snapshot.reservations if jobs[one.job_id].placement is None]
    cases = [(one.starts_at_seconds, [one]) for one in kept]
    for start in {one.starts_at_seconds for one in kept}:
        held = [one for one in kept if one.starts_at_seconds <= start]
        held = [one for one in held if not gone_by(jobs[one.job_id], one.starts_at_seconds, start)]
        cases.append((start, held))
    for moment, held in cases:
        owners = {one.job_id for one in held}
        for node in snapshot.nodes:
            room = node.available
            for one in held:
                room = room - jobs[one.job_id].pod * _pods_on(one.placement, node)
            for job in snapshot.jobs:
                if job.placement and not gone_by(job, snapshot.now_seconds, moment):
                    room = room - job.pod * _pods_on(job.placement, node)
            names = {name for one in held if _pods_on(one.placement, node) for name, _ in jobs[one.job_id].pod.items()}
            for name in names:
                left = max(dict(room.items()).get(name, 0), 0)
                used = sum(
                    dict(jobs[job_id].pod.items()).get(name, 0) * _pods_on(placement, node)
                    for job_id, placement in stay.items()
                    if job_id in placed and job_id not in owners
                    if not gone_by(jobs[job_id], snapshot.now_seconds, moment)
                )
                if used > left:
                    return False
    return True


def keeps_limits(snapshot: sa.Snapshot, placed: Assignment) -> bool:
    """Whether no ResourceQuota gets more than it allows, now and when a reserved job of its namespace starts."""

    def within(limit: sa.NamespaceLimit, stands: list[tuple[sa.Job, sa.Placement]], new: set[str]) -> bool:
        taken = {
            job.id: where.num_pods * (dict(job.pod.items()).get(limit.counts, 0) or limit.default)
            for job, where in stands
            if job.name.split("/")[0] == limit.namespace
        }
        grows = any(amount for name, amount in taken.items() if name in new)
        return not grows or sum(taken.values()) <= limit.hard - limit.used_by_others

    now = [(job, job.placement or placed[job.id]) for job in snapshot.jobs if job.placement or job.id in placed]
    for limit in snapshot.namespace_limits:
        if not within(limit, now, set(placed)):
            return False
        for one in snapshot.reservations:
            then = [
                (job, where)
                for job, where in now
                if job.id != one.job_id
                if job.expected_seconds is None or snapshot.now_seconds + job.expected_seconds > one.starts_at_seconds
            ]
            [owner] = [job for job in snapshot.jobs if job.id == one.job_id]
            if not within(limit, [*then, (owner, one.placement)], {job.id for job, _ in then} & placed.keys()):
                return False
    return True


def _pods_on(placement: sa.Placement, node: sa.Node) -> int:
    return sum(share.num_pods for share in placement.shares if share.node == node.name)


def _goodput(job: sa.Job, placement: sa.Placement) -> int:
    [throughput] = [c.relative_throughput_milli for c in job.products if c.product == placement.product] or [1000]
    pods = dict(job.goodput_milli).get(placement.num_pods)
    worth = placement.num_pods * 1000 if pods is None else pods * job.num_pods
    return max(job.pod.accelerators, 1) * (worth * throughput // 1000)


def rank(snapshot: sa.Snapshot, placed: Assignment) -> tuple[float, ...]:
    """What the tiers up to topology make of an assignment; greater is better, compared from left to right."""
    jobs = queue(snapshot)
    nodes = {node.name: node for node in snapshot.nodes}
    value: list[float] = []
    for priority in sorted({job.priority for job in jobs}, reverse=True):
        members = [job for job in jobs if job.priority == priority]
        value += [job.id in placed for job in members]
        value.append(sum(_goodput(job, placed[job.id]) for job in members if job.id in placed))
    preferred = other = 0
    for job in jobs:
        if job.id not in placed or job.num_pods == 1:
            continue
        wish = job.topology.level if job.topology else None
        required = job.topology is not None and job.topology.mode is sa.TopologyMode.REQUIRED
        if wish == "node" and not required:
            preferred -= min(len(placed[job.id].shares), 2)
        for level, name in enumerate(snapshot.levels):
            domains = {
                nodes[share.node].topology[: level + 1]
                for share in placed[job.id].shares
                if nodes[share.node].topology[level] is not None
            }
            lost = sum(share.num_pods for share in placed[job.id].shares if nodes[share.node].topology[level] is None)
            if name == wish and not required:
                preferred -= len(domains) + lost
            else:
                other -= len(domains) + lost
    return (*value, preferred, other)


def best_rank(snapshot: sa.Snapshot) -> tuple[float, ...]:
    return max(rank(snapshot, placed) for placed in assignments(snapshot))


def cheapest_victims(snapshot: sa.Snapshot, job: sa.Job, may_leave: list[sa.Job]) -> tuple[int, int] | None:
    """The least lost work, and then the fewest victims, after which the job fits beside what runs; None if never."""
    found = []
    for number in range(len(may_leave) + 1):
        for gone in itertools.combinations(may_leave, number):
            names = {victim.id for victim in gone}
            left = tuple(other for other in snapshot.jobs if other.id not in names)
            rest = dataclasses.replace(snapshot, jobs=left)
            if any(keeps_limits(rest, {job.id: way}) for way in ways(job, rest)):
                found.append((sum(victim.disruption_cost or 0 for victim in gone), number))
    return min(found, default=None)


def all_fit(snapshot: sa.Snapshot) -> bool:
    """Whether all waiting jobs can stand at once."""

    def descend(jobs: list[sa.Job], free: dict[str, sa.Resources]) -> bool:
        if not jobs:
            return True
        for placement in ways(jobs[0], snapshot):
            if all((jobs[0].pod * share.num_pods).fits_in(free[share.node]) for share in placement.shares):
                less = dict(free)
                for share in placement.shares:
                    less[share.node] = less[share.node] - jobs[0].pod * share.num_pods
                if descend(jobs[1:], less):
                    return True
        return False

    return descend(queue(snapshot), free_of(snapshot))
