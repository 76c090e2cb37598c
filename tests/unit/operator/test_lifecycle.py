"""Which jobs may be placed, which pods are deleted with what grace, and when the clock alone ends something."""

from __future__ import annotations

import pytest

from fakes.builders import NOW, JobBuilder, PodBuilder, a_job, a_pod, an_attempt, time_text
from stowplan_operator import api, lifecycle, views
from stowplan_operator.failures import BIND_TIMEOUT_SECONDS, CREATE_TIMEOUT_SECONDS
from unit.operator.gang import FIRST, PLACED, RUNNING, SECOND

OLD, OLD_DONE = a_pod().of(a_job("a"), attempt=1).on("n1").running(), a_pod().of(a_job("a"), attempt=1).failed()

PLANNABLE: dict[str, tuple[JobBuilder, tuple[PodBuilder, ...], tuple[str, ...], bool]] = {
    "a new job": (a_job("a"), (), (), True),
    "a restarting job": (a_job("a").phase(api.Phase.RESTARTING), (), (), True),
    "a job that is being deleted": (a_job("a").meta(deletionTimestamp=time_text(NOW)), (), (), False),
    "a suspended job": (a_job("a").suspended(), (), (), False),
    "a placed job": (PLACED, (), (), False),
    "a finished job": (a_job("a").phase(api.Phase.FAILED), (), (), False),
    "a job that backs off": (a_job("a").status(retryAfter=time_text(NOW + 11)), (), (), False),
    "a job whose back-off is over": (a_job("a").status(retryAfter=time_text(NOW + 10)), (), (), True),
    "a job with an old pod that still runs": (a_job("a"), (OLD,), (), False),
    "a job with an old pod that terminates": (a_job("a"), (OLD.deleting(),), (), False),
    "a job with an old pod that waits to be bound": (a_job("a"), (a_pod().of(a_job("a")),), (), False),
    "a job with an old pod that has ended": (a_job("a"), (OLD_DONE,), (), True),
    "a job with an old pod on a lost node": (a_job("a"), (OLD,), ("n1",), True),
    "another job's pod": (a_job("a"), (a_pod().of(a_job("b")).on("n1").running(),), (), True),
}


@pytest.mark.parametrize(("job", "pods", "lost", "want"), PLANNABLE.values(), ids=PLANNABLE)
def test_is_plannable(job: JobBuilder, pods: tuple[PodBuilder, ...], lost: tuple[str, ...], want: bool) -> None:
    found = lifecycle.is_plannable(
        job.view(), job.parsed(), [pod.view() for pod in pods], lost_nodes=frozenset(lost), now_seconds=NOW + 10
    )
    assert found is want


def attempts(*numbers: int) -> list[PodBuilder]:
    return [a_pod().of(a_job("a"), attempt=number).on("n1") for number in numbers]


WITH_GRACE = a_job("a").spec(checkpoint={"gracePeriodSeconds": 300})
DOOMED: dict[str, tuple[JobBuilder, list[PodBuilder], dict[str, int]]] = {
    "pods of the placed attempt stay": (PLACED, attempts(1), {}),
    "running pods of an older attempt get two seconds": (
        WITH_GRACE.placed_on("n1", attempt=2),
        [attempts(1)[0].running(), *attempts(2)],
        {"a-1-0": 2},
    ),
    "survivors of a fault get two seconds": (
        WITH_GRACE.status(attempt=1, phase="Restarting"),
        [attempts(1)[0].running()],
        {"a-1-0": 2},
    ),
    "pods of a suspended job get the time to save": (
        WITH_GRACE.status(attempt=1, phase="Suspended").ended(an_attempt(1, outcome="Suspended")),
        [attempts(1)[0].running()],
        {"a-1-0": 300},
    ),
    "also when the job was resumed before they were told to stop": (
        WITH_GRACE.status(attempt=1, phase="Pending").ended(an_attempt(1, outcome="Suspended")),
        [attempts(1)[0].running()],
        {"a-1-0": 300},
    ),
    "pods of a preempted and of a migrated attempt get it too": (
        WITH_GRACE.status(attempt=2).ended(an_attempt(1, outcome="Preempted"), an_attempt(2, outcome="Migrated")),
        [pod.running() for pod in attempts(1, 2)],
        {"a-1-0": 300, "a-2-0": 300},
    ),
    "pods that a fault left behind do not get it from a suspension later": (
        WITH_GRACE.status(attempt=1, phase="Suspended").ended(an_attempt(1)),
        [attempts(1)[0].running()],
        {"a-1-0": 2},
    ),
    "pods of a gang that moves may save": (
        a_job("a")
        .spec(checkpoint={"gracePeriodSeconds": 120})
        .status(attempt=1, phase="Restarting")
        .ended(an_attempt(1, outcome="Migrated")),
        [attempts(1)[0].running()],
        {"a-1-0": 120},
    ),
    "without a checkpoint a planned stop gives 30 s": (
        a_job("a").status(attempt=1, phase="Suspended").ended(an_attempt(1, outcome="Suspended")),
        [attempts(1)[0].running()],
        {"a-1-0": 30},
    ),
    "pods that wait to be bound go as well": (
        a_job("a").status(attempt=1, phase="Restarting"),
        attempts(1),
        {"a-1-0": 2},
    ),
    "pods that are on their way are left alone": (
        a_job("a").status(attempt=1, phase="Restarting"),
        [attempts(1)[0].running().deleting()],
        {},
    ),
    "ended pods of the last two attempts stay readable": (
        a_job("a").placed_on("n1", attempt=3),
        [pod.failed() for pod in attempts(1, 2)] + attempts(3),
        {"a-1-0": 2},
    ),
    "ended pods of a job that waits for its next attempt stay": (
        a_job("a").status(attempt=2, phase="Restarting"),
        [pod.failed() for pod in attempts(1, 2)],
        {},
    ),
    "running pods of a finished job go": (
        PLACED.phase(api.Phase.FAILED),
        [attempts(1)[0].running()],
        {"a-1-0": 2},
    ),
    "ended pods of a finished job stay": (PLACED.phase(api.Phase.SUCCEEDED), [attempts(1)[0].succeeded()], {}),
    "another job's pods are not ours": (a_job("b").status(attempt=1), [attempts(1)[0].running()], {}),
}


@pytest.mark.parametrize(("job", "pods", "want"), DOOMED.values(), ids=DOOMED)
def test_pods_to_delete(job: JobBuilder, pods: list[PodBuilder], want: dict[str, int]) -> None:
    doomed = lifecycle.pods_to_delete(job.view(), job.parsed(), [pod.view() for pod in pods])
    assert {pod.name: grace for pod, grace in doomed} == want


@pytest.mark.parametrize(
    ("job", "want"),
    [
        pytest.param(a_job().spec(ttlSecondsAfterFinished=5), 0.0, id="a job that runs never expires"),
        pytest.param(
            a_job().phase(api.Phase.SUCCEEDED).status(completionTime=time_text(NOW)), 0.0, id="without a TTL never"
        ),
        pytest.param(
            a_job().spec(ttlSecondsAfterFinished=5).phase(api.Phase.FAILED).status(completionTime=time_text(NOW)),
            NOW + 5,
            id="a finished job after its TTL",
        ),
        pytest.param(
            a_job().spec(ttlSecondsAfterFinished=0).phase(api.Phase.SUCCEEDED).status(completionTime=time_text(NOW)),
            NOW,
            id="a TTL of zero at once",
        ),
    ],
)
def test_expires_at(job: JobBuilder, want: float) -> None:
    assert lifecycle.expires_at(job.view(), job.parsed()) == want


def test_a_spec_that_cannot_be_read_does_not_expire() -> None:
    assert lifecycle.expires_at(a_job().phase(api.Phase.SUCCEEDED).view(), None) == 0.0


DEADLINES: dict[str, tuple[JobBuilder, tuple[PodBuilder, ...], list[float]]] = {
    "a waiting job needs no clock": (a_job("a"), (), []),
    "a back-off ends": (a_job("a").status(retryAfter=time_text(NOW + 40)), (), [NOW + 40]),
    "a gang that starts has its limit": (
        PLACED.spec(startupTimeoutSeconds=300),
        (FIRST.running(),),
        [NOW + 300, NOW + CREATE_TIMEOUT_SECONDS],
    ),
    "a pod that is not bound has its own": (
        PLACED.spec(startupTimeoutSeconds=300),
        (a_pod().of(PLACED).created(NOW + 7),),
        [NOW + 300, NOW + CREATE_TIMEOUT_SECONDS, NOW + 7 + BIND_TIMEOUT_SECONDS],
    ),
    "a gang that runs needs no clock": (RUNNING, (FIRST.running(), SECOND.running()), []),
    "a job with a deadline has it": (RUNNING.spec(activeDeadlineSeconds=900), (), [NOW + 900]),
    "so has one that waits to start again": (
        a_job("a").spec(activeDeadlineSeconds=900).status(startTime=time_text(NOW)),
        (),
        [NOW + 900],
    ),
    "a finished job expires": (
        RUNNING.spec(ttlSecondsAfterFinished=60, activeDeadlineSeconds=900)
        .phase(api.Phase.SUCCEEDED)
        .status(completionTime=time_text(NOW + 5)),
        (),
        [NOW + 65],
    ),
}


@pytest.mark.parametrize(("job", "pods", "want"), DEADLINES.values(), ids=DEADLINES)
def test_deadlines(job: JobBuilder, pods: tuple[PodBuilder, ...], want: list[float]) -> None:
    assert sorted(lifecycle.deadlines(job.view(), job.parsed(), [pod.view() for pod in pods])) == sorted(want)


def test_current_pods_are_those_of_the_placed_attempt() -> None:
    job = a_job("a").placed_on("n1", attempt=2)
    pods: list[views.PodView] = [pod.view() for pod in attempts(1, 2, 3)]
    assert [pod.name for pod in lifecycle.current_pods(job.view(), pods).values()] == ["a-2-0"]
    assert lifecycle.current_pods(a_job("a").view(), pods) == {}
