"""Simulated annealing over the order in which jobs are placed.

One genome is changed a little at a time. What is better is kept; what is worse is kept with a
probability that falls with the loss and with the cooling. A loss is felt where the scores
first differ: the further ahead in the queue the job that loses its start, the more it hurts,
and most of all with a high temperature gone. What must stay true: see ``decoder``; the best
placement seen is returned, wherever the walk ends.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from stowplan_allocator import strategies, types
from stowplan_allocator.heuristics import decoder
from stowplan_allocator.heuristics.ruler import Score
from stowplan_allocator.problem import Problem

EVALUATIONS = 400
HOT, COLD = 0.3, 0.005


def solve(problem: Problem, *, settings: types.Settings, deadline: float) -> strategies.Outcome:
    """Anneal from the better of the two plain orders."""
    return decoder.solve(
        problem, settings=settings, deadline=deadline, name="annealing", evaluations=EVALUATIONS, search=walk
    )


def walk(decode: decoder.Decoder, starts: Sequence[decoder.Candidate], rng: random.Random) -> None:
    """Walk from the best start until the decoder may decode no more."""
    here = max(starts, key=lambda candidate: candidate.score)
    while not decode.finished():
        heat = HOT * (COLD / HOT) ** (decode.done / decode.evaluations)
        step = decode.evaluate(decode.neighbour(here, rng=rng))
        if step.score >= here.score or rng.random() < math.exp(-loss(here.score, step.score) / heat):
            here = step


def loss(better: Score, worse: Score) -> float:
    """From 0 to 1: how much is lost at the first value that differs, the earlier the more."""
    position = next(i for i, (old, new) in enumerate(zip(better, worse, strict=True)) if old != new)
    old, new = better[position], worse[position]
    relative = (old - new) / max(abs(old), abs(new), 1)
    return min(relative, 1.0) * (1 - position / len(better))
