"""Nobody but the operator says where pods go: status is its own, and its pods have an owner from the start."""

from __future__ import annotations

import pytest

import apiserver
from escapes import BASE, JOBS, Json, pod_of

pytestmark = pytest.mark.apiserver

PLACEMENT = {"placement": {"attempt": 1, "nodes": [{"name": "n1", "ranks": "0"}]}}


@pytest.mark.parametrize("user", ["alice", "bob", "developer"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_users_write_no_status(chart: apiserver.ApiServer, stored: Json, user: str, method: str) -> None:
    """The operator makes pods of status.placement."""
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    body = {"status": PLACEMENT} if method == "PATCH" else {**stored, "status": PLACEMENT}
    status, answer = chart.send(method, f"{JOBS}/stored/status?dryRun=All", body, user=user, content_type=kind)
    assert status == 403, answer
    assert "trainingjobs/status" in answer["message"]


def test_a_status_in_an_ordinary_write_is_dropped(chart: apiserver.ApiServer, stored: Json) -> None:
    writes = [
        chart.send("POST", f"{JOBS}?dryRun=All", {**BASE, "status": PLACEMENT}, user="alice"),
        chart.send("PUT", f"{JOBS}/stored?dryRun=All", {**stored, "status": PLACEMENT}, user="alice"),
    ]
    for status, answer in writes:
        assert status in (200, 201), answer
        assert "placement" not in answer.get("status", {})


def test_a_spec_in_a_write_of_the_status_is_dropped(chart: apiserver.ApiServer, stored: Json) -> None:
    patch = {"spec": {"image": "other"}, "status": PLACEMENT}
    path, kind = f"{JOBS}/stored/status?dryRun=All", "application/merge-patch+json"
    status, answer = chart.send("PATCH", path, patch, user=apiserver.OPERATOR, content_type=kind)
    assert status == 200, answer
    assert answer["spec"] == stored["spec"]
    assert answer["status"] == PLACEMENT


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_no_role_of_the_clusters_users_writes_status(chart: apiserver.ApiServer, role: str) -> None:
    verbs = {
        (resource, verb)
        for rule in chart.get("clusterrole", role)["rules"]
        if "stowplan.dev" in rule.get("apiGroups", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert ("trainingjobs", "get") in verbs, "the chart's roles are part of it"
    assert {verb for resource, verb in verbs if resource == "trainingjobs/status"} == {"get"}
    assert "*" not in {word for pair in verbs for word in pair}


def test_a_replica_set_does_not_adopt_a_pod_of_a_job(chart: apiserver.ApiServer, stored: Json) -> None:
    """Labels are free, so a pod of a job may match another controller's selector: it has an owner already."""
    pod = pod_of(stored)
    pod["metadata"]["name"] = "not-an-orphan"
    pod["metadata"]["ownerReferences"][0]["uid"] = stored["metadata"]["uid"]
    pod["metadata"]["ownerReferences"][0]["name"] = "stored"
    assert pod["metadata"]["labels"]["team"] == "a"
    status, answer = chart.send("POST", "/api/v1/namespaces/default/pods", pod, user=apiserver.OPERATOR)
    assert status == 201, answer
    template = {"metadata": {"labels": {"team": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"team": "a"}}, "template": template}
    replica_set = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "greedy"}, "spec": spec}
    try:
        assert chart.apply(replica_set).code == 0
        apiserver.wait_until(
            lambda: chart.get("replicaset", "greedy")["status"].get("replicas") == 1, what="a pod of its own"
        )
        owners = chart.get("pod", "not-an-orphan")["metadata"]["ownerReferences"]
        assert [owner["kind"] for owner in owners] == ["TrainingJob"]
        pods = chart.get("pods", "-l", "team=a")["items"]
        assert len(pods) == 2
    finally:
        chart.kubectl("delete", "replicaset", "greedy", "--wait=false")
        chart.kubectl("delete", "pod", "not-an-orphan", "--now")
