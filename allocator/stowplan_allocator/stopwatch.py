"""Where a plan's time goes, by name.

What must stay true: it only measures; nothing that is decided may look at it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Seconds of wall time by phase; a phase entered again goes on counting."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the body under the name."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - started

    def phases(self) -> tuple[tuple[str, float], ...]:
        """The phases in the order in which they first ended."""
        return tuple(self._seconds.items())
