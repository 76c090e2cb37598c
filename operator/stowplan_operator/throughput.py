"""How fast an elastic job is at each size, fitted to what its attempts reported. Pure.

The time of a step at n pods is

    T(n) = a + b / n + c · n        a, b, c ≥ 0

a: what every pod does whole, b: the work that is shared out, c: what each further pod adds to communication. This is
the throughput of Pollux (OSDI'21, section 3.2) where the global batch stays the same, as ``stowplan_trainer`` keeps it:
then steps per second are goodput, and no size needs more of them. a, b and c are those with the least squared relative
error, c only from three sizes on, or where more pods were slower. Of fewer than two sizes nothing can be fitted: then
Amdahl's law holds: of a step at the measured size, or the preferred one, ``SERIAL_SHARE`` is not shared out.

What must stay true: twice the pods are never expected to be more than twice as fast; equal statuses give equal curves,
so a measurement that is hardly new changes nothing: see ``noted``.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from stowplan_operator import elastic, progress, views

Json = dict[str, Any]

SERIAL_SHARE = Fraction(1, 20)
# Sizes whose pace is kept; the longest unmeasured goes first.
MOST_KEPT = 16
# An attempt's pace counts once it was measured for so long, over so many steps.
_STEADY_SECONDS = 60
_STEADY_STEPS = 10
# By so much a size must have become faster or slower before that is written down.
_TOLERANCE = 0.1
# Fields of the spec that decide how fast a job is; what was measured with others says nothing.
_PROGRAM = ("image", "command", "args", "env", "resourcesPerNode", "numProcPerNode")


def noted(job: views.JobView, status: Mapping[str, Any], pace: progress.Pace | None) -> Json | None:
    """``status.elastic`` with the pace of the running attempt in it, where that is known and new.

    None for a job that never was elastic. ``status`` is the one that is about to be written.
    """
    old: Mapping[str, Any] = status.get("elastic") or {}
    if not job.spec.get("elastic"):
        return dict(old) or None
    placement = status.get("placement") or {}
    if pace is None or not placement.get("startedAt") or pace.seconds < _STEADY_SECONDS or pace.steps < _STEADY_STEPS:
        return dict(old) or None
    program, size, product = _program(job), elastic.placed_pods(status), placement.get("product", "")
    observed = list(old.get("observed") or ()) if old.get("program") == program else []
    before = [one for one in observed if (one["nodes"], one.get("product", "")) == (size, product)]
    rate = pace.steps / pace.seconds
    if before and abs(rate - float(before[0]["stepsPerSecond"])) <= _TOLERANCE * rate:
        return dict(old)
    entry = {"nodes": size, "stepsPerSecond": f"{rate:.4g}", **({"product": product} if product else {})}
    kept = [one for one in observed if one not in before]
    return {**old, "program": program, "observed": [*kept, entry][-MOST_KEPT:]}


def goodput_milli(job: views.JobView, sizes: tuple[int, ...], *, preferred: int) -> tuple[tuple[int, int], ...]:
    """(size, steps per second there in thousandths of those at the preferred size), for an elastic job."""
    return _relative(_pairs(job), sizes, preferred)


@functools.lru_cache(maxsize=10_000)  # asked for every elastic job in every cycle
def _relative(
    points: tuple[tuple[int, Fraction], ...], sizes: tuple[int, ...], preferred: int
) -> tuple[tuple[int, int], ...]:
    curve = fit(points, preferred=preferred)
    at_preferred = curve(preferred)
    return tuple((size, max(1, round(1000 * at_preferred / curve(size)))) for size in sizes)


def _pairs(job: views.JobView) -> tuple[tuple[int, Fraction], ...]:
    """(pods, seconds per step), as measured on the product that the job had last."""
    known: Mapping[str, Any] = job.status.get("elastic") or {}
    observed = known.get("observed") or ()
    if not observed or known.get("program") != _program(job):
        return ()
    product = observed[-1].get("product", "")
    return tuple(
        (one["nodes"], 1 / Fraction(one["stepsPerSecond"])) for one in observed if one.get("product", "") == product
    )


def _program(job: views.JobView) -> str:
    said = json.dumps([job.spec.get(name) for name in _PROGRAM], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


class Curve:
    """Seconds per step at n pods."""

    def __init__(self, a: Fraction, b: Fraction, c: Fraction = Fraction(0)) -> None:
        self.parts = (a, b, c)

    def __call__(self, pods: int) -> Fraction:
        """T(pods)."""
        return sum((part * term for part, term in zip(self.parts, _terms(pods), strict=True)), Fraction(0))


def _terms(pods: int) -> tuple[Fraction, Fraction, Fraction]:
    return Fraction(1), Fraction(1, pods), Fraction(pods)


def fit(pairs: Iterable[tuple[int, Fraction]], *, preferred: int) -> Curve:
    """The curve with the least squared relative error to (pods, seconds per step), one pair for each number of pods.

    Non-negative least squares of three unknowns by their eight sets of zeros: the best set whose solution is
    non-negative. Of equally good ones the first counts, so c is left out where it is not needed.
    """
    points = {pods: seconds for pods, seconds in pairs if seconds > 0} or {preferred: Fraction(1)}
    if len(points) == 1:
        ((pods, seconds),) = points.items()
        return Curve(SERIAL_SHARE * seconds, (1 - SERIAL_SHARE) * seconds * pods)
    # Each row over its measured time, so that the right side is 1 and errors are relative.
    rows = [tuple(term / seconds for term in _terms(pods)) for pods, seconds in points.items()]
    subsets = [(0, 1), (1,), (0,), (1, 2), (0, 2), (2,)] + ([(0, 1, 2)] if len(points) > 2 else [])
    best, least = Curve(Fraction(0), Fraction(0)), None
    for subset in subsets:
        solved = _solve([[row[i] for i in subset] for row in rows])
        if solved is None or min(solved) < 0:
            continue
        parts = [Fraction(0)] * 3
        for i, part in zip(subset, solved, strict=True):
            parts[i] = part
        error = sum((1 - sum(part * one for part, one in zip(parts, row, strict=True))) ** 2 for row in rows)
        if least is None or error < least:
            best, least = Curve(*parts), error
    return best


def _solve(rows: Sequence[Sequence[Fraction]]) -> list[Fraction] | None:
    """Least squares of rows · x = 1 by the normal equations, exactly; None where they do not decide x."""
    width = len(rows[0])
    matrix = [
        [sum((row[i] * row[j] for row in rows), Fraction(0)) for j in range(width)]
        + [sum((row[i] for row in rows), Fraction(0))]
        for i in range(width)
    ]
    for i in range(width):
        pivot = next((k for k in range(i, width) if matrix[k][i]), None)
        if pivot is None:
            return None
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        matrix[i] = [value / matrix[i][i] for value in matrix[i]]
        for k in range(width):
            if k != i and matrix[k][i]:
                matrix[k] = [value - matrix[k][i] * above for value, above in zip(matrix[k], matrix[i], strict=True)]
    return [row[-1] for row in matrix]
