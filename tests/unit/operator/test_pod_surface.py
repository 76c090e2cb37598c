"""What of a pod a user can set through a TrainingJob, field by field, frozen in pod_surface.txt.

A user's wish reaches a pod only where podspec puts it. Here every field of the CRD's spec is changed in turn, and what
changes in the pod is written down. A line that appears or changes is a decision about rights: may whoever creates
TrainingJobs set this in a pod? The API server drops what the CRD does not know (tests/apiserver/test_escapes.py).

    python tests/unit/operator/test_pod_surface.py > tests/unit/operator/pod_surface.txt
"""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Iterator
from typing import Any

import crd_schema
from fakes.builders import JobBuilder, a_job
from stowplan_operator import podspec
from stowplan_operator.settings import Settings

Json = dict[str, Any]
SURFACE = pathlib.Path(__file__).with_name("pod_surface.txt")

# Where any value of the right type would not do: a first one, and another.
VALUES: dict[str, tuple[Any, Any]] = {
    "numNodes": (2, 3),
    "numProcPerNode": (1, 2),
    "resourcesPerNode{}": (1, 2),
    "sharedMemory": ("1Gi", "2Gi"),
    "accelerators[].relativeThroughput": ("0.5", "0.6"),
    "checkpoint.path": ("/a", "/b"),
    "checkpoint.gracePeriodSeconds": (60, 61),
    "deadline": ("2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
}
KEYS = {"resourcesPerNode": "nvidia.com/gpu"}
# Maps of a pod whose keys are the user's.
POD_MAPS = ("labels", "annotations", "nodeSelector", "requests", "limits")


def _values(path: str, schema: Json) -> tuple[Any, Any]:
    """Two values of a field without fields of its own."""
    if path in VALUES:
        return VALUES[path]
    if "enum" in schema:
        return schema["enum"][0], schema["enum"][-1]
    if schema.get("type") == "boolean":
        return False, True
    if schema.get("type") == "integer":
        least = int(schema.get("minimum", 0))
        return least, least + 1
    return "a", "b"


def _sample(path: str, schema: Json) -> Any:
    """A value that has every field below it."""
    if "properties" in schema:
        below = f"{path}." if path else ""
        return {name: _sample(below + name, child) for name, child in schema["properties"].items()}
    if "items" in schema:
        return [_sample(f"{path}[]", schema["items"])]
    if isinstance(schema.get("additionalProperties"), dict):
        return {KEYS.get(path, "key"): _sample(f"{path}{{}}", schema["additionalProperties"])}
    return _values(path, schema)[0]


def _leaves(path: str, schema: Json) -> Iterator[tuple[str, Json]]:
    if "properties" in schema:
        for name, child in schema["properties"].items():
            yield from _leaves(f"{path}.{name}" if path else name, child)
    elif "items" in schema:
        yield from _leaves(f"{path}[]", schema["items"])
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from _leaves(f"{path}{{}}", schema["additionalProperties"])
    else:
        yield path, schema


def _changed(spec: Json, path: str, value: Any) -> Json:
    changed = copy.deepcopy(spec)
    at: Any = changed
    steps: list[Any] = []
    for part in path.split("."):
        name = part.removesuffix("[]").removesuffix("{}")
        steps.append(name)
        if part.endswith("[]"):
            steps.append(0)
        if part.endswith("{}"):
            steps.append(KEYS.get(path.removesuffix("{}"), "key"))
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    return changed


def _pod(job: JobBuilder) -> Json:
    placement = {"attempt": 1, "nodes": [{"name": "n1", "ranks": "0-1"}]}
    return next(iter(podspec.build_pods(job.view(), job.parsed(), placement, settings=Settings()).values()))


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Paths of a pod at which two differ: list items as [], variables and users' keys by their kind."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            is_users = path.rpartition(".")[2] in POD_MAPS
            below = f"{path}{{}}" if is_users and "/" not in key else f"{path}[{key}]" if is_users else f"{path}.{key}"
            if key not in one or key not in other:
                yield below
            else:
                yield from _differences(one[key], other[key], below)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for mine, others in zip(one, other, strict=True):
            name = mine.get("name", "") if isinstance(mine, dict) and path.endswith(".env") else ""
            ours = name.startswith(("PET_", "STOWPLAN_", "NVIDIA_"))
            yield from _differences(mine, others, f"{path}[{name if ours else ''}]")
    elif one != other:
        yield path


def surface() -> list[str]:
    """One line for each field of the CRD's spec: what it changes in the pod."""
    schema = crd_schema.root_schema()["properties"]["spec"]
    base = _sample("", schema)
    job = a_job("train")
    before = _pod(job.spec(**base))
    effects = {
        f"spec.{path}": _differences(before, _pod(job.spec(**_changed(base, path, _values(path, leaf)[1]))))
        for path, leaf in _leaves("", schema)
    }
    effects["metadata.name"] = _differences(before, _pod(a_job("other").spec(**base)))
    lines = []
    for field, paths in effects.items():
        found = sorted({path.removeprefix(".") for path in paths})
        lines.append(f"{field}: {', '.join(found) or '-'}")
    return lines


def test_what_a_user_can_set_in_a_pod_is_frozen() -> None:
    assert surface() == SURFACE.read_text().splitlines(), "a decision about rights; the module's docstring says how"


def test_nothing_that_gives_rights_is_among_it() -> None:
    by_spec = [line for line in SURFACE.read_text().splitlines() if line.startswith("spec.")]
    reached = {path for line in by_spec for path in line.partition(": ")[2].split(", ")}
    words = ("host", "privileged", "capabilities", "seccomp", "automount", "nodeName", "affinity", "owner", "secretKey")
    words += ("projected", "schedulerName", "priorityClass", "allowPrivilegeEscalation", "initContainers")
    assert [path for path in reached for word in words if word in path] == []


if __name__ == "__main__":
    print("\n".join(surface()))
