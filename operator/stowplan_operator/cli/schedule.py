"""What will run when: running jobs until their expected ends, waiting ones from their predicted starts. Pure.

The predictions are the allocator's forecast: the same planning, replayed over the expected ends. What must stay true:
an end or a start that nobody knows is shown as unknown, never as a date.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stowplan_allocator import forecast, types
from stowplan_operator import observation

FORECAST_SECONDS = 10.0
LEAST_HORIZON_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Span:
    """A job's time on its place; ``starts_in`` 0 is now, ``ends_in`` is None where its end is not known."""

    job: types.Job
    starts_in: int
    ends_in: int | None
    placement: types.Placement
    basis: str
    waits_for: tuple[str, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether it runs already."""
        return self.job.placement is not None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A waiting job without a predicted start, and why there is none."""

    job: types.Job
    basis: str
    waits_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Spans, running ones first and then by start; jobs without one; and how far the chart goes, in seconds."""

    spans: tuple[Span, ...]
    unknown: tuple[Unknown, ...]
    horizon: int


def of(seen: observation.Observation) -> Schedule:
    """The schedule of an observation, if nothing new arrives."""
    snapshot = seen.snapshot
    spans = [
        Span(job, 0, None if job.expected_seconds is None else max(0, job.expected_seconds), job.placement, "runs")
        for job in snapshot.jobs
        if job.placement is not None
    ]
    spans.sort(key=lambda span: (math.inf if span.ends_in is None else span.ends_in, span.job.name))
    planned: list[Span] = []
    unknown: list[Unknown] = []
    if any(job.placement is None for job in snapshot.jobs):
        jobs = {job.id: job for job in snapshot.jobs}
        found = forecast.predict_starts(snapshot, settings=seen.settings, budget_seconds=FORECAST_SECONDS)
        for job_id, told in found.items():
            job = jobs[job_id]
            if told.starts_at_seconds is None or told.placement is None:
                unknown.append(Unknown(job, told.basis, told.waits_for))
                continue
            start = told.starts_at_seconds - snapshot.now_seconds
            end = None if job.expected_seconds is None else start + job.expected_seconds
            planned.append(Span(job, start, end, told.placement, told.basis, told.waits_for))
    planned.sort(key=lambda span: (span.starts_in, span.job.name))
    return Schedule((*spans, *planned), tuple(unknown), _horizon([*spans, *planned]))


def _horizon(spans: Sequence[Span]) -> int:
    """Until the last known moment, and a tenth more where something goes on after it."""
    known = max((moment for span in spans for moment in (span.starts_in, span.ends_in or 0)), default=0)
    if any(span.ends_in is None for span in spans):
        known = known + known // 10
    return max(known, LEAST_HORIZON_SECONDS)
