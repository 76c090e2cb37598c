"""Limits of queues on single jobs, who may use which queue, and what a queue that cannot be planned with changes.

After Kueue's namespaceSelector, stopPolicy (KEP 1284), maximum execution time (KEP 3125) and LocalQueue defaulting (KEP
2936), Volcano's queue capability and closed queues (test/e2e/jobseq, admission/queue_validation_test.go) and Slurm's
limits of partitions and QOS (MaxJobs, MaxTRESPerJob, MaxTime). They differ: there is no object between the namespace
and the queue; a namespace that one queue names needs nothing in its jobs; and `limits.runningJobs: 0` closes a queue.
"""

from __future__ import annotations

import pytest

from policies.lines import (
    edits,
    edits_queue,
    ends,
    fails,
    has_run,
    job,
    nodes,
    queue,
    run,
    runs,
    submit,
    undisturbed,
    waits,
)
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies

STORIES = {
    "so many jobs of a queue run at once, though there is room for more": [
        nodes("a", "b"),
        queue("red", limits={"runningJobs": 1}),
        submit(job("first", team="red"), job("second", team="red")),
        runs("first"),
        waits("second", "WaitingForQuota", running_jobs=1, max_running_jobs=1, blockers="first"),
        ends("first"),
        runs("second"),
    ],
    "the queues below count together": [
        nodes("a", "b", "c"),
        queue("org", teams="", limits={"runningJobs": 2}),
        queue("red", parent="org"),
        queue("blue", parent="org"),
        submit(job("red-1", team="red"), job("blue-1", team="blue")),
        run("red-1 blue-1"),
        submit(job("red-2", team="red")),
        waits("red-2", "WaitingForQuota", quota_binds_at="org", running_jobs=2, max_running_jobs=2),
        ends("blue-1"),
        runs("red-2"),
    ],
    "a queue is closed by allowing no running job; what runs goes on": [
        nodes("a", "b"),
        queue("red"),
        submit(job("first", team="red")),
        runs("first"),
        edits_queue("red", limits={"runningJobs": 0}),
        submit(job("second", team="red")),
        waits("second", "WaitingForQuota", max_running_jobs=0),
        undisturbed("first"),
        edits_queue("red", limits={"runningJobs": None}),
        runs("second"),
    ],
    "a job that is larger than its queue allows is told so at once": [
        nodes("a", "b"),
        queue("red", limits={"acceleratorsPerJob": 4}),
        submit(job("large", team="red", pods=2), job("small", team="red")),
        waits("large", "ExceedsQuota", accelerators_per_job=4),
        runs("small"),
        edits_queue("red", limits={"acceleratorsPerJob": 8}),
        ends("small"),
        runs("large"),
    ],
    "an elastic job takes a size that its queue allows": [
        nodes("a", "b", "c"),
        queue("red", limits={"acceleratorsPerJob": 8}),
        submit(job("wide", team="red", pods=3, elastic={"minNodes": 1})),
        runs("wide", pods=2),
    ],
    "a job ends when it has run as long as its queue allows": [
        nodes("a"),
        queue("red", limits={"runSeconds": 3600}),
        submit(job("endless", team="red")),
        runs("endless"),
        has_run("endless", seconds=3601),
        fails("endless", "DeadlineExceeded", says="red"),
    ],
    "its own limit holds where it is the smaller one": [
        nodes("a"),
        queue("red", limits={"runSeconds": 3600}),
        submit(job("endless", team="red", activeDeadlineSeconds=1800)),
        runs("endless"),
        has_run("endless", seconds=1801),
        fails("endless", "DeadlineExceeded", says="activeDeadlineSeconds"),
    ],
    "jobs that name no priority get that of their queue": [
        nodes("a"),
        queue("red", defaultPriorityClassName="high", preemption=[]),
        submit(job("now", team="red")),
        runs("now"),
        submit(job("low", team="red", priority="low"), job("plain", team="red")),
        waits("plain", "WaitingForCapacity"),
        ends("now"),
        runs("plain"),
        waits("low", "WaitingForCapacity", blockers="plain"),
    ],
    "a namespace that two queues admit must say which": [
        nodes("a"),
        queue("day", teams="red"),
        queue("night", teams="red"),
        submit(job("either", team="red")),
        waits("either", "Misconfigured", says="day"),
        edits("either", queue="night"),
        runs("either"),
    ],
    "a queue that does not admit the namespace is refused with those that do": [
        nodes("a"),
        queue("red"),
        queue("blue"),
        submit(job("thief", team="red", queue="blue")),
        waits("thief", "Misconfigured", says="blue"),
        edits("thief", queue="red"),
        runs("thief"),
    ],
    "a queue that does not exist is refused by name": [
        nodes("a"),
        submit(job("lost", team="red", queue="mistyped")),
        waits("lost", "Misconfigured", says="mistyped"),
        edits("lost", queue=None),
        runs("lost"),
    ],
    "a queue without its parent stops its own jobs, and nobody else's": [
        nodes("a", "b"),
        queue("red", parent="nobody"),
        queue("blue"),
        submit(job("red-1", team="red"), job("blue-1", team="blue")),
        runs("blue-1"),
        waits("red-1", "Misconfigured", says="nobody"),
        edits_queue("red", parent=None),
        runs("red-1"),
    ],
    "a waiting job may move to another queue that its namespace may use": [
        nodes("a", "b"),
        queue("small", teams="red", owns=0),
        queue("large", teams="red", owns=8),
        submit(job("wish", team="red", queue="small")),
        waits("wish", "ExceedsQuota"),
        edits("wish", queue="large"),
        runs("wish"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_limits_of_queues(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
