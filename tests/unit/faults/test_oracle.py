"""The oracle of the fault tests on histories made by hand: silent on a right one, and red on each broken one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Self

import pytest

from faults import oracle, records
from world.history import Event

Json = dict[str, Any]


class Story:
    """A history in the making: each call is one event, a second after the one before."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.at = 0.0
        self._versions = itertools.count(1)
        self._objects: dict[str, Json] = {}

    def _tell(self, resource: str, name: str, body: Json, *, kind: str = "") -> Self:
        known = name in self._objects
        body["metadata"] = {"name": name, "resourceVersion": str(next(self._versions)), **body.get("metadata", {})}
        self._objects[name] = body
        self.at += 1
        self.events.append(Event(self.at, resource, kind or ("MODIFIED" if known else "ADDED"), body))
        return self

    def job(
        self,
        name: str = "one",
        *,
        phase: str = "Pending",
        attempt: int = 0,
        nodes: str = "",
        pods: int = 2,
        generation: int = 1,
        **status: Any,
    ) -> Self:
        """A status; ``nodes`` holds one letter for each rank."""
        if nodes:
            shares = [{"name": node, "ranks": str(rank)} for rank, node in enumerate(nodes)]
            status["placement"] = {"attempt": attempt, "nodes": shares}
        said = {"phase": phase, "attempt": attempt, "observedGeneration": 1, "reason": "R", **status}
        return self._tell(
            "trainingjobs",
            name,
            {
                "metadata": {"uid": f"uid-{name}", "generation": generation},
                "spec": {"numNodes": pods, "resourcesPerNode": {"nvidia.com/gpu": 4}},
                "status": said,
            },
        )

    def pod(self, rank: int, node: str, phase: str = "Running", *, job: str = "one", attempt: int = 1) -> Self:
        """A pod of the job; created when it is first told of."""
        name = f"{job}-{attempt}-{rank}"
        return self._tell(
            "pods",
            name,
            {
                "metadata": {
                    "uid": f"uid-{name}",
                    "labels": {oracle.ATTEMPT: str(attempt), oracle.RANK: str(rank)},
                    "ownerReferences": [{"uid": f"uid-{job}"}],
                },
                "spec": {"nodeName": node, "containers": [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}]},
                "status": {"phase": phase},
            },
        )

    def gone(self, name: str) -> Self:
        """The object is deleted."""
        resource = (
            "pods" if "spec" in self._objects[name] and "containers" in self._objects[name]["spec"] else "trainingjobs"
        )
        return self._tell(resource, name, self._objects[name], kind="DELETED")

    def lost(self, node: str) -> Self:
        """A node stops to answer."""
        status = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
        return self._tell("nodes", f"node {node}", {"metadata": {"name": node}, "status": status}, kind="MODIFIED")

    def later(self, seconds: float) -> Self:
        """Nothing happens for a while."""
        self.at += seconds
        return self

    @property
    def broken(self) -> list[str]:
        """What the oracle says."""
        return oracle.violations(self.events, gpus_per_node=4)


def running() -> Story:
    """A gang of two, placed, created and running."""
    story = Story().job().job(phase="Starting", attempt=1, nodes="ab").pod(0, "a").pod(1, "b")
    return story.job(phase="Running", attempt=1, nodes="ab")


def restarted() -> Story:
    """A gang of which a pod has failed, and whose next attempt runs."""
    story = running().pod(1, "b", "Failed").job(phase="Restarting", attempt=1).gone("one-1-0")
    story.job(phase="Starting", attempt=2, nodes="cd").pod(0, "c", attempt=2).pod(1, "d", attempt=2)
    return story.job(phase="Running", attempt=2, nodes="cd")


def succeeded() -> Story:
    return running().pod(0, "a", "Succeeded").pod(1, "b", "Succeeded").job(phase="Succeeded", attempt=1, nodes="ab")


RIGHT: dict[str, Callable[[], Story]] = {
    "a gang that succeeds": succeeded,
    "a gang that is started again": restarted,
    "a gang started again while a pod hangs on a lost node": lambda: (
        running()
        .lost("b")
        .job(phase="Restarting", attempt=1)
        .gone("one-1-0")
        .job(phase="Starting", attempt=2, nodes="cd")
        .pod(0, "c", attempt=2)
        .pod(1, "d", attempt=2)
        .job(phase="Running", attempt=2, nodes="cd")
    ),
    "the room of pods that have ended, given to another job": lambda: (
        succeeded().job("two", pods=1).job("two", phase="Starting", attempt=1, nodes="a", pods=1).pod(0, "a", job="two")
    ),
    "a pod that is deleted when it has succeeded": lambda: (
        running()
        .pod(0, "a", "Succeeded")
        .gone("one-1-0")
        .job("two", pods=1)
        .job("two", phase="Starting", attempt=1, nodes="a", pods=1)
        .pod(0, "a", job="two")
        .pod(1, "b", "Succeeded")
        .job(phase="Succeeded", attempt=1, nodes="ab")
    ),
    "a pod on its way when its job is deleted, which is collected": lambda: (
        Story().job().gone("one").pod(1, "b").gone("one-1-1")
    ),
    "a checkpoint that moves on": lambda: (
        restarted()
        .job(phase="Running", attempt=2, nodes="cd", progress={"checkpointStep": 8})
        .job(phase="Running", attempt=2, nodes="cd", progress={"checkpointStep": 9})
    ),
}

BROKEN: dict[str, tuple[str, Callable[[], Story]]] = {
    "half a gang stays bound": (
        "I1",
        lambda: (
            Story()
            .job()
            .job(phase="Starting", attempt=1, nodes="ab")
            .pod(0, "a", "Pending")
            .later(61)
            .pod(0, "a", "Running")
        ),
    ),
    "two jobs are placed on one node": (
        "I2: 8 GPUs are given away",
        lambda: running().job("two", pods=1).job("two", phase="Starting", attempt=1, nodes="a", pods=1),
    ),
    "a place is given away while an old pod still lives there": (
        "I2: 8 GPUs are given away",
        lambda: (
            running()
            .job(phase="Restarting", attempt=1)
            .job("two", pods=1)
            .job("two", phase="Starting", attempt=1, nodes="a", pods=1)
        ),
    ),
    "two pods are bound to one node's GPUs": (
        "I2: pods with 8 GPUs",
        lambda: running().pod(1, "a", attempt=1, job="two"),
    ),
    "a pod is created before its placement is written": (
        "I3: pod one-1-0 was created while attempt None",
        lambda: Story().job().pod(0, "a", "Pending").gone("one-1-0"),
    ),
    "a pod is created for a job that is gone": (
        "I3: pod one-1-1 is left without an owner",
        lambda: Story().job().gone("one").pod(1, "b"),
    ),
    "a pod is created for a job that never was": (
        "I3: pod one-1-1 was created without an owner",
        lambda: Story().pod(1, "b").gone("one-1-1"),
    ),
    "the next attempt begins beside the old one": (
        "I3: pod one-2-0 was created while pod one-1-0 still lived",
        lambda: running().job(phase="Starting", attempt=2, nodes="cd").pod(0, "c", "Pending", attempt=2),
    ),
    "a pod of an old attempt is left": (
        "I3: pod one-1-0 lives, but attempt None is placed",
        lambda: running().job(phase="Suspended", attempt=1),
    ),
    "a pod outlives its job": (
        "I3: pod one-1-1 is left without an owner",
        lambda: running().gone("one-1-0").gone("one"),
    ),
    "a checkpoint is taken back": (
        "I5: one says checkpoint 7 after 8",
        lambda: (
            running()
            .job(phase="Running", attempt=1, nodes="ab", progress={"checkpointStep": 8})
            .job(phase="Running", attempt=1, nodes="ab", progress={"checkpointStep": 7})
        ),
    ),
    "a checkpoint is forgotten": (
        "I5: one says checkpoint None after 8",
        lambda: (
            running()
            .job(phase="Running", attempt=1, nodes="ab", progress={"checkpointStep": 8})
            .job(phase="Restarting", attempt=1)
        ),
    ),
    "a job waits without a reason": ("I6: one waits without a reason", lambda: Story().job(reason="")),
    "a status speaks of an older spec": ("I6: the status of one", lambda: Story().job(generation=2)),
    "a status says Running too early": (
        "I7: one says Running",
        lambda: (
            Story()
            .job()
            .job(phase="Starting", attempt=1, nodes="ab")
            .pod(0, "a")
            .pod(1, "b", "Pending")
            .job(phase="Running", attempt=1, nodes="ab")
        ),
    ),
    "a status says Succeeded too early": (
        "I7: one says Succeeded, but only 1 pods",
        lambda: running().pod(0, "a", "Succeeded").job(phase="Succeeded", attempt=1, nodes="ab"),
    ),
}


@pytest.mark.parametrize("what", RIGHT)
def test_says_nothing_of(what: str) -> None:
    assert RIGHT[what]().broken == []


@pytest.mark.parametrize("what", BROKEN)
def test_goes_red_when(what: str) -> None:
    want, story = BROKEN[what]
    assert any(line.startswith(want) for line in story().broken), story().broken


def test_counts_creations_and_deletions_by_name() -> None:
    assert oracle.counts(restarted().events) == {
        "pods/one-1-0": (1, 1),
        "pods/one-1-1": (1, 0),
        "pods/one-2-0": (1, 0),
        "pods/one-2-1": (1, 0),
        "trainingjobs/one": (1, 0),
    }


def test_the_records_become_a_table() -> None:
    def line(flow: str, kind: str, *broken: str, converged: float = 0.0) -> Json:
        return {"flow": flow, "kind": kind, "broken": list(broken), "converged": converged}

    text = records.table(
        [line("a", "SIGKILL", converged=1.0), line("a", "SIGKILL", "I2", converged=3.0), line("b", "409")]
    )
    assert text.splitlines() == [
        "| flow | 409 | SIGKILL |",
        "| --- | --- | --- |",
        "| a |  | 2 / 1 |",
        "| b | 1 / 0 |  |",
        "| **all** | 1 / 0 | 2 / 1 |",
        "",
        "SIGKILL: 2 restarts; p50 2.0 s, p95 3.0 s, max 3.0 s.",
    ]
