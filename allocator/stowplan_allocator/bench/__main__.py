"""The command line of the benchmarks. Each sub-command is a module of this package.

What must stay true: a sub-command is imported only when it is asked for, because some
need NumPy or a solver and others must start fast. To add one, add a line to ``COMMANDS``;
its module has a click command named ``command``.
"""

from __future__ import annotations

import importlib

import click

# The name on the command line -> the module in this package, and one line of help.
COMMANDS: dict[str, tuple[str, str]] = {
    "events": ("events", "How many events the simulator takes per second."),
    "explain": ("explain", "What evictions, alternatives and forecasts take."),
    "openb": ("openb", "Unallocated GPUs on the openb traces."),
    "philly": ("philly", "Completion times under several policies on a trace of jobs."),
    "plan": ("plan", "How long a plan takes."),
    "strategies": ("compare", "All strategies on the same problems."),
    "predict": ("predict", "How far predicted starts are off on a trace of jobs."),
    "race": ("race", "How many accelerators end up in whole gangs."),
}


class LazyGroup(click.Group):
    """A group that imports a sub-command only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module behind one name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"stowplan_allocator.bench.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command), f"{module.__name__} has no click command named command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the sub-commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup)
def main() -> None:
    """Measure the allocator. Every command prints a table and can write one JSON object."""


if __name__ == "__main__":
    main(prog_name="python -m stowplan_allocator.bench")
