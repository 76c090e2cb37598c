"""The benchmarks' command line and what they write."""

from __future__ import annotations

import io
import json
import pathlib
import sys

import click.testing
import pytest
import rich.console

from stowplan_allocator.bench import __main__ as bench
from stowplan_allocator.bench import report


def test_a_report_is_one_json_object_with_fixed_names(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "out.json"
    rows: list[report.Row] = [{"trace": "a", "share": 4.25, "dropped": None}]
    report.publish("A title", inputs={"seeds": 2}, results=rows, meter=report.Meter(), path=str(path))
    written = json.loads(path.read_text(encoding="utf-8"))
    assert list(written) == ["inputs", "versions", "wall_seconds", "cpu_seconds", "peak_memory_mib", "results"]
    assert written["inputs"] == {"seeds": 2}
    assert written["results"] == [{"trace": "a", "share": 4.25, "dropped": None}]
    assert {"python", "pulp", "numpy"} <= set(written["versions"])
    assert written["peak_memory_mib"] > 1


def test_standard_output_gets_the_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    report.publish("A title", inputs={}, results=[], meter=report.Meter(), path="-")
    assert json.loads(capsys.readouterr().out)["results"] == []


def test_a_table_has_every_field_of_every_result() -> None:
    console = rich.console.Console(width=100)
    with console.capture() as captured:
        console.print(report.table("A title", [{"name": "x", "share": 4.25}, {"name": "y", "more": 3}]))
    assert [word for word in ("name", "share", "more", "4.25", "3", "-") if word not in captured.get()] == []


def test_the_meter_counts_cpu_time() -> None:
    meter = report.Meter()
    sum(number * number for number in range(200_000))
    reading = meter.reading()
    assert reading["cpu_seconds"] > 0
    assert reading["wall_seconds"] >= 0


def test_help_lists_commands_without_importing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.COMMANDS, "made-up", ("not_there", "Does nothing."))
    result = click.testing.CliRunner().invoke(bench.main, ["--help"])
    assert result.exit_code == 0
    assert "Does nothing." in result.output
    assert "stowplan_allocator.bench.not_there" not in sys.modules


def test_an_unknown_command_is_wrong_use() -> None:
    assert click.testing.CliRunner().invoke(bench.main, ["nonsense"]).exit_code == 2


def test_every_listed_command_has_its_module() -> None:
    context = click.Context(bench.main)
    for name in bench.COMMANDS:
        assert isinstance(bench.main.get_command(context, name), click.Command)


@pytest.mark.parametrize(
    ("width", "is_terminal", "want_headers"),
    [(200, True, 1), (60, True, 0), (60, False, 1)],
    ids=["a wide terminal: a table", "a narrow one: a block per result", "a pipe: a table of any width"],
)
def test_no_figure_is_folded_over_lines(width: int, is_terminal: bool, want_headers: int) -> None:
    row = {"a_rather_long_name": "a rather long value", "another_long_name": 0.123, "third_long_name": 17}
    file = io.StringIO()
    report.show(rich.console.Console(file=file, width=width, force_terminal=is_terminal), "Title", [row, row])
    lines = file.getvalue().splitlines()
    assert sum("a rather long value" in line for line in lines) == 2
    assert sum("a_rather_long_name" in line and "third_long_name" in line for line in lines) == want_headers
