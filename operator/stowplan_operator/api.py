"""The TrainingJob and Queue APIs as Python sees them: names, the specs' models, and the fixed words of statuses.

The CRDs validate and fill defaults first; these models only read what passed, and turn what CEL
cannot see into a ``ValueError`` whose text starts with the field's path. Status stays plain JSON
(see ``status.py``), because it is written, never interpreted, by anyone but us.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic.alias_generators import to_camel

GROUP = "stowplan.dev"
VERSION = "v1alpha1"
PLURAL = "trainingjobs"
KIND = "TrainingJob"
QUEUES = "queues"
QUEUE_KIND = "Queue"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "stowplan"
LABEL_JOB = f"{GROUP}/job"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_RANK = f"{GROUP}/rank"

CONTAINER_NAME = "trainer"
METRICS_PORT_NAME = "metrics"
METRICS_PORT = 9400
# Of a decision's numbers: the Queue that is to be corrected where that, and not the job, is misconfigured.
QUEUE_TO_MEND = "queue_to_mend"
RUN_DIR = "/var/run/stowplan"


class Phase(enum.StrEnum):
    """Where a TrainingJob is in its life; a summary of its conditions for people."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_terminal(self) -> bool:
        """Whether the job will never run again."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


def phase_of(status: Mapping[str, Any]) -> Phase:
    """The phase that a status states; Pending for a job that was never seen."""
    return Phase(status.get("phase") or Phase.PENDING)


class Outcome(enum.StrEnum):
    """How an attempt ended, as ``status.history`` says it."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    PREEMPTED = "Preempted"
    MIGRATED = "Migrated"
    RESIZED = "Resized"
    DEFRAGMENTED = "Defragmented"


# Stowplan stopped pods that did well: they get the time to write a checkpoint.
PLANNED_STOPS = frozenset(
    {Outcome.SUSPENDED, Outcome.PREEMPTED, Outcome.MIGRATED, Outcome.RESIZED, Outcome.DEFRAGMENTED}
)
# Of these, stops after which a job starts again at once, at another size or place.
RETURNING_STOPS = frozenset({Outcome.RESIZED, Outcome.DEFRAGMENTED})
# After these a job restarts, whereas after others it waits.
BEGINNING_AGAIN = RETURNING_STOPS | {Outcome.FAILED, Outcome.MIGRATED}


class Condition(enum.StrEnum):
    """Condition types of a TrainingJob."""

    ADMITTED = "Admitted"
    PODS_READY = "PodsReady"
    PROGRESSING = "Progressing"
    SUSPENDED = "Suspended"
    RESTARTING = "Restarting"
    PREEMPTED = "Preempted"
    TELEMETRY_STALE = "TelemetryStale"
    DEADLINE_AT_RISK = "DeadlineAtRisk"
    COMPLETE = "Complete"
    FAILED = "Failed"


class QueueCondition(enum.StrEnum):
    """Condition types of a Queue."""

    ACTIVE = "Active"


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", strict=False
    )


class Accelerator(_Model):
    """An acceptable accelerator product; ``relative_throughput`` is a decimal string, 1 for the best."""

    product: str
    relative_throughput: str = "1"


class Topology(_Model):
    """The level whose one domain should hold all pods, or each slice of ``slice_size`` pods."""

    level: str
    mode: Literal["Required", "Preferred"] = "Preferred"
    slice_size: int | None = None


class Elastic(_Model):
    """At which sizes the job may run, in pods; see ``elastic.sizes``."""

    min_nodes: int | None = None
    max_nodes: int | None = None
    allowed_nodes: list[int] = []


class Checkpoint(_Model):
    """Where checkpoints go, and how long a planned stop may take to write one (seconds)."""

    persistent_volume_claim: str | None = None
    path: str = "/checkpoints"
    grace_period_seconds: int = 60


class FailureAction(enum.StrEnum):
    """What a rule of the failure policy does."""

    RESTART = "Restart"
    RESTART_ELSEWHERE = "RestartElsewhere"
    FAIL_JOB = "FailJob"
    IGNORE = "Ignore"


class FailureRule(_Model):
    """What happens after failures of these reasons, exit codes (``3`` or ``"64-78"``) and signals."""

    action: FailureAction
    name: str | None = None
    reasons: list[str] = []
    exit_codes: list[int | str] = []
    signals: list[int] = []


class FailurePolicy(_Model):
    """How often a failed gang is started again, where, and after what not at all; the first rule that matches wins."""

    max_restarts: int = 10
    avoid_failed_nodes: bool = True
    rules: list[FailureRule] = []


class Preemption(_Model):
    """Whether, and after how many seconds of running, the job may have to give its place to one of higher priority."""

    preemptible: bool = True
    min_runtime_seconds: int = 0


class PodMetadata(_Model):
    """Labels and annotations that users add to pods."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(_Model):
    """The narrow, typed part of a pod that users may shape."""

    metadata: PodMetadata = PodMetadata()
    volumes: list[dict[str, Any]] = []
    volume_mounts: list[dict[str, Any]] = []
    security_context: dict[str, Any] = {}


class QueueQuota(_Model):
    """Accelerators of one product: what a queue owns, may borrow and lends at most (None: no limit)."""

    product: str
    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None


class QueueLimits(_Model):
    """What the jobs of a queue, and of all below it, may not exceed."""

    running_jobs: int | None = None
    accelerators_per_job: int | None = None
    run_seconds: int | None = None


class QueueSpec(_Model):
    """A team's part of the cluster. ``weight`` is a decimal string; ``*`` in ``namespaces`` admits all."""

    namespaces: list[str] = []
    parent: str | None = None
    weight: str = "1"
    quotas: list[QueueQuota] = []
    default_priority_class_name: str | None = None
    limits: QueueLimits = QueueLimits()
    preemption: list[Literal["ReclaimLent", "WithinQueue", "LeastAttained"]] = ["ReclaimLent", "WithinQueue"]


class TrainingJobSpec(_Model):
    """What the user asks for. Field names follow Kubeflow Trainer, JobSet and torchrun."""

    image: str
    image_pull_policy: str | None = None
    command: list[str] = []
    args: list[str] = []
    env: list[dict[str, Any]] = []
    num_nodes: int = 1
    num_proc_per_node: int | Literal["auto"] = "auto"
    resources_per_node: dict[str, str | int] = {}
    shared_memory: str | int | None = None
    accelerators: list[Accelerator] = []
    topology: Topology | None = None
    elastic: Elastic | None = None
    priority_class_name: str | None = None
    queue: str | None = None
    preemption: Preemption = Preemption()
    checkpoint: Checkpoint | None = None
    failure_policy: FailurePolicy = FailurePolicy()
    startup_timeout_seconds: int = 1800
    hang_timeout_seconds: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    deadline: pydantic.AwareDatetime | None = None
    suspend: bool = False
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    service_account_name: str | None = None
    image_pull_secrets: list[dict[str, str]] = []
    runtime_class_name: str | None = None
    pod_template: PodTemplate = PodTemplate()

    @property
    def grace_period_seconds(self) -> int:
        """Seconds that a planned stop gives the pods to write a checkpoint."""
        return self.checkpoint.grace_period_seconds if self.checkpoint else 30


def parse_spec(raw: dict[str, Any]) -> TrainingJobSpec:
    """Read a spec; a ValueError names the first wrong field as ``spec.<path>: <cause>``."""
    return _parse(TrainingJobSpec, raw)


def parse_queue_spec(raw: dict[str, Any]) -> QueueSpec:
    """Read a Queue's spec; errors as of ``parse_spec``."""
    return _parse(QueueSpec, raw)


def _parse[Spec: _Model](model: type[Spec], raw: dict[str, Any]) -> Spec:
    try:
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in ("spec", *first["loc"]))
        raise ValueError(f"{path}: {first['msg']}") from None
