"""How much of the matrix runs: all of it, or a sample that is the same each time."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence

RUNS_ALL = os.environ.get("STOWPLAN_FAULTS") == "all"


def points(num_points: int, *, of: str, every: int) -> range:
    """The points 1 to ``num_points`` that run; of a sample every so many-th, from a start that depends on ``of``."""
    if RUNS_ALL:
        return range(1, num_points + 1)
    first = 1 + zlib.crc32(of.encode()) % every
    return range(min(first, num_points), num_points + 1, every)


def some[T](cases: Sequence[T], *, every: int, start: int) -> Sequence[T]:
    """The cases that run; of a sample every so many-th."""
    return cases if RUNS_ALL else cases[start::every]
