"""What the whole cluster has to offer to one request: counted four ways, over all nodes, blocked ones too.

Nodes that look alike to every request are counted once, so that the numbers behind the
reasons of all waiting jobs cost less than a plan. What must stay true: ``now`` is what is
left beside everything placed and running; ``before`` leaves this plan's placements out;
``restored`` is ``now`` with blocked and avoided nodes and unhealthy devices given back;
``empty`` is what nodes could ever hold. Each is at least the one before where both exist.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from stowplan_allocator import eligibility, greedy, types
from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Path, Problem, Request, Vector

SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """Nodes alike in everything that a reason looks at."""

    product: str
    path: Path
    profiles: int
    blocked: str
    has_accelerators: bool
    unhealthy: int
    now: Vector
    before: Vector
    restored: Vector
    empty: Vector
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class Offer:
    """What one product, in one domain where the request needs that, offers: pods by way of counting."""

    product: str
    domain: Path
    pods_now: int = 0
    pods_before: int = 0
    pods_restored: int = 0
    pods_empty: int = 0
    free: list[int] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    most: list[int] = field(default_factory=list)
    holes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    nodes: int = 0
    nodes_blocked: int = 0
    sample: list[tuple[str, Vector]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Census:
    """The kinds of nodes in a snapshot, as a plan leaves them."""

    def __init__(self, snapshot: types.Snapshot, *, problem: Problem, spots: Mapping[str, greedy.Spot]) -> None:
        self.problem = problem
        self.nodes = snapshot.nodes
        amounts = problems.free_amounts(snapshot)
        taken: dict[str, Vector] = {}
        for job_id, spot in spots.items():
            pod = problem.shape_of[job_id].request.vector
            for index, pods in spot.takes:
                name = problem.nodes[index].name
                held = taken.get(name, (0,) * len(pod))
                taken[name] = tuple(have + amount * pods for have, amount in zip(held, pod, strict=True))
        admission = eligibility.Admission(problem.profiles)
        zero = (0,) * len(problem.dims)
        groups: dict[Kind, list[str]] = defaultdict(list)
        for node in snapshot.nodes:
            before = problem.vector(amounts[node.name])
            now = tuple(have - less for have, less in zip(before, taken.get(node.name, zero), strict=True))
            broken = node.unhealthy_accelerators
            kind = Kind(
                product=node.product,
                path=problems.path_of(node, num_levels=len(problem.levels)),
                profiles=admission.mask(node),
                blocked=node.blocked,
                has_accelerators=node.allocatable.accelerators > 0,
                unhealthy=broken,
                now=_floor(now),
                before=_floor(before),
                restored=_floor(_more(now, broken)),
                empty=_floor(_more(problem.vector(node.allocatable), broken)),
            )
            groups[kind].append(node.name)
        self._by_domain = _sorted_kinds(groups)
        merged: dict[Kind, list[str]] = defaultdict(list)
        for kind, names in groups.items():
            merged[replace(kind, path=())] += names
        self.kinds = _sorted_kinds(merged)
        self.products = sorted({kind.product for kind in self.kinds if kind.has_accelerators and kind.product})

    def matching(self, request: Request, *, by_domain: bool = False) -> Iterator[Kind]:
        """The kinds that the request's labels, taints and products admit, blocked or not; domain by domain if asked."""
        for kind in self._by_domain if by_domain else self.kinds:
            if kind.profiles >> request.profile & 1 and self.of_product(request, kind=kind):
                yield kind

    @staticmethod
    def of_product(request: Request, *, kind: Kind) -> bool:
        """Whether the kind's product serves the request."""
        if request.products:
            return any(choice.product == kind.product for choice in request.products)
        return kind.has_accelerators or not request.vector[0]

    def offers(self, request: Request, *, by_domain: bool = True) -> list[Offer]:
        """One offer for each product, and for each domain of a required level; nodes without its label are in none."""
        found: dict[tuple[str, Path], Offer] = {}
        on_one_node = by_domain and request.required and request.level == len(self.problem.levels)
        level = request.level if by_domain and request.required and not on_one_node else None
        for kind in self.matching(request, by_domain=level is not None):
            product = "" if request.any_product else kind.product
            domain: Path = ()
            if level is not None:
                if kind.path[level] is None:
                    continue
                domain = kind.path[: level + 1]
            if not on_one_node:
                offer = found.setdefault((product, domain), Offer(product, domain))
                self._count(offer, kind=kind, names=kind.names, request=request)
                continue
            # One node of each kind stands for all: they are alike, and a job may use only one.
            usable = [name for name in kind.names if name not in request.avoided] or list(kind.names)
            offer = found.setdefault((product, (usable[0],)), Offer(product, (usable[0],)))
            self._count(offer, kind=kind, names=(usable[0],), request=request)
        return list(found.values())

    def _count(self, offer: Offer, *, kind: Kind, names: tuple[str, ...], request: Request) -> None:
        pod = request.vector
        avoided = [name for name in names if name in request.avoided] if request.avoided else []
        usable = 0 if kind.blocked else len(names) - len(avoided)
        now = problems.slots(kind.now, pod)
        restored = now if kind.restored == kind.now else problems.slots(kind.restored, pod)
        offer.nodes += len(names)
        offer.pods_restored += len(names) * restored
        offer.pods_empty += len(names) * problems.slots(kind.empty, pod)
        if not offer.free:
            offer.free, offer.whole, offer.most = [0] * len(pod), [0] * len(pod), [0] * len(pod)
        for d, amount in enumerate(kind.empty):
            offer.most[d] = max(offer.most[d], amount)
        if usable:
            offer.pods_now += usable * now
            offer.pods_before += usable * (now if kind.before == kind.now else problems.slots(kind.before, pod))
            for d, need in enumerate(pod):
                offer.free[d] += usable * kind.now[d]
                if need:
                    offer.whole[d] += usable * (kind.now[d] // need)
            offer.holes[kind.now[0]] += usable
            fresh = [name for name in names if name not in request.avoided] if avoided else names
            # Kinds come in the order of their first name, which settles ties well enough.
            if len(offer.sample) < SAMPLE or kind.now[0] > offer.sample[-1][1][0]:
                offer.sample += [(name, kind.now) for name in fresh[:SAMPLE]]
                offer.sample.sort(key=lambda one: -one[1][0])
                del offer.sample[SAMPLE:]
        if kind.blocked:
            offer.nodes_blocked += len(names)
        if restored > (now if usable else 0) or avoided:
            if kind.blocked:
                offer.lost += [f"{name} ({kind.blocked})" for name in names]
            elif kind.unhealthy:
                noun = "accelerator" if kind.unhealthy == 1 else "accelerators"
                offer.lost += [f"{name} ({kind.unhealthy} unhealthy {noun})" for name in names]
            else:
                offer.lost += [f"{name} (avoided after a failure)" for name in avoided]


def _sorted_kinds(groups: Mapping[Kind, list[str]]) -> list[Kind]:
    kinds = [replace(kind, names=tuple(sorted(names, key=problems.natural))) for kind, names in groups.items()]
    return sorted(kinds, key=lambda kind: problems.natural(kind.names[0]))


def _floor(vector: Vector) -> Vector:
    return tuple(max(amount, 0) for amount in vector)


def _more(vector: Vector, accelerators: int) -> Vector:
    return (vector[0] + accelerators, *vector[1:])
