"""The life of one gang: what its pods show, and what its status must become."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from fakes.builders import NOW, JobBuilder, PodBuilder, a_gang, a_job, a_pod, an_attempt, time_text
from stowplan_operator import api, lifecycle, preemption, retries, steps, views
from stowplan_operator.failures import BIND_TIMEOUT_SECONDS, CREATE_TIMEOUT_SECONDS, Cause, Failure
from stowplan_operator.lifecycle import Transition
from stowplan_operator.progress import Progress

MAX_INFRASTRUCTURE = 7
SILENCE = steps.Heard()
PLACED = a_job("a").placed_on("n1", "n2", at=NOW)
RUNNING = PLACED.started(NOW)
FIRST, SECOND = a_gang(PLACED, "n1", "n2")


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
    accelerators: int = 4,
    heard: steps.Heard = SILENCE,
    fault: Failure | None = None,
) -> Transition | None:
    return lifecycle.advance(
        job.view(),
        job.parsed(),
        [pod.view() for pod in pods],
        lost_nodes=frozenset(lost),
        accelerators_per_pod=accelerators,
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


PEER_LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.7]:1184"
MIGRATE = {"want_phase": api.Phase.RESTARTING, "want_event": "Migrating", "want_placed": False}


def a_fault(cause: Cause, *, is_planned: bool = True, xid: int = 0) -> Failure:
    """What is wrong with node n2, where rank 1 runs."""
    return Failure(cause, "node n2 is sick", rank=1, pod="a-1-1", node="n2", is_planned=is_planned, xid=xid)


REPORTED = {"attempt": 1, "firstStep": 30, "step": 40, "checkpointStep": 30, "stepTime": time_text(NOW + 20)}
HANGS = RUNNING.spec(hangTimeoutSeconds=300).status(progress=REPORTED)
AT_STEP_40 = steps.Heard(Progress(step=40, checkpoint_step=30))
RESTART = {"want_phase": api.Phase.RESTARTING, "want_event": "GangRestart", "want_placed": False}

TRANSITIONS: dict[str, Case] = {
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
    "a pod not bound in time sends the gang back": Case(
        PLACED,
        (FIRST.running(), a_pod().of(PLACED, rank=1).unschedulable("Insufficient nvidia.com/gpu")),
        at=NOW + BIND_TIMEOUT_SECONDS,
        want_cause=Cause.NOT_BOUND,
        want_in_message="did not bind pod a-1-1 to node n2 within 60 s: Insufficient nvidia.com/gpu",
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "a pod that may still bind waits": Case(
        PLACED, (FIRST.running(), a_pod().of(PLACED, rank=1)), at=NOW + BIND_TIMEOUT_SECONDS - 1
    ),
    "the time to bind runs from the pod's creation, not from the plan": Case(
        PLACED,
        (FIRST.running(), a_pod().of(PLACED, rank=1).created(NOW + 50)),
        at=NOW + BIND_TIMEOUT_SECONDS + 49,
    ),
    "a gang that does not start in time is charged and says what the kubelet says": Case(
        PLACED.spec(startupTimeoutSeconds=300),
        (FIRST.waiting("ContainerCreating"), SECOND.waiting("CreateContainerError", "context canceled")),
        at=NOW + 300,
        want_cause=Cause.STARTUP_TIMEOUT,
        want_in_message="pod a-1-1 on n2 was not running within spec.startupTimeoutSeconds (300 s), like 1 more: "
        "CreateContainerError: context canceled",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a pod of which the kubelet tells nothing": Case(
        PLACED.spec(startupTimeoutSeconds=300),
        (FIRST.waiting("ContainerCreating"), SECOND.waiting("ContainerCreating")),
        at=NOW + 300,
        want_cause=Cause.STARTUP_TIMEOUT,
        want_in_message="see kubectl describe pod a-1-0",
        **RESTART,
    ),
    "what starts on one node and not on another is the node's fault": Case(
        PLACED.spec(startupTimeoutSeconds=300),
        (FIRST.running(), SECOND.waiting("ImagePullBackOff", "not found")),
        at=NOW + 300,
        want_cause=Cause.NODE_STARTUP_TIMEOUT,
        want_in_message="pod a-1-1 on n2 was not running within spec.startupTimeoutSeconds (300 s): ImagePullBackOff: "
        "not found; other nodes do run pods of this gang",
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "an image that does not exist ends the attempt before the limit": Case(
        PLACED,
        (FIRST.waiting("ErrImagePull", "code = NotFound"), SECOND.waiting("ImagePullBackOff", "x:1: not found")),
        at=NOW + 120,
        want_cause=Cause.IMAGE_PULL_FAILED,
        want_in_message="pod a-1-1 on n2 cannot start within 120 s: ImagePullBackOff: x:1: not found",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a registry may be a little late": Case(
        PLACED, (FIRST, SECOND.waiting("ImagePullBackOff", "x:1: not found")), at=NOW + 119
    ),
    "an image name that is none ends it at once": Case(
        PLACED,
        (FIRST, SECOND.waiting("InvalidImageName", "invalid reference format")),
        want_cause=Cause.IMAGE_PULL_FAILED,
        want_in_message="can never start: InvalidImageName",
        **RESTART,
    ),
    "a missing key ends it before the limit": Case(
        PLACED,
        (FIRST, SECOND.waiting("CreateContainerConfigError", 'configmap "settings" not found')),
        at=NOW + 120,
        want_cause=Cause.CONTAINER_CONFIG_ERROR,
        want_in_message='configmap "settings" not found',
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a registry that does not answer is not charged": Case(
        PLACED.spec(startupTimeoutSeconds=300),
        (FIRST.waiting("ImagePullBackOff", "dial tcp: i/o timeout"), SECOND),
        at=NOW + 300,
        want_cause=Cause.REGISTRY_UNAVAILABLE,
        want_in_message="i/o timeout",
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "a command that is not in the image": Case(
        PLACED,
        (FIRST.failed(128, reason="StartError", message='exec: "train": not found in $PATH'), SECOND),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message='could not begin its command (StartError: exec: "train": not found in $PATH)',
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a pod that was never created in time is named by its rank": Case(
        PLACED.spec(startupTimeoutSeconds=60),
        (FIRST.running(),),
        at=NOW + 60,
        want_cause=Cause.STARTUP_TIMEOUT,
        want_in_message="the pod of rank 1 did not exist within",
        **RESTART,
    ),
    "a gang whose pods are refused gives its accelerators back": Case(
        PLACED.status(reason="ApiError", message="exceeded quota"),
        (FIRST.running(),),
        at=NOW + CREATE_TIMEOUT_SECONDS,
        want_cause=Cause.NOT_CREATED,
        want_in_message="1 of 2 pods could not be created within 120 s: exceeded quota",
        **RESTART,
    ),
    "a gang one second before its start-up limit waits": Case(
        PLACED.spec(startupTimeoutSeconds=300), (FIRST.running(), SECOND), at=NOW + 299
    ),
    "the start-up limit does not end a gang that has run": Case(
        RUNNING.spec(startupTimeoutSeconds=30), (FIRST.running(), SECOND.running()), at=NOW + 3000
    ),
    # Precedence: the cause behind the cause.
    "a lost node explains a deleted pod": Case(
        RUNNING,
        (FIRST.running(), SECOND.running().deleting()),
        lost=("n2",),
        want_cause=Cause.NODE_LOST,
        **RESTART,
    ),
    "a lost node explains an evicted pod": Case(
        RUNNING,
        (FIRST.running(), SECOND.running().evicted("DeletionByTaintManager")),
        lost=("n2",),
        want_cause=Cause.NODE_LOST,
        **RESTART,
    ),
    "a lost node explains a peer that failed": Case(
        RUNNING, (FIRST.failed(), SECOND.running()), lost=("n2",), want_cause=Cause.NODE_LOST, **RESTART
    ),
    "an eviction explains a peer that failed": Case(
        RUNNING, (FIRST.failed(), SECOND.running().evicted()), want_cause=Cause.POD_EVICTED, **RESTART
    ),
    "an eviction explains its own deletion": Case(
        RUNNING, (FIRST.running(), SECOND.running().evicted().deleting()), want_cause=Cause.POD_EVICTED, **MIGRATE
    ),
    "a deleted pod explains a peer that failed": Case(
        RUNNING, (FIRST.failed(), SECOND.running().deleting()), want_cause=Cause.POD_DELETED, **RESTART
    ),
    "a pod that is gone explains a peer that failed": Case(
        RUNNING, (FIRST.failed(),), want_cause=Cause.POD_DELETED, **RESTART
    ),
    "of two failed ranks the first in time is the cause": Case(
        RUNNING,
        (FIRST.failed(1, at=NOW + 9), SECOND.failed(42, at=NOW + 8)),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="rank 1 on n2 exited with code 42",
        **RESTART,
    ),
    "of two ranks that failed alike in one second the lower is the cause": Case(
        RUNNING,
        (FIRST.failed(42, at=NOW + 8), SECOND.failed(42, at=NOW + 8)),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="rank 0 on n1",
        **RESTART,
    ),
    "a rank that tells its own cause goes before one that ended earlier without": Case(
        RUNNING,
        (FIRST.failed(1, at=NOW + 7), SECOND.failed(137, at=NOW + 9)),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="rank 1 on n2 exited with code 137",
        **RESTART,
    ),
    "a rank that lost its peer is not the cause, though it ended first": Case(
        RUNNING,
        (FIRST.failed(1, at=NOW + 7, message=PEER_LOST), SECOND.failed(1, at=NOW + 9, message="ValueError: NaN")),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="rank 1 on n2 exited with code 1: ValueError: NaN",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a rank that lost its peer waits a moment for a cause": Case(
        RUNNING, (FIRST.failed(1, at=NOW + 9, message=PEER_LOST), SECOND.running())
    ),
    "and then the rank that has not ended is suspected, without charge": Case(
        RUNNING,
        (FIRST.failed(1, at=NOW + 8, message=PEER_LOST), SECOND.running()),
        want_cause=Cause.PEER_LOST,
        want_in_message="lost its connection to a peer; rank 1 on n2 has not ended",
        want_status={"infrastructureRestarts": 1, "restarts": None},
        **RESTART,
    ),
    "nobody waits for a node's clock that is wrong": Case(
        RUNNING,
        (FIRST.failed(1, at=NOW + 3600, message=PEER_LOST), SECOND.running()),
        want_cause=Cause.PEER_LOST,
        **RESTART,
    ),
    "when all ranks lost their peers, nobody knows which was first": Case(
        RUNNING,
        (FIRST.failed(1, at=NOW + 9, message=PEER_LOST), SECOND.failed(1, at=NOW + 9, message=PEER_LOST)),
        want_cause=Cause.PEER_LOST,
        want_in_message="no rank ended of a cause of its own, so which one was first is not known",
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "a rank that left early is what its peer lost": Case(
        RUNNING,
        (FIRST.failed(1, at=NOW + 9, message=PEER_LOST), SECOND.succeeded()),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="rank 1 had exited 0 before: all ranks must end together",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "ranks that waited in vain are charged, and which hung is not known": Case(
        RUNNING,
        (
            FIRST.failed(1, at=NOW + 9, message="RuntimeError: Timed out waiting 6000ms for recv operation"),
            SECOND.failed(1, at=NOW + 9, message=PEER_LOST),
        ),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="waited for its peers in vain; which rank hung is not known",
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a rank that was told to stop is not charged": Case(
        RUNNING,
        (FIRST.failed(143, message='{"stopped": true}'), SECOND.failed(1, message=PEER_LOST)),
        want_cause=Cause.POD_STOPPED,
        want_in_message="rank 0 on n1 was told to stop (SIGTERM, exit code 143), and not by Stowplan",
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "a deleted pod that ended by its signal was deleted": Case(
        RUNNING,
        (FIRST.running(), SECOND.failed(137).deleting()),
        want_cause=Cause.POD_DELETED,
        want_status={"infrastructureRestarts": 1},
        **RESTART,
    ),
    "a pod that failed by itself and was deleted then failed": Case(
        RUNNING, (FIRST.running(), SECOND.failed(3).deleting()), want_cause=Cause.CONTAINER_FAILED, **RESTART
    ),
    "a container's exit says more than a refusal": Case(
        RUNNING,
        (FIRST.refused(), SECOND.failed(42)),
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="rank 1",
        **RESTART,
    ),
    "a failure comes before a pod that does not bind": Case(
        PLACED,
        (FIRST.failed(3), a_pod().of(PLACED, rank=1)),
        at=NOW + 100,
        want_cause=Cause.CONTAINER_FAILED,
        **RESTART,
    ),
    "a pod that does not bind comes before the start-up limit": Case(
        PLACED.spec(startupTimeoutSeconds=60),
        (FIRST, a_pod().of(PLACED, rank=1)),
        at=NOW + 60,
        want_cause=Cause.NOT_BOUND,
        **RESTART,
    ),
    # Budgets.
    "the last restart that is allowed": Case(
        RUNNING.max_restarts(2).status(restarts=1),
        (FIRST.failed(), SECOND.running()),
        want_cause=Cause.CONTAINER_FAILED,
        want_status={"restarts": 2},
        **RESTART,
    ),
    "a failure after the last restart ends the job": Case(
        RUNNING.max_restarts(2).status(restarts=2),
        (FIRST.failed(9), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="was reported before it ended; all 2 restarts of spec.failurePolicy.maxRestarts are used",
        want_status={"restarts": 2, "completionTime": time_text(NOW + 10)},
    ),
    "without restarts the first failure ends the job": Case(
        RUNNING.max_restarts(0),
        (FIRST.failed(), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
    ),
    "a lost node restarts a job that has used its own restarts": Case(
        RUNNING.max_restarts(0),
        (FIRST.running(), SECOND.running()),
        lost=("n1",),
        want_cause=Cause.NODE_LOST,
        **RESTART,
    ),
    "faults of the infrastructure have a budget of their own": Case(
        RUNNING.status(infrastructureRestarts=MAX_INFRASTRUCTURE),
        (FIRST.running(), SECOND.running()),
        lost=("n1",),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.NODE_LOST,
        want_in_message="all 7 restarts of the setting recovery.maxInfrastructureRestarts are used",
    ),
    # Progress.
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
    # Rules.
    "a rule may end the job": Case(
        with_rules(RUNNING, {"name": "bad data", "exitCodes": [3], "action": "FailJob"}),
        (FIRST.failed(3), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="; spec.failurePolicy.rules[0] (bad data) says FailJob",
        want_status={"restarts": None},
    ),
    "a rule may take the charge": Case(
        with_rules(RUNNING, {"exitCodes": ["64-78"], "action": "Ignore"}),
        (FIRST.failed(70), SECOND.running()),
        want_cause=Cause.CONTAINER_FAILED,
        want_status={"restarts": None, "infrastructureRestarts": 1},
        **RESTART,
    ),
    "what a rule ignores is under the limit of the infrastructure": Case(
        with_rules(RUNNING, {"signals": [9], "action": "Ignore"}).status(infrastructureRestarts=MAX_INFRASTRUCTURE),
        (FIRST.failed(137), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="all 7 restarts of the setting recovery.maxInfrastructureRestarts are used",
    ),
    "a rule may ask for other nodes": Case(
        with_rules(RUNNING, {"reasons": ["OOMKilled"], "action": "RestartElsewhere"}),
        (FIRST.failed(137, reason="OOMKilled"), SECOND.running()),
        want_cause=Cause.OUT_OF_MEMORY,
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a rule that says Restart shields from the rules below": Case(
        with_rules(RUNNING, {"exitCodes": [3], "action": "Restart"}, {"exitCodes": ["1-255"], "action": "FailJob"}),
        (FIRST.failed(3), SECOND.running()),
        want_cause=Cause.CONTAINER_FAILED,
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a rule may end a job whose gang could save and leave": Case(
        with_rules(RUNNING, {"reasons": ["PodEvicted"], "action": "FailJob"}),
        (FIRST.running(), SECOND.running().evicted()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.POD_EVICTED,
        want_in_message="spec.failurePolicy.rules[0] says FailJob",
    ),
    "a rule may end a job that lost a node": Case(
        with_rules(RUNNING, {"reasons": ["NodeLost"], "action": "FailJob"}),
        (FIRST.running(), SECOND.running()),
        lost=("n1",),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.NODE_LOST,
        want_in_message="spec.failurePolicy.rules[0] says FailJob",
    ),
}


@pytest.mark.parametrize("case", TRANSITIONS.values(), ids=TRANSITIONS)
def test_advance(case: Case) -> None:
    before = case.job.body()
    transition = advance(case.job, case.pods, lost=case.lost, at=case.at, fault=case.fault, heard=case.heard)
    assert case.job.body() == before, "the job was changed in place"
    if case.want_phase is None:
        assert transition is None
        return
    assert transition is not None
    assert (transition.status["phase"], transition.event[0]) == (case.want_phase, case.want_event)
    assert ("placement" in transition.status) == case.want_placed
    assert (transition.failure.cause if transition.failure else None) is case.want_cause
    assert transition.is_warning is (case.want_cause is not None)
    assert case.want_in_message in transition.event[1]
    assert {name: transition.status.get(name) for name in case.want_status} == case.want_status
    if transition.failure:
        assert transition.status["lastFailure"]["reason"] == transition.failure.cause
        assert case.want_in_message in transition.status["lastFailure"]["message"]


@pytest.mark.parametrize("case", TRANSITIONS.values(), ids=TRANSITIONS)
def test_a_transition_leads_to_a_status_that_stands_right(case: Case) -> None:
    """Level-triggered: seen again, with the same pods and clock, the new status asks for nothing more."""
    transition = advance(case.job, case.pods, lost=case.lost, at=case.at, fault=case.fault, heard=case.heard)
    if transition is not None:
        job = JobBuilder({**case.job.body(), "status": transition.status})
        assert advance(job, case.pods, lost=case.lost, at=case.at) is None


def test_every_cause_is_in_the_table() -> None:
    assert {case.want_cause for case in TRANSITIONS.values()} - {None} == set(Cause)


def test_an_attempt_that_moved_says_so() -> None:
    transition = advance(RUNNING, (FIRST.running(), SECOND.running()), fault=a_fault(Cause.GPU_UNHEALTHY, xid=119))
    assert transition is not None
    assert transition.status["history"][-1]["outcome"] == "Migrated"
    assert transition.status["lastFailure"]["xid"] == 119
    avoided = retries.avoided_nodes(transition.status, RUNNING.parsed(), now_seconds=NOW + 20)
    assert avoided == {"n2"}


def test_a_failure_keeps_what_its_reader_needs() -> None:
    tail = "x" * 5000 + "RuntimeError: boom"
    transition = advance(RUNNING, (FIRST.running(), SECOND.failed(139, message=tail)))
    assert transition is not None
    failure = transition.status["lastFailure"]
    assert {name: failure[name] for name in ("attempt", "rank", "pod", "node", "exitCode", "signal", "time")} == {
        "attempt": 1,
        "rank": 1,
        "pod": "a-1-1",
        "node": "n2",
        "exitCode": 139,
        "signal": 11,
        "time": time_text(NOW + 10),
    }
    assert failure["logTail"].endswith("RuntimeError: boom")
    assert len(failure["logTail"]) == 2048


def test_an_event_names_the_rule_that_decided() -> None:
    job = with_rules(RUNNING, {"name": "elsewhere", "signals": [9], "action": "RestartElsewhere"})
    transition = advance(job, (FIRST.failed(137), SECOND.running()))
    assert transition is not None
    assert "restart 1 of 1, as spec.failurePolicy.rules[0] (elsewhere) says RestartElsewhere" in transition.event[1]
    assert transition.status["lastFailure"]["avoidNode"] is True


def test_an_attempt_that_ended_keeps_its_steps() -> None:
    transition = advance(HANGS, (FIRST.failed(), SECOND.running()), heard=steps.Heard(Progress(step=44)))
    assert transition is not None
    assert transition.status["lastFailure"]["step"] == 44
    ended = transition.status["history"][-1]
    assert (ended["firstStep"], ended["lastStep"]) == (30, 44)


def test_a_deadline_names_no_pod() -> None:
    transition = advance(RUNNING.spec(activeDeadlineSeconds=1), (FIRST.running(), SECOND.running()))
    assert transition is not None
    assert not {"rank", "pod", "node", "exitCode"} & transition.status["lastFailure"].keys()


@pytest.mark.parametrize(
    ("job", "pods", "want"),
    [
        pytest.param(RUNNING, (FIRST.failed(), SECOND.running()), 10 * 4 * 2, id="from the start to the end"),
        pytest.param(PLACED, (FIRST.failed(), SECOND), 0, id="a gang that never ran used nothing"),
        pytest.param(RUNNING.status(gpuSeconds=1000), (FIRST.failed(), SECOND), 1080, id="attempts add up"),
        pytest.param(RUNNING.started(NOW + 50), (FIRST.failed(), SECOND), 0, id="a clock that went back is no credit"),
    ],
)
def test_gpu_seconds(job: JobBuilder, pods: tuple[PodBuilder, ...], want: int) -> None:
    transition = advance(job, pods)
    assert transition is not None
    assert transition.status["gpuSeconds"] == want


def test_history_keeps_the_last_ten_attempts_enough_for_the_longest_backoff() -> None:
    old = [an_attempt(number, begin=NOW - 1000) for number in range(1, 11)]
    job = a_job("a").ended(*old).placed_on("n1", "n2", attempt=11).started()
    transition = advance(job, [pod.failed() for pod in a_gang(job, "n1", "n2", attempt=11)])
    assert transition is not None
    history = transition.status["history"]
    assert [entry["attempt"] for entry in history] == list(range(2, 12))
    quick = [an_attempt(number) for number in range(lifecycle.HISTORY_LENGTH)]
    assert retries.backoff_seconds(quick) == retries.MAX_BACKOFF_SECONDS
    assert history[-1] == {
        "attempt": 11,
        "startTime": time_text(NOW),
        "endTime": time_text(NOW + 10),
        "outcome": "Failed",
        "reason": "ContainerFailed",
        "nodes": 2,
        "gpuSeconds": 80,
        "rank": 0,
        "node": "n1",
        "exitCode": 1,
        "message": "rank 0 on n1 exited with code 1; no step was reported before it ended",
    }


def test_history_keeps_what_an_hour_may_see_only_so_often_for_an_hour() -> None:
    """Of forty attempts that ended a minute after each other: the last ten, and what is counted of the last hour."""
    outcomes = ("Failed", "Preempted", "Resized", "Defragmented", "Suspended")
    old = [an_attempt(n, begin=NOW - 60 * (41 - n), outcome=outcomes[n % 5]) for n in range(1, 41)]
    job = a_job("a").ended(*old).placed_on("n1", "n2", attempt=41).started()
    late = NOW + 1800
    ended = lifecycle.preempted(
        job.view(), by="team/b", cost=1, accelerators_per_pod=4, grace_seconds=30, now_seconds=late
    )
    history = ended.status["history"]
    assert [entry["attempt"] for entry in history[-10:]] == list(range(32, 42))
    before = [n for n in range(1, 32) if outcomes[n % 5] not in ("Failed", "Suspended") and n >= 11]
    assert [entry["attempt"] for entry in history[:-10]] == before
    assert preemption.recent_preemptions(ended.status, now_seconds=late) == 13


def test_no_history_is_longer_than_the_api_takes() -> None:
    old = [an_attempt(n, outcome="Resized") for n in range(1, 65)]
    job = a_job("a").ended(*old).placed_on("n1", "n2", attempt=65).started()
    ended = lifecycle.preempted(
        job.view(), by="team/b", cost=1, accelerators_per_pod=4, grace_seconds=30, now_seconds=NOW + 60
    )
    assert [entry["attempt"] for entry in ended.status["history"]] == list(range(2, 66))


LONG = {"seconds": 3600.0, "gpu_seconds": 28800}
BACK_OFFS: dict[str, tuple[list[dict[str, Any]], int]] = {
    "the first failure": ([an_attempt()], 0),
    "the second quick failure": ([an_attempt(1), an_attempt(2)], 5),
    "the third": ([an_attempt(1), an_attempt(2), an_attempt(3)], 10),
    "the fifth": ([an_attempt(number) for number in range(5)], 40),
    "a long run between forgives what was before it": (
        [an_attempt(1), an_attempt(2), an_attempt(3, **LONG), an_attempt(4)],
        0,
    ),
    "a failure after a long run": ([an_attempt(1), an_attempt(2, **LONG)], 0),
    "a long wait for the start is no long run": (
        [an_attempt(number, seconds=1800, gpu_seconds=0, reason="StartupTimeout") for number in (1, 2)],
        5,
    ),
    "a long run without accelerators is a long run": (
        [an_attempt(number, seconds=1800, gpu_seconds=0) for number in (1, 2)],
        0,
    ),
    "a suspension forgives": ([an_attempt(1), an_attempt(2), an_attempt(3, outcome="Suspended"), an_attempt(4)], 0),
    "no wait is longer than the limit": ([an_attempt(number) for number in range(40)], retries.MAX_BACKOFF_SECONDS),
}


@pytest.mark.parametrize(("history", "want"), BACK_OFFS.values(), ids=BACK_OFFS)
def test_backoff_seconds(history: list[dict[str, Any]], want: int) -> None:
    assert retries.backoff_seconds(history) == want


def test_a_restart_after_quick_failures_says_when() -> None:
    job = RUNNING.ended(an_attempt(0, begin=NOW - 100))
    transition = advance(job, (FIRST.failed(), SECOND.running()))
    assert transition is not None
    assert transition.status["retryAfter"] == time_text(NOW + 15)
    assert "after 5 s" in transition.event[1]


def test_a_restart_without_back_off_drops_an_old_one() -> None:
    transition = advance(RUNNING.status(retryAfter=time_text(NOW - 50)), (FIRST.failed(), SECOND.running()))
    assert transition is not None
    assert "retryAfter" not in transition.status


def test_what_is_given_back_leaves_no_decision_behind() -> None:
    transition = advance(RUNNING.status(decision={"reason": "Placed"}), (FIRST.failed(), SECOND.running()))
    assert transition is not None
    assert "decision" not in transition.status


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


def after(cause: Cause, *, node: str = "n1", at: float = NOW, rule: bool = False, **policy: bool) -> JobBuilder:
    failure = {"reason": cause.value, "node": node, "time": time_text(at), **({"avoidNode": True} if rule else {})}
    return a_job("a").status(lastFailure=failure).spec(failurePolicy=policy)


AVOIDED: dict[str, tuple[JobBuilder, float, set[str]]] = {
    "a job that never failed": (a_job("a"), 0, set()),
    "a node that was lost": (after(Cause.NODE_LOST), 0, {"n1"}),
    "a node whose kubelet refused the pod": (after(Cause.REFUSED_BY_KUBELET), 0, {"n1"}),
    "a node on which nothing started": (after(Cause.STARTUP_TIMEOUT), 0, {"n1"}),
    "a node is not to blame for the user's code": (after(Cause.CONTAINER_FAILED), 0, set()),
    "nor for a pod that somebody deleted": (after(Cause.POD_DELETED), 0, set()),
    "it is avoided for a while": (after(Cause.NODE_LOST), retries.AVOID_SECONDS - 1, {"n1"}),
    "and then no longer": (after(Cause.NODE_LOST), retries.AVOID_SECONDS, set()),
    "a node that is only suspected for a shorter while": (
        after(Cause.PEER_LOST),
        retries.SUSPECT_SECONDS - 1,
        {"n1"},
    ),
    "and not by a job that found no other place": (
        after(Cause.PEER_LOST).status(decision={"reason": "NodesUnhealthy"}),
        1,
        set(),
    ),
    "by which it would be NotReady": (after(Cause.PEER_LOST), retries.SUSPECT_SECONDS, set()),
    "the user may do without": (after(Cause.NODE_LOST, avoidFailedNodes=False), 0, set()),
    "a node that a rule keeps the job away from, whatever else the user wants": (
        after(Cause.OUT_OF_MEMORY, rule=True, avoidFailedNodes=False),
        0,
        {"n1"},
    ),
    "a failure that names no node": (after(Cause.STARTUP_TIMEOUT, node=""), 0, set()),
}


@pytest.mark.parametrize(("job", "later", "want"), AVOIDED.values(), ids=AVOIDED)
def test_avoided_nodes(job: JobBuilder, later: float, want: set[str]) -> None:
    assert retries.avoided_nodes(job.view().status, job.parsed(), now_seconds=NOW + later) == want


def test_the_end_of_avoidance_is_announced() -> None:
    job = after(Cause.NODE_LOST)
    assert lifecycle.deadlines(job.view(), job.parsed(), []) == [NOW + retries.AVOID_SECONDS]


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


@pytest.mark.parametrize("case", TRANSITIONS.values(), ids=TRANSITIONS)
def test_what_the_clock_alone_changes_is_announced(case: Case) -> None:
    """A transition that comes by waiting is in ``deadlines`` of the moment before, or nobody would wake up for it."""
    pods = [pod.view() for pod in case.pods]

    def comes(at: float) -> bool:
        return advance(case.job, case.pods, at=at, heard=case.heard) is not None

    early = NOW + 1
    if case.lost or case.fault or comes(early) or case.want_phase is None:
        return
    first = next(at for at in range(int(early), int(case.at) + 1) if comes(at))
    assert first in lifecycle.deadlines(case.job.view(), case.job.parsed(), pods)


def test_current_pods_are_those_of_the_placed_attempt() -> None:
    job = a_job("a").placed_on("n1", attempt=2)
    pods: list[views.PodView] = [pod.view() for pod in attempts(1, 2, 3)]
    assert [pod.name for pod in lifecycle.current_pods(job.view(), pods).values()] == ["a-2-0"]
    assert lifecycle.current_pods(a_job("a").view(), pods) == {}
