"""Helm against a real API server: install, upgrade and uninstall leave jobs alone; what we run passes `restricted`.

There is a controller manager, so Deployments get pods, but no scheduler, so none of them runs.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import apiserver
from stowplan_operator import api as names
from stowplan_operator import podspec, settings, views

pytestmark = pytest.mark.apiserver
MANIFESTS = apiserver.ROOT / "tests" / "manifests" / "valid"
VALID = sorted(path.stem for path in MANIFESTS.glob("*.yaml") if "kind: TrainingJob" in path.read_text())
ROOT = ["root"]
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
BASELINE = "pod-security.kubernetes.io/enforce=baseline"
# What jobs in valid/ name, and the cluster's owner provides.
OTHERS = """
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: research}, value: 10}
---
{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: nvidia}, handler: nvidia}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: trainer, namespace: team-a}}
"""
JOB = (MANIFESTS / "minimal.yaml").read_text()


class Cluster:
    """An API server, with helm for it."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        self.server = server
        self.helm_program = apiserver.find_program("helm")

    def helm(self, command: str, *args: str) -> str:
        """Run helm for release stowplan in stowplan-system."""
        done = subprocess.run(
            [self.helm_program, command, "stowplan", *args, "--namespace", "stowplan-system"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.server.kubeconfig()), "HOME": str(self.server.directory)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, *args: str) -> str:
        """`helm upgrade --install` of the chart in the repository."""
        return self.helm("upgrade", str(apiserver.ROOT / "charts" / "stowplan"), "--install", *args)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster without nodes into which the chart is installed."""
    with apiserver.run(users={apiserver.OPERATOR: ["system:serviceaccounts"]}, controller_manager=True) as server:
        for namespace in ("stowplan-system", "team-a"):
            server.kubectl("create", "namespace", namespace, check=True)
            server.kubectl("label", "namespace", namespace, RESTRICTED, check=True)
            apiserver.wait_until(
                lambda namespace=namespace: server.kubectl("-n", namespace, "get", "sa", "default").code == 0,
                what=f"the default account of {namespace}",
            )
        server.kubectl("apply", "-f", "-", stdin=OTHERS, check=True)
        cluster = Cluster(server)
        notes = cluster.install()
        assert "kubectl stowplan explain digits" in notes
        apiserver.wait_until(lambda: server.kubectl("get", "tj", "-A").code == 0, what="TrainingJobs served")
        yield cluster


def test_pod_security_restricted_lets_the_operator_in(cluster: Cluster) -> None:
    def exists() -> bool:
        return bool(cluster.server.get("pods", "-n", "stowplan-system")["items"])

    apiserver.wait_until(exists, what="a pod of the operator's Deployment")


@pytest.mark.parametrize("manifest", sorted(set(VALID) - set(ROOT)))
def test_what_the_operator_makes_of_a_job_passes_every_check(cluster: Cluster, manifest: str) -> None:
    """Rights, policy, Pod Security `restricted` and the API server's own validation, all as the operator."""
    made = _made_of(cluster, manifest)
    assert made.code == 0, made.text
    assert "Warning" not in made.text, "Pod Security or the API server has something to say"


@pytest.mark.parametrize("manifest", ROOT)
def test_a_job_that_asks_for_root_runs_only_where_its_namespace_allows_it(cluster: Cluster, manifest: str) -> None:
    made = _made_of(cluster, manifest)
    assert made.code != 0
    assert 'violates PodSecurity "restricted:latest": runAsNonRoot != true' in made.text
    cluster.server.kubectl("label", "namespace", "team-a", "--overwrite", BASELINE, check=True)
    try:
        assert _made_of(cluster, manifest).code == 0
    finally:
        cluster.server.kubectl("label", "namespace", "team-a", "--overwrite", RESTRICTED, check=True)


def _made_of(cluster: Cluster, manifest: str) -> apiserver.Result:
    """The job's children, as the operator would create them."""
    text = (MANIFESTS / f"{manifest}.yaml").read_text()
    name = yaml.safe_load(text)["metadata"]["name"]
    cluster.server.kubectl("-n", "team-a", "apply", "-f", "-", stdin=text, check=True)
    job = views.JobView.from_body(cluster.server.get("tj", name, "-n", "team-a"))
    spec = names.parse_spec(dict(job.spec))
    placement = {"attempt": 1, "nodes": [{"name": "n1", "ranks": f"0-{spec.num_nodes - 1}"}], "plannedAt": "x"}
    pods = list(podspec.build_pods(job, spec, placement, settings=settings.Settings()).values())
    policies = [podspec.build_namespace_policy(), podspec.build_network_policy(job)]
    children = [*pods[:2], pods[-1], podspec.build_service(job), *policies]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": children})
    command = ["-n", "team-a", "create", "--dry-run=server", "--validate=strict", "-f", "-"]
    return cluster.server.kubectl(*command, stdin=body, user=apiserver.OPERATOR)


def test_upgrade_and_uninstall_leave_jobs_and_their_pods(cluster: Cluster) -> None:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "minimal-1-0", "namespace": "default", "labels": {names.LABEL_JOB: "minimal"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "priorityClassName": "stowplan-gang"},
    }
    cluster.server.kubectl("apply", "-f", "-", stdin=JOB, check=True)
    cluster.server.kubectl("create", "-f", "-", stdin=yaml.safe_dump(pod), user=apiserver.OPERATOR, check=True)

    def versions() -> list[str]:
        kept = (("tj", "minimal"), ("pod", "minimal-1-0"), ("crd", "trainingjobs.stowplan.dev"))
        return [cluster.server.get(*one)["metadata"]["uid"] for one in kept]

    before = versions()
    cluster.install("--set", "settings.planner.timeLimitSeconds=3", "--set", "replicas=2")
    stored = cluster.server.get("configmap", "stowplan-settings", "-n", "stowplan-system")["data"]["settings.yaml"]
    assert settings.parse(yaml.safe_load(stored)).planner.time_limit_seconds == 3
    assert versions() == before
    cluster.helm("uninstall")
    assert versions() == before
    assert cluster.server.kubectl("get", "deployment", "stowplan", "-n", "stowplan-system").code != 0
    cluster.install()
    assert versions() == before, "a new release takes the kept CRD over"


def test_uninstall_deletes_the_crd_where_it_is_not_kept(cluster: Cluster) -> None:
    cluster.install("--set", "crds.keep=false")
    cluster.helm("uninstall")
    gone = "crd/trainingjobs.stowplan.dev"
    cluster.server.kubectl("wait", "--for=delete", gone, "--timeout=60s", check=True)
