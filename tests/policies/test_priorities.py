"""Priorities: who is served first among those that wait. Whether anybody is evicted for it: test_gang_preemption.py.

After Kueue's queueing strategies (KEP 1282 and docs/concepts/cluster_queue: StrictFIFO, BestEffortFIFO; cases of
pkg/cache/queue), Volcano's "Job Priority" and its priority plugin, and KAI's docs/priority. They differ in one point:
we have BestEffortFIFO alone, and what keeps a large job from starving is a reservation (test_backfill.py), not a queue
that stands still.
"""

from __future__ import annotations

import pytest

from policies.lines import edits, ends, job, nodes, run, runs, submit, undisturbed, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies

H100, L4 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"


def either(throughput: str) -> list[dict[str, str]]:
    """The H100, or the L4 with this relative throughput."""
    return [{"product": H100}, {"product": L4, "relativeThroughput": throughput}]


STORIES = {
    "of equal priority the older one starts first, one after the other": [
        nodes("a"),
        submit(job("now"), job("first"), job("second"), job("third")),
        runs("now"),
        waits("first", "WaitingForCapacity", blockers="now"),
        waits("second", "WaitingForCapacity"),
        ends("now"),
        runs("first"),
        waits("second", "WaitingForCapacity", blockers="first"),
        ends("first"),
        runs("second"),
        waits("third", "WaitingForCapacity", blockers="second"),
        ends("second"),
        runs("third"),
    ],
    "the higher priority starts first, though it came last": [
        nodes("a"),
        submit(job("now", priority="polite")),
        runs("now"),
        submit(job("low", priority="low"), job("plain"), job("high", priority="high")),
        waits("high", "WaitingForCapacity", blockers="now"),
        ends("now"),
        runs("high"),
        waits("plain", "WaitingForCapacity", blockers="high"),
        ends("high"),
        runs("plain"),
        ends("plain"),
        runs("low"),
    ],
    "a job that no priority was given to stands above one of negative priority": [
        nodes("a"),
        submit(job("low", priority="low"), job("plain")),
        runs("plain", attempt=1),
        waits("low", "WaitingForCapacity", blockers="plain"),
    ],
    "a small job runs where a large one of higher priority cannot use the room": [
        nodes("a", "b"),
        submit(job("now", priority="urgent"), job("large", pods=2, priority="high"), job("small", priority="low")),
        run("now small"),
        waits("large", "WaitingForCapacity", blockers="now small"),
    ],
    "a job of lower priority does not take the room that one of higher priority can use": [
        nodes("a", "b"),
        submit(job("now")),
        runs("now"),
        submit(job("low", pods=2, priority="low"), job("high", priority="high")),
        runs("high"),
        waits("low", "WaitingForCapacity", pods_fitting=0),
    ],
    "who is given a higher priority while it waits goes to the front": [
        nodes("a"),
        submit(job("now"), job("first"), job("second")),
        runs("now"),
        waits("second", "WaitingForCapacity"),
        edits("second", priorityClassName="polite"),
        waits("second", "WaitingForCapacity", blockers="now"),
        ends("now"),
        runs("second", attempt=1),
        waits("first", "WaitingForCapacity", blockers="second"),
    ],
    "a PriorityClass that does not exist is named, and the job starts when it names another": [
        nodes("a"),
        submit(job("wrong", priority="mistyped")),
        waits("wrong", "Misconfigured", says="mistyped"),
        edits("wrong", priorityClassName="high"),
        runs("wrong"),
    ],
    "a job whose PriorityClass preempts nobody waits at the front of the queue": [
        nodes("a"),
        submit(job("now")),
        runs("now"),
        submit(job("plain"), job("polite", priority="polite")),
        waits("polite", "WaitingForCapacity", blockers="now"),
        undisturbed("now"),
        ends("now"),
        runs("polite"),
        waits("plain", "WaitingForCapacity", blockers="polite"),
    ],
    "the better product goes to the higher priority": [
        nodes("h", product=H100),
        nodes("l", product=L4),
        submit(job("plain", accelerators=either("0.1")), job("high", priority="high", accelerators=either("0.9"))),
        runs("high", on="h"),
        runs("plain", on="l"),
    ],
    "within a priority an older job takes the slower product if the younger one can start by it": [
        nodes("h", product=H100),
        nodes("l", product=L4),
        submit(job("older", accelerators=either("0.5")), job("younger", accelerators=[{"product": H100}])),
        runs("older", on="l"),
        runs("younger", on="h"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_priorities(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
