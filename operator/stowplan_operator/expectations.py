"""What is expected of jobs, put into snapshots: how long they still run, what they have had, whose room is kept. Pure.

The planner plans anew where a snapshot differs by more than the time of day. What must stay true: ends are coarse, and
compared as moments, so that nothing but a new end makes a new plan; a plan is told of them only where it depends on
them; the questions beside the plan are told the very same ends of what runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from stowplan_allocator import problem, types
from stowplan_allocator.advising import Advice
from stowplan_operator import estimates, views
from stowplan_operator.estimates import Estimate

# What moves with the clock or the pace is rounded up, by a minute or at most so much of the time until then.
_GRAIN_SECONDS = 60
_COARSENESS = 1 / 16
# An end that falls on a whole second is not rounded to the next by what floating point loses.
_SLACK_SECONDS = 0.25


def complete(
    snapshot: types.Snapshot,
    jobs: Iterable[views.JobView],
    *,
    expected: Mapping[str, Estimate],
    advice: Mapping[str, Advice],
    with_ends: bool,
    with_spread: bool = False,
) -> types.Snapshot:
    """The snapshot with the room that ``advice`` keeps, with what its jobs have had, and with their expected seconds.

    The latter where they are asked for. Else, where room is kept, a plan depends on who will stand there by then:
    whoever waits is told at its longest, and of what runs only those that stand there now. ``with_spread`` tells how
    run times are spread, which moves with the clock, and is for questions.
    """
    reservations = holding(advice, snapshot)
    kept = {share.node for one in reservations for share in one.placement.shares}
    only_kept, with_ends = not with_ends, with_ends or bool(reservations)
    views_by_uid = {job.uid: job for job in jobs}

    def told(job: types.Job) -> types.Job:
        view = views_by_uid.get(job.id)
        if view is None:  # a gang that leaves is gone long before anything else ends
            return dataclasses.replace(job, expected_seconds=0) if with_ends and job.leaving else job
        had = problem.attained_level(_attained(job, view, now_seconds=snapshot.now_seconds))
        seconds = job.expected_seconds
        if with_ends and job.id in expected:
            estimate, place = expected[job.id], job.placement
            if only_kept and place is None:
                estimate = _at_longest(estimate)
            if not only_kept or place is None or any(share.node in kept for share in place.shares):
                seconds = _rounded(estimate, view, placed=place is not None, now=snapshot.now_seconds)
            if with_spread:
                job = dataclasses.replace(job, rest_quantiles=estimate.spread)
        if (had, seconds) == (job.attained_accelerator_seconds, job.expected_seconds):
            return job
        return dataclasses.replace(job, attained_accelerator_seconds=had, expected_seconds=seconds)

    return dataclasses.replace(
        snapshot,
        jobs=tuple(told(job) for job in snapshot.jobs),
        coming_back=tuple(told(job) for job in snapshot.coming_back),
        reservations=reservations,
    )


def of_new(job: types.Job, estimate: Estimate | None) -> types.Job:
    """A job that has never run as questions are told of it: what ``complete`` says of it once it is there."""
    if estimate is None:
        return job
    return dataclasses.replace(job, expected_seconds=_run_seconds(estimate), rest_quantiles=estimate.spread)


def longest(snapshot: types.Snapshot, *, expected: Mapping[str, Estimate]) -> dict[str, int]:
    """By job id the seconds that hardly a run like it exceeds, where that is more than expected."""
    return {
        job.id: most
        for job in snapshot.jobs
        if job.id in expected
        if (most := longest_of(expected[job.id])) > _run_seconds(expected[job.id])
    }


def longest_of(estimate: Estimate) -> int:
    """What plans count upon of a job that waits, where room is kept for another."""
    return _run_seconds(_at_longest(estimate))


def holding(advice: Mapping[str, Advice], snapshot: types.Snapshot) -> tuple[types.Reservation, ...]:
    """Of the room that was to be kept when last asked, what is for jobs that still wait and ask for as many pods."""
    kept = (advice[job.id].reservation for job in snapshot.jobs if job.placement is None and job.id in advice)
    sizes = {job.id: {job.num_pods, *job.allowed_num_pods} for job in snapshot.jobs}
    holds = (one for one in kept if one is not None and one.placement.num_pods in sizes[one.job_id])
    return tuple(sorted(holds, key=lambda one: one.job_id))


def timeless(snapshot: types.Snapshot) -> types.Snapshot:
    """The snapshot without its time of day, and with expected ends as moments: equal ones have the same plan."""
    now = snapshot.now_seconds
    return dataclasses.replace(
        snapshot,
        now_seconds=0,
        jobs=tuple(
            dataclasses.replace(job, expected_seconds=now + job.expected_seconds)
            if job.placement is not None and not job.leaving and job.expected_seconds is not None
            else job
            for job in snapshot.jobs
        ),
    )


def _attained(job: types.Job, view: views.JobView, *, now_seconds: float) -> int:
    """Accelerator-seconds of all attempts, the running one included."""
    placement = view.status.get("placement") or {}
    started = views.parse_time(placement.get("startedAt"))
    pods = job.placement.num_pods if job.placement is not None else 0
    running = max(0, int(now_seconds - started)) if started else 0
    return int(view.status.get("gpuSeconds", 0)) + running * job.pod.accelerators * pods


def _at_longest(estimate: Estimate) -> Estimate:
    return dataclasses.replace(estimate, seconds=estimate.most)


def _rounded(estimate: Estimate, view: views.JobView, *, placed: bool, now: int) -> int:
    """Seconds until the end, rounded up: of a placed job the end is, of others the run time."""
    if not placed:
        return _run_seconds(estimate)
    started = bool((view.status.get("placement") or {}).get("startedAt"))
    step = 1 if started and estimate.basis != estimates.PROGRESS else _step(estimate)
    return max(0, _up(now + estimate.seconds, step) - now)


def _run_seconds(estimate: Estimate) -> int:
    """How long a job that waits will run, rounded up."""
    return max(0, _up(estimate.seconds, _step(estimate)))


def _step(estimate: Estimate) -> int:
    step = _GRAIN_SECONDS
    while step * 2 <= estimate.seconds * _COARSENESS:
        step *= 2
    return step


def _up(seconds: float, step: int) -> int:
    return math.ceil((seconds - _SLACK_SECONDS) / step) * step
