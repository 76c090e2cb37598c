"""What an elastic job gets done at each size.

Goodput is counted in milli-pods: a job without ``goodput_milli`` has 1000 for each of its pods, and one with it as
much at its preferred size. What must stay true: a size at which a job gets no more done than at a smaller one is never
taken; cutting sizes off changes nothing for those that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stowplan_allocator import types

UNIT = 1000


def worth(job: types.Job, *, num_pods: int) -> int:
    """What the job gets done with so many pods, in milli-pods."""
    for size, relative in job.goodput_milli:
        if size == num_pods:
            return relative * job.num_pods
    return UNIT * num_pods


def useful(job: types.Job) -> tuple[int, ...]:
    """The allowed sizes at which the job gets more done than at every smaller one, ascending."""
    found: list[int] = []
    for size in job.allowed_num_pods:
        if not found or worth(job, num_pods=size) > worth(job, num_pods=found[-1]):
            found.append(size)
    return tuple(found)


def worths(job: types.Job, *, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The worth of these sizes; empty where it is that of the pods, so that equal jobs stay equal."""
    found = tuple((size, worth(job, num_pods=size)) for size in sizes)
    return () if all(amount == UNIT * size for size, amount in found) else found


def cut(job: types.Job, *, most: int) -> types.Job:
    """The job without the sizes above ``most``; the same where it has no others, or none above."""
    sizes = tuple(size for size in job.allowed_num_pods if size <= most)
    if not sizes or sizes == job.allowed_num_pods:
        return job
    preferred = min(job.num_pods, sizes[-1])
    relative = tuple((size, amount // preferred) for size, amount in worths(job, sizes=sizes))
    return replace(job, num_pods=preferred, allowed_num_pods=sizes, goodput_milli=relative)
