"""What must hold after every cycle, whatever happened: written once, checked by every scenario.

Each check looks at the API server's own objects, not at what the operator believes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fakes import builders
from fakes.machinery import pinned_node, used_on
from fakes.server import Json, Server, owner_uid
from stowplan_allocator import types
from stowplan_operator import api, elastic, podspec, views

TERMINAL_PHASES = ("Succeeded", "Failed")
MAX_STATUS_BYTES = 64 * 1024


def check(
    server: Server,
    *,
    crowded: frozenset[str] = frozenset(),
    lost: frozenset[str] = frozenset(),
    is_lagging: bool = False,
    has_garbage: bool = False,
    is_open: bool = False,
) -> None:
    """Raise AssertionError with one line for each broken invariant.

    ``crowded`` are nodes that lost devices, or got somebody else's pods, after Stowplan had given them away;
    ``lost`` are those whose kubelet was away, where a pod may outlive its gang. An operator that crashed or whose
    watches lag (``is_lagging``) has not said how the pods do now.
    ``has_garbage`` says that garbage collection is held back, ``is_open`` that NetworkPolicies are switched off.
    """
    broken = [
        *server.complaints,
        *_given_twice(server, crowded),
        *([] if has_garbage else _ownerless(server)),
        *_broken_gangs(server),
        *_two_attempts_at_once(server, lost),
        *([] if is_open else _unguarded(server)),
        *([] if is_lagging else _said_too_much(server)),
        *_left_without_reason(server),
    ]
    assert not broken, "\n".join(broken)


def is_over(job: Json) -> bool:
    return job.get("status", {}).get("phase") in TERMINAL_PHASES


def placement_of(job: Json) -> Json | None:
    placement: Json | None = job.get("status", {}).get("placement")
    return placement


def current_pods(server: Server, job: Json) -> dict[int, Json]:
    """Pods of the placed attempt by rank."""
    attempt = str((placement_of(job) or {}).get("attempt"))
    return {
        int(pod["metadata"]["labels"][api.LABEL_RANK]): pod
        for pod in server.all("pods")
        if owner_uid(pod) == job["metadata"]["uid"] and pod["metadata"]["labels"][api.LABEL_ATTEMPT] == attempt
    }


def _given_twice(server: Server, crowded: frozenset[str]) -> Iterator[str]:
    """On every node, placements of live jobs and bound pods outside of them must fit together; so must all pods."""
    planned: dict[str, Any] = {}
    counted: set[str] = set()
    for job in server.all(api.PLURAL):
        placement = placement_of(job)
        if placement is None or is_over(job):
            continue
        pods = current_pods(server, job)
        counted.update(pod["metadata"]["uid"] for pod in pods.values())
        each = views.parse_resources(job["spec"]["resourcesPerNode"], accelerator=builders.GPU, round_up=True)
        for rank, node in podspec.ranks_by_node(placement):
            if rank not in pods or pods[rank]["status"]["phase"] not in TERMINAL_PHASES:
                planned[node] = planned.get(node, types.Resources()) + each
    for pod in server.all("pods"):
        node = pod["spec"].get("nodeName")
        if node and pod["metadata"]["uid"] not in counted and pod["status"]["phase"] not in TERMINAL_PHASES:
            request = views.pod_requests(pod["spec"], accelerator=builders.GPU)
            planned[node] = planned.get(node, types.Resources()) + request
    for body in server.all("nodes"):
        node = builders.NodeBuilder(body).view()
        if node.name in crowded:
            continue
        if not planned.get(node.name, types.Resources()).fits_in(node.allocatable):
            yield f"node {node.name} is given twice: {planned[node.name].items()} of {node.allocatable.items()}"
        if not used_on(server, node.name).fits_in(node.allocatable):
            yield f"node {node.name} runs more than it has: {used_on(server, node.name).items()}"


def _ownerless(server: Server) -> Iterator[str]:
    """No child of a job that does not exist, except on its way out."""
    alive = {job["metadata"]["uid"] for job in server.all(api.PLURAL)}
    for kind in ("pods", "services", "networkpolicies"):
        for body in server.all(kind):
            owner = owner_uid(body)
            if owner and owner not in alive and "deletionTimestamp" not in body["metadata"]:
                yield f"{kind}/{body['metadata']['name']} has no live owner"


def _unguarded(server: Server) -> Iterator[str]:
    """No pod of a job without the NetworkPolicy that keeps strangers from torchrun's store."""
    policies = {(body["metadata"]["namespace"], body["metadata"]["name"]) for body in server.all("networkpolicies")}
    for pod in server.all("pods"):
        meta = pod["metadata"]
        managed = meta.get("labels", {}).get(api.LABEL_MANAGED_BY) == api.MANAGED_BY
        if managed and (meta["namespace"], podspec.NAMESPACE_POLICY) not in policies:
            yield f"pod {meta['name']} exists before the NetworkPolicy of its namespace"


def _broken_gangs(server: Server) -> Iterator[str]:
    """A placement holds every rank once; pods are where it says, and of no attempt that was never placed."""
    for job in server.all(api.PLURAL):
        name, placement = job["metadata"]["name"], placement_of(job)
        pods = [pod for pod in server.all("pods") if owner_uid(pod) == job["metadata"]["uid"]]
        newest = job.get("status", {}).get("attempt", 0)
        for pod in pods:
            if int(pod["metadata"]["labels"][api.LABEL_ATTEMPT]) > newest:
                yield f"pod {pod['metadata']['name']} exists before its placement was written"
        if placement is None:
            continue
        where = dict(podspec.ranks_by_node(placement))
        sizes = elastic.sizes(api.parse_spec(job["spec"])) or (job["spec"]["numNodes"],)
        is_whole = sorted(where) == list(range(len(where)))
        if not is_whole or (len(where) not in sizes and not job["spec"].get("elastic")):
            yield f"job {name} is placed with ranks {sorted(where)}; its sizes are {sizes}"
        if placement["attempt"] != newest:
            yield f"job {name} has attempt {newest} but is placed for {placement['attempt']}"
        for rank, pod in current_pods(server, job).items():
            if pinned_node(pod) != where.get(rank):
                yield f"pod {pod['metadata']['name']} is pinned to {pinned_node(pod)}, placed on {where.get(rank)}"


def _two_attempts_at_once(server: Server, lost: frozenset[str]) -> Iterator[str]:
    """A new attempt begins when no pod of an older one can still run."""
    for job in server.all(api.PLURAL):
        placement = placement_of(job)
        if placement is None:
            continue
        for pod in server.all("pods"):
            attempt = pod["metadata"].get("labels", {}).get(api.LABEL_ATTEMPT)
            is_older = owner_uid(pod) == job["metadata"]["uid"] and int(attempt) < placement["attempt"]
            if is_older and pod["status"]["phase"] not in TERMINAL_PHASES and pod["spec"].get("nodeName") not in lost:
                yield f"pod {pod['metadata']['name']} is there beside attempt {placement['attempt']}"


def _said_too_much(server: Server) -> Iterator[str]:
    """No status says more than the pods show."""
    for job in server.all(api.PLURAL):
        status, name = job.get("status", {}), job["metadata"]["name"]
        if len(str(status)) > MAX_STATUS_BYTES:
            yield f"the status of {name} takes {len(str(status))} characters"
        pods = current_pods(server, job).values()
        num_up = sum(pod["status"]["phase"] == "Succeeded" or _runs(pod) for pod in pods)
        num_up += len(podspec.finished_ranks(placement_of(job) or {}) - current_pods(server, job).keys())
        if status.get("readyNodes", 0) > num_up:
            yield f"job {name} says {status['readyNodes']} ready; its pods show {num_up}"
        if status.get("ready", "0/").split("/")[0] != str(status.get("readyNodes", 0)):
            yield f"job {name} says {status['ready']} and {status.get('readyNodes')}"
        conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
        if conditions.get("PodsReady") == "True" and num_up < elastic.placed_pods(status):
            yield f"job {name} says PodsReady while {num_up} pods are up"
        if conditions.get("Admitted") == "True" and placement_of(job) is None:
            yield f"job {name} says Admitted and has no placement"
        if conditions.get("Admitted") == "False" and "Placed" in str(status.get("reason")):
            yield f"job {name} is not admitted and gives the reason {status['reason']}"


def _runs(pod: Json) -> bool:
    return any("running" in one["state"] for one in pod["status"].get("containerStatuses", ()))


def _left_without_reason(server: Server) -> Iterator[str]:
    """Every job that a cycle has seen and that holds no place says why."""
    for job in server.all(api.PLURAL):
        status, name = job.get("status", {}), job["metadata"]["name"]
        if placement_of(job) is not None or not status:
            continue
        if not status.get("reason") or not status.get("message"):
            yield f"job {name} waits in phase {status.get('phase')} without a reason"
        if status.get("reason") in ("Placed", "PodsStarting", "AllPodsRunning"):
            yield f"job {name} holds no place and says {status['reason']}"
        admitted = [one for one in status.get("conditions", ()) if one["type"] == "Admitted"]
        if [one["status"] for one in admitted] != ["False"] or admitted[0]["reason"] == "Placed":
            yield f"job {name} holds no place and its condition says {admitted}"
