"""Borrowing and lending: what a queue does not use, others of its tree may, within what each lends and borrows.

After Kueue's cases of cohorts (docs/concepts/cluster_queue; pkg/cache and pkg/scheduler: "borrowing limit", "lending
limit"), the table of KEP 1224 (lendingLimit with and without a borrowingLimit, two and three queues, two flavors), KEP
79 (hierarchical cohorts) and Volcano's capacity plugin (test/e2e/jobseq/hierarchy_queue.go). They differ in two points:
no flavor has to be tried in an order, since a job that accepts several products takes one that has both room and quota;
and a queue without a parent borrows from nobody.
"""

from __future__ import annotations

import pytest

from policies.lines import edits_queue, ends, job, nodes, queue, run, runs, stands, submit, undisturbed, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies
H100, L4 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"
ORG = queue("org", teams="")
REDS = [job(f"red-{number}", team="red") for number in (1, 2, 3, 4)]

STORIES = {
    "a queue uses what its sibling does not": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4),
        queue("blue", parent="org", owns=8),
        submit(*REDS[:3]),
        run("red-1 red-2 red-3"),
    ],
    "queues say what they borrowed and lent": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4),
        queue("blue", parent="org", owns=8, lends=4),
        submit(*REDS[:3]),
        run("red-1 red-2"),
        stands("red", gpus="8/4", borrowed=4, lent=0, runningJobs=2, pendingJobs=1, pendingGpus=4),
        stands("blue", gpus="0/8", borrowed=0, lent=4, runningJobs=0),
        stands("org", gpus="8/12", borrowed=0, runningJobs=2),
    ],
    "together they use no more than the tree owns, though the cluster has more": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4),
        queue("blue", parent="org", owns=4),
        submit(*REDS[:3]),
        run("red-1 red-2"),
        waits(
            "red-3",
            "WaitingForQuota",
            queue="red",
            quota_used=8,
            quota_nominal=4,
            quota_borrowed=4,
            quota_wanted=4,
            blockers="red-1 red-2",
        ),
        ends("red-1"),
        runs("red-3"),
    ],
    "it borrows no more than its borrowing limit": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4, borrows=4),
        queue("blue", parent="org", owns=8),
        submit(*REDS[:3]),
        run("red-1 red-2"),
        waits("red-3", "WaitingForQuota", quota_binds_at="red", quota_limit=8, quota_used=8),
    ],
    "nor more than its sibling lends": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4),
        queue("blue", parent="org", owns=8, lends=4),
        submit(*REDS[:3]),
        run("red-1 red-2"),
        waits("red-3", "WaitingForQuota", quota_binds_at="org", quota_used=8, quota_borrowed=4),
    ],
    "of two limits the smaller one binds": [
        nodes("a", "b", "c", "d"),
        ORG,
        queue("red", parent="org", owns=4, borrows=8),
        queue("blue", parent="org", owns=12, lends=4),
        submit(*REDS[:3]),
        run("red-1 red-2"),
        waits("red-3", "WaitingForQuota", quota_used=8),
    ],
    "of three it borrows what one lends and all that the other has": [
        nodes("a", "b", "c", "d", "e"),
        ORG,
        queue("red", parent="org", owns=4),
        queue("blue", parent="org", owns=8, lends=4),
        queue("green", parent="org", owns=4),
        submit(*REDS),
        run("red-1 red-2 red-3"),
        waits("red-4", "WaitingForQuota", quota_used=12, quota_borrowed=8),
    ],
    "what a queue keeps for itself is there at once, and nobody leaves for it": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4),
        queue("blue", parent="org", owns=8, lends=4),
        submit(*REDS[:2]),
        run("red-1 red-2"),
        submit(job("mine", team="blue")),
        runs("mine"),
        undisturbed("red-1 red-2"),
    ],
    "a queue that owns nothing borrows what is left": [
        nodes("a", "b"),
        ORG,
        queue("red", parent="org"),
        queue("blue", parent="org", owns=8),
        submit(*REDS[:2]),
        run("red-1 red-2"),
    ],
    "separate trees lend each other nothing": [
        nodes("a", "b"),
        queue("red", owns=4),
        queue("blue", owns=4),
        submit(*REDS[:2]),
        runs("red-1"),
        waits("red-2", "WaitingForQuota", quota_used=4, quota_nominal=4, quota_borrowed=0),
    ],
    "a cousin's quota comes through its parent, as far as that lends": [
        nodes("a", "b", "c"),
        ORG,
        queue("west", parent="org", teams=""),
        queue("red", parent="west", owns=4),
        queue("east", parent="org", teams="", owns=0, lends=4),
        queue("blue", parent="east", owns=8),
        submit(*REDS[:3]),
        run("red-1 red-2"),
        waits("red-3", "WaitingForQuota", quota_used=8),
    ],
    "a gang whose quota is there for half of it waits whole": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4),
        queue("blue", parent="org", owns=4),
        submit(job("red-1", team="red"), job("gang", team="red", pods=2)),
        runs("red-1"),
        waits("gang", "WaitingForQuota", quota_wanted=8, quota_used=4, blockers="red-1"),
        ends("red-1"),
        runs("gang", pods=2),
    ],
    "a gang that its queue could never hold is told so at once, and keeps nobody waiting": [
        nodes("a", "b", "c"),
        ORG,
        queue("red", parent="org", owns=4, borrows=4),
        queue("blue", parent="org", owns=8),
        submit(job("huge", team="red", pods=3), job("red-1", team="red")),
        waits("huge", "ExceedsQuota", quota_wanted=12, quota_limit=8),
        runs("red-1"),
    ],
    "quota that is there is no room: the cluster may still be full": [
        nodes("a"),
        ORG,
        queue("red", parent="org", owns=8),
        submit(*REDS[:2]),
        runs("red-1"),
        waits("red-2", "WaitingForCapacity", blockers="red-1"),
    ],
    "a lowered quota stops nobody, and nothing more starts before it is kept again": [
        nodes("a", "b", "c"),
        queue("red", owns=8),
        submit(*REDS[:2]),
        run("red-1 red-2"),
        edits_queue("red", quotas=[{"product": "*", "nominal": 4}]),
        submit(REDS[2]),
        waits("red-3", "WaitingForQuota", quota_used=8, quota_nominal=4),
        undisturbed("red-1 red-2"),
        ends("red-1"),
        waits("red-3", "WaitingForQuota"),
        ends("red-2"),
        runs("red-3"),
    ],
    "a raised quota starts who waits for it": [
        nodes("a", "b"),
        queue("red", owns=4),
        submit(*REDS[:2]),
        runs("red-1"),
        waits("red-2", "WaitingForQuota"),
        edits_queue("red", quotas=[{"product": "*", "nominal": 8}]),
        runs("red-2"),
    ],
    "quotas are of a product: who accepts either takes the one that has quota": [
        nodes("h", product=H100),
        nodes("l", product=L4),
        queue("red", owns={H100: 0, L4: 4}),
        submit(
            job("either", team="red", accelerators=[{"product": H100}, {"product": L4, "relativeThroughput": "0.2"}])
        ),
        runs("either", on="l"),
        submit(job("only", team="red", accelerators=[{"product": H100}])),
        waits("only", "ExceedsQuota", quota_product=H100),
    ],
    "each product is lent apart": [
        nodes("h", product=H100),
        nodes("l", product=L4),
        ORG,
        queue("red", parent="org", owns={H100: 0, L4: 0}),
        queue("blue", parent="org", owns={H100: 4, L4: 4}, lends=0),
        queue("green", parent="org", owns={L4: 4}),
        submit(job("on-h", team="red", accelerators=[{"product": H100}])),
        submit(job("on-l", team="red", accelerators=[{"product": L4}])),
        waits("on-h", "ExceedsQuota", quota_product=H100),
        runs("on-l", on="l"),
    ],
    "a team without a queue uses what is free": [
        nodes("a", "b"),
        queue("red", owns=4),
        submit(job("guest-1", team="guests"), job("guest-2", team="guests")),
        run("guest-1 guest-2"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_borrowing_and_lending(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
