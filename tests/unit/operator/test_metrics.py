"""The public surface of the operator's metrics, and what its methods leave there."""

from __future__ import annotations

import math

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stowplan_allocator.standings import Line, Standing
from stowplan_allocator.types import Certificate, SolveStatus
from stowplan_operator import api
from stowplan_operator.metrics import GpuCounts, Metrics
from stowplan_operator.views import Telemetry

# Alerts, the dashboard and people's queries use these: changing one is a breaking change.
SURFACE = {
    "stowplan_planner_cycle_seconds": ("histogram", ()),
    "stowplan_planner_last_success_timestamp_seconds": ("gauge", ()),
    "stowplan_solver_gap_ratio": ("gauge", ()),
    "stowplan_solver_seconds": ("histogram", ()),
    "stowplan_jobs": ("gauge", ("phase",)),
    "stowplan_jobs_waiting": ("gauge", ("reason",)),
    "stowplan_gpus": ("gauge", ("product", "state")),
    "stowplan_queue_gpus": ("gauge", ("product", "queue", "state")),
    "stowplan_queue_jobs": ("gauge", ("queue", "state")),
    "stowplan_watch_age_seconds": ("gauge", ("resource",)),
    "stowplan_leader": ("gauge", ()),
    "stowplan_api_writes_total": ("counter", ("resource", "verb")),
    "stowplan_telemetry_age_seconds": ("gauge", ()),
    "stowplan_settings_errors_total": ("counter", ()),
    "stowplan_gang_restarts_total": ("counter", ("cause",)),
    "stowplan_preemptions_total": ("counter", ()),
    "stowplan_resizes_total": ("counter", ()),
    "stowplan_moves_total": ("counter", ()),
    "stowplan_node_history_bytes": ("gauge", ()),
    "stowplan_node_history_errors_total": ("counter", ()),
    "stowplan_xids_total": ("counter", ("action", "xid")),
    "stowplan_sick_nodes": ("gauge", ("state",)),
    "stowplan_build_info": ("gauge", ("version",)),
}


A_STANDING = Standing(
    queue="a",
    lines=(Line(product="H100", nominal=8, owned=12, used=10, pending=4, borrowed=1, lent=2),),
    running=3,
    waiting=1,
    pending=4,
    share=0.5,
    ideal=0.6,
)


class Rig:
    def __init__(self) -> None:
        self.now = 1000.0
        self.metrics = Metrics(version="1.2.3", clock=lambda: self.now)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def use_everything(metrics: Metrics) -> None:
    metrics.record_cycle(0.2)
    metrics.record_plan(Certificate(status=SolveStatus.OPTIMAL, strategy="exact", seconds=0.1))
    metrics.set_jobs({"Running": 2}, {"Fragmented": 1})
    metrics.set_gpus({"H100": GpuCounts(capacity=8, allocated=4, free=3, unhealthy=1)})
    metrics.set_queues({"a": A_STANDING})
    metrics.note_watch_event("pods")
    metrics.set_leader(True)
    metrics.count_api_write("create", "pods")
    metrics.count_settings_error()
    metrics.set_node_history_bytes(120)
    metrics.count_node_history_error()
    metrics.count_xid(79, "RestartNode")
    metrics.set_sick_nodes(excluded=2, spared=1)
    metrics.count_gang_restart("NodeLost")
    metrics.count_stop("Preempted")
    metrics.count_stop("Resized")
    metrics.count_stop("Defragmented")


def test_names_kinds_and_labels_are_frozen(rig: Rig) -> None:
    use_everything(rig.metrics)
    found = {}
    for family in text_string_to_metric_families(generate_latest(rig.metrics.registry).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if name.startswith("stowplan"):
            found[name] = (family.type, tuple(sorted(labels)))
    assert found == SURFACE


def test_the_process_s_memory_is_shown(rig: Rig) -> None:
    assert (rig.value("process_resident_memory_bytes") or 0) > 0


def test_a_failed_cycle_is_timed_but_no_success(rig: Rig) -> None:
    rig.metrics.record_cycle(0.2)
    rig.now = 2000.0
    rig.metrics.record_cycle(3, succeeded=False)
    assert rig.value("stowplan_planner_last_success_timestamp_seconds") == 1000
    assert rig.value("stowplan_planner_cycle_seconds_count") == 2


def test_a_plan_with_nothing_to_do_does_not_count_as_a_fast_solve(rig: Rig) -> None:
    rig.metrics.record_plan(Certificate(status=SolveStatus.FEASIBLE, strategy="exact", gap=0.25, seconds=4))
    assert rig.value("stowplan_solver_gap_ratio") == 0.25
    rig.metrics.record_plan(Certificate(status=SolveStatus.NOTHING_TO_DO, strategy="exact"))
    assert rig.value("stowplan_solver_gap_ratio") == 0
    assert rig.value("stowplan_solver_seconds_count") == 1


def test_all_phases_are_shown_from_the_start(rig: Rig) -> None:
    assert {phase: rig.value("stowplan_jobs", phase=phase) for phase in api.Phase} == dict.fromkeys(api.Phase, 0)


def test_reasons_and_products_that_are_gone_disappear(rig: Rig) -> None:
    rig.metrics.set_jobs({"Pending": 3}, {"Fragmented": 1, "QueuedBehind": 2})
    rig.metrics.set_gpus({"H100": GpuCounts(capacity=8, free=8), "A100": GpuCounts(capacity=4)})
    rig.metrics.set_jobs({"Pending": 1}, {"QueuedBehind": 1})
    rig.metrics.set_gpus({"H100": GpuCounts(capacity=8, allocated=8)})
    assert rig.value("stowplan_jobs", phase="Pending") == 1
    assert rig.value("stowplan_jobs_waiting", reason="Fragmented") is None
    assert rig.value("stowplan_jobs_waiting", reason="QueuedBehind") == 1
    assert rig.value("stowplan_gpus", product="A100", state="capacity") is None
    assert [rig.value("stowplan_gpus", product="H100", state=s) for s in ("capacity", "allocated", "free")] == [8, 8, 0]


def test_ages_grow_between_scrapes_without_anyone_s_help(rig: Rig) -> None:
    rig.metrics.note_watch_event("pods")
    rig.metrics.set_telemetry(Telemetry(configured=True, read_at=990))
    rig.now += 5
    assert rig.value("stowplan_watch_age_seconds", resource="pods") == 5
    assert rig.value("stowplan_telemetry_age_seconds") == 15
    rig.metrics.note_watch_event("pods")
    assert rig.value("stowplan_watch_age_seconds", resource="pods") == 0


def test_telemetry_that_never_came_ages_from_the_start_and_none_is_nan(rig: Rig) -> None:
    assert math.isnan(rig.value("stowplan_telemetry_age_seconds") or 0)
    rig.metrics.set_telemetry(Telemetry(configured=True, error="away"))
    rig.now += 60
    assert rig.value("stowplan_telemetry_age_seconds") == 60


def test_a_process_that_lost_the_lease_shows_no_old_numbers(rig: Rig) -> None:
    use_everything(rig.metrics)
    rig.metrics.set_leader(False)
    assert rig.value("stowplan_leader") == 0
    assert rig.value("stowplan_jobs", phase="Running") == 0
    assert rig.value("stowplan_jobs_waiting", reason="Fragmented") is None
    assert rig.value("stowplan_gpus", product="H100", state="capacity") is None
    assert rig.value("stowplan_sick_nodes", state="spared") is None


def test_two_operators_in_one_process_do_not_share_metrics(rig: Rig) -> None:
    other = Rig()
    rig.metrics.set_leader(True)
    assert (rig.value("stowplan_leader"), other.value("stowplan_leader")) == (1, 0)
