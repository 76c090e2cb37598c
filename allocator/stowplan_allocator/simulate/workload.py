"""What is submitted to a simulated cluster: a job as its user describes it, and what it really needs.

The planner sees ``Submission.job`` alone. What must stay true: the true duration never
reaches the planner, unless the one who made the submission wrote it into
``job.expected_seconds``, as clairvoyant policies do.
"""

from __future__ import annotations

from dataclasses import dataclass

from stowplan_allocator import types


@dataclass(frozen=True, slots=True)
class Submission:
    """A job, when it comes, and how long it really runs at its full size on its best product.

    ``fails`` says that it ends as failed then; it still holds its accelerators until then. A job that
    comes with a ``placement`` runs there from its first moment on: it is part of what was there before.
    """

    job: types.Job
    submitted_seconds: int
    duration_seconds: int
    fails: bool = False
    placement: types.Placement | None = None


def check(submissions: tuple[Submission, ...]) -> None:
    """Raise ValueError for a workload that cannot be simulated."""
    seen: set[str] = set()
    for submission in submissions:
        job = submission.job
        if job.id in seen:
            raise ValueError(f'job id "{job.id}" is submitted twice; every id must be unique')
        seen.add(job.id)
        if submission.duration_seconds < 0:
            raise ValueError(f'job "{job.id}" runs {submission.duration_seconds} s; it must be zero or more')
        if job.placement is not None:
            raise ValueError(f'job "{job.id}" has a placement of its own; write it into the submission')


def expected_left(estimate: int | None, *, worked_seconds: int) -> int | None:
    """What an estimate of the whole run says about the rest of it.

    A job that outlived its estimate has shown only that the estimate was wrong: it is
    expected to take as long again as it has taken.
    """
    if estimate is None:
        return None
    return estimate - worked_seconds if worked_seconds < estimate else max(worked_seconds, 1)
