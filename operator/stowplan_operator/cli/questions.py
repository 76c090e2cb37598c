"""The commands that look at the operator's snapshot: their flags and help. The work is imported when one runs."""

from __future__ import annotations

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
    from stowplan_operator.cli import answering, asking

    work = answering.print_snapshot
    context.exit(asking.execute(flags.target(context), flags.source(file, operator_namespace), work))


COMMANDS = (snapshot_command,)
