"""A TrainingJob as the CLI reads it: every part of status may be missing, and none of it is trusted.

``Job`` keeps the object as it came, for ``-o json``; ``printable`` is the same object without terminal
escapes, because log tails and messages come out of other people's containers.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stowplan_operator.api import LABEL_ATTEMPT, Phase

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def text(source: Mapping[str, Any], *path: str) -> str:
    """The text or number at ``path``; empty where it is missing."""
    value: Any = source
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return str(value) if isinstance(value, str | int | float) else ""


def number(source: Mapping[str, Any], *path: str) -> int | None:
    """The whole number at ``path``; None where it is missing or is none."""
    try:
        return int(text(source, *path))
    except ValueError:
        return None


def mapping(source: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object at ``key``; empty where it is missing."""
    value = source.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def objects(source: Mapping[str, Any], key: str) -> tuple[dict[str, Any], ...]:
    """The list of objects at ``key``; empty where it is missing."""
    value = source.get(key)
    return tuple(dict(one) for one in value if isinstance(one, Mapping)) if isinstance(value, list) else ()


def numbers(source: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """The whole numbers in the list at ``key``; empty where it is missing."""
    value = source.get(key)
    return tuple(one for one in value if isinstance(one, int)) if isinstance(value, list) else ()


def seconds_of(time: str) -> float | None:
    """An RFC 3339 time as Unix seconds; None where it cannot be read."""
    try:
        moment = datetime.datetime.fromisoformat(time)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=datetime.UTC).timestamp()


def clean(value: Any) -> Any:
    """The value with terminal escapes and control characters taken out of every text in it."""
    if isinstance(value, str):
        return _CONTROLS.sub("", _ESCAPES.sub("", value.replace("\r\n", "\n").replace("\r", "\n")))
    if isinstance(value, Mapping):
        return {str(clean(key)): clean(one) for key, one in value.items()}
    if isinstance(value, list):
        return [clean(one) for one in value]
    return value


@dataclass(frozen=True, slots=True)
class Job:
    """A TrainingJob, and how to read it without a missing part being an error."""

    body: Mapping[str, Any]

    @property
    def printable(self) -> Job:
        """The same job, safe to print on a terminal."""
        return Job(clean(self.body))

    @property
    def meta(self) -> dict[str, Any]:
        """Its metadata."""
        return mapping(self.body, "metadata")

    @property
    def spec(self) -> dict[str, Any]:
        """What the user asked for."""
        return mapping(self.body, "spec")

    @property
    def status(self) -> dict[str, Any]:
        """What the operator wrote; empty for a job that it has not seen."""
        return mapping(self.body, "status")

    @property
    def name(self) -> str:
        """Its name."""
        return text(self.meta, "name")

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return text(self.meta, "namespace")

    @property
    def uid(self) -> str:
        """Its UID."""
        return text(self.meta, "uid")

    @property
    def phase(self) -> str:
        """The phase; empty for a job that the operator has not seen."""
        return text(self.status, "phase")

    @property
    def is_finished(self) -> bool:
        """Whether it will never run again."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)

    @property
    def is_deleting(self) -> bool:
        """Whether it is being deleted."""
        return bool(text(self.meta, "deletionTimestamp"))

    @property
    def is_outdated(self) -> bool:
        """Whether the spec changed after the operator last looked."""
        seen, wanted = number(self.status, "observedGeneration"), number(self.meta, "generation")
        return seen is not None and wanted is not None and seen < wanted

    @property
    def suspend(self) -> bool:
        """Whether the user wants it suspended."""
        return self.spec.get("suspend") is True

    @property
    def num_nodes(self) -> int:
        """Pods of one attempt; of an elastic job the preferred number."""
        return number(self.spec, "numNodes") or 1

    @property
    def most_nodes(self) -> int:
        """Pods that an attempt can have at most."""
        elastic = mapping(self.spec, "elastic")
        return max(self.num_nodes, number(elastic, "maxNodes") or 0, *numbers(elastic, "allowedNodes"))

    @property
    def grace_period_seconds(self) -> int:
        """Seconds that a planned stop gives the pods (api.TrainingJobSpec has the same defaults)."""
        checkpoint = mapping(self.spec, "checkpoint")
        stated = number(checkpoint, "gracePeriodSeconds")
        return stated if stated is not None else 60 if checkpoint else 30

    @property
    def decision(self) -> dict[str, Any]:
        """The allocator's last word on it."""
        return mapping(self.status, "decision")

    @property
    def reason(self) -> str:
        """Why it is in its phase; while it waits, what the allocator said."""
        return text(self.status, "reason") or text(self.decision, "reason")

    @property
    def message(self) -> str:
        """The reason in a sentence; the allocator's own only where it speaks of the same reason."""
        decided = text(self.decision, "message") if text(self.decision, "reason") == self.reason else ""
        return text(self.status, "message") or decided

    def condition(self, kind: str) -> dict[str, Any]:
        """The condition of this type; empty where there is none."""
        return next((one for one in objects(self.status, "conditions") if one.get("type") == kind), {})

    def holds(self, kind: str) -> bool:
        """Whether the condition of this type is True."""
        return self.condition(kind).get("status") == "True"


def event_time(event: Mapping[str, Any]) -> str:
    """When an Event was last seen, as RFC 3339 text."""
    times = (text(event, "series", "lastObservedTime"), text(event, "lastTimestamp"), text(event, "eventTime"))
    return next((time for time in times if time), text(event, "metadata", "creationTimestamp"))


def pod_attempt(pod: Mapping[str, Any]) -> int:
    """The attempt that a pod belongs to."""
    return number(pod, "metadata", "labels", LABEL_ATTEMPT) or 0
