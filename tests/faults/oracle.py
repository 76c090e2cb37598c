"""What must hold whatever happened, written once and used by every run.

I1 no gang partly bound for longer than the start-up limit; I2 no GPU given twice, by placements or by pods; I3 no pod
without a live owner of the right UID, none of an attempt that is not placed, and none beside a living pod of an older
attempt; I4 creations and deletions of each object as in the undisturbed run; I5 the status never forgets or takes back
a checkpoint (trainers themselves are part of the tests on kind); I6 every waiting job has a current reason; I7 status
never says what the pods do not show.

All of it is read from the API server's own history. That history orders all objects by resourceVersion, so what a
status says is compared with what the pods had shown before it was written. Pods that are not ours only take room.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

from world.history import Event

Json = dict[str, Any]
Gang = tuple[str, int]
OVER = ("Succeeded", "Failed")
NAMESPACED = ("pods", "trainingjobs")
START_LIMIT_SECONDS = 60.0
ATTEMPT, RANK = "stowplan.dev/attempt", "stowplan.dev/rank"


def counts(events: Sequence[Event]) -> dict[str, tuple[int, int]]:
    """(creations, deletions) of every pod and job by name, to be compared with another run's."""
    made: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for event in events:
        if event.resource in NAMESPACED and event.type in ("ADDED", "DELETED"):
            made[f"{event.resource}/{event.object['metadata']['name']}"][event.type == "DELETED"] += 1
    return {name: (created, deleted) for name, (created, deleted) in sorted(made.items())}


def violations(events: Sequence[Event], *, gpus_per_node: int) -> list[str]:
    """One line for each broken invariant. Nodes are whole at the beginning."""
    oracle = _Oracle(gpus_per_node)
    found = [line for event in events for line in oracle.see(event)]
    return list(dict.fromkeys([*found, *oracle.at_rest()]))


class _Oracle:
    """The objects as they stand after each event."""

    def __init__(self, gpus_per_node: int) -> None:
        self._gpus_per_node = gpus_per_node
        self._jobs: dict[str, Json] = {}
        self._deleted: set[str] = set()
        self._pods: dict[str, Json] = {}
        self._gangs: dict[Gang, set[str]] = collections.defaultdict(set)
        self._on_node: dict[str, set[str]] = collections.defaultdict(set)
        self._placed_on: dict[str, set[str]] = collections.defaultdict(set)
        # Pods that were on a node when it was lost: nobody can know when they end.
        self._lost: set[str] = set()
        self._have_run: set[Gang] = set()
        # Ranks that have exited 0: a status may remember them when their pods are gone.
        self._succeeded: dict[Gang, set[int]] = collections.defaultdict(set)
        self._partly_since: dict[Gang, float] = {}
        self._checkpoints: dict[str, int] = {}

    def see(self, event: Event) -> Iterator[str]:
        """What this event breaks."""
        if event.resource == "nodes":
            self._see_node(event)
        elif event.resource == "pods":
            yield from self._see_pod(event)
        elif event.resource == "trainingjobs":
            yield from self._see_job(event)

    def at_rest(self) -> Iterator[str]:
        """What is broken at the end, when nothing changes any more."""
        for uid, pod in self._pods.items():
            if not _is_ours(pod) or uid in self._lost:
                continue
            name, job = pod["metadata"]["name"], self._jobs.get(_owner(pod))
            if job is None:
                yield f"I3: pod {name} is left without an owner"
            elif _is_live(pod):
                status = job.get("status") or {}
                placed = (status.get("placement") or {}).get("attempt")
                if placed != _attempt(pod) or status.get("phase") in OVER:
                    yield f"I3: pod {name} lives, but attempt {placed} is placed and the job is {status.get('phase')}"
        for job in self._jobs.values():
            yield from _without_reason(job)

    def _see_node(self, event: Event) -> None:
        ready = {c["type"]: c["status"] for c in event.object["status"].get("conditions", ())}.get("Ready")
        if event.type == "DELETED" or (event.type == "MODIFIED" and ready != "True"):
            self._lost |= self._on_node[event.object["metadata"]["name"]]

    def _see_pod(self, event: Event) -> Iterator[str]:
        pod = event.object
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName", "")
        if event.type == "DELETED":
            self._pods.pop(uid, None)
            self._lost.discard(uid)
            self._on_node[node].discard(uid)
        else:
            self._pods[uid] = pod
            self._on_node[node].add(uid)
        if node and event.type != "DELETED":
            yield from self._given_twice(node)
        if not _is_ours(pod):
            return
        gang = (_owner(pod), _attempt(pod))
        if event.type == "DELETED":
            self._gangs[gang].discard(uid)
        else:
            self._gangs[gang].add(uid)
        if event.type == "ADDED":
            yield from self._wrongly_created(pod)
        if pod["status"].get("phase") == "Succeeded":
            self._succeeded[gang].add(_rank(pod))
        job = self._jobs.get(gang[0])
        if job is not None:
            yield from self._too_long_partly_bound(event.at, gang, job)
            shown = {_rank(one) for one in self._of(gang) if one["status"].get("phase") == "Running"}
            if len(shown | self._succeeded[gang]) >= _size(job, gang[1]):
                self._have_run.add(gang)

    def _see_job(self, event: Event) -> Iterator[str]:
        job = event.object
        uid = job["metadata"]["uid"]
        before, now = _placement(self._jobs.get(uid, {})), _placement(job)
        for share in before.get("nodes", ()):
            self._placed_on[share["name"]].discard(uid)
        if event.type == "DELETED":
            self._jobs.pop(uid, None)
            self._deleted.add(uid)
            return
        self._jobs[uid] = job
        for share in now.get("nodes", ()):
            self._placed_on[share["name"]].add(uid)
        if now.get("attempt") != before.get("attempt"):
            for share in now.get("nodes", ()):
                yield from self._given_twice(share["name"])
        yield from self._said_too_much(job)
        yield from self._went_back(job)

    def _of(self, gang: Gang) -> list[Json]:
        return [self._pods[uid] for uid in self._gangs[gang]]

    def _given_twice(self, node: str) -> Iterator[str]:
        """By the pods that are bound there; and by what is placed there, with the pods that are not part of that."""
        live = [self._pods[uid] for uid in self._on_node[node] if _is_live(self._pods[uid])]
        bound = sum(_gpus(pod) for pod in live)
        if bound > self._gpus_per_node:
            yield f"I2: pods with {bound} GPUs are bound to {node}, which has {self._gpus_per_node}"
        placed = sum(_gpus(pod) for pod in live if not self._is_current(pod))
        for uid in self._placed_on[node]:
            job = self._jobs[uid]
            if job["status"].get("phase") in OVER:
                continue
            gang = (uid, _placement(job)["attempt"])
            ended = {_rank(pod) for pod in self._of(gang) if not _is_live(pod)} | self._succeeded[gang]
            per_pod = int(job["spec"].get("resourcesPerNode", {}).get("nvidia.com/gpu", 0))
            placed += per_pod * len(set(_ranks_on(job, node)) - ended)
        if placed > self._gpus_per_node:
            holders = [self._jobs[uid]["metadata"]["name"] for uid in self._placed_on[node]]
            others = [pod["metadata"]["name"] for pod in live if not self._is_current(pod)]
            yield (
                f"I2: {placed} GPUs are given away on {node}, which has {self._gpus_per_node}: "
                f"jobs {sorted(holders)}, older pods {sorted(others)}"
            )

    def _is_current(self, pod: Json) -> bool:
        """Whether the pod's GPUs are counted through its job's placement."""
        job = self._jobs.get(_owner(pod), {}) if _is_ours(pod) else {}
        if not _placement(job) or job["status"].get("phase") in OVER:
            return False
        return bool(_placement(job)["attempt"] == _attempt(pod))

    def _wrongly_created(self, pod: Json) -> Iterator[str]:
        name, attempt, owner = pod["metadata"]["name"], _attempt(pod), _owner(pod)
        job = self._jobs.get(owner)
        if job is None:
            # A creation may be on its way when its job is deleted: no precondition can stop it. The garbage collector
            # takes the pod, which is looked at in the end.
            if owner not in self._deleted:
                yield f"I3: pod {name} was created without an owner"
            return
        placed = _placement(job).get("attempt")
        if placed != attempt:
            yield f"I3: pod {name} was created while attempt {placed} was placed"
        for older in range(1, attempt):
            for other in self._of((owner, older)):
                if _is_live(other) and other["metadata"]["uid"] not in self._lost:
                    yield f"I3: pod {name} was created while pod {other['metadata']['name']} still lived"

    def _too_long_partly_bound(self, at: float, gang: Gang, job: Json) -> Iterator[str]:
        bound = [
            pod
            for pod in self._of(gang)
            if pod["spec"].get("nodeName") and _is_live(pod) and pod["metadata"]["uid"] not in self._lost
        ]
        ended = [pod for pod in self._of(gang) if not _is_live(pod)]
        if bound and len(bound) + len(ended) < _size(job, gang[1]):
            since = self._partly_since.setdefault(gang, at)
            if at - since > START_LIMIT_SECONDS:
                yield f"I1: attempt {gang[1]} of {job['metadata']['name']} was partly bound for {at - since:.0f} s"
        else:
            self._partly_since.pop(gang, None)

    def _said_too_much(self, job: Json) -> Iterator[str]:
        status = job.get("status") or {}
        name, gang = job["metadata"]["name"], (job["metadata"]["uid"], status.get("attempt", 0))
        phase = status.get("phase")
        if phase in ("Running", "Succeeded") and gang not in self._have_run:
            yield f"I7: {name} says {phase}, but attempt {gang[1]} never ran with all its pods"
        if phase == "Succeeded" and _placement(job) and len(self._succeeded[gang]) < _size(job, gang[1]):
            ended = len(self._succeeded[gang])
            yield f"I7: {name} says Succeeded, but only {ended} pods of attempt {gang[1]} have succeeded"

    def _went_back(self, job: Json) -> Iterator[str]:
        uid, name = job["metadata"]["uid"], job["metadata"]["name"]
        said = ((job.get("status") or {}).get("progress") or {}).get("checkpointStep")
        before = self._checkpoints.get(uid)
        if before is not None and (said is None or said < before):
            yield f"I5: {name} says checkpoint {said} after {before}"
        if said is not None:
            self._checkpoints[uid] = max(said, before or 0)


def _is_ours(pod: Json) -> bool:
    return ATTEMPT in (pod["metadata"].get("labels") or {})


def _owner(pod: Json) -> str:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("uid", ""))


def _attempt(pod: Json) -> int:
    return int(pod["metadata"]["labels"][ATTEMPT])


def _rank(pod: Json) -> int:
    return int(pod["metadata"]["labels"][RANK])


def _is_live(pod: Json) -> bool:
    return pod["status"].get("phase") not in OVER


def _gpus(pod: Json) -> int:
    return sum(
        int((one.get("resources", {}).get("limits") or {}).get("nvidia.com/gpu", 0))
        for one in pod["spec"]["containers"]
    )


def _placement(job: Json) -> Json:
    return (job.get("status") or {}).get("placement") or {}


def _size(job: Json, attempt: int) -> int:
    """Pods of an attempt, which of an elastic job need not be numNodes."""
    if _placement(job).get("attempt") == attempt:
        return sum(len(_ranks(share["ranks"])) for share in _placement(job)["nodes"])
    ended = [one["nodes"] for one in (job.get("status") or {}).get("history", ()) if one["attempt"] == attempt]
    return int(ended[0] if ended else job["spec"]["numNodes"])


def _ranks(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _ranks_on(job: Json, node: str) -> list[int]:
    return [rank for share in _placement(job)["nodes"] if share["name"] == node for rank in _ranks(share["ranks"])]


def _without_reason(job: Json) -> Iterator[str]:
    status = job.get("status") or {}
    name = job["metadata"]["name"]
    if status.get("phase", "Pending") in ("Pending", "Restarting") and not status.get("reason"):
        yield f"I6: {name} waits without a reason"
    if status.get("observedGeneration") != job["metadata"]["generation"]:
        yield f"I6: the status of {name} speaks of generation {status.get('observedGeneration')}, not the current one"
