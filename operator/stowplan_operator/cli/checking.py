"""Whether the API server would take the manifests of ``what-if submit``: an answer about any other is none.

Where a cluster is there, it is asked itself, with a request that touches nothing (dryRun) and lets no unknown field
pass. Else the schema of the CRD is applied here: fields, types, ranges, and how elastic sizes go together; its other
rules are in a language that only the API server speaks. What must stay true: a manifest that the API server takes
passes here.
"""

from __future__ import annotations

import difflib
import functools
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from stowplan_operator import api, wording
from stowplan_operator.cli import commands, refusals
from stowplan_operator.cli.client import Cluster
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.manifests import Manifest
from stowplan_operator.cli.model import clean

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# In the distribution, and in its sources.
_CRDS = (_PACKAGE / "crds", _PACKAGE.parents[1] / "crds")
_MAY_NOT = "cannot create resource"

type _Schema = Mapping[str, Any]


async def by_cluster(manifests: Sequence[Manifest], cluster: Cluster) -> None:
    """Ask the API server about each; CliError with its words. Without the right to create jobs, as ``by_schema``."""
    for manifest in manifests:
        namespace = manifest.namespace(cluster.namespace)
        try:
            await cluster.try_job(namespace, manifest.body)
        except refusals.ForbiddenError as error:
            if _MAY_NOT not in error.message:  # a quota or a policy of the namespace refuses this job
                raise _refused(manifest, error.message) from None
            commands.remark(
                f"You may not create TrainingJobs in namespace {namespace}, so the API server was not asked whether it "
                f"takes {manifest.name}: only its fields, types and ranges were checked."
            )
            by_schema([manifest])
        except refusals.NotFoundError as error:
            raise _refused(manifest, error.message, hint=f"create namespace {namespace}, or name another") from None
        except CliError as error:
            if error.code is not Exit.USAGE:
                raise
            more = (fault for fault in faults(manifest.body) if fault not in error.message)
            raise _refused(manifest, error.message, hint="\n  ".join(more)) from None


def by_schema(manifests: Sequence[Manifest]) -> None:
    """CliError names every field of the first manifest that the CRD refuses, with cause and fix."""
    for manifest in manifests:
        if found := list(faults(manifest.body)):
            raise _refused(manifest, "\n  ".join(found))


def _refused(manifest: Manifest, why: str, *, hint: str = "") -> CliError:
    return CliError(
        f"{manifest.file}: the API server would refuse {clean(manifest.name)}: {clean(why)}",
        code=Exit.USAGE,
        hint=clean(hint) or "correct the manifest; nothing was planned",
    )


def faults(body: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a manifest as far as the schema tells, a sentence each."""
    version = body.get("apiVersion")
    if version != api.API_VERSION:
        yield f"apiVersion is {_shown(version)}; write {api.API_VERSION}"
    root = _schema()
    found = list(_faults({key: value for key, value in body.items() if key != "metadata"}, root, ""))
    yield from found
    if not found:
        yield from _elastic_faults(body["spec"], root["properties"]["spec"])


@functools.cache
def _schema() -> _Schema:
    """The schema of a TrainingJob."""
    path = next(one for folder in _CRDS if (one := folder / f"{api.PLURAL}.yaml").exists())
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    versions = yaml.load(path.read_text(), Loader=loader)["spec"]["versions"]  # noqa: S506 - both are safe
    found: _Schema = next(one for one in versions if one["name"] == api.VERSION)["schema"]["openAPIV3Schema"]
    return found


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
}


def _faults(value: Any, schema: _Schema, path: str) -> Iterator[str]:
    """``value`` at ``path`` against its schema. null counts as left out, as the API server drops it."""
    kind = schema.get("type", "")
    if schema.get("x-kubernetes-int-or-string"):
        if not _TYPES["string"](value) and not _TYPES["integer"](value):
            yield f"{path} must be a whole number or text, not {_shown(value)}"
            return
    elif kind in _TYPES and not _TYPES[kind](value):
        yield f"{path} must be {_an(kind)}, not {_shown(value)}" + _quotes(value, kind)
        return
    if (allowed := schema.get("enum")) and value not in allowed:
        yield f"{path} is {_shown(value)}; {_near(value, allowed, most=len(allowed))}"
    if isinstance(value, str):
        yield from _text_faults(value, schema, path)
    elif isinstance(value, Mapping):
        yield from _object_faults(value, schema, path)
    elif isinstance(value, list):
        yield from _bounds(len(value), schema, ("minItems", "maxItems"), f"{path} has {{}} entries")
        for index, one in enumerate(value):
            yield from _faults(one, schema.get("items", {}), f"{path}[{index}]")
    else:
        yield from _bounds(value, schema, ("minimum", "maximum"), f"{path} is {{}}")


def _text_faults(value: str, schema: _Schema, path: str) -> Iterator[str]:
    yield from _bounds(len(value), schema, ("minLength", "maxLength"), f"{path} has {{}} characters")
    if (pattern := schema.get("pattern")) and not re.search(pattern, value):
        yield f"{path} is {_shown(value)}; it must match {pattern}"


def _object_faults(value: Mapping[Any, Any], schema: _Schema, path: str) -> Iterator[str]:
    properties: Mapping[str, _Schema] = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    below = f"{path}." if path else ""
    yield from _bounds(len(value), schema, ("minProperties", "maxProperties"), f"{path} has {{}} entries")
    for name in schema.get("required", ()):
        if value.get(name) is None:
            yield f"{below}{name} is missing; {_sentence(properties[name])}"
    for name, one in value.items():
        if name in properties:
            if one is not None:
                yield from _faults(one, properties[name], f"{below}{name}")
        elif isinstance(rest, Mapping):
            yield from _faults(one, rest, f"{below}{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{below}{name} is no field; {_near(name, list(properties))}"


def _bounds(value: Any, schema: _Schema, names: tuple[str, str], said: str) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    least, most = (schema.get(name) for name in names)
    if least is not None and value < least:
        yield f"{said.format(value)}; at least {least} is needed"
    if most is not None and value > most:
        yield f"{said.format(value)}; at most {most} is allowed"


def _elastic_faults(spec: Mapping[str, Any], schema: _Schema) -> Iterator[str]:
    """The rules about the sizes of elastic jobs, with the CRD's own words."""
    elastic, size = spec.get("elastic") or {}, spec.get("numNodes") or 1
    least, most, allowed = (elastic.get(name) for name in ("minNodes", "maxNodes", "allowedNodes"))
    broken = {
        ".elastic.minNodes": least is not None and least > size,
        ".elastic.maxNodes": most is not None and most < size,
        ".elastic.allowedNodes": allowed is not None and size not in allowed,
    }
    rules = schema["x-kubernetes-validations"]
    for path in (path for path, is_broken in broken.items() if is_broken):
        yield str(next(rule["message"] for rule in rules if rule.get("fieldPath") == path))


def _an(kind: str) -> str:
    return {"integer": "a whole number", "string": "text", "boolean": "true or false", "array": "a list"}.get(
        kind, "a mapping"
    )


def _quotes(value: Any, kind: str) -> str:
    return f'; write it in quotes: "{value}"' if kind == "string" and isinstance(value, int | float) else ""


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _near(name: Any, known: Sequence[Any], *, most: int = 8) -> str:
    names = [str(one) for one in known]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known are: {wording.some(names, most=most)}"


def _sentence(schema: _Schema) -> str:
    """What a field is for: the first sentence of its description."""
    return str(schema.get("description", "")).split(". ")[0].rstrip(".")
