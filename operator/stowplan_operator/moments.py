"""What one cycle is about: the clock's reading, the settings, what the pollers last read, and the nodes.

What must stay true: it is read once, when the cycle begins, and every step and every status of the cycle goes by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from stowplan_allocator.advising import Advice
from stowplan_operator import answered, deadlines, estimates, findings, node_watch, preemption, queueing, states, views
from stowplan_operator.progress import Pace, Progress
from stowplan_operator.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Readings:
    """What the pollers last read, by job UID where it is about jobs.

    ``advised_on`` are the answers for which the alternatives of ``advice`` were found.
    """

    telemetry: views.Telemetry
    progress: Mapping[str, Progress]
    eta: Mapping[str, str]
    paces: Mapping[str, Pace] = dataclasses.field(default_factory=dict)
    progress_errors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seconds_left: Mapping[str, float] = dataclasses.field(default_factory=dict)
    advice: Mapping[str, Advice] = dataclasses.field(default_factory=dict)
    advised_on: Mapping[str, answered.Answer] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """What holds for every job of one cycle. ``stale`` is said of telemetry, ``expected`` of run times by UID."""

    now: float
    settings: Settings
    readings: Readings
    nodes: node_watch.Nodes
    stale: str | None
    expected: Mapping[str, estimates.Estimate]
    queues: queueing.Queues = queueing.NONE
    # The jobs that run or wait, as namespace/name, and how many of them wait.
    there: frozenset[str] = frozenset()
    num_waiting: int = 0


def facts(state: states.JobState, moment: Moment) -> findings.Facts:
    """What every status of a cycle says alike, whichever of its steps writes it."""
    uid, readings = state.job.uid, moment.readings
    return findings.Facts(
        now_seconds=moment.now,
        accelerators=state.accelerators,
        cleaning_up=state.has_predecessors
        or any(
            not pod.is_terminal and pod.owner_uid == uid and pod.node not in moment.nodes.lost for pod in state.pods
        ),
        progress=readings.progress.get(uid),
        progress_seconds=moment.settings.progress.interval_seconds,
        progress_error=readings.progress_errors.get(uid, ""),
        grace_seconds=state.spec.grace_period_seconds if state.spec else None,
        eta=readings.eta.get(uid, ""),
        estimate=moment.expected.get(uid),
        goal=_goal(state),
        pace=readings.paces.get(uid),
        advice=readings.advice.get(uid),
        advised_on=readings.advised_on.get(uid),
        telemetry_stale=moment.stale,
        problem=state.problem,
        queue=state.queue,
        queue_to_mend=state.queue_fault.to_mend if state.queue_fault else "",
        is_there=moment.there.__contains__,
        num_waiting=moment.num_waiting,
    )


def _goal(state: states.JobState) -> deadlines.Goal:
    """The job's deadline, and what it gets done at its sizes: in proportion where that has not been measured."""
    spec, request = state.spec, state.request
    if spec is None or request is None or spec.deadline is None:
        return deadlines.NONE
    in_proportion = tuple((number, 1000 * number // spec.num_nodes) for number in request.allowed_num_pods)
    return deadlines.Goal(
        deadline=spec.deadline.timestamp(),
        goodput=request.goodput_milli or in_proportion,
        preferred_pods=spec.num_nodes,
        restart_seconds=preemption.restart_seconds(state.job.status),
    )
