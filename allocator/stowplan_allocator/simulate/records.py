"""What a simulated run leaves behind: every run of every job, samples of the cluster, and totals.

Reports, loaders and tests read these and nothing of the engine. What must stay true: all
times are whole seconds on the clock of the submissions; a job's runs are in order and do
not overlap; and nothing here is derived twice, so that two figures cannot disagree.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from stowplan_allocator import types


class Outcome(enum.StrEnum):
    """How a run of a job ended. ``UNFINISHED`` is a run that the end of the simulation cut."""

    COMPLETED = "completed"
    FAILED = "failed"
    PREEMPTED = "preempted"
    NODE_LOST = "node-lost"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Run:
    """One stretch of a job on its accelerators."""

    start_seconds: int
    end_seconds: int
    placement: types.Placement
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The life of one job. ``lost_seconds`` of its runs were restarts, or work done again after a lost node.

    The reasons are the first and the last that a plan gave for its waiting; None for a job
    that never waited. Where decisions come from a living stock, plans are asked for reasons at
    samples only, so a job that waited between two samples has none.
    """

    job: types.Job
    submitted_seconds: int
    runs: tuple[Run, ...] = ()
    lost_seconds: int = 0
    first_reason: types.Waiting | None = None
    last_reason: types.Waiting | None = None

    @property
    def started_seconds(self) -> int | None:
        """When it first ran; None for a job that never did."""
        return self.runs[0].start_seconds if self.runs else None

    @property
    def ended_seconds(self) -> int | None:
        """When it completed or failed; None while it has not."""
        if self.runs and self.runs[-1].outcome in (Outcome.COMPLETED, Outcome.FAILED):
            return self.runs[-1].end_seconds
        return None

    @property
    def run_seconds(self) -> int:
        """Time on accelerators, restarts and repeated work included."""
        return sum(run.end_seconds - run.start_seconds for run in self.runs)

    @property
    def completion_seconds(self) -> int | None:
        """From submission to its end; None while it has not ended."""
        return None if self.ended_seconds is None else self.ended_seconds - self.submitted_seconds

    @property
    def queue_seconds(self) -> int | None:
        """The part of ``completion_seconds`` in which it had no accelerators."""
        return None if self.completion_seconds is None else self.completion_seconds - self.run_seconds


@dataclass(frozen=True, slots=True)
class Sample:
    """The cluster at one moment, after everything that happened until then.

    ``accelerators_total`` is of all nodes, ``broken`` of those that are down or unhealthy;
    total = used + free + broken. ``fragmented_share`` is the share of what is free that a
    pod drawn from the workload could not use because its node has too little (weighted by
    the pods of each size); 0 where nothing is free. ``reasons`` counts waiting jobs by
    reason, where the run asked for reasons.
    """

    time_seconds: int
    accelerators_total: int
    accelerators_used: int
    accelerators_free: int
    accelerators_broken: int
    jobs_running: int
    jobs_waiting: int
    accelerators_waiting: int
    fragmented_share: float
    reasons: tuple[tuple[types.Reason, int], ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """A whole simulation. Jobs are in the order of their submission; ``plan_seconds`` is processor time."""

    nodes: tuple[types.Node, ...]
    jobs: tuple[JobRecord, ...]
    samples: tuple[Sample, ...]
    num_events: int
    num_plans: int
    plan_seconds: float
    started_at_seconds: int
    ended_at_seconds: int
