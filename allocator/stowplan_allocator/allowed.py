"""The sizes of an elastic job of which only bounds were given.

What must stay true: both bounds and the preferred size are among them, as far as slices make them up; a wide range is
thinned out, since every size costs the models variables, and neighbours of a large size gain next to nothing.
"""

from __future__ import annotations

MAX_SIZES = 32


def between(least: int, most: int, *, preferred: int, multiple: int = 1) -> tuple[int, ...]:
    """Ascending: the multiples of ``multiple`` from ``least`` to ``most``, and ``preferred``.

    Of more than ``MAX_SIZES`` the ends, the preferred one and others at even ratios between the ends.
    """
    first, last = -(-least // multiple), most // multiple
    if last - first < MAX_SIZES:
        found = set(range(first, last + 1))
    else:
        # The preferred size is one more.
        steps = MAX_SIZES - 2
        found = {round(first * (last / first) ** (step / steps)) for step in range(steps + 1)}
    return tuple(sorted({multiple * count for count in found} | {preferred}))
