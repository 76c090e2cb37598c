"""The frozen data that goes into a plan and comes out of it.

A ``Snapshot`` is everything the decision may look at: no clock, no network, no
randomness. Callers (the operator, ``explain``, benchmarks) build one and call
``plan``. All quantities are integers in the unit that the field's name says, so
that equal snapshots compare and hash equal and no rounding can differ.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Resources:
    """Amounts of what pods take from nodes.

    ``accelerators`` counts whole devices of the cluster's accelerator resource
    (``nvidia.com/gpu``); ``other`` holds every further extended resource by name,
    sorted, without zeros.
    """

    accelerators: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    other: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Bring ``other`` into its one normal form."""
        normal = tuple(sorted((name, amount) for name, amount in self.other if amount))
        object.__setattr__(self, "other", normal)

    def __add__(self, more: Resources) -> Resources:
        return self._combine(more, 1)

    def __sub__(self, less: Resources) -> Resources:
        """Differences may be negative: a node can lose a device under a running pod."""
        return self._combine(less, -1)

    def __mul__(self, count: int) -> Resources:
        return Resources(
            accelerators=self.accelerators * count,
            cpu_milli=self.cpu_milli * count,
            memory_mib=self.memory_mib * count,
            other=tuple((name, amount * count) for name, amount in self.other),
        )

    def _combine(self, that: Resources, sign: int) -> Resources:
        other = self.other
        if that.other:
            merged = dict(self.other)
            for name, amount in that.other:
                merged[name] = merged.get(name, 0) + sign * amount
            other = tuple(merged.items())
        return Resources(
            accelerators=self.accelerators + sign * that.accelerators,
            cpu_milli=self.cpu_milli + sign * that.cpu_milli,
            memory_mib=self.memory_mib + sign * that.memory_mib,
            other=other,
        )

    def fits_in(self, room: Resources) -> bool:
        """Whether every amount is at most the one in ``room``."""
        if (
            self.accelerators > room.accelerators
            or self.cpu_milli > room.cpu_milli
            or self.memory_mib > room.memory_mib
        ):
            return False
        if not self.other:
            return True
        there = dict(room.other)
        return all(amount <= there.get(name, 0) for name, amount in self.other)

    def items(self) -> tuple[tuple[str, int], ...]:
        """All non-zero amounts by name: ``accelerators``, ``cpu_milli``, ``memory_mib``, then the others."""
        own = (
            ("accelerators", self.accelerators),
            ("cpu_milli", self.cpu_milli),
            ("memory_mib", self.memory_mib),
        )
        return tuple((name, amount) for name, amount in own if amount) + self.other


class TaintEffect(enum.Enum):
    """Effects of a node's taint that keep a new pod away."""

    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


@dataclass(frozen=True, slots=True)
class Taint:
    """A node's taint, as in core/v1."""

    key: str
    effect: TaintEffect
    value: str = ""


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod's toleration, as in core/v1: empty key with ``Exists`` tolerates all, ``effect`` None every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: TaintEffect | None = None

    def tolerates(self, taint: Taint) -> bool:
        """Whether this toleration matches the taint (core/v1 semantics)."""
        if self.effect is not None and self.effect is not taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return bool(self.key) and self.value == taint.value


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the allocator sees it.

    ``available`` is what Stowplan may give to jobs: allocatable, less unhealthy
    devices, less the requests of every pod that is not part of the current
    placement of a running job in the snapshot. ``topology`` names the node's
    domain at each level of ``Snapshot.levels``, widest first, and is None where the
    node lacks the label. ``blocked`` says in words why no new pod may go here
    (``cordoned``, ``NotReady``, ``XID 79 on GPU 3``); empty when it may.
    """

    name: str
    product: str
    available: Resources
    allocatable: Resources
    topology: tuple[str | None, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    taints: tuple[Taint, ...] = ()
    blocked: str = ""
    unhealthy_accelerators: int = 0
    price_per_hour_micros: int = 0


class TopologyMode(enum.Enum):
    """Whether a job's topology level must hold or is only wished for."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"


@dataclass(frozen=True, slots=True)
class TopologyRequest:
    """Keep all pods of the job in one domain of ``level`` (``node`` is the last, implicit level)."""

    level: str
    mode: TopologyMode = TopologyMode.PREFERRED


@dataclass(frozen=True, slots=True)
class ProductChoice:
    """An acceptable accelerator product; throughput is relative to the job's best product, in thousandths."""

    product: str
    relative_throughput_milli: int = 1000


@dataclass(frozen=True, slots=True)
class NodeShare:
    """So many of a job's pods on one node."""

    node: str
    num_pods: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where every pod of one job goes.

    ``shares`` lists nodes in rank order: the first share holds ranks 0 to
    ``num_pods - 1``, and so on; neighbours share topology domains.
    """

    product: str
    shares: tuple[NodeShare, ...]

    @property
    def num_pods(self) -> int:
        """Pods in all."""
        return sum(share.num_pods for share in self.shares)


@dataclass(frozen=True, slots=True)
class Job:
    """One gang: ``num_pods`` equal pods that start together or not at all.

    A job with a ``placement`` is running: it keeps its place, and its requests are
    subtracted from the nodes named there. ``products`` empty means that any product
    will do, still one for the whole job. ``created_at_seconds`` (Unix time) and then
    ``id`` order jobs of equal priority.
    """

    id: str
    name: str
    num_pods: int
    pod: Resources
    priority: int = 0
    created_at_seconds: int = 0
    products: tuple[ProductChoice, ...] = ()
    topology: TopologyRequest | None = None
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    avoided_nodes: frozenset[str] = frozenset()
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a plan may depend on. ``levels`` names the topology levels, widest first, without ``node``."""

    nodes: tuple[Node, ...]
    jobs: tuple[Job, ...]
    levels: tuple[str, ...] = ()
    now_seconds: int = 0


class Reason(enum.StrEnum):
    """Why a job waits: the fixed list that status, Events and metrics use."""

    MISCONFIGURED = "Misconfigured"
    EXCEEDS_CLUSTER_CAPACITY = "ExceedsClusterCapacity"
    NO_MATCHING_ACCELERATOR = "NoMatchingAccelerator"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"
    FRAGMENTED = "Fragmented"
    TOPOLOGY_UNSATISFIED = "TopologyUnsatisfied"
    NODES_UNHEALTHY = "NodesUnhealthy"
    QUEUED_BEHIND = "QueuedBehind"
    SUSPENDED = "Suspended"
    SOLVER_TIME_LIMIT = "SolverTimeLimit"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why one job got no place, in words and in numbers (name → value, ready to print)."""

    reason: Reason
    message: str
    numbers: tuple[tuple[str, str], ...] = ()
    blockers: tuple[str, ...] = ()


class SolveStatus(enum.StrEnum):
    """How the solve ended. Only ``OPTIMAL`` is a proof; the gap bounds the loss of ``FEASIBLE``."""

    OPTIMAL = "Optimal"
    FEASIBLE = "Feasible"
    GREEDY = "Greedy"
    NOTHING_TO_DO = "NothingToDo"


@dataclass(frozen=True, slots=True)
class TierResult:
    """One tier of the objective: its value, the proven bound, and whether it was solved to its tolerance."""

    name: str
    value: float
    bound: float
    gap: float
    status: SolveStatus


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is proven about a plan: the first tier's value, its bound and gap; seconds are of wall time.

    ``seconds`` is the only part that may differ between two plans of one snapshot.
    """

    status: SolveStatus
    strategy: str
    value: float = 0.0
    bound: float = 0.0
    gap: float = 0.0
    seconds: float = field(default=0.0, compare=False)
    tiers: tuple[TierResult, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision for every job that had no placement, keyed by job id, and its certificate.

    ``placements`` and ``waiting`` are disjoint and together cover all such jobs.
    """

    placements: Mapping[str, Placement]
    waiting: Mapping[str, Waiting]
    certificate: Certificate


class Strategy(enum.StrEnum):
    """Ways to plan behind one interface."""

    EXACT = "exact"
    GREEDY = "greedy"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an administrator chooses about planning.

    ``time_limit_seconds`` bounds all tiers together; ``gap_tolerance`` is the relative
    gap at which a tier counts as solved. ``late_tiers_seconds`` bounds, within the limit, what
    decides only where jobs stand and not which of them start: the goodput of each priority,
    and topology, whole slots and price together. These are worth a little waiting, not the
    whole limit in every cycle.
    """

    strategy: Strategy = Strategy.EXACT
    solver: str = "HiGHS"
    time_limit_seconds: float = 10.0
    gap_tolerance: float = 1e-4
    late_tiers_seconds: float = 2.0
