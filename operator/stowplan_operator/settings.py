"""Settings: one YAML file (the chart's ConfigMap), re-read on change; a bad one keeps the old.

Where the file says nothing the defaults here hold. ``STOWPLAN_SETTINGS`` names the file;
``STOWPLAN_PROMETHEUS_URL`` and ``STOWPLAN_NAMESPACES`` override it.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
import yaml
from pydantic.alias_generators import to_camel

from stowplan_allocator import types
from stowplan_operator import xids

DEFAULT_PATH = pathlib.Path("/etc/stowplan/settings.yaml")

# Keys of taints by which others announce that they are about to take a node away.
DRAIN_TAINTS = (
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "aws-node-termination-handler/spot-itn",
    "aws-node-termination-handler/scheduled-maintenance",
    "aws-node-termination-handler/asg-lifecycle-termination",
    "cloud.google.com/impending-node-termination",
)


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class TopologyLevel(_Model):
    """A level of the topology tree: its name in TrainingJobs and the node label that names the domain."""

    name: str = pydantic.Field(pattern=r"^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$")
    label: str = pydantic.Field(min_length=1)


class PrometheusSettings(_Model):
    """Where DCGM metrics are read; an empty url turns telemetry off."""

    url: str = ""
    interval_seconds: float = pydantic.Field(default=15, gt=0)
    stale_after_seconds: float = pydantic.Field(default=120, gt=0)
    timeout_seconds: float = pydantic.Field(default=5, gt=0)
    max_bytes: int = pydantic.Field(default=32 * 1024 * 1024, gt=0)


class PlannerSettings(_Model):
    """Pace and solver of the planner.

    The first job of each line that waits longer than ``reserve_after_seconds`` gets room kept for it; with 0 none does.
    """

    debounce_seconds: float = pydantic.Field(default=0.2, ge=0)
    resync_seconds: float = pydantic.Field(default=30, gt=0)
    time_limit_seconds: float = pydantic.Field(default=10, gt=0)
    late_tiers_seconds: float = pydantic.Field(default=2, ge=0)
    gap_tolerance: float = pydantic.Field(default=1e-4, ge=0, lt=1)
    solver: str = pydantic.Field(default="HiGHS", min_length=1)
    strategy: types.Strategy = types.Strategy.EXACT
    seed: int = pydantic.Field(default=0, ge=0)
    order: types.QueueOrder = types.QueueOrder.AGE
    reserve_after_seconds: int = pydantic.Field(default=600, ge=0)

    @pydantic.model_validator(mode="after")
    def _late_tiers_are_a_part(self) -> PlannerSettings:
        if "late_tiers_seconds" in self.model_fields_set and self.late_tiers_seconds > self.time_limit_seconds:
            raise ValueError(
                f"lateTiersSeconds {self.late_tiers_seconds:g} is a part of timeLimitSeconds "
                f"{self.time_limit_seconds:g}: lower it, or raise timeLimitSeconds"
            )
        return self


class ProgressSettings(_Model):
    """How training progress is read from rank 0: straight from the pod, or through the API server's proxy."""

    interval_seconds: float = pydantic.Field(default=10, gt=0)
    via: Literal["auto", "direct", "proxy"] = "auto"
    timeout_seconds: float = pydantic.Field(default=3, gt=0)


class HealthSettings(_Model):
    """When a node counts as lost or leaving, what XID codes ask for where it is not what the table says.

    ``breaker_fraction`` is the share of GPU nodes that may be excluded for what telemetry says of them.
    """

    xid_actions: dict[int, xids.Action] = {}
    node_lost_after_seconds: float = pydantic.Field(default=25, gt=0)
    drain_taints: tuple[str, ...] = DRAIN_TAINTS
    breaker_fraction: float = pydantic.Field(default=0.2, ge=0, le=1)


class PreemptionSettings(_Model):
    """Whether waiting jobs take the place of running ones of lower priority, and of equal ones, and what bounds that.

    A job is preempted at most ``max_per_hour`` times. One that reports no checkpoints counts as losing the work of at
    most ``unreported_loss_seconds`` when victims are compared.
    """

    policy: Literal["Never", "LowerPriority", "LeastAttained"] = "LowerPriority"
    max_per_hour: int = pydantic.Field(default=3, ge=1, le=24)
    unreported_loss_seconds: float = pydantic.Field(default=1800, ge=0)


class ElasticSettings(_Model):
    """Whether running elastic jobs are restarted at another size, and how often within an hour each of them may be.

    What that gains and loses is counted over ``horizon_seconds``.
    """

    resize: bool = True
    horizon_seconds: int = pydantic.Field(default=3600, ge=60, le=86400)
    max_per_hour: int = pydantic.Field(default=4, ge=1, le=24)


class DefragmentationSettings(_Model):
    """Whether running jobs are moved elsewhere so that a waiting one fits for which room is only scattered.

    ``OnRequest``: where the job is annotated with ``stowplan.dev/make-room``; ``WhenWaiting``: also where it waits for
    longer than ``wait_seconds``. All moves of any hour lose at most ``budget_gpu_seconds_per_hour``.
    """

    policy: Literal["Never", "OnRequest", "WhenWaiting"] = "OnRequest"
    budget_gpu_seconds_per_hour: int = pydantic.Field(default=36000, ge=0)
    wait_seconds: float = pydantic.Field(default=600, ge=0)


class RecoverySettings(_Model):
    """How often a job starts again after faults that are not its own."""

    max_infrastructure_restarts: int = pydantic.Field(default=50, ge=0)


class AnswersSettings(_Model):
    """How often, and for how long each time, it is looked for when waiting jobs start, and what would start them.

    A job that came since the last batch waits until ``gather_seconds`` after it for the next, so that many share it.
    """

    interval_seconds: float = pydantic.Field(default=60, gt=0)
    gather_seconds: float = pydantic.Field(default=10, ge=0)
    budget_seconds: float = pydantic.Field(default=10, gt=0, le=300)


class LeaseSettings(_Model):
    """Leader election."""

    name: str = "stowplan-operator"
    namespace: str = ""
    duration_seconds: int = pydantic.Field(default=15, ge=5)


class Settings(_Model):
    """All settings of the operator. An empty ``namespaces`` means every namespace."""

    namespaces: tuple[str, ...] = ()
    topology_levels: tuple[TopologyLevel, ...] = (
        TopologyLevel(name="zone", label="topology.kubernetes.io/zone"),
        TopologyLevel(name="rack", label="topology.stowplan.dev/rack"),
    )
    accelerator_resource: str = "nvidia.com/gpu"
    product_label: str = "nvidia.com/gpu.product"
    prometheus: PrometheusSettings = PrometheusSettings()
    planner: PlannerSettings = PlannerSettings()
    preemption: PreemptionSettings = PreemptionSettings()
    elastic: ElasticSettings = ElasticSettings()
    defragmentation: DefragmentationSettings = DefragmentationSettings()
    answers: AnswersSettings = AnswersSettings()
    progress: ProgressSettings = ProgressSettings()
    health: HealthSettings = HealthSettings()
    recovery: RecoverySettings = RecoverySettings()
    lease: LeaseSettings = LeaseSettings()
    leader_election: bool = True
    network_policy: bool = True
    priority_class_name: str = "stowplan-gang"
    metrics_port: int = pydantic.Field(default=8080, ge=0, le=65535)
    health_port: int = pydantic.Field(default=8081, ge=0, le=65535)
    answers_port: int = pydantic.Field(default=8082, ge=0, le=65535)

    @pydantic.model_validator(mode="after")
    def _equals_stand_in_order(self) -> Settings:
        if self.preemption.policy == "LeastAttained" and self.planner.order is not types.QueueOrder.LEAST_ATTAINED:
            raise ValueError(
                "preemption.policy LeastAttained takes places by what jobs have had: set planner.order to "
                "least-attained, too"
            )
        return self

    @pydantic.field_validator("topology_levels")
    @classmethod
    def _levels_are_distinct(cls, levels: tuple[TopologyLevel, ...]) -> tuple[TopologyLevel, ...]:
        names = [level.name for level in levels]
        if "node" in names:
            raise ValueError("'node' is the implicit last level; remove it from the list")
        if len(set(names)) != len(names):
            raise ValueError("two levels have the same name; give each its own")
        return levels

    def for_allocator(self) -> types.Settings:
        """What of this is the allocator's."""
        return types.Settings(
            strategy=self.planner.strategy,
            solver=self.planner.solver,
            time_limit_seconds=self.planner.time_limit_seconds,
            late_tiers_seconds=self.planner.late_tiers_seconds,
            gap_tolerance=self.planner.gap_tolerance,
            seed=self.planner.seed,
            order=self.planner.order,
            preemption=types.Preemption(self.preemption.policy),
            resize=self.elastic.resize,
            resize_horizon_seconds=self.elastic.horizon_seconds,
        )

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the topology levels, widest first, without ``node``."""
        return tuple(level.name for level in self.topology_levels)


def parse(raw: Mapping[str, Any]) -> Settings:
    """Check settings; a ValueError names the first wrong one, what is wrong with it, and its path."""
    try:
        return Settings.model_validate(dict(raw))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "(settings)"
        raise ValueError(f"settings: {path}: {first['msg']}") from None


def settings_path(environ: Mapping[str, str] = os.environ) -> pathlib.Path:
    """The settings file: ``STOWPLAN_SETTINGS`` or the place where the chart mounts it."""
    return pathlib.Path(environ.get("STOWPLAN_SETTINGS", str(DEFAULT_PATH)))


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings file, if there is one, then overlay ``STOWPLAN_PROMETHEUS_URL`` and its like."""
    path = settings_path(environ)
    raw: dict[str, Any] = {}
    if path.exists():
        try:
            raw = yaml.safe_load(path.read_text()) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"settings: {path} is not YAML: {error}") from None
        if not isinstance(raw, dict):
            raise ValueError(f"settings: {path} must hold a mapping of settings, not a {type(raw).__name__}")
    elif "STOWPLAN_SETTINGS" in environ:
        raise ValueError(f"settings: STOWPLAN_SETTINGS names {path}, which does not exist")
    if url := environ.get("STOWPLAN_PROMETHEUS_URL"):
        raw = {**raw, "prometheus": {**(raw.get("prometheus") or {}), "url": url}}
    if namespaces := environ.get("STOWPLAN_NAMESPACES"):
        raw = {**raw, "namespaces": [name.strip() for name in namespaces.split(",") if name.strip()]}
    return parse(raw)
