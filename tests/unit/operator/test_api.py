"""The Python models of the specs against the CRDs: same fields, same defaults, same words."""

from __future__ import annotations

import pathlib
from typing import Any, get_args

import pydantic
import pytest
import yaml

import crd_schema
from fakes.builders import a_job
from stowplan_operator import api

MANIFESTS = pathlib.Path(__file__).resolve().parents[2] / "manifests" / "valid"
SPEC = crd_schema.root_schema()["properties"]["spec"]
STATUS = crd_schema.root_schema()["properties"]["status"]


def models(model: type[pydantic.BaseModel], schema: dict[str, Any], path: str) -> list[tuple[str, Any, Any]]:
    """(path, model, schema) of a model and the models inside it."""
    found: list[tuple[str, Any, Any]] = [(path, model, schema)]
    for field in model.model_fields.values():
        below = schema["properties"][field.alias or ""]
        inner = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        for one in inner:
            if issubclass(one, pydantic.BaseModel):
                found += models(one, below.get("items", below), f"{path}.{field.alias}")
    return found


QUEUE_SPEC = crd_schema.root_schema(api.QUEUES)["properties"]["spec"]
MODELS = models(api.TrainingJobSpec, SPEC, "spec") + models(api.QueueSpec, QUEUE_SPEC, "queue spec")


@pytest.mark.parametrize(("path", "model", "schema"), MODELS, ids=[path for path, _, _ in MODELS])
def test_the_model_has_the_fields_of_the_crd(path: str, model: type[pydantic.BaseModel], schema: Any) -> None:
    assert {field.alias for field in model.model_fields.values()} == set(schema["properties"])


@pytest.mark.parametrize(("path", "model", "schema"), MODELS, ids=[path for path, _, _ in MODELS])
def test_the_model_has_the_defaults_of_the_crd(path: str, model: type[pydantic.BaseModel], schema: Any) -> None:
    for field in model.model_fields.values():
        below = schema["properties"][field.alias or ""]
        if "default" in below and not isinstance(below["default"], dict):
            assert field.default == below["default"], f"{path}.{field.alias}"


def test_the_model_requires_what_the_crd_requires() -> None:
    for path, model, schema in MODELS:
        needed = {field.alias for field in model.model_fields.values() if field.is_required()}
        assert needed <= set(schema.get("required", ())), path


def test_phases_are_those_of_the_crd() -> None:
    assert [phase.value for phase in api.Phase] == STATUS["properties"]["phase"]["enum"]
    assert {phase for phase in api.Phase if phase.is_terminal} == {api.Phase.SUCCEEDED, api.Phase.FAILED}


def test_names_are_those_of_the_crd() -> None:
    crd = crd_schema.load()["spec"]
    assert (crd["group"], crd["names"]["plural"], crd["names"]["kind"]) == (api.GROUP, api.PLURAL, api.KIND)
    assert [version["name"] for version in crd["versions"]] == [api.VERSION]


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_valid_manifest_can_be_read(path: pathlib.Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        if manifest["kind"] == api.QUEUE_KIND:
            assert api.parse_queue_spec(manifest["spec"]).parent == manifest["spec"].get("parent")
        else:
            assert api.parse_spec(manifest["spec"]).image == manifest["spec"]["image"]


def test_defaults_of_a_minimal_spec() -> None:
    spec = api.parse_spec({"image": "x"})
    assert (spec.num_nodes, spec.num_proc_per_node, spec.suspend) == (1, "auto", False)
    assert (spec.startup_timeout_seconds, spec.active_deadline_seconds, spec.ttl_seconds_after_finished) == (
        1800,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("fields", "want"),
    [({}, 30), ({"checkpoint": {}}, 60), ({"checkpoint": {"gracePeriodSeconds": 300}}, 300)],
)
def test_the_grace_of_a_planned_stop(fields: dict[str, Any], want: int) -> None:
    assert a_job().spec(**fields).parsed().grace_period_seconds == want


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({}, r"^spec\.image: Field required$"),
    "a word for a number": ({"image": "x", "numNodes": "many"}, r"^spec\.numNodes: "),
    "inside a list": ({"image": "x", "accelerators": [{"product": "a"}, {}]}, r"^spec\.accelerators\.1\.product: "),
    "inside an object": ({"image": "x", "checkpoint": {"gracePeriodSeconds": []}}, r"^spec\.checkpoint\.gracePeriod"),
    "none of the choices": ({"image": "x", "topology": {"level": "rack", "mode": "Maybe"}}, r"^spec\.topology\.mode: "),
}


@pytest.mark.parametrize(("raw", "want"), WRONG.values(), ids=WRONG)
def test_a_wrong_spec_names_its_field(raw: dict[str, Any], want: str) -> None:
    with pytest.raises(ValueError, match=want):
        api.parse_spec(raw)
