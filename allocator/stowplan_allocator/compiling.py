"""From a snapshot to a problem.

Everything that two jobs can share is found here once, so that later work grows with the
number of different things and not with the number of jobs or nodes. What must stay true:
the result does not depend on the order of nodes or jobs in the snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace

from stowplan_allocator import eligibility, goodput, limits, namespaces, patterns, quotas, reserving, types
from stowplan_allocator.cells import build_cells, cells_of
from stowplan_allocator.memory import Memory
from stowplan_allocator.namespaces import Namespaces
from stowplan_allocator.problem import NO_LEAF, Problem, Request, Shape, Vector, path_of, queue_key, to_vector
from stowplan_allocator.quotas import Allowance, Quotas


def compile_problem(
    snapshot: types.Snapshot,
    *,
    seed: int = 0,
    order: types.QueueOrder = types.QueueOrder.AGE,
    memory: Memory | None = None,
    spaces: Namespaces | None = None,
) -> Problem:
    """Compile a snapshot. Raises ValueError for one that contradicts itself.

    Of equal nodes the first one is taken everywhere; ``seed`` says which is first: 0 by name.
    ``memory`` saves work and changes nothing. ``spaces`` are the limits of a snapshot of which this one is a part: what
    is kept for reservations has its numbers from there.
    """
    memory = Memory() if memory is None else memory
    _refuse_duplicates(snapshot)
    waiting = sorted(
        (job for job in snapshot.jobs if job.placement is None),
        key=lambda job: (not job.returning, queue_key(job, order=order)),
    )
    shared = quotas.compile_quotas(snapshot)
    spaces = namespaces.compile_limits(snapshot) if spaces is None else spaces
    misconfigured = {}
    barred = {}
    queue = []
    for job in waiting:
        message = eligibility.misconfiguration(job, levels=snapshot.levels)
        message = message or patterns.misconfiguration(job, levels=snapshot.levels)
        message = message or (limits.misconfiguration(job, shared=shared) if shared is not None else "")
        if message:
            misconfigured[job.id] = message
            continue
        refused = None if spaces is None else spaces.refusal(job)
        allowed = refused or (job if shared is None else limits.within(job, shared=shared))
        if isinstance(allowed, types.Waiting):
            barred[job.id] = allowed
        else:
            queue.append(allowed)
    others = sorted({name for job in queue for name, _ in job.pod.other})
    dims = ("accelerators", "cpu_milli", "memory_mib", *(name for name in others if _can_bind(name, snapshot, queue)))
    nodes = memory.nodes(snapshot.nodes, seed=seed)
    balance = memory.balance(snapshot, dims=dims)
    free = tuple(_floor(balance[node.name]) for node in nodes)
    requests, profiles, shapes = _group_jobs(queue, dims=dims, levels=snapshot.levels, shared=shared, spaces=spaces)
    keys = tuple(sorted({key for profile in profiles for key in profile.label_keys()}))
    alike = memory.alike(keys=keys, num_levels=len(snapshot.levels))
    cells = build_cells(nodes, alike=alike, requests=requests, profiles=profiles, num_levels=len(snapshot.levels))
    most = tuple(map(max, zip(*free, strict=True))) if free else (0,) * len(dims)
    largest = most[0]
    sizes = {request.vector[0] for request in requests} | {1 << i for i in range(largest.bit_length())}
    return Problem(
        dims=dims,
        levels=snapshot.levels,
        nodes=nodes,
        paths=tuple(path_of(node, num_levels=len(snapshot.levels)) for node in nodes),
        free=free,
        balance=balance,
        requests=requests,
        profiles=profiles,
        shapes=shapes,
        cells=cells,
        queue=tuple(queue),
        shape_of={job.id: shape for shape in shapes for job in shape.jobs},
        misconfigured=misconfigured,
        largest=most,
        sizes=tuple(sorted((size for size in sizes if 0 < size <= largest), reverse=True)),
        cells_of=cells_of(requests, cells=cells),
        quotas=shared,
        allowance=None if shared is None else allowance_of(snapshot, shared=shared),
        barred=barred,
        namespaces=spaces,
        left={} if spaces is None else spaces.left(),
    )


def allowance_of(snapshot: types.Snapshot, *, shared: Quotas, gone: Collection[str] = ()) -> Allowance:
    """What runs, without those that are gone; for each reservation what will run when it starts, and its own job."""
    left = [job for job in snapshot.jobs if job.id not in gone]
    kept = {}
    for number, limit in enumerate(reserving.limits(snapshot)):
        owners = {one.job_id: one.placement for one in limit.reservations}
        then = [
            replace(job, placement=owners.get(job.id, job.placement))
            for job in left
            if job.id in owners or (job.placement is not None and limit.binds(job, now_seconds=snapshot.now_seconds))
        ]
        kept[number] = [quotas.usage_of(shared, then)]
    return Allowance(shared, [quotas.usage_of(shared, left)], kept=kept)


def _can_bind(name: str, snapshot: types.Snapshot, queue: list[types.Job]) -> bool:
    """Whether a resource could run out: a node's number of pods hardly does where all pods take accelerators."""
    if name != "pods" or not all(job.pod.accelerators for job in queue):
        return True
    per_accelerator = max(dict(job.pod.other).get(name, 0) for job in queue)
    held: dict[str, int] = {}
    for job in snapshot.jobs:
        for share in job.placement.shares if job.placement is not None else ():
            held[share.node] = held.get(share.node, 0) + dict(job.pod.other).get(name, 0) * share.num_pods
    return any(
        dict(node.available.other).get(name, 0) - held.get(node.name, 0)
        < max(node.available.accelerators, node.allocatable.accelerators) * per_accelerator
        for node in snapshot.nodes
    )


def _floor(vector: Vector) -> Vector:
    return vector if min(vector) >= 0 else tuple(max(amount, 0) for amount in vector)


def _refuse_duplicates(snapshot: types.Snapshot) -> None:
    for what, names in (
        ("node name", [node.name for node in snapshot.nodes]),
        ("job id", [job.id for job in snapshot.jobs]),
    ):
        seen: set[str] = set()
        if len(set(names)) == len(names):
            continue
        for name in names:
            if name in seen:
                raise ValueError(f'snapshot has {what} "{name}" twice; every {what} must be unique')
            seen.add(name)


def _group_jobs(
    queue: list[types.Job],
    *,
    dims: tuple[str, ...],
    levels: tuple[str, ...],
    shared: Quotas | None,
    spaces: Namespaces | None,
) -> tuple[tuple[Request, ...], tuple[eligibility.Profile, ...], tuple[Shape, ...]]:
    requests: dict[tuple[object, ...], Request] = {}
    firsts: dict[tuple[object, ...], int] = {}
    profiles: dict[eligibility.Profile, int] = {}
    members: dict[tuple[int, int, str], list[types.Job]] = defaultdict(list)
    for job in queue:
        profile = profiles.setdefault(eligibility.Profile.of(job), len(profiles))
        level, required = _level_of(job, levels=levels)
        vector = to_vector(job.pod, dims=dims)
        num_pods, sizes, preferred = _sizes_of(job)
        slice_size = patterns.slice_size_of(job, level=level)
        spread = patterns.spread_of(job, levels=levels)
        asked = (num_pods, vector, job.products, level, required, profile, job.avoided_nodes)
        leaf = NO_LEAF if shared is None else shared.leaf(job)
        worths = goodput.worths(job, sizes=sizes)
        alike = (*asked, sizes, preferred, slice_size, spread, worths)
        bound = reserving.binding(name for name, _ in job.pod.other)
        charges = () if spaces is None else spaces.charges(job)
        key = (*alike, leaf, charges)
        request = requests.get(key)
        if request is None:
            first = firsts.setdefault(alike, len(requests))
            patterned = (sizes, preferred, slice_size, spread, job.pod.has_devices)
            request = Request(len(requests), *asked, *patterned, leaf, first, bound, worths, charges)
            requests[key] = request
        members[request.index, job.priority, job.id if request.patterned else ""].append(job)
    ordered = tuple(requests.values())
    shapes = tuple(
        Shape(i, ordered[request], priority, tuple(jobs))
        for i, ((request, priority, _), jobs) in enumerate(members.items())
    )
    return ordered, tuple(profiles), shapes


def _sizes_of(job: types.Job) -> tuple[int, tuple[int, ...], int]:
    """The size of admission, all useful sizes and the preferred one of them; a job of one size is not elastic."""
    if not job.allowed_num_pods or job.allowed_num_pods == (job.num_pods,):
        return job.num_pods, (), 0
    sizes = goodput.useful(job)
    if len(sizes) == 1:
        return sizes[0], (), 0
    return sizes[0], sizes, max(size for size in sizes if size <= job.num_pods)


def _level_of(job: types.Job, *, levels: tuple[str, ...]) -> tuple[int | None, bool]:
    """The level's index and whether it must hold; a single pod is in one domain of anything that it stands in."""
    if job.topology is None:
        return None, False
    required = job.topology.mode is types.TopologyMode.REQUIRED
    if job.topology.level == eligibility.NODE_LEVEL:
        level = len(levels)
    else:
        level = levels.index(job.topology.level)
    together = job.topology.slice_size or max((job.num_pods, *job.allowed_num_pods))
    if together == 1 and (not required or level == len(levels)):
        return None, False
    return level, required
