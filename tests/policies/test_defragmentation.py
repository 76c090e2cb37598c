"""Defragmentation: room that is only scattered is made whole by moving running jobs, where somebody may ask for it.

After KAI's consolidation (actions/integration_tests/consolidation, consolidationGang; docs/safe-to-consolidate),
Volcano's rescheduling and kubernetes-sigs/descheduler (HighNodeUtilization). They differ: those move whatever a rule of
thumb names and find a place for it afterwards; ours are the moves that lose the least work, with a place for everybody
found before anybody stops, within a budget that whoever asks for them states.
"""

from __future__ import annotations

from typing import Any

import pytest

from policies.lines import (
    asks_for_room,
    ends,
    has_run,
    job,
    leaves,
    moved,
    nodes,
    run,
    runs,
    settings,
    submit,
    undisturbed,
    waits,
)
from policies.stage import Stage
from policies.stories import Line, play

pytestmark = pytest.mark.policies


def scattered(**fields: Any) -> list[Line]:
    """Two nodes of four, each with one job of two on it."""
    lines = [nodes("a", "b")]
    for number, node in ((1, "a"), (2, "b")):
        lines += [
            submit(job(f"s{number}", gpus=2, **fields)),
            runs(f"s{number}", on=node),
            submit(job(f"gone-{number}", gpus=2)),
            runs(f"gone-{number}", on=node),
        ]
    return [*lines, ends("gone-1 gone-2")]


STORIES = {
    "without a request nobody moves": [
        *scattered(),
        submit(job("large")),
        waits("large", "Fragmented", accelerators_free=4),
        undisturbed("s1 s2"),
    ],
    "on request one job moves to the other's node, and all of them run": [
        *scattered(),
        has_run("s1", seconds=1200),
        submit(job("large")),
        waits("large", "Fragmented"),
        asks_for_room("large", gpu_seconds=1000),
        runs("large", on="b"),
        moved("s2", for_="large"),
        runs("s2", on="a", attempt=2),
        undisturbed("s1"),
    ],
    "not where it loses more than was asked for": [
        *scattered(),
        has_run("s1", seconds=1200),
        has_run("s2", seconds=1200),
        submit(job("large")),
        waits("large", "Fragmented"),
        asks_for_room("large", gpu_seconds=1000),
        waits("large", "Fragmented"),
        undisturbed("s1 s2"),
    ],
    "not those that must not be preempted": [
        *scattered(preemption={"preemptible": False}),
        submit(job("large")),
        waits("large", "Fragmented"),
        asks_for_room("large", gpu_seconds=100_000),
        waits("large", "Fragmented"),
        undisturbed("s1 s2"),
    ],
    "while the moving job saves, its new place and the room of the waiting one are kept": [
        *scattered(stays=True),
        has_run("s1", seconds=1200),
        submit(job("large")),
        waits("large", "Fragmented"),
        asks_for_room("large", gpu_seconds=100_000),
        waits("large", "WaitingForPreemption", blockers="s2"),
        submit(job("late", gpus=2)),
        waits("late", "QueuedBehind", blockers="large"),
        leaves("s2"),
        run("large s1 s2"),
        waits("late", "WaitingForCapacity"),
    ],
    "a rack is made whole for a gang that requires one": [
        nodes("a1", "a2", rack="a"),
        nodes("b1", "b2", rack="b"),
        submit(job("s1")),
        runs("s1", on="a1"),
        submit(job("gone", pods=2, topology={"level": "rack", "mode": "Required"})),
        runs("gone", on="b1 b2"),
        submit(job("gone-too")),
        runs("gone-too", on="a2"),
        ends("gone"),
        submit(job("s2")),
        runs("s2", domains="z1/b"),
        ends("gone-too"),
        submit(job("gang", pods=2, topology={"level": "rack", "mode": "Required"})),
        waits("gang", "TopologyUnsatisfied"),
        asks_for_room("gang", gpu_seconds=100_000),
        run("gang s1 s2"),
    ],
    "where the administrator lets large jobs ask by waiting, they need not ask": [
        settings(defragmentation={"policy": "WhenWaiting", "waitSeconds": 1}),
        *scattered(),
        has_run("s1", seconds=1200),
        submit(job("large")),
        run("large s1 s2"),
        moved("s2", for_="large"),
    ],
    "where he forbids it, asking does not help": [
        settings(defragmentation={"policy": "Never"}),
        *scattered(),
        submit(job("large")),
        waits("large", "Fragmented"),
        asks_for_room("large", gpu_seconds=100_000),
        waits("large", "Fragmented"),
        undisturbed("s1 s2"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_defragmentation(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
