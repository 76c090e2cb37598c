"""The comparison of strategies: families are what they say, rows are means by one ruler, wrong names are refused."""

from __future__ import annotations

import json
import pathlib

import pytest
from click.testing import CliRunner

import stowplan_allocator as sa
from stowplan_allocator.bench import compare, families

FIELDS = {
    *("family", "strategy", "best_of", "first_loss", "jobs", "gpus", "goodput", "domains", "whole_slots"),
    *("cpu_seconds", "gap", "status"),
}
LIMITED = sa.Settings(time_limit_seconds=5)
QUICK = [sa.Strategy.EXACT, sa.Strategy.GREEDY, sa.Strategy.DP, sa.Strategy.LP_ROUNDING]


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_family_is_the_same_for_the_same_seed_and_asks_for_what_it_says(family: str) -> None:
    snapshot = families.snapshot(family, num_nodes=64, seed=3)
    assert snapshot == families.snapshot(family, num_nodes=64, seed=3)
    assert snapshot != families.snapshot(family, num_nodes=64, seed=4)
    free = sum(node.available.accelerators for node in snapshot.nodes)
    asked = [job.num_pods * job.pod.accelerators for job in snapshot.jobs]
    wanted = families.FAMILIES[family].demand * free
    assert sum(asked[:-1]) < wanted <= sum(asked)
    assert {node.product for node in snapshot.nodes} == set(families.FAMILIES[family].products)
    assert sum(node.available != node.allocatable for node in snapshot.nodes) > 64 * 0.1


@pytest.mark.parametrize("family", families.FAMILIES)
def test_rows_compare_finished_plans_by_one_ruler(family: str) -> None:
    rows = {
        row["strategy"]: row
        for row in compare.compare(family, num_nodes=16, seeds=1, strategies=QUICK, settings=LIMITED)
    }
    assert all(set(row) == FIELDS for row in rows.values())
    assert "1/1" in {row["best_of"] for row in rows.values()}
    for row in rows.values():
        assert (row["first_loss"] is None) == (row["best_of"] == "1/1")
    if rows["exact"]["status"] == "Optimal":
        assert rows["exact"]["best_of"] == "1/1"


def test_means_are_over_the_seeds() -> None:
    [row] = compare.compare("odd", num_nodes=8, seeds=2, strategies=[sa.Strategy.GREEDY], settings=LIMITED)
    greedy = sa.Settings(strategy=sa.Strategy.GREEDY)
    plans = [sa.plan(families.snapshot("odd", num_nodes=8, seed=seed), greedy) for seed in (1, 2)]
    assert row["jobs"] == sum(len(plan.placements) for plan in plans) / 2
    assert (row["best_of"], row["status"]) == ("2/2", "Greedy")


def test_the_command_writes_one_json_object(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "out.json"
    chosen = ["--families", "odd,contested", "--strategies", "greedy,lp-rounding", "--seeds", "1", "--nodes", "8"]
    done = CliRunner().invoke(compare.command, [*chosen, "--json", str(path)])
    assert done.exit_code == 0, done.output
    written = json.loads(path.read_text())
    assert [(row["family"], row["strategy"]) for row in written["results"]] == [
        ("odd", "greedy"),
        ("odd", "lp-rounding"),
        ("contested", "greedy"),
        ("contested", "lp-rounding"),
    ]
    assert written["inputs"]["families"]["odd"] == "pods of 3, 5, 6"


@pytest.mark.parametrize(
    ("option", "want"),
    [
        ("--families", "family easy unknown; there are uncontested, "),
        ("--strategies", "strategy easy unknown; there are"),
    ],
)
def test_an_unknown_name_is_refused_with_the_list(option: str, want: str) -> None:
    done = CliRunner().invoke(compare.command, [option, "easy"])
    assert done.exit_code == 2
    assert want in " ".join(done.output.split())
