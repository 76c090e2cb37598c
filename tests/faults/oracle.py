"""What must hold whatever happened, written once and used by every run.

I1 no gang partly bound for longer than the start-up limit; I2 no GPU given twice; I3 no pod without a live owner of
the right UID and the current attempt; I4 creations and deletions of each object as in the undisturbed run; I6 every
waiting job has a current reason; I7 status never says what the pods do not show. (I5, checkpoints, needs trainers: it
is part of the tests on kind.)

All of it is read from the API server's own history. That history orders pods and jobs by resourceVersion, so what a
status says is compared with what the pods had shown before it was written.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

from faults.history import Event
from faults.world import GPUS_PER_NODE

Json = dict[str, Any]
OVER = ("Succeeded", "Failed")
START_LIMIT_SECONDS = 60.0
JOB, ATTEMPT, RANK = "stowplan.dev/job", "stowplan.dev/attempt", "stowplan.dev/rank"


def counts(events: Sequence[Event]) -> dict[str, tuple[int, int]]:
    """(creations, deletions) of every pod and job by name, to be compared with another run's."""
    made: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for event in events:
        if event.type in ("ADDED", "DELETED"):
            made[f"{event.resource}/{event.object['metadata']['name']}"][event.type == "DELETED"] += 1
    return {name: (created, deleted) for name, (created, deleted) in sorted(made.items())}


def violations(events: Sequence[Event], *, lost_nodes: frozenset[str] = frozenset()) -> list[str]:
    """One line for each broken invariant. On ``lost_nodes`` pods may outlive their gang."""
    pods: dict[str, Json] = {}
    jobs: dict[str, Json] = {}
    have_run: set[tuple[str, int]] = set()
    partly: dict[tuple[str, int], float] = {}
    found: list[str] = []
    for event in events:
        table = pods if event.resource == "pods" else jobs
        uid = event.object["metadata"]["uid"]
        if event.type == "DELETED":
            table.pop(uid, None)
        else:
            table[uid] = event.object
        if event.resource == "pods":
            if event.type == "ADDED":
                found += _orphaned(event.object, jobs)
            found += _given_twice(pods)
            found += _too_long_partly_bound(event, pods, jobs, partly, lost_nodes)
            have_run |= _complete_gangs(pods, jobs)
        else:
            found += _said_too_much(event.object, pods, have_run)
    found += _left_behind(pods, jobs, lost_nodes)
    found += [line for job in jobs.values() for line in _without_reason(job)]
    return list(dict.fromkeys(found))


def _owner(pod: Json) -> str:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("uid", ""))


def _attempt(pod: Json) -> int:
    return int(pod["metadata"]["labels"][ATTEMPT])


def _is_live(pod: Json) -> bool:
    return pod["status"].get("phase") not in OVER


def _orphaned(pod: Json, jobs: dict[str, Json]) -> Iterator[str]:
    name = pod["metadata"]["name"]
    job = jobs.get(_owner(pod))
    if job is None:
        yield f"I3: pod {name} was created without a live owner"
        return
    placed = (job.get("status", {}).get("placement") or {}).get("attempt")
    if placed != _attempt(pod):
        yield f"I3: pod {name} was created while attempt {placed} was placed"


def _given_twice(pods: dict[str, Json]) -> Iterator[str]:
    used: dict[str, int] = collections.defaultdict(int)
    for pod in pods.values():
        if _is_live(pod) and pod["spec"].get("nodeName"):
            limits = pod["spec"]["containers"][0]["resources"].get("limits", {})
            used[pod["spec"]["nodeName"]] += int(limits.get("nvidia.com/gpu", 0))
    for node, gpus in used.items():
        if gpus > GPUS_PER_NODE:
            yield f"I2: {gpus} GPUs given on {node}, which has {GPUS_PER_NODE}"


def _gang(job: Json, attempt: int, pods: dict[str, Json]) -> list[Json]:
    uid = job["metadata"]["uid"]
    return [pod for pod in pods.values() if _owner(pod) == uid and _attempt(pod) == attempt]


def _too_long_partly_bound(
    event: Event,
    pods: dict[str, Json],
    jobs: dict[str, Json],
    partly: dict[tuple[str, int], float],
    lost_nodes: frozenset[str],
) -> Iterator[str]:
    job = jobs.get(_owner(event.object))
    if job is None:
        return
    attempt = _attempt(event.object)
    key = (job["metadata"]["uid"], attempt)
    bound = [pod for pod in _gang(job, attempt, pods) if pod["spec"].get("nodeName") and _is_live(pod)]
    bound = [pod for pod in bound if pod["spec"]["nodeName"] not in lost_nodes]
    if 0 < len(bound) < job["spec"]["numNodes"]:
        since = partly.setdefault(key, event.at)
        if event.at - since > START_LIMIT_SECONDS:
            yield f"I1: attempt {attempt} of {job['metadata']['name']} was partly bound for {event.at - since:.0f} s"
    else:
        partly.pop(key, None)


def _complete_gangs(pods: dict[str, Json], jobs: dict[str, Json]) -> set[tuple[str, int]]:
    """(job UID, attempt) of gangs whose pods all run or have succeeded at this moment."""
    shown: dict[tuple[str, int], int] = collections.defaultdict(int)
    for pod in pods.values():
        if pod["status"].get("phase") in ("Running", "Succeeded"):
            shown[_owner(pod), _attempt(pod)] += 1
    return {key for key, number in shown.items() if key[0] in jobs and number >= jobs[key[0]]["spec"]["numNodes"]}


def _said_too_much(job: Json, pods: dict[str, Json], have_run: set[tuple[str, int]]) -> Iterator[str]:
    status = job.get("status") or {}
    name, uid, attempt = job["metadata"]["name"], job["metadata"]["uid"], status.get("attempt", 0)
    if status.get("phase") == "Running" and (uid, attempt) not in have_run:
        yield f"I7: {name} says Running, but attempt {attempt} never ran with all its pods"
    if status.get("phase") == "Succeeded" and (uid, attempt) not in have_run:
        yield f"I7: {name} says Succeeded, but attempt {attempt} never ran with all its pods"
    if status.get("phase") == "Succeeded":
        ended = [pod for pod in _gang(job, attempt, pods) if pod["status"].get("phase") == "Succeeded"]
        if len(ended) < job["spec"]["numNodes"]:
            yield f"I7: {name} says Succeeded, but only {len(ended)} pods of attempt {attempt} have succeeded"


def _left_behind(pods: dict[str, Json], jobs: dict[str, Json], lost_nodes: frozenset[str]) -> Iterator[str]:
    for pod in pods.values():
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
        if node in lost_nodes:
            continue
        job = jobs.get(_owner(pod))
        if job is None:
            yield f"I3: pod {name} is left without an owner"
        elif _is_live(pod):
            status = job.get("status") or {}
            placed = (status.get("placement") or {}).get("attempt")
            if placed != _attempt(pod) or status.get("phase") in OVER:
                yield f"I3: pod {name} lives, but attempt {placed} is placed and the job is {status.get('phase')}"


def _without_reason(job: Json) -> Iterator[str]:
    status = job.get("status") or {}
    name = job["metadata"]["name"]
    if status.get("phase", "Pending") in ("Pending", "Restarting") and not status.get("reason"):
        yield f"I6: {name} waits without a reason"
    if status.get("observedGeneration") != job["metadata"]["generation"]:
        yield f"I6: the status of {name} speaks of generation {status.get('observedGeneration')}, not the current one"
