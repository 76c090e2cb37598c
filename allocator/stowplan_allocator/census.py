"""What the whole cluster has to offer to one request: counted four ways, over all nodes, blocked ones too.

Nodes of one product, domain and eligibility form a pool that knows how often each amount
occurs, so that the numbers behind the reasons of all waiting jobs cost less than a plan.
What must stay true: ``now`` is what is left beside everything placed and running; ``before``
leaves this plan's placements out; ``restored`` is ``now`` with blocked and avoided nodes and
unhealthy devices given back; ``empty`` is what nodes could ever hold. Each is at least the
one before where both exist.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stowplan_allocator import eligibility, greedy, patterns, types
from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Path, Problem, Request, Vector

SAMPLE = 5
# Free accelerators -> free amounts -> how many nodes: what holds too few accelerators is not looked at.
Amounts = dict[int, Counter[Vector]]


@dataclass(frozen=True, slots=True)
class Row:
    """Nodes alike in everything that a reason looks at, by name in natural order."""

    product: str
    path: Path
    profiles: int
    has_accelerators: bool
    blocked: str
    unhealthy: int
    now: Vector
    before: Vector
    restored: Vector
    empty: Vector
    names: list[str] = field(default_factory=list, compare=False)


@dataclass(slots=True)
class Pool:
    """Rows of one product, domain and eligibility, summed up."""

    product: str
    path: Path
    profiles: int
    has_accelerators: bool
    rows: list[Row] = field(default_factory=list)
    nodes: int = 0
    nodes_blocked: int = 0
    now: Amounts = field(default_factory=dict)
    before: Amounts = field(default_factory=dict)
    restored: Amounts = field(default_factory=dict)
    empty: Amounts = field(default_factory=dict)
    _emptiest: list[tuple[str, Vector]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """One more row."""
        number = len(row.names)
        self.rows.append(row)
        self.nodes += number
        _count(self.restored, row.restored, number)
        _count(self.empty, row.empty, number)
        if row.blocked:
            self.nodes_blocked += number
        else:
            _count(self.now, row.now, number)
            _count(self.before, row.before, number)

    def emptiest(self) -> list[tuple[str, Vector]]:
        """Usable nodes and what they have free, the most accelerators first; of equal ones the first by name."""
        if not self._emptiest:
            usable = [(name, row.now) for row in self.rows if not row.blocked for name in row.names]
            self._emptiest = sorted(usable, key=lambda one: (-one[1][0], problems.natural(one[0])))
        return self._emptiest


class Offer:
    """What one product, in one domain where the request needs that, offers to a request."""

    def __init__(self, product: str, domain: Path, *, request: Request) -> None:
        self.product = product
        self.domain = domain
        self.request = request
        self.pools: list[Pool] = []
        # Of the rows with nodes that the request avoids: amounts of those nodes, which are not usable now.
        self._kept_off: list[tuple[Row, list[str]]] = []

    def add(self, pool: Pool) -> None:
        """One more pool."""
        self.pools.append(pool)
        avoided = self.request.avoided
        if avoided:
            for row in pool.rows:
                names = [name for name in row.names if name in avoided]
                if names:
                    self._kept_off.append((row, names))

    @functools.cached_property
    def pods_now(self) -> int:
        """Pods that fit now."""
        if self.request.patterned:
            return self._in_patterns(lambda row: row.now, usable_only=True)
        slots = functools.partial(problems.slots, pod=self.request.vector)
        off = sum(len(names) * slots(row.now) for row, names in self._kept_off if not row.blocked)
        return self._pods(pool.now for pool in self.pools) - off

    @functools.cached_property
    def pods_before(self) -> int:
        """Pods that would fit but for this plan's placements."""
        if self.request.patterned:
            return self._in_patterns(lambda row: row.before, usable_only=True)
        slots = functools.partial(problems.slots, pod=self.request.vector)
        off = sum(len(names) * slots(row.before) for row, names in self._kept_off if not row.blocked)
        return self._pods(pool.before for pool in self.pools) - off

    @functools.cached_property
    def pods_restored(self) -> int:
        """Pods that would fit if all that is broken or avoided came back."""
        if self.request.patterned:
            return self._in_patterns(lambda row: row.restored)
        return self._pods(pool.restored for pool in self.pools)

    @functools.cached_property
    def pods_empty(self) -> int:
        """Pods that all nodes hold when empty and healthy."""
        if self.request.patterned:
            return self._in_patterns(lambda row: row.empty)
        return self._pods(pool.empty for pool in self.pools)

    def _in_patterns(self, room: Callable[[Row], Vector], *, usable_only: bool = False) -> int:
        """Pods of one gang with slices or spread; these look at the nodes of each domain apart."""
        avoided = self.request.avoided if usable_only else frozenset()
        return patterns.capacity(
            self.request,
            rooms=[
                (row.path, room(row), sum(name not in avoided for name in row.names) if avoided else len(row.names))
                for pool in self.pools
                for row in pool.rows
                if not (usable_only and row.blocked)
            ],
        )

    def _pods(self, counted: Iterator[Amounts]) -> int:
        pod = self.request.vector
        total = 0
        for amounts in counted:
            for accelerators, rooms in amounts.items():
                if accelerators >= pod[0]:
                    total += sum(number * problems.slots(room, pod) for room, number in rooms.items())
        return total

    @property
    def nodes(self) -> int:
        """Matching nodes, blocked ones too."""
        return sum(pool.nodes for pool in self.pools)

    @property
    def nodes_blocked(self) -> int:
        """Those of them that are blocked."""
        return sum(pool.nodes_blocked for pool in self.pools)

    @functools.cached_property
    def _usable(self) -> Counter[Vector]:
        """How often each free amount occurs on nodes that the request may use now."""
        usable: Counter[Vector] = Counter()
        for pool in self.pools:
            for rooms in pool.now.values():
                usable.update(rooms)
        for row, names in self._kept_off:
            if not row.blocked:
                usable[row.now] -= len(names)
        return usable

    def free_along(self, d: int) -> int:
        """What is free now of one resource, in all."""
        return sum(number * room[d] for room, number in self._usable.items())

    def whole_along(self, d: int) -> int:
        """Pods that would fit now if only this resource counted."""
        need = self.request.vector[d]
        return sum(number * (room[d] // need) for room, number in self._usable.items()) if need else 0

    def most_along(self, d: int) -> int:
        """What the largest node has of one resource when empty."""
        return max(room[d] for pool in self.pools for rooms in pool.empty.values() for room in rooms)

    def holes(self) -> list[tuple[int, int]]:
        """Free accelerators and on how many nodes so many are free, the most first."""
        found: Counter[int] = Counter()
        for room, number in self._usable.items():
            found[room[0]] += number
        return sorted(((size, number) for size, number in found.items() if number), reverse=True)

    def sample(self) -> list[tuple[str, Vector]]:
        """The nodes with the most accelerators free, and what they have free; of equal ones the first by name."""
        avoided = self.request.avoided
        found: list[tuple[str, Vector]] = []
        for pool in self.pools:
            found += itertools.islice((one for one in pool.emptiest() if one[0] not in avoided), SAMPLE)
        return sorted(found, key=lambda one: (-one[1][0], problems.natural(one[0])))[:SAMPLE]

    def lost(self) -> list[str]:
        """The nodes whose return would help, each with the reason why it is away."""
        pod = self.request.vector
        found: list[tuple[str, str]] = []
        for pool in self.pools:
            for row in pool.rows:
                if not row.blocked and not row.unhealthy:
                    continue
                usable = 0 if row.blocked else problems.slots(row.now, pod)
                if problems.slots(row.restored, pod) > usable:
                    noun = "accelerator" if row.unhealthy == 1 else "accelerators"
                    why = row.blocked or f"{row.unhealthy} unhealthy {noun}"
                    found += [(name, why) for name in row.names]
        known = {name for name, _ in found}
        for _, names in self._kept_off:
            found += [(name, "avoided after a failure") for name in names if name not in known]
        return [f"{name} ({why})" for name, why in sorted(found, key=lambda one: problems.natural(one[0]))]


class Census:
    """The nodes of a snapshot, summed up as a plan leaves them."""

    def __init__(self, snapshot: types.Snapshot, *, problem: Problem, spots: Mapping[str, greedy.Spot]) -> None:
        self.problem = problem
        self.nodes = snapshot.nodes
        self.snapshot = snapshot
        self._rows = _rows(snapshot, problem=problem, spots=spots)
        self.pools = _pools(self._rows, by_domain=False)
        self.products = sorted({pool.product for pool in self.pools if pool.has_accelerators and pool.product})

    @functools.cached_property
    def _by_domain(self) -> list[Pool]:
        return _pools(self._rows, by_domain=True)

    def matching(self, request: Request, *, by_domain: bool = False) -> Iterator[Pool]:
        """The pools that the request's labels, taints and products admit, blocked or not; domain by domain if asked."""
        for pool in self._by_domain if by_domain else self.pools:
            if _admits(pool, request=request):
                yield pool

    def offers(self, request: Request, *, by_domain: bool = True) -> list[Offer]:
        """One offer for each product, and for each domain of a required level; nodes without its label are in none."""
        num_levels = len(self.problem.levels)
        level = request.gang_level if by_domain else None
        if level == num_levels:
            return self._nodes(request)
        found: dict[tuple[str, Path], Offer] = {}
        for pool in self.matching(request, by_domain=level is not None):
            product = "" if request.any_product else pool.product
            domain: Path = ()
            if level is not None:
                if pool.path[level] is None:
                    continue
                domain = pool.path[: level + 1]
            offer = found.get((product, domain))
            if offer is None:
                offer = found[product, domain] = Offer(product, domain, request=request)
            offer.add(pool)
        return list(found.values())

    def _nodes(self, request: Request) -> list[Offer]:
        """One node of each row stands for all: they are alike, and a job may use only one."""
        found: dict[tuple[object, ...], Offer] = {}
        for row in self._rows:
            if not _admits(row, request=request):
                continue
            name = next((name for name in row.names if name not in request.avoided), row.names[0])
            alike = name if request.avoided else ""
            key = (row.product, row.blocked, row.unhealthy, row.now, row.before, row.restored, row.empty, alike)
            if key not in found:
                pool = Pool(row.product, row.path, row.profiles, row.has_accelerators)
                pool.add(dataclasses.replace(row, names=[name]))
                found[key] = Offer("" if request.any_product else row.product, (name,), request=request)
                found[key].add(pool)
        return list(found.values())


def of_product(one: Pool | Row, *, request: Request) -> bool:
    """Whether the product of a pool or row serves the request."""
    if request.products:
        return any(choice.product == one.product for choice in request.products)
    return one.has_accelerators or not request.vector[0]


def _admits(one: Pool | Row, *, request: Request) -> bool:
    return bool(one.profiles >> request.profile & 1) and of_product(one, request=request)


def _rows(snapshot: types.Snapshot, *, problem: Problem, spots: Mapping[str, greedy.Spot]) -> list[Row]:
    """The nodes, those that are alike together, in the order of their first names."""
    num_levels = len(problem.levels)
    free = problem.balance
    taken: dict[str, Sequence[int]] = {}
    for job_id, spot in spots.items():
        pod = problem.shape_of[job_id].request.vector
        for index, pods in spot.takes:
            name = problem.nodes[index].name
            held = taken.get(name) or (0,) * len(pod)
            taken[name] = [have + amount * pods for have, amount in zip(held, pod, strict=True)]
    admission = eligibility.Admission(problem.profiles)
    groups: dict[tuple[object, ...], Row] = {}
    for node in sorted(snapshot.nodes, key=lambda node: problems.natural(node.name)):
        had = free[node.name]
        before = now = had if min(had) >= 0 else _floor(had)
        restored = before
        broken = node.unhealthy_accelerators
        less = taken.get(node.name)
        if less is not None:
            now = restored = _floor([have - amount for have, amount in zip(had, less, strict=True)])
        empty = problem.vector(node.allocatable)
        if broken:
            amounts = had if less is None else [have - amount for have, amount in zip(had, less, strict=True)]
            restored = _floor([amounts[0] + broken, *amounts[1:]])
            empty = (empty[0] + broken, *empty[1:])
        path = problems.path_of(node, num_levels=num_levels)
        mask = admission.mask(node)
        has_accelerators = node.allocatable.has_devices
        key = (node.product, path, mask, has_accelerators, node.blocked, broken, now, before, restored, empty)
        row = groups.get(key)
        if row is None:
            row = groups[key] = Row(
                node.product, path, mask, has_accelerators, node.blocked, broken, now, before, restored, _floor(empty)
            )
        row.names.append(node.name)
    return list(groups.values())


def _pools(rows: list[Row], *, by_domain: bool) -> list[Pool]:
    """The pools in the order of their first nodes."""
    found: dict[tuple[object, ...], Pool] = {}
    for row in rows:
        path = row.path if by_domain else ()
        key = (row.product, path, row.profiles, row.has_accelerators)
        pool = found.get(key)
        if pool is None:
            pool = found[key] = Pool(row.product, path, row.profiles, row.has_accelerators)
        pool.add(row)
    return list(found.values())


def _count(amounts: Amounts, room: Vector, number: int) -> None:
    amounts.setdefault(room[0], Counter())[room] += number


def _floor(vector: Sequence[int]) -> Vector:
    return tuple(max(amount, 0) for amount in vector)
