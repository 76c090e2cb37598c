"""The words of planning as data: integer vectors, requests, shapes, cells, and the problem that holds them.

``compiling`` makes a problem from a snapshot, ``cells`` its cells. What must stay true: a
problem is frozen, holds only what the snapshot says, and nothing here decides anything.

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

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from stowplan_allocator import eligibility, types
from stowplan_allocator.goodput import UNIT
from stowplan_allocator.namespaces import Charges, Namespaces, Spare
from stowplan_allocator.namespaces import Key as LimitKey
from stowplan_allocator.quotas import Allowance, Quotas, Usage

Vector = tuple[int, ...]
Path = tuple[str | None, ...]
# The cells of a request, its products, and whether it may mix products.
OptionKey = tuple[tuple[int, ...], tuple[types.ProductChoice, ...], bool]

NO_LEAF = -1

# More pods than any cluster holds: the slots of a pod that asks for nothing.
UNLIMITED_SLOTS = 1 << 30

# Orders of the queue: how far a job's turn moves back per second that it is expected to take, or has had.
STRETCH = 20
# What a job without an estimate is taken to need.
UNKNOWN_SECONDS = 86_400
# Less than this many accelerator-seconds count as nothing had.
FIRST_LEVEL = 3_600


@dataclass(frozen=True, slots=True)
class Request:
    """What equal jobs ask for. ``level`` indexes ``Problem.levels``; ``len(levels)`` means the node itself.

    ``sizes`` are the allowed numbers of pods of an elastic job, ascending, and empty for all others; ``num_pods`` is
    then the smallest, with which the job is admitted, and ``preferred`` the one that it would like to have. With a
    ``slice_size`` the level is one of slices and not of the whole job. ``spread`` is a level's index and how many pods
    of the job may stand in one of its domains. ``has_devices``: the pods take accelerators, or parts of them.
    ``leaf`` is where a job counts in the tree of queues; without queues there is none. ``first`` is the index of the
    first request that asks for the same in any queue and namespace. ``bound`` are the reservations that its jobs may
    outlast, ``charges`` what a pod takes of the limits of its namespace. ``worths`` are what ``sizes`` get done
    where that is not as many pods (``goodput``).
    """

    index: int
    num_pods: int
    vector: Vector
    products: tuple[types.ProductChoice, ...]
    level: int | None
    required: bool
    profile: int
    avoided: frozenset[str]
    sizes: tuple[int, ...] = ()
    preferred: int = 0
    slice_size: int = 0
    spread: tuple[int, int] | None = None
    has_devices: bool = False
    leaf: int = NO_LEAF
    first: int = 0
    bound: frozenset[int] = frozenset()
    worths: tuple[tuple[int, int], ...] = ()
    charges: Charges = ()

    def goodput(self, product: str, *, num_pods: int) -> int:
        """What a job gets done there: its worth in milli-pods, by the product's relative throughput."""
        throughput = next((one.relative_throughput_milli for one in self.products if one.product == product), UNIT)
        for size, worth in self.worths:
            if size == num_pods:
                return worth * throughput // UNIT
        return num_pods * throughput

    @property
    def gang_level(self) -> int | None:
        """The level of which the whole gang must stand in one domain."""
        return self.level if self.required and not self.slice_size else None

    @property
    def patterned(self) -> bool:
        """Whether slices or spread say more about a gang's domains than its level does."""
        return bool(self.slice_size) or self.spread is not None

    def larger_sizes(self, *, beyond_preferred: bool) -> tuple[int, ...]:
        """The sizes that an elastic job may grow to: up to the preferred one, or to the largest allowed."""
        return tuple(k for k in self.sizes if k > self.num_pods and (beyond_preferred or k <= self.preferred))

    @property
    def any_product(self) -> bool:
        """Whether pods of one job may mix products: they take no accelerator or part of one, and name no product."""
        return not self.products and not self.has_devices


@dataclass(frozen=True, slots=True)
class Shape:
    """Equal jobs of one priority, in queue order."""

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
    """All that planning looks at. ``queue`` holds every plannable waiting job, first served first.

    With ``quotas`` the order of the queue is that of each queue by itself, and ``fairness`` says who is next;
    ``allowance`` is what runs. ``barred`` has jobs that the limits of their queue never let start. ``left`` is what
    running jobs leave of the limits of ``namespaces``.
    """

    dims: tuple[str, ...]
    levels: tuple[str, ...]
    nodes: tuple[types.Node, ...]
    paths: tuple[Path, ...]
    free: tuple[Vector, ...]
    # Of every node by name, blocked ones too; negative where more is used than is there.
    balance: Mapping[str, Vector]
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
    quotas: Quotas | None = None
    allowance: Allowance | None = None
    barred: Mapping[str, types.Waiting] = field(default_factory=dict)
    namespaces: Namespaces | None = None
    left: Mapping[LimitKey, int] = field(default_factory=dict)
    # Remembered by ``twins``; then by ``greedy.cells_by_option``; a copy with other cells starts anew.
    alike: dict[int, list[int]] = field(default_factory=dict, init=False, compare=False, repr=False)
    options: dict[OptionKey, list[tuple[str, list[Cell]]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def twins(self, request: Request) -> tuple[int, ...]:
        """The request and those that ask for the same elsewhere: what has no room for one has none for them."""
        if self.quotas is None and self.namespaces is None:
            return (request.index,)
        known = self.alike
        if not known:
            for other in self.requests:
                known.setdefault(other.first, []).append(other.index)
        return tuple(known[request.first])

    def spare(self) -> Spare | None:
        """What the limits of namespaces leave to the jobs that the plan starts; None without any."""
        return Spare(self.left) if self.namespaces is not None else None

    def count(self, job: types.Job, *, usage: Usage, product: str, num_pods: int) -> None:
        """Let a job use its quota."""
        assert self.quotas is not None, "without queues nobody counts"
        leaf = self.quotas.leaf(job)
        usage.add(leaf, self.quotas.kind(leaf, product), num_pods * job.pod.accelerators, jobs=1)

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


@functools.lru_cache(maxsize=1 << 16)
def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which worker2 comes before worker10."""
    parts = re.findall(r"\d+|\D+", name)
    return (*((0, int(part), "") if part[0].isdecimal() else (1, 0, part) for part in parts), (2, 0, name))


def queue_key(job: types.Job, *, order: types.QueueOrder = types.QueueOrder.AGE) -> tuple[int, int, int, str]:
    """The order in which jobs are served: priority, then their turn in the chosen order, then age and id."""
    return (-job.priority, _turn(job, order=order), job.created_at_seconds, job.id)


def standing_key(job: types.Job, *, order: types.QueueOrder = types.QueueOrder.AGE) -> tuple[int, int, int, str]:
    """Where a running job stands against the ``queue_key`` of one that wants its place.

    In the order of expected time it counts as having half its time left, less what stopping it
    costs: a place changes hands for a clear gain only, whatever the estimates are worth.
    """
    turn = _turn(job, order=order)
    if (job.order or order) is types.QueueOrder.SHORTEST:
        cost = (job.disruption_cost or 0) // max(1, job.num_pods * job.pod.accelerators)
        turn = job.created_at_seconds + STRETCH * max(0, _expected(job) // 2 - cost)
    return (-job.priority, turn, job.created_at_seconds, job.id)


def _turn(job: types.Job, *, order: types.QueueOrder) -> int:
    """A moment in the order of the job's line: creation, and later the longer it is expected to take, or has had.

    So a job is passed only by those that were created within ``STRETCH`` times that time after it.
    """
    order = job.order or order
    if order is types.QueueOrder.SHORTEST:
        return job.created_at_seconds + STRETCH * _expected(job)
    if order is types.QueueOrder.LEAST_ATTAINED:
        return job.created_at_seconds + STRETCH * attained_level(job.attained_accelerator_seconds)
    return job.created_at_seconds


def has_had_more(victim: types.Job, job: types.Job, *, order: types.QueueOrder) -> bool:
    """Whether a running job of equal priority has had so much more that it makes way: a higher level.

    As in Tiresias (NSDI '19). Only in lines that are ordered by that: elsewhere it would come before the other as soon
    as it waits, and take the place back. So two jobs of one size change places at most once for each level that one of
    them reaches; a smaller one that was let in while the other could not start makes way for it again.
    """
    if any((one.order or order) is not types.QueueOrder.LEAST_ATTAINED for one in (victim, job)):
        return False
    if victim.priority != job.priority:
        return False
    had = [attained_level(one.attained_accelerator_seconds) for one in (victim, job)]
    return had[0] > had[1] and standing_key(victim, order=order) > queue_key(job, order=order)


def _expected(job: types.Job) -> int:
    """The time still to come; without an estimate a day, and at least as long again as the job has run."""
    if job.expected_seconds is not None:
        return max(0, job.expected_seconds)
    return max(UNKNOWN_SECONDS, job.attained_accelerator_seconds // max(1, job.num_pods * job.pod.accelerators))


def attained_level(accelerator_seconds: int) -> int:
    """What a job has had, rounded down to 0, 1, 10, 100, … accelerator-hours, so that equals do not take turns."""
    level = FIRST_LEVEL
    if accelerator_seconds < level:
        return 0
    while level * 10 <= accelerator_seconds:
        level *= 10
    return level


def free_vectors(snapshot: types.Snapshot, *, dims: tuple[str, ...]) -> dict[str, Vector]:
    """What is free on each node once every running job has what it holds; may be negative."""
    free = {node.name: to_vector(node.available, dims=dims) for node in snapshot.nodes}
    changed: dict[str, list[int]] = {}
    for job in snapshot.jobs:
        if job.placement is not None:
            held = [(d, amount) for d, amount in enumerate(to_vector(job.pod, dims=dims)) if amount]
            for share in job.placement.shares:
                left = changed.get(share.node)
                if left is None:
                    if share.node not in free:
                        continue
                    left = changed[share.node] = list(free[share.node])
                for d, amount in held:
                    left[d] -= amount * share.num_pods
    for name, left in changed.items():
        free[name] = tuple(left)
    return free
