"""Files of YAML and JSON as plain values, strictly: no key twice, nothing that only looks like text.

What must stay true: whatever is wrong with a file becomes a fault with file, line and column, never a traceback.
"""

from __future__ import annotations

import pathlib
from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from stowplan_allocator import inputs, snapshots

_MAX_BYTES = 1 << 30


def text_of(path: pathlib.Path, *, faults: list[inputs.Fault]) -> str | None:
    """The file's text; None after saying why there is none."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            faults.append(inputs.Fault(str(path), "it is larger than 1 GiB", "give a part of it"))
            return None
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        faults.append(inputs.Fault(str(path), f"byte {error.start} is no UTF-8", "save the file as UTF-8"))
    except FileNotFoundError:
        faults.append(inputs.Fault(str(path), "there is no such file", "check its name"))
    except OSError as error:
        faults.append(inputs.Fault(str(path), f"it cannot be read: {error.strerror}", "give a file that can be read"))
    return None


def parse(text: str, *, where: str, faults: list[inputs.Fault]) -> Iterator[tuple[str, Any]]:
    """Every document of the text with its place; empty ones are passed over."""
    try:
        if text.lstrip().startswith("{"):
            yield where, snapshots.parse_json(text, where=where)
            return
        documents = list(yaml.load_all(text, _Loader))
    except inputs.InputError as error:
        faults += error.faults
        return
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        faults.append(inputs.Fault(place, f"this is no YAML: {error.problem or error.context}", "correct it there"))
        return
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        faults.append(inputs.Fault(where, f"this is no YAML: {error}", "correct it"))
        return
    found = [(index, document) for index, document in enumerate(documents) if document is not None]
    if not found:
        faults.append(inputs.Fault(where, "the file is empty", "write nodes and jobs into it"))
    for index, document in found:
        yield f"{where}, document {index + 1}" if len(documents) > 1 else where, document


class _Loader(yaml.CSafeLoader):
    """Refuses a key that stands twice, of which YAML would silently keep the last, and one that is no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a name must be text: quote it", key.start_mark)
            if key.value in seen:
                problem = f'the key "{key.value}" stands twice'
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)
