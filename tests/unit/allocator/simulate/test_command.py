"""The command: its options, what it writes, and what it refuses."""

from __future__ import annotations

import importlib.util
import io
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import click
import pytest
import rich.console
from click.testing import CliRunner, Result

from stowplan_allocator import snapshots
from stowplan_allocator.simulate import command_line, running, terminal
from unit.allocator import worlds

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[4]
EXAMPLES = ROOT / "examples" / "simulate"
TABLES = ("--nodes", str(EXAMPLES / "nodes.csv"), "--jobs", str(EXAMPLES / "jobs.csv"))
DOCUMENT = ("--file", str(EXAMPLES / "cluster.yaml"))
QUICK = ("--strategy", "greedy")

WANT_OPTIONS = {
    *("--nodes", "--jobs", "--file", "--trace", "--data", "--trace-list", "--gpus", "--gpus-per-node", "--first"),
    *("--duration", "--estimates", "--level", "--priority", "--accelerator", "--product-label"),
    *("--strategy", "--solver", "--time-limit", "--gap", "--order", "--preemption", "--reserve-after", "--seed"),
    *("--reasons", "--no-reasons", "--mean-time-between-failures", "--repair-time", "--checkpoint-every"),
    *("--restart-cost", "--until", "--sample-every", "--json", "--html", "--png", "--title"),
}


def _run(*words: str) -> Result:
    return CliRunner().invoke(command_line.command, words)


def _options() -> list[click.Option]:
    return [one for one in command_line.command.params if isinstance(one, click.Option)]


def test_options_are_frozen_and_every_one_is_in_a_group() -> None:
    named = {name for option in _options() for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}
    assert named == WANT_OPTIONS
    grouped = [name for names in command_line._GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(str(option.name) for option in _options())
    assert set(grouped) == set(running.Choices.__slots__)


def test_defaults_of_the_command_are_those_of_the_choices() -> None:
    context = command_line.command.make_context("simulate", [])
    assert running.Choices(**context.params) == running.Choices()


def test_the_page_in_the_documentation_names_every_option() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text()
    assert not [option for option in sorted(WANT_OPTIONS) if f"`{option}" not in text]


def test_the_figures_are_said_on_standard_output() -> None:
    done = _run(*TABLES, *QUICK)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("42 jobs on 8 nodes with 56 accelerators, ")
    assert "41 completed, 0 failed, 0 unfinished, 1 never started" in done.stdout
    assert "too-large: ExceedsClusterCapacity" in done.stdout
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


def test_records_are_written_whole_and_can_be_repeated(tmp_path: pathlib.Path) -> None:
    words = (*TABLES, *QUICK, "--mean-time-between-failures", "30h", "--seed", "1")
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    assert _run(*words, "--json", str(first)).exit_code == 0
    assert _run(*words, "--json", str(second)).exit_code == 0
    one, two = json.loads(first.read_text()), json.loads(second.read_text())
    assert one["schema"] == "stowplan-simulation/1"
    assert one["command"].endswith(f"--json {first}")
    assert one["inputs"]["mean_time_between_failures"] == 108_000
    assert one["versions"]["stowplan"]
    for name in ("started_at_seconds", "ended_at_seconds", "nodes", "jobs", "samples"):
        assert one[name] == two[name]
    assert len(one["jobs"]) == one["summary"]["jobs"] == 42
    assert any(node["downtimes"] for node in one["nodes"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_records_on_standard_output_stand_alone() -> None:
    done = _run(*DOCUMENT, *QUICK, "--json", "-")
    assert json.loads(done.stdout)["summary"]["completed"] == 16


def test_the_options_reach_the_planner_and_the_engine(tmp_path: pathlib.Path) -> None:
    def records(*words: str) -> Any:
        done = _run(*DOCUMENT, *QUICK, *words, "--json", "-")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert len(records("--first", "3")["jobs"]) == 3
    assert records("--until", "1h")["summary"]["span_seconds"] == 3600
    assert records("--sample-every", "30m")["samples"][1]["time_seconds"] == 1800
    assert records()["jobs"][0]["expected_seconds"] is None
    assert records("--estimates", "true")["jobs"][0]["expected_seconds"] == 1500
    assert records("--no-reasons")["inputs"]["reasons"] is False
    chosen = running.Choices(order="shortest", preemption="QueueOrder", seed=3, gap=0.5, time_limit=2.0, solver="CBC")
    settings = chosen.settings
    assert (settings.order, settings.preemption, settings.seed) == ("shortest", running.types.Preemption.QUEUE_ORDER, 3)
    assert (settings.gap_tolerance, settings.time_limit_seconds, settings.solver) == (0.5, 2.0, "CBC")


def test_a_snapshot_is_simulated(tmp_path: pathlib.Path) -> None:
    snapshot = worlds.snapshot([worlds.node("n")], [worlds.job("j", expected_seconds=60)])
    (tmp_path / "kept.json").write_text(snapshots.write(snapshot))
    done = _run("--file", str(tmp_path / "kept.json"), *QUICK)
    assert "1 completed" in done.stdout


def test_a_trace_is_simulated(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "philly.csv"
    path.write_text("timestamp,duration,num_gpus,cluster\n2017-10-02 00:01:55,108.0,16,a\n2017-10-02 00:02,60,1,a\n")
    done = _run("--trace", "philly", "--data", str(path), "--gpus", "16", *QUICK)
    assert done.stdout.startswith("2 jobs on 2 nodes with 16 accelerators")


# A sentence → the words of the command line, and what standard error must say.
REFUSED: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "nothing to simulate": ((), ["there is nothing to simulate; give --nodes FILE --jobs FILE"]),
    "a trace without data": (("--trace", "openb"), ["--trace and --data belong together"]),
    "data without a trace": (("--data", "x"), ["--trace and --data belong together"]),
    "a trace beside files": (("--trace", "openb", "--data", "x", *DOCUMENT), ["give a trace or files"]),
    "a trace that is not there": (("--trace", "philly", "--data", "nope.csv"), ["nope.csv: it cannot be read"]),
    "options that nobody would hear": (
        (*DOCUMENT, "--gpus", "8", "--trace-list", "x"),
        ["--trace-list: it is for --trace openb; leave it out", "--gpus: it is for --trace philly"],
    ),
    "options that a trace would not hear": (
        ("--trace", "openb", "--data", "x", "--duration", "5", "--level", "rack"),
        ["--duration: a trace does not ask for it", "--level: a trace does not ask for it"],
    ),
    "files that are not there": (
        ("--nodes", "a.csv", "--jobs", "b.csv"),
        ["Error: a.csv: there is no such file", "Error: b.csv: there is no such file"],
    ),
    "results without a folder": ((*DOCUMENT, "--json", "no/where.json"), ["--json: there is no folder no; make it"]),
    "a result that is a folder": ((*DOCUMENT, "--json", "."), ["--json: . is a folder"]),
    "a result that is a device": ((*DOCUMENT, "--json", "/dev/null"), ["--json: /dev/null is no ordinary file"]),
    "samples at no distance": ((*DOCUMENT, "--sample-every", "0"), ["'--sample-every': '0' is not a second or more"]),
    "two results in one file": ((*DOCUMENT, "--json", "x", "--png", "x"), ["--png: x is written twice"]),
    "a solver that is not there": ((*DOCUMENT, "--solver", "NOPE"), ["--solver: ", '"NOPE" is not available']),
    "a time that is none": ((*DOCUMENT, "--until", "soon"), ["'--until': 'soon' is not a duration; write seconds"]),
    "a level that always is": ((*DOCUMENT, "--level", "node"), ["node is always the last level"]),
    "a priority without a value": ((*DOCUMENT, "--priority", "high"), ["write NAME=100"]),
    "an unknown strategy": ((*DOCUMENT, "--strategy", "luck"), ["'luck' is not one of", "greedy"]),
    "an unknown option": ((*DOCUMENT, "--nodez", "x"), ["No such option"]),
}


@pytest.mark.parametrize(("words", "want"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_use_ends_with_2_and_says_what_would_be_right(words: tuple[str, ...], want: list[str]) -> None:
    done = _run(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert all(part in done.stderr for part in want), done.stderr


def test_pictures_without_matplotlib_are_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    monkeypatch.setattr(running, "simulate", None)
    done = _run(*DOCUMENT, "--html", "x.html")
    assert done.exit_code == 2
    assert "pip install 'stowplan[report]'" in done.stderr


def test_a_file_that_cannot_be_finished_is_left_as_it_was(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("before")

    def pieces() -> Any:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(running.inputs.InputError, match="cannot be written: No space left"):
        running.write_whole(path, pieces())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_result_goes_on_pointing_to_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "latest.json").symlink_to(tmp_path / "run.json")
    running.write_whole(tmp_path / "latest.json", [b"1"])
    assert (tmp_path / "latest.json").is_symlink()
    assert (tmp_path / "run.json").read_bytes() == b"1"


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal.progress(3) as silent:
        assert silent is None
    shown = io.StringIO()
    console = rich.console.Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(terminal, "_console", lambda *, errors: console)
    with terminal.progress(3) as on_progress:
        assert on_progress is not None
        on_progress(2, 3)
    assert "2/3" in shown.getvalue()


def test_an_interrupt_ends_with_130_and_writes_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "simulate", interrupted)
    done = _run(*DOCUMENT, *QUICK, "--json", str(tmp_path / "x.json"))
    assert (done.exit_code, list(tmp_path.iterdir())) == (130, [])
    assert "no file is half written" in done.stderr


def test_notes_are_on_standard_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "more.yaml").write_text("kind: Pod\n---\nnodes: [{name: z}]\n")
    done = _run(*DOCUMENT, *QUICK, "--file", str(tmp_path / "more.yaml"))
    assert "Pod is neither a node nor a job" in done.stderr
    assert done.stdout.startswith("16 jobs on 11 nodes")


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert terminal.clean("a\x1b[31mb\nc") == "a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}c"


def test_only_pictures_import_matplotlib() -> None:
    program = (
        "import sys\nfrom stowplan_allocator.simulate import command_line\n"
        f"sys.argv[1:] = {[*DOCUMENT, *QUICK]!r}\n"
        "try:\n    command_line.main()\nexcept SystemExit:\n    pass\n"
        "print('imported:', sorted(set(sys.modules) & {'matplotlib', 'pulp', 'highspy', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "imported: []" in done.stdout


def test_the_commands_of_the_documentation_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "simulator.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [line.split() for line in lines if "examples/simulate" in line]
    assert len(commands) >= 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for words in commands:
        start = words.index("simulate" if "simulate" in words else "stowplan_allocator.simulate") + 1
        done = _run(*words[start:])
        assert done.exit_code == 0, (words, done.output)
