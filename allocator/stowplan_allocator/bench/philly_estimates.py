"""What users say about the run times of their jobs: a model of their errors, from the seed alone.

The error is a factor drawn from a log-normal distribution, and what comes out is rounded up to
one of few round values, as people do ("Modeling User Runtime Estimates", JSSPP 2005, found 20
values behind 90 % of all estimates). With sigma 1 half of the jobs are off by more than a factor
of two; predictors from history were off by that for 8 to 23 % of jobs ("3Sigma", EuroSys 2018).
What must stay true: an estimate depends on the job's number, its run time and the seed, and on
nothing that is known only later.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from stowplan_allocator.simulate import workload

MINUTE, HOUR, DAY = 60, 3600, 86_400
ROUND_VALUES = (
    *(5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR),
    *(DAY, 2 * DAY, 3 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 56 * DAY),
)


def as_users_say(
    submissions: Sequence[workload.Submission], *, sigma: float, seed: int
) -> tuple[workload.Submission, ...]:
    """The same jobs with the estimates of their users."""
    chance = random.Random(seed)  # noqa: S311 - a model of errors, not a secret
    return tuple(
        _expecting(submission, round_up(submission.duration_seconds * math.exp(sigma * chance.gauss(0, 1))))
        for submission in submissions
    )


def round_up(seconds: float) -> int:
    """The next round value; the largest one for all beyond it."""
    return next((value for value in ROUND_VALUES if value >= seconds), ROUND_VALUES[-1])


def _expecting(submission: workload.Submission, seconds: int) -> workload.Submission:
    return replace(submission, job=replace(submission.job, expected_seconds=seconds))
