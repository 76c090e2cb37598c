"""The figures of ``what-if``: every job runs or waits once the plan is done, and all GPUs are counted."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest

import stowplan_allocator as sa
from stowplan_allocator.relaxing import ChangeKind
from stowplan_operator import observation
from stowplan_operator.cli import deep, defrag, what_if
from unit.allocator.worlds import H100, job, node, running, snapshot
from unit.operator.cli.conftest import Run

TWO = (node("n1", free=8), node("n2", free=8))
HALVES = (running("a", {"n1": 1}, 4, cost=900), running("b", {"n2": 1}, 4, cost=500))
PLAIN = sa.Settings()
LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
LEAVING = dataclasses.replace(running("b/1", {"n2": 1}, 4), leaving=True)


def test_deep_answers_count_upon_the_run_times_that_the_planner_counts_upon() -> None:
    """Half of the runs like it would end before the large job is to start; the plan counts upon all of them."""
    large, small = job("large", 2, 8), job("small", expected_seconds=20, created_at_seconds=9)
    kept = sa.Reservation("large", sa.Placement(H100, (sa.NodeShare("n1", 1), sa.NodeShare("n2", 1))), 50)
    there = snapshot([*TWO], [running("b", {"n2": 1}, 8, expected_seconds=50), large, small])
    seen = observation.Observation(
        snapshot=dataclasses.replace(there, reservations=(kept,)), settings=PLAIN, longest={"small": 60}
    )
    assert what_if.side(seen, seen.snapshot).fates["small"].reason == sa.Reason.RESERVED_FOR_LARGER_JOB
    kinds = {one.kind for one in deep.explore(seen, small).alternatives}
    assert ChangeKind.RESERVATION_RELEASED in kinds
    assert "ReservedForLargerJob" in defrag.for_job(seen, small, budget=None).why_not


@dataclasses.dataclass(frozen=True)
class Case:
    """Who stands on two nodes of eight GPUs, and what is counted: those that run, are new, wait, and their GPUs."""

    jobs: tuple[sa.Job, ...]
    want_lots: dict[str, str]
    want: tuple[int, int, int, int]
    settings: sa.Settings = PLAIN


CASES = {
    "who moves goes on elsewhere, and the one for whom it does runs": Case(
        (*HALVES, job("x", make_room=1000)),
        {"a": "runs", "b": "moves", "x": "preempts"},
        (3, 1, 0, 16),
    ),
    "who gives way waits, and the one for whom it does runs": Case(
        (running("a", {"n1": 1}, 8), running("b", {"n2": 1}, 8, cost=5), job("x", priority=5)),
        {"a": "runs", "b": "givesWay", "x": "preempts"},
        (2, 1, 1, 16),
        LOWER,
    ),
    "who returns has its place, though its old pods are still there": Case(
        (HALVES[0], LEAVING, job("b", 1, 4, returning=True, leaving=True)),
        {"a": "runs", "b/1": "leaves", "b": "returns"},
        (2, 0, 0, 8),
    ),
    "a gang that leaves for good is gone": Case((HALVES[0], LEAVING), {"a": "runs", "b/1": "leaves"}, (1, 0, 0, 4)),
    "who shrinks goes on smaller": Case(
        (
            dataclasses.replace(
                running("a", {"n1": 2, "n2": 2}, 4), allowed_num_pods=(2, 3, 4), num_pods=2, resize_cost=9
            ),
            job("x"),
        ),
        {"a": "resizes", "x": "preempts"},
        (2, 1, 0, 16),
        sa.Settings(resize=True),
    ),
    "who starts runs, and who does not fit waits": Case(
        (HALVES[0], job("x"), job("y", created_at_seconds=9)), {"a": "runs", "x": "starts", "y": "waits"}, (2, 1, 1, 12)
    ),
}


def world(case: Case) -> observation.Observation:
    return observation.Observation(
        snapshot=dataclasses.replace(snapshot(TWO, case.jobs), move_budget=10_000), settings=case.settings
    )


@pytest.mark.parametrize("name", CASES)
def test_every_job_runs_or_waits_once_the_plan_is_done(name: str) -> None:
    case = CASES[name]
    seen = world(case)
    side = what_if.side(seen, seen.snapshot)
    assert {job_id: fate.lot.value for job_id, fate in side.fates.items()} == case.want_lots
    assert (side.num_running, side.num_starting, side.num_waiting, side.totals.used) == case.want
    assert side.num_running + side.num_waiting == sum(fate.lot.value != "leaves" for fate in side.fates.values())
    assert side.totals.used + side.totals.free == side.totals.total == 16
    assert {product for one in side.outcome.jobs if one.placement for product in [one.placement.product]} == {H100}


def test_moves_are_counted_in_the_table(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "day.json").write_text(observation.write(world(next(iter(CASES.values())))))
    line = ("what-if", "remove", "x", "--snapshot", str(tmp_path / "day.json"))
    rows = {
        row[0]: row[1:]
        for row in (
            [part.strip() for part in one.split("  ") if part.strip()] for one in run(*line).stdout.splitlines()
        )
        if row
    }
    assert (rows["Jobs running"], rows["Moved"], rows["GPUs in use"]) == (["3", "2"], ["1", "0"], ["16", "8"])
    answer = json.loads(run(*line, "-o", "json").stdout)
    assert [(answer[side]["running"], answer[side]["moves"]) for side in ("before", "after")] == [(3, 1), (2, 0)]
