"""Minimum run time: a job that has just started keeps its place for a while, so that nobody is moved about in vain.

After KAI's minimum run times (docs/developer/designs/min-runtime: preempt-min-runtime, reclaim-min-runtime) and the
risk that KEP 1714 of Kueue names. They differ in where it is written: KAI's is a matter
of queues and node pools, with one number for preemption and one for reclaim; ours is the job's own
(`preemption.minRuntimeSeconds`), since its owner knows how long it takes to be worth a start, and it holds for both. It
counts from the moment when all pods run, in each attempt anew.
"""

from __future__ import annotations

import pytest

from policies.lines import (
    edits,
    ends,
    has_run,
    has_saved,
    job,
    lost_its_place,
    nodes,
    run,
    runs,
    submit,
    undisturbed,
    waits,
)
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies
HALF_AN_HOUR = {"minRuntimeSeconds": 1800}

STORIES = {
    "within its minimum run time a job keeps its place, and afterwards it does not": [
        nodes("a"),
        submit(job("low", preemption=HALF_AN_HOUR)),
        runs("low"),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", blockers="low"),
        undisturbed("low"),
        has_run("low", seconds=1810),
        runs("vip"),
        lost_its_place("low", to="vip"),
    ],
    "nobody need do anything when it is over: the operator looks at the clock by itself": [
        nodes("a"),
        submit(job("low", preemption=HALF_AN_HOUR)),
        runs("low"),
        has_run("low", seconds=1797),
        submit(job("vip", priority="urgent")),
        runs("vip"),
        lost_its_place("low", to="vip"),
    ],
    "without one a job may lose its place at once": [
        nodes("a"),
        submit(job("low")),
        runs("low"),
        submit(job("vip", priority="urgent")),
        runs("vip"),
        lost_its_place("low", to="vip"),
    ],
    "another one leaves instead, though it loses more": [
        nodes("a", "b"),
        submit(job("fresh", preemption=HALF_AN_HOUR), job("long")),
        run("fresh long"),
        has_run("long", seconds=1500),
        submit(job("vip", priority="urgent")),
        runs("vip"),
        lost_its_place("long", to="vip"),
        undisturbed("fresh"),
    ],
    "a checkpoint does not end it": [
        nodes("a"),
        submit(job("low", preemption=HALF_AN_HOUR)),
        runs("low"),
        has_run("low", seconds=900),
        has_saved("low", seconds_ago=1),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", blockers="low"),
        undisturbed("low"),
    ],
    "whoever comes back has it anew": [
        nodes("a"),
        submit(job("low", preemption=HALF_AN_HOUR)),
        runs("low"),
        has_run("low", seconds=1810),
        submit(job("vip", priority="urgent")),
        runs("vip"),
        ends("vip"),
        runs("low", attempt=2),
        submit(job("again", priority="urgent")),
        waits("again", "WaitingForCapacity", blockers="low"),
        runs("low", attempt=2),
    ],
    "its owner may shorten it while the job runs": [
        nodes("a"),
        submit(job("low", preemption=HALF_AN_HOUR)),
        runs("low"),
        has_run("low", seconds=60),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", blockers="low"),
        edits("low", preemption={"minRuntimeSeconds": 30}),
        runs("vip"),
        lost_its_place("low", to="vip"),
    ],
    "of two victims that it takes, one is too fresh: neither leaves": [
        nodes("a", "b"),
        submit(job("fresh", preemption=HALF_AN_HOUR), job("long")),
        run("fresh long"),
        submit(job("vip", pods=2, priority="urgent")),
        waits("vip", "WaitingForCapacity", pods_fitting=0),
        undisturbed("fresh long"),
        has_run("fresh", seconds=1810),
        runs("vip"),
        lost_its_place("fresh", to="vip"),
        lost_its_place("long", to="vip"),
    ],
    "a job that must not be preempted is not, however long it has run": [
        nodes("a"),
        submit(job("kept", preemption={"preemptible": False})),
        runs("kept"),
        has_run("kept", seconds=90_000),
        submit(job("vip", priority="urgent")),
        waits("vip", "WaitingForCapacity", blockers="kept"),
        undisturbed("kept"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_min_runtime(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
