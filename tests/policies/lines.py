"""What stories are written in. A story is a list of lines: what happens, and what everybody can see then.

    "a gang starts when the last node that it needs is free": [
        nodes("a", "b", gpus=8),
        submit(job("short", gpus=8)),
        runs("short", on="a"),
        submit(job("gang", pods=2, gpus=8)),
        waits("gang", "WaitingForCapacity", blockers="short", pods_fitting=1),
        ends("short"),
        runs("gang", on="a b"),
    ]

Expectations that follow each other must hold together, and still hold after the operator has planned once more. Names
are words of the story; lists of them are one text, with spaces between.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from policies.stage import TEAM, Json, Stage
from policies.stories import Line, act, look, text_of
from world.cluster import gpu_node, training_job

# What there is.


def nodes(*names: str, **node: Any) -> Line:
    """Nodes that are there from the start of the story (see ``gpu_node``)."""
    return Line(
        text_of(nodes, names, node), act=lambda stage: None, nodes={name: gpu_node(name, **node) for name in names}
    )


def settings(**groups: Json) -> Line:
    """Settings of the operator for this story: ``settings(preemption={"policy": "Never"})``."""
    return Line(text_of(settings, (), groups), act=lambda stage: None, settings=groups)


def job(
    name: str,
    *,
    team: str = TEAM,
    pods: int = 1,
    gpus: int = 4,
    priority: str = "",
    stays: bool = False,
    **spec: object,
) -> tuple[str, Json]:
    """A TrainingJob, with the fields of its spec by name; it belongs to ``submit``.

    The pods of one that ``stays`` do not go before the story says ``leaves``.
    """
    cpu_and_memory = {key: str(spec.pop(key)) for key in ("cpu", "memory") if key in spec}
    body = training_job(name, pods=pods, gpus=gpus, priority_class=priority, stays=stays, spec=spec)
    if not gpus:
        del body["spec"]["resourcesPerNode"]["nvidia.com/gpu"]
    body["spec"]["resourcesPerNode"] |= cpu_and_memory
    return team, body


def queue(
    name: str,
    *,
    teams: str | None = None,
    parent: str = "",
    owns: int | Mapping[str, int] | None = None,
    borrows: int | None = None,
    lends: int | None = None,
    **spec: object,
) -> Line:
    """A Queue for the teams, by default for the one of its name; ``spec`` are further fields of its spec.

    It owns so many accelerators of each product; a number alone is of any product.
    """
    owned = {"*": owns} if isinstance(owns, int) else owns or {}
    limits = {"borrowingLimit": borrows, "lendingLimit": lends}
    given = {key: value for key, value in limits.items() if value is not None}
    quotas = [{"product": product, "nominal": nominal, **given} for product, nominal in owned.items()]
    above = {"parent": parent} if parent else {}

    def create(stage: Stage) -> None:
        namespaces = [stage.namespace(team) for team in (name if teams is None else teams).split()]
        stage.create_queue(name, {"namespaces": namespaces, **above, **({"quotas": quotas} if quotas else {}), **spec})

    told = {"teams": teams, "parent": parent, "owns": owns, "borrows": borrows, "lends": lends, **spec}
    return Line(
        text_of(queue, (name,), {key: value for key, value in told.items() if value not in (None, "")}), act=create
    )


# What happens.


def submit(*jobs: tuple[str, Json]) -> Line:
    """Jobs are created, in this order and before the operator plans again."""
    names = " ".join(body["metadata"]["name"] for _, body in jobs)
    return Line(f"submit({names})", act=lambda stage: stage.submit(*jobs), jobs=jobs)


def together(*jobs: tuple[str, Json]) -> Line:
    """The same for jobs of which none starts before the operator knows all: it may plan while they still arrive."""
    names = " ".join(body["metadata"]["name"] for _, body in jobs)
    return Line(f"together({names})", act=lambda stage: stage.submit_together(*jobs), jobs=jobs)


def pile(*jobs: tuple[str, Json]) -> Line:
    """The same for jobs of which it does not matter who came first."""
    names = " ".join(body["metadata"]["name"] for _, body in jobs)
    return Line(f"pile({names})", act=lambda stage: stage.submit_together(*jobs, in_order=False), jobs=jobs)


@act
def ends(stage: Stage, names: str) -> None:
    """Jobs exit 0."""
    stage.end(*names.split())


@act
def edits(stage: Stage, name: str, **spec: object) -> None:
    """Its owner changes a job."""
    stage.edit(name, **spec)


@act
def budget(
    stage: Stage, name: str, jobs: str, *, keeps: int | str | None = None, loses: int | str | None = None
) -> None:
    """A PodDisruptionBudget on these running jobs' pods, or another number for one.

    By it at least so many are kept (``minAvailable``), or at most so many are missing (``maxUnavailable``).
    """
    limits = {"minAvailable": keeps, "maxUnavailable": loses}
    stage.set_budget(name, jobs.split(), {key: value for key, value in limits.items() if value is not None})


@act
def asks_for_room(stage: Stage, name: str, *, gpu_seconds: int) -> None:
    """A waiting job has others moved for it, which may lose so much."""
    stage.annotate(name, **{"stowplan.dev/make-room": str(gpu_seconds)})


@act
def edits_queue(stage: Stage, name: str, **spec: object) -> None:
    """The administrator changes a queue."""
    stage.edit_queue(name, **spec)


@act
def deletes(stage: Stage, names: str) -> None:
    """Their owner deletes jobs."""
    for name in names.split():
        stage.delete(name)


@act
def leaves(stage: Stage, name: str) -> None:
    """The pods of an evicted job, which stayed, have saved and go."""
    stage.let_go(name)


@act
def adds(stage: Stage, name: str, **node: Any) -> None:
    """A node joins."""
    stage.add_node(gpu_node(name, **node))


@act
def cordons(stage: Stage, name: str, *, wanted: bool = True) -> None:
    """A node takes no more pods, or does again."""
    stage.world.cordon(name, wanted=wanted)


@act
def has_run(stage: Stage, name: str, *, seconds: int) -> None:
    """A running job has run for so long, by what stands in its status."""
    started = _utc(time.time() - seconds)
    stage.rewrite_status(name, lambda status: {"startTime": started, "placement": {"startedAt": started}})


@act
def has_trained(stage: Stage, name: str, *, seconds: int) -> None:
    """A running job has made a step each second, and saved just now, by what stands in its status."""
    started, now = _utc(time.time() - seconds), _utc(time.time())
    told = {"step": seconds, "firstStep": 1, "stepTime": now, "lastReportTime": now}
    saved = {"checkpointStep": seconds, "checkpointTime": now}
    stage.rewrite_status(
        name,
        lambda status: {
            "startTime": started,
            "placement": {"startedAt": started},
            "progress": {"attempt": status["attempt"], **told, **saved},
        },
    )


@act
def has_saved(stage: Stage, name: str, *, seconds_ago: int) -> None:
    """A running job has committed a checkpoint, by what stands in its status."""
    stage.rewrite_status(
        name,
        lambda status: {
            "progress": {
                "attempt": status["attempt"],
                "step": 9,
                "checkpointStep": 9,
                "checkpointTime": _utc(time.time() - seconds_ago),
            }
        },
    )


# What can be seen.


@look
def runs(
    stage: Stage,
    name: str,
    *,
    on: str | None = None,
    pods: int | None = None,
    attempt: int | None = None,
    domains: str | None = None,
) -> str:
    """A job runs: all its pods do. ``on`` are its nodes and ``domains`` its topology domains, both in any order."""
    status = stage.status(name)
    if status.get("phase") != "Running":
        return f"phase {status.get('phase')}"
    shares = [share["name"] for share in status["placement"]["nodes"]]
    if on is not None and sorted(shares) != sorted(on.split()):
        return f"it runs on {' '.join(shares)}"
    if pods is not None and len(stage.pods_of(name)) != pods:
        return f"it has {len(stage.pods_of(name))} pods"
    if attempt is not None and status["attempt"] != attempt:
        return f"it runs for the {status['attempt']}. time"
    found = " ".join(sorted(status["placement"].get("domains", ())))
    if domains is not None and found != " ".join(sorted(domains.split())):
        return f"it runs in {found}"
    return ""


def run(names: str) -> Line:
    """Several jobs run."""
    each = [runs(name) for name in names.split()]
    return Line(f"run({names!r})", look=lambda stage: "; ".join(_told(names.split(), each, stage)))


def undisturbed(names: str) -> Line:
    """Jobs run, and never lost a place."""
    each = [runs(name, attempt=1) for name in names.split()]
    return Line(f"undisturbed({names!r})", look=lambda stage: "; ".join(_told(names.split(), each, stage)))


@look
def has_room_kept(stage: Stage, name: str) -> str:
    """A waiting job is promised the room that it needs."""
    decision = stage.status(name).get("decision") or {}
    return "" if decision.get("reserved") else f"no room is kept for it: {decision.get('predictedStartBasis')}"


@look
def some_run(stage: Stage, names: str, number: int) -> str:
    """So many of these jobs run, no matter which."""
    running = [name for name in names.split() if stage.status(name).get("phase") == "Running"]
    return "" if len(running) == number else f"{len(running)} run: {' '.join(running)}"


@look
def fails(stage: Stage, name: str, reason: str, *, says: str = "") -> str:
    """A job has failed for this reason, with this in its message."""
    status = stage.status(name)
    if status.get("phase") != "Failed" or status.get("reason") != reason:
        return f"phase {status.get('phase')}, reason {status.get('reason')}"
    return "" if says in status["message"] else f"it says: {status['message']}"


@look
def waits(
    stage: Stage, name: str, reason: str, *, blockers: str | None = None, says: str = "", **numbers: object
) -> str:
    """A job waits, for this reason, with these blockers, these numbers, and this in its message."""
    status = stage.status(name)
    decision = status.get("decision") or {}
    if status.get("phase") != "Pending" or status.get("placement"):
        return f"phase {status.get('phase')}"
    if decision.get("reason") != reason:
        return f"reason {decision.get('reason')}: {decision.get('message')}"
    named = [stage.short(key) for key in decision.get("blockers", ())]
    if blockers is not None and sorted(named) != sorted(blockers.split()):
        return f"blockers {' '.join(named)}"
    if says not in decision["message"]:
        return f"it says: {decision['message']}"
    found = decision.get("numbers", {})
    wrong = {key: found.get(key) for key, value in numbers.items() if found.get(key) != str(value)}
    return f"numbers {wrong}" if wrong else ""


@look
def moved(stage: Stage, name: str, *, for_: str) -> str:
    """A running job was moved elsewhere once, so that another one fits."""
    ended = [one for one in stage.status(name).get("history", ()) if one["outcome"] == "Defragmented"]
    if len(ended) != 1:
        return f"moved {len(ended)} times"
    return "" if f"/{for_} " in ended[0]["reason"] else f"moved: {ended[0]['reason']}"


@look
def lost_its_place(stage: Stage, name: str, *, to: str, times: int = 1, says: str = "") -> str:
    """A job was evicted so often, the last time for this one, and its history says this."""
    ended = [one for one in stage.status(name).get("history", ()) if one["outcome"] == "Preempted"]
    if len(ended) != times:
        return f"evicted {len(ended)} times"
    said = ended[-1]["reason"]
    return "" if f"/{to} " in said and says in said else f"evicted: {said}"


@look
def stands(stage: Stage, name: str, **numbers: object) -> str:
    """A queue's status has these numbers."""
    status = stage.queue(name).get("status", {})
    wrong = {key: status.get(key) for key, value in numbers.items() if str(status.get(key)) != str(value)}
    return f"numbers {wrong}" if wrong else ""


def _told(names: Sequence[str], each: Sequence[Line], stage: Stage) -> list[str]:
    looks = [(name, line.look(stage)) for name, line in zip(names, each, strict=True) if line.look]
    return [f"{name}: {found}" for name, found in looks if found]


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
