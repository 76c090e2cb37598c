"""What the commands on the operator's snapshot do: ask, plan, print; the exit code is the answer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from rich import live
from rich.console import Group, RenderableType
from rich.text import Text

import stowplan_allocator
from stowplan_allocator import alternatives, inputs, types
from stowplan_allocator.simulate import pictures
from stowplan_operator import observation
from stowplan_operator.cli import (
    answer_documents,
    changes,
    checking,
    commands,
    deep,
    documents,
    explaining,
    figures,
    output,
    plan_report,
    planning,
    pulse,
    refusals,
    rights,
    schedule,
)
from stowplan_operator.cli import defrag as defrag_module
from stowplan_operator.cli import top as top_module
from stowplan_operator.cli import what_if as what_if_module
from stowplan_operator.cli.asking import Asker
from stowplan_operator.cli.exits import CliError, Exit

WATCH_SECONDS = 5.0


async def print_snapshot(asker: Asker) -> Exit:
    """The document, one line of JSON."""
    sys.stdout.write(observation.write(await asker.ask()))
    return Exit.YES


async def what_if(asker: Asker, *, given: Sequence[str], form: str | None) -> Exit:
    """Both plans, before and after; yes where nobody is worse off and every submitted job gets its place."""
    wanted = changes.parse(given)
    submitted = [manifest for change in wanted for manifest in change.manifests]
    if asker.cluster is None:
        checking.by_schema(submitted)
    else:
        await checking.by_cluster(submitted, asker.cluster)
    seen = await asker.ask()
    changed = changes.apply(seen, wanted, namespace=asker.namespace)
    found = what_if_module.compare(seen, wanted, changed)
    if form:
        commands.print_document(answer_documents.what_if(found), form)
    else:
        console = output.make_console()
        output.write(what_if_module.show(found, width=console.width))
    return Exit.YES if found.is_yes else Exit.NO


async def defrag(asker: Asker, *, name: str | None, budget_hours: float | None, form: str | None) -> Exit:
    """Who would move for the job, or for whole nodes; yes where that helps, or the job needs nobody to move."""
    seen = await asker.ask()
    budget = None if budget_hours is None else round(budget_hours * 3600)
    if name is None:
        found = await asyncio.to_thread(defrag_module.for_nodes, seen, budget=budget)
    else:
        job = changes.find_job(seen.snapshot, name, namespace=asker.namespace)
        found = await asyncio.to_thread(defrag_module.for_job, seen, job, budget=budget)
    if form:
        commands.print_document(answer_documents.defrag(found, defrag_module.command(found, asker.speaker)), form)
    else:
        output.write(defrag_module.show(found, asker.speaker, width=output.make_console().width))
    return Exit.YES if found.is_yes else Exit.NO


async def top(asker: Asker, *, what: str, form: str | None, watch: bool) -> Exit:
    """What accelerators do, once or live."""
    if not watch:
        _print_top(await asker.ask(), what, form=form)
        return Exit.YES
    console = output.make_console()
    seen = await asker.ask()
    with live.Live(console=console, screen=console.is_terminal, auto_refresh=False) as screen:
        trouble = ""
        while True:
            table = _top(seen, what, width=console.width, height=console.height - 2)
            note = Text(f"\nThis is what was there before: {trouble}", style="yellow") if trouble else Text()
            screen.update(Group(table, note), refresh=True)
            await asyncio.sleep(WATCH_SECONDS)
            try:
                seen, trouble = await asker.ask(), ""
            except refusals.TransientError as error:  # an operator that is replaced comes back
                trouble = error.message


def _print_top(seen: observation.Observation, what: str, *, form: str | None) -> None:
    if form and what == "queues":
        commands.print_document(answer_documents.top_queues(figures.of_queues(seen)), form)
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
        return top_module.show_queues(figures.of_queues(seen), width=width)
    rows, totals = _nodes(seen)
    return top_module.show_nodes(seen, rows, totals, width=width, height=height)


async def show_plan(asker: Asker, *, form: str | None, html: pathlib.Path | None, png: pathlib.Path | None) -> Exit:
    """The current plan and the starts that it leads to; also into files."""
    if html or png:
        _require_pictures()
    seen = await asker.ask()
    # A bare snapshot holds no plan.
    plan = seen.plan or stowplan_allocator.plan(seen.snapshot, seen.settings)
    future = schedule.of(seen)
    if html:
        _write(html, plan_report.page(seen, plan, future).encode())
    if png:
        _write(png, plan_report.png(seen, plan, future))
    if form:
        commands.print_document(answer_documents.plan(seen, plan, future), form)
    else:
        age = max(0.0, asker.speaker.now - seen.snapshot.now_seconds)
        output.write(planning.show(seen, plan, future, age_seconds=age, width=output.make_console().width))
    return Exit.YES


def _require_pictures() -> None:
    try:
        pictures.require()
    except inputs.InputError as error:
        fault = error.faults[0]
        raise CliError(fault.cause, code=Exit.USAGE, hint=f"pip install 'stowplan[{pictures.EXTRA}]'") from None


def _write(path: pathlib.Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}", code=Exit.USAGE) from None
    commands.remark(f"Wrote {path}")


async def explain(asker: Asker, *, name: str, form: str | None) -> Exit:
    """As ``explain``, and the changes that would start the job; from the plan alone where a saved snapshot is given."""
    if asker.cluster is None:
        return await _explain_saved(asker, name, form=form)
    job = (await asker.cluster.get_job(name)).printable
    beat = await pulse.take(asker.cluster, asker.operator_namespace, asker.speaker)
    said = explaining.explain(job, asker.speaker, pulse=beat)
    said = dataclasses.replace(said, next=tuple(one for one in said.next if explaining.DEEP not in one.command))
    said = await rights.within(said, asker.cluster, asker.speaker, operator_namespace=asker.operator_namespace)
    try:
        seen = await asker.ask()
    except CliError:  # what is known without it is still an answer
        commands.print_explanation(job, said, asker.speaker, form=form)
        raise
    planned = next((one for one in seen.snapshot.jobs if one.id == job.uid), None)
    found = await _explored(seen, planned) if planned is not None else None
    if form:
        told = deep.document(found) if found is not None else None
        commands.print_document(documents.explanation(job, said, deep=told), form)
        return said.answer.exit
    output.write(explaining.show(job, said, asker.speaker))
    if planned is not None and found is not None:
        output.write(deep.show(planned, found))
    else:
        output.write(Text("\nThe operator does not plan it now, so no change was tried.", style="dim"))
    output.write(explaining.show_next(said), wrap=False)
    return said.answer.exit


async def _explain_saved(asker: Asker, name: str, *, form: str | None) -> Exit:
    seen = await asker.ask()
    job = changes.find_job(seen.snapshot, name, namespace=asker.namespace)
    fate, shown = deep.show_snapshot(seen, job)
    found = await _explored(seen, job)
    if form:
        commands.print_document(answer_documents.explanation(job, fate, deep.document(found)), form)
    else:
        output.write(shown)
        output.write(deep.show(job, found))
    return Exit.YES if fate.lot.has_place else Exit.NO


async def _explored(seen: observation.Observation, job: types.Job) -> alternatives.Exploration:
    """Tried with a sign of life on a terminal: it may take the whole budget."""
    console = output.make_console(stderr=True)
    with console.status("Trying changes …") if console.is_terminal else contextlib.nullcontext():
        return await asyncio.to_thread(deep.explore, seen, job)
