"""Every way out of a TrainingJob that other operators were caught with, tried on a real API server with the chart.

Whoever may create TrainingJobs gets what the namespace's Pod Security level `restricted` gives, and no more. Fields
that the CRD does not know are refused by strict field validation, which kubectl asks for; for a client that does not
ask they are dropped, which is shown to change nothing. What the CRD knows but does not want is refused by its rules,
and what depends on the user or on the chart's values by the chart's policy, both for every client and kind of write.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

import apiserver
import crd_schema
from stowplan_operator import api as names
from stowplan_operator import podspec, settings, views

pytestmark = pytest.mark.apiserver
Json = dict[str, Any]

JOBS = "/apis/stowplan.dev/v1alpha1/namespaces/default/trainingjobs"
OPERATOR = "system:serviceaccount:stowplan-system:stowplan"
BASE: Json = {
    "apiVersion": "stowplan.dev/v1alpha1",
    "kind": "TrainingJob",
    "metadata": {"name": "escape", "namespace": "default"},
    "spec": {
        "image": "registry.example/train:1",
        "resourcesPerNode": {"cpu": 1},
        "env": [{"name": "SEED", "value": "1"}],
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}, "annotations": {"note": "x"}},
            "volumes": [{"name": "data", "emptyDir": {}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "securityContext": {"runAsUser": 1000},
        },
    },
}
TEMPLATE = "spec.podTemplate"

# Fields of a pod that a TrainingJob has not: path, and a value that would be an escape or somebody else's business.
UNKNOWN: dict[str, tuple[str, Any]] = {
    "the node's network": (f"{TEMPLATE}.hostNetwork", True),
    "the node's processes": (f"{TEMPLATE}.hostPID", True),
    "the node's IPC": (f"{TEMPLATE}.hostIPC", True),
    "the node's users": (f"{TEMPLATE}.hostUsers", True),
    "a node of one's choice": (f"{TEMPLATE}.nodeName", "n1"),
    "a node of one's choice, on the spec": ("spec.nodeName", "n1"),
    "a pod's spec": (f"{TEMPLATE}.spec", {"hostNetwork": True}),
    "further containers": (f"{TEMPLATE}.containers", [{"name": "c", "securityContext": {"privileged": True}}]),
    "init containers": (f"{TEMPLATE}.initContainers", [{"name": "c", "image": "i"}]),
    "ephemeral containers": (f"{TEMPLATE}.ephemeralContainers", [{"name": "c", "image": "i"}]),
    "a token": (f"{TEMPLATE}.automountServiceAccountToken", True),
    "a token, on the spec": ("spec.automountServiceAccountToken", True),
    "a class of the system": (f"{TEMPLATE}.priorityClassName", "system-node-critical"),
    "another scheduler": (f"{TEMPLATE}.schedulerName", "mine"),
    "an affinity": (f"{TEMPLATE}.affinity", {"nodeAffinity": {}}),
    "host aliases": (f"{TEMPLATE}.hostAliases", [{"ip": "1.1.1.1", "hostnames": ["kubernetes.default"]}]),
    "a resolver": (f"{TEMPLATE}.dnsConfig", {"nameservers": ["1.1.1.1"]}),
    "devices by claim": (f"{TEMPLATE}.resourceClaims", [{"name": "gpu", "resourceClaimName": "all"}]),
    "shared processes": (f"{TEMPLATE}.shareProcessNamespace", True),
    "a life-cycle hook": (f"{TEMPLATE}.lifecycle", {"postStart": {"exec": {"command": ["sh"]}}}),
    "a privileged container": (f"{TEMPLATE}.securityContext.privileged", True),
    "an added capability": (f"{TEMPLATE}.securityContext.capabilities", {"add": ["SYS_ADMIN"]}),
    "more rights by exec": (f"{TEMPLATE}.securityContext.allowPrivilegeEscalation", True),
    "no seccomp": (f"{TEMPLATE}.securityContext.seccompProfile", {"type": "Unconfined"}),
    "no AppArmor": (f"{TEMPLATE}.securityContext.appArmorProfile", {"type": "Unconfined"}),
    "an SELinux type": (f"{TEMPLATE}.securityContext.seLinuxOptions", {"type": "spc_t"}),
    "kernel settings": (f"{TEMPLATE}.securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
    "an unmasked /proc": (f"{TEMPLATE}.securityContext.procMount", "Unmasked"),
    "another name": (f"{TEMPLATE}.metadata.name", "kube-apiserver"),
    "another namespace": (f"{TEMPLATE}.metadata.namespace", "kube-system"),
    "another owner": (f"{TEMPLATE}.metadata.ownerReferences", [{"kind": "Node", "name": "n1"}]),
    "a finalizer": (f"{TEMPLATE}.metadata.finalizers", ["example.com/never"]),
    "a Secret in the environment": ("spec.env.0.valueFrom", {"secretKeyRef": {"name": "s", "key": "k"}}),
    "a file in the environment": (
        "spec.env.0.valueFrom",
        {"fileKeyRef": {"volumeName": "data", "path": "p", "key": "k"}},
    ),
    "a whole Secret in the environment": ("spec.envFrom", [{"secretRef": {"name": "s"}}]),
    "a host path": (f"{TEMPLATE}.volumes.0", {"name": "data", "hostPath": {"path": "/"}}),
    "a host path beside an emptyDir": (f"{TEMPLATE}.volumes.0.hostPath", {"path": "/"}),
    "a projected token": (
        f"{TEMPLATE}.volumes.0",
        {"name": "data", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ),
    "a Secret as a volume": (f"{TEMPLATE}.volumes.0", {"name": "data", "secret": {"secretName": "s"}}),
    "a CSI volume": (f"{TEMPLATE}.volumes.0", {"name": "data", "csi": {"driver": "secrets-store.csi.k8s.io"}}),
    "an ephemeral claim": (f"{TEMPLATE}.volumes.0", {"name": "data", "ephemeral": {"volumeClaimTemplate": {}}}),
    "an NFS share": (f"{TEMPLATE}.volumes.0", {"name": "data", "nfs": {"server": "s", "path": "/"}}),
    "an image as a volume": (f"{TEMPLATE}.volumes.0", {"name": "data", "image": {"reference": "i"}}),
    "mounts that spread to the node": (f"{TEMPLATE}.volumeMounts.0.mountPropagation", "Bidirectional"),
    "a path out of a variable": (f"{TEMPLATE}.volumeMounts.0.subPathExpr", "$(X)"),
}
# Without strict validation the value is dropped; in these places something required is then missing.
REFUSED_WITHOUT_IT = {
    "spec.env.0.valueFrom": "spec.env[0].valueFrom",
    f"{TEMPLATE}.volumes.0": "volume data must have exactly one source",
}


def _field(path: str) -> str:
    return path.replace(".0", "[0]")


def _with(path: str, value: Any, base: Json = BASE) -> Json:
    job: Any = copy.deepcopy(base)
    at = job
    *above, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in above:
        at = at[step]
    at[last] = value
    return dict(job)


@pytest.fixture(scope="module")
def stored(chart: apiserver.ApiServer) -> Json:
    """A job of alice without anything wrong, for the tries to change one."""
    job = {**copy.deepcopy(BASE), "metadata": {"name": "stored", "namespace": "default"}}
    status, answer = chart.send("POST", JOBS, job, user="alice")
    assert status == 201, answer
    return dict(answer)


def _writes(chart: apiserver.ApiServer, job: Json, stored: Json, *, user: str, validation: str) -> dict[str, Any]:
    """The job as each kind of write brings it in, as a dry run: (HTTP status, answer) by kind."""
    dry = f"?dryRun=All&fieldValidation={validation}"
    of_stored = f"{JOBS}/stored{dry}"
    replaced = {**stored, "spec": job["spec"]}
    return {
        "create": chart.send("POST", f"{JOBS}{dry}", job, user=user),
        "replace": chart.send("PUT", of_stored, replaced, user=user),
        "merge patch": chart.send(
            "PATCH", of_stored, {"spec": job["spec"]}, user=user, content_type="application/merge-patch+json"
        ),
        "JSON patch": chart.send(
            "PATCH",
            of_stored,
            [{"op": "replace", "path": "/spec", "value": job["spec"]}],
            user=user,
            content_type="application/json-patch+json",
        ),
        "server-side apply": chart.send(
            "PATCH",
            f"{JOBS}/escape{dry}&fieldManager=test",
            job,
            user=user,
            content_type="application/apply-patch+yaml",
        ),
    }


def _pod(job: Json) -> Json:
    """The pod that the operator makes of the stored job."""
    placement = {"attempt": 1, "nodes": [{"name": "n1", "ranks": "0"}]}
    body = {**job, "metadata": {**job["metadata"], "name": "escape", "uid": "u"}, "status": {"placement": placement}}
    view = views.JobView.from_body(body)
    (pod,) = podspec.build_pods(
        view, names.parse_spec(dict(view.spec)), placement, settings=settings.Settings()
    ).values()
    return pod


def test_the_base_of_all_cases_is_accepted(chart: apiserver.ApiServer, stored: Json) -> None:
    answers = _writes(chart, BASE, stored, user="alice", validation="Strict")
    assert {kind: status for kind, (status, _) in answers.items()} == {
        **dict.fromkeys(answers, 200),
        "create": 201,
        "server-side apply": 201,
    }


@pytest.mark.parametrize(("path", "value"), UNKNOWN.values(), ids=UNKNOWN)
def test_field_that_is_not_on_the_list_is_refused_by_strict_validation(
    chart: apiserver.ApiServer, stored: Json, path: str, value: Any
) -> None:
    for kind, (status, answer) in _writes(chart, _with(path, value), stored, user="alice", validation="Strict").items():
        assert status in (400, 422, 500), f"{kind}: {answer}"
        assert "unknown field" in answer["message"] or "field not declared in schema" in answer["message"], kind
        assert _field(path).rpartition("[0]")[0] in answer["message"] or path.rpartition(".")[2] in answer["message"]


@pytest.mark.parametrize(("path", "value"), UNKNOWN.values(), ids=UNKNOWN)
def test_without_strict_validation_such_a_field_is_dropped_and_changes_nothing(
    chart: apiserver.ApiServer, stored: Json, path: str, value: Any
) -> None:
    for kind, (status, answer) in _writes(chart, _with(path, value), stored, user="alice", validation="Ignore").items():
        if kind == "server-side apply":
            assert status == 500, "it knows the schema always"
        elif path in REFUSED_WITHOUT_IT:
            assert status == 422, f"{kind}: {answer}"
            assert REFUSED_WITHOUT_IT[path] in answer["message"]
        else:
            assert status in (200, 201), f"{kind}: {answer}"
            assert crd_schema.unknown_fields(answer) == []
            assert _pod(answer) == _pod(stored), kind


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
    for kind, (status, answer) in _writes(
        chart, _with(case.path, case.value), stored, user=case.user, validation="Ignore"
    ).items():
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
    for kind, (status, answer) in _writes(chart, _with(path, value), stored, user=user, validation="Strict").items():
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
    body = _with("spec.serviceAccountName", "builder")
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
    status, answer = chart.send("PATCH", path, patch, user=OPERATOR, content_type=kind)
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
    pod = _pod(stored)
    pod["metadata"]["name"] = "not-an-orphan"
    pod["metadata"]["ownerReferences"][0]["uid"] = stored["metadata"]["uid"]
    pod["metadata"]["ownerReferences"][0]["name"] = "stored"
    assert pod["metadata"]["labels"]["team"] == "a"
    status, answer = chart.send("POST", "/api/v1/namespaces/default/pods", pod, user=OPERATOR)
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


def test_nothing_in_the_crd_keeps_fields_that_it_does_not_know() -> None:
    for path, schema in crd_schema.walk():
        assert "x-kubernetes-preserve-unknown-fields" not in schema, path
        assert "x-kubernetes-embedded-resource" not in schema, path
        assert (
            "properties" in schema
            or schema.get("type") != "object"
            or "additionalProperties" in schema
            or (path == "metadata")
        ), f"{path} would take anything"
