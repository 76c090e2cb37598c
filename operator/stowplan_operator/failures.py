"""Why an attempt failed, and where: the cause that breaks a gang, found in what its pods and nodes show. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stowplan_operator import api, views

Json = dict[str, Any]

BIND_TIMEOUT_SECONDS = 60
# Longer than the largest gang takes on a slow API server; a refusal (quota, Pod Security) lasts.
CREATE_TIMEOUT_SECONDS = 120
_LOG_TAIL_CHARACTERS = 2048


class Cause(enum.StrEnum):
    """Why an attempt ended. Only the first group is charged to ``failurePolicy.maxRestarts``."""

    CONTAINER_FAILED = "ContainerFailed"
    OUT_OF_MEMORY = "OOMKilled"
    STARTUP_TIMEOUT = "StartupTimeout"

    POD_DELETED = "PodDeleted"
    POD_EVICTED = "PodEvicted"
    NODE_LOST = "NodeLost"
    NOT_CREATED = "NotCreated"
    NOT_BOUND = "NotBound"
    REFUSED_BY_KUBELET = "RefusedByKubelet"

    DEADLINE_EXCEEDED = "DeadlineExceeded"

    @property
    def is_charged(self) -> bool:
        """Whether the user's restart budget pays for it."""
        return self in (Cause.CONTAINER_FAILED, Cause.OUT_OF_MEMORY, Cause.STARTUP_TIMEOUT)


NEVER_STARTED = (Cause.STARTUP_TIMEOUT, Cause.NOT_CREATED, Cause.NOT_BOUND)
# Nothing ran and nothing was lost: tried again for as long as it takes.
UNLIMITED = (Cause.NOT_CREATED, Cause.NOT_BOUND)


# Faults that the node may have caused, whatever runs on it.
NODES_FAULTS = frozenset(cause.value for cause in (Cause.NODE_LOST, Cause.REFUSED_BY_KUBELET, Cause.STARTUP_TIMEOUT))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why and where an attempt failed; ``rank`` is -1 where no single pod is to blame."""

    cause: Cause
    message: str
    rank: int = -1
    pod: str = ""
    node: str = ""
    exit_code: int | None = None
    signal: int = 0
    log_tail: str = ""

    def to_status(self, *, attempt: int, now_seconds: float) -> Json:
        """As ``status.lastFailure``."""
        entry: Json = {
            "attempt": attempt,
            "reason": self.cause.value,
            "message": self.message,
            "time": views.format_time(now_seconds),
        }
        if self.rank >= 0:
            entry |= {"rank": self.rank, "pod": self.pod, "node": self.node}
        if self.exit_code is not None:
            entry["exitCode"] = self.exit_code
        if self.signal:
            entry["signal"] = self.signal
        if self.log_tail:
            entry["logTail"] = self.log_tail
        return entry


def find_failure(
    current: Mapping[int, views.PodView],
    placement: Mapping[str, Any],
    *,
    ranks: Mapping[int, str],
    spec: api.TrainingJobSpec,
    lost_nodes: Collection[str],
    now_seconds: float,
    refusal: str = "",
) -> Failure | None:
    """The first cause that breaks the gang: a lost node explains a deleted pod, a deleted pod a failed peer.

    ``refusal`` is what the API server last said where it refused to create a pod.
    """
    for rank, node in sorted(ranks.items()):
        pod = current.get(rank)
        if node in lost_nodes and (pod is None or not pod.is_terminal):
            name = pod.name if pod else ""
            return Failure(Cause.NODE_LOST, f"node {node} is gone or not ready", rank=rank, pod=name, node=node)
    for _, pod in sorted(current.items()):
        if pod.disruption and pod.phase != "Succeeded":
            return _of_pod(Cause.POD_EVICTED, pod, f"pod {pod.name} was evicted ({pod.disruption})")
        if pod.deleting_since and not pod.is_terminal:
            return _of_pod(Cause.POD_DELETED, pod, f"pod {pod.name} is being deleted, and not by Stowplan")
    started = placement.get("startedAt")
    for rank in sorted(set(ranks) - set(current)) if started else ():
        return Failure(Cause.POD_DELETED, f"the pod of rank {rank} is gone", rank=rank, node=ranks[rank])
    failed = [pod for pod in current.values() if pod.phase == "Failed"]
    if failed:
        return _container_failure(failed)
    if started:
        return None
    planned = views.parse_time(placement.get("plannedAt"))
    missing = sorted(set(ranks) - set(current))
    if missing and now_seconds - planned >= CREATE_TIMEOUT_SECONDS:
        return Failure(
            Cause.NOT_CREATED,
            f"{len(missing)} of {len(ranks)} pods could not be created within {CREATE_TIMEOUT_SECONDS} s"
            + (f": {refusal}" if refusal else ""),
        )
    for rank, pod in sorted(current.items()):
        if not pod.node and pod.created_at and now_seconds - pod.created_at >= BIND_TIMEOUT_SECONDS:
            return _of_pod(
                Cause.NOT_BOUND,
                pod,
                f"kube-scheduler did not bind pod {pod.name} to node {ranks.get(rank, '?')} within "
                f"{BIND_TIMEOUT_SECONDS} s: {pod.waiting_message or 'no reason was given'}",
            )
    if now_seconds - planned >= spec.startup_timeout_seconds:
        return _startup_failure(current, ranks=ranks, limit_seconds=spec.startup_timeout_seconds)
    return None


def _of_pod(cause: Cause, pod: views.PodView, message: str) -> Failure:
    return Failure(cause, message, rank=pod.rank, pod=pod.name, node=pod.node)


def _container_failure(failed: Sequence[views.PodView]) -> Failure:
    """The pod that failed first is the cause; the others followed it."""
    first = min(failed, key=lambda pod: (pod.end is None, pod.end.finished_at if pod.end else 0.0, pod.rank))
    if first.end is None:
        return _of_pod(
            Cause.REFUSED_BY_KUBELET,
            first,
            f"pod {first.name} failed before its container ran: {first.waiting_message}",
        )
    end = first.end
    out_of_memory = end.reason == "OOMKilled"
    how = "was killed for exceeding its memory limit" if out_of_memory else f"exited with code {end.exit_code}"
    return Failure(
        Cause.OUT_OF_MEMORY if out_of_memory else Cause.CONTAINER_FAILED,
        f"rank {first.rank} on {first.node} {how}",
        rank=first.rank,
        pod=first.name,
        node=first.node,
        exit_code=end.exit_code,
        signal=end.signal,
        log_tail=end.message[-_LOG_TAIL_CHARACTERS:],
    )


def _startup_failure(current: Mapping[int, views.PodView], *, ranks: Mapping[int, str], limit_seconds: int) -> Failure:
    late = next((pod for _, pod in sorted(current.items()) if not pod.running), None)
    if late is None:
        missing = min(set(ranks) - set(current), default=-1)
        return Failure(
            Cause.STARTUP_TIMEOUT,
            f"the pod of rank {missing} did not exist within spec.startupTimeoutSeconds ({limit_seconds} s)",
            rank=missing,
            node=ranks.get(missing, ""),
        )
    why = late.waiting_message or late.waiting_reason or "its container did not start"
    return _of_pod(
        Cause.STARTUP_TIMEOUT,
        late,
        f"pod {late.name} on {late.node or 'no node'} was not running within spec.startupTimeoutSeconds "
        f"({limit_seconds} s): {why}",
    )
