"""How long a start of a job takes: from the placement of an attempt to its first new step. Pure.

Pods are created at once when an attempt is placed, so this is what a planned restart costs beside the work since the
last checkpoint: image, rendezvous, loading, first step. It is measured once per attempt, from the first two readings
of rank 0 that differ, and the last measurement is what counts. What must stay true: an attempt whose beginning nobody
watched is not measured, or the time since then would be taken for a start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stowplan_operator import progress, steps, views

# So much of the time until the first reading may be steps that were made before it.
_UNSEEN_SECONDS = 60


def measured(status: Mapping[str, Any], last: progress.Progress | None, pace: progress.Pace | None) -> int | None:
    """Seconds that the placed attempt took to start; None where it is measured already, not yet, or never will be.

    ``pace`` is what was done from the first reading of the attempt that this process made to the ``last``.
    """
    said, last = steps.told(status), steps.current(status, last)
    if last is None or last.step is None or pace is None or "startSeconds" in said:
        return None
    first_step, first_at = last.step - pace.steps, last.read_at_seconds - pace.seconds
    if said.get("firstStep") != first_step:
        return None
    unseen = max(0, first_step - _resumed_at(status, first_step) - 1) * pace.seconds / pace.steps
    seconds = first_at - unseen - views.parse_time(status["placement"].get("plannedAt"))
    return int(seconds) if unseen <= _UNSEEN_SECONDS and seconds >= 0 else None


def _resumed_at(status: Mapping[str, Any], step: int) -> int:
    """The step that the attempt began after: that of the last checkpoint before it, as far as it is known."""
    history = status.get("history") or ()
    known = (status["progress"].get("checkpointStep"), history[-1].get("lastStep") if history else None)
    return max((one for one in known if one is not None and one <= step), default=0)
