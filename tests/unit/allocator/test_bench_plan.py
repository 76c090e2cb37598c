"""The benchmark of plan(): its workloads are what they say, and its rows have the fields that stay fixed."""

from __future__ import annotations

import json
import pathlib

import pytest
from click.testing import CliRunner

import stowplan_allocator as sa
from stowplan_allocator.bench import plan, workloads

FIXED_FIELDS = {"nodes", "jobs", "running", "plan_seconds_p50", "plan_seconds_p95", "gap", "status"}


def steady(mix: workloads.Mix = workloads.Mix.PLAIN, *, seed: int = 1, demand: float = 1.0) -> sa.Snapshot:
    return workloads.steady(
        num_nodes=128, num_jobs=60, num_running=100, num_shapes=12, seed=seed, demand=demand, mix=mix
    )


@pytest.mark.parametrize("mix", workloads.Mix)
def test_a_workload_comes_from_its_seed_alone_and_runs_what_really_fits(mix: workloads.Mix) -> None:
    snapshot = steady(mix)
    assert snapshot == steady(mix)
    assert snapshot != steady(mix, seed=2)
    running = [job for job in snapshot.jobs if job.placement is not None]
    assert len(snapshot.jobs) - len(running) == 60
    assert 0 < len(running) <= 100
    free = {node.name: node.available for node in snapshot.nodes}
    for job in running:
        assert job.placement is not None
        assert job.placement.num_pods == job.num_pods
        for share in job.placement.shares:
            free[share.node] -= job.pod * share.num_pods
    assert all(amount >= 0 for left in free.values() for _, amount in left.items())


def test_one_shape_is_the_gang_of_eight_pods_with_one_accelerator() -> None:
    snapshot = workloads.steady(num_nodes=64, num_jobs=5, num_running=0, num_shapes=1, seed=1, demand=9)
    assert {(job.num_pods, job.pod.accelerators) for job in snapshot.jobs} == {(8, 1)}


@pytest.mark.parametrize("mean", [3.0, 10.0, 30.0])
def test_the_sizes_of_jobs_have_the_mean_that_the_demand_asks_for(mean: float) -> None:
    sizes = [1, 2, 8, 16, 64]
    weights = workloads.tilted(sizes, mean=mean)
    found = sum(w * size for w, size in zip(weights, sizes, strict=True)) / sum(weights)
    assert found == pytest.approx(mean, rel=0.01)


def test_in_the_distinct_mix_no_two_waiting_jobs_ask_for_the_same() -> None:
    waiting = [job for job in steady(workloads.Mix.DISTINCT).jobs if job.placement is None]
    assert len({(job.num_pods, job.pod) for job in waiting}) == len(waiting)


@pytest.mark.slow
def test_the_command_writes_one_row_for_the_queue_and_six_for_an_arrival(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "plan.json"
    options = "--nodes 64 --jobs 20 --running 40 --shapes 8 --workloads 1 --repeats 2 --warm-up 0 --strategy greedy"
    done = CliRunner().invoke(plan.command, [*options.split(), "--json", str(path)])
    assert done.exit_code == 0, done.output
    report = json.loads(path.read_text(encoding="utf-8"))
    rows = report["results"]
    assert [row["case"] for row in rows] == list(plan.CASES)
    for row in rows:
        assert row.keys() >= FIXED_FIELDS
        assert row["plan_seconds_p50"] <= row["plan_seconds_p95"]
    assert rows[1]["jobs"] == 1
    assert report["peak_memory_mib"] > 0


@pytest.mark.slow
def test_with_queues_every_case_is_timed_once_more_in_the_same_run(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "plan.json"
    options = "--nodes 64 --jobs 20 --running 40 --shapes 8 --workloads 1 --repeats 1 --warm-up 0 --queues 9"
    done = CliRunner().invoke(plan.command, [*options.split(), "--strategy", "greedy", "--json", str(path)])
    assert done.exit_code == 0, done.output
    rows = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert [row["case"] for row in rows] == [*plan.CASES, *(f"{case}{plan.IN_QUEUES}" for case in plan.CASES)]
    assert {row["ratio_p50"] for row in rows[: len(plan.CASES)]} == {1.0}
    assert all(row["ratio_p50"] > 0 for row in rows)


def test_teams_own_the_whole_cluster_and_all_jobs_are_in_one() -> None:
    snapshot = workloads.in_queues(steady(), num_queues=9, seed=1)
    assert snapshot == workloads.in_queues(steady(), num_queues=9, seed=1)
    assert len(snapshot.queues) == 9
    teams = {queue.name for queue in snapshot.queues if queue.quotas}
    assert {job.queue for job in snapshot.jobs} == teams
    owned = sum(quota.nominal for queue in snapshot.queues for quota in queue.quotas)
    assert 0 <= 128 * 8 - owned < len(teams)


def test_percentiles_are_values_that_were_measured() -> None:
    assert plan.percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert plan.percentile([3.0, 1.0, 2.0], 95) == 3.0
    assert plan.percentile([1.0], 50) == 1.0
