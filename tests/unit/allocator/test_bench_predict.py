"""How predictions are measured: what is known when, and that a replay is a forecast."""

from __future__ import annotations

import json
import pathlib

from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from stowplan_allocator import forecast, types
from stowplan_allocator.bench import predict
from stowplan_allocator.simulate import workload
from stowplan_allocator.simulate.traces import philly
from unit.allocator import worlds

NODES = philly.nodes(16, per_node=8)


def _submission(name: str, came: int, seconds: int, gpus: int, queue: str = "vc") -> workload.Submission:
    return workload.Submission(worlds.job(name, 1, gpus, queue=queue, created_at_seconds=came), came, seconds)


def _past(*submissions: workload.Submission) -> predict.Past:
    return predict.Past(NODES, submissions, seed=1)


def test_a_predictor_knows_what_has_ended_and_nothing_else() -> None:
    past = _past(
        _submission("a", 0, 100, 8),
        _submission("b", 0, 300, 8),
        _submission("c", 10, 50, 8),
        _submission("d", 120, 5, 8),
    )
    assert (past.started["c"], past.started["d"], past.waited("c")) == (100, 150, 90)
    past.learn(120)
    b, d = _submission("b", 0, 300, 8), _submission("d", 120, 5, 8)
    median = past.predictor("median")
    # Only a has ended, after 100 s: that is what a new job needs; of one that has run for longer nothing is known.
    assert (median(d, 0), median(b, 120)) == (100, 120)
    # c has run for 20 s, and would be done at 200.
    assert past.start_of("d", now=120, seconds=median) == 200
    assert past.start_of("d", now=120, seconds=past.true_seconds) == 150
    past.learn(150)
    assert past.predictor("spread")(d, 0) in (50, 100)


def test_what_comes_later_is_told_apart_from_what_was_wrong() -> None:
    answers = predict.Answers()
    answers.add(150, happened=200, alone=140, now=100)
    answers.add(100, happened=200, alone=100, now=100)
    row = answers.row()
    assert (row["error_median"], row["error_p75"], row["bias_median"]) == (0.5, 1.0, -0.75)
    assert (row["error_median_if_nobody_came"], row["error_median_s"]) == (0.0, 75)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16])), min_size=2, max_size=9
    )
)
@settings(max_examples=25, deadline=None)
def test_a_replay_is_a_forecast(some: list[tuple[int, int, int]]) -> None:
    submissions = [
        workload.Submission(
            worlds.job(f"j{i}", max(gpus // 8, 1), min(gpus, 8), created_at_seconds=came, expected_seconds=seconds),
            0,
            seconds,
        )
        for i, (came, seconds, gpus) in enumerate(some)
    ]
    snapshot = types.Snapshot(NODES, tuple(one.job for one in submissions))
    for job_id, found in forecast.predict_starts(snapshot, settings=predict.GREEDY).items():
        assert predict.start_in(NODES, submissions, job_id=job_id) == found.starts_at_seconds


def test_the_command_writes_a_row_for_each_predictor_and_moment(tmp_path: pathlib.Path) -> None:
    lines = [f"2017-10-02 00:{i:02}:00,{600 + 37 * i},{1 + 7 * (i % 2)},vc" for i in range(40)]
    csv, out = tmp_path / "trace.csv", tmp_path / "out.json"
    csv.write_text("timestamp,duration,num_gpus,cluster\n" + "\n".join(lines) + "\n")
    words = ["--csv", str(csv), "--gpus", "16", "--count-from-day", "0", "--sample", "5", "--json", str(out)]
    result = CliRunner().invoke(predict.command, words)
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())["results"]
    assert [(row["predictor"], row["asked"]) for row in rows] == [
        (name, asked) for asked in ("at submission", "half way") for name in predict.PREDICTORS
    ]
    exact = rows[0]
    assert (exact["predictions"], exact["error_median_if_nobody_came"]) == (5, 0)
    refused = CliRunner().invoke(predict.command, [*words, "--count-from-day", "20"])
    assert "no job waited in the days that are counted" in refused.output
