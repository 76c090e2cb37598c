"""What a case of the tables of transitions says, the parts that many of them share, and the call that they try."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fakes.builders import NOW, JobBuilder, PodBuilder, time_text
from stowplan_operator import api, lifecycle, steps
from stowplan_operator.failures import Cause, Failure
from stowplan_operator.lifecycle import Transition
from stowplan_operator.progress import Progress
from unit.operator.gang import RUNNING

MAX_INFRASTRUCTURE = 7
SILENCE = steps.Heard()


def with_rules(job: JobBuilder, *rules: dict[str, Any]) -> JobBuilder:
    return job.spec(failurePolicy={"maxRestarts": 1, "rules": list(rules)})


def with_finished(job: JobBuilder, ranks: str) -> JobBuilder:
    return job.status(placement={**job.view().status["placement"], "finishedRanks": ranks})


def advance(
    job: JobBuilder,
    pods: Sequence[PodBuilder] = (),
    *,
    lost: Sequence[str] = (),
    at: float = NOW + 10,
    heard: steps.Heard = SILENCE,
    fault: Failure | None = None,
) -> Transition | None:
    return lifecycle.advance(
        job.view(),
        job.parsed(),
        [pod.view() for pod in pods],
        lost_nodes=frozenset(lost),
        accelerators_per_pod=4,
        max_infrastructure_restarts=MAX_INFRASTRUCTURE,
        now_seconds=at,
        node_fault=fault,
        heard=dataclasses.replace(
            heard, reading=heard.reading and dataclasses.replace(heard.reading, read_at_seconds=at)
        ),
    )


@dataclass(frozen=True)
class Case:
    """A job and its pods, and what must come of it; ``want_phase`` None is for a status that stands right."""

    job: JobBuilder
    pods: tuple[PodBuilder, ...] = ()
    lost: tuple[str, ...] = ()
    at: float = NOW + 10
    fault: Failure | None = None
    heard: steps.Heard = SILENCE
    want_phase: api.Phase | None = None
    want_event: str = ""
    want_cause: Cause | None = None
    want_in_message: str = ""
    want_placed: bool = True
    want_status: dict[str, Any] = field(default_factory=dict)


MIGRATE = {"want_phase": api.Phase.RESTARTING, "want_event": "Migrating", "want_placed": False}


def a_fault(cause: Cause, *, is_planned: bool = True, xid: int = 0) -> Failure:
    """What is wrong with node n2, where rank 1 runs."""
    return Failure(cause, "node n2 is sick", rank=1, pod="a-1-1", node="n2", is_planned=is_planned, xid=xid)


REPORTED = {"attempt": 1, "firstStep": 30, "step": 40, "checkpointStep": 30, "stepTime": time_text(NOW + 20)}
HANGS = RUNNING.spec(hangTimeoutSeconds=300).status(progress=REPORTED)
AT_STEP_40 = steps.Heard(Progress(step=40, checkpoint_step=30))
RESTART = {"want_phase": api.Phase.RESTARTING, "want_event": "GangRestart", "want_placed": False}
