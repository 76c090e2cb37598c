"""Of several things that went wrong at once, the cause behind the others is named and charged."""

from __future__ import annotations

from fakes.builders import NOW, PEER_LOST, a_pod
from stowplan_operator.failures import Cause
from unit.operator.gang import FIRST, PLACED, RUNNING, SECOND
from unit.operator.transitions.case import MIGRATE, RESTART, Case

CASES: dict[str, Case] = {
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
}
