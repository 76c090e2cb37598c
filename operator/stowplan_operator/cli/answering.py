"""What the commands on the operator's snapshot do: ask, plan, print; the exit code is the answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from rich import live
from rich.console import RenderableType

from stowplan_operator import observation
from stowplan_operator.cli import answer_documents, changes, commands, figures, output
from stowplan_operator.cli import top as top_module
from stowplan_operator.cli import what_if as what_if_module
from stowplan_operator.cli.asking import Asker
from stowplan_operator.cli.exits import Exit

WATCH_SECONDS = 5.0


async def print_snapshot(asker: Asker) -> Exit:
    """The document, one line of JSON."""
    sys.stdout.write(observation.write(await asker.ask()))
    return Exit.YES


async def what_if(asker: Asker, *, given: Sequence[str], form: str | None) -> Exit:
    """Both plans, before and after; yes where nobody is worse off and every submitted job gets its place."""
    wanted = changes.parse(given)
    seen = await asker.ask()
    changed = changes.apply(seen, wanted, namespace=asker.namespace)
    found = what_if_module.compare(seen, wanted, changed)
    if form:
        commands.print_document(answer_documents.what_if(found), form)
    else:
        console = output.make_console()
        output.write(what_if_module.show(found, width=console.width))
    return Exit.YES if found.is_yes else Exit.NO


async def top(asker: Asker, *, what: str, form: str | None, watch: bool) -> Exit:
    """What accelerators do, once or live."""
    if not watch:
        _print_top(await asker.ask(), what, form=form)
        return Exit.YES
    console = output.make_console()
    with live.Live(console=console, screen=console.is_terminal, auto_refresh=False) as screen:
        while True:
            seen = await asker.ask()
            screen.update(_top(seen, what, width=console.width, height=console.height), refresh=True)
            await asyncio.sleep(WATCH_SECONDS)


def _print_top(seen: observation.Observation, what: str, *, form: str | None) -> None:
    if form and what == "queues":
        commands.print_document(answer_documents.top_queues(figures.of_queues(seen.snapshot)), form)
    elif form:
        rows, totals = _nodes(seen)
        commands.print_document(answer_documents.top_nodes(seen, rows, totals), form)
    else:
        console = output.make_console()
        width = console.width if console.is_terminal else sys.maxsize
        output.write(_top(seen, what, width=width), wrap=False)


def _nodes(seen: observation.Observation) -> tuple[list[figures.NodeFigures], figures.Totals]:
    rows = figures.of_nodes(seen.snapshot, devices=seen.devices)
    return rows, figures.totals(rows, sizes=figures.pod_sizes(seen.snapshot.jobs))


def _top(seen: observation.Observation, what: str, *, width: int, height: int | None = None) -> RenderableType:
    if what == "queues":
        return top_module.show_queues(figures.of_queues(seen.snapshot), width=width)
    rows, totals = _nodes(seen)
    return top_module.show_nodes(seen, rows, totals, width=width, height=height)
