"""What the command says: progress while it runs, the figures at its end, and what was wrong.

What must stay true: progress appears on a terminal only and leaves nothing behind; names of users are printed as they
are, without the control characters that a terminal would obey.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import rich.console
import rich.padding
import rich.progress
import rich.table
import rich.text

from stowplan_allocator import inputs
from stowplan_allocator.simulate import engine, records, summary

_PIPE_WIDTH = 100
_MOST_JOBS = 5


def _console(*, errors: bool = False) -> rich.console.Console:
    stream = sys.stderr if errors else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return rich.console.Console(stderr=errors, markup=False, highlight=False, emoji=False, width=width)


def clean(words: str) -> str:
    """Text without control characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)


def write(pieces: Iterable[str]) -> None:
    """Text on standard output, as it is."""
    for piece in pieces:
        sys.stdout.write(piece)


def remarks(notes: Sequence[str]) -> None:
    """What the user should know, on standard error."""
    for note in notes:
        _console(errors=True).print(rich.text.Text(f"Note: {clean(note)}", style="dim"), soft_wrap=True)


def refuse(error: inputs.InputError) -> None:
    """Every fault on a line of its own, on standard error."""
    for line in error.lines():
        _console(errors=True).print(rich.text.Text.assemble(("Error: ", "bold red"), clean(line)), soft_wrap=True)


@contextlib.contextmanager
def progress(num_jobs: int) -> Iterator[engine.Progress | None]:
    """A bar of the jobs that have ended; nothing where standard error is no terminal."""
    console = _console(errors=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("jobs ended"),
        rich.progress.TimeElapsedColumn(),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Simulating", total=num_jobs)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(history: records.History, *, written: Sequence[pathlib.Path]) -> None:
    """The figures in words, the jobs that never started, and the files."""
    figures = summary.summarise(history)
    grid = rich.table.Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for label, words in (*_facts(figures), *_waits(history), *(("Wrote", str(path)) for path in written)):
        grid.add_row(label, rich.text.Text(clean(words)))
    console = _console()
    console.print(rich.text.Text(summary.facts(figures), style="bold"), soft_wrap=True)
    body = rich.padding.Padding(grid, (0, 0, 0, 2), expand=False)
    if console.is_terminal:
        console.print(body)
        return
    with console.capture() as capture:
        console.print(body)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _facts(figures: dict[str, summary.Figure]) -> Iterator[tuple[str, str]]:
    def time(name: str) -> str:
        return summary.duration(figures[f"{name}_seconds"])

    def share(name: str) -> str:
        value = figures[f"{name}_percent"]
        return "–" if value is None else f"{value:.1f} %"

    counts = ("completed", "failed", "unfinished", "never_started")
    yield "Jobs", ", ".join(f"{figures[name]:,} {name.replace('_', ' ')}" for name in counts)
    yield "Utilisation", f"{share('utilisation')}; until the last submission {share('utilisation_while_submitting')}"
    for label, name in (("Completion", "completion"), ("In the queue", "queue")):
        tail = f", longest {time('queue_max')}" if name == "queue" else ""
        yield (
            label,
            f"mean {time(f'{name}_mean')}, median {time(f'{name}_p50')}, 95 % within {time(f'{name}_p95')}{tail}",
        )
    yield "Fragmentation", f"{share('fragmentation_mean')} of what was free, on average"
    stops = f"{figures['runs_preempted']:,} preempted, {figures['runs_node_lost']:,} lost with their node"
    yield "Runs", f"{figures['runs']:,}; {stops}; {time('lost_job')} of their time lost"
    planning = f"{figures['events']:,} events, {figures['plans']:,} plans"
    yield "Planning", f"{planning}, {figures['plan_cpu_seconds']:,.1f} s of processor time"


def _waits(history: records.History) -> Iterator[tuple[str, str]]:
    first = [f"{reason.value} {count:,}" for reason, count, _ in summary.waiting_reasons(history) if count]
    if first:
        yield "First reasons", ", ".join(first)
    never = [job for job in history.jobs if not job.runs]
    for job in never[:_MOST_JOBS]:
        why = f": {job.last_reason.reason.value}: {job.last_reason.message}" if job.last_reason else ""
        yield "Never started", f"{job.job.name}{why}"
    if len(never) > _MOST_JOBS:
        yield "", f"and {len(never) - _MOST_JOBS:,} more"
