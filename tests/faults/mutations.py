"""Thousands of TrainingJobs that differ from a right one in one field: generated from the CRD's schema, none by hand.

After Acto (SOSP'23): a controller must meet every value that its own schema can name. For each field: values of other
types, the ends of every range and one beyond, empty, long and odd strings, unknown members of enumerations, lists and
maps that are empty, doubled or too long, and the field left out.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import crd_schema

Json = dict[str, Any]
_OTHER_TYPES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31 - 1,
    2**31,
    2**63 - 1,
    1.5,
    "",
    "x",
    [],
    {},
    ["x"],
    {"x": "y"},
)
_ODD_STRINGS = ("", " ", "a" * 64, "a" * 254, "é", "a/b", "../x", "$(HOME)", "{{ .x }}", "-", "0", "A.b_c", "1e9", "\n")
_QUANTITIES = ("0", "-1", "1m", "0.5", "1Gi", "1e3", "9223372036854775807", "1k", "1 Gi", "Gi", "10000001", "1e30")
_DECIMALS = ("0", "1", "0.001", "1.0001", "-0.5", "1e3", "nan", "inf", "99999", ".5")


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """One changed field of a base object; ``what`` names the field and its value."""

    what: str
    object: Json


def mutations(base: Json) -> Iterator[Mutation]:
    """Every mutation of the base object's spec."""
    schema = crd_schema.root_schema()["properties"]["spec"]
    yield from _below(base, path=("spec",), schema=schema)


def _below(base: Json, *, path: tuple[str | int, ...], schema: Json) -> Iterator[Mutation]:
    there, value = _read(base, path)
    if path != ("spec",):
        seen = set()
        for new in _values(schema, value if there else None):
            if repr(new) not in seen:
                seen.add(repr(new))
                yield Mutation(f"{_name(path)} = {_short(new)}", _with(base, path, new))
        if there:
            yield Mutation(f"{_name(path)} left out", _without(base, path))
    for name, child in schema.get("properties", {}).items():
        yield from _below(base, path=(*path, name), schema=child)
    if "items" in schema and isinstance(value, list) and value:
        yield from _below(base, path=(*path, 0), schema=schema["items"])
    rest = schema.get("additionalProperties")
    if isinstance(rest, dict) and isinstance(value, dict):
        for key in (*value, "odd key!", "nvidia.com/gpu", "a" * 64):
            yield from _below(base, path=(*path, key), schema=rest)


def _values(schema: Json, value: Any) -> Iterator[Any]:
    yield from _OTHER_TYPES
    for bound in ("minimum", "maximum"):
        if bound in schema:
            yield from (schema[bound] - 1, schema[bound], schema[bound] + 1)
    if "enum" in schema:
        yield from schema["enum"]
        yield "NoSuchMember"
    if schema.get("type") == "string" or schema.get("x-kubernetes-int-or-string"):
        yield from (*_ODD_STRINGS, *_QUANTITIES, *_DECIMALS)
        if "maxLength" in schema:
            yield "a" * schema["maxLength"]
            yield "a" * (schema["maxLength"] + 1)
    if isinstance(value, list) and value:
        yield from ([*value, *value], value[:-1], value[::-1], [copy.deepcopy(value[0]) for _ in range(300)])
    if isinstance(value, dict) and value:
        yield {**value, "unknown": "field"}
    if isinstance(value, str):
        yield from (value + "x", value.upper(), value[:1])
    if isinstance(value, int) and not isinstance(value, bool):
        yield from (value + 1, value - 1, value * 1000, str(value))


def _read(base: Any, path: tuple[str | int, ...]) -> tuple[bool, Any]:
    for step in path:
        try:
            base = base[step]
        except (KeyError, IndexError, TypeError):
            return False, None
    return True, base


def _with(base: Json, path: tuple[str | int, ...], value: Any) -> Json:
    changed = copy.deepcopy(base)
    at: Any = changed
    for step in path[:-1]:
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    at[path[-1]] = copy.deepcopy(value)
    return changed


def _without(base: Json, path: tuple[str | int, ...]) -> Json:
    changed = copy.deepcopy(base)
    at: Any = changed
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return changed


def _name(path: tuple[str | int, ...]) -> str:
    return ".".join(str(step) for step in path)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"
