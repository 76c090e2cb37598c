"""The gang of two pods that tables of cases begin with: placed, not yet started, and running."""

from __future__ import annotations

from fakes.builders import NOW, a_gang, a_job

PLACED = a_job("a").placed_on("n1", "n2", at=NOW)
RUNNING = PLACED.started(NOW)
FIRST, SECOND = a_gang(PLACED, "n1", "n2")
BOTH_RUN = (FIRST.running(), SECOND.running())
