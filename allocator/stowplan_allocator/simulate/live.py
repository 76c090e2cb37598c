"""The short way to the plan of the greedy strategy: a stock that lives through the whole simulation.

A plan from a snapshot costs as much as the cluster is large; here a decision costs as much as
there are different requests waiting. What must stay true: the starts are those of ``plan()``
with the greedy strategy on the same snapshot, node for node, which holds because

- cells depend on nodes and on what requests look at, not on what is free: with one profile of
  labels and taints among all jobs they are the same for every queue;
- of equal requests the first in the queue is served first, so each needs only its own queue;
- a request that was refused stays refused until room grows, whoever else comes.

``serves`` says for which workloads that is so; all others go through ``plan()`` itself.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from stowplan_allocator import compiling, eligibility, greedy, types
from stowplan_allocator import problem as problems
from stowplan_allocator.simulate import deciding
from stowplan_allocator.simulate.lives import Life

# Who is served first: the smaller one.
type Key = tuple[int | str, ...]
type Rank = Callable[[Life, int], Key]


def serves(jobs: Sequence[types.Job], *, settings: types.Settings) -> bool:
    """Whether the short way gives what ``plan()`` would give for these jobs."""
    if settings.strategy is not types.Strategy.GREEDY or settings.preemption is not types.Preemption.NEVER:
        return False
    return is_plain(jobs)


def is_plain(jobs: Sequence[types.Job]) -> bool:
    """Whether the jobs differ only in size, amounts, products and topology, so that cells never change."""
    plain = all(
        not (job.pod.other or job.avoided_nodes or job.allowed_num_pods or job.spread or job.returning)
        and (job.topology is None or job.topology.slice_size is None)
        for job in jobs
    )
    return plain and len({eligibility.Profile.of(job) for job in jobs}) <= 1


def kind_of(job: types.Job) -> Hashable:
    """What plain jobs may differ in, beside their turn: jobs of one kind share a queue."""
    return job.num_pods, job.pod, job.products, job.topology


class Room:
    """What is free, and where a job of each kind would stand: the greedy strategy's own rules on a living stock."""

    def __init__(
        self,
        nodes: Iterable[types.Node],
        *,
        jobs: Iterable[types.Job],
        levels: tuple[str, ...],
        settings: types.Settings,
    ) -> None:
        self._examples = tuple({kind_of(job): job for job in jobs}.values())
        self._levels = levels
        self._settings = settings
        self._nodes = {node.name: node for node in nodes}
        self.rebuild(())

    def set_nodes(self, nodes: Iterable[types.Node], *, running: Iterable[Life]) -> None:
        """Take up nodes that have changed, with these jobs on the cluster."""
        self._nodes.update((node.name, node) for node in nodes)
        self.rebuild(running)

    def rebuild(self, running: Iterable[Life]) -> None:
        """Start from the nodes, with these jobs on them."""
        placed = tuple(dataclasses.replace(life.job, placement=life.placement) for life in running)
        # An example may be running itself; ids of examples need only differ from all others.
        examples = tuple(dataclasses.replace(job, id=f"\0{i}") for i, job in enumerate(self._examples))
        snapshot = types.Snapshot(tuple(self._nodes.values()), examples + placed, self._levels)
        self.problem = compiling.compile_problem(snapshot, seed=self._settings.seed)
        self.stock = greedy.new_stock(self.problem)
        shapes = self.problem.shape_of
        self.requests = {kind_of(job): shapes[job.id].request for job in examples if job.id in shapes}
        self._cell_of = {node: cell.index for cell in self.problem.cells for node in cell.nodes}
        self._index = {node.name: i for i, node in enumerate(self.problem.nodes)}
        largest = max((node.available.accelerators for node in self._nodes.values()), default=0)
        self._powers = frozenset(1 << i for i in range(largest.bit_length()))
        self._weighed: frozenset[int] | None = None

    def weigh(self, waiting: Iterable[Hashable]) -> None:
        """Let the stock weigh slots of the sizes that a plan would: those that wait, and powers of two."""
        sizes = self._powers.union(self.requests[kind].vector[0] for kind in waiting) - {0}
        if sizes != self._weighed:
            self._weighed = sizes
            self.stock.weigh(sizes)

    def place(self, kind: Hashable) -> types.Placement | None:
        """Take room for a job of this kind, or none."""
        spot = greedy.place(self.requests[kind], problem=self.problem, stock=self.stock)
        return None if spot is None else greedy.to_placement(spot, problem=self.problem, request=self.requests[kind])

    def free(self) -> Iterator[tuple[str, int]]:
        """Free accelerators by node, in the order of nodes."""
        for node, room in zip(self.problem.nodes, self.stock.free, strict=True):
            yield node.name, room[0]

    def give_back(self, job: types.Job, *, placement: types.Placement) -> None:
        """Free a place."""
        pod = self.problem.vector(job.pod)
        for share in placement.shares:
            node = self._index.get(share.node)
            if node is not None:  # A node that has failed is out of the stock until it is back.
                self.stock.give_back(self._cell_of[node], pod, [(node, share.num_pods)])


class Queues:
    """Who waits, by kind; of each kind only the first in the order of the queue is of interest."""

    def __init__(self, *, rank: Rank) -> None:
        self._rank = rank
        self._heaps: dict[Hashable, list[tuple[Key, int, Life]]] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._heaps)

    def __iter__(self) -> Iterator[Hashable]:
        """The kinds that wait."""
        return iter(self._heaps)

    def __contains__(self, kind: Hashable) -> bool:
        """Whether a job of the kind waits."""
        return kind in self._heaps

    def add(self, life: Life, *, now: int) -> None:
        """A job waits; its turn does not change while it does."""
        key = self._rank(life, now)
        heapq.heappush(self._heaps.setdefault(kind_of(life.job), []), (key, life.number, life))

    def key(self, kind: Hashable) -> Key:
        """The turn of the first of the kind."""
        return self._heaps[kind][0][0]

    def first(self, kind: Hashable) -> Life:
        """The first of the kind."""
        return self._heaps[kind][0][2]

    def pop(self, kind: Hashable) -> Life:
        """The first of the kind, who waits no more."""
        life = heapq.heappop(self._heaps[kind])[2]
        if not self._heaps[kind]:
            del self._heaps[kind]
        return life


def turn(life: Life, now: int, *, order: types.QueueOrder) -> Key:
    """The rank that ``plan()`` goes by."""
    return problems.queue_key(life.seen(now), order=order)


class ByLiveStock:
    """The starts of ``plan()`` with the greedy strategy, from a living stock; or of another ``rank`` of the queue."""

    gives_reasons = False

    def __init__(
        self,
        nodes: Iterable[types.Node],
        *,
        jobs: Iterable[types.Job],
        levels: tuple[str, ...],
        settings: types.Settings,
        rank: Rank | None = None,
    ) -> None:
        self.num_plans = 0
        self._room = Room(nodes, jobs=jobs, levels=levels, settings=settings)
        self._queues = Queues(rank=rank or functools.partial(turn, order=settings.order))
        self._new: list[Life] = []
        self._changed_nodes: list[types.Node] = []
        self._stock_is_old = False
        # Kinds that wait and were not refused since room last grew, in the order in which they came.
        self._open: dict[Hashable, None] = {}

    def submitted(self, life: Life) -> None:
        """See ``Decider``."""
        self._new.append(life)

    def found_running(self, life: Life) -> None:
        """See ``Decider``."""
        self._stock_is_old = True

    def released(self, life: Life, *, placement: types.Placement) -> None:
        """See ``Decider``."""
        self._room.give_back(life.job, placement=placement)
        self._open = dict.fromkeys(self._queues)

    def node_changed(self, node: types.Node) -> None:
        """See ``Decider``."""
        self._changed_nodes.append(node)
        self._open = dict.fromkeys(self._queues)

    def decide(self, now: int, *, running: Iterable[Life]) -> deciding.Decision:
        """See ``Decider``."""
        if self._changed_nodes or self._stock_is_old:
            self._room.set_nodes(self._changed_nodes, running=running)
            self._changed_nodes.clear()
            self._stock_is_old = False
        for life in self._new:
            kind = kind_of(life.job)
            if kind in self._room.requests:  # Others are misconfigured, and wait for ever.
                if kind not in self._queues:
                    self._open[kind] = None
                self._queues.add(life, now=now)
        self._new.clear()
        if not self._open:
            return deciding.NOTHING
        self.num_plans += 1
        return deciding.Decision(self._fill())

    def _fill(self) -> list[tuple[int, types.Placement]]:
        """``strategies.fill``: the first of all kinds together, until each kind is refused or served."""
        room, queues = self._room, self._queues
        room.weigh(queues)
        turns = [(queues.key(kind), kind) for kind in self._open]
        heapq.heapify(turns)
        starts = []
        while turns:
            _, kind = heapq.heappop(turns)
            placement = room.place(kind)
            if placement is not None:
                starts.append((queues.pop(kind).number, placement))
                if kind in queues:
                    heapq.heappush(turns, (queues.key(kind), kind))
        self._open.clear()
        return starts
