"""What becomes of a gang whose pods are not created, not bound, or do not start in time."""

from __future__ import annotations

from fakes.builders import NOW, a_pod
from stowplan_operator.failures import BIND_TIMEOUT_SECONDS, CREATE_TIMEOUT_SECONDS, Cause
from unit.operator.gang import FIRST, PLACED, RUNNING, SECOND
from unit.operator.transitions.case import RESTART, Case

CASES: dict[str, Case] = {
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
}
