"""What each reason of a waiting job means, in plain words, and whether waiting helps.

The reasons are the allocator's fixed list (a test compares them) with those that the operator adds. A
reason that is not listed here is shown with the operator's own message alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from stowplan_operator import api


@dataclass(frozen=True, slots=True)
class Meaning:
    """A sentence or two for people, and the kubectl or stowplan words of the next command with what it shows."""

    text: str
    command: tuple[str, ...]
    shows: str


_LIST = ("stowplan", "list", "-A")
_NODES = ("get", "nodes", "-L", "nvidia.com/gpu.product,topology.stowplan.dev/rack")
_GET = ("stowplan", "get", "{job}")
_QUOTAS = ("describe", "resourcequota")
_EDIT = ("edit", "tj", "{job}")

MEANINGS = {
    "Misconfigured": Meaning(
        "The job cannot be run as it is written; waiting does not help. Correct the field that the message names.",
        _EDIT,
        "correct the job",
    ),
    "ExceedsClusterCapacity": Meaning(
        "The job asks for more than the cluster has when it is empty; waiting does not help. Ask for fewer or smaller "
        "pods, or add nodes.",
        _NODES,
        "the nodes that there are",
    ),
    "NoMatchingAccelerator": Meaning(
        "No node has an accelerator product that the job accepts and that it may use (selectors, taints); waiting does "
        "not help. Accept another product or add such nodes.",
        _NODES,
        "the products that there are",
    ),
    "ExceedsQuota": Meaning(
        "The job asks for more than its queue may ever use; waiting does not help. Ask for less, use another queue, or "
        "have the queue's quota or limit raised.",
        _EDIT,
        "change the job or its queue",
    ),
    "WaitingForQuota": Meaning(
        "The job's queue, or one above it, has no quota left, or runs as many jobs as it may. It starts by itself when "
        "jobs of the named queue end or give back what they borrow.",
        _LIST,
        "who uses the quota",
    ),
    "ExceedsResourceQuota": Meaning(
        "The job asks for more than a ResourceQuota of its namespace allows in all; waiting does not help. Ask for "
        "less, or have the quota raised.",
        _QUOTAS,
        "the quotas of the namespace",
    ),
    "WaitingForResourceQuota": Meaning(
        "A ResourceQuota of the job's namespace has too little left: its pods would be refused. It starts by itself "
        "when the named jobs, or other pods of the namespace, end.",
        _QUOTAS,
        "the quotas of the namespace and what is used of them",
    ),
    "WaitingForCapacity": Meaning(
        "The cluster has what the job asks for, but other jobs or pods hold it now. It starts by itself when enough "
        "is free.",
        _LIST,
        "who holds the accelerators",
    ),
    "Fragmented": Meaning(
        "Enough accelerators are free in all, but too few on one node for one of the pods. It starts by itself when a "
        "node has room for a whole pod; smaller pods would start sooner.",
        _LIST,
        "who holds the accelerators",
    ),
    "TopologyUnsatisfied": Meaning(
        "There is room, but not within one domain of the topology level that the job requires. It starts by itself "
        "when one domain has room for all pods; with mode Preferred it could spread.",
        _LIST,
        "who holds the accelerators",
    ),
    "NodesUnhealthy": Meaning(
        "The job would start if nodes were not cordoned, not ready or reported sick. It starts by itself when they "
        "come back.",
        ("get", "nodes"),
        "which nodes are not ready or cordoned",
    ),
    "ReservedForLargerJob": Meaning(
        "Room for it is kept for a larger job that waits longer. It starts by itself when it can end before that job "
        "starts, or after it.",
        _LIST,
        "the job that the room is kept for",
    ),
    "WaitingForPreemption": Meaning(
        "Its room is decided: running jobs that must give way save their work and leave. It starts by itself when "
        "they are gone.",
        _LIST,
        "the jobs that leave",
    ),
    "QueuedBehind": Meaning(
        "Jobs of higher priority, or older ones of the same, go first. It starts by itself after them.",
        _LIST,
        "the jobs before it",
    ),
    "SolverTimeLimit": Meaning(
        "The solver ran out of time before it found a place for this job; that does not mean that there is none. It is "
        "tried again in every cycle.",
        _LIST,
        "the jobs that run and wait",
    ),
    "Planning": Meaning("The planner has not looked at the job yet; that takes seconds.", _GET, "what happened so far"),
    "WaitingForOldPods": Meaning(
        "Older pods are still stopping and hold their accelerators; it goes on when they have left.",
        ("get", "pods", "-l", f"{api.LABEL_JOB}={{job}}", "-o", "wide"),
        "the pods that are still there",
    ),
    "BackOff": Meaning(
        "It failed several times soon after its start, so the next attempt is delayed; the delay doubles each time.",
        _GET,
        "its attempts and the last failure",
    ),
    "ApiError": Meaning(
        "The API server refused something that the job needs, often because of a quota or a policy. The operator tries "
        "again all the time.",
        _GET,
        "its events",
    ),
    "Suspended": Meaning(
        "The job holds no accelerators and is not planned until it is resumed.",
        ("stowplan", "resume", "{job}"),
        "let it be planned again",
    ),
}


def meaning(reason: str, *, queue_to_mend: str = "") -> Meaning | None:
    """What a reason means, None for one that is not known here; ``queue_to_mend`` is wrong where the job is not."""
    if queue_to_mend and reason == "Misconfigured":
        return _of_queue(queue_to_mend)
    return MEANINGS.get(reason)


def _of_queue(name: str) -> Meaning:
    text = (
        f'Nothing is wrong with the job: its queue cannot be planned with until queue "{name}" is corrected, so none '
        "of the queue's jobs starts. It starts by itself after that."
    )
    return Meaning(text, ("edit", "q", name), "correct the queue, which takes an administrator's rights")
