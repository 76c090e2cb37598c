"""Edges: what happens to jobs while the operator does not look, so that it sees only what is left of it.

Each has a beginning that the operator sees, a change that it does not see, and the right end. A change takes less
time than the Lease lasts, so a frozen operator is still the leader when it wakes up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from faults.flows import LOST_NODE
from faults.steps import Steps
from world.client import pods_path


@dataclasses.dataclass(frozen=True, slots=True)
class Edge:
    """``change`` happens unseen between ``before`` and ``after``."""

    name: str
    before: Callable[[Steps], None]
    change: Callable[[Steps], None]
    after: Callable[[Steps], None]


def _running(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running", attempt=1)


def _one_waits(s: Steps) -> None:
    s.create("one", pods=4)
    s.sees("one", "Running")
    s.create("two", pods=3, run_seconds=0.3)
    s.sees("two", "Pending", reason="WaitingForCapacity")


def _ends_in_attempt(attempt: int) -> Callable[[Steps], None]:
    def after(s: Steps) -> None:
        s.sees("one", "Running", attempt=attempt)
        s.is_current("one")
        s.succeed("one", attempt=attempt)
        s.sees_no_pods(living=True)

    return after


def _pod_fails_and_is_deleted(s: Steps) -> None:
    s.end_pod("one-1-1", exit_code=1)
    s.delete_pod("one-1-1")
    s.sees_pods("one-1-0")


def _stranger_takes_the_name(s: Steps) -> None:
    s.delete_pod("one-1-1")
    s.sees_pods("one-1-0")
    stranger = {"metadata": {"name": "one-1-1"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    s.world.client.must("POST", pods_path(s.namespace), stranger)


def _after_the_stranger(s: Steps) -> None:
    s.sees("one", "Running", attempt=2)
    s.succeed("one", attempt=2)


def _suspended_and_resumed(s: Steps) -> None:
    s.edit("one", suspend=True)
    s.edit("one", suspend=False)


def _resize_is_refused(s: Steps) -> None:
    """The status still holds the placement, so the CRD's own rule refuses what the operator could not see."""
    s.edit("one", suspend=True)
    s.is_refused("one", numNodes=3)
    s.is_refused("one", image="other")
    s.edit("one", suspend=False)


def _deleted_and_created_anew(s: Steps) -> None:
    s.world.delete(s.namespace, "one")
    s.world.wait("it is gone", lambda: not s.world.job(s.namespace, "one"))
    s.create("one", run_seconds=0.3)


def _node_comes_back(s: Steps) -> None:
    s.world.remove_node(LOST_NODE)
    s.world.wait("the node is gone", lambda: LOST_NODE not in s.world.history.now("nodes"))
    s.world.ensure_nodes()


def _the_gang_still_runs(s: Steps) -> None:
    """Its pods have survived; if the operator saw the node go, the next attempt runs."""
    s.sees("one", "Running")
    s.world.wait("all is ready", lambda: s.world.status(s.namespace, "one").get("ready") == "2/2")
    s.world.wait("its gang lives", lambda: len(s.uids()) == 2)
    s.succeed("one", attempt=s.world.status(s.namespace, "one")["attempt"])


def _all_pods_end(s: Steps) -> None:
    s.end_pod("one-1-0")
    s.end_pod("one-1-1")


def _first_ends_and_is_deleted(s: Steps) -> None:
    for rank in range(4):
        s.end_pod(f"one-1-{rank}")
    s.world.delete(s.namespace, "one")


def _all_ranks_fail(s: Steps) -> None:
    s.end_pod("one-1-0", exit_code=1)
    s.end_pod("one-1-1", exit_code=2)


def _suspended_while_a_pod_fails(s: Steps) -> None:
    s.end_pod("one-1-1", exit_code=1)
    s.edit("one", suspend=True)


def _suspended_then_resumed(s: Steps) -> None:
    s.sees("one", "Suspended")
    s.sees_no_pods(living=True)
    s.edit("one", suspend=False)
    _ends_in_attempt(2)(s)


EDGES = (
    Edge("a pod fails and is deleted", _running, _pod_fails_and_is_deleted, _ends_in_attempt(2)),
    Edge("a stranger takes a deleted pod's name", _running, _stranger_takes_the_name, _after_the_stranger),
    Edge("suspended and resumed", _running, _suspended_and_resumed, _ends_in_attempt(1)),
    Edge("suspended, changed in vain, resumed", _running, _resize_is_refused, _ends_in_attempt(1)),
    Edge("deleted and created anew", _running, _deleted_and_created_anew, lambda s: s.sees("one", "Succeeded")),
    Edge("a node vanishes and returns", _running, _node_comes_back, _the_gang_still_runs),
    Edge("all pods end", _running, _all_pods_end, lambda s: s.sees("one", "Succeeded")),
    Edge("all ranks fail", _running, _all_ranks_fail, _ends_in_attempt(2)),
    Edge("a pod fails and the job is suspended", _running, _suspended_while_a_pod_fails, _suspended_then_resumed),
    Edge("deleted", _running, lambda s: s.world.delete(s.namespace, "one"), lambda s: s.sees_no_pods()),
    Edge("a job ends and is deleted", _one_waits, _first_ends_and_is_deleted, lambda s: s.sees("two", "Succeeded")),
)
