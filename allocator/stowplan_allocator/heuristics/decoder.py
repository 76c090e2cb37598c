"""From an order of jobs to a placement: what the metaheuristics search over.

A genome lists every waiting job of the queue as a gene: what it asks for, and optionally the
product and domain to try first. Decoding serves the genes in turn, each by ``greedy.place``.
Equal jobs are served in queue order whatever the genome says, so a genome need not tell them
apart. What must stay true: every genome decodes to a feasible placement of whole gangs, the
same one each time; and a search ends after a fixed number of decodings, so that only the time
limit can make two of them differ, which the note then says.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import fairness, greedy, sizes, strategies, types
from stowplan_allocator.heuristics import ruler
from stowplan_allocator.problem import Problem, Request


@dataclass(frozen=True, slots=True)
class Gene:
    """One job of a request, and what it tries first."""

    request: int
    choice: greedy.Choice | None = None


Genome = tuple[Gene, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A genome, its placement and how good that is."""

    genome: Genome
    spots: dict[str, greedy.Spot]
    score: ruler.Score


class Decoder:
    """Decodes genomes of one problem, up to a number of times and to a deadline; keeps the best."""

    def __init__(self, problem: Problem, *, deadline: float, evaluations: int) -> None:
        self.problem = problem
        self.ruler = ruler.Ruler(problem)
        self.evaluations = evaluations
        self.done = 0
        self.best: Candidate | None = None
        self._deadline = deadline
        self._jobs: dict[int, list[types.Job]] = defaultdict(list)
        for job in problem.queue:
            self._jobs[problem.shape_of[job.id].request.index].append(job)
        self._quotas = _quotas(problem)
        self.choices = [_choices(request, problem=problem) for request in problem.requests]

    def finished(self) -> bool:
        """Whether nothing more may be decoded."""
        return self.done >= self.evaluations or (self.best is not None and time.monotonic() >= self._deadline)

    def evaluate(self, genome: Genome) -> Candidate:
        """Decode and score; of equally good candidates the first stays the best."""
        self.done += 1
        spots = self.decode(genome)
        found = Candidate(genome, spots, self.ruler.score(spots))
        if self.best is None or found.score > self.best.score:
            self.best = found
        return found

    def decode(self, genome: Genome) -> dict[str, greedy.Spot]:
        """Serve the genes in turn; what finds no place is left out, and with it all equal jobs behind it.

        Elastic jobs grow before a lower priority is served, in the order in which they were served.
        """
        stock = self.ruler.rooms.copy()
        following = {request: iter(jobs) for request, jobs in self._jobs.items()}
        spots: dict[str, greedy.Spot] = {}
        refused: set[int] = set()
        left: Sequence[Gene] = genome
        admitted: list[types.Job] = []
        for quota, priorities in self._quotas:
            missing = dict(quota)
            for gene in left:
                if not missing.get(gene.request):
                    continue
                missing[gene.request] -= 1
                job = next(following[gene.request])
                if gene.request in refused:
                    continue
                request = self.problem.requests[gene.request]
                spot = greedy.place(request, problem=self.problem, stock=stock, first=gene.choice)
                if spot is None:
                    refused.add(gene.request)
                else:
                    spots[job.id] = spot
                    admitted.append(job)
            if len(self._quotas) > 1:
                left = _without(left, quota=quota)
            grown = [job for job in admitted if job.priority in priorities]
            sizes.grow(self.problem, stock=stock, spots=spots, jobs=grown, beyond_preferred=False)
        sizes.grow(self.problem, stock=stock, spots=spots, jobs=self.problem.queue, beyond_preferred=True)
        return spots

    def by_queue(self) -> Genome:
        """The genome of the greedy strategy."""
        return tuple(Gene(self.problem.shape_of[job.id].request.index) for job in self.problem.queue)

    def hard_first(self, candidate: Candidate) -> Genome:
        """What the candidate places, what is hard to place first; then the others in queue order."""
        placed: list[Request] = []
        others: list[Request] = []
        for job in self.problem.queue:
            request = self.problem.shape_of[job.id].request
            (placed if job.id in candidate.spots else others).append(request)
        placed.sort(key=self._hardness, reverse=True)
        return tuple(Gene(request.index) for request in [*placed, *others])

    def _hardness(self, request: Request) -> tuple[float, bool, int, int]:
        _, block = greedy.block_of(request, num_levels=len(self.problem.levels))
        shares = (need / most for need, most in zip(block, self.problem.largest, strict=True) if need and most)
        return max(shares, default=0.0), request.required, request.num_pods, -request.index

    def neighbour(self, candidate: Candidate, *, rng: random.Random) -> Genome:
        """One small change: a job that waits goes ahead, two change places, or one tries something else first."""
        genome = list(candidate.genome)
        waiting = self._first_waiting(candidate)
        kind = rng.random()
        if waiting is not None and kind < 0.4:
            genome.insert(rng.randrange(waiting + 1), genome.pop(waiting))
        elif kind < 0.7:
            i, j = rng.randrange(len(genome)), rng.randrange(len(genome))
            genome[i], genome[j] = genome[j], genome[i]
        else:
            i = rng.randrange(len(genome))
            genome[i] = replace(genome[i], choice=rng.choice(self.choices[genome[i].request]))
        return tuple(genome)

    def _first_waiting(self, candidate: Candidate) -> int | None:
        """Where the genome has the job that waits although it stands first in the queue."""
        for job in self.problem.queue:
            if job.id not in candidate.spots:
                request = self.problem.shape_of[job.id].request.index
                before = sum(job.id in candidate.spots for job in self._jobs[request])
                places = [i for i, gene in enumerate(candidate.genome) if gene.request == request]
                return places[before]
        return None


def _quotas(problem: Problem) -> list[tuple[dict[int, int], tuple[int, ...]]]:
    """How many genes of each request are served before these priorities grow: all, or one band after the other."""
    bands = fairness.bands(problem)
    if not any(request.sizes for request in problem.requests):
        bands = [fairness.Band("", problem.queue, ())]
    found = []
    for band in bands:
        quota: dict[int, int] = {}
        for job in band.jobs:
            request = problem.shape_of[job.id].request.index
            quota[request] = quota.get(request, 0) + 1
        found.append((quota, band.priorities))
    return found


def _without(genes: Sequence[Gene], *, quota: Mapping[int, int]) -> list[Gene]:
    """The genes behind those that the quota takes."""
    missing = dict(quota)
    left = []
    for gene in genes:
        if missing.get(gene.request):
            missing[gene.request] -= 1
        else:
            left.append(gene)
    return left


def _choices(request: Request, *, problem: Problem) -> list[greedy.Choice | None]:
    """What a job of the request may try first: nothing special, a product, or a product and a widest domain of it."""
    found: list[greedy.Choice | None] = [None]
    for product, cells in greedy.cells_by_option(request, problem=problem):
        found.append((product, ()))
        if problem.levels:
            depth = request.level + 1 if request.level is not None and request.level < len(problem.levels) else 1
            paths = dict.fromkeys(cell.path[:depth] for cell in cells if cell.path[depth - 1] is not None)
            found += [(product, path) for path in paths]
    return found


Search = Callable[[Decoder, Sequence[Candidate], random.Random], None]


def solve(
    problem: Problem, *, settings: types.Settings, deadline: float, name: str, evaluations: int, search: Search
) -> strategies.Outcome:
    """Run a search from the two plain orders, unless these already meet every bound, and judge its best."""
    decoder = Decoder(problem, deadline=deadline, evaluations=evaluations)
    first = decoder.evaluate(decoder.by_queue())
    outcome = decoder.ruler.verdict(first.spots, settings=settings)
    if outcome.status is types.SolveStatus.OPTIMAL:
        return outcome
    second = decoder.evaluate(decoder.hard_first(first))
    search(decoder, (first, second), random.Random(settings.seed))  # noqa: S311 - a search, not a secret
    assert decoder.best is not None
    notes = [f"{name}: {decoder.done} of {evaluations} placements tried"]
    if decoder.done < evaluations:
        notes.append("the time limit ended the search, so another run may find another plan")
    return decoder.ruler.verdict(decoder.best.spots, settings=settings, notes=notes)
