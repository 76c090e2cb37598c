"""Questions to the operator in the cluster: through the API server's port forwarding, and only with the role for it."""

from __future__ import annotations

import json
import pathlib

import pytest
import yaml

from kind.cluster import SYSTEM, Cluster, Workspace, training_job

pytestmark = pytest.mark.kind

JANE = "jane"


@pytest.fixture
def jane(workspace: Workspace, tmp_path: pathlib.Path) -> pathlib.Path:
    """The kubeconfig of a service account that may view its namespace and nothing else."""
    cluster = workspace.cluster
    workspace.kubectl("create", "serviceaccount", JANE)
    workspace.kubectl(
        "create", "rolebinding", JANE, "--clusterrole=view", f"--serviceaccount={workspace.namespace}:{JANE}"
    )
    token = workspace.kubectl("create", "token", JANE).strip()
    config = yaml.safe_load(cluster.kubectl("config", "view", "--minify", "--flatten", "-o", "yaml"))
    config["users"] = [{"name": JANE, "user": {"token": token}}]
    config["contexts"][0]["context"] |= {"user": JANE, "namespace": workspace.namespace}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_the_operator_answers_who_has_the_role(cluster: Cluster, workspace: Workspace, jane: pathlib.Path) -> None:
    flags = ("--kubeconfig", str(jane))
    refused = cluster.stowplan("top", *flags, check=False)
    assert "--role=stowplan-user-answers" in refused
    binding = f"{workspace.namespace}-{JANE}"
    who = f"--serviceaccount={workspace.namespace}:{JANE}"
    cluster.kubectl("create", "rolebinding", binding, "-n", SYSTEM, "--role=stowplan-user-answers", who)
    try:
        workspace.apply(training_job("runs", numNodes=1))
        workspace.wait_phase("runs", "Running")
        workspace.apply(training_job("waits", numNodes=1, resourcesPerNode={"nvidia.com/gpu": 64}))
        workspace.wait_status("waits", "a reason", lambda one: one.get("decision"))
        top = json.loads(cluster.stowplan("top", "-o", "json", *flags))
        assert top["gpus"]["used"] == 2
        removed = json.loads(cluster.stowplan("what-if", "remove", "runs", "-o", "json", *flags, check=False))
        assert (removed["before"]["gpus"]["used"], removed["after"]["gpus"]["used"]) == (2, 0)
        explained = json.loads(cluster.stowplan("explain", "waits", "--deep", "-o", "json", *flags, check=False))
        found = {one["kind"] for one in explained["alternatives"]}
        assert "SmallerPods" in found or "SmallerPods" in explained["notTried"], explained
        assert workspace.status("runs")["phase"] == "Running", "nothing was touched"
    finally:
        cluster.kubectl("delete", "rolebinding", binding, "-n", SYSTEM)


def test_nobody_in_the_clusters_network_reaches_the_port(cluster: Cluster, workspace: Workspace) -> None:
    """It is on the loopback of the operator's pod; the metrics are not."""
    selector = "app.kubernetes.io/name=stowplan,app.kubernetes.io/component=operator"
    (operator, *_) = cluster.get("-n", SYSTEM, "pods", "-l", selector)["items"]
    address = operator["status"]["podIP"]
    program = f"""
import urllib.request
for port in (8080, 8082):
    try:
        urllib.request.urlopen(f"http://{address}:{{port}}/metrics", timeout=5)
        print(port, "answers")
    except OSError:
        print(port, "is not reached")
"""
    probe = training_job("probe", numNodes=1, command=["python3", "-c", program], resourcesPerNode={"cpu": "100m"})
    workspace.apply(probe)
    workspace.wait_phase("probe", "Succeeded", seconds=90)
    log = cluster.stowplan("logs", "probe", "-n", workspace.namespace)
    assert log.split("\n")[:2] == ["8080 answers", "8082 is not reached"]
