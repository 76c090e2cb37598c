"""The chart's policies and roles on a real API server: who makes pods that look like Stowplan's, who may do what."""

from __future__ import annotations

import dataclasses
import uuid

import pytest
import yaml

import apiserver

pytestmark = pytest.mark.apiserver
MANAGED = {"app.kubernetes.io/managed-by": "stowplan", "stowplan.dev/job": "digits"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A pod that somebody creates, and the refusal (empty: none)."""

    user: str = "alice"
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    priority_class: str = ""
    want: str = ""


CREATED = {
    "an ordinary pod of a user": Case(labels={"app": "x", "app.kubernetes.io/managed-by": "Helm"}),
    "an ordinary pod of a user with a class of the cluster": Case(priority_class="research"),
    "the operator's own": Case(user=apiserver.OPERATOR, labels=MANAGED, priority_class="stowplan-gang"),
    "one of an operator that runs outside the cluster": Case(user="developer", labels=MANAGED),
    # Which of several labels the message names first is up to the API server's maps.
    "a user's with the labels of a job": Case(labels=MANAGED, want="stowplan.dev/job"),
    "a user's with one label of a job": Case(
        labels={"stowplan.dev/rank": "0"}, want="metadata.labels: stowplan.dev/rank marks pods of TrainingJobs"
    ),
    "a user's with the managed-by label alone": Case(
        labels={"app.kubernetes.io/managed-by": "stowplan"}, want="app.kubernetes.io/managed-by marks pods"
    ),
    "a user's with the gangs' priority": Case(
        priority_class="stowplan-gang", want="spec.priorityClassName: stowplan-gang is for pods of TrainingJobs"
    ),
    "a Job's with the labels of a job": Case(
        user=apiserver.JOB_CONTROLLER, labels=MANAGED, want="only Stowplan creates and labels; leave these labels alone"
    ),
}


@pytest.mark.parametrize("case", CREATED.values(), ids=CREATED.keys())
def test_pod_is_created_or_refused(chart: apiserver.ApiServer, case: Case) -> None:
    answer = chart.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(_pod(case)), user=case.user)
    assert (answer.code == 0) == (not case.want), answer.text
    assert case.want in answer.text


@pytest.mark.parametrize("change", ["stowplan.dev/job=other", "stowplan.dev/job-", "stowplan.dev/rank=7"])
def test_a_user_does_not_relabel_a_pod_of_a_job(chart: apiserver.ApiServer, pod_of_a_job: str, change: str) -> None:
    answer = chart.kubectl("label", "--overwrite", "pod", pod_of_a_job, change, user="alice")
    assert answer.code != 0
    assert "marks pods of TrainingJobs" in answer.text


def test_a_user_labels_a_pod_of_a_job_otherwise(chart: apiserver.ApiServer, pod_of_a_job: str) -> None:
    assert chart.kubectl("label", "pod", pod_of_a_job, "note=seen", user="alice").code == 0


def test_a_user_does_not_turn_a_pod_into_one_of_a_job(chart: apiserver.ApiServer) -> None:
    name = _create(chart, Case())
    answer = chart.kubectl("label", "pod", name, "stowplan.dev/job=digits", user="alice")
    assert "stowplan.dev/job marks pods of TrainingJobs" in answer.text


def test_a_user_deletes_a_pod_of_a_job(chart: apiserver.ApiServer) -> None:
    name = _create(chart, Case(user=apiserver.OPERATOR, labels=MANAGED))
    assert chart.kubectl("delete", "pod", name, "--now", user="alice").code == 0


@pytest.mark.parametrize(("secret", "want"), [("stowplan-registry", ""), ("admin-token", "does not begin with")])
def test_pull_secrets_carry_the_agreed_prefix(chart: apiserver.ApiServer, secret: str, want: str) -> None:
    job = {
        "apiVersion": "stowplan.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "pull"},
        "spec": {"image": "i", "resourcesPerNode": {"cpu": 1}, "imagePullSecrets": [{"name": secret}]},
    }
    answer = chart.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(job))
    assert (answer.code == 0) == (not want), answer.text
    if want:
        assert f"spec.imagePullSecrets: {secret} does not begin with" in answer.text
        assert "copy the Secret to a name with this prefix" in answer.text


ROOM: dict[str, tuple[str, str, str]] = {
    "who may write TrainingJobs only": ("bob", "1800", "bob may not ask for"),
    "who has the role for it": ("carol", "1800", ""),
    "an amount that is none": ("carol", "lots", "is a whole number of GPU-seconds"),
}


@pytest.mark.parametrize("case", ROOM)
def test_who_may_have_jobs_moved(chart: apiserver.ApiServer, case: str) -> None:
    user, amount, want = ROOM[case]
    name = f"room-{uuid.uuid4().hex[:8]}"
    job = {
        "apiVersion": "stowplan.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"image": "i", "resourcesPerNode": {"cpu": 1}},
    }
    annotation = f"stowplan.dev/make-room={amount}"
    chart.kubectl("create", "-f", "-", stdin=yaml.safe_dump(job), user=user, check=True)
    asked = {**job, "metadata": {"name": f"{name}-b", "annotations": {"stowplan.dev/make-room": amount}}}
    answers = [
        chart.kubectl("annotate", "trainingjob", name, annotation, user=user),
        chart.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(asked), user=user),
    ]
    for answer in answers:
        assert (answer.code == 0) == (not want), answer.text
        assert want in answer.text
    if not want:
        # Others go on writing to the job, and may take the request away, but do not raise it.
        assert chart.kubectl("label", "trainingjob", name, "note=seen", user="bob").code == 0
        raised = chart.kubectl("annotate", "--overwrite", "trainingjob", name, "stowplan.dev/make-room=9", user="bob")
        assert "bob may not ask for" in raised.text
        assert chart.kubectl("annotate", "trainingjob", name, "stowplan.dev/make-room-", user="bob").code == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Right:
    """A question to the authorizer."""

    user: str = apiserver.OPERATOR
    verb: str
    resource: str
    namespace: str = "default"
    want: bool


RIGHTS = {
    "the operator reads nodes": Right(verb="list", resource="nodes", want=True),
    "the operator creates pods": Right(verb="create", resource="pods", want=True),
    "the operator deletes pods": Right(verb="delete", resource="pods", want=True),
    "the operator writes status": Right(verb="patch", resource="trainingjobs/status", want=True),
    # They are a file in its pod.
    "the operator does not change its settings": Right(
        verb="update", resource="configmaps/stowplan-settings", namespace="stowplan-system", want=False
    ),
    "the operator takes its Lease": Right(
        verb="update", resource="leases/stowplan-operator", namespace="stowplan-system", want=True
    ),
    "the operator takes no other Lease": Right(
        verb="update", resource="leases/other", namespace="stowplan-system", want=False
    ),
    "the operator reads no Secret": Right(verb="get", resource="secrets", want=False),
    "the operator reads no Secret of its own namespace": Right(
        verb="get", resource="secrets", namespace="stowplan-system", want=False
    ),
    "the operator changes no pod": Right(verb="patch", resource="pods", want=False),
    "the operator changes no node": Right(verb="patch", resource="nodes", want=False),
    "the operator opens no shell": Right(verb="create", resource="pods/exec", want=False),
    "the operator reads no log": Right(verb="get", resource="pods/log", want=False),
    "the operator changes no spec": Right(verb="patch", resource="trainingjobs", want=False),
    "the operator reads no ConfigMap of users": Right(verb="get", resource="configmaps", want=False),
    "a user with role edit creates TrainingJobs": Right(
        user="alice", verb="create", resource="trainingjobs", want=True
    ),
    "a user with role edit scales TrainingJobs": Right(
        user="alice", verb="patch", resource="trainingjobs/scale", want=True
    ),
    "the operator scales none": Right(verb="patch", resource="trainingjobs/scale", want=False),
    "a user with role edit writes no status": Right(
        user="alice", verb="patch", resource="trainingjobs/status", want=False
    ),
}


@pytest.mark.parametrize("right", RIGHTS.values(), ids=RIGHTS.keys())
def test_rights(chart: apiserver.ApiServer, right: Right) -> None:
    resource, _, rest = right.resource.partition("/")
    is_named = resource in ("leases", "configmaps")
    part = [f"--subresource={rest}"] if rest and not is_named else []
    name = [right.resource] if is_named else [resource]
    answer = chart.kubectl("auth", "can-i", right.verb, *name, *part, "-n", right.namespace, user=right.user)
    assert answer.stdout.strip() == ("yes" if right.want else "no"), answer.text


@pytest.fixture(scope="module")
def pod_of_a_job(chart: apiserver.ApiServer) -> str:
    """A pod with the labels of a job, made by the operator."""
    return _create(chart, Case(user=apiserver.OPERATOR, labels=MANAGED))


def _create(chart: apiserver.ApiServer, case: Case) -> str:
    pod = _pod(case)
    chart.kubectl("create", "-f", "-", stdin=yaml.safe_dump(pod), user=case.user, check=True)
    return str(pod["metadata"]["name"])


def _pod(case: Case) -> dict[str, dict[str, object]]:
    spec: dict[str, object] = {"containers": [{"name": "c", "image": "i"}]}
    if case.priority_class:
        spec["priorityClassName"] = case.priority_class
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p-{uuid.uuid4().hex[:8]}", "namespace": "default", "labels": case.labels},
        "spec": spec,
    }
