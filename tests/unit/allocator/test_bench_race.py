"""The gang race: its workload, its bound, and how it counts."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
from click.testing import CliRunner

import stowplan_allocator as sa
from stowplan_allocator.bench import race, workloads
from unit.allocator import worlds

FIXED_FIELDS = {"strategy", "gpus_in_whole_gangs_percent", "partial_gangs", "plan_seconds"}


@pytest.mark.parametrize("demand", [0.95, 1.3])
def test_a_race_asks_for_what_it_says_and_holds_every_kind_of_gang(demand: float) -> None:
    snapshot = workloads.race(num_nodes=400, demand=demand, seed=1)
    assert snapshot == workloads.race(num_nodes=400, demand=demand, seed=1)
    asked = sum(job.num_pods * job.pod.accelerators for job in snapshot.jobs)
    assert asked == round(400 * 8 * demand)
    assert {3, 5, 6} <= {job.pod.accelerators for job in snapshot.jobs}
    assert any(job.topology is not None for job in snapshot.jobs)
    assert len({node.product for node in snapshot.nodes}) == 2
    assert any(job.pod.cpu_milli > 12_000 * job.pod.accelerators for job in snapshot.jobs)
    assert any(job.pod.memory_mib > 112_500 * job.pod.accelerators for job in snapshot.jobs)


BOUNDS = {
    "accelerators bind": ([worlds.job("a", 3, 8)], 16.0),
    "less is asked than is there": ([worlds.job("a", 1, 4)], 4.0),
    "CPUs bind": ([worlds.job("a", 9, 1, cpu=48)], 4.0),
    "a product that is not there": ([worlds.job("a", 1, 4, products=["B200"])], 0.0),
}


@pytest.mark.parametrize(("jobs", "want_bound"), BOUNDS.values(), ids=BOUNDS)
def test_the_bound_is_that_of_one_large_node(jobs: list[sa.Job], want_bound: float) -> None:
    snapshot = worlds.snapshot([worlds.node("a"), worlds.node("b")], jobs)
    assert race.linear_bound(snapshot) == pytest.approx(want_bound)


def test_a_gang_with_a_pod_too_few_is_partial_and_does_not_count() -> None:
    snapshot = worlds.snapshot([worlds.node("a"), worlds.node("b")], [worlds.job("x", 2, 4), worlds.job("y", 1, 8)])
    made = sa.plan(snapshot)
    assert race.score(snapshot, made=made) == (16, 0)
    cut = dataclasses.replace(made.placements["x"], shares=(sa.NodeShare("a", 1),))
    assert race.score(snapshot, made=dataclasses.replace(made, placements={**made.placements, "x": cut})) == (8, 1)


def test_the_command_writes_figures_and_the_workload_for_others(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "race.json"
    done = CliRunner().invoke(
        race.command, ["--nodes", "16", "--demand", "0.9", "--strategies", "greedy", "--json", str(path)]
    )
    assert done.exit_code == 0, done.output
    [row] = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert row.keys() >= FIXED_FIELDS
    assert row["partial_gangs"] == 0
    assert 50 < row["gpus_in_whole_gangs_percent"] <= 100
    workload = json.loads((tmp_path / "race.workload.json").read_text(encoding="utf-8"))
    assert workload["schema"] == race.SCHEMA
    assert len(workload["nodes"]) == 16
    asked = sum(gang["pods"] * gang["accelerators_per_pod"] for gang in workload["gangs"])
    assert asked == round(16 * 8 * 0.9)
