"""The CRDs as documents: complete, bounded, small, frozen, and copied; their rules run in tests/apiserver."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest

import crd_schema
from stowplan_operator import api

ROOT = crd_schema.ROOT
SURFACE = pathlib.Path(__file__).with_name("surface.txt")
# Every field by its kind and path.
ALL_FIELDS = {(plural, path): schema for plural in crd_schema.FILES for path, schema in crd_schema.walk(plural)}
FIELDS = {path: schema for (plural, path), schema in ALL_FIELDS.items() if plural == crd_schema.JOBS}
SPEC_FIELDS = {path: schema for path, schema in FIELDS.items() if path.startswith("spec.")}
MAX_BYTES = 96 * 1024  # the API server would take 256 KiB in an annotation; later issues add fields
each_crd = pytest.mark.parametrize("plural", crd_schema.FILES)


@each_crd
def test_document_leaves_room_in_the_annotation_of_kubectl_apply(plural: str) -> None:
    assert len(json.dumps(crd_schema.load(plural))) < MAX_BYTES
    assert len(crd_schema.FILES[plural].read_bytes()) < MAX_BYTES


@pytest.mark.parametrize(
    ("plural", "kind", "short", "scope"),
    [(api.PLURAL, api.KIND, "tj", "Namespaced"), (api.QUEUES, api.QUEUE_KIND, "q", "Cluster")],
)
def test_names(plural: str, kind: str, short: str, scope: str) -> None:
    spec = crd_schema.load(plural)["spec"]
    assert (spec["group"], spec["versions"][0]["name"], spec["scope"]) == (api.GROUP, api.VERSION, scope)
    assert (spec["names"]["plural"], spec["names"]["kind"]) == (plural, kind)
    assert spec["names"]["shortNames"] == [short]
    assert spec["names"]["categories"] == ["stowplan"]
    assert crd_schema.load(plural)["metadata"]["name"] == f"{plural}.{api.GROUP}"


def test_surface_is_frozen() -> None:
    """A field that appears, goes or changes its type is a decision: write it down in surface.txt with the change."""
    assert _surface() == SURFACE.read_text().splitlines(), (
        "wanted? then: python tests/unit/crd/test_crd.py > tests/unit/crd/surface.txt"
    )


def _surface() -> list[str]:
    """A line for each field; those of other kinds than TrainingJob begin with the kind."""
    return [
        f"{'' if plural == crd_schema.JOBS else f'{plural} '}{path}: {_type(schema)}"
        for (plural, path), schema in sorted(ALL_FIELDS.items(), key=lambda item: item[0][0] != crd_schema.JOBS)
        if path
    ]


def test_every_field_is_described() -> None:
    silent = [
        f"{plural}: {path}"
        for (plural, path), schema in ALL_FIELDS.items()
        if not schema.get("description") and not path.endswith(("[]", "{}")) and path != "metadata"
    ]
    assert silent == []


def test_everything_a_user_writes_is_bounded() -> None:
    """Without bounds the API server refuses rules, today's or a later one's, for what they might cost."""
    unbounded = [
        f"{plural}: {path}"
        for (plural, path), schema in ALL_FIELDS.items()
        if path.startswith("spec.")
        if (schema.get("type") == "array" and "maxItems" not in schema)
        or ("additionalProperties" in schema and "maxProperties" not in schema)
        or (schema.get("type") == "string" and "maxLength" not in schema and "enum" not in schema)
        or (
            schema.get("type") == "integer"
            and "maximum" not in schema
            and path != "spec.tolerations[].tolerationSeconds"
        )
    ]
    assert unbounded == []


def _rules(plural: str = crd_schema.JOBS) -> list[tuple[str, dict[str, str]]]:
    fields = crd_schema.walk(plural)
    return [(path, rule) for path, schema in fields for rule in schema.get("x-kubernetes-validations", ())]


ALL_RULES = {
    f"{plural} {path or 'root'} {n}": rule
    for plural in crd_schema.FILES
    for n, (path, rule) in enumerate(_rules(plural))
}


@pytest.mark.parametrize("rule", ALL_RULES.values(), ids=ALL_RULES)
def test_message_of_each_rule_begins_with_the_field_and_says_what_to_do(rule: dict[str, str]) -> None:
    assert re.match(r"(spec\.\w|metadata\.name)", rule["message"])
    remedies = r"\b(write|use|remove|choose|keep|see|set|add|change|raise|rename|give|name|must be|lower)\b"
    assert re.search(remedies, rule["message"]), rule["message"]
    assert "\n" not in rule["message"].strip()


def test_each_field_that_becomes_pods_has_a_rule_that_fixes_it() -> None:
    fixed = {rule["fieldPath"] for path, rule in _rules() if not path and "fieldPath" in rule}
    said = {
        f".{path}"
        for path, schema in SPEC_FIELDS.items()
        if path.count(".") == 1 and schema.get("description", "").endswith("Fixed while placed.")
    }
    assert fixed == said


def test_model_and_schema_name_the_same_spec_fields() -> None:
    model = {field.alias for field in api.TrainingJobSpec.model_fields.values()}
    assert model == set(FIELDS["spec"]["properties"])


def test_model_and_schema_have_the_same_defaults() -> None:
    model = api.TrainingJobSpec(image="x")
    schema = FIELDS["spec"]["properties"]
    filled = model.model_dump(
        by_alias=True, include={"num_nodes", "num_proc_per_node", "suspend", "startup_timeout_seconds"}
    )
    assert filled == {name: schema[name]["default"] for name in filled}
    policy = model.failure_policy.model_dump(by_alias=True)
    assert policy == {name: one["default"] for name, one in schema["failurePolicy"]["properties"].items()}
    checkpoint = api.Checkpoint().model_dump(by_alias=True, exclude={"persistent_volume_claim"})
    assert checkpoint == {name: schema["checkpoint"]["properties"][name]["default"] for name in checkpoint}


def test_phases_are_those_of_the_operator() -> None:
    assert FIELDS["status.phase"]["enum"] == [phase.value for phase in api.Phase]


def test_scale_is_for_budgets_and_not_for_autoscalers() -> None:
    scale = crd_schema.load(crd_schema.JOBS)["spec"]["versions"][0]["subresources"]["scale"]
    assert {key: FIELDS[path.removeprefix(".")]["type"] for key, path in scale.items()} == {
        "specReplicasPath": "integer",
        "statusReplicasPath": "integer",
    }


@each_crd
def test_columns_never_take_a_condition_by_its_place(plural: str) -> None:
    columns = crd_schema.load(plural)["spec"]["versions"][0]["additionalPrinterColumns"]
    from_conditions = [one["jsonPath"] for one in columns if "conditions" in one["jsonPath"]]
    assert from_conditions
    assert all(re.fullmatch(r"\.status\.conditions\[\?\(@\.type==\"\w+\"\)\]\.\w+", path) for path in from_conditions)


@pytest.mark.parametrize("script", ["crd_copy.py", "api_doc.py"])
def test_what_is_generated_from_the_crds_is_current(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "hack" / script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_unknown_fields_are_found_wherever_they_stand() -> None:
    job = {
        "metadata": {"name": "a", "anything": 1},
        "spec": {"image": "i", "replicas": 2, "env": [{"name": "A", "value": "b"}, {"name": "B", "secret": "c"}]},
        "status": {"placement": {"nodes": [{"name": "n", "gpus": 1}]}, "decision": {"numbers": {"free": "1"}}},
    }
    assert crd_schema.unknown_fields(job) == ["spec.replicas", "spec.env[1].secret", "status.placement.nodes[0].gpus"]
    assert crd_schema.unknown_fields(crd_schema.prune(job)) == []
    assert crd_schema.prune(job)["metadata"] == job["metadata"]


def _type(schema: crd_schema.Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    words = [schema["type"]]
    if "enum" in schema:
        words.append("|".join(schema["enum"]))
    if "default" in schema:
        words.append(f"default {json.dumps(schema['default'])}")
    return " ".join(words)


if __name__ == "__main__":
    print("\n".join(_surface()))
