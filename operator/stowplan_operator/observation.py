"""What the operator last saw and decided, as a document: what ``snapshot``, ``what-if``, ``top``, ``plan`` and
``explain --deep`` look at.

It holds more than the planner's own snapshot: running jobs with all their wishes, what each would lose, and when
it is expected to end, so that a question may take their places away. What must stay true: ``write`` and ``read``
are each other's inverse; a document of another schema is refused, not half-read; no text of a spec but
what the allocator needs, and no credentials, are in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from stowplan_allocator import codec, inputs, snapshots, spread, types
from stowplan_operator import queueing

SCHEMA = "stowplan-observation/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority:
    """A PriorityClass, as far as plans depend on it."""

    value: int = 0
    preempts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How this operator reads TrainingJobs: its topology levels with their labels, PriorityClasses, and queues.

    ``runs`` are the seconds that jobs ran that succeeded, by what these are compared by (``estimates.digested``); None
    where the document does not tell.
    """

    accelerator_resource: str
    levels: tuple[tuple[str, str], ...]
    priorities: Mapping[str, Priority]
    default_priority: Priority
    queues: Mapping[str, queueing.Door] = field(default_factory=dict)
    runs: Mapping[str, tuple[float, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """Whether this operator moves running jobs for others, and the GPU-seconds that this may lose.

    In any hour, and still in this one.
    """

    policy: str
    budget: int
    budget_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One moment of the operator: ``plan`` is its last plan, ``snapshot`` what is there since.

    ``devices`` are the accelerators that a node was built with, broken ones included, where the kubelet offers fewer.
    ``utilisation`` is the mean of a node's GPUs in per cent, where Prometheus knows it; ``telemetry`` says why it is
    stale, empty when fresh, None when telemetry is off. ``notes`` are remarks on the health of nodes. ``bases`` say, by
    job id, what the expected seconds of a job rest on. ``longest`` has, by job id, the seconds that hardly a run
    like it exceeds, where that is more: where room is kept, plans count upon these. ``outside`` says, by name, why jobs
    wait that are not planned at all; ``adrift`` has, by job id, the queue in which a running job stood that cannot be
    planned with: it counts in none. ``reading`` and ``moving`` are None
    in what was made of a bare snapshot.
    """

    snapshot: types.Snapshot
    settings: types.Settings
    plan: types.Plan | None = None
    devices: Mapping[str, int] = field(default_factory=dict)
    utilisation: Mapping[str, float] = field(default_factory=dict)
    telemetry: str | None = None
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)
    reading: Reading | None = None
    moving: Moving | None = None
    outside: Mapping[str, str] = field(default_factory=dict)
    adrift: Mapping[str, str] = field(default_factory=dict)

    @property
    def broken_queues(self) -> dict[str, str]:
        """Queues that cannot be planned with, by name, and why."""
        doors = self.reading.queues if self.reading else {}
        return {name: doors[name].fault for name in sorted(doors) if doors[name].fault}

    @property
    def counted_upon(self) -> types.Snapshot:
        """The snapshot with the run times upon which the planner counts."""
        return spread.at_longest(self.snapshot, longest=self.longest, order=self.settings.order)


def write(observation: Observation) -> str:
    """The document as text."""
    return json.dumps({"schema": SCHEMA, **codec.encode(observation)}, ensure_ascii=False, separators=(",", ":")) + "\n"


def read(text: str, *, where: str = "") -> Observation:
    """The observation that a text holds; a bare snapshot will do. ``InputError`` with every fault."""
    document = snapshots.parse_json(text, where=where)
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        if isinstance(document, Mapping) and document.get("schema") == snapshots.SCHEMA:
            return Observation(snapshot=snapshots.from_document(document, where=where), settings=types.Settings())
        fix = f'give what "kubectl stowplan snapshot" writes ("schema": "{SCHEMA}"), or a "{snapshots.SCHEMA}"'
        raise inputs.InputError([inputs.Fault(where, "this is no snapshot that this version reads", fix)])
    faults: list[inputs.Fault] = []
    fields = {name: value for name, value in document.items() if name != "schema"}
    found = codec.decode(Observation, fields, where=where, faults=faults)
    if found is None:
        raise inputs.InputError(faults)
    return found
