"""Every rule of resizing, verified on the finished plan against the snapshot alone.

As ``checks``, this shares no code with what decides. What must stay true: a plan whose resizes lose more than they
say, take from whom they must not, or gain less than they cost, is never applied.
"""

from __future__ import annotations

from collections.abc import Iterator

from stowplan_allocator import quota_checks, types

# Whoever waits for one of these reasons could not use free room.
HOPELESS = (
    types.Reason.MISCONFIGURED,
    types.Reason.EXCEEDS_CLUSTER_CAPACITY,
    types.Reason.NO_MATCHING_ACCELERATOR,
    types.Reason.EXCEEDS_QUOTA,
    types.Reason.EXCEEDS_RESOURCE_QUOTA,
)


def find_breaches(plan: types.Plan, *, snapshot: types.Snapshot, settings: types.Settings) -> Iterator[str]:
    """Every breach in words, but for the room and the quotas of those who are resized."""
    snapshot = quota_checks.in_known_queues(snapshot)
    jobs = {job.id: job for job in snapshot.jobs}
    stopped = [one.job_id for one in plan.evictions] + [one.job_id for one in plan.moves]
    for resize in plan.resizes:
        what = f"resize of {resize.job_id} to {resize.num_pods}"
        if not settings.resize:
            yield f"{what}: the settings do not allow it"
        job, at = jobs.get(resize.job_id), resize.placement
        if job is None or job.placement is None:
            yield f"{what}: the job does not run"
            continue
        if stopped.count(job.id) or sum(one.job_id == job.id for one in plan.resizes) > 1:
            yield f"{what}: the job is stopped twice"
        if job.leaving or job.resize_cost is None:
            yield f"{what}: the job is leaving, or must not be resized"
        if at is None or at.num_pods != resize.num_pods or resize.num_pods not in job.allowed_num_pods:
            yield f"{what}: this is no size of the job, or it has no room for it"
            continue
        if resize.for_job:
            yield from _shrink(resize, job=job, at=at, plan=plan, snapshot=snapshot, settings=settings, what=what)
        else:
            yield from _growth(resize, job=job, plan=plan, snapshot=snapshot, settings=settings, what=what)


def _shrink(
    resize: types.Resize,
    *,
    job: types.Job,
    at: types.Placement,
    plan: types.Plan,
    snapshot: types.Snapshot,
    settings: types.Settings,
    what: str,
) -> Iterator[str]:
    assert job.placement is not None, "only running jobs are asked about"
    taker = next((one for one in snapshot.jobs if one.id == resize.for_job), None)
    one_line = not snapshot.queues or (taker is not None and taker.queue == job.queue)
    before = {share.node: share.num_pods for share in job.placement.shares}
    if at.product != job.placement.product or any(s.num_pods > before.get(s.node, 0) for s in at.shares):
        yield f"{what}: it keeps what it does not have"
    if resize.num_pods >= job.placement.num_pods:
        yield f"{what}: nothing is given up for {resize.for_job}"
    lost = max(_done(job, job.placement.num_pods, settings) - _done(job, resize.num_pods, settings), 0)
    if resize.cost != (job.resize_cost or 0) + lost:
        yield f"{what}: it costs {(job.resize_cost or 0) + lost}, not {resize.cost}"
    if taker is None or resize.for_job not in plan.held:
        yield f"{what}: no room is held for {resize.for_job}"
    elif not taker.preempts:
        yield f"{what}: {resize.for_job} may not take it"
    elif one_line and job.priority > taker.priority and resize.num_pods < job.num_pods:
        yield f"{what}: it is of higher priority and keeps its preferred size"


def _growth(
    resize: types.Resize,
    *,
    job: types.Job,
    plan: types.Plan,
    snapshot: types.Snapshot,
    settings: types.Settings,
    what: str,
) -> Iterator[str]:
    assert job.placement is not None, "only running jobs are asked about"
    gain = _done(job, resize.num_pods, settings) - _done(job, job.placement.num_pods, settings)
    if resize.placement is not None and resize.placement.product != job.placement.product:
        yield f"{what}: it goes to another product"
    if resize.num_pods <= job.placement.num_pods:
        yield f"{what}: it does not grow"
    if (resize.gain, resize.cost) != (gain, job.resize_cost) or gain <= resize.cost:
        yield f"{what}: it gains {gain} and costs {job.resize_cost}, not {resize.gain} and {resize.cost}"
    if any(waiting.reason not in HOPELESS for waiting in plan.waiting.values()):
        yield f"{what}: somebody waits"
    if any(one.leaving for one in snapshot.jobs):
        yield f"{what}: somebody is leaving"


def _done(job: types.Job, num_pods: int, settings: types.Settings) -> int:
    """What the job gets done over the horizon, in accelerator-seconds."""
    seconds = settings.resize_horizon_seconds
    if job.expected_seconds is not None:
        seconds = min(seconds, max(job.expected_seconds, 0))
    relative = dict(job.goodput_milli)
    milli_pods = relative[num_pods] * job.num_pods if num_pods in relative else num_pods * 1000
    return milli_pods * job.pod.accelerators * seconds // 1000
