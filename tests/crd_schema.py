"""The CRDs' schemas as the API server would use them on fields: which they know, which they prune, which they fill.

For tests against a fake API: an object that went through `prune` holds what a real server would have kept, so that a
field that the operator writes but the CRD lacks fails a test instead of vanishing in a cluster.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
JOBS, QUEUES = "trainingjobs", "queues"
# Each CRD by its plural name.
FILES = {path.stem: path for path in sorted((ROOT / "crds").glob("*.yaml"))}
Schema = dict[str, Any]


@functools.cache
def load(plural: str = JOBS) -> Schema:
    """The CRD as a document."""
    document: Schema = yaml.safe_load(FILES[plural].read_text())
    return document


def root_schema(plural: str = JOBS) -> Schema:
    """The schema of an object of the stored version."""
    (version,) = (one for one in load(plural)["spec"]["versions"] if one["storage"])
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def walk(plural: str = JOBS) -> Iterator[tuple[str, Schema]]:
    """(path, schema) of every field; `[]` are items of a list, `{}` values of a map."""
    return _walk(root_schema(plural), "")


def _walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _walk(child, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _walk(schema["additionalProperties"], f"{path}{{}}")


def unknown_fields(value: Any, schema: Schema | None = None, path: str = "") -> list[str]:
    """Paths of fields that the API server would drop without a word (metadata is not judged)."""
    schema = root_schema() if schema is None else schema
    if isinstance(value, list):
        items = schema.get("items", {})
        return [found for at, one in enumerate(value) for found in unknown_fields(one, items, f"{path}[{at}]")]
    if not isinstance(value, dict) or schema.get("x-kubernetes-int-or-string"):
        return []
    if path == "metadata":
        return []
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
    found = []
    for name, child in value.items():
        below = f"{path}.{name}" if path else name
        if name in properties:
            found += unknown_fields(child, properties[name], below)
        elif isinstance(rest, dict):
            found += unknown_fields(child, rest, below)
        else:
            found.append(below)
    return found


def prune(value: Any, schema: Schema | None = None, *, is_root: bool = True) -> Any:
    """The value as the API server would store it: without unknown fields."""
    schema = root_schema() if schema is None else schema
    if isinstance(value, list):
        return [prune(one, schema.get("items", {}), is_root=False) for one in value]
    if not isinstance(value, dict):
        return value
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
    kept = {}
    for name, child in value.items():
        if is_root and name == "metadata":
            kept[name] = child
        elif name in properties:
            kept[name] = prune(child, properties[name], is_root=False)
        elif isinstance(rest, dict):
            kept[name] = prune(child, rest, is_root=False)
    return kept
