"""TrainingJobs of files that are only imagined: read, and told to the plan as the operator would tell them.

Pure but for reading the files. What must stay true: the job is told with its queue, the queue's limits, and the run
times of jobs like it. Whether the API server would take a manifest at all is for ``checking`` to say.
"""

from __future__ import annotations

import math
import pathlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from stowplan_allocator import types
from stowplan_operator import (
    api,
    defragmentation,
    estimates,
    observation,
    queueing,
    settings,
    snapshot,
    views,
)
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.model import mapping, text


@dataclass(frozen=True, slots=True)
class Manifest:
    """A TrainingJob as it stands in a file."""

    file: str
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return text(self.body, "metadata", "name")

    def namespace(self, default: str | None) -> str:
        """Where it would be created."""
        return text(self.body, "metadata", "namespace") or default or "default"


class _Loader(yaml.SafeLoader):
    """Takes for numbers what kubectl does: ``1e3``, but not ``12:30:00``. Times and ``=`` are text, too."""


_INTEGER, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_OTHERWISE = (_INTEGER, _FLOAT, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] not in _OTHERWISE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _INTEGER,
    re.compile(
        r"[-+]?(?:0[bB]_*[01][01_]*|0[oO]_*[0-7][0-7_]*|0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]*|[1-9][0-9_]*)\Z"
    ),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9][0-9_]*)?\Z"
        r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
    ),
    list("-+.0123456789"),
)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = str(loader.construct_scalar(node)).replace("_", "")
    return int(re.sub(r"^([-+]?)0(?=\d)", r"\g<1>0o", digits), 0)  # 014 is twelve


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | str:
    """A whole number as int, as in the JSON that kubectl sends; what no float can hold (a commit's 6e12345) as text."""
    found: float = loader.construct_yaml_float(node)
    if math.isinf(found) and not node.value.lower().endswith("inf"):
        return str(node.value)
    return int(found) if found.is_integer() else found


_Loader.add_constructor(_INTEGER, _integer)
_Loader.add_constructor(_FLOAT, _float)


def read(file: str) -> tuple[Manifest, ...]:
    """The TrainingJobs of a file, ``-`` for standard input; CliError where it cannot be read or holds none."""
    try:
        content = sys.stdin.read() if file == "-" else pathlib.Path(file).read_text()
        documents = [one for one in yaml.load_all(content, Loader=_Loader) if one is not None]
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}", code=Exit.USAGE) from None
    except (yaml.YAMLError, ValueError) as error:
        raise CliError(f"{file} is no YAML: {error}", code=Exit.USAGE) from None
    bodies = [item for one in documents for item in (one.get("items") or [one] if isinstance(one, dict) else [one])]
    jobs = [one for one in bodies if isinstance(one, dict) and one.get("kind") == api.KIND]
    if not jobs:
        kinds = sorted({str(one.get("kind")) if isinstance(one, dict) else "no object" for one in bodies})
        held = f"; it holds {', '.join(kinds)}" if kinds else "; it is empty"
        raise CliError(f"{file} holds no TrainingJob{held}", code=Exit.USAGE)
    found = tuple(Manifest(file, body) for body in jobs)
    if not all(one.name for one in found):
        raise CliError(f"{file}: metadata.name is missing", code=Exit.USAGE, hint="name the job")
    return found


def imagined(
    manifest: Manifest, seen: observation.Observation, *, namespace: str | None
) -> tuple[types.Job, estimates.Estimate | None]:
    """The job as the operator would see it, and what would be expected of its run; CliError where that cannot be."""
    reading = seen.reading or observation.Reading(
        accelerator_resource=settings.Settings().accelerator_resource,
        levels=tuple((level, level) for level in seen.snapshot.levels),
        priorities={},
        default_priority=observation.Priority(),
    )
    name, space, spec = manifest.name, manifest.namespace(namespace), mapping(manifest.body, "spec")
    view = views.JobView(
        namespace=space,
        name=name,
        uid=f"what-if/{space}/{name}",
        resource_version="",
        generation=1,
        created_at=seen.snapshot.now_seconds,
        deleting=False,
        spec=spec,
        status={},
        make_room=text(manifest.body, "metadata", "annotations", types.ANNOTATION_MAKE_ROOM),
    )
    queues = queueing.Queues(planned=seen.snapshot.queues, doors=reading.queues)
    try:
        parsed = api.parse_spec(spec)
        job = snapshot.build_job(
            view,
            parsed,
            priorities={one: _class(priority) for one, priority in reading.priorities.items()},
            default_priority=_class(reading.default_priority),
            settings=settings.Settings(
                topology_levels=tuple(
                    settings.TopologyLevel(name=level, label=label) for level, label in reading.levels
                ),
                accelerator_resource=reading.accelerator_resource,
            ),
            queues=queues,
        )
    except ValueError as error:
        raise CliError(f"{manifest.file}: {name}: {error}", code=Exit.USAGE) from None
    estimate = estimates.estimate(
        view,
        parsed,
        runs=estimates.runs_among(reading.runs or {}, view),
        seconds_left=None,
        now_seconds=seen.snapshot.now_seconds,
        queue_limit=queues.run_limit(job.queue),
    )
    return replace(job, make_room=_room_asked(view, seen)), estimate


def _room_asked(view: views.JobView, seen: observation.Observation) -> int:
    """What moves for the new job may lose in the operator; nothing where the snapshot does not tell."""
    if seen.moving is None:
        return 0
    asked = defragmentation.asked(
        [view],
        [view.uid],
        settings=settings.DefragmentationSettings.model_validate(
            {"policy": seen.moving.policy, "budgetGpuSecondsPerHour": seen.moving.budget_left}
        ),
        now_seconds=seen.snapshot.now_seconds,
    )
    return asked.by_job.get(view.uid, 0)


def _class(one: observation.Priority) -> views.PriorityClass:
    return views.PriorityClass(value=one.value, preempts=one.preempts)
