"""What every benchmark writes: one JSON object, and the same results as a table.

What must stay true: ``results`` is a list of flat objects with numbers, text or None, so that any
program can read them; wall and CPU time and peak memory cover the whole run, children included.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence

import rich.console
import rich.table

type Scalar = str | int | float | bool | None
type Row = Mapping[str, Scalar]

LIBRARIES = ("stowplan", "pulp", "highspy", "numpy")


class Meter:
    """Wall and CPU time since it was made, and the most memory that this process has held."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()

    def reading(self) -> dict[str, float]:
        """The three figures as the JSON object names them."""
        return {
            "wall_seconds": round(time.monotonic() - self._wall, 3),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "peak_memory_mib": round(_peak_memory_mib(), 1),
        }


def publish(
    title: str, *, inputs: Mapping[str, object], results: Sequence[Row], meter: Meter, path: str | None
) -> None:
    """Print the table and, where ``path`` is given, write the JSON object there (``-`` is standard output)."""
    report = {
        "inputs": dict(inputs),
        "versions": versions(),
        **meter.reading(),
        "results": [dict(row) for row in results],
    }
    text = json.dumps(report, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    show(rich.console.Console(), title, results)
    if path is not None:
        pathlib.Path(path).write_text(text, encoding="utf-8")


def show(console: rich.console.Console, title: str, results: Sequence[Row]) -> None:
    """Print a table where its lines fit, and into a file or a pipe whatever their length; else one block per result."""
    drawn = table(title, results)
    needed = console.measure(drawn, options=console.options.update(max_width=10_000)).maximum
    if needed <= console.width or not console.is_terminal:
        console.width = max(needed, console.width)
        console.print(drawn)
        return
    console.print(title, style="bold")
    for row in results:
        block = rich.table.Table(show_header=False)
        for name, value in row.items():
            block.add_row(name, _text(value))
        console.print(block)


def versions() -> dict[str, str]:
    """What ran: Python, our own version and those of the libraries that figures depend on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(title: str, results: Sequence[Row]) -> rich.table.Table:
    """One line per result and one column per field, in the order of their first use."""
    drawn = rich.table.Table(title=title)
    columns = list(dict.fromkeys(name for row in results for name in row))
    for name in columns:
        is_number = all(isinstance(row.get(name), int | float | None) for row in results)
        drawn.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in results:
        drawn.add_row(*(_text(row.get(name)) for name in columns))
    return drawn


def _text(value: Scalar) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_memory_mib() -> float:
    """The larger of this process and its largest child. Linux counts in KiB, macOS in bytes."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
