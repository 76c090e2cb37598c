"""A snapshot as a JSON document: what the operator saw, kept for a question, a replay or a report of a fault.

``write`` and ``read`` are each other's inverse for every snapshot, field by field. A document says which
``schema`` it has. What must stay true: a document that says more than this version knows is refused and never
half-read; a field that was added after it was written takes its default. A form that could be misread needs
a new number in ``SCHEMA``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stowplan_allocator import codec, inputs, types

SCHEMA = "stowplan-snapshot/1"


def to_document(snapshot: types.Snapshot) -> dict[str, Any]:
    """The snapshot as plain JSON values: ``schema``, then the fields of ``types.Snapshot`` by their names."""
    return {"schema": SCHEMA, **codec.encode(snapshot)}


def from_document(document: object, *, where: str = "") -> types.Snapshot:
    """The snapshot that a document holds; ``InputError`` with every fault and its field's path."""
    if not isinstance(document, Mapping):
        raise inputs.InputError([inputs.Fault(where, "this is no snapshot", "give a JSON object")])
    schema = document.get("schema")
    if schema != SCHEMA:
        cause = f"the schema is {inputs.quoted(schema)}" if schema else "the document names no schema"
        fault = inputs.Fault(where, cause, f'this version reads "schema": "{SCHEMA}"')
        raise inputs.InputError([fault])
    faults: list[inputs.Fault] = []
    fields = {name: value for name, value in document.items() if name != "schema"}
    snapshot = codec.decode(types.Snapshot, fields, faults=faults)
    if snapshot is None:
        raise inputs.InputError(_placed(fault, where) for fault in faults)
    return snapshot


def write(snapshot: types.Snapshot) -> str:
    """The document as text. Equal snapshots give the same text, byte for byte."""
    return json.dumps(to_document(snapshot), ensure_ascii=False, indent=1) + "\n"


def read(text: str, *, where: str = "") -> types.Snapshot:
    """The snapshot that a text holds; ``InputError`` with every fault."""
    return from_document(parse_json(text, where=where), where=where)


def parse_json(text: str, *, where: str) -> Any:
    """A JSON value, strictly: no repeated key, no NaN; ``InputError`` with line and column."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise inputs.InputError([inputs.Fault(where, f'the field "{twice}" stands twice', "keep one of them")])
        return found

    def no_constant(name: str) -> Any:
        raise inputs.InputError([inputs.Fault(where, f"{name} is no JSON number", "write a finite number")])

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        place = f"{where}, line {error.lineno}, column {error.colno}" if where else f"line {error.lineno}"
        raise inputs.InputError([inputs.Fault(place, f"this is no JSON: {error.msg}", "correct it there")]) from None
    except inputs.InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise inputs.InputError([inputs.Fault(where, f"this cannot be read: {error}", "give a JSON object")]) from None


def _placed(fault: inputs.Fault, where: str) -> inputs.Fault:
    return inputs.Fault(f"{where}: {fault.where}" if where else fault.where, fault.cause, fault.fix)
