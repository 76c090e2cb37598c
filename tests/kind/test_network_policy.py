"""Who reaches a training pod: its own gang at every port, the rest of the cluster at the metrics port only.

torchrun's rendezvous store runs code for whoever reaches its port. The trial cluster's network enforces policies (on
path A kind's own, on path B cluster/go/cmd/podnet), so packets are really dropped here. Each refusal stands beside a
connection of the same stranger that succeeds, so that a broken probe cannot pass for a closed port.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kind.cluster import TRAINER, Cluster, Workspace, training_job, wait_for

pytestmark = pytest.mark.kind

METRICS = 9400
# Listens on a port of its own, and stays to be used as a stranger.
LISTEN = "import socket, time; held = socket.create_server(('', 8000)); time.sleep(600)"
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
    print("open")
except TimeoutError:
    print("dropped")
"""


def stranger(name: str, **labels: str) -> dict[str, Any]:
    """A pod of somebody else, allowed at Pod Security level `restricted`."""
    container = {
        "name": "c",
        "image": TRAINER,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", LISTEN],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def connects(cluster: Cluster, source: dict[str, Any], target: dict[str, Any], port: int) -> bool:
    """Whether a process in one pod opens a TCP connection to the other; an error where nobody listens."""
    where = source["metadata"]
    command = ["exec", "-n", where["namespace"], where["name"], "--", "python3", "-c", CONNECT]
    return {"open\n": True, "dropped\n": False}[cluster.kubectl(*command, target["status"]["podIP"], str(port))]


@pytest.fixture
def strangers(cluster: Cluster, workspace: Workspace) -> Iterator[list[dict[str, Any]]]:
    """One pod beside the job, and one in a namespace of its own."""
    abroad = Workspace(cluster, f"{workspace.namespace[:40]}-x")
    cluster.kubectl("create", "namespace", abroad.namespace)
    try:
        workspace.apply(stranger("near", app="x"))
        abroad.apply(stranger("far", app="x"))
        found = []
        for place, name in ((workspace, "near"), (abroad, "far")):
            place.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
            found.append(cluster.get("-n", place.namespace, "pod", name))
        # The probe works, and so does the network between the two.
        for source, target in (found, reversed(found)):
            wait_for("strangers reach each other", lambda s=source, t=target: connects(cluster, s, t, 8000), seconds=20)
        yield found
    finally:
        cluster.kubectl("delete", "namespace", abroad.namespace, "--wait=false", check=False)


def rendezvous_port(pod: dict[str, Any]) -> int:
    """The port of the gang's store."""
    environment = pod["spec"]["containers"][0]["env"]
    return int(next(one["value"] for one in environment if one["name"] == "PET_MASTER_PORT"))


def train(workspace: Workspace, **spec: Any) -> list[dict[str, Any]]:
    """Real torchrun that has made a step: its store listens, and the operator has read the metrics port."""
    command = ["torchrun", "-m", "stowplan_trainer.examples.digits", "--step-seconds", "0.5"]
    workspace.apply(training_job("guarded", command=command, numProcPerNode=1, **spec))
    workspace.wait_status("guarded", "a first step", lambda one: (one.get("progress") or {}).get("step"), seconds=120)
    return workspace.pods("guarded")


def test_a_stranger_reaches_only_the_metrics_of_a_gang(
    cluster: Cluster, workspace: Workspace, strangers: list[dict[str, Any]]
) -> None:
    first, second = train(workspace)
    port = rendezvous_port(first)
    assert connects(cluster, second, first, port), "the peers of a gang reach its store"
    for source in strangers:
        assert not connects(cluster, source, first, port)
        assert connects(cluster, source, first, METRICS), "the cluster's Prometheus may be anywhere"

    # Without the policies the same packets arrive: it was the policies that dropped them.
    policies = cluster.get("-n", workspace.namespace, "networkpolicies")
    workspace.kubectl("delete", "networkpolicies", "--all")
    for source in strangers:
        wait_for("the port is open", lambda s=source: connects(cluster, s, first, port), seconds=20)
    for policy in policies["items"]:
        for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
            policy["metadata"].pop(key, None)
    workspace.apply(policies["items"])
    for source in strangers:
        wait_for("the port is closed", lambda s=source: not connects(cluster, s, first, port), seconds=20)
    assert connects(cluster, second, first, port)


def test_a_stranger_reaches_only_the_metrics_of_a_job_of_one_pod(
    cluster: Cluster, workspace: Workspace, strangers: list[dict[str, Any]]
) -> None:
    """torchrun's store listens on all addresses even where the rendezvous is on localhost."""
    (pod,) = train(workspace, numNodes=1)
    port = rendezvous_port(pod)
    for source in strangers:
        assert not connects(cluster, source, pod, port)
        assert connects(cluster, source, pod, METRICS)
    workspace.kubectl("delete", "networkpolicies", "--all")
    wait_for("the port is open", lambda: connects(cluster, strangers[1], pod, port), seconds=20)
