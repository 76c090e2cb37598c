"""The commands that look at the operator's snapshot: their flags and help. The work is imported when one runs."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import click

from stowplan_operator.cli import flags


@click.command("snapshot")
@flags.snapshot
@flags.cluster
@click.pass_context
def snapshot_command(context: click.Context, file: str | None, operator_namespace: str) -> None:
    """Print what the operator sees and has decided, as JSON.

    Keep it in a file: what-if, top, plan and explain take it with --snapshot, without a cluster. It names the jobs of
    all namespaces.
    """
    answer(context, file, operator_namespace, "print_snapshot")


def answer(context: click.Context, file: str | None, operator_namespace: str, command: str, **arguments: Any) -> None:
    """Run a function of ``answering`` and end with its exit code."""
    from stowplan_operator.cli import answering, asking

    work = functools.partial(getattr(answering, command), **arguments)
    context.exit(asking.execute(flags.target(context), flags.source(file, operator_namespace), work))


@click.command("what-if")
@click.argument("given", nargs=-1, required=True, metavar="CHANGE...")
@flags.output("json", "yaml")
@flags.snapshot
@flags.cluster
@click.pass_context
def what_if_command(
    context: click.Context, given: tuple[str, ...], form: str | None, file: str | None, operator_namespace: str
) -> None:
    """Compare the plan with the one after some changes.

    \b
    Changes, as many as you like, made in their order:
      submit FILE…                     TrainingJobs of these files (- is standard input)
      drain NODE…                      what runs there stops and is planned elsewhere
      add NUMBER [nodes like] NODE     new, empty nodes
      remove JOB…                      jobs that run or wait
      quota QUEUE PRODUCT NUMBER       what a queue owns

    Nothing in the cluster is touched. Exits with 0 when every submitted job would get its place and nobody would lose
    one, with 1 otherwise.
    """
    answer(context, file, operator_namespace, "what_if", given=given, form=form)


@click.command("top")
@click.argument("what", type=click.Choice(("nodes", "queues")), default="nodes")
@click.option("-w", "--watch", is_flag=True, help="Show it live, until Ctrl-C.")
@flags.output("json", "yaml")
@flags.snapshot
@flags.cluster
@click.pass_context
def top_command(
    context: click.Context, what: str, watch: bool, form: str | None, file: str | None, operator_namespace: str
) -> None:
    """Show what GPUs do: nodes (or queues), used, free, broken and why.

    OTHERS are GPUs of pods that are not Stowplan's. FRAG is the share of a node's free GPUs that a usual pod could not
    use, because it needs more than the node has free. UTIL is what Prometheus says.
    """
    if watch and (form or file):
        raise click.UsageError(f"--watch asks the cluster and shows tables: leave out {'-o' if form else '--snapshot'}")
    answer(context, file, operator_namespace, "top", what=what, watch=watch, form=form)


@click.command("defrag")
@click.argument("name", required=False, metavar="[JOB]")
@click.option("--budget", type=click.FloatRange(min=0), metavar="GPU-HOURS", help="What moves may lose; else anything.")
@flags.output("json", "yaml")
@flags.snapshot
@flags.cluster
@click.pass_context
def defrag_command(
    context: click.Context,
    name: str | None,
    budget: float | None,
    form: str | None,
    file: str | None,
    operator_namespace: str,
) -> None:
    """Show which running jobs would move so that a waiting job starts, and what that loses.

    Without JOB: so that whole nodes become free. Nothing is moved; the last line is the command that asks for it, which
    takes the verb make-room on trainingjobs. Exits with 0 where moves help or none are needed, with 1 otherwise.
    """
    answer(context, file, operator_namespace, "defrag", name=name, budget_hours=budget, form=form)


_FILE = click.Path(dir_okay=False, path_type=pathlib.Path)


@click.command("plan")
@click.option("--html", type=_FILE, metavar="FILE", help="Write it as a page that needs nothing else.")
@click.option("--png", type=_FILE, metavar="FILE", help="Write the chart as a picture.")
@flags.output("json", "yaml")
@flags.snapshot
@flags.cluster
@click.pass_context
def plan_command(
    context: click.Context,
    html: pathlib.Path | None,
    png: pathlib.Path | None,
    form: str | None,
    file: str | None,
    operator_namespace: str,
) -> None:
    """Show the current plan, what is proven about it, and who will start when.

    Starts are predicted from expected ends: by progress, else by activeDeadlineSeconds, and if nothing new comes.
    """
    answer(context, file, operator_namespace, "show_plan", html=html, png=png, form=form)


COMMANDS = (snapshot_command, what_if_command, top_command, plan_command, defrag_command)
