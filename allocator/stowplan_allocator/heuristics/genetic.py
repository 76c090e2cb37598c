"""A genetic algorithm over the order in which jobs are placed.

A small population of genomes; parents are chosen by tournaments of two, a child takes a
stretch of one parent and the order of the rest from the other, and is then changed a little.
The best of parents and children live on. What must stay true: see ``decoder``; a child holds
exactly the jobs that its parents hold.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from stowplan_allocator import strategies, types
from stowplan_allocator.heuristics import decoder
from stowplan_allocator.heuristics.decoder import Candidate, Decoder, Genome
from stowplan_allocator.problem import Problem

EVALUATIONS = 400
POPULATION = 16


def solve(problem: Problem, *, settings: types.Settings, deadline: float) -> strategies.Outcome:
    """Breed from the plain orders and their neighbours."""
    return decoder.solve(
        problem, settings=settings, deadline=deadline, name="genetic", evaluations=EVALUATIONS, search=breed
    )


def breed(decode: Decoder, starts: Sequence[Candidate], rng: random.Random) -> None:
    """One generation after the other until the decoder may decode no more."""
    population = list(starts)
    while len(population) < POPULATION and not decode.finished():
        population.append(decode.evaluate(decode.neighbour(rng.choice(starts), rng=rng)))
    while not decode.finished():
        children: list[Candidate] = []
        while len(children) < POPULATION and not decode.finished():
            mother, father = (_tournament(population, rng=rng) for _ in range(2))
            child = decode.evaluate(cross(mother.genome, father.genome, rng=rng))
            children.append(child)
            if not decode.finished():
                children.append(decode.evaluate(decode.neighbour(child, rng=rng)))
        population = sorted([*population, *children], key=lambda candidate: candidate.score, reverse=True)[:POPULATION]


def _tournament(population: Sequence[Candidate], *, rng: random.Random) -> Candidate:
    one, other = rng.choice(population), rng.choice(population)
    return one if one.score >= other.score else other


def cross(mother: Genome, father: Genome, *, rng: random.Random) -> Genome:
    """A stretch of the mother where it stands, around it the rest in the father's order."""
    start, end = sorted(rng.randrange(len(mother) + 1) for _ in range(2))
    missing = Counter(gene.request for gene in mother)
    missing.subtract(gene.request for gene in mother[start:end])
    rest = []
    for gene in father:
        if missing[gene.request]:
            missing[gene.request] -= 1
            rest.append(gene)
    return (*rest[:start], *mother[start:end], *rest[start:])
