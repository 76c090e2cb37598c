"""Why an attempt failed, and where: the cause that breaks a gang, found in what its pods and nodes show. Pure."""

from __future__ import annotations

import dataclasses
import enum
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stowplan_operator import api, evidence, startup, views

Json = dict[str, Any]

BIND_TIMEOUT_SECONDS = 60
# Longer than the largest gang takes on a slow API server; a refusal (quota, Pod Security) lasts.
CREATE_TIMEOUT_SECONDS = 120
# A rank that lost a peer ends at once; what its peer ended of is seen up to a second or two later.
VICTIM_WAIT_SECONDS = 2
_LOG_TAIL_CHARACTERS = 2048
_SHORT_CHARACTERS = 200
# The runtime's words for a command that is not in the image, and the like.
_NOT_EVEN_BEGUN = ("StartError", "ContainerCannotRun")


class Cause(enum.StrEnum):
    """Why an attempt ended. Only the first group is charged to ``failurePolicy.maxRestarts``."""

    CONTAINER_FAILED = "ContainerFailed"
    OUT_OF_MEMORY = "OOMKilled"
    STARTUP_TIMEOUT = "StartupTimeout"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    XID_ERROR = "XidError"
    HANG = "Hang"

    PEER_LOST = "PeerLost"
    POD_DELETED = "PodDeleted"
    POD_STOPPED = "PodStopped"
    POD_EVICTED = "PodEvicted"
    NODE_LOST = "NodeLost"
    NOT_CREATED = "NotCreated"
    NOT_BOUND = "NotBound"
    REFUSED_BY_KUBELET = "RefusedByKubelet"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    NODE_STARTUP_TIMEOUT = "NodeStartupTimeout"
    NODE_DRAINING = "NodeDraining"
    NODE_TAINTED = "NodeTainted"
    NODE_UNHEALTHY = "NodeUnhealthy"
    GPU_UNHEALTHY = "GPUUnhealthy"

    DEADLINE_EXCEEDED = "DeadlineExceeded"

    @property
    def is_charged(self) -> bool:
        """Whether the user's restart budget pays for it."""
        return self in _CHARGED


_CHARGED = frozenset(
    {
        Cause.CONTAINER_FAILED,
        Cause.OUT_OF_MEMORY,
        Cause.STARTUP_TIMEOUT,
        Cause.IMAGE_PULL_FAILED,
        Cause.CONTAINER_CONFIG_ERROR,
        Cause.XID_ERROR,
        Cause.HANG,
    }
)
NEVER_STARTED = (
    Cause.STARTUP_TIMEOUT,
    Cause.IMAGE_PULL_FAILED,
    Cause.CONTAINER_CONFIG_ERROR,
    Cause.REGISTRY_UNAVAILABLE,
    Cause.NODE_STARTUP_TIMEOUT,
    Cause.NOT_CREATED,
    Cause.NOT_BOUND,
)
# Nothing ran and nothing was lost: tried again for as long as it takes.
UNLIMITED = (Cause.NOT_CREATED, Cause.NOT_BOUND)


# Faults that the node may have caused, whatever runs on it; and nodes that go, where nothing should come back to.
NODES_FAULTS = frozenset(
    {
        Cause.NODE_LOST,
        Cause.PEER_LOST,
        Cause.REFUSED_BY_KUBELET,
        Cause.STARTUP_TIMEOUT,
        Cause.NODE_STARTUP_TIMEOUT,
        Cause.POD_EVICTED,
        Cause.NODE_DRAINING,
        Cause.NODE_TAINTED,
        Cause.NODE_UNHEALTHY,
        Cause.GPU_UNHEALTHY,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why and where an attempt failed; ``rank`` is -1 where no one pod is to blame, ``xid`` 0 where none was seen.

    ``step`` is the last one that the attempt reported.
    ``is_planned`` says that all pods still do well: they are stopped with the time to write a checkpoint.
    """

    cause: Cause
    message: str
    rank: int = -1
    pod: str = ""
    node: str = ""
    exit_code: int | None = None
    signal: int = 0
    xid: int = 0
    step: int | None = None
    log_tail: str = ""
    is_planned: bool = False

    def where(self) -> Json:
        """Rank, node and numbers as ``lastFailure`` and ``history`` hold them; what is not known is left out."""
        entry: Json = {"rank": self.rank} if self.rank >= 0 else {}
        if self.node:
            entry["node"] = self.node
        if self.exit_code is not None:
            entry["exitCode"] = self.exit_code
        if self.signal:
            entry["signal"] = self.signal
        if self.xid:
            entry["xid"] = self.xid
        return entry

    def to_status(self, *, attempt: int, now_seconds: float) -> Json:
        """As ``status.lastFailure``."""
        entry: Json = {
            "attempt": attempt,
            "reason": self.cause.value,
            "message": self.message,
            "time": views.format_time(now_seconds),
            **self.where(),
        }
        if self.pod:
            entry["pod"] = self.pod
        if self.step is not None:
            entry["step"] = self.step
        if self.log_tail:
            entry["logTail"] = self.log_tail
        return entry

    def to_history(self) -> Json:
        """What ``status.history`` keeps of it beside its reason."""
        return {**self.where(), "message": self.message[:_SHORT_CHARACTERS]}


def find_failure(
    current: Mapping[int, views.PodView],
    placement: Mapping[str, Any],
    *,
    ranks: Mapping[int, str],
    spec: api.TrainingJobSpec,
    lost_nodes: Collection[str],
    now_seconds: float,
    refusal: str = "",
    node_fault: Failure | None = None,
) -> Failure | None:
    """The first cause that breaks the gang: a lost node explains a deleted pod, a deleted pod a failed peer.

    ``ranks`` are those that have not exited 0, with their nodes.

    ``refusal`` is what the API server last said where it refused to create a pod; ``node_fault`` is what is wrong
    with a node or GPU under a gang whose pods still run.
    """
    started = placement.get("startedAt")
    missing = sorted(set(ranks) - set(current))
    # All ranks must take part in a checkpoint.
    all_run = not missing and all(pod.phase == "Running" for pod in current.values())
    can_save = bool(started) and all_run and not placement.get("finishedRanks")
    for rank, node in sorted(ranks.items()):
        pod = current.get(rank)
        if node in lost_nodes and (pod is None or not pod.is_terminal):
            name = pod.name if pod else ""
            return Failure(Cause.NODE_LOST, f"node {node} is gone or not ready", rank=rank, pod=name, node=node)
    for _, pod in sorted(current.items()):
        if pod.disruption and pod.phase != "Succeeded":
            evicted = _of_pod(Cause.POD_EVICTED, pod, f"pod {pod.name} was evicted ({pod.disruption})")
            return dataclasses.replace(evicted, is_planned=can_save)
        if pod.deleting_since and not pod.is_terminal:
            return _of_pod(Cause.POD_DELETED, pod, f"pod {pod.name} is being deleted, and not by Stowplan")
    for rank in missing if started else ():
        return Failure(Cause.POD_DELETED, f"the pod of rank {rank} is gone", rank=rank, node=ranks[rank])
    if failed := [pod for pod in current.values() if pod.phase == "Failed"]:
        # A moment in the future is that of a node whose clock is wrong.
        if 0 < judged_at(current) - now_seconds <= VICTIM_WAIT_SECONDS:
            return None
        return _pods_failure(_first_of(failed), current)
    if node_fault is not None:
        return dataclasses.replace(node_fault, is_planned=node_fault.is_planned and can_save)
    if started:
        return None
    planned = views.parse_time(placement.get("plannedAt"))
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
    for _, pod in sorted(current.items()):
        patience = startup.patience_seconds(pod.waiting_reason, pod.waiting_message)
        if patience is not None and not _runs_elsewhere(pod, current) and now_seconds - pod.created_at >= patience:
            return _not_started(pod, current, f"cannot start within {patience} s" if patience else "can never start")
    if now_seconds - planned >= spec.startup_timeout_seconds:
        return _startup_failure(current, ranks=ranks, limit_seconds=spec.startup_timeout_seconds)
    return None


def patience_ends(pods: Iterable[views.PodView]) -> list[float]:
    """When waiting for these pods to start makes no sense any more (Unix seconds)."""
    waits = ((pod, startup.patience_seconds(pod.waiting_reason, pod.waiting_message)) for pod in pods)
    return [pod.created_at + seconds for pod, seconds in waits if seconds is not None]


def _of_pod(cause: Cause, pod: views.PodView, message: str) -> Failure:
    return Failure(cause, message, rank=pod.rank, pod=pod.name, node=pod.node)


def _first_of(failed: Sequence[views.PodView]) -> views.PodView:
    """The pod whose end says most about the cause; of equals the one that ended first: the others followed it."""

    def order(pod: views.PodView) -> tuple[bool, int, float, int]:
        if pod.end is None:
            return True, 0, 0.0, pod.rank
        return False, evidence.read(pod.end).weight, pod.end.finished_at, pod.rank

    return min(failed, key=order)


def judged_at(current: Mapping[int, views.PodView]) -> float:
    """When a gang of which only victims have failed so far is judged (Unix seconds); 0 where nothing is waited for.

    A pod that tells more may end a moment after its peers. By then they have ended, which a restart needs anyway.
    """
    failed = [pod for pod in current.values() if pod.phase == "Failed"]
    if not failed or all(pod.is_terminal for pod in current.values()):
        return 0.0
    first = _first_of(failed)
    if first.end is None or not evidence.read(first.end).weight.is_victim:
        return 0.0
    return first.end.finished_at + VICTIM_WAIT_SECONDS


def _pods_failure(first: views.PodView, current: Mapping[int, views.PodView]) -> Failure:
    if first.end is None:
        return _of_pod(
            Cause.REFUSED_BY_KUBELET,
            first,
            f"pod {first.name} failed before its container ran: {first.waiting_message}",
        )
    read = evidence.read(first.end)
    cause, how = Cause.CONTAINER_FAILED, f"exited with code {read.exit_code}"
    if first.end.reason in _NOT_EVEN_BEGUN:
        how = f"could not begin its command ({first.end.reason}: {first.end.message[:_SHORT_CHARACTERS]})"
    if first.end.reason == "OOMKilled":
        cause, how = Cause.OUT_OF_MEMORY, "was killed for exceeding its memory limit"
    elif first.deleting_since and (read.was_stopped or read.signal in (signal.SIGTERM, signal.SIGKILL)):
        cause, how = Cause.POD_DELETED, "was deleted, and not by Stowplan"
    elif read.was_stopped:
        cause, how = Cause.POD_STOPPED, f"was told to stop (SIGTERM, exit code {read.exit_code}), and not by Stowplan"
    elif read.weight is evidence.Weight.TIMED_OUT:
        how += " after it had waited for its peers in vain; which rank hung is not known"
    elif read.weight is evidence.Weight.PEER_LOST:
        return _peer_lost(first, read, current)
    return _with_end(cause, first, read, f"rank {first.rank} on {first.node} {how}{_in_its_words(read)}")


def _peer_lost(first: views.PodView, read: evidence.Evidence, current: Mapping[int, views.PodView]) -> Failure:
    """No rank says what happened. A peer that left with 0 broke the gang; one that is silent may sit on a lost node."""
    how = f"rank {first.rank} on {first.node} lost its connection to a peer"
    left = [str(pod.rank) for _, pod in sorted(current.items()) if pod.phase == "Succeeded"]
    if left:
        text = f"{how}, and rank {', '.join(left[:8])} had exited 0 before: all ranks must end together"
        return _with_end(Cause.CONTAINER_FAILED, first, read, text + _in_its_words(read))
    silent = [pod for _, pod in sorted(current.items()) if not pod.is_terminal]
    if len(silent) == 1:
        (pod,) = silent
        return _of_pod(
            Cause.PEER_LOST, pod, f"{how}; rank {pod.rank} on {pod.node} has not ended, and may be cut off or hang"
        )
    known = f"{len(silent)} ranks have not ended" if silent else "no rank ended of a cause of its own"
    found = _with_end(Cause.PEER_LOST, first, read, f"{how}; {known}, so which one was first is not known")
    return dataclasses.replace(found, node="")


def _with_end(cause: Cause, pod: views.PodView, read: evidence.Evidence, message: str) -> Failure:
    return Failure(
        cause,
        message,
        rank=pod.rank,
        pod=pod.name,
        node=pod.node,
        exit_code=read.exit_code,
        signal=read.signal,
        log_tail=pod.end.message[-_LOG_TAIL_CHARACTERS:] if pod.end else "",
    )


def _in_its_words(read: evidence.Evidence) -> str:
    return f": {read.said}" if read.said else ""


def _startup_failure(current: Mapping[int, views.PodView], *, ranks: Mapping[int, str], limit_seconds: int) -> Failure:
    late = [pod for _, pod in sorted(current.items()) if not pod.running and not pod.is_terminal]
    if not late:
        missing = min(set(ranks) - set(current), default=-1)
        return Failure(
            Cause.STARTUP_TIMEOUT,
            f"the pod of rank {missing} did not exist within spec.startupTimeoutSeconds ({limit_seconds} s)",
            rank=missing,
            node=ranks.get(missing, ""),
        )
    # The first that says why it waits.
    guilty = min(late, key=lambda pod: (not pod.waiting_message, pod.rank))
    more = f", like {len(late) - 1} more" if len(late) > 1 else ""
    text = f"was not running within spec.startupTimeoutSeconds ({limit_seconds} s){more}"
    return _not_started(guilty, current, text)


_STARTUP_CAUSES = {
    startup.Trouble.IMAGE: Cause.IMAGE_PULL_FAILED,
    startup.Trouble.CONFIG: Cause.CONTAINER_CONFIG_ERROR,
    startup.Trouble.REGISTRY: Cause.REGISTRY_UNAVAILABLE,
    startup.Trouble.UNKNOWN: Cause.STARTUP_TIMEOUT,
}


def _not_started(pod: views.PodView, current: Mapping[int, views.PodView], how: str) -> Failure:
    """Where another node runs the same image with the same configuration, the fault is this node's."""
    cause = _STARTUP_CAUSES[startup.trouble_of(pod.waiting_reason, pod.waiting_message)]
    why = startup.described(pod.waiting_reason, pod.waiting_message, pod=pod.name)
    if _runs_elsewhere(pod, current):
        cause, why = Cause.NODE_STARTUP_TIMEOUT, f"{why}; other nodes do run pods of this gang"
    return _of_pod(cause, pod, f"pod {pod.name} on {pod.node or 'no node'} {how}: {why}")


def _runs_elsewhere(pod: views.PodView, current: Mapping[int, views.PodView]) -> bool:
    return any(other.node != pod.node and (other.running or other.is_terminal) for other in current.values())
