"""`kubectl apply` of wrong and right TrainingJobs and Queues against a real API server: what it says, what it fills in.

The manifests lie in tests/manifests; its index holds for each wrong one the words that must be in the answer: the
field, and what to do. A file without an entry in the index fails, and so does an entry without a file.
"""

from __future__ import annotations

import dataclasses

import pytest
import yaml

import apiserver
import crd_schema

MANIFESTS = apiserver.ROOT / "tests" / "manifests"
INDEX = yaml.safe_load((MANIFESTS / "index.yaml").read_text())
pytestmark = pytest.mark.apiserver

DEFAULTS = {
    "numNodes": 1,
    "numProcPerNode": "auto",
    "failurePolicy": {"maxRestarts": 10, "avoidFailedNodes": True, "rules": []},
    "preemption": {"preemptible": True, "minRuntimeSeconds": 0},
    "startupTimeoutSeconds": 1800,
    "suspend": False,
}


@pytest.mark.parametrize("folder", ["invalid", "valid"])
def test_index_and_files_agree(folder: str) -> None:
    assert {path.stem for path in (MANIFESTS / folder).glob("*.yaml")} == set(INDEX[folder])


@pytest.mark.parametrize("name", INDEX["invalid"], ids=lambda name: INDEX["invalid"][name]["case"])
def test_wrong_manifest_is_refused_in_words_that_help(api: apiserver.ApiServer, name: str) -> None:
    answer = api.kubectl("apply", "-f", str(MANIFESTS / "invalid" / f"{name}.yaml"))
    assert answer.code != 0
    for fragment in INDEX["invalid"][name]["says"]:
        assert fragment in answer.text


@pytest.mark.parametrize("way", [[], ["--server-side"]], ids=["client-side", "server-side"])
@pytest.mark.parametrize("name", INDEX["valid"], ids=lambda name: INDEX["valid"][name])
def test_right_manifest_is_accepted(api: apiserver.ApiServer, name: str, way: list[str]) -> None:
    path = MANIFESTS / "valid" / f"{name}.yaml"
    manifest = yaml.safe_load(path.read_text())
    kind, named = manifest["kind"].lower(), manifest["metadata"]["name"]
    api.kubectl("apply", *way, "-f", str(path), check=True)
    stored = api.get(kind, named)
    api.kubectl("delete", kind, named, check=True)
    assert crd_schema.unknown_fields(stored, crd_schema.root_schema(f"{kind}s")) == []
    for field, want in manifest["spec"].items():
        have = stored["spec"][field]
        assert have == want or field in ("accelerators", "checkpoint", "env", "resourcesPerNode")


def test_defaults_are_filled_in(api: apiserver.ApiServer) -> None:
    api.apply(_job("defaults"))
    assert api.get("tj", "defaults")["spec"] == {**_job("defaults")["spec"], **DEFAULTS}


def test_defaults_of_a_queue_are_filled_in(api: apiserver.ApiServer) -> None:
    queue = {"apiVersion": "stowplan.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "defaults"}, "spec": {}}
    api.apply(queue)
    want = {"weight": "1", "limits": {}, "preemption": ["ReclaimLent", "WithinQueue"]}
    assert api.get("queue", "defaults")["spec"] == want


def test_defaults_of_nested_fields_are_filled_in(api: apiserver.ApiServer) -> None:
    given = {"accelerators": [{"product": "A"}], "topology": {"level": "rack"}, "checkpoint": {}}
    api.apply(_job("nested", **given))
    stored = api.get("tj", "nested")["spec"]
    assert stored["accelerators"] == [{"product": "A", "relativeThroughput": "1"}]
    assert stored["topology"] == {"level": "rack", "mode": "Preferred"}
    assert stored["checkpoint"] == {"path": "/checkpoints", "gracePeriodSeconds": 60}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One change of a spec field, from a job that has all optional fields."""

    field: str
    to: object


FIXED = [
    Change(field="image", to="registry.example/train:2"),
    Change(field="command", to=["torchrun", "other.py"]),
    Change(field="command", to=None),
    Change(field="args", to=["--epochs", "6"]),
    Change(field="env", to=[{"name": "SEED", "value": "2"}]),
    Change(field="env", to=None),
    Change(field="numNodes", to=4),
    Change(field="numProcPerNode", to=2),
    Change(field="resourcesPerNode", to={"nvidia.com/gpu": 2}),
    Change(field="sharedMemory", to="2Gi"),
    Change(field="accelerators", to=[{"product": "B"}]),
    Change(field="topology", to={"level": "zone"}),
    Change(field="nodeSelector", to={"zone": "b"}),
    Change(field="tolerations", to=[]),
    Change(field="checkpoint", to={"persistentVolumeClaim": "other"}),
    Change(field="podTemplate", to={"metadata": {"labels": {"team": "b"}}}),
    Change(field="serviceAccountName", to="other"),
]
FREE = [
    Change(field="priorityClassName", to="urgent"),
    Change(field="queue", to="team-b"),
    Change(field="failurePolicy", to={"maxRestarts": 1}),
    Change(field="hangTimeoutSeconds", to=900),
    Change(field="startupTimeoutSeconds", to=600),
    Change(field="activeDeadlineSeconds", to=7200),
    Change(field="deadline", to="2027-01-10T08:00:00+01:00"),
    Change(field="ttlSecondsAfterFinished", to=0),
    Change(field="suspend", to=True),
    Change(field="imagePullPolicy", to="Always"),
    Change(field="imagePullSecrets", to=[{"name": "stowplan-b"}]),
    Change(field="runtimeClassName", to="nvidia"),
]
FULL = {
    "command": ["torchrun", "train.py"],
    "args": ["--epochs", "5"],
    "env": [{"name": "SEED", "value": "1"}],
    "numNodes": 2,
    "numProcPerNode": 4,
    "sharedMemory": "1Gi",
    "accelerators": [{"product": "A"}],
    "topology": {"level": "rack"},
    "nodeSelector": {"zone": "a"},
    "tolerations": [{"key": "team", "operator": "Exists"}],
    "checkpoint": {"persistentVolumeClaim": "ckpt"},
    "podTemplate": {"metadata": {"labels": {"team": "a"}}},
    "serviceAccountName": "trainer",
}
PLACED = {
    "phase": "Running",
    "attempt": 1,
    "placement": {"attempt": 1, "nodes": [{"name": "n1", "ranks": "0-1"}], "plannedAt": "2026-01-01T00:00:00Z"},
}


def _title(change: Change) -> str:
    return f"{change.field} to {change.to}"


@pytest.fixture(scope="module")
def placed(api: apiserver.ApiServer) -> str:
    """A job with every optional field whose status holds a placement."""
    api.apply(_job("placed", **FULL))
    _write_status(api, "placed", PLACED)
    return "placed"


@pytest.mark.parametrize("change", FIXED, ids=_title)
def test_field_that_becomes_pods_is_fixed_once_placed(api: apiserver.ApiServer, placed: str, change: Change) -> None:
    answer = _change(api, placed, change)
    assert answer.code != 0
    assert f"spec.{change.field}: Forbidden: spec.{change.field} is fixed once the job is placed" in answer.text
    assert "set spec.suspend to true, wait for phase Suspended" in answer.text


@pytest.mark.parametrize("change", FREE, ids=_title)
def test_other_field_changes_at_any_time(api: apiserver.ApiServer, placed: str, change: Change) -> None:
    assert _change(api, placed, change).code == 0


@pytest.mark.parametrize("change", FIXED, ids=_title)
def test_field_that_becomes_pods_changes_before_placement(api: apiserver.ApiServer, change: Change) -> None:
    api.apply(_job("waiting", **FULL))
    assert _change(api, "waiting", change).text.endswith("(no change)\n") is False
    assert _change(api, "waiting", change).code == 0


def test_suspended_job_changes_when_its_placement_is_gone(api: apiserver.ApiServer) -> None:
    api.apply(_job("stopping", **FULL))
    _write_status(api, "stopping", PLACED)
    wish = Change(field="image", to="registry.example/train:2")
    api.kubectl("patch", "tj", "stopping", "--type=merge", "-p", '{"spec": {"suspend": true}}', check=True)
    assert _change(api, "stopping", wish).code != 0, "its pods may still run the old image"
    _write_status(api, "stopping", {"phase": "Suspended", "placement": None})
    assert _change(api, "stopping", wish).code == 0


def test_the_operators_status_write_passes_where_the_spec_is_placed(api: apiserver.ApiServer, placed: str) -> None:
    progress = {"step": 5, "totalSteps": 10, "percent": "50%", "loss": "0.5"}
    _write_status(api, placed, {"progress": progress})
    assert api.get("tj", placed)["status"]["progress"] == progress


def test_columns(api: apiserver.ApiServer) -> None:
    api.apply(_job("columns"))
    condition = {"lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "R", "message": "", "status": "False"}
    status = {
        **PLACED,
        "reason": "AllPodsRunning",
        "queue": "team-a",
        "ready": "1/1",
        "gpus": 4,
        "restarts": 2,
        "eta": "about 3m",
        "progress": {"percent": "42%", "loss": "0.125"},
        "message": "well",
        # Admitted is chosen by its type, wherever it stands.
        "conditions": [{**condition, "type": "Admitted", "status": "True"}, {**condition, "type": "Suspended"}],
    }
    _write_status(api, "columns", status)
    header, row = api.kubectl("get", "tj", "columns", "-o", "wide", check=True).stdout.splitlines()
    want = "NAME PHASE REASON READY GPUS PROGRESS ETA RESTARTS AGE QUEUE ATTEMPT LOSS ADMITTED MESSAGE"
    assert header.split() == want.split()
    assert row.split()[:8] == ["columns", "Running", "AllPodsRunning", "1/1", "4", "42%", "about", "3m"]
    assert row.split()[-5:] == ["team-a", "1", "0.125", "True", "well"]
    narrow = api.kubectl("get", "stowplan", check=True).stdout.splitlines()[0].split()
    assert narrow[-1] == "AGE", "by category, without the wide columns"


def test_columns_of_a_queue(api: apiserver.ApiServer) -> None:
    api.kubectl("apply", "-f", str(apiserver.ROOT / "examples" / "queues.yaml"), check=True)
    active = {"type": "Active", "status": "True", "reason": "Planned", "message": "well"}
    status = {
        "runningJobs": 3,
        "pendingJobs": 1,
        "gpus": "12/8",
        "pendingGpus": "4",
        "borrowed": "4",
        "lent": "0",
        "fairShare": {"share": "75%", "ideal": "50%"},
        "conditions": [{**active, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }
    path = "/apis/stowplan.dev/v1alpha1/queues/vision/status"
    code, answer = api.send("PATCH", path, {"status": status}, content_type="application/merge-patch+json")
    assert code == 200, answer
    header, row = api.kubectl("get", "q", "vision", "-o", "wide", check=True).stdout.splitlines()
    want = "NAME PARENT RUNNING PENDING GPUS BORROWED LENT ACTIVE REASON AGE PENDINGGPUS SHARE IDEAL WEIGHT MESSAGE"
    assert header.split() == want.split()
    assert row.split()[:9] == ["vision", "research", "3", "1", "12/8", "4", "0", "True", "Planned"]
    assert row.split()[-5:] == ["4", "75%", "50%", "1", "well"]


def test_jobs_are_selected_by_phase(api: apiserver.ApiServer, placed: str) -> None:
    names = api.kubectl("get", "tj", "--field-selector=status.phase=Running", "-o", "name", check=True).stdout
    assert f"trainingjob.stowplan.dev/{placed}" in names
    assert "defaults" not in names


@pytest.mark.parametrize(
    "field", ["tj.spec.numProcPerNode", "tj.spec.checkpoint.path", "tj.status.decision", "q.spec.quotas"]
)
def test_kubectl_explain_describes(api: apiserver.ApiServer, field: str) -> None:
    text = api.kubectl("explain", field, check=True).stdout
    assert "DESCRIPTION" in text
    assert "<empty>" not in text


def _job(name: str, **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "stowplan.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"image": "registry.example/train:1", "resourcesPerNode": {"nvidia.com/gpu": 4}, **spec},
    }


def _change(api: apiserver.ApiServer, name: str, change: Change) -> apiserver.Result:
    patch = yaml.safe_dump({"spec": {change.field: change.to}})
    return api.kubectl("patch", "tj", name, "--type=merge", "--dry-run=server", "-p", patch)


def _write_status(api: apiserver.ApiServer, name: str, status: dict[str, object]) -> None:
    patch = yaml.safe_dump({"status": status})
    api.kubectl("patch", "tj", name, "--subresource=status", "--type=merge", "-p", patch, check=True)
