"""The cheapest victims for one waiting gang: what no solver need be asked, a quick set, then the exact one.

Most questions end early: even with all candidates gone the gang does not fit; or one victim
does, and no cheaper one exists. Only what is left goes to the programme of ``disruption``, with
the candidates that could be in a cheaper set and the nodes that could serve. What must stay
true: whatever is returned fits; leaving candidates out never hides a cheaper set; a bound holds
for all candidates.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import gangs, types
from stowplan_allocator.gangs import Gang, Group
from stowplan_allocator.problem import Problem, Vector
from stowplan_allocator.stock import Take
from stowplan_allocator.terms import Terms
from stowplan_allocator.victims import Shrink, Victim, deepest

SHARE_OF_TIME = 0.5  # of what is left, for one programme


@dataclass(frozen=True, slots=True)
class Solution:
    """Who leaves, and where each gang then stands (job id → product and takes). ``bound`` is a proven least cost."""

    leaving: tuple[Victim, ...]
    stands: Mapping[str, tuple[str, list[Take]]]
    bound: int

    @property
    def cost(self) -> int:
        """What is lost."""
        return sum(victim.cost for victim in self.leaving)

    def after(self, first: Solution) -> Solution:
        """This one, found once those of the ``first`` had been told to leave, with them."""
        return replace(self, leaving=(*first.leaving, *self.leaving), bound=first.bound)


def cheapest(
    gang: Gang,
    *,
    problem: Problem,
    rooms: Sequence[Vector],
    victims: Sequence[Victim],
    settings: types.Settings,
    deadline: float,
    terms: Terms | None = None,
    shrinks: Sequence[Shrink] = (),
) -> Solution | None:
    """Least excess, least lost work, then fewest victims, so that the gang fits in; None where no set will do.

    Of the ``victims``, who leave whole, and the ``shrinks`` each job gives room in one way at most. With ``terms`` it
    must be within quotas and limits, too, and the victims must be such as may leave together.
    """
    ways: list[Victim | Shrink] = [*victims, *shrinks]
    standing: dict[int, list[int]] = defaultdict(list)
    for i, way in enumerate(ways):
        for node in way.held if isinstance(way, Victim) else way.stands:
            standing[node].append(i)
    offers = []
    for group in gang.groups:
        inside = sorted({i for node in group.nodes for i in standing.get(node, ())})
        near = [ways[i] for i in inside]
        if terms is not None and not terms.enough(group.product, ()):
            away = [i for i in range(len(ways)) if i not in set(inside)]
            near += [ways[i] for i in away if terms.frees(group.product, ways[i])]
        offers.append(_Offer(gang, group=group, problem=problem, rooms=rooms, ways=near, terms=terms))
    offers = [offer for offer in offers if offer.could_fit()]
    sets = [(offer, found) for offer in offers if (found := offer.quick_set()) is not None]
    if not sets:
        return _by_programme(
            gang, offers=offers, problem=problem, rooms=rooms, settings=settings, terms=terms, deadline=deadline
        )
    (excess, cost, number), _, offer, quick = min(
        (_rank(found, terms=terms), i, offer, found) for i, (offer, found) in enumerate(sets)
    )
    best = Solution(tuple(quick), {gang.job.id: (offer.group.product, offer.fill(quick))}, bound=0)
    if not number:
        return best
    # Where queues lose of their own, dearer ones may be in a set that spares them.
    useful = {id(way): way for offer in offers for way in offer.ways if excess or way.cost <= cost}
    candidates = [way for way in ways if id(way) in useful]
    least = min(way.cost for way in candidates)
    if number == 1 and cost == least and not excess:
        return replace(best, bound=cost)
    exact = _by_programme(
        gang,
        offers=offers,
        problem=problem,
        rooms=rooms,
        settings=settings,
        deadline=deadline,
        terms=terms,
        candidates=candidates,
        quick=quick,
        sparing=not excess,
    )
    if exact is None or _rank(exact.leaving, terms=terms) >= (excess, cost, number):
        # Of equal sets the quick one: it was made from the end of the queue.
        return replace(best, bound=max(least, exact.bound if exact is not None else 0))
    return replace(exact, bound=max(exact.bound, least))


def _rank(leaving: Sequence[Victim], *, terms: Terms | None) -> tuple[int, int, int]:
    """What is to be least: what queues lose of their own, what is lost of work, and victims."""
    excess = 0 if terms is None else terms.excess(leaving)
    return excess, sum(victim.cost for victim in leaving), len(leaving)


def _by_programme(
    gang: Gang,
    *,
    offers: Sequence[_Offer],
    problem: Problem,
    rooms: Sequence[Vector],
    settings: types.Settings,
    deadline: float,
    terms: Terms | None,
    candidates: Sequence[Victim | Shrink] | None = None,
    quick: Sequence[Victim] = (),
    sparing: bool = False,
) -> Solution | None:
    """The exact answer; None where there is none, or none in time. Without candidates, of all victims.

    ``sparing``: no queue need lose of its own.
    """
    left = deadline - time.monotonic()
    if settings.strategy is types.Strategy.GREEDY or left <= 0 or not offers:
        return None
    # PuLP and HiGHS take a second and 50 MB: only a process that solves loads them.
    from stowplan_allocator import disruption

    if candidates is None:
        candidates = list({id(way): way for offer in offers for way in offer.ways}.values())
    victims = [way for way in candidates if isinstance(way, Victim)]
    shrinks = [way for way in candidates if isinstance(way, Shrink)]
    programme = disruption.Programme(problem, rooms=rooms, victims=victims, shrinks=shrinks)
    programme.add_gang(replace(gang, groups=tuple(offer.group for offer in offers)))
    if terms is not None:
        programme.add_terms(terms, sparing=sparing)
    programme.start_from(quick)
    return programme.solve(settings=settings, limit_seconds=left * SHARE_OF_TIME)


def each_enough(
    gang: Gang,
    *,
    problem: Problem,
    rooms: Sequence[Vector],
    victims: Sequence[Victim],
    terms: Terms | None = None,
) -> list[Victim]:
    """The victims of whom one alone makes room enough, and satisfies the terms."""
    found: dict[str, Victim] = {}
    for group in gang.groups:
        offer = _Offer(gang, group=group, problem=problem, rooms=rooms, ways=victims, terms=terms)
        found |= {victim.job.id: victim for victim in victims if offer.would_do(victim)}
    return list(found.values())


def victim_of(job: types.Job, *, problem: Problem, index: Mapping[str, int]) -> Victim:
    """A running job as a victim; ``index`` finds usable nodes by name, and what it holds elsewhere does not count."""
    pod = problem.vector(job.pod)
    held: dict[int, Vector] = {}
    for share in job.placement.shares if job.placement else ():
        if share.node in index:
            held[index[share.node]] = tuple(amount * share.num_pods for amount in pod)
    return Victim(job, job.disruption_cost or 0, held)


class _Offer:
    """One group of nodes, and the ways in which those on them could give room."""

    def __init__(
        self,
        gang: Gang,
        *,
        group: Group,
        problem: Problem,
        rooms: Sequence[Vector],
        ways: Sequence[Victim | Shrink],
        terms: Terms | None = None,
    ) -> None:
        self.group = group
        self.ways = ways
        self._terms = terms
        self._gang = gang
        self._problem = problem
        self._rooms = {node: rooms[node] for node in group.nodes}
        self._known: dict[Vector, int] = {}
        self._ranks: dict[tuple[str, int], tuple[float, ...]] = {}
        self._slots = {node: self._slots_in(room) for node, room in self._rooms.items()}
        self._victims = [way if isinstance(way, Victim) else way.giving_first(self._rank(way)) for way in ways]

    def _slots_in(self, room: Vector) -> int:
        known = self._known.get(room)
        if known is None:
            known = self._known[room] = gangs.slots(self._gang, room)
        return known

    def _rank(self, shrink: Shrink) -> Callable[[int], tuple[float, ...]]:
        """Which nodes a job should give up first: those of the group that hold the most once it has left them."""

        def rank(node: int) -> tuple[float, ...]:
            known = self._ranks.get((shrink.job.id, node))
            if known is None:
                known = (1, 0, node)
                if node in self._rooms:
                    all_of_it = tuple(amount * shrink.stands[node] for amount in shrink.pod)
                    known = (0, self._slots[node] - self._slots_in(_sum(self._rooms[node], all_of_it)), node)
                self._ranks[shrink.job.id, node] = known
            return known

        return rank

    def _after(self, leaving: Iterable[Victim]) -> dict[int, int]:
        """Slots by node once these have left."""
        rooms: dict[int, Vector] = {}
        for victim in leaving:
            for node, held in victim.held.items():
                if node in self._rooms:
                    rooms[node] = _sum(rooms.get(node, self._rooms[node]), held)
        return self._slots | {node: self._slots_in(room) for node, room in rooms.items()}

    def _holds(self, leaving: Sequence[Victim]) -> bool:
        """Whether the gang fits once these have left."""
        leaving = deepest(leaving)
        slots = self._after(leaving)
        if gangs.capacity(self._gang, slots=slots, problem=self._problem) < self._gang.num_blocks:
            return False
        return self._terms is None or self._terms.enough(self.group.product, leaving)

    def would_do(self, victim: Victim) -> bool:
        """Whether the gang fits once this one has left."""
        return self._holds([victim])

    def could_fit(self) -> bool:
        """Whether the gang fits once all have left; of those who shrink, whatever they give up on each node."""
        most = {(way.job.id, way.size): way for way in deepest(self._victims)}
        widest = [
            way if isinstance(way, Victim) else way.giving({n: min(pods, way.gives) for n, pods in way.stands.items()})
            for way in self.ways
            if (way.job.id, way.size) in most
        ]
        return self._holds(widest)

    def fill(self, leaving: Sequence[Victim]) -> list[Take]:
        """Nodes for the gang once these have left."""
        takes = gangs.fill(self._gang, slots=self._after(leaving), problem=self._problem)
        assert takes is not None, "the gang was said to fit"
        return takes

    def quick_set(self) -> list[Victim] | None:
        """Victims that will do, none of them needless; not always the cheapest, and None if no set is found."""
        if self._holds([]):
            return []
        held = {id(v): sum(v.held[node][0] for node in v.held.keys() & self._rooms.keys()) for v in self._victims}
        orders: list[Callable[[Victim], tuple[float, ...]]] = [
            lambda victim: (victim.cost,),
            lambda victim: (victim.cost / max(held[id(victim)], 1),),
            lambda victim: (-held[id(victim)], victim.cost),
        ]
        ranked = [sorted(self._victims, key=order) for order in orders]
        sets: list[list[Victim]] = []
        for sparing in (True, False):
            together = [self._together(some, sparing=sparing) for some in ranked]
            sets = sets or [self._shrunk(some) for some in together if self._does(some)]
        return min(sets, key=functools.partial(_rank, terms=self._terms), default=None)

    def _together(self, ranked: list[Victim], *, sparing: bool) -> list[Victim]:
        """Those that may leave together, the first first; ``sparing``: so that no queue loses of its own."""
        if self._terms is None:
            return ranked
        return self._terms.admissible(ranked, sparing=sparing)

    def _does(self, leaving: Sequence[Victim]) -> bool:
        """Whether the gang fits once these have left, on what is owned."""
        return self._holds(leaving) and (self._terms is None or self._terms.is_owned(leaving))

    def _shrunk(self, ranked: list[Victim]) -> list[Victim]:
        """The shortest prefix that will do, then without each, the dearest first, that is not needed."""
        low, high = 1, len(ranked)
        while low < high:
            middle = (low + high) // 2
            if self._does(ranked[:middle]):
                high = middle
            else:
                low = middle + 1
        needed = ranked[:low]
        for victim in sorted(needed, key=lambda victim: -victim.cost):
            fewer = [other for other in needed if other is not victim]
            if self._does(fewer):
                needed = fewer
        return needed


def _sum(one: Vector, other: Vector) -> Vector:
    return tuple(a + b for a, b in zip(one, other, strict=True))
