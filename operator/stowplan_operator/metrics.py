"""The operator's own Prometheus metrics, on a registry of their own.

Names, labels and kinds are public: alerts and the dashboard use them, and a test freezes them. Methods say what
happened, callers never touch a metric. Ages are computed when scraped, so that a stuck operator shows
growing ones. Label sets of things that are gone disappear. Safe to call from any thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stowplan_allocator import standings, types
from stowplan_operator import api, views

# Series "<counter>_created" would double the number of counters' series, and nobody reads them.
prometheus_client.disable_created_metrics()

_SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class GpuCounts:
    """Accelerators of one product. What is neither allocated, free nor unhealthy sits on blocked nodes."""

    capacity: int = 0
    allocated: int = 0
    free: int = 0
    unhealthy: int = 0

    def by_state(self) -> dict[str, int]:
        """The counts by the value of label ``state``."""
        return {
            "capacity": self.capacity,
            "allocated": self.allocated,
            "free": self.free,
            "unhealthy": self.unhealthy,
        }


class Metrics:
    """Everything that the operator says about itself at ``/metrics``."""

    def __init__(self, *, version: str, clock: Callable[[], float] = time.time) -> None:
        self.registry = registry = CollectorRegistry()
        self._clock = clock
        self._started_at = clock()
        self._telemetry = views.Telemetry()
        prometheus_client.ProcessCollector(registry=registry)
        self._cycle_seconds = Histogram(
            "stowplan_planner_cycle_seconds",
            "Wall time of a planner cycle, from snapshot to the last write.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._last_success = Gauge(
            "stowplan_planner_last_success_timestamp_seconds",
            "Unix time at which a planner cycle last ended without error; 0 before the first.",
            registry=registry,
        )
        self._gap_ratio = Gauge(
            "stowplan_solver_gap_ratio",
            "Relative gap between the last plan and the proven bound; 0 is optimal.",
            registry=registry,
        )
        self._solver_seconds = Histogram(
            "stowplan_solver_seconds",
            "Wall time of one plan.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._jobs = Gauge("stowplan_jobs", "TrainingJobs by phase.", ["phase"], registry=registry)
        self._jobs_waiting = Gauge(
            "stowplan_jobs_waiting", "TrainingJobs without a placement, by reason.", ["reason"], registry=registry
        )
        self._gpus = Gauge(
            "stowplan_gpus", "Accelerators by product and state.", ["product", "state"], registry=registry
        )
        self._queue_gpus = Gauge(
            "stowplan_queue_gpus",
            "Accelerators of a queue and all below it, by product and state.",
            ["queue", "product", "state"],
            registry=registry,
        )
        self._queue_jobs = Gauge(
            "stowplan_queue_jobs", "Jobs of a queue and all below it, by state.", ["queue", "state"], registry=registry
        )
        self._watch_age = Gauge(
            "stowplan_watch_age_seconds",
            "Seconds since the last watch event of a resource; quiet clusters have old ones.",
            ["resource"],
            registry=registry,
        )
        self._leader = Gauge(
            "stowplan_leader", "1 while this process holds the Lease and plans, else 0.", registry=registry
        )
        self._api_writes = Counter(
            "stowplan_api_writes_total", "Writes sent to the API server.", ["verb", "resource"], registry=registry
        )
        self._telemetry_age = Gauge(
            "stowplan_telemetry_age_seconds",
            "Seconds since GPUs were last read from Prometheus; NaN while telemetry is off.",
            registry=registry,
        )
        self._settings_errors = Counter(
            "stowplan_settings_errors_total", "Settings that were refused; the old ones stayed.", registry=registry
        )
        self._gang_restarts = Counter(
            "stowplan_gang_restarts_total", "Gangs started again, by cause.", ["cause"], registry=registry
        )
        self._preemptions = Counter(
            "stowplan_preemptions_total",
            "Running jobs that gave their place to one of higher priority, or whose queue took back what it lent.",
            registry=registry,
        )
        self._resizes = Counter(
            "stowplan_resizes_total", "Running elastic jobs that were restarted at another size.", registry=registry
        )
        self._moves = Counter(
            "stowplan_moves_total",
            "Running jobs that were moved elsewhere so that another one fits.",
            registry=registry,
        )
        self._node_history_bytes = Gauge(
            "stowplan_node_history_bytes", "Size of the node history as last written; 0 before.", registry=registry
        )
        self._node_history_errors = Counter(
            "stowplan_node_history_errors_total",
            "Reads and writes of the node history that failed; XIDs restart no gang until it is written.",
            registry=registry,
        )
        self._xids = Counter(
            "stowplan_xids_total",
            "XID changes seen, by code and what was asked for.",
            ["xid", "action"],
            registry=registry,
        )
        self._sick_nodes = Gauge(
            "stowplan_sick_nodes",
            "GPU nodes that telemetry or their devices speak against: excluded, or spared because they are too many.",
            ["state"],
            registry=registry,
        )
        self._build_info = Gauge("stowplan_build_info", "Always 1; the version.", ["version"], registry=registry)
        self._build_info.labels(version).set(1)
        self._telemetry_age.set_function(self._telemetry_age_seconds)
        self._watched: dict[str, float] = {}
        self.set_jobs({}, {})

    def record_cycle(self, seconds: float, *, succeeded: bool = True) -> None:
        """A planner cycle ended."""
        self._cycle_seconds.observe(seconds)
        if succeeded:
            self._last_success.set(self._clock())

    def record_plan(self, certificate: types.Certificate) -> None:
        """A plan was made; one with nothing to decide says nothing of the solver's pace."""
        self._gap_ratio.set(certificate.gap)
        if certificate.status is not types.SolveStatus.NOTHING_TO_DO:
            self._solver_seconds.observe(certificate.seconds)

    def set_jobs(self, phases: Mapping[str, int], waiting: Mapping[str, int]) -> None:
        """How many jobs there are by phase (all phases are shown) and, of those that wait, by reason."""
        _replace(self._jobs, {(phase.value,): phases.get(phase.value, 0) for phase in api.Phase})
        _replace(self._jobs_waiting, {(reason,): number for reason, number in waiting.items()})

    def set_gpus(self, products: Mapping[str, GpuCounts]) -> None:
        """How many accelerators there are by product."""
        _replace(
            self._gpus,
            {(name, state): number for name, one in products.items() for state, number in one.by_state().items()},
        )

    def set_queues(self, queues: Mapping[str, standings.Standing]) -> None:
        """How the queues stand, by name; there are as many label sets as administrators made queues and quotas."""
        gpus: dict[tuple[str, ...], float] = {}
        jobs: dict[tuple[str, ...], float] = {}
        for name, one in queues.items():
            jobs |= {(name, "running"): one.running, (name, "waiting"): one.waiting}
            for line in one.lines:
                for state in ("owned", "used", "pending", "borrowed", "lent"):
                    gpus[name, line.product, state] = getattr(line, state)
        _replace(self._queue_gpus, gpus)
        _replace(self._queue_jobs, jobs)

    def note_watch_event(self, resource: str) -> None:
        """Something of this resource (``pods``, ``nodes`` …) was heard from the API server."""
        is_new = resource not in self._watched
        self._watched[resource] = self._clock()
        if is_new:
            self._watch_age.labels(resource).set_function(lambda: self._clock() - self._watched[resource])

    def set_leader(self, is_leader: bool) -> None:
        """Whether this process plans. One that does not shows no jobs and GPUs: its numbers would be old."""
        self._leader.set(int(is_leader))
        if not is_leader:
            self.set_jobs({}, {})
            self.set_gpus({})
            _replace(self._sick_nodes, {})

    def count_api_write(self, verb: str, resource: str) -> None:
        """A write was sent: ``create``, ``patch`` or ``delete`` of ``pods``, ``trainingjobs/status`` …"""
        self._api_writes.labels(verb, resource).inc()

    def set_telemetry(self, telemetry: views.Telemetry) -> None:
        """The current telemetry, whose age is shown."""
        self._telemetry = telemetry

    def count_settings_error(self) -> None:
        """A settings file was refused."""
        self._settings_errors.inc()

    def count_gang_restart(self, cause: str) -> None:
        """A gang is started again; ``cause`` is a word of a fixed list, never free text."""
        self._gang_restarts.labels(cause).inc()

    def count_stop(self, outcome: str) -> None:
        """The plan stopped a running job that did well; ``outcome`` is how its attempt ended."""
        stops = {"Preempted": self._preemptions, "Resized": self._resizes, "Defragmented": self._moves}
        stops[outcome].inc()

    def set_node_history_bytes(self, size: int) -> None:
        """The node history was written."""
        self._node_history_bytes.set(size)

    def count_node_history_error(self) -> None:
        """The node history could not be read or written."""
        self._node_history_errors.inc()

    def set_sick_nodes(self, *, excluded: int, spared: int) -> None:
        """How many nodes look sick; ``spared`` ones are used all the same, since too many do."""
        _replace(self._sick_nodes, {("excluded",): excluded, ("spared",): spared})

    def count_xid(self, code: int, action: str) -> None:
        """A GPU began to report this code."""
        self._xids.labels(str(code), action).inc()

    def _telemetry_age_seconds(self) -> float:
        telemetry = self._telemetry
        if not telemetry.configured:
            return math.nan
        return self._clock() - (telemetry.read_at or self._started_at)


def _replace(gauge: Gauge, rows: Mapping[tuple[str, ...], float]) -> None:
    """Make ``rows`` the gauge's only label sets."""
    for labels, value in rows.items():
        gauge.labels(*labels).set(value)
    for labels in _label_sets(gauge):
        if labels not in rows:
            gauge.remove(*labels)


def _label_sets(gauge: Gauge) -> list[tuple[str, ...]]:
    return [tuple(sample.labels.values()) for family in gauge.collect() for sample in family.samples]
