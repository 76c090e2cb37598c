"""The command line: commands, flags and their help. The work is in ``commands``, imported when one runs.

Flags that name the cluster may stand before or after the command; the later one counts.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import click

from stowplan_operator.cli import flags, questions

_SIMULATE = "simulate"
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# The values of api.Phase, spelled out: that module costs --help a fifth of a second (a test compares them).
_GOALS = ("Finished", "Pending", "Starting", "Running", "Restarting", "Suspended", "Succeeded", "Failed")


class _Group(click.Group):
    """Knows ``ls`` for ``list``, and ``simulate``, which is the allocator's and imported when it is asked for."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == _SIMULATE:
            if given := ctx.meta.get(flags.GIVEN):
                raise click.UsageError(f"simulate asks no cluster: leave out --{', --'.join(sorted(given))}", ctx)
            from stowplan_allocator.simulate import command_line

            return command_line.command
        return super().get_command(ctx, {"ls": "list"}.get(cmd_name, cmd_name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), _SIMULATE])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = {name: command.get_short_help_str(formatter.width) for name, command in self.commands.items()}
        shown[_SIMULATE] = "Simulate a cluster: what the planner would do with these jobs on these nodes."
        with formatter.section("Commands"):
            formatter.write_dl(sorted(shown.items()))


def _run(context: click.Context, command: str, **arguments: Any) -> None:
    """Run a function of ``commands`` and end with its exit code."""
    from stowplan_operator.cli import commands

    work = getattr(commands, command)
    context.exit(commands.execute(flags.target(context), lambda cluster, speaker: work(cluster, speaker, **arguments)))


@click.group(cls=_Group, context_settings=_SETTINGS, epilog="Exit codes: 0 yes, 1 no, 2 wrong use, 3 no answer.")
@click.version_option(importlib.metadata.version("stowplan"), prog_name="kubectl stowplan")
@flags.cluster
def cli() -> None:
    """Look at TrainingJobs: where they run, why they wait, why they failed."""


@cli.command("list")
@click.option("-A", "--all-namespaces", is_flag=True, help="Jobs of all namespaces.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Only jobs with these labels.")
@flags.output("json", "yaml", "wide")
@flags.cluster
@click.pass_context
def list_command(context: click.Context, all_namespaces: bool, selector: str, form: str | None) -> None:
    """List jobs (short: ls)."""
    _run(context, "list_jobs", form=form, all_namespaces=all_namespaces, selector=selector)


@cli.command("get")
@flags.job
@flags.output("json", "yaml")
@flags.cluster
@click.pass_context
def get_command(context: click.Context, name: str, form: str | None) -> None:
    """Show all that is known about one job."""
    _run(context, "get_job", name=name, form=form)


@cli.command("explain")
@flags.job
@click.option("--deep", is_flag=True, help="Also try which changes would start it now; takes some seconds.")
@flags.output("json", "yaml")
@flags.snapshot
@flags.cluster
@click.pass_context
def explain_command(
    context: click.Context, name: str, deep: bool, form: str | None, file: str | None, operator_namespace: str
) -> None:
    """Say why a job waits, runs or failed.

    Reads the job's status, gives the numbers behind the decision and ends with the command that helps next. With --deep
    it also asks the operator for its snapshot and solves for the smallest changes that would start the job now; with
    --snapshot it answers from a saved one alone.
    Exits with 0 when the job has its place or has succeeded, with 1 when it waits or has failed.
    """
    if deep or file:
        questions.answer(context, file, operator_namespace, "explain", name=name, form=form)
    else:
        _run(context, "explain_job", name=name, form=form, operator_namespace=operator_namespace)


@cli.command("logs")
@flags.job
@click.option("--rank", type=click.IntRange(min=0), help="Rank whose log to print; else 0.")
@click.option("--attempt", type=click.IntRange(min=1), help="Attempt whose log to print; else the latest.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing, over restarts, until the job ends.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines.")
@flags.cluster
@click.pass_context
def logs_command(
    context: click.Context, name: str, rank: int | None, attempt: int | None, follow: bool, tail: int | None
) -> None:
    """Print the log of one rank.

    Where the pod is gone, the tail that status keeps of the last failure is printed, and stderr says so.
    """
    from stowplan_operator.cli import logs

    request = logs.Request(rank=rank, attempt=attempt, follow=follow, tail=tail)
    _run(context, "print_logs", name=name, request=request)


@cli.command("suspend")
@flags.job
@flags.cluster
@click.pass_context
def suspend_command(context: click.Context, name: str) -> None:
    """Stop a job and free its accelerators."""
    _run(context, "suspend_job", name=name)


@cli.command("resume")
@flags.job
@flags.cluster
@click.pass_context
def resume_command(context: click.Context, name: str) -> None:
    """Let a suspended job run again."""
    _run(context, "resume_job", name=name)


@cli.command("wait")
@flags.job
@click.option(
    "--for",
    "goal",
    type=click.Choice(_GOALS, case_sensitive=False),
    default="Finished",
    show_default=True,
    metavar="PHASE",
    help=f"What to wait for: {', '.join(_GOALS)}.",
)
@click.option(
    "--timeout", callback=flags.duration, metavar="TIME", help="At most so long, as 90s, 10m or 1h30m; else forever."
)
@flags.cluster
@click.pass_context
def wait_command(context: click.Context, name: str, goal: str, timeout: float | None) -> None:
    """Wait for the end of a job, or a phase.

    Exits with 0 when it got there (Finished: when it succeeded), with 1 when it ended otherwise or time was up.
    """
    _run(context, "wait_for_job", name=name, goal=goal, timeout_seconds=timeout)


for command in questions.COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of ``kubectl-stowplan``."""
    cli(prog_name="kubectl stowplan")
