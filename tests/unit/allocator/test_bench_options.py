"""Wrong use of the benchmarks is told in a sentence, at once, and by no traceback."""

from __future__ import annotations

import pathlib

import click.testing
import pytest

from stowplan_allocator.bench import __main__ as bench

WRONG = {
    "no nodes": ("plan --nodes 0", "--nodes"),
    "no jobs": ("plan --jobs 0", "--jobs"),
    "no shapes": ("explain --shapes 0", "--shapes"),
    "no time": ("strategies --time-limit 0", "--time-limit"),
    "a demand that is no number": ("race --demand nan", "nan is no finite number"),
    "a demand without end": ("events --demand inf", "inf is no finite number"),
    "no GPUs": ("philly --csv any.csv --gpus 0", "--gpus"),
    "a strategy that nobody knows": ("race --strategies exact,best", "strategy best unknown"),
    "a family that nobody knows": ("strategies --families odd,even", "family even unknown"),
    "a policy that nobody knows": ("philly --csv any.csv --policies lifo", "policy lifo unknown"),
    "an empty list": ("race --strategies ,", "give at least one strategy"),
    "a solver that is not there": ("strategies --solver Abacus", '"Abacus" is not available'),
    "a folder that is not there": ("plan --json no-such-folder/plan.json", "there is no folder no-such-folder"),
    "a folder in place of a file": ("openb --data . --traces a --strategy fgd --json .", ". is a folder"),
    "a workload that cannot be written": ("race --workload no-such-folder/w.json", "there is no folder"),
    "a table that is not there": ("philly --csv no-such.csv", "No such file"),
}


@pytest.mark.parametrize(("words", "want_said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_told_before_anything_is_measured(words: str, want_said: str) -> None:
    done = click.testing.CliRunner().invoke(bench.main, words.split())
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit)
    assert want_said in " ".join(done.output.split())


def test_a_file_that_is_there_may_be_written_again(tmp_path: pathlib.Path) -> None:
    words = f"race --nodes 4 --strategies greedy --json {tmp_path}/race.json"
    for _ in range(2):
        assert click.testing.CliRunner().invoke(bench.main, words.split()).exit_code == 0
