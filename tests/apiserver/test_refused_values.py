"""Values that would give rights, in fields that TrainingJobs have: refused for every client and kind of write.

What a TrainingJob may say but does not get away with is refused by the CRD's rules, and what depends on the user or on
the chart's values by the chart's policy.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import apiserver
from escapes import JOBS, TEMPLATE, Json, with_value, writes

pytestmark = pytest.mark.apiserver


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refused:
    """A field that TrainingJobs have, with a value that they may not have; what must be said: field, cause, fix."""

    path: str
    value: Any
    says: tuple[str, ...]
    user: str = "alice"


def _owned(name: str) -> Refused:
    says = ("spec.env", f"{name} is set by Stowplan, torchrun or the device plugin", "remove it")
    return Refused(path="spec.env.0.name", value=name, says=says)


def _label(key: str, *says: str) -> Refused:
    return Refused(path=f"{TEMPLATE}.metadata.labels", value={key: "x"}, says=(f"{TEMPLATE}.metadata.labels", *says))


def _annotation(key: str) -> Refused:
    says = (f"{TEMPLATE}.metadata.annotations: {key}", "other programs may read rights out of it", "remove it")
    return Refused(path=f"{TEMPLATE}.metadata.annotations", value={key: "x"}, says=says)


OURS = ("how Stowplan knows its pods", "remove them or choose a key of your own")
KUBERNETES = ("are for Kubernetes and its controllers", "remove them or choose a key of your own")
REFUSED = {
    "torchrun's number of nodes": _owned("PET_NNODES"),
    "torchrun's rendezvous": _owned("PET_RDZV_ENDPOINT"),
    "any other variable of torchrun's": _owned("PET_X"),
    "a variable of Stowplan": _owned("STOWPLAN_ATTEMPT"),
    "a rank": _owned("RANK"),
    "the master's address": _owned("MASTER_ADDR"),
    "the choice of GPUs": _owned("NVIDIA_VISIBLE_DEVICES"),
    "a label that joins another job": _label("stowplan.dev/job", *OURS),
    "a label below ours": _label("queue.stowplan.dev/name", *OURS),
    "the label of our pods": _label("app.kubernetes.io/managed-by", *OURS),
    "the label of a Job's pods": _label("batch.kubernetes.io/job-name", *KUBERNETES),
    "the label of a StatefulSet's pods": _label("statefulset.kubernetes.io/pod-name", *KUBERNETES),
    "a label of Kubernetes' friends": _label("leaderworkerset.x-k8s.io/name", *KUBERNETES),
    "an annotation of ours": Refused(
        path=f"{TEMPLATE}.metadata.annotations",
        value={"stowplan.dev/x": "y"},
        says=("keys under stowplan.dev/ belong to Stowplan", "remove"),
    ),
    "AppArmor switched off": _annotation("container.apparmor.security.beta.kubernetes.io/trainer"),
    "seccomp switched off": _annotation("seccomp.security.alpha.kubernetes.io/pod"),
    "GPUs past the device plugin": _annotation("cdi.k8s.io/all"),
    "devices of CRI-O": _annotation("io.kubernetes.cri-o.Devices"),
    "settings of a sandbox": _annotation("io.katacontainers.config.hypervisor.path"),
    "a Secret of Vault": _annotation("vault.hashicorp.com/agent-inject-secret-x"),
    "a volume of Istio's proxy": _annotation("sidecar.istio.io/userVolume"),
    "a ServiceAccount that the user may not use": Refused(
        path="spec.serviceAccountName",
        value="builder",
        user="bob",
        says=(
            "spec.serviceAccountName: bob may neither use nor impersonate ServiceAccount builder",
            "leave the field out",
        ),
    ),
    "a Secret without the prefix": Refused(
        path="spec.imagePullSecrets",
        value=[{"name": "admin-token"}],
        says=("spec.imagePullSecrets: admin-token does not begin with", "copy the Secret to a name with this prefix"),
    ),
    "a path out of the volume": Refused(
        path=f"{TEMPLATE}.volumeMounts.0.subPath",
        value="../../etc",
        says=("subPath must be relative", "write for example"),
    ),
    "a path from the volume's root": Refused(
        path=f"{TEMPLATE}.volumeMounts.0.subPath", value="/etc", says=("subPath must be relative", "write for example")
    ),
    "a volume in the place of Stowplan's": Refused(
        path=f"{TEMPLATE}.volumes.0.name",
        value="stowplan-run",
        says=("stowplan-run begins with stowplan-", "choose another"),
    ),
    "a mount over Stowplan's": Refused(
        path=f"{TEMPLATE}.volumeMounts.0.mountPath", value="/var/run/stowplan", says=("is taken", "choose another path")
    ),
    "a class of the system": Refused(
        path="spec.priorityClassName",
        value="system-cluster-critical",
        says=("spec.priorityClassName: classes that begin with system-", "choose another"),
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_value_that_gives_rights_is_refused_for_every_client(
    chart: apiserver.ApiServer, stored: Json, case: Refused
) -> None:
    answers = writes(chart, with_value(case.path, case.value), stored, user=case.user, validation="Ignore")
    for kind, (status, answer) in answers.items():
        assert status in (403, 422), f"{kind}: {answer}"
        for text in case.says:
            assert text in answer["message"], kind


ALLOWED: dict[str, tuple[str, str, Any]] = {
    "one's own annotation": ("bob", f"{TEMPLATE}.metadata.annotations", {"note": "x"}),
    "a network of Multus": ("bob", f"{TEMPLATE}.metadata.annotations", {"k8s.v1.cni.cncf.io/networks": "rdma"}),
    "an annotation below a listed prefix": (
        "bob",
        f"{TEMPLATE}.metadata.annotations",
        {"prometheus.io/scrape": "true"},
    ),
    "a label of one's own company": ("bob", f"{TEMPLATE}.metadata.labels", {"example.com/cost-centre": "42"}),
    "a recommended label": ("bob", f"{TEMPLATE}.metadata.labels", {"app.kubernetes.io/name": "train"}),
    "the namespace's own account": ("bob", "spec.serviceAccountName", "default"),
    "an account that the user may use": ("bob", "spec.serviceAccountName", "shared"),
    "an account that the user may impersonate": ("alice", "spec.serviceAccountName", "builder"),
    "a Secret with the prefix": ("bob", "spec.imagePullSecrets", [{"name": "stowplan-registry"}]),
}


@pytest.mark.parametrize(("user", "path", "value"), ALLOWED.values(), ids=ALLOWED)
def test_what_gives_no_rights_is_accepted(
    chart: apiserver.ApiServer, stored: Json, user: str, path: str, value: Any
) -> None:
    chart.apply(ROLE_TO_USE_SHARED)
    answers = writes(chart, with_value(path, value), stored, user=user, validation="Strict")
    for kind, (status, answer) in answers.items():
        assert status in (200, 201), f"{kind}: {answer}"


ROLE_TO_USE_SHARED = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: use-shared, namespace: default}
rules:
- {apiGroups: [""], resources: [serviceaccounts], resourceNames: [shared], verbs: [use]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: use-shared, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: use-shared}
subjects: [{kind: User, name: bob, apiGroup: rbac.authorization.k8s.io}]
"""


@pytest.fixture(scope="module")
def of_alice(chart: apiserver.ApiServer) -> str:
    """A job of alice that runs under an account which bob may not use."""
    body = with_value("spec.serviceAccountName", "builder")
    body["metadata"] = {"name": "of-alice", "namespace": "default"}
    status, answer = chart.send("POST", JOBS, body, user="alice")
    assert status == 201, answer
    return f"{JOBS}/of-alice?dryRun=All"


@pytest.mark.parametrize(
    "change",
    [{"image": "mine"}, {"command": ["sh"]}, {"env": [{"name": "LD_PRELOAD", "value": "/x"}]}],
    ids=["an image", "a command", "an environment"],
)
def test_nobody_puts_code_into_a_job_whose_account_he_may_not_use(
    chart: apiserver.ApiServer, of_alice: str, change: Json
) -> None:
    merge = "application/merge-patch+json"
    status, answer = chart.send("PATCH", of_alice, {"spec": change}, user="bob", content_type=merge)
    assert status == 403, answer
    assert "bob may neither use nor impersonate ServiceAccount builder" in answer["message"]
    status, answer = chart.send("PATCH", of_alice, {"spec": change}, user="alice", content_type=merge)
    assert status == 200, answer


def test_its_labels_are_free(chart: apiserver.ApiServer, of_alice: str) -> None:
    merge = "application/merge-patch+json"
    patch = {"metadata": {"labels": {"seen": "yes"}}}
    status, answer = chart.send("PATCH", of_alice, patch, user="bob", content_type=merge)
    assert status == 200, answer
