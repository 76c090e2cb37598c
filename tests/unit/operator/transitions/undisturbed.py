"""What becomes of a gang while nothing goes wrong: it waits, starts, runs, is suspended, and ends."""

from __future__ import annotations

from fakes.builders import NOW, a_job, a_pod, time_text
from stowplan_operator import api
from stowplan_operator.failures import Cause
from unit.operator.gang import FIRST, PLACED, RUNNING, SECOND
from unit.operator.transitions.case import Case

CASES: dict[str, Case] = {
    "a job that was never seen stands right": Case(a_job()),
    "an unplaced job whose user set suspend is suspended": Case(
        a_job().suspended(), want_phase=api.Phase.SUSPENDED, want_event="Suspended", want_placed=False
    ),
    "a suspended job stands right": Case(a_job().suspended().phase(api.Phase.SUSPENDED)),
    "a suspended job whose user unset suspend waits": Case(
        a_job().phase(api.Phase.SUSPENDED), want_phase=api.Phase.PENDING, want_event="Resumed", want_placed=False
    ),
    "a restarting job may be suspended": Case(
        a_job().suspended().phase(api.Phase.RESTARTING),
        want_phase=api.Phase.SUSPENDED,
        want_event="Suspended",
        want_placed=False,
    ),
    "a succeeded job stands right whatever becomes of its pods": Case(RUNNING.phase(api.Phase.SUCCEEDED), (FIRST,)),
    "a failed job stands right": Case(RUNNING.phase(api.Phase.FAILED).suspended(), lost=("n1",)),
    "a placed job without pods waits for them": Case(PLACED),
    "a gang of which one pod does not run yet is starting": Case(PLACED, (FIRST.running(), SECOND)),
    "a gang whose pods all run is running": Case(
        PLACED,
        (FIRST.running(), SECOND.running()),
        want_phase=api.Phase.RUNNING,
        want_event="Running",
        want_status={"startTime": time_text(NOW + 10)},
    ),
    "a gang of which one pod is done and the other runs is running": Case(
        PLACED, (FIRST.running(), SECOND.succeeded()), want_phase=api.Phase.RUNNING, want_event="Running"
    ),
    "a running gang stands right": Case(RUNNING, (FIRST.running(), SECOND.running())),
    "the first start stays the start time": Case(
        PLACED.status(startTime=time_text(NOW - 500)),
        (FIRST.running(), SECOND.running()),
        want_phase=api.Phase.RUNNING,
        want_event="Running",
        want_status={"startTime": time_text(NOW - 500)},
    ),
    "pods of another attempt do not count": Case(
        PLACED, (a_pod().of(PLACED, rank=0, attempt=7).running(), FIRST.running())
    ),
    "pods of another job do not count": Case(
        PLACED, (a_pod().of(a_job("other"), rank=1, attempt=1).running(), FIRST.running())
    ),
    "a gang whose pods all exited 0 succeeded": Case(
        RUNNING,
        (FIRST.succeeded(), SECOND.succeeded()),
        want_phase=api.Phase.SUCCEEDED,
        want_event="Succeeded",
        want_status={"completionTime": time_text(NOW + 10), "gpuSeconds": 80},
    ),
    "a gang that ended before anybody saw it run succeeded": Case(
        PLACED, (FIRST.succeeded(), SECOND.succeeded()), want_phase=api.Phase.SUCCEEDED, want_event="Succeeded"
    ),
    "success comes before suspend": Case(
        RUNNING.suspended(),
        (FIRST.succeeded(), SECOND.succeeded()),
        want_phase=api.Phase.SUCCEEDED,
        want_event="Succeeded",
    ),
    "success comes before the deadline": Case(
        RUNNING.spec(activeDeadlineSeconds=5),
        (FIRST.succeeded(), SECOND.succeeded()),
        want_phase=api.Phase.SUCCEEDED,
        want_event="Succeeded",
    ),
    "success comes before a lost node": Case(
        RUNNING,
        (FIRST.succeeded(), SECOND.succeeded()),
        lost=("n1",),
        want_phase=api.Phase.SUCCEEDED,
        want_event="Succeeded",
    ),
    "a running gang whose user set suspend gives its place back": Case(
        RUNNING.suspended(),
        (FIRST.running(), SECOND.running()),
        want_phase=api.Phase.SUSPENDED,
        want_event="Suspended",
        want_placed=False,
    ),
    "suspend comes before a failure, which the restart would hide": Case(
        RUNNING.suspended(),
        (FIRST.failed(), SECOND.running()),
        want_phase=api.Phase.SUSPENDED,
        want_event="Suspended",
        want_placed=False,
    ),
    "a job over its deadline fails": Case(
        RUNNING.spec(activeDeadlineSeconds=10),
        (FIRST.running(), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.DEADLINE_EXCEEDED,
        want_in_message="spec.activeDeadlineSeconds (10 s)",
    ),
    "a job one second before its deadline runs on": Case(
        RUNNING.spec(activeDeadlineSeconds=11), (FIRST.running(), SECOND.running())
    ),
    "a deadline is counted from the first start, not from the last attempt": Case(
        PLACED.spec(activeDeadlineSeconds=60).status(startTime=time_text(NOW - 51)),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.DEADLINE_EXCEEDED,
    ),
}
