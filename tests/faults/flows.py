"""The flows: what users and clusters do to jobs, each as one function that waits for what a user would see.

A flow never looks at the operator, so it is the same whatever happens to it meanwhile. It ends in a state that does
not change any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from faults.steps import Steps, summary

# The first rack's second node: a gang of two has its second pod there when the cluster is empty.
LOST_NODE = "node-1"


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """``steps`` is what happens."""

    name: str
    steps: Callable[[Steps], None]


def submit_run_succeed(s: Steps) -> None:
    s.create("one", run_seconds=0.3)
    s.sees("one", "Succeeded")


def submit_wait_place(s: Steps) -> None:
    s.create("first", pods=4)
    s.sees("first", "Running")
    s.create("second", pods=3, run_seconds=0.3)
    s.sees("second", "Pending", reason="WaitingForCapacity")
    s.succeed("first", pods=4)
    s.sees("second", "Succeeded")


def worker_fails(s: Steps) -> None:
    s.create("one", pods=3)
    s.sees("one", "Running", attempt=1)
    s.end_pod("one-1-1", exit_code=42)
    s.sees("one", "Running", attempt=2)
    s.succeed("one", attempt=2, pods=3)
    s.sees_no_pods(living=True)


def peers_are_slow_to_leave(s: Steps) -> None:
    """All nodes are free for the next attempt, and it must still wait for the last pod of the one before."""
    s.create("one", lingers=True)
    s.sees("one", "Running", attempt=1)
    s.end_pod("one-1-1", exit_code=1)
    s.sees("one", "Running", attempt=2)
    s.succeed("one", attempt=2)
    s.sees_no_pods(living=True)


def checkpoints_are_told(s: Steps) -> None:
    """Rank 0 tells of a checkpoint as it fails; the next attempt says nothing, the one after that more."""
    s.create("one")
    s.sees("one", "Running", attempt=1)
    s.end_pod("one-1-0", exit_code=1, message=summary(8))
    s.sees("one", "Running", attempt=2)
    s.sees_checkpoint("one", 8)
    s.edit("one", suspend=True)
    s.sees("one", "Suspended")
    s.edit("one", suspend=False)
    s.sees("one", "Running", attempt=3)
    s.succeed("one", attempt=3, checkpoint=20)
    s.sees_checkpoint("one", 20)


def pod_deleted_by_a_user(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)
    s.delete_pod("one-1-1")
    s.sees("one", "Running", attempt=2)
    s.succeed("one", attempt=2)
    s.sees_no_pods(living=True)


def node_lost(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)
    s.world.remove_node(LOST_NODE)
    s.sees("one", "Running", attempt=2)
    s.world.ensure_nodes()
    s.sees_pods("one-2-0", "one-2-1")
    s.succeed("one", attempt=2)


def node_not_ready(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)
    s.world.set_ready(LOST_NODE, wanted=False)
    s.sees("one", "Running", attempt=2)
    s.world.set_ready(LOST_NODE, wanted=True)
    s.sees_pods("one-2-0", "one-2-1")
    s.succeed("one", attempt=2)


def node_cordoned(s: Steps) -> None:
    s.world.cordon("node-2")
    s.create("first")
    s.sees("first", "Running")
    kept = s.uids()
    s.world.cordon("node-0")
    s.create("second", run_seconds=0.3)
    s.sees("second", "Pending")
    s.world.wait("it has a reason", lambda: s.world.status(s.namespace, "second").get("reason"))
    s.world.cordon("node-2", wanted=False)
    s.sees("second", "Succeeded")
    assert {name: s.uids().get(name) for name in kept} == kept, "a node that is only cordoned keeps its pods"
    s.succeed("first")
    s.world.cordon("node-0", wanted=False)


def node_drained(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)
    s.world.cordon(LOST_NODE)
    s.world.evict(s.namespace, "one-1-1")
    s.sees("one", "Running", attempt=2)
    s.succeed("one", attempt=2)
    s.sees_no_pods(living=True)
    s.world.cordon(LOST_NODE, wanted=False)


def suspend_resume(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)
    s.edit("one", suspend=True)
    s.sees("one", "Suspended")
    s.sees_no_pods()
    s.edit("one", suspend=False)
    s.sees("one", "Running", attempt=2)
    s.succeed("one", attempt=2)


def resize(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)
    s.edit("one", suspend=True)
    s.sees("one", "Suspended")
    s.edit("one", numNodes=3)
    s.edit("one", suspend=False)
    s.sees("one", "Running", attempt=2)
    s.succeed("one", attempt=2, pods=3)


def upgrade_while_running(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)
    kept = s.uids()
    s.upgrade()
    s.create("two", pods=1, run_seconds=0.3)
    s.sees("two", "Succeeded")
    assert {name: s.uids().get(name) for name in kept} == kept, "an upgrade recreates no pod"
    s.succeed("one")


def upgrade_while_starting(s: Steps) -> None:
    s.create("one", held=True)
    s.sees_pods("one-1-0", "one-1-1")
    kept = s.uids()
    s.upgrade()
    s.create("two", pods=1, run_seconds=0.3)
    s.sees("two", "Succeeded")
    s.release("one-1-0", "one-1-1")
    s.sees("one", "Running", attempt=1)
    assert {name: s.uids().get(name) for name in kept} == kept, "an upgrade recreates no pod"
    s.succeed("one")


def two_compete(s: Steps) -> None:
    s.create("low", pods=4)
    s.sees("low", "Running")
    s.create("late", pods=3, run_seconds=0.3)
    s.create("later", pods=3, run_seconds=0.3)
    s.sees("later", "Pending", reason="WaitingForCapacity")
    s.succeed("low", pods=4)
    for name in ("late", "later"):
        s.sees(name, "Succeeded")


def preempt(s: Steps) -> None:
    s.create("low", pods=4)
    s.sees("low", "Running", attempt=1)
    s.create("urgent", pods=2, priority_class="urgent")
    s.sees("urgent", "Running", attempt=1)
    s.sees("low", "Pending")
    s.succeed("urgent")
    s.sees("low", "Running", attempt=2)
    s.succeed("low", attempt=2, pods=4)


def give_pods_up(s: Steps) -> None:
    """A running elastic job restarts smaller, so that another one has room; both end as they would have."""
    s.create("wide", pods=4, spec={"elastic": {"minNodes": 1}})
    s.sees("wide", "Running", attempt=1)
    s.tell_progress("wide", attempt=1, step=8)
    s.create("next", pods=2)
    s.sees("next", "Running", attempt=1)
    s.sees("wide", "Running", attempt=2)
    s.succeed("wide", attempt=2)
    s.succeed("next")
    s.sees_no_pods(living=True)


def makes_room(s: Steps) -> None:
    """Two racks have one free node each: a job moves to the other rack, so that one that needs a whole rack starts."""
    for name in ("moves", "between", "stays"):
        stays = {"preemption": {"preemptible": False}} if name == "stays" else {}
        s.create(name, pods=1, spec=stays)
        s.sees(name, "Running", attempt=1)
    s.succeed("between", pods=1)
    s.create("whole", pods=2, makes_room=True, spec={"topology": {"level": "rack", "mode": "Required"}})
    s.sees("whole", "Running", attempt=1)
    s.sees("moves", "Running", attempt=2)
    s.succeed("whole")
    s.succeed("moves", attempt=2, pods=1)
    s.succeed("stays", pods=1)


def quota_comes_back(s: Steps) -> None:
    org = s.queue("org")
    red, blue = s.queue("red", parent=org, owns=8), s.queue("blue", parent=org, owns=8)
    s.create("borrower", pods=3, spec={"queue": red})
    s.sees("borrower", "Running", attempt=1)
    s.create("owner", pods=2, spec={"queue": blue})
    s.sees("owner", "Running", attempt=1)
    s.sees("borrower", "Pending", reason="WaitingForQuota")
    s.sees_queue(red, gpus="0/8", pendingJobs=1)
    s.succeed("owner")
    s.sees("borrower", "Running", attempt=2)
    s.succeed("borrower", attempt=2, pods=3)
    s.delete_queues(red, blue, org)


def delete_while_pending(s: Steps) -> None:
    s.create("one", pods=9)
    s.sees("one", "Pending", reason="ExceedsClusterCapacity")
    s.delete("one")


def delete_while_starting(s: Steps) -> None:
    s.create("one", held=True)
    s.sees("one", "Starting")
    s.sees_pods("one-1-0", "one-1-1")
    s.delete("one")


def delete_while_running(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running")
    s.delete("one")


def delete_while_restarting(s: Steps) -> None:
    s.create("one", pods=1)
    for attempt in (1, 2):
        s.sees("one", "Running", attempt=attempt)
        s.end_pod(f"one-{attempt}-0", exit_code=1)
    s.sees("one", "Restarting", reason="BackOff")
    s.delete("one")


def delete_while_suspended(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running")
    s.edit("one", suspend=True)
    s.sees("one", "Suspended")
    s.delete("one")


def delete_after_success(s: Steps) -> None:
    s.create("one", run_seconds=0.3)
    s.sees("one", "Succeeded")
    s.delete("one")


def delete_after_failure(s: Steps) -> None:
    s.create("one", spec={"failurePolicy": {"maxRestarts": 0}})
    s.sees("one", "Running")
    s.end_pod("one-1-1", exit_code=1)
    s.sees("one", "Failed")
    s.delete("one")


def delete_and_create_anew(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running")
    s.world.delete(s.namespace, "one")
    s.create("one", run_seconds=0.3)
    s.sees("one", "Succeeded")


FLOWS = (
    Flow("submit, run, succeed", submit_run_succeed),
    Flow("submit, wait, be placed", submit_wait_place),
    Flow("a worker fails", worker_fails),
    Flow("peers are slow to leave", peers_are_slow_to_leave),
    Flow("checkpoints are told", checkpoints_are_told),
    Flow("a user deletes a pod", pod_deleted_by_a_user),
    Flow("a node is lost", node_lost),
    Flow("a node is not ready", node_not_ready),
    Flow("a node is cordoned", node_cordoned),
    Flow("a node is drained", node_drained),
    Flow("suspend and resume", suspend_resume),
    Flow("resize", resize),
    Flow("upgrade while running", upgrade_while_running),
    Flow("upgrade while starting", upgrade_while_starting),
    Flow("jobs compete", two_compete),
    Flow("preempt", preempt),
    Flow("give pods up", give_pods_up),
    Flow("makes room", makes_room),
    Flow("a quota comes back", quota_comes_back),
    Flow("delete while pending", delete_while_pending),
    Flow("delete while starting", delete_while_starting),
    Flow("delete while running", delete_while_running),
    Flow("delete while restarting", delete_while_restarting),
    Flow("delete while suspended", delete_while_suspended),
    Flow("delete after success", delete_after_success),
    Flow("delete after failure", delete_after_failure),
    Flow("delete and create anew", delete_and_create_anew),
)
