"""Backfill: small jobs use the room that a large one waits for, as long as they do not delay it.

After EASY (Lifka 1995: the first in the queue is promised a start, and whoever does not delay it may go before it), the
conservative kind and the accuracy of estimates (Mu'alem & Feitelson 2001), Slurm's sched/backfill and Volcano's "sla"
and reservation cases (test/e2e/schedulingbase/sla.go). They differ: Slurm and EASY kill a job that overruns its
estimate; ours has its `activeDeadlineSeconds` or nothing, so a job of which nobody knows the end is not backfilled.
"""

from __future__ import annotations

from typing import Any

import pytest

from policies.lines import deletes, ends, has_room_kept, has_run, job, nodes, queue, run, runs, settings, submit, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies
# Room is kept after a second, and looked for as often as the operator can.
SOON = settings(planner={"reserveAfterSeconds": 1}, answers={"gatherSeconds": 0, "intervalSeconds": 1})
HOUR = 3600


def ending(name: str, *, hours: float, **fields: Any) -> tuple[str, dict[str, object]]:
    """A job that is known to end."""
    return job(name, activeDeadlineSeconds=int(hours * HOUR), **fields)


STORIES = {
    "small jobs fill the room of a large one only if they are known to end before it starts": [
        SOON,
        nodes("a", "b"),
        submit(ending("holder", hours=3)),
        runs("holder"),
        submit(job("large", pods=2)),
        has_room_kept("large"),
        waits("large", "WaitingForCapacity", blockers="holder"),
        submit(job("unknown"), ending("long", hours=4)),
        waits("unknown", "ReservedForLargerJob", blockers="large"),
        waits("long", "ReservedForLargerJob", blockers="large"),
        submit(ending("short", hours=1, args=["--short"])),
        runs("short"),
        ends("short"),
        waits("unknown", "ReservedForLargerJob"),
        ends("holder"),
        runs("large", pods=2),
        ends("large"),
        run("unknown long"),
    ],
    "a job like one that has ended soon is taken to end soon, though it names no limit": [
        SOON,
        nodes("a", "b"),
        submit(ending("holder", hours=3, args=["--long"])),
        runs("holder"),
        submit(job("large", pods=2, args=["--long"])),
        has_room_kept("large"),
        submit(job("try-2")),
        waits("try-2", "ReservedForLargerJob", blockers="large"),
        submit(ending("try-1", hours=1)),
        runs("try-1"),
        has_run("try-1", seconds=600),
        ends("try-1"),
        runs("try-2"),
    ],
    "who is promised room and goes gives it up": [
        SOON,
        nodes("a", "b"),
        submit(ending("holder", hours=2)),
        runs("holder"),
        submit(job("large", pods=2)),
        has_room_kept("large"),
        submit(job("unknown")),
        waits("unknown", "ReservedForLargerJob"),
        deletes("large"),
        runs("unknown"),
    ],
    "where nobody knows when room comes free, it is kept all the same, and so nobody starves": [
        SOON,
        nodes("a", "b"),
        submit(job("holder")),
        runs("holder"),
        submit(job("large", pods=2)),
        has_room_kept("large"),
        submit(job("unknown")),
        waits("unknown", "ReservedForLargerJob", blockers="large"),
        ends("holder"),
        runs("large"),
        waits("unknown", "WaitingForCapacity", blockers="large"),
    ],
    "the first of each queue is promised room": [
        SOON,
        nodes("a", "b", "c", "d"),
        queue("red"),
        queue("blue"),
        submit(ending("red-holder", hours=2, team="red", pods=2), ending("blue-holder", hours=2, team="blue")),
        run("red-holder blue-holder"),
        submit(job("red-large", team="red", pods=2), job("blue-large", team="blue", pods=2)),
        has_room_kept("red-large"),
        has_room_kept("blue-large"),
        submit(job("unknown", team="red")),
        waits("unknown", "ReservedForLargerJob"),
        ends("red-holder"),
        ends("blue-holder"),
        run("red-large blue-large"),
    ],
    "a job that has not waited long is passed by whoever fits": [
        settings(planner={"reserveAfterSeconds": 0}, answers={"gatherSeconds": 0, "intervalSeconds": 1}),
        nodes("a", "b"),
        submit(ending("holder", hours=2)),
        runs("holder"),
        submit(job("large", pods=2)),
        waits("large", "WaitingForCapacity", blockers="holder"),
        submit(job("unknown")),
        runs("unknown"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_backfill(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
