"""How answers reach the user: tables, labelled facts and paragraphs for people, JSON and YAML for programs.

Text of other people is printed as it is: no markup, no highlighting. Colour only on a terminal, and never
with NO_COLOR. Names are never cut; only a column that says so may end in an ellipsis on a narrow terminal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from rich import cells, console, padding, table, text

_PIPE_WIDTH = 100
_BAR_WIDTH = 24
_PHASE_STYLES = {
    "Pending": "yellow",
    "Starting": "cyan",
    "Running": "green",
    "Restarting": "magenta",
    "Suspended": "bright_black",
    "Succeeded": "bold green",
    "Failed": "bold red",
}


def make_console(*, stderr: bool = False) -> console.Console:
    """A console on stdout or stderr; where that is no terminal, 100 columns wide unless COLUMNS says otherwise."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return console.Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def write(renderable: console.RenderableType, *, wrap: bool = True) -> None:
    """Print on stdout; into a pipe or a file without blanks at line ends."""
    target = make_console()
    if target.is_terminal:
        target.print(renderable, soft_wrap=not wrap)
        return
    with target.capture() as capture:
        target.print(renderable, soft_wrap=not wrap)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def phase_style(phase: str) -> str:
    """The colour of a phase."""
    return _PHASE_STYLES.get(phase, "")


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a plain table: its heading, and how narrow it may get when the terminal is (0: it stays).

    What does not fit then goes on below where the column ``wraps``, else it ends in an ellipsis.
    """

    heading: str
    shrinks_to: int = 0
    wraps: bool = False


def plain_table(columns: Sequence[Column], rows: Iterable[Sequence[str | text.Text]], *, width: int) -> text.Text:
    """Columns as kubectl prints them. First the gaps shrink, then the columns that may, names on the left last."""
    body = [[one if isinstance(one, text.Text) else text.Text(one) for one in row] for row in rows]
    widths = [
        max((cells.cell_len(column.heading), *(row[index].cell_len for row in body)))
        for index, column in enumerate(columns)
    ]
    gap = 3 if sum(widths) + 3 * (len(columns) - 1) <= width else 2
    excess = sum(widths) + gap * (len(columns) - 1) - width
    for index, column in reversed(list(enumerate(columns))):
        if column.shrinks_to and excess > 0:
            cut = min(excess, max(0, widths[index] - column.shrinks_to))
            widths[index] -= cut
            excess -= cut
    lines = [[text.Text(column.heading, style="bold") for column in columns], *body]
    target = make_console()
    printed: list[text.Text] = []
    for line in lines:
        parts = [
            list(cell.wrap(target, widths[index], overflow="fold"))
            if columns[index].wraps and cell.cell_len > widths[index]
            else [cell]
            for index, cell in enumerate(line)
        ]
        for number in range(max(map(len, parts))):
            row = text.Text()
            for index, part in enumerate(parts):
                shown = part[number].copy() if number < len(part) else text.Text()
                shown.truncate(widths[index], overflow="ellipsis")
                row.append_text(shown)
                if index < len(columns) - 1:
                    row.append(" " * (widths[index] - shown.cell_len + gap))
            row.rstrip()
            printed.append(row)
    return text.Text("\n").join(printed)


def grid(headings: Sequence[str], rows: Iterable[Sequence[str | text.Text]]) -> table.Table:
    """A table inside an answer: only its last column wraps."""
    shown = table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, heading in enumerate(headings):
        last = index == len(headings) - 1
        shown.add_column(heading, no_wrap=not last, overflow="fold")
    for row in rows:
        shown.add_row(*(one if isinstance(one, text.Text) else text.Text(one) for one in row))
    return shown


def facts(pairs: Iterable[tuple[str, console.RenderableType]]) -> table.Table:
    """Labels and what belongs to them, in two columns; only the second wraps."""
    shown = table.Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column(no_wrap=True, style="dim")
    shown.add_column(overflow="fold")
    for label, value in pairs:
        shown.add_row(label, text.Text(value) if isinstance(value, str) else value)
    return shown


def pairs(rows: Iterable[tuple[str, str]]) -> table.Table:
    """Names and their values, in two columns without labels."""
    shown = table.Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in rows:
        shown.add_row(text.Text(name), text.Text(value))
    return shown


def indented(renderable: console.RenderableType) -> padding.Padding:
    """The same, two columns to the right."""
    return padding.Padding(renderable, (0, 0, 0, 2), expand=False)


def heading(words: str) -> text.Text:
    """The heading of a section."""
    return text.Text(f"\n{words}", style="bold")


def log_lines(tail: str, *, most: int = 20) -> text.Text:
    """The last lines of a log, each behind a bar."""
    lines = tail.rstrip("\n").split("\n")
    shown = lines[-most:]
    if len(lines) > most:
        shown.insert(0, f"… {len(lines) - most} lines before")
    return text.Text("\n").join(text.Text.assemble(("│ ", "dim"), line) for line in shown)


def progress_bar(fraction: float) -> text.Text:
    """A bar that reads without colour as well."""
    done = round(min(1.0, max(0.0, fraction)) * _BAR_WIDTH)
    return text.Text.assemble(("━" * done, "green"), ("─" * (_BAR_WIDTH - done), "dim"))


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _represent_text)


def serialise(value: Any, form: str) -> str:
    """The value as ``json`` or ``yaml``, with a line end."""
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
