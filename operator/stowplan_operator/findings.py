"""What one cycle has found out about a job, of which its status is derived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stowplan_allocator.advising import Advice
from stowplan_allocator.types import Certificate, Waiting
from stowplan_operator import answered, deadlines, estimates, progress


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a job in this cycle, beside its own status and pods."""

    now_seconds: float
    accelerators: int
    waiting: Waiting | None = None
    # Its place in the line of its queue, 1 for the first.
    position: int | None = None
    certificate: Certificate | None = None
    misconfigured: str = ""
    # The Queue that is to be corrected, where that is what is misconfigured.
    queue_to_mend: str = ""
    cleaning_up: bool = False
    pace: progress.Pace | None = None
    progress: progress.Progress | None = None
    progress_seconds: float = 10.0
    progress_error: str = ""
    grace_seconds: int | None = None
    eta: str = ""
    estimate: estimates.Estimate | None = None
    goal: deadlines.Goal = deadlines.NONE
    advice: Advice | None = None
    # The answer for which the alternatives of ``advice`` were found.
    advised_on: answered.Answer | None = None
    telemetry_stale: str | None = None
    problem: str = ""
    queue: str = ""
    # Whether a job, as blockers name it, runs or waits; and how many wait.
    is_there: Callable[[str], bool] = lambda name: True
    num_waiting: int = 0
