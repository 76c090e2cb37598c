"""``what-if submit`` answers only for manifests that the API server would take."""

from __future__ import annotations

import math
import pathlib
from typing import Any

import pytest
import yaml

from fakes.builders import a_job
from stowplan_operator.cli import checking, manifests
from unit.operator.cli import observed
from unit.operator.cli.conftest import Run
from unit.operator.cli.fake_api import State

MANIFESTS = pathlib.Path(__file__).parents[3] / "manifests" / "valid"

# Without a cluster: what is wrong with the spec → what must be said.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a field that is written wrong": ({"qeue": "x"}, "spec.qeue is no field; did you mean queue?"),
    "a field far from any": ({"replicas": 2}, "spec.replicas is no field; known are: image, "),
    "a field below a list": (
        {"accelerators": [{"product": "A", "model": "B"}]},
        "spec.accelerators[0].model is no field",
    ),
    "no pods": ({"numNodes": 0}, "spec.numNodes is 0; at least 1 is needed"),
    "too many pods": ({"numNodes": 5000}, "spec.numNodes is 5000; at most 4096 is allowed"),
    "another type": ({"numNodes": "two"}, 'spec.numNodes must be a whole number, not "two"'),
    "a number for text": (
        {"accelerators": [{"product": "A", "relativeThroughput": 0.5}]},
        'spec.accelerators[0].relativeThroughput must be text, not 0.5; write it in quotes: "0.5"',
    ),
    "a word that is not known": ({"imagePullPolicy": "Allways"}, 'is "Allways"; did you mean Always?'),
    "nothing that it needs": ({"resourcesPerNode": {}}, "spec.resourcesPerNode has 0 entries; at least 1 is needed"),
    "a least size above the preferred one": (
        {"numNodes": 2, "elastic": {"minNodes": 3, "maxNodes": 4}},
        "spec.elastic.minNodes is above spec.numNodes, the preferred size; lower minNodes or raise numNodes",
    ),
    "a list of sizes without the preferred one": (
        {"numNodes": 2, "elastic": {"allowedNodes": [1, 4]}},
        "spec.elastic.allowedNodes must contain spec.numNodes",
    ),
    "a required field": ({"image": None}, "spec.image is missing; Container image of every pod"),
}


def submitted(tmp_path: pathlib.Path, **spec: Any) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(a_job("new").spec(**spec).body()))
    return str(path)


@pytest.mark.parametrize("case", WRONG)
def test_a_saved_snapshot_says_nothing_of_what_the_schema_refuses(run: Run, tmp_path: pathlib.Path, case: str) -> None:
    spec, want = WRONG[case]
    (tmp_path / "day.json").write_text(observed.a_document())
    result = run("what-if", "submit", submitted(tmp_path, **spec), "--snapshot", str(tmp_path / "day.json"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert want in result.stderr
    assert "the API server would refuse new" in result.stderr


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_the_api_server_takes_has_no_fault(path: pathlib.Path) -> None:
    body = yaml.safe_load(path.read_text())
    if body["kind"] == "TrainingJob":
        assert list(checking.faults(body)) == []


def test_a_time_without_quotes_is_text_as_in_kubectl(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "day.json").write_text(observed.a_document())
    path = pathlib.Path(submitted(tmp_path, deadline="DEADLINE"))
    path.write_text(path.read_text().replace("DEADLINE", "2037-01-10T08:00:00Z"))
    result = run("what-if", "submit", str(path), "--snapshot", str(tmp_path / "day.json"))
    assert (result.exit_code in (0, 1), result.stderr) == (True, "")


# A value without quotes → what kubectl 1.32 sends for it (it refuses infinity).
SENT: dict[str, object] = {
    "12:30:00": "12:30:00",
    "1:30": "1:30",
    "190:20:30.15": "190:20:30.15",
    "1e3": 1000,
    "-1E+3": -1000,
    "1e-3": 0.001,
    "1.": 1,
    "-.5": -0.5,
    "1_000.5": 1000.5,
    "089": 89,
    "-014": -12,
    "0o14": 12,
    "0X1_f": 31,
    "-0b11": -3,
    "0": 0,
    "12e4567": "12e4567",
    ".inf": math.inf,
    "0x_": "0x_",
    "1.2.3": "1.2.3",
    "=": "=",
    "yes": True,
    "off": False,
}


@pytest.mark.parametrize("written", SENT)
def test_a_value_without_quotes_is_read_as_by_kubectl(tmp_path: pathlib.Path, written: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"kind: TrainingJob\nmetadata: {{name: a}}\nspec: {{x: {written}}}\n")
    (manifest,) = manifests.read(str(path))
    found = manifest.body["spec"]["x"]
    assert (type(found), found) == (type(SENT[written]), SENT[written])


def test_what_is_called_a_number_and_is_none_is_said(run: Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("kind: TrainingJob\nmetadata: {name: a}\nspec: {numNodes: !!int two}\n")
    result = run("what-if", "submit", str(path))
    assert (result.exit_code, "is no YAML: invalid literal for int()" in result.stderr) == (2, True)


# What the API server answers → what must be said.
REFUSED: dict[str, tuple[tuple[int, str, str], str]] = {
    "a field that it does not know": (
        (400, "BadRequest", 'strict decoding error: unknown field "spec.qeue"'),
        'unknown field "spec.qeue"\n  spec.qeue is no field; did you mean queue?',
    ),
    "a rule": (
        (422, "Invalid", "spec.image contains white space; write REGISTRY/NAME:TAG without blanks"),
        "would refuse new: spec.image contains white space",
    ),
    "what the schema says too, once": (
        (422, "Invalid", "spec.qeue is no field; did you mean queue?"),
        "would refuse new: spec.qeue is no field; did you mean queue?\n  correct the manifest; nothing was planned",
    ),
    "a policy": ((403, "Forbidden", "ValidatingAdmissionPolicy 'p' denied request: no"), "denied request: no"),
    "a namespace that is not there": ((404, "NotFound", 'namespaces "team" not found'), "create namespace team"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_api_server_is_asked_where_there_is_one(
    run: Run, cluster: State, tmp_path: pathlib.Path, case: str
) -> None:
    cluster.refuses, want = REFUSED[case]
    result = run("what-if", "submit", submitted(tmp_path, qeue="x"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert want in result.stderr


ACCEPTED: dict[str, tuple[int, str, str] | None] = {
    "a new one": None,
    "one that is there already": (409, "AlreadyExists", 'trainingjobs.stowplan.dev "new" already exists'),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_api_server_takes_goes_on_to_the_operator(
    run: Run, cluster: State, tmp_path: pathlib.Path, case: str
) -> None:
    cluster.refuses = ACCEPTED[case]
    result = run("what-if", "submit", submitted(tmp_path))
    assert (result.exit_code, "no operator runs" in result.stderr) == (3, True)


def test_who_may_not_create_jobs_is_told_so_and_the_schema_is_applied(
    run: Run, cluster: State, tmp_path: pathlib.Path
) -> None:
    cluster.forbidden = {"create trainingjobs"}
    right = run("what-if", "submit", submitted(tmp_path))
    said = "You may not create TrainingJobs in namespace team, so the API server was not asked whether it takes new"
    assert said in right.stderr
    assert "no operator runs" in right.stderr
    assert "spec.qeue is no field" in run("what-if", "submit", submitted(tmp_path, qeue="x")).stderr
