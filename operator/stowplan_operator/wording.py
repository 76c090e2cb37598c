"""Words that messages for people share, whoever writes them. Pure.

What must stay true: a message stays short however large the cluster, and says how much it leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], *, most: int) -> str:
    """The first names, at most so many, and the number of the others: ``n1, n2 and 6 more``."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
