"""Elastic jobs: they take what fits, give surplus up before anybody is evicted, and grow where nobody waits.

After KAI's elastic workloads (docs/elastic, its consolidation and preemption of surplus pods first), Kueue's partial
admission (KEP 420) and elastic jobs (KEP 12100), Volcano's minAvailable and elastic plugin, and the goodput of Pollux
(OSDI'21) and Sia (SOSP'23). They differ: those add and take single pods of a running job; ours is restarted from a
checkpoint at another size, as one gang, and only where what that gains within an hour is more than what it costs.
"""

from __future__ import annotations

from typing import Any

import pytest

from policies.lines import edits, ends, has_trained, job, nodes, run, runs, settings, submit, undisturbed, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies
FROM_1 = {"minNodes": 1}


def wide(name: str = "wide", *, pods: int = 4, **fields: Any) -> tuple[str, dict[str, object]]:
    """An elastic job that prefers so many pods."""
    return job(name, pods=pods, **{"elastic": FROM_1, **fields})


STORIES = {
    "an elastic job starts at the size that fits": [
        nodes("a", "b", "c"),
        submit(job("small")),
        runs("small"),
        submit(wide()),
        runs("wide", pods=2),
    ],
    "its surplus keeps no other job from starting": [
        nodes("a", "b", "c"),
        submit(wide(), job("other"), job("another")),
        run("other another"),
        runs("wide", pods=1),
    ],
    "it waits where its smallest size does not fit": [
        nodes("a", "b"),
        submit(job("small")),
        runs("small"),
        submit(wide(elastic={"minNodes": 2})),
        waits("wide", "WaitingForCapacity", pods_needed=2, pods_fitting=1),
        edits("wide", elastic={"minNodes": 1}),
        runs("wide", pods=1),
    ],
    "only sizes that it allows are used": [
        nodes("a", "b", "c"),
        submit(wide(elastic={"allowedNodes": [1, 2, 4]})),
        runs("wide", pods=2),
    ],
    "it gives pods up for a job that waits, and both run; it grows again when that has ended": [
        nodes("a", "b", "c", "d"),
        submit(wide()),
        runs("wide", pods=4),
        has_trained("wide", seconds=1200),
        submit(job("next", pods=2)),
        runs("next", pods=2),
        runs("wide", pods=2, attempt=2),
        has_trained("wide", seconds=1200),
        ends("next"),
        runs("wide", pods=4, attempt=3),
    ],
    "surplus goes before anybody is evicted": [
        nodes("a", "b", "c"),
        submit(wide(pods=2), job("low", priority="low")),
        run("wide low"),
        has_trained("wide", seconds=1200),
        submit(job("vip", priority="urgent")),
        runs("vip"),
        runs("wide", pods=1, attempt=2),
        undisturbed("low"),
    ],
    "a job that never told of a checkpoint is left alone": [
        nodes("a", "b"),
        submit(wide(pods=2)),
        runs("wide", pods=2),
        submit(job("next")),
        waits("next", "WaitingForCapacity", blockers="wide"),
        undisturbed("wide"),
    ],
    "so is one within its minimum run time": [
        nodes("a", "b"),
        submit(wide(pods=2, preemption={"minRuntimeSeconds": 3600})),
        runs("wide", pods=2),
        has_trained("wide", seconds=1200),
        submit(job("next")),
        waits("next", "WaitingForCapacity", blockers="wide"),
        undisturbed("wide"),
    ],
    "who must not be preempted may be resized all the same": [
        nodes("a", "b"),
        submit(wide(pods=2, preemption={"preemptible": False})),
        runs("wide", pods=2),
        has_trained("wide", seconds=1200),
        submit(job("next")),
        runs("next"),
        runs("wide", pods=1, attempt=2),
    ],
    "nobody grows while somebody waits who could use the room": [
        nodes("a", "b", "c"),
        submit(job("holder", pods=2), wide()),
        runs("holder"),
        runs("wide", pods=1),
        has_trained("wide", seconds=1200),
        submit(job("next", pods=2)),
        waits("next", "WaitingForCapacity"),
        ends("holder"),
        runs("next"),
        runs("wide", pods=1, attempt=1),
    ],
    "where the administrator forbids it, running jobs keep their size": [
        settings(elastic={"resize": False}),
        nodes("a", "b"),
        submit(wide(pods=2)),
        runs("wide", pods=2),
        has_trained("wide", seconds=1200),
        submit(job("next")),
        waits("next", "WaitingForCapacity", blockers="wide"),
        undisturbed("wide"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_elastic(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
