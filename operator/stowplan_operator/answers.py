"""Where the planner lays down what it saw in its last cycle, and questions pick it up as a document.

The planner hands over references only; the document is made when somebody asks, in the asker's thread, once per cycle.
What must stay true: nothing of a cycle is changed after it was handed over; a process without the Lease has no
document and says who leads.
"""

from __future__ import annotations

import dataclasses
import gzip
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from stowplan_allocator import types
from stowplan_allocator.advising import Advice
from stowplan_operator import (
    defragmentation,
    estimates,
    expectations,
    gathering,
    health,
    observation,
    queueing,
    states,
    views,
)
from stowplan_operator.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A cycle at its end. ``expected`` and ``advice`` are by job UID, ``stale`` is said of telemetry.

    ``runs`` are those of jobs that succeeded, by what jobs are compared by.
    """

    jobs: tuple[states.JobState, ...]
    scene: gathering.Scene
    plan: types.Plan
    settings: Settings
    priorities: Mapping[str, views.PriorityClass]
    default_priority: views.PriorityClass
    telemetry: views.Telemetry
    stale: str | None
    expected: Mapping[str, estimates.Estimate]
    advice: Mapping[str, Advice] = dataclasses.field(default_factory=dict)
    queues: queueing.Queues = queueing.NONE
    runs: Mapping[tuple[str, ...], tuple[float, ...]] = dataclasses.field(default_factory=dict)


class NothingToTellError(Exception):
    """There is no document here; the text says why, ``leader`` names the process that has one, where known."""

    def __init__(self, why: str, *, leader: str = "") -> None:
        super().__init__(why)
        self.leader = leader


class Desk:
    """Holds the last cycle of a leading planner. Thread-safe."""

    def __init__(self, *, leader: Callable[[], str] = str) -> None:
        """``leader`` names the process that holds the Lease, empty where that is not known."""
        self._leader = leader
        self._lock = threading.Lock()
        self._leading = False
        self._seen: Seen | None = None
        self._made: tuple[Seen, bytes] | None = None

    def lead(self, leading: bool) -> None:
        """This process plans from now on, or does not any more."""
        self._leading, self._seen = leading, None

    def put(self, seen: Seen) -> None:
        """The end of a cycle."""
        self._seen = seen

    @property
    def seen(self) -> Seen | None:
        """The last cycle; None where this process does not lead, or has not ended one yet."""
        return self._seen

    def document(self) -> bytes:
        """The observation, compressed with gzip; NothingToTellError where there is none."""
        seen = self._seen
        if not self._leading:
            leader = self._leader()
            raise NothingToTellError(
                f"this operator does not lead{f', {leader} does' if leader else ''}", leader=leader
            )
        if seen is None:
            raise NothingToTellError("the operator leads, but its first cycle has not ended yet")
        with self._lock:
            if self._made is None or self._made[0] is not seen:
                self._made = seen, gzip.compress(observation.write(observe(seen)).encode(), compresslevel=5)
            return self._made[1]


def observe(seen: Seen) -> observation.Observation:
    """The observation of a cycle, with the places that it gave and took. Pure."""
    jobs = [_as_left(state, seen) for state in seen.jobs]
    current = gathering.gather(
        jobs, seen.scene, in_doubt={}, settings=seen.settings, queues=seen.queues.planned, for_questions=True
    )
    assert current is not None, "for questions there is always a snapshot"
    current = expectations.complete(
        current,
        (state.job for state in jobs),
        expected=seen.expected,
        advice=seen.advice,
        with_ends=True,
        with_spread=True,
    )
    current = dataclasses.replace(current, priority_classes=tuple(_choices(seen)))
    return observation.Observation(
        snapshot=current,
        settings=seen.settings.for_allocator(),
        plan=seen.plan,
        devices={
            name: node.capacity.accelerators
            for name, node in seen.scene.nodes.items()
            if node.capacity.accelerators > node.allocatable.accelerators
        },
        utilisation=dict(_utilisation(seen)),
        telemetry=seen.stale,
        longest=expectations.longest(current, expected=seen.expected),
        bases={job.id: seen.expected[job.id].basis for job in current.jobs if job.id in seen.expected},
        notes={name: one.notes for name, one in seen.scene.assessments.items() if one.notes},
        reading=observation.Reading(
            accelerator_resource=seen.settings.accelerator_resource,
            levels=tuple((level.name, level.label) for level in seen.settings.topology_levels),
            priorities={name: _priority(one) for name, one in seen.priorities.items()},
            default_priority=_priority(seen.default_priority),
            queues=seen.queues.doors,
            runs=estimates.digested(seen.runs),
        ),
        moving=observation.Moving(
            policy=seen.settings.defragmentation.policy,
            budget=seen.settings.defragmentation.budget_gpu_seconds_per_hour,
            budget_left=defragmentation.budget_left(
                (state.job for state in jobs),
                settings=seen.settings.defragmentation,
                now_seconds=seen.scene.now_seconds,
            ),
        ),
        outside=dict(sorted(_outside(jobs, {job.id for job in current.jobs}))),
        adrift={state.job.uid: state.queue for state in jobs if state.is_adrift},
    )


def _outside(jobs: Iterable[states.JobState], planned: Collection[str]) -> Iterator[tuple[str, str]]:
    """Jobs that wait for a place and are not planned, and why."""
    for state in jobs:
        if not state.wants_place or state.job.uid in planned or state.job.status.get("placement") is not None:
            continue
        reason, why = state.job.status.get("reason") or "", state.job.status.get("message") or ""
        if state.misconfigured:
            reason, why = types.Reason.MISCONFIGURED.value, state.misconfigured
        yield f"{state.job.namespace}/{state.job.name}", f"{reason}: {why}" if why else reason


def _choices(seen: Seen) -> Iterator[types.PriorityClass]:
    """PriorityClasses that a job can name: not those of the cluster's own pods, nor that which is for our pods."""
    for name, one in sorted(seen.priorities.items()):
        if not name.startswith("system-") and name != seen.settings.priority_class_name:
            yield types.PriorityClass(name, one.value, one.preempts)


def _priority(one: views.PriorityClass) -> observation.Priority:
    return observation.Priority(value=one.value, preempts=one.preempts)


def _as_left(state: states.JobState, seen: Seen) -> states.JobState:
    """The job as the cycle left it, on a copy: read anew where the cycle gave or took its place."""
    anew = dataclasses.replace(state, skip=False)
    had_place = state.request is not None and state.request.placement is not None
    if had_place != (state.job.status.get("placement") is not None):
        states.interpret(
            anew,
            priorities=seen.priorities,
            default_priority=seen.default_priority,
            settings=seen.settings,
            queues=seen.queues,
        )
    return anew


def _utilisation(seen: Seen) -> Mapping[str, float]:
    found = {}
    for name, node in seen.scene.nodes.items():
        known = [
            gpu.utilisation_percent
            for gpu in health.readings_of(node, seen.telemetry)
            if gpu.utilisation_percent is not None
        ]
        if known:
            found[name] = round(sum(known) / len(known), 1)
    return found
