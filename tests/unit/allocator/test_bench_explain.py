"""The benchmark of answers: one row for each question, and the same cluster for the same seed."""

from __future__ import annotations

import json
import pathlib

from click.testing import CliRunner

from stowplan_allocator.bench import explain

SIZES = {"nodes": 24, "jobs": 12, "running": 20, "shapes": 5, "demand": 1.4, "urgent": 4}


def test_the_rows_of_a_small_cluster(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "explain.json"
    options = [f"--{name}={value}" for name, value in SIZES.items()]
    result = CliRunner().invoke(explain.command, [*options, "--asked=2", f"--json={path}"])
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text(encoding="utf-8"))["results"]
    questions = [row["question"].split(" ")[0] for row in rows]
    assert questions == ["plan", "plan", "alternatives", "alternatives", "forecast,"]
    assert rows[1]["answers"] > 0
    assert all(row["cpu_seconds"] >= 0 for row in rows)


def test_a_cluster_comes_from_its_seed_alone() -> None:
    made = explain.cluster(**SIZES, seed=1)
    assert made == explain.cluster(**SIZES, seed=1)
    assert made != explain.cluster(**SIZES, seed=2)
    assert all(job.expected_seconds for job in made.jobs)
