"""Fixtures on the trial cluster, and what a failed test leaves behind to be read."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from kind.cluster import CHECKPOINT_CLAIM, ROOT, SYSTEM, Cluster, Workspace, digits

RESULTS = pathlib.Path(os.environ.get("STOWPLAN_RESULTS") or ROOT / "test-results") / "kind"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The trial cluster with this checkout's chart installed."""
    cluster = Cluster()
    cluster.helm_install()
    clear_away(cluster)
    return cluster


def clear_away(cluster: Cluster) -> None:
    """Take back what a run that was cut off left: jobs of tests, cordons, XIDs of the mock, a stopped Prometheus."""
    running = [
        f"{job['metadata']['namespace']}/{job['metadata']['name']}"
        for job in cluster.get("tj", "-A")["items"]
        if job.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        if not job["metadata"]["namespace"].startswith("t-")
    ]
    assert not running, f"the trial cluster is in use by {', '.join(running)}: wait for their end, or delete them"
    for namespace in cluster.kubectl("get", "namespaces", "-o", "name").split():
        if namespace.startswith("namespace/t-"):
            name = namespace.removeprefix("namespace/")
            cluster.kubectl("delete", "tj", "--all", "-n", name, "--wait=true")
            cluster.kubectl("delete", "namespace", name, "--wait=true")
    nodes = cluster.kubectl("get", "nodes", "-o", "name").split()
    cluster.kubectl("uncordon", *(node.removeprefix("node/") for node in nodes))
    cluster.kubectl("annotate", "nodes", "--all", "mock.stowplan.dev/xid-")
    cluster.kubectl("-n", "monitoring", "scale", "deployment/prometheus", "--replicas=1")


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """The progress with which the digits example ends when nothing happens to it."""
    namespace = "t-undisturbed"
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=true")
    cluster.kubectl("create", "namespace", namespace)
    workspace = Workspace(cluster, namespace)
    workspace.apply([CHECKPOINT_CLAIM, digits("undisturbed")])
    progress = workspace.wait_phase("undisturbed", "Succeeded", seconds=240)["progress"]
    workspace.delete("undisturbed")
    yield progress
    cluster.kubectl("delete", "namespace", namespace, "--wait=false", check=False)


@pytest.fixture
def workspace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Workspace]:
    """A fresh namespace; on failure all that it held is written to the results folder."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    namespace = f"t-{name}"
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=true")
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield Workspace(cluster, namespace)
    if getattr(request.node, "failed", False):
        collect(cluster, namespace)
    cluster.kubectl("delete", "tj", "--all", "-n", namespace, "--wait=true", check=False)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false", check=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let fixtures know that the test itself failed."""
    report: Any = yield
    if report.when == "call" and report.failed:
        item.failed = True
    return report


def collect(cluster: Cluster, namespace: str) -> None:
    """Operator log, objects, events and pod logs of a failed test."""
    folder = RESULTS / namespace
    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str, *args: str) -> None:
        (folder / name).write_text(cluster.kubectl(*args, check=False))

    save("operator.log", "logs", "-n", SYSTEM, "deploy/stowplan", "--tail=2000")
    save("operator-previous.log", "logs", "-n", SYSTEM, "deploy/stowplan", "--previous", "--tail=500")
    save("events.txt", "get", "events", "-n", namespace, "--sort-by=.lastTimestamp")
    save("objects.yaml", "get", "tj,pods,services,networkpolicies,pvc", "-n", namespace, "-o", "yaml")
    save("nodes.txt", "describe", "nodes")
    for pod in cluster.kubectl("get", "pods", "-n", namespace, "-o", "name", check=False).split():
        save(pod.replace("/", "-") + ".log", "logs", "-n", namespace, pod)
