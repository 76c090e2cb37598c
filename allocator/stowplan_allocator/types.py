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

from stowplan_allocator.imposed import COUNTS_PODS, DisruptionBudget, NamespaceLimit
from stowplan_allocator.labels import AffinityTerm, LabelExpression, LabelOperator, Taint, TaintEffect, Toleration
from stowplan_allocator.places import (
    CapacityType,
    NodeShare,
    Placement,
    ProductChoice,
    Protection,
    Spread,
    TopologyMode,
    TopologyRequest,
)
from stowplan_allocator.queues import Queue, QueuePreemption, Quota
from stowplan_allocator.resources import Resources

__all__ = [
    "ANNOTATION_MAKE_ROOM",
    "COUNTS_PODS",
    "AffinityTerm",
    "CapacityType",
    "Certificate",
    "DisruptionBudget",
    "Eviction",
    "Job",
    "LabelExpression",
    "LabelOperator",
    "Move",
    "NamespaceLimit",
    "Node",
    "NodeShare",
    "Placement",
    "Plan",
    "Preemption",
    "PriorityClass",
    "ProductChoice",
    "Protection",
    "Queue",
    "QueueOrder",
    "QueuePreemption",
    "Quota",
    "Reason",
    "Reservation",
    "Resize",
    "Resources",
    "Settings",
    "Snapshot",
    "SolveStatus",
    "Spread",
    "Strategy",
    "Taint",
    "TaintEffect",
    "TierResult",
    "Toleration",
    "TopologyMode",
    "TopologyRequest",
    "Waiting",
]


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the allocator sees it.

    ``available`` is what Stowplan may give to jobs: allocatable, less unhealthy
    devices, less the requests of every pod that is not part of the current
    placement of a running job in the snapshot. ``topology`` names the node's
    domain at each level of ``Snapshot.levels``, widest first, and is None where the
    node lacks the label. ``blocked`` says in words why no new pod may go here
    (``cordoned``, ``NotReady``, ``XID 79 on GPU 3``); empty when it may. ``spot`` nodes
    may be taken back by their provider at short notice.
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
    spot: bool = False


# By which somebody gives a waiting job its ``make_room``: what tells him to, and what reads it, must say the same.
ANNOTATION_MAKE_ROOM = "stowplan.dev/make-room"


@dataclass(frozen=True, slots=True)
class Job:
    """One gang: ``num_pods`` equal pods that start together or not at all.

    A job with a ``placement`` is running: it keeps its place, and its requests are
    subtracted from the nodes named there. ``products`` empty means that any product
    will do, still one for the whole job. ``created_at_seconds`` (Unix time) and then
    ``id`` order jobs of equal priority. Of ``avoided_nodes`` its owner cannot bring back those ``avoided_anyway``.

    ``allowed_num_pods`` lists, ascending, the sizes of an elastic job; empty means
    ``num_pods`` alone, else ``num_pods`` is the preferred one of them.
    ``expected_seconds`` is the run time still to come, as far as anyone can say
    (``rest_quantiles``, ascending: how it is spread, where runs like it tell; for forecasts only), and
    ``attained_accelerator_seconds`` what the job has had. ``disruption_cost`` is what
    an eviction or a move of the running job loses, in accelerator-seconds (work since
    the last checkpoint and the restart); None means that it must not be disturbed, until its ``protection`` ends if it
    has one (that is for forecasts: no plan of now depends on it). A running
    job that is ``leaving`` has been told to give its place up, and holds it until it is gone.
    A waiting job without ``preempts`` takes nobody's place, whatever the settings allow.

    ``goodput_milli`` says how much an elastic job gets done at a size, in thousandths of what it does at ``num_pods``;
    sizes that it does not name count in proportion. A running elastic job has the size of its placement; a planned
    restart at another size loses ``resize_cost`` accelerator-seconds (the restart, and work since the last checkpoint
    that would be lost), and None means that it must not be resized. A waiting job that is ``returning`` was stopped
    only to start again at another size or place: it is admitted before all others, so that nobody takes its place.
    While its old pods are there it is ``leaving``, too: its room is kept, and it starts in a later plan.
    Moving running jobs elsewhere may lose ``make_room`` accelerator-seconds so that a waiting job fits; a running job
    that ``stays`` is moved for nobody, as it would not come back as it is, and loses its place to an eviction only.

    ``queue`` is empty for the default queue; ``other_queues`` are further ones that its owner could choose.
    ``order`` is that of its line, where it is another one than the settings'.
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
    allowed_num_pods: tuple[int, ...] = ()
    spread: Spread | None = None
    node_affinity: tuple[AffinityTerm, ...] = ()
    capacity_type: CapacityType = CapacityType.ANY
    expected_seconds: int | None = None
    attained_accelerator_seconds: int = 0
    disruption_cost: int | None = None
    leaving: bool = False
    preempts: bool = True
    queue: str = ""
    other_queues: tuple[str, ...] = ()
    order: QueueOrder | None = None
    goodput_milli: tuple[tuple[int, int], ...] = ()
    resize_cost: int | None = None
    returning: bool = False
    make_room: int = 0
    stays: bool = False
    rest_quantiles: tuple[int, ...] = ()
    avoided_anyway: frozenset[str] = frozenset()
    protection: Protection | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room kept for a waiting job from ``starts_at_seconds`` (Unix time) on.

    Until then a job that is expected to end by then may stand there (backfilling); any
    other waiting job may not. The job itself may start there as soon as it is free. With ``assumed`` the
    moment is no promise: nobody knows when some of those who stand there now will end.
    """

    job_id: str
    placement: Placement
    starts_at_seconds: int
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """A name by which a job can be given the priority ``value``, and ``Job.preempts`` with it."""

    name: str
    value: int
    preempts: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a plan may depend on. ``levels`` names the topology levels, widest first, without ``node``.

    Without ``queues`` all jobs stand in one default queue without quotas. All moves of a plan together lose at
    most ``move_budget`` accelerator-seconds. ``namespace_limits`` hold for the jobs of their namespace, which is the
    part of a job's name before the slash. ``coming_back`` are jobs of which ``jobs`` has only the gang, of the same
    name, that is leaving: they wait again once it has left. Until then no plan answers them. Jobs can
    be given the priorities of ``priority_classes``; None: any.
    """

    nodes: tuple[Node, ...]
    jobs: tuple[Job, ...]
    levels: tuple[str, ...] = ()
    now_seconds: int = 0
    reservations: tuple[Reservation, ...] = ()
    queues: tuple[Queue, ...] = ()
    move_budget: int = 0
    namespace_limits: tuple[NamespaceLimit, ...] = ()
    disruption_budgets: tuple[DisruptionBudget, ...] = ()
    coming_back: tuple[Job, ...] = ()
    priority_classes: tuple[PriorityClass, ...] | None = None


class Reason(enum.StrEnum):
    """Why a job waits: the fixed list that status, Events and metrics use."""

    MISCONFIGURED = "Misconfigured"
    EXCEEDS_CLUSTER_CAPACITY = "ExceedsClusterCapacity"
    NO_MATCHING_ACCELERATOR = "NoMatchingAccelerator"
    EXCEEDS_QUOTA = "ExceedsQuota"
    WAITING_FOR_QUOTA = "WaitingForQuota"
    EXCEEDS_RESOURCE_QUOTA = "ExceedsResourceQuota"
    WAITING_FOR_RESOURCE_QUOTA = "WaitingForResourceQuota"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"
    FRAGMENTED = "Fragmented"
    TOPOLOGY_UNSATISFIED = "TopologyUnsatisfied"
    NODES_UNHEALTHY = "NodesUnhealthy"
    RESERVED_FOR_LARGER_JOB = "ReservedForLargerJob"
    WAITING_FOR_PREEMPTION = "WaitingForPreemption"
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

    ``seconds`` and its ``phases`` are the only parts that may differ between two plans of one
    snapshot. ``build`` and ``solve`` of models are parts of ``strategy``.
    """

    status: SolveStatus
    strategy: str
    value: float = 0.0
    bound: float = 0.0
    gap: float = 0.0
    seconds: float = field(default=0.0, compare=False)
    tiers: tuple[TierResult, ...] = ()
    note: str = ""
    phases: tuple[tuple[str, float], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Eviction:
    """A running job that must give its place to ``for_job`` (both job ids); ``cost`` in accelerator-seconds."""

    job_id: str
    for_job: str
    cost: int


@dataclass(frozen=True, slots=True)
class Resize:
    """A running elastic job that is to stop and to start again with ``num_pods`` pods.

    ``placement`` is the room that it has for that beside all others. ``for_job`` is the waiting job that gets the
    surplus, "" where the job grows. In accelerator-seconds, ``cost`` is
    what is lost (``resize_cost``, and of a shrink its goodput over the horizon), ``gain`` what a growth gains over it.
    """

    job_id: str
    num_pods: int
    for_job: str
    cost: int
    gain: int = 0
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A running job that is to stop and to start again at ``placement``, at the size that it has.

    ``for_job`` is the waiting job that fits then; ``cost`` is what that loses, in accelerator-seconds.
    """

    job_id: str
    for_job: str
    cost: int
    placement: Placement


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision for every job that had no placement, keyed by job id, and its certificate.

    ``placements`` and ``waiting`` are disjoint and together cover all such jobs. A job
    that evictions make room for is in ``waiting`` until its victims are gone, and its
    room is kept for it meanwhile: ``held`` says where it will stand, by job id. So it is with
    ``resizes`` and ``moves``, each of which says where the running job has room when it comes back.
    """

    placements: Mapping[str, Placement]
    waiting: Mapping[str, Waiting]
    certificate: Certificate
    evictions: tuple[Eviction, ...] = ()
    held: Mapping[str, Placement] = field(default_factory=dict)
    resizes: tuple[Resize, ...] = ()
    moves: tuple[Move, ...] = ()


class Strategy(enum.StrEnum):
    """Ways to plan behind one interface."""

    EXACT = "exact"
    GREEDY = "greedy"
    DP = "dp"
    GENETIC = "genetic"
    ANNEALING = "annealing"
    LP_ROUNDING = "lp-rounding"
    FGD = "fgd"

    @classmethod
    def _missing_(cls, value: object) -> Strategy:
        raise ValueError(f'planner.strategy "{value}" is unknown; use one of {", ".join(cls)}')


class QueueOrder(enum.StrEnum):
    """The order of jobs of one priority. All end with age and id."""

    AGE = "age"
    SHORTEST = "shortest"
    LEAST_ATTAINED = "least-attained"


class Preemption(enum.StrEnum):
    """Which running jobs may lose their place: none, those of lower priority, or all that the order puts behind.

    ``LEAST_ATTAINED``: those of lower priority, and of equal priority those that have had much more
    (``problem.has_had_more``).
    """

    NEVER = "Never"
    LOWER_PRIORITY = "LowerPriority"
    QUEUE_ORDER = "QueueOrder"
    LEAST_ATTAINED = "LeastAttained"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an administrator chooses about planning.

    ``time_limit_seconds`` bounds all tiers together; ``gap_tolerance`` is the relative
    gap at which a tier counts as solved. ``late_tiers_seconds`` bounds, within the limit, what
    decides only where jobs stand and not which of them start: the goodput of each priority,
    and topology, whole slots and price together. These are worth a little waiting, not the
    whole limit in every cycle. ``seed`` chooses among equal nodes (0: the first by name).
    Without ``explain`` every waiting job gets the same short answer, which costs nothing.
    ``resize``: running elastic jobs give up surplus for waiting ones, and grow where nobody waits; what they lose or
    gain is counted over ``resize_horizon_seconds``.
    """

    strategy: Strategy = Strategy.EXACT
    solver: str = "HiGHS"
    time_limit_seconds: float = 10.0
    gap_tolerance: float = 1e-4
    late_tiers_seconds: float = 2.0
    seed: int = 0
    order: QueueOrder = QueueOrder.AGE
    preemption: Preemption = Preemption.NEVER
    explain: bool = True
    resize: bool = False
    resize_horizon_seconds: int = 3600
