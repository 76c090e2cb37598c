"""The chart's values: what helm lint says, what the schema refuses, and that every value is explained."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

import apiserver
from stowplan_allocator import types

CHART = apiserver.ROOT / "charts" / "stowplan"
Values = dict[str, Any]


def test_helm_lint(helm: Any) -> None:
    done = helm.run("lint", str(CHART), "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[ERROR]" not in done.stdout
    assert "[WARNING]" not in done.stdout


REFUSED: dict[str, tuple[Values, str]] = {
    "a value that does not exist": ({"replica": 2}, "replica"),
    "a nested value that does not exist": ({"settings": {"planner": {"limit": 1}}}, "limit"),
    "three replicas": ({"replicas": 3}, "replicas"),
    "text for a number": ({"replicas": "1"}, "replicas"),
    "a namespace that is no name": ({"watchNamespaces": ["Team A"]}, "watchNamespaces"),
    "a namespace listed twice": ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
    "a tag that YAML read as a number": ({"image": {"tag": 1.4}}, "tag"),
    "a pull policy that does not exist": ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    "a priority of the system": ({"priorityClass": {"value": 2000000000}}, "value"),
    "a class of the system": ({"priorityClass": {"name": "system-gang"}}, "name"),
    "labels of training pods": ({"podLabels": {"stowplan.dev/job": "x"}}, "podLabels"),
    "labels of the selector": ({"podLabels": {"app.kubernetes.io/name": "x"}}, "podLabels"),
    "a topology level without a label": ({"settings": {"topologyLevels": [{"name": "rack"}]}}, "label"),
    "the level node": ({"settings": {"topologyLevels": [{"name": "node", "label": "a"}]}}, "name"),
    "a Prometheus without http": ({"settings": {"prometheus": {"url": "prometheus:9090"}}}, "url"),
    "a seed that is no whole number": ({"settings": {"planner": {"seed": 0.5}}}, "seed"),
    "a gap that is no share": ({"settings": {"planner": {"gapTolerance": 1}}}, "gapTolerance"),
    "a negative time": ({"settings": {"planner": {"lateTiersSeconds": -1}}}, "lateTiersSeconds"),
    "a strategy that does not exist": ({"settings": {"planner": {"strategy": "best"}}}, "strategy"),
    "a way to read progress that does not exist": ({"settings": {"progress": {"via": "log"}}}, "via"),
    "no time to solve": ({"settings": {"planner": {"timeLimitSeconds": 0}}}, "timeLimitSeconds"),
    "a Lease of a second": ({"settings": {"lease": {"durationSeconds": 1}}}, "durationSeconds"),
    "an XID action that does not exist": ({"settings": {"health": {"xidActions": {"79": "Ignore"}}}}, "xidActions"),
    "an interval without a unit": ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "interval"),
    "an annotation without a prefix": (
        {"admissionPolicy": {"podAnnotations": ["note"]}},
        "podAnn",
    ),
    "places taken by another order than jobs stand in": (
        {"settings": {"preemption": {"policy": "LeastAttained"}}},
        "order",
    ),
    "a prefix with capitals": ({"admissionPolicy": {"imagePullSecretPrefix": "A"}}, "imagePullSecretPrefix"),
}


@pytest.mark.parametrize(("values", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_schema_refuses_and_names_the_value(helm: Any, values: Values, field: str) -> None:
    done = helm.template(values)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert field in done.stderr


def test_places_may_be_taken_by_the_order_that_jobs_stand_in(helm: Any) -> None:
    values = {"settings": {"preemption": {"policy": "LeastAttained"}, "planner": {"order": "least-attained"}}}
    done = helm.template(values)
    assert done.returncode == 0, done.stderr


def test_a_part_of_the_time_that_is_more_than_the_whole_is_refused_with_the_fix(helm: Any) -> None:
    done = helm.template({"settings": {"planner": {"lateTiersSeconds": 20}}})
    assert done.returncode != 0
    assert "lateTiersSeconds 20 is a part of settings.planner.timeLimitSeconds 10: lower it, or raise" in done.stderr


def test_every_value_is_in_the_schema_and_none_else() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert _paths(values) == _schema_paths(schema) - {"global"}


def test_every_strategy_may_be_chosen_and_is_named_beside_the_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    listed = schema["properties"]["settings"]["properties"]["planner"]["properties"]["strategy"]["enum"]
    assert sorted(listed) == sorted(types.Strategy)
    values = (CHART / "values.yaml").read_text()
    [comment] = [line for line in values.splitlines() if "docs/allocator.md says how they differ" in line]
    assert not [strategy for strategy in types.Strategy if strategy.value not in comment]


def test_every_object_of_the_schema_is_closed() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert _open_objects(schema, "") == []


def _paths(value: Any, path: str = "") -> set[str]:
    free = (
        "labels",
        "annotations",
        "podLabels",
        "podAnnotations",
        "resources",
        "affinity",
        "nodeSelector",
        "xidActions",
    )
    if not isinstance(value, dict) or path.rpartition(".")[2] in free:
        return {path}
    return {found for name, child in value.items() for found in _paths(child, f"{path}.{name}" if path else name)}


def _schema_paths(schema: dict[str, Any], path: str = "") -> set[str]:
    if "properties" not in schema:
        return {path}
    return {
        found
        for name, child in schema["properties"].items()
        for found in _schema_paths(child, f"{path}.{name}" if path else name)
    }


def _open_objects(schema: dict[str, Any], path: str) -> list[str]:
    found = [path] if "properties" in schema and schema.get("additionalProperties") is not False else []
    for name, child in schema.get("properties", {}).items():
        found += _open_objects(child, f"{path}.{name}")
    return found + (_open_objects(schema["items"], f"{path}[]") if "items" in schema else [])
