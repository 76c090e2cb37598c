"""One ruler for all strategies: how good a placement is, and what is proven about it without a solver.

A score lists what the tiers of the objective say, greater is better, to be compared from left
to right: for every priority, the highest first, whether each of its jobs starts, in queue
order, and then the goodput; for all jobs together preferred topology, few domains, whole
slots and price. What must stay true: the score of a placement depends on the problem and the
placement alone; every value is measured on nodes and jobs; a refusal counts as proven only if
no placement of the job beside those admitted ahead of it exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from stowplan_allocator import bounds, fairness, greedy, objectives, sizes, spans, strategies, tiers, types
from stowplan_allocator.problem import Problem
from stowplan_allocator.stock import Stock

Score = tuple[int, ...]
Spots = Mapping[str, greedy.Spot]


class Ruler:
    """Scores placements of one problem. ``rooms`` is what is free before any of them."""

    def __init__(self, problem: Problem, *, rooms: Stock | None = None) -> None:
        self.problem = problem
        self.rooms = rooms or greedy.new_stock(problem)
        self._elastic = {
            job.id: shape.request.preferred for shape in problem.shapes if shape.request.sizes for job in shape.jobs
        }
        everyone = {
            job.id: greedy.Spot("", [])
            for job in problem.queue
            if problem.cells_of[problem.shape_of[job.id].request.index]
        }
        self._bands = [
            (
                [job.id for job in band.jobs],
                [self._goodput(everyone, priority=one, beyond_preferred=False) for one in band.priorities],
            )
            for band in fairness.bands(problem)
        ]
        self._growths = self._growth(everyone)
        self._shared = later_tiers(problem, rooms=self.rooms, spots=everyone)

    def score(self, spots: Spots) -> Score:
        """What the tiers make of the placement; greater is better, compared from left to right."""
        found: list[int] = []
        capped = self._capped(spots)
        if self.problem.quotas is not None:
            # Of two placements the first turn at which they differ decides, and until then it is the same job's.
            found += [int(job.id in spots) for job in fairness.in_turn(self.problem, spots=spots).queue]
        for names, goodputs in self._bands:
            if self.problem.quotas is None:
                found += [int(name in spots) for name in names]
            found += [goodput.measure(capped) for goodput in goodputs if goodput is not None]
        found += [tier.measure(spots) * (1 if tier.maximise else -1) for tier in [*self._growths, *self._shared]]
        return tuple(found)

    def shared(self, spots: Spots) -> dict[str, int]:
        """The values of the tiers that all jobs share, by name."""
        return {tier.name: tier.measure(spots) for tier in self._shared}

    def verdict(
        self,
        spots: dict[str, greedy.Spot],
        *,
        settings: types.Settings,
        notes: Sequence[str] = (),
        refused: Collection[int] = (),
        proven: Mapping[str, float] | None = None,
    ) -> strategies.Outcome:
        """The placement with its certificate.

        ``refused`` are the requests that the strategy itself has proven to fit nowhere beside
        what it admitted ahead of them, ``proven`` the bounds of tiers that it has found, by
        the tier's name; both in addition to what needs no solver.
        """
        results, undecided = self._admission(spots, refused=frozenset(refused))
        capped = self._capped(spots)
        goodputs = [self._goodput(spots, priority=one, beyond_preferred=False) for one in priorities(self.problem)]
        fixed = sizes.resolve(self.problem, chosen={job: spots[job].num_pods for job in self._elastic if job in spots})
        for tier, measured in [
            *((tier, capped) for tier in goodputs if tier is not None),
            *((tier, spots) for tier in self._growth(spots)),
            *((tier, spots) for tier in later_tiers(fixed, rooms=self.rooms, spots=spots)),
        ]:
            closer = min if tier.maximise else max
            bound = int(closer(tier.easy_bound, (proven or {}).get(tier.name, tier.easy_bound)))
            results.append(tiers.result(tier, value=tier.measure(measured), bound=bound, settings=settings))
        ranked = in_order(results, problem=self.problem)
        return strategies.judge(spots, results=ranked, notes=notes, undecided=undecided)

    def _capped(self, spots: Spots) -> Spots:
        """The placement with no elastic job larger than it prefers, for the goodput that comes before the growth."""
        larger = {
            job: greedy.Spot(spots[job].product, [(-1, preferred)])
            for job, preferred in self._elastic.items()
            if job in spots and spots[job].num_pods > preferred
        }
        return {**spots, **larger} if larger else spots

    def _goodput(self, spots: Spots, *, priority: int, beyond_preferred: bool) -> objectives.Tier | None:
        offers = {
            shape.index: (shape.request.num_pods, *larger)
            for shape in self.problem.shapes
            if (larger := shape.request.larger_sizes(beyond_preferred=beyond_preferred))
        }
        return objectives.goodput(self.problem, priority=priority, spots=spots, sizes=offers)

    def _growth(self, spots: Spots) -> list[objectives.Tier]:
        """Sizes beyond the preferred ones, for the priorities that have jobs which may grow so far."""
        found = []
        for priority in priorities(self.problem):
            tier = self._goodput(spots, priority=priority, beyond_preferred=True)
            may_grow = any(
                shape.request.sizes and shape.request.sizes[-1] > shape.request.preferred
                for shape in objectives.placed_shapes(self.problem, spots=spots)
                if shape.priority == priority
            )
            if tier is not None and may_grow:
                found.append(replace(tier, name=f"growth at priority {priority}"))
        return found

    def _admission(self, spots: Spots, *, refused: frozenset[int]) -> tuple[list[types.TierResult], frozenset[str]]:
        """One result per band; and the jobs whose refusal is not proven."""
        problem = self.problem
        limits = bounds.Bounds(problem)
        hopeless = set(refused)
        unsure: set[int] = set()
        undecided: list[str] = []
        results = []
        served: list[types.Job] = []
        done: set[int] = set()
        spare, counted = problem.spare(), set[str]()
        for band in fairness.bands(self.problem):
            placed = open_here = 0
            admitted = _by_request(problem, jobs=served, spots=spots)
            turns = fairness.turns(self.problem, band.jobs)
            while (job := turns.head()) is not None:
                served.append(job)
                request = problem.shape_of[job.id].request
                if job.id in spots:
                    turns.serve(job, spots[job.id])
                    admitted[request.index] = admitted.get(request.index, 0) + 1
                    if spare is not None:
                        spare.add(request.charges, request.num_pods)
                    unsure.clear()  # of a request that was unsure, the next may be refused with proof
                    placed += 1
                    continue
                if request.index not in hopeless and request.index not in unsure:
                    proven = turns.refuses(job) or limits.cannot_fit(request, admitted=admitted)
                    proven = proven or (spare is not None and not spare.fits(request.charges, request.num_pods))
                    (hopeless if proven else unsure).add(request.index)
                turns.serve(job, None)
                if request.index in unsure:
                    undecided.append(job.id)
                    open_here += 1
            results.append(strategies.admission(band.name, placed=placed, undecided=open_here))
            done.update(band.priorities)
            grown = {
                job.id: min(spots[job.id].num_pods, self._elastic[job.id])
                for job in served
                if job.id in spots and job.id in self._elastic and job.priority in done
            }
            for job in served:
                if spare is not None and job.id in grown.keys() - counted:
                    counted.add(job.id)
                    request = self.problem.shape_of[job.id].request
                    spare.add(request.charges, grown[job.id] - request.num_pods)
            if grown:
                # Lower priorities find these jobs at the sizes that they have, up to those they prefer.
                problem = sizes.resolve(self.problem, chosen=grown)
                limits = bounds.Bounds(problem)
        return results, frozenset(undecided)


def _by_request(problem: Problem, *, jobs: Iterable[types.Job], spots: Spots) -> dict[int, int]:
    """Those of the jobs that are placed, by request."""
    found: dict[int, int] = {}
    for job in jobs:
        if job.id in spots:
            index = problem.shape_of[job.id].request.index
            found[index] = found.get(index, 0) + 1
    return found


def priorities(problem: Problem) -> list[int]:
    """The priorities of the queue, the highest first."""
    return sorted({shape.priority for shape in problem.shapes}, reverse=True)


def later_tiers(problem: Problem, *, rooms: Stock, spots: Spots) -> list[objectives.Tier]:
    """The tiers that all placed jobs share, in their order."""
    if not spots:
        return []
    found = spans.tiers(problem, rooms=rooms, spots=spots)
    found.append(objectives.whole_slots(problem, spots=spots))
    price = objectives.price(problem, spots=spots)
    return [*found, *([price] if price is not None else [])]


def in_order(results: Sequence[types.TierResult], *, problem: Problem) -> list[types.TierResult]:
    """The results as the objective orders them: every priority's admission and goodput, then the rest."""
    ranks: dict[str, int] = {}
    for band in fairness.bands(problem):
        ranks[band.name] = len(ranks)
        for priority in band.priorities:
            ranks[f"goodput at priority {priority}"] = len(ranks)
    return sorted(results, key=lambda result: ranks.get(result.name, len(ranks)))
