"""What scripts and fingers rely on: commands, flags, the lists that mirror other modules, and what is imported."""

import pathlib
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from stowplan_allocator import types
from stowplan_allocator.simulate import command_line as simulating
from stowplan_operator.api import Phase
from stowplan_operator.cli import command_line, documents, reasons, waiting
from stowplan_operator.cli.exits import Exit
from unit.operator.cli import test_commands

WANT_FLAGS = {
    "list": {"--all-namespaces", "--selector", "--output"},
    "get": {"--output"},
    "explain": {"--output", "--deep", "--snapshot", "--operator-namespace"},
    "logs": {"--rank", "--attempt", "--follow", "--tail"},
    "suspend": set(),
    "resume": set(),
    "wait": {"--for", "--timeout"},
    "snapshot": {"--snapshot", "--operator-namespace"},
    "what-if": {"--snapshot", "--operator-namespace", "--output"},
    "defrag": {"--snapshot", "--operator-namespace", "--output", "--budget"},
    "plan": {"--snapshot", "--operator-namespace", "--output", "--html", "--png"},
    "top": {"--snapshot", "--operator-namespace", "--output", "--watch"},
}
HEAVY = {"kopf", "pulp", "highspy", "kubernetes", "aiohttp", "pydantic", "rich"}
CLUSTER_FLAGS = {"--kubeconfig", "--context", "--namespace"}


def _flags(command: click.Command) -> set[str]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {max(one.opts, key=len) for one in options}


def test_commands_and_flags_are_frozen() -> None:
    assert {name: _flags(command) - CLUSTER_FLAGS for name, command in command_line.cli.commands.items()} == WANT_FLAGS
    assert all(_flags(command) >= CLUSTER_FLAGS for command in [command_line.cli, *command_line.cli.commands.values()])


def test_the_documentation_names_every_command_flag_key_and_exit_code() -> None:
    documentation = (pathlib.Path(__file__).parents[4] / "docs" / "cli.md").read_text()
    keys = [*test_commands.SUMMARY_KEYS, *test_commands.DETAIL_KEYS, *test_commands.EXPLANATION_KEYS]
    flags = {flag for wanted in WANT_FLAGS.values() for flag in wanted} - {"--follow", "--output"} | {"-f", "-o json"}
    for word in (*WANT_FLAGS, *flags, *CLUSTER_FLAGS, *set(keys) - {"schema", "kind"}):
        assert re.search(rf"`(?:[^`]*[ /])?{word}\b[^`]*`", documentation), word
    assert documents.SCHEMA in documentation
    assert all(f"| {code.value} |" in documentation for code in Exit)
    assert all(phase in documentation for phase in command_line._GOALS[1:])
    assert all(f"| {name} | {meaning.text} |" in documentation for name, meaning in reasons.MEANINGS.items())


def test_simulate_is_the_allocators_own_command_and_asks_no_cluster() -> None:
    context = click.Context(command_line.cli)
    assert command_line.cli.get_command(context, "simulate") is simulating.command
    assert command_line.cli.list_commands(context) == sorted([*WANT_FLAGS, "simulate"])
    shown = CliRunner().invoke(command_line.cli, ["--help"], terminal_width=120)
    assert simulating.command.get_short_help_str(120) in shown.output
    refused = CliRunner().invoke(command_line.cli, ["-n", "team", "simulate"])
    assert refused.exit_code == Exit.USAGE
    assert "simulate asks no cluster: leave out --namespace" in refused.output


def test_wait_knows_every_phase() -> None:
    assert (waiting.FINISHED, *(phase.value for phase in Phase)) == command_line._GOALS


def test_every_reason_of_the_allocator_has_a_meaning_and_a_next_command() -> None:
    assert {reason.value for reason in types.Reason} <= set(reasons.MEANINGS)
    for name, meaning in reasons.MEANINGS.items():
        assert meaning.text.endswith("."), name
        assert meaning.command, name


@pytest.mark.parametrize(
    ("words", "never"),
    [
        (
            ["--help"],
            {*HEAVY, "yaml", "stowplan_allocator"},
        ),
        (
            ["simulate", "--help"],
            {*HEAVY, "matplotlib"},
        ),
        (["list", "--kubeconfig", "missing"], {"kopf", "pulp", "highspy", "stowplan_allocator"}),
    ],
    ids=[
        "--help imports no client",
        "the help of simulate imports no solver and no pictures",
        "commands import no kopf and no solver",
    ],
)
def test_what_is_imported(words: list[str], never: set[str]) -> None:
    program = (
        "import sys\nfrom stowplan_operator import cli\n"
        f"sys.argv[1:] = {words!r}\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        f"print('imported:', sorted(set(sys.modules) & {never!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "imported: []" in done.stdout
