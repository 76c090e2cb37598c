"""Every way out of a TrainingJob that other operators were caught with, by fields that a pod has and a job has not.

Whoever may create TrainingJobs gets what the namespace's Pod Security level `restricted` gives, and no more. Fields
that the CRD does not know are refused by strict field validation, which kubectl asks for; for a client that does not
ask they are dropped, which is shown to change nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

import apiserver
import crd_schema
from escapes import BASE, TEMPLATE, Json, pod_of, with_value, writes

pytestmark = pytest.mark.apiserver

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


def test_the_base_of_all_cases_is_accepted(chart: apiserver.ApiServer, stored: Json) -> None:
    answers = writes(chart, BASE, stored, user="alice", validation="Strict")
    assert {kind: status for kind, (status, _) in answers.items()} == {
        **dict.fromkeys(answers, 200),
        "create": 201,
        "server-side apply": 201,
    }


@pytest.mark.parametrize(("path", "value"), UNKNOWN.values(), ids=UNKNOWN)
def test_field_that_is_not_on_the_list_is_refused_by_strict_validation(
    chart: apiserver.ApiServer, stored: Json, path: str, value: Any
) -> None:
    answers = writes(chart, with_value(path, value), stored, user="alice", validation="Strict")
    for kind, (status, answer) in answers.items():
        assert status in (400, 422, 500), f"{kind}: {answer}"
        assert "unknown field" in answer["message"] or "field not declared in schema" in answer["message"], kind
        assert _field(path).rpartition("[0]")[0] in answer["message"] or path.rpartition(".")[2] in answer["message"]


@pytest.mark.parametrize(("path", "value"), UNKNOWN.values(), ids=UNKNOWN)
def test_without_strict_validation_such_a_field_is_dropped_and_changes_nothing(
    chart: apiserver.ApiServer, stored: Json, path: str, value: Any
) -> None:
    answers = writes(chart, with_value(path, value), stored, user="alice", validation="Ignore")
    for kind, (status, answer) in answers.items():
        if kind == "server-side apply":
            assert status == 500, "it knows the schema always"
        elif path in REFUSED_WITHOUT_IT:
            assert status == 422, f"{kind}: {answer}"
            assert REFUSED_WITHOUT_IT[path] in answer["message"]
        else:
            assert status in (200, 201), f"{kind}: {answer}"
            assert crd_schema.unknown_fields(answer) == []
            assert pod_of(answer) == pod_of(stored), kind


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
