"""Whose turn it is: the order of the queue where it is fixed, and where it depends on who has started.

Without queues the jobs stand in one line. With queues each queue has its line (priority, then the
turn of the chosen order, then age and id), and whenever a job is to be chosen the tree is walked
down from the top. Jobs that return at another size or place come before all others. Else at each
level the queue is next

1. whose next job stays within what the queue's subtree owns, before one that would have to borrow
   there, or that owns nothing at all (a guest);
2. that has the smallest dominant share: the largest part of any product of the cluster that its subtree
   uses, by its weight;
3. whose next job comes first by priority, turn, age and id.

Jobs count as soon as they start (progressive filling), with the product on which they stand at
that moment. What must stay true: within one queue the line is kept; a job that was passed over is
not asked again in the same plan; without queues nothing here costs anything.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import greedy, types
from stowplan_allocator.namespaces import Spare
from stowplan_allocator.problem import Problem, Request
from stowplan_allocator.quotas import Allowance, Quotas

# Whether the next job of a branch comes for the first time, its class, share and rank.
Key = tuple[bool, bool, float, int]


class Turns:
    """Jobs in a fixed line."""

    def __init__(self, jobs: Sequence[types.Job]) -> None:
        self._jobs = jobs
        self._position = 0

    def head(self) -> types.Job | None:
        """Whose turn it is; None where nobody is left."""
        return self._jobs[self._position] if self._position < len(self._jobs) else None

    def serve(self, job: types.Job, spot: greedy.Spot | None) -> None:
        """The job has started, or been passed over: it leaves the line, and those before it in its line with it."""
        self._position = self._jobs.index(job, self._position) + 1

    def ahead(
        self, *, most: int, refused: Collection[int], problem: Problem, spare: Spare | None = None
    ) -> list[types.Job]:
        """The next jobs in turn if each of them starts, without refused requests and those that find nothing spare."""
        shape_of = problem.shape_of
        rest = (job for job in self._jobs[self._position :] if shape_of[job.id].request.index not in refused)
        if spare is None:
            return list(itertools.islice(rest, most))
        left = spare.copy()
        found: list[types.Job] = []
        for job in rest:
            request = shape_of[job.id].request
            if len(found) < most and left.take(request.charges, request.num_pods):
                found.append(job)
        return found

    def rest(self) -> Sequence[types.Job]:
        """Everybody left; of one line in its order."""
        return self._jobs[self._position :]

    def recount(self, spots: Mapping[str, greedy.Spot]) -> None:
        """Jobs that were served may stand on other products now."""

    def refuses(self, job: types.Job) -> bool:
        """Whether quotas alone prove that the job cannot start, wherever those served are moved."""
        return False


@dataclass(frozen=True, slots=True)
class _Offer:
    """The next job of a branch, and what it adds there by kind; kinds that the job cannot use are not there."""

    job: types.Job
    key: Key
    adds: tuple[tuple[str, int], ...]


class FairTurns(Turns):
    """Jobs in one line for each queue, and the tree above them."""

    def __init__(self, problem: Problem, quotas: Quotas, allowance: Allowance) -> None:
        self._quotas = quotas
        self._rank = {job.id: i for i, job in enumerate(problem.queue)}
        self._request = {job.id: problem.shape_of[job.id].request for job in problem.queue}
        self._lines: dict[int, list[types.Job]] = {}
        for job in problem.queue:
            self._lines.setdefault(self._request[job.id].leaf, []).append(job)
        self._kinds = {request.index: kinds_of(request, problem=problem) for request in problem.requests}
        self._at = dict.fromkeys(self._lines, 0)
        self._served: dict[str, tuple[int, str, int]] = {}
        self._usage = allowance.states[0].copy()
        # Only what is used wherever the jobs stand: those that can choose between kinds are left out.
        self._certain = allowance.copy()
        self._shares: dict[int, float] = {}
        self._offers: dict[int, _Offer | None] = {}
        for leaf in self._lines:
            self._refresh(leaf)

    def head(self) -> types.Job | None:
        """See ``Turns``."""
        best = self._best(self._quotas.roots)
        return None if best is None else best.job

    def serve(self, job: types.Job, spot: greedy.Spot | None) -> None:
        """See ``Turns``."""
        self._leave(job)
        if spot is not None:
            self._count(job, product=spot.product, pods=spot.num_pods)
        self._refresh(self._request[job.id].leaf)

    def _leave(self, job: types.Job) -> None:
        leaf = self._request[job.id].leaf
        self._at[leaf] = self._lines[leaf].index(job, self._at[leaf]) + 1

    def _count(self, job: types.Job, *, product: str, pods: int) -> None:
        request = self._request[job.id]
        leaf, amount = request.leaf, pods * request.vector[0]
        kind = self._quotas.kind(leaf, product)
        self._served[job.id] = (leaf, kind, amount)
        self._usage.add(leaf, kind, amount, jobs=1)
        kinds = self._kinds[request.index]
        sure = request.num_pods * request.vector[0] if len(kinds) < 2 else 0
        self._certain.add(leaf, kind, sure, jobs=1, bound=request.bound)

    def ahead(
        self, *, most: int, refused: Collection[int], problem: Problem, spare: Spare | None = None
    ) -> list[types.Job]:
        """See ``Turns``; who would have no quota by then is left out, too."""
        left = None if spare is None else spare.copy()
        twin = copy.copy(self)
        twin._at, twin._served = dict(self._at), {}
        twin._shares, twin._offers = dict(self._shares), dict(self._offers)
        twin._usage, twin._certain = self._usage.copy(), self._certain.copy()
        found: list[types.Job] = []
        while len(found) < most and (job := twin.head()) is not None:
            request = self._request[job.id]
            is_out = request.index in refused or twin.refuses(job)
            if is_out or not (left is None or left.take(request.charges, request.num_pods)):
                twin.serve(job, None)
                continue
            kinds = self._kinds[request.index]
            amount = request.num_pods * request.vector[0]
            fitting = [kind for kind in kinds if twin._usage.fits(request.leaf, kind, amount)]
            twin.serve(job, greedy.Spot((fitting or kinds or ("",))[0], [(0, request.num_pods)]))
            found.append(job)
        return found

    def rest(self) -> Sequence[types.Job]:
        """See ``Turns``."""
        left = [job for leaf, line in self._lines.items() for job in line[self._at[leaf] :]]
        return sorted(left, key=lambda job: self._rank[job.id])

    def recount(self, spots: Mapping[str, greedy.Spot]) -> None:
        """See ``Turns``."""
        touched = set()
        for job_id, (leaf, kind, amount) in self._served.items():
            now = self._quotas.kind(leaf, spots[job_id].product)
            if now != kind:
                self._usage.add(leaf, kind, -amount)
                self._usage.add(leaf, now, amount)
                self._served[job_id] = (leaf, now, amount)
                touched.add(leaf)
        for leaf in touched:
            self._refresh(leaf)

    def refuses(self, job: types.Job) -> bool:
        """See ``Turns``."""
        request = self._request[job.id]
        if self._certain.is_full(request.leaf, bound=request.bound):
            return True
        amount = request.num_pods * request.vector[0]
        kinds = self._kinds[request.index]
        if not amount or not kinds:
            return False
        return not any(self._certain.fits(request.leaf, kind, amount, bound=request.bound) for kind in kinds)

    def _refresh(self, leaf: int) -> None:
        """Choose anew at every level above a leaf in which something has changed."""
        line, at = self._lines[leaf], self._at[leaf]
        for branch in self._quotas.path(leaf):
            self._shares[branch.index] = self._quotas.share(branch.index, usage=self._usage)
            if branch.index == leaf:
                best = self._first(line[at]) if at < len(line) else None
            else:
                best = self._best(branch.children)
            self._offers[branch.index] = None if best is None else self._rise(best, branch=branch.index)

    def _first(self, job: types.Job) -> _Offer:
        request = self._request[job.id]
        amount = request.num_pods * request.vector[0]
        return _Offer(
            job, (not job.returning, False, 0.0, 0), tuple((kind, amount) for kind in self._kinds[request.index])
        )

    def _best(self, branches: Sequence[int]) -> _Offer | None:
        offers = [offer for branch in branches if (offer := self._offers.get(branch)) is not None]
        return min(offers, key=lambda offer: offer.key) if offers else None

    def _rise(self, offer: _Offer, *, branch: int) -> _Offer:
        """The offer as the parent sees it: what would reach the parent, and how it stands against its siblings."""
        here = self._quotas.branches[branch]
        adds = []
        borrows = bool(offer.adds)
        for kind, amount in offer.adds:
            used = self._usage.used.get((branch, kind), 0)
            if used + amount <= here.owned.get(kind, 0) or not amount:
                borrows = False
            kept = here.kept.get(kind, 0)
            adds.append((kind, max(used + amount - kept, 0) - max(used - kept, 0)))
        key = (not offer.job.returning, borrows, self._shares[branch], self._rank[offer.job.id])
        return _Offer(offer.job, key, tuple(adds))


def kinds_of(request: Request, *, problem: Problem) -> tuple[str, ...]:
    """What the request may count as, its best product first; nothing where it takes no accelerators."""
    if problem.quotas is None or not request.vector[0]:
        return ()
    products = [product for product, _ in greedy.cells_by_option(request, problem=problem)]
    return tuple(dict.fromkeys(problem.quotas.kind(request.leaf, product) for product in products))


@dataclass(frozen=True, slots=True)
class Band:
    """Jobs that are admitted together, before anything else is decided about them: one priority, or all queues."""

    name: str
    jobs: tuple[types.Job, ...]
    priorities: tuple[int, ...]


def bands(problem: Problem) -> list[Band]:
    """Without queues who returns, then each priority by itself, the highest first; with queues everybody."""
    priorities = sorted({job.priority for job in problem.queue}, reverse=True)
    if problem.quotas is not None:
        return [Band("admit in fair order", problem.queue, tuple(priorities))]
    found: dict[int, list[types.Job]] = {one: [] for one in priorities}
    for job in problem.queue:
        if not job.returning:
            found[job.priority].append(job)
    returning = tuple(job for job in problem.queue if job.returning)
    first = [Band("admit who returns", returning, ())] if returning else []
    return [*first, *(Band(f"admit at priority {one}", tuple(found[one]), (one,)) for one in priorities)]


def turns(problem: Problem, jobs: Sequence[types.Job]) -> Turns:
    """The turns of a band's jobs, nobody served yet."""
    if problem.quotas is None or problem.allowance is None:
        return Turns(jobs)
    return FairTurns(problem, problem.quotas, problem.allowance)


def in_turn(problem: Problem, *, spots: Mapping[str, greedy.Spot]) -> Problem:
    """The problem with its queue in the order in which jobs had their turns, given who started where."""
    if problem.quotas is None:
        return problem
    line = turns(problem, problem.queue)
    served = []
    while (job := line.head()) is not None:
        served.append(job)
        line.serve(job, spots.get(job.id))
    return replace(problem, queue=tuple(served))
