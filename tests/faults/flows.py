"""The flows: what users and clusters do to jobs, each as one function that waits for what a user would see.

A flow never looks at the operator, so it is the same whatever happens to it meanwhile. It ends in a state that does
not change any more.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from faults.world import World, training_job

# The first rack's second node: a gang of two has its second pod there when the cluster is empty.
LOST_NODE = "node-1"


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """``steps`` takes the world and a namespace of its own; on ``lost_nodes`` pods may outlive their gang."""

    name: str
    steps: Callable[[World, str], None]
    lost_nodes: frozenset[str] = frozenset()


def _create(world: World, namespace: str, job: dict[str, object]) -> None:
    world.apply({**job, "metadata": {"name": job["metadata"]["name"], "namespace": namespace}})  # type: ignore[index]


def _phase(world: World, namespace: str, name: str, phase: str, *, attempt: int | None = None) -> None:
    def holds() -> bool:
        status = world.status(namespace, name)
        return status.get("phase") == phase and attempt in (None, status.get("attempt"))

    number = "" if attempt is None else f" in attempt {attempt}"
    world.wait(f"{name} is {phase}{number}", holds, seconds=60)


def _no_live_pods(world: World, namespace: str) -> None:
    world.wait(
        "no pod lives any more",
        lambda: all(pod["status"].get("phase") in ("Succeeded", "Failed") for pod in world.pods(namespace)),
    )


def _set(world: World, namespace: str, name: str, **spec: object) -> None:
    world.server.kubectl(
        *("-n", namespace, "patch", "tj", name, "--type=merge", "-p", json.dumps({"spec": spec})), check=True
    )


def _delete(world: World, namespace: str, name: str) -> None:
    world.server.kubectl("-n", namespace, "delete", "tj", name, "--wait=false", check=True)
    world.wait("the job is gone", lambda: not world.job(namespace, name))
    world.wait("its pods are gone", lambda: not world.pods(namespace))


def submit_run_succeed(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("one", run_seconds=1))
    _phase(world, namespace, "one", "Succeeded")


def submit_wait_place(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("first", pods=4))
    _phase(world, namespace, "first", "Running")
    _create(world, namespace, training_job("second", pods=3, run_seconds=0.5))
    world.wait(
        "the second waits with a reason",
        lambda: world.status(namespace, "second").get("reason") == "WaitingForCapacity",
    )
    for rank in range(4):
        world.end_pod(namespace, f"first-1-{rank}", exit_code=0)
    _phase(world, namespace, "first", "Succeeded")
    _phase(world, namespace, "second", "Succeeded")


def worker_fails(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("one", pods=3))
    _phase(world, namespace, "one", "Running", attempt=1)
    world.end_pod(namespace, "one-1-1", exit_code=42)
    _phase(world, namespace, "one", "Running", attempt=2)
    for rank in range(3):
        world.end_pod(namespace, f"one-2-{rank}", exit_code=0)
    _phase(world, namespace, "one", "Succeeded")
    _no_live_pods(world, namespace)


def pod_deleted_by_a_user(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("one"))
    _phase(world, namespace, "one", "Running", attempt=1)
    world.server.kubectl("-n", namespace, "delete", "pod", "one-1-1", "--wait=false", check=True)
    _phase(world, namespace, "one", "Running", attempt=2)
    for rank in range(2):
        world.end_pod(namespace, f"one-2-{rank}", exit_code=0)
    _phase(world, namespace, "one", "Succeeded")
    _no_live_pods(world, namespace)


def node_lost(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("one"))
    _phase(world, namespace, "one", "Running", attempt=1)
    world.server.kubectl("delete", "node", LOST_NODE, "--wait=false", check=True)
    _phase(world, namespace, "one", "Running", attempt=2)
    world.add_node(int(LOST_NODE[-1]))
    world.wait("the pods of attempt 1 are gone", lambda: len(world.pods(namespace)) == 2)
    for rank in range(2):
        world.end_pod(namespace, f"one-2-{rank}", exit_code=0)
    _phase(world, namespace, "one", "Succeeded")


def suspend_resume(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("one"))
    _phase(world, namespace, "one", "Running", attempt=1)
    _set(world, namespace, "one", suspend=True)
    _phase(world, namespace, "one", "Suspended")
    world.wait("its pods are gone", lambda: not world.pods(namespace))
    _set(world, namespace, "one", suspend=False)
    _phase(world, namespace, "one", "Running", attempt=2)
    for rank in range(2):
        world.end_pod(namespace, f"one-2-{rank}", exit_code=0)
    _phase(world, namespace, "one", "Succeeded")


def delete_while_waiting(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("one", pods=9))
    _phase(world, namespace, "one", "Pending")
    world.wait("it has a reason", lambda: world.status(namespace, "one").get("reason") == "ExceedsClusterCapacity")
    _delete(world, namespace, "one")


def delete_while_running(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("one"))
    _phase(world, namespace, "one", "Running")
    _delete(world, namespace, "one")


def two_compete(world: World, namespace: str) -> None:
    _create(world, namespace, training_job("low", pods=4, run_seconds=1))
    _phase(world, namespace, "low", "Running")
    _create(world, namespace, training_job("late", pods=3, run_seconds=0.5))
    _create(world, namespace, training_job("urgent", pods=3, run_seconds=0.5, priority_class="urgent"))
    for name in ("low", "urgent", "late"):
        _phase(world, namespace, name, "Succeeded")


FLOWS = (
    Flow("submit, run, succeed", submit_run_succeed),
    Flow("submit, wait, be placed", submit_wait_place),
    Flow("a worker fails", worker_fails),
    Flow("a user deletes a pod", pod_deleted_by_a_user),
    Flow("a node is lost", node_lost, lost_nodes=frozenset({LOST_NODE})),
    Flow("suspend and resume", suspend_resume),
    Flow("delete while waiting", delete_while_waiting),
    Flow("delete while running", delete_while_running),
    Flow("jobs compete", two_compete),
)
