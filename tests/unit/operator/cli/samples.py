"""TrainingJobs as the operator leaves them in the API server, one per state that a user can meet."""

import copy
import datetime
from typing import Any

from stowplan_operator import api

NOW = datetime.datetime(2026, 7, 1, 12, 0, 0, tzinfo=datetime.UTC).timestamp()
H100 = "NVIDIA-H100-80GB-HBM3"


def ago(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(NOW - seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str, reason: str, message: str = "", *, since: float = 180) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": ago(since),
        "observedGeneration": 1,
    }


CERTIFICATE = {"status": "Optimal", "gap": "0%", "bound": "12", "seconds": "0.021", "strategy": "exact"}
PLACEMENT = {
    "attempt": 1,
    "product": H100,
    "domains": ["z1/r1", "z1/r2"],
    "nodes": [{"name": "stowplan-worker", "ranks": "0"}, {"name": "stowplan-worker2", "ranks": "1"}],
    "plannedAt": ago(200),
    "startedAt": ago(185),
}
PROGRESS = {
    "step": 420,
    "totalSteps": 1000,
    "percent": "42%",
    "loss": "0.1234",
    "samplesPerSecond": "812.5",
    "checkpointStep": 400,
    "checkpointTime": ago(12),
    "lastReportTime": ago(4),
}
LAST_FAILURE = {
    "attempt": 1,
    "rank": 1,
    "pod": "digits-1-1",
    "node": "stowplan-worker2",
    "reason": "OOMKilled",
    "exitCode": 137,
    "signal": 9,
    "step": 400,
    "message": "rank 1 on stowplan-worker2 was killed for exceeding its memory limit",
    "logTail": "step 399 loss 0.13\nstep 400 loss 0.12\nKilled\n",
    "time": ago(90),
}
HISTORY = [
    {
        "attempt": 1,
        "startTime": ago(600),
        "endTime": ago(90),
        "outcome": "Failed",
        "reason": "OOMKilled",
        "nodes": 2,
        "gpuSeconds": 2040,
        "rank": 1,
        "node": "stowplan-worker2",
        "exitCode": 137,
        "signal": 9,
        "message": "rank 1 on stowplan-worker2 was killed for exceeding its memory limit",
        "firstStep": 200,
        "lastStep": 400,
    }
]


def job(
    name: str = "digits", *, status: dict[str, Any] | None = None, created: float = 205, **spec: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": ago(created),
        },
        "spec": {
            "image": "docker.io/stowplan/trainer:dev",
            "command": ["torchrun", "-m", "stowplan_trainer.digits"],
            "numNodes": 2,
            "resourcesPerNode": {"nvidia.com/gpu": 2, "cpu": "4", "memory": "8Gi"},
            "accelerators": [{"product": H100}],
            "topology": {"level": "rack", "mode": "Required"},
            "checkpoint": {"path": "/ckpt", "gracePeriodSeconds": 60},
            "failurePolicy": {"maxRestarts": 10},
            **spec,
        },
    }
    if status is not None:
        body["status"] = {"observedGeneration": 1, "gpus": 4, "restarts": 0, **copy.deepcopy(status)}
    return body


def named(name: str, body: dict[str, Any], *, namespace: str = "default") -> dict[str, Any]:
    return {**body, "metadata": {**body["metadata"], "name": name, "namespace": namespace, "uid": f"uid-{name}"}}


def unseen(created: float = 3) -> dict[str, Any]:
    return job(created=created)


def pending(reason: str, message: str = "needs 2 pods x 2 accelerators; 3 are free") -> dict[str, Any]:
    return job(
        status={
            "phase": "Pending",
            "reason": reason,
            "message": message,
            "ready": "0/2",
            "decision": {
                "reason": reason,
                "message": message,
                "numbers": {"accelerators_needed": "4", "accelerators_free": "3", "NVIDIA-H100-80GB-HBM3": "3"},
                "certificate": CERTIFICATE,
                "since": ago(192),
                "lastUpdated": ago(12),
            },
            "conditions": [condition("Admitted", "False", reason, message, since=204)],
        }
    )


def outlook() -> dict[str, Any]:
    """A waiting job with the answers that are found beside the plan."""
    body = pending("WaitingForCapacity")
    body["status"] |= {
        "eta": "starts in about 2h (reserved)",
        "estimate": {"basis": "history of 3 runs", "runSeconds": 3600},
    }
    body["status"]["decision"] |= {
        "position": 2,
        "predictedStart": ago(-7200),
        "predictedStartBasis": (
            "starts once team/x has ended, if that is when it is expected; room is kept for it on n1, n2"
        ),
        "reserved": True,
        "alternatives": [
            {"kind": "FewerPods", "message": "ask for 1 pod instead of 2"},
            {"kind": "JobEnded", "message": "end team/x"},
        ],
    }
    return body


def _placed(phase: str, reason: str, message: str, **status: Any) -> dict[str, Any]:
    return {
        "phase": phase,
        "reason": reason,
        "message": message,
        "attempt": 1,
        "placement": PLACEMENT,
        "decision": {
            "reason": "Placed",
            "message": "placed on 2 nodes of the best product",
            "certificate": CERTIFICATE,
            "since": ago(200),
            "lastUpdated": ago(200),
        },
        **status,
    }


def starting() -> dict[str, Any]:
    return job(
        status=_placed(
            "Starting",
            "ImagePullBackOff",
            "rank 1 on stowplan-worker2: cannot pull the image",
            ready="1/2",
            readyNodes=1,
        )
    )


def running(**status: Any) -> dict[str, Any]:
    conditions = [
        condition("Admitted", "True", "Placed", "2 pods on 2 nodes", since=200),
        condition("PodsReady", "True", "AllPodsRunning", "2/2 run", since=185),
        condition("TelemetryStale", "True", "PrometheusNotAnswering", "last reading 5m ago", since=60),
    ]
    full = {
        "ready": "2/2",
        "readyNodes": 2,
        "progress": PROGRESS,
        "eta": "about 4m",
        "startTime": ago(185),
        "conditions": conditions,
        **status,
    }
    return job(status=_placed("Running", "AllPodsRunning", "", **full))


def restarting() -> dict[str, Any]:
    body = pending("NodesUnhealthy", "1 of 2 nodes with the product is NotReady")
    body["status"].update(
        phase="Restarting",
        attempt=1,
        restarts=1,
        lastFailure=copy.deepcopy(LAST_FAILURE),
        history=copy.deepcopy(HISTORY),
    )
    return body


def suspended() -> dict[str, Any]:
    return job(
        suspend=True,
        status={
            "phase": "Suspended",
            "reason": "Suspended",
            "message": "spec.suspend is true",
            "attempt": 1,
            "conditions": [condition("Suspended", "True", "Suspended", "spec.suspend is true", since=300)],
        },
    )


def succeeded() -> dict[str, Any]:
    done = {**PROGRESS, "step": 1000, "percent": "100%", "accuracy": "0.981", "loss": "0.0412"}
    status = _placed("Succeeded", "Completed", "all pods exited 0", progress=done, ready="0/2", gpuSeconds=7200)
    return job(status={**status, "startTime": ago(2000), "completionTime": ago(130)}, created=2100)


def failed() -> dict[str, Any]:
    return job(
        created=700,
        status={
            "phase": "Failed",
            "reason": "OOMKilled",
            "message": "rank 1 on stowplan-worker2 was killed for exceeding its memory limit",
            "placement": PLACEMENT,
            "attempt": 1,
            "restarts": 0,
            "gpuSeconds": 2040,
            "lastFailure": LAST_FAILURE,
            "history": HISTORY,
            "completionTime": ago(85),
            "conditions": [condition("Failed", "True", "OOMKilled", "rank 1 failed", since=85)],
        },
    )


def event(
    body: dict[str, Any], reason: str, message: str, *, seconds: float, kind: str = "Normal", count: int = 1
) -> Any:
    return {
        "metadata": {"name": f"{reason}.{seconds}", "namespace": "default"},
        "involvedObject": {"uid": body["metadata"]["uid"]},
        "type": kind,
        "reason": reason,
        "message": message,
        "count": count,
        "lastTimestamp": ago(seconds),
    }


def pod(attempt: int, rank: int, *, state: str = "running", job_name: str = "digits") -> dict[str, Any]:
    details = {
        "running": {"running": {"startedAt": ago(100)}},
        "terminated": {"terminated": {"exitCode": 0}},
        "waiting": {"waiting": {"reason": "ContainerCreating"}},
    }[state]
    return {
        "metadata": {
            "name": f"{job_name}-{attempt}-{rank}",
            "namespace": "default",
            "labels": {
                api.LABEL_JOB: job_name,
                api.LABEL_ATTEMPT: str(attempt),
                api.LABEL_RANK: str(rank),
            },
        },
        "status": {
            "phase": {"running": "Running", "terminated": "Succeeded", "waiting": "Pending"}[state],
            "containerStatuses": [{"name": api.CONTAINER_NAME, "state": details}],
        },
    }


EVERY_STATE = {
    "unseen": unseen(),
    "pending": pending("WaitingForCapacity"),
    "starting": starting(),
    "running": running(),
    "restarting": restarting(),
    "suspended": suspended(),
    "succeeded": succeeded(),
    "failed": failed(),
}
