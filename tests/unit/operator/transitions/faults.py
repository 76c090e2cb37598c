"""What becomes of a gang when a container fails or hangs, a pod goes, or a node is lost or gets sick."""

from __future__ import annotations

from fakes.builders import NOW
from stowplan_operator import api, steps
from stowplan_operator.failures import Cause
from unit.operator.gang import FIRST, PLACED, RUNNING, SECOND
from unit.operator.transitions.case import (
    AT_STEP_40,
    HANGS,
    MAX_INFRASTRUCTURE,
    MIGRATE,
    RESTART,
    Case,
    a_fault,
    with_finished,
)

CASES: dict[str, Case] = {
    "a container that failed restarts the gang": Case(
        RUNNING,
        (FIRST.running(), SECOND.failed(42)),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="rank 1 on n2 exited with code 42",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a container that failed while its peers start restarts the gang": Case(
        PLACED, (FIRST, SECOND.failed(2)), want_cause=Cause.CONTAINER_FAILED, **RESTART
    ),
    "a container over its memory says so": Case(
        RUNNING,
        (FIRST.running(), SECOND.failed(137, reason="OOMKilled")),
        want_cause=Cause.OUT_OF_MEMORY,
        want_in_message="memory limit",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a pod that the kubelet refuses is not charged": Case(
        PLACED,
        (FIRST.refused(), SECOND),
        want_cause=Cause.REFUSED_BY_KUBELET,
        want_in_message="no devices left",
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "a pod being deleted is not charged": Case(
        RUNNING,
        (FIRST.running(), SECOND.running().deleting()),
        want_cause=Cause.POD_DELETED,
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "an evicted pod is not charged": Case(
        RUNNING,
        (FIRST.running(), SECOND.running().evicted()),
        want_cause=Cause.POD_EVICTED,
        want_in_message="EvictionByEvictionAPI",
        want_status={"restarts": None, "infrastructureRestarts": None},
        **MIGRATE,
    ),
    "an evicted pod that has ended leaves the others nothing to save with": Case(
        RUNNING,
        (FIRST.running(), SECOND.failed(143).evicted("TerminationByKubelet")),
        want_cause=Cause.POD_EVICTED,
        **RESTART,
    ),
    "a gang that is evicted before it ran has nothing to save": Case(
        PLACED, (FIRST.running(), SECOND.evicted()), want_cause=Cause.POD_EVICTED, **RESTART
    ),
    "a gang on a node that goes saves and moves": Case(
        RUNNING,
        (FIRST.running(), SECOND.running()),
        fault=a_fault(Cause.NODE_DRAINING),
        want_cause=Cause.NODE_DRAINING,
        want_in_message="node n2 is sick",
        want_status={"restarts": None, "infrastructureRestarts": None},
        **MIGRATE,
    ),
    "a gang under a taint moves": Case(
        RUNNING,
        (FIRST.running(), SECOND.running()),
        fault=a_fault(Cause.NODE_TAINTED),
        want_cause=Cause.NODE_TAINTED,
        **MIGRATE,
    ),
    "a gang on sick hardware moves": Case(
        RUNNING,
        (FIRST.running(), SECOND.running()),
        fault=a_fault(Cause.NODE_UNHEALTHY),
        want_cause=Cause.NODE_UNHEALTHY,
        **MIGRATE,
    ),
    "a gang whose GPU is gone cannot save": Case(
        RUNNING,
        (FIRST.running(), SECOND.running()),
        fault=a_fault(Cause.GPU_UNHEALTHY, is_planned=False, xid=79),
        want_cause=Cause.GPU_UNHEALTHY,
        want_status={"restarts": None, "infrastructureRestarts": 1},
        **RESTART,
    ),
    "an error of the application on its GPU is charged": Case(
        RUNNING,
        (FIRST.running(), SECOND.running()),
        fault=a_fault(Cause.XID_ERROR, is_planned=False, xid=13),
        want_cause=Cause.XID_ERROR,
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a gang that still starts has nothing to save": Case(
        PLACED, (FIRST.running(), SECOND), fault=a_fault(Cause.NODE_DRAINING), want_cause=Cause.NODE_DRAINING, **RESTART
    ),
    "a gang of which a rank is done cannot save": Case(
        RUNNING,
        (FIRST.succeeded(), SECOND.running()),
        fault=a_fault(Cause.NODE_DRAINING),
        want_cause=Cause.NODE_DRAINING,
        **RESTART,
    ),
    "a container that failed comes before a node that goes": Case(
        RUNNING,
        (FIRST.failed(), SECOND.running()),
        fault=a_fault(Cause.NODE_DRAINING),
        want_cause=Cause.CONTAINER_FAILED,
        **RESTART,
    ),
    "a lost node comes before one that goes": Case(
        RUNNING,
        (FIRST.running(), SECOND.running()),
        lost=("n1",),
        fault=a_fault(Cause.NODE_DRAINING),
        want_cause=Cause.NODE_LOST,
        **RESTART,
    ),
    "a gang that moves is charged to nobody, however many attempts it had": Case(
        RUNNING.max_restarts(0).status(infrastructureRestarts=MAX_INFRASTRUCTURE),
        (FIRST.running(), SECOND.running()),
        fault=a_fault(Cause.NODE_DRAINING),
        want_cause=Cause.NODE_DRAINING,
        **MIGRATE,
    ),
    "a pod that was done before it was evicted is no failure": Case(
        RUNNING, (FIRST.running(), SECOND.succeeded().evicted())
    ),
    "a pod that was done before it was deleted is no failure": Case(
        RUNNING, (FIRST.running(), SECOND.succeeded().deleting())
    ),
    "a pod missing from a running gang was deleted": Case(
        RUNNING,
        (FIRST.running(),),
        want_cause=Cause.POD_DELETED,
        want_in_message="the pod of rank 1 is gone",
        **RESTART,
    ),
    "a rank that was seen to finish may lose its pod": Case(with_finished(RUNNING, "1"), (FIRST.running(),)),
    "it succeeded when the others have": Case(
        with_finished(RUNNING, "1"), (FIRST.succeeded(),), want_phase=api.Phase.SUCCEEDED, want_event="Succeeded"
    ),
    "also without any pod left": Case(
        with_finished(RUNNING, "0-1"), want_phase=api.Phase.SUCCEEDED, want_event="Succeeded"
    ),
    "its node may be lost": Case(with_finished(RUNNING, "1"), (FIRST.running(),), lost=("n2",)),
    "a rank that was seen to finish is no excuse for another": Case(
        with_finished(RUNNING, "0"),
        want_cause=Cause.POD_DELETED,
        want_in_message="the pod of rank 1 is gone",
        **RESTART,
    ),
    "a gang of which a rank finished early and is gone runs": Case(
        with_finished(PLACED, "1"), (FIRST.running(),), want_phase=api.Phase.RUNNING, want_event="Running"
    ),
    "a pod missing from a gang that starts is only not there yet": Case(PLACED, (FIRST.running(),)),
    "a lost node is not charged": Case(
        RUNNING,
        (FIRST.running(), SECOND.running()),
        lost=("n2",),
        want_cause=Cause.NODE_LOST,
        want_in_message="node n2 is gone or not ready",
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "a node that is lost before its pod exists": Case(PLACED, lost=("n1",), want_cause=Cause.NODE_LOST, **RESTART),
    "a node that is lost after its pod was done is no failure": Case(
        RUNNING, (FIRST.running(), SECOND.succeeded()), lost=("n2",)
    ),
    "another job's node that is lost is no failure": Case(RUNNING, (FIRST.running(), SECOND.running()), lost=("n9",)),
    "a gang without a step for too long is started again, and charged": Case(
        HANGS,
        (FIRST.running(), SECOND.running()),
        at=NOW + 320,
        heard=AT_STEP_40,
        want_cause=Cause.HANG,
        want_in_message="no step within spec.hangTimeoutSeconds (300 s): step 40 since 2026-11-02T10:00:20Z; which",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a gang may pause for a second less": Case(
        HANGS, (FIRST.running(), SECOND.running()), at=NOW + 319, heard=AT_STEP_40
    ),
    "a failure explains a gang that makes no steps": Case(
        HANGS,
        (FIRST.running(), SECOND.failed(42)),
        at=NOW + 400,
        heard=AT_STEP_40,
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="exited with code 42; last reported step 40",
        **RESTART,
    ),
    "a script that reports nothing leaves unknown how far it came": Case(
        RUNNING,
        (FIRST.running(), SECOND.failed(42)),
        heard=steps.Heard(error="pod a-1-0 serves no metrics"),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="no step was reported before it ended, as its progress is unknown: pod a-1-0 serves",
        **RESTART,
    ),
}
