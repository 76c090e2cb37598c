"""What a process in our pods can do: no token, no root, no capability, and files that it cannot change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kind.cluster import SYSTEM, TRAINER, Cluster, Workspace, training_job

pytestmark = pytest.mark.kind

# Told by the process itself: who it is, what it holds, and where it may write.
PROBE = """
import errno, json, os, pathlib

def write(folder):
    try:
        pathlib.Path(folder, "probe").write_text("x")
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"

status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "uid": os.getuid(),
    "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16),
    "noNewPrivileges": int(status["NoNewPrivs"]),
    "seccomp": int(status["Seccomp"]),
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    "root": write("/"),
    "code": write("/opt/stowplan"),
    "tmp": write("/tmp"),
}))
"""
CONFINED = {"capabilities": 0, "noNewPrivileges": 1, "seccomp": 2, "root": "EROFS", "code": "EROFS", "tmp": "written"}


def probe(cluster: Cluster, namespace: str, target: str) -> dict[str, Any]:
    """What a process in the pod says of itself."""
    text = cluster.kubectl("exec", "-n", namespace, target, "--", "python3", "-c", PROBE)
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_training_with_a_read_only_root_holds_no_token_and_no_rights(cluster: Cluster, workspace: Workspace) -> None:
    command = ["torchrun", "-m", "stowplan_trainer.examples.digits", "--step-seconds", "0.1"]
    template = {"securityContext": {"readOnlyRootFilesystem": True}}
    workspace.apply(training_job("confined", command=command, podTemplate=template))
    workspace.wait_status("confined", "a first step", lambda one: (one.get("progress") or {}).get("step"), seconds=120)
    for pod in workspace.pods("confined"):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert probe(cluster, workspace.namespace, pod["metadata"]["name"]) == {
            **CONFINED,
            "uid": 65532,
            "token": False,
        }
    status = workspace.wait_phase("confined", "Succeeded", seconds=240)
    assert status["progress"]["percent"] == "100%"


def test_a_trainer_pod_has_no_token_where_its_account_would_mount_one(cluster: Cluster, workspace: Workspace) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "eager"}}
    workspace.apply({**account, "automountServiceAccountToken": True})
    workspace.apply(training_job("plain", numNodes=1, serviceAccountName="eager"))
    workspace.wait_phase("plain", "Running")
    said = probe(cluster, workspace.namespace, "plain-1-0")
    assert said["token"] is False
    assert said["uid"] == 65532
    assert said["root"] == "EACCES", "a root that is not read-only is the image's, whose owner is root"


def test_the_operator_is_confined_too(cluster: Cluster) -> None:
    assert probe(cluster, SYSTEM, "deploy/stowplan") == {**CONFINED, "uid": 65532, "token": True}


@pytest.mark.parametrize("image", [TRAINER, "docker.io/stowplan/operator:dev"])
def test_images_run_as_a_user_by_number_who_is_not_root(cluster: Cluster, image: str) -> None:
    """The kubelet can check runAsNonRoot only where the image names its user by number."""
    assert cluster.run("docker", "image", "inspect", "-f", "{{.Config.User}}", image).strip() == "65532:65532"
