"""What a queue's own limits make of a job before anything is planned.

What must stay true: a job that no queue limits stays the very same; an elastic job loses only
sizes that it could never have.
"""

from __future__ import annotations

from stowplan_allocator import goodput, types
from stowplan_allocator.quotas import Quotas


def misconfiguration(job: types.Job, *, shared: Quotas) -> str:
    """Why the job can be in no queue; empty where it can."""
    if job.queue in shared.leaf_of:
        return ""
    there = ", ".join(sorted(name for name in shared.leaf_of if name)) or "none"
    return f'queue "{job.queue}" does not exist; queues in the cluster: {there}'


def within(job: types.Job, *, shared: Quotas) -> types.Job | types.Waiting:
    """The job with the sizes that its queue allows; or, where it allows none, the answer to it."""
    branch = shared.branches[shared.leaf(job)]
    each, most = job.pod.accelerators, branch.max_accelerators_per_job
    smallest = min(job.allowed_num_pods, default=job.num_pods)
    if most is None or max((job.num_pods, *job.allowed_num_pods)) * each <= most:
        return job
    if smallest * each > most:
        numbers = (
            ("queue", branch.queue),
            ("accelerators_needed", str(smallest * each)),
            ("accelerators_per_job", str(most)),
        )
        message = (
            f'needs {smallest * each} accelerators; queue "{branch.queue}" allows at most {most} for one job '
            "(limits.acceleratorsPerJob)"
        )
        return types.Waiting(types.Reason.EXCEEDS_QUOTA, message, numbers)
    return goodput.cut(job, most=most // each)
