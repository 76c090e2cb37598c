"""A snapshot compiled for planning: integer vectors, requests, shapes and cells.

Everything that two jobs can share is found here once, so that later work grows with the
number of different things and not with the number of jobs or nodes. What must stay true:
the result does not depend on the order of nodes or jobs in the snapshot, and nothing here
decides anything.

Words used in all modules of this package:

vector   amounts as a tuple of integers over ``Problem.dims``; the first is accelerators.
request  what a job asks for, without its name, age and priority; equal jobs share one.
shape    a request at one priority, with its waiting jobs in queue order.
cell     the usable nodes of one product and price in one leaf topology domain that are
         eligible for the same requests; they differ by what is free, and only by that.
path     a node's domain at each level, widest first; None where it lacks the label.
         A domain is named by its path down to its level, so equal rack names in two
         zones stay two racks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace

from stowplan_allocator import eligibility, types

Vector = tuple[int, ...]
Path = tuple[str | None, ...]

# More pods than any cluster holds: the slots of a pod that asks for nothing.
UNLIMITED_SLOTS = 1 << 30


@dataclass(frozen=True, slots=True)
class Request:
    """What equal jobs ask for. ``level`` indexes ``Problem.levels``; ``len(levels)`` means the node itself."""

    index: int
    num_pods: int
    vector: Vector
    products: tuple[types.ProductChoice, ...]
    level: int | None
    required: bool
    profile: int
    avoided: frozenset[str]

    @property
    def any_product(self) -> bool:
        """Whether pods of one job may mix products: they take no accelerator and name no product."""
        return not self.products and self.vector[0] == 0


@dataclass(frozen=True, slots=True)
class Shape:
    """Equal jobs of one priority, oldest first."""

    index: int
    request: Request
    priority: int
    jobs: tuple[types.Job, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """Interchangeable nodes, as indexes into ``Problem.nodes``; ``requests`` are the indexes of those eligible.

    ``pool`` is the larger cell that this one is a part of, in a coarsened problem only.
    """

    index: int
    product: str
    path: Path
    nodes: tuple[int, ...]
    requests: frozenset[int]
    has_accelerators: bool
    price_per_hour_micros: int
    pool: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """All that planning looks at. ``queue`` holds every plannable waiting job, first served first."""

    dims: tuple[str, ...]
    levels: tuple[str, ...]
    nodes: tuple[types.Node, ...]
    paths: tuple[Path, ...]
    free: tuple[Vector, ...]
    requests: tuple[Request, ...]
    profiles: tuple[eligibility.Profile, ...]
    shapes: tuple[Shape, ...]
    cells: tuple[Cell, ...]
    queue: tuple[types.Job, ...]
    shape_of: dict[str, Shape]
    misconfigured: dict[str, str]
    sizes: tuple[int, ...]
    largest: Vector
    cells_of: tuple[tuple[int, ...], ...]

    def vector(self, amounts: types.Resources) -> Vector:
        """The amounts over ``dims``."""
        return to_vector(amounts, dims=self.dims)


def path_of(node: types.Node, *, num_levels: int) -> Path:
    """The node's domain at each of the snapshot's levels; a short ``topology`` means missing labels."""
    return (node.topology + (None,) * num_levels)[:num_levels]


def to_vector(amounts: types.Resources, *, dims: tuple[str, ...]) -> Vector:
    """The amounts over ``dims``; what no waiting job asks for is left out."""
    head = (amounts.accelerators, amounts.cpu_milli, amounts.memory_mib)
    if len(dims) == 3:
        return head
    other = dict(amounts.other)
    return head + tuple(other.get(name, 0) for name in dims[3:])


def slots(room: Vector, pod: Vector) -> int:
    """How many such pods the room holds."""
    count = UNLIMITED_SLOTS
    for have, need in zip(room, pod, strict=True):
        if need:
            if have < need:
                return 0
            count = min(count, have // need)
    return count


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which worker2 comes before worker10."""
    parts = re.findall(r"\d+|\D+", name)
    return (*((0, int(part), "") if part[0].isdecimal() else (1, 0, part) for part in parts), (2, 0, name))


def queue_key(job: types.Job) -> tuple[int, int, str]:
    """The order in which jobs are served: priority, then age, then id."""
    return (-job.priority, job.created_at_seconds, job.id)


def free_amounts(snapshot: types.Snapshot) -> dict[str, types.Resources]:
    """What is free on each node once every running job has what it holds; may be negative."""
    free = {node.name: node.available for node in snapshot.nodes}
    for job in snapshot.jobs:
        if job.placement is not None:
            for share in job.placement.shares:
                if share.node in free:
                    free[share.node] = free[share.node] - job.pod * share.num_pods
    return free


def compile_problem(snapshot: types.Snapshot) -> Problem:
    """Compile a snapshot. Raises ValueError for one that contradicts itself."""
    _refuse_duplicates(snapshot)
    waiting = sorted((job for job in snapshot.jobs if job.placement is None), key=queue_key)
    misconfigured = {}
    queue = []
    for job in waiting:
        message = eligibility.misconfiguration(job, levels=snapshot.levels)
        if message:
            misconfigured[job.id] = message
        else:
            queue.append(job)
    dims = (
        "accelerators",
        "cpu_milli",
        "memory_mib",
        *sorted({name for job in queue for name, _ in job.pod.other}),
    )
    nodes = tuple(sorted((node for node in snapshot.nodes if not node.blocked), key=lambda node: natural(node.name)))
    amounts = free_amounts(snapshot)
    free = tuple(tuple(max(amount, 0) for amount in to_vector(amounts[node.name], dims=dims)) for node in nodes)
    requests, profiles, shapes = _group_jobs(queue, dims=dims, levels=snapshot.levels)
    cells = _build_cells(nodes, requests=requests, profiles=profiles, num_levels=len(snapshot.levels))
    most = tuple(max((vector[d] for vector in free), default=0) for d in range(len(dims)))
    largest = most[0]
    sizes = {request.vector[0] for request in requests} | {1 << i for i in range(largest.bit_length())}
    return Problem(
        dims=dims,
        levels=snapshot.levels,
        nodes=nodes,
        paths=tuple(path_of(node, num_levels=len(snapshot.levels)) for node in nodes),
        free=free,
        requests=requests,
        profiles=profiles,
        shapes=shapes,
        cells=cells,
        queue=tuple(queue),
        shape_of={job.id: shape for shape in shapes for job in shape.jobs},
        misconfigured=misconfigured,
        largest=most,
        sizes=tuple(sorted((size for size in sizes if 0 < size <= largest), reverse=True)),
        cells_of=_cells_of(requests, cells=cells),
    )


def split_cells(problem: Problem, *, cells: dict[int, list[tuple[int, ...]]]) -> Problem:
    """The same problem with some cells cut into parts (lists of nodes): finer, and otherwise equal."""
    parts: list[Cell] = []
    for cell in problem.cells:
        for nodes in cells.get(cell.index, [cell.nodes]):
            parts.append(replace(cell, index=len(parts), nodes=nodes))
    return replace(problem, cells=tuple(parts), cells_of=_cells_of(problem.requests, cells=tuple(parts)))


def coarsen(problem: Problem) -> Problem:
    """The same problem with topology left aside where it is only a wish: large pools of cells, and few of them.

    Cells of equal eligibility form a pool. Jobs that require a level keep their cells, which
    take from their pool; all others see pools only. Whatever can be placed in the problem can
    be placed here, so what is impossible here is impossible there, and this tells at once.
    """
    node_level = len(problem.levels)
    keeps = {request.index for request in problem.requests if request.required and request.level != node_level}
    requests = tuple(
        request if request.required else replace(request, level=None, required=False) for request in problem.requests
    )
    merged: dict[tuple[str, frozenset[int], bool, int], list[Cell]] = defaultdict(list)
    for cell in problem.cells:
        merged[cell.product, cell.requests, cell.has_accelerators, cell.price_per_hour_micros].append(cell)
    cells: list[Cell] = []
    for members in merged.values():
        pool = len(cells)
        nodes = tuple(sorted(node for cell in members for node in cell.nodes))
        cells.append(
            replace(
                members[0], index=pool, path=(None,) * node_level, nodes=nodes, requests=members[0].requests - keeps
            )
        )
        if members[0].requests & keeps:
            for cell in members:
                cells.append(replace(cell, index=len(cells), requests=cell.requests & keeps, pool=pool))
    shapes = tuple(replace(shape, request=requests[shape.request.index]) for shape in problem.shapes)
    return replace(
        problem,
        requests=requests,
        shapes=shapes,
        cells=tuple(cells),
        shape_of={job.id: shape for shape in shapes for job in shape.jobs},
        cells_of=_cells_of(requests, cells=tuple(cells)),
    )


def _cells_of(requests: tuple[Request, ...], *, cells: tuple[Cell, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(cell.index for cell in cells if request.index in cell.requests) for request in requests)


def _refuse_duplicates(snapshot: types.Snapshot) -> None:
    for what, names in (
        ("node name", [node.name for node in snapshot.nodes]),
        ("job id", [job.id for job in snapshot.jobs]),
    ):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ValueError(f'snapshot has {what} "{name}" twice; every {what} must be unique')
            seen.add(name)


def _group_jobs(
    queue: list[types.Job], *, dims: tuple[str, ...], levels: tuple[str, ...]
) -> tuple[tuple[Request, ...], tuple[eligibility.Profile, ...], tuple[Shape, ...]]:
    requests: dict[tuple[object, ...], Request] = {}
    profiles: dict[eligibility.Profile, int] = {}
    members: dict[tuple[int, int], list[types.Job]] = defaultdict(list)
    for job in queue:
        profile = profiles.setdefault(eligibility.Profile.of(job), len(profiles))
        level, required = _level_of(job, levels=levels)
        vector = to_vector(job.pod, dims=dims)
        key = (job.num_pods, vector, job.products, level, required, profile, job.avoided_nodes)
        request = requests.get(key)
        if request is None:
            request = Request(
                len(requests), job.num_pods, vector, job.products, level, required, profile, job.avoided_nodes
            )
            requests[key] = request
        members[request.index, job.priority].append(job)
    ordered = tuple(requests.values())
    shapes = tuple(
        Shape(i, ordered[request], priority, tuple(jobs))
        for i, ((request, priority), jobs) in enumerate(members.items())
    )
    return ordered, tuple(profiles), shapes


def _level_of(job: types.Job, *, levels: tuple[str, ...]) -> tuple[int | None, bool]:
    """The level's index and whether it must hold; a single pod is in one domain of anything that it stands in."""
    if job.topology is None:
        return None, False
    required = job.topology.mode is types.TopologyMode.REQUIRED
    if job.topology.level == eligibility.NODE_LEVEL:
        level = len(levels)
    else:
        level = levels.index(job.topology.level)
    if job.num_pods == 1 and (not required or level == len(levels)):
        return None, False
    return level, required


def usable(request: Request, *, product: str, path: Path, has_accelerators: bool) -> bool:
    """Whether a node of this product at this path can serve the request, labels and taints aside."""
    if request.products:
        if all(choice.product != product for choice in request.products):
            return False
    elif request.vector[0] and not has_accelerators:
        return False
    if request.required and request.level is not None and request.level < len(path):
        return path[request.level] is not None
    return True


def _build_cells(
    nodes: tuple[types.Node, ...],
    *,
    requests: tuple[Request, ...],
    profiles: tuple[eligibility.Profile, ...],
    num_levels: int,
) -> tuple[Cell, ...]:
    admission = eligibility.Admission(profiles)
    by_profile = [0] * len(profiles)
    avoiders: dict[str, int] = defaultdict(int)
    for request in requests:
        by_profile[request.profile] |= 1 << request.index
        for name in request.avoided:
            avoiders[name] |= 1 << request.index
    expanded: dict[int, int] = {}
    groups: dict[tuple[str, Path, int, bool, int], list[int]] = defaultdict(list)
    for i, node in enumerate(nodes):
        mask = admission.mask(node)
        if mask not in expanded:
            expanded[mask] = sum(bits for p, bits in enumerate(by_profile) if mask >> p & 1)
        path = path_of(node, num_levels=num_levels)
        eligible_mask = expanded[mask] & ~avoiders.get(node.name, 0)
        has_accelerators = node.allocatable.accelerators > 0
        groups[node.product, path, eligible_mask, has_accelerators, node.price_per_hour_micros].append(i)
    cells = []
    ordered = sorted(groups.items(), key=lambda group: group[1][0])
    for index, ((product, path, mask, has_accelerators, price), members) in enumerate(ordered):
        eligible = frozenset(
            request.index
            for request in requests
            if mask >> request.index & 1
            and usable(request, product=product, path=path, has_accelerators=has_accelerators)
        )
        cells.append(Cell(index, product, path, tuple(members), eligible, has_accelerators, price))
    return tuple(cells)
