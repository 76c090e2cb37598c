"""The operator's rights: what the API server grants its account is what the chart's roles say, and every one is used.

The operator runs here as its own account, through jobs that make it use all that it has, while the API server writes an
audit log of its requests. A right that no request needed is one too many; a request that was refused is one too few.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import apiserver

pytestmark = pytest.mark.apiserver
Json = dict[str, Any]
Right = tuple[str, str, str]  # API group, resource, verb

AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:stowplan-system:stowplan"]}
- {level: None}
"""
SETTINGS: Json = {
    "planner": {"debounceSeconds": 0.05, "resyncSeconds": 1},
    # Directly: the pods have no address, and through the API server's proxy it would take a right of its own.
    "progress": {"via": "direct"},
    "lease": {"durationSeconds": 5},
    **dict.fromkeys(("metricsPort", "healthPort", "answersPort"), 0),
}
NODE: Json = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"nvidia.com/gpu.product": "H100"}},
    "status": {
        "capacity": {"nvidia.com/gpu": "8", "cpu": "64", "memory": "256Gi", "pods": "110"},
        "allocatable": {"nvidia.com/gpu": "8", "cpu": "64", "memory": "256Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
# For what the operator remembers of nodes that fail; none fails here.
RARE = {("", "configmaps", verb) for verb in ("create", "get", "update")}
# What everybody may ask about himself.
FOR_EVERYBODY = {"authorization.k8s.io", "authentication.k8s.io"}


@pytest.fixture(scope="module")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The file of the audit log, beside its policy."""
    return tmp_path_factory.mktemp("audit") / "audit.log"


@pytest.fixture(scope="module")
def server(audit_log: pathlib.Path) -> Iterator[apiserver.ApiServer]:
    """An API server with an audit log, a node, and the chart."""
    policy = audit_log.with_name("policy.yaml")
    policy.write_text(AUDIT)
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}"]
    users = {apiserver.OPERATOR: ["system:serviceaccounts", "system:authenticated"]}
    with apiserver.run(users=users, controller_manager=True, flags=flags) as server:
        server.install_crds()
        for namespace in ("stowplan-system", "team-a", "team-b"):
            server.kubectl("create", "namespace", namespace, check=True)
        for namespace in ("default", "team-a"):
            apiserver.wait_until(
                lambda where=namespace: server.kubectl("get", "sa", "default", "-n", where).code == 0, what="accounts"
            )
        server.kubectl("create", "--validate=false", "-f", "-", stdin=json.dumps(NODE), check=True)
        server.kubectl("apply", "-f", "-", stdin=apiserver.render_chart(), check=True)
        yield server


@contextlib.contextmanager
def _operator(server: apiserver.ApiServer, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The operator as a process under its own account; its log."""
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    env = {
        **os.environ,
        "KUBECONFIG": str(server.kubeconfig(apiserver.OPERATOR)),
        "STOWPLAN_SETTINGS": str(folder / "settings.yaml"),
        "STOWPLAN_NAMESPACE": "stowplan-system",
        "PYTHONPATH": os.pathsep.join(str(apiserver.ROOT / part) for part in ("operator", "allocator")),
    }
    log = folder / "operator.log"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", "stowplan_operator"], env=env, stdout=stream, stderr=stream)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(20)


def _job(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "stowplan.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"image": "i", "resourcesPerNode": {"nvidia.com/gpu": 1}, **spec},
    }


def _play_kubelet(server: apiserver.ApiServer, pod: str, phase: str, *, exit_code: int | None = None) -> None:
    """The pod's status as a kubelet would write it."""
    state: Json = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    if exit_code is not None:
        ended = {"exitCode": exit_code, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}
        state = {"terminated": ended}
    container = {"name": "trainer", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
    status = {"phase": phase, "containerStatuses": [container]}
    server.kubectl(
        *("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})), check=True
    )


def _live(server: apiserver.ApiServer) -> None:
    """Jobs that make the operator use each of its rights."""

    def exists(*what: str) -> bool:
        return server.kubectl("get", *what).code == 0

    # A job of one pod that succeeds and is deleted when its time to live is over.
    server.apply(_job("done", ttlSecondsAfterFinished=0))
    apiserver.wait_until(lambda: exists("pod", "done-1-0"), what="the pod of a job of one")
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "done-1-0"}}
    target = {"target": {"apiVersion": "v1", "kind": "Node", "name": "n1"}}
    path = "/api/v1/namespaces/default/pods/done-1-0/binding"
    assert server.send("POST", path, {**binding, **target})[0] == 201
    _play_kubelet(server, "done-1-0", "Running")
    apiserver.wait_until(
        lambda: server.get("tj", "done").get("status", {}).get("phase") == "Running", what="the job to run"
    )
    _play_kubelet(server, "done-1-0", "Succeeded", exit_code=0)
    apiserver.wait_until(lambda: not exists("tj", "done"), what="the finished job to be deleted")
    # A queue, which says how it stands.
    queue = {"apiVersion": "stowplan.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "team-a"}}
    server.apply({**queue, "spec": {"namespaces": ["team-a"]}})
    apiserver.wait_until(lambda: server.get("q", "team-a").get("status"), what="the queue's status")
    # A gang of two that is suspended, so that its pods are deleted.
    server.apply(_job("gang", numNodes=2))
    apiserver.wait_until(lambda: exists("pod", "gang-1-1"), what="the pods of a gang")
    server.kubectl("patch", "tj", "gang", "--type=merge", "-p", '{"spec": {"suspend": true}}', check=True)
    apiserver.wait_until(lambda: not exists("pod", "gang-1-1"), what="the suspended gang's pods to be deleted")


def _granted(server: apiserver.ApiServer, namespace: str) -> set[Right]:
    """(API group, resource, verb) that the API server says the operator's account has there (can-i --list)."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    status, answer = server.send("POST", path, review, user=apiserver.OPERATOR)
    assert status == 201, answer
    assert not answer["status"]["incomplete"]
    return {
        (group, resource, verb)
        for rule in answer["status"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if group not in FOR_EVERYBODY
    }


def _of_chart(rendered: str, namespace: str) -> set[Right]:
    """The same, computed from the chart's roles that are bound to the operator there."""
    documents = [one for one in yaml.safe_load_all(rendered) if one]
    bound = {
        (one["roleRef"]["kind"], one["roleRef"]["name"])
        for one in documents
        if one["kind"] == "ClusterRoleBinding"
        or (one["kind"] == "RoleBinding" and one["metadata"]["namespace"] == namespace)
    }
    return {
        (group, resource, verb)
        for one in documents
        if (one["kind"], one["metadata"]["name"]) in bound and one["metadata"].get("namespace", namespace) == namespace
        for rule in one.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_every_right_is_used_and_no_request_is_refused(
    server: apiserver.ApiServer, tmp_path: pathlib.Path, audit_log: pathlib.Path
) -> None:
    with _operator(server, tmp_path) as log:
        try:
            _live(server)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{error}\n{log.read_text()[-3000:]}") from error
    used, refused = set(), []
    for line in audit_log.read_text().splitlines():
        request = json.loads(line)
        what = request.get("objectRef") or {}
        if not what.get("resource") or what.get("apiGroup", "") in FOR_EVERYBODY:
            continue
        resource = what["resource"] + (f"/{what['subresource']}" if what.get("subresource") else "")
        right = (what.get("apiGroup", ""), resource, request["verb"])
        used.add(right)
        if request.get("responseStatus", {}).get("code") == 403:
            refused.append((*right, what.get("namespace", "")))
    assert refused == []
    granted = _granted(server, "default") | _granted(server, "stowplan-system")
    assert granted - used - RARE == set(), "rights that nothing uses; take them out of the chart"
    assert used - granted == set()


NEVER_RESOURCES = {"secrets", "serviceaccounts", "serviceaccounts/token", "pods/exec", "pods/attach", "pods/log"}
NEVER_RESOURCES |= {"pods/portforward", "pods/proxy", "pods/ephemeralcontainers", "nodes/proxy", "nodes/status"}
NEVER_VERBS = {"*", "escalate", "bind", "impersonate", "approve", "sign", "deletecollection"}
NEVER_GROUPS = {"*", "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "certificates.k8s.io"}


def test_the_api_server_grants_what_the_chart_says_and_nothing_of_the_forbidden(server: apiserver.ApiServer) -> None:
    rendered = apiserver.render_chart()
    for namespace in ("default", "stowplan-system", "kube-system"):
        granted = _granted(server, namespace)
        assert granted == _of_chart(rendered, namespace), namespace
        for group, resource, verb in granted:
            what = f"{verb} {resource}.{group} in {namespace}"
            assert resource not in NEVER_RESOURCES | {"*"}, what
            assert verb not in NEVER_VERBS, what
            assert group not in NEVER_GROUPS, what
            assert resource != "nodes" or verb in ("get", "list", "watch"), what
            assert resource != "pods" or verb not in ("patch", "update"), what
            assert resource != "trainingjobs" or verb not in ("create", "patch", "update"), what


def test_kubectl_lists_them_too(server: apiserver.ApiServer) -> None:
    text = server.kubectl("auth", "can-i", "--list", "-n", "default", user=apiserver.OPERATOR, check=True).stdout
    resources = {line.split()[0] for line in text.splitlines()[1:] if not line.startswith((" ", "["))}
    listed = {name for name in resources if name.partition(".")[2] not in FOR_EVERYBODY}
    own = set()
    for group, resource, _ in _granted(server, "default"):
        plain, slash, part = resource.partition("/")
        own.add(f"{plain}.{group}{slash}{part}" if group else resource)
    assert listed == own


def test_with_listed_namespaces_it_writes_there_and_nowhere_else(server: apiserver.ApiServer) -> None:
    """Last, since it changes the chart's roles."""
    rendered = apiserver.render_chart("--set", "watchNamespaces={team-a}")
    server.kubectl("apply", "-f", "-", stdin=rendered, check=True)
    server.kubectl("delete", "clusterrolebinding,clusterrole", "stowplan-jobs", check=True)
    for namespace in ("team-a", "team-b", "stowplan-system"):
        wanted = _of_chart(rendered, namespace)
        apiserver.wait_until(lambda n=namespace, w=wanted: _granted(server, n) == w, what=f"rights in {namespace}")
    reads = {"get", "list", "watch"}
    assert {verb for _, what, verb in _granted(server, "team-b") if what != "queues/status"} <= reads
    assert ("", "pods", "create") in _granted(server, "team-a")
    assert ("", "pods", "create") not in _granted(server, "stowplan-system")
