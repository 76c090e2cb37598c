"""The chart on a real cluster: tests, upgrade and uninstall with a job that goes on running."""

from __future__ import annotations

import pytest

from kind.cluster import SYSTEM, Cluster, Workspace, training_job, wait_for

pytestmark = pytest.mark.kind


def test_helm_test_passes(cluster: Cluster) -> None:
    cluster.run("helm", "test", "stowplan", "-n", SYSTEM, "--timeout", "3m", timeout=240)


def test_upgrade_and_uninstall_leave_running_jobs_alone(cluster: Cluster, workspace: Workspace) -> None:
    workspace.apply(training_job("steady"))
    workspace.wait_phase("steady", "Running")
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in workspace.pods("steady")}
    operator = cluster.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=stowplan")["items"][0]["metadata"]["uid"]

    cluster.helm_install("--set", "podAnnotations.upgraded=yes", "--set", "settings.planner.resyncSeconds=7")

    def replaced() -> bool:
        pods = cluster.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=stowplan")["items"]
        return [pod["metadata"]["uid"] for pod in pods] != [operator] and len(pods) == 1

    wait_for("a new operator pod alone", replaced, seconds=90)
    workspace.apply(training_job("later", numNodes=1))
    workspace.wait_phase("later", "Running", seconds=90)
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in workspace.pods("steady")} == before
    assert workspace.status("steady")["attempt"] == 1

    cluster.run("helm", "uninstall", "stowplan", "-n", SYSTEM, "--wait", "--timeout", "2m", timeout=180)
    try:
        assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in workspace.pods("steady")} == before
        assert {pod["status"]["phase"] for pod in workspace.pods("steady")} == {"Running"}
        assert workspace.status("steady")["phase"] == "Running"
    finally:
        cluster.helm_install()
    workspace.wait_status("steady", "still attempt 1", lambda one: one["attempt"] == 1 and one["phase"] == "Running")
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in workspace.pods("steady")} == before


def test_with_listed_namespaces_jobs_elsewhere_are_left_alone(cluster: Cluster, workspace: Workspace) -> None:
    outside = Workspace(cluster, "t-not-listed")
    cluster.kubectl("create", "namespace", outside.namespace, check=False)
    cluster.helm_install("--set", f"watchNamespaces={{{workspace.namespace}}}")
    try:
        outside.apply(training_job("ignored", numNodes=1))
        workspace.apply(training_job("watched"))
        workspace.wait_phase("watched", "Running", seconds=90)
        assert outside.status("ignored") == {}
        outside.delete("ignored")
    finally:
        cluster.helm_install()
        cluster.kubectl("delete", "namespace", outside.namespace, "--wait=false", check=False)
    workspace.wait_phase("watched", "Running")
