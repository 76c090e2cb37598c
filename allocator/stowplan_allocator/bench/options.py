"""Options that several benchmarks have, each checked before anything is measured.

What must stay true: a number that no cluster or workload can have, and a file that cannot be written,
are refused at once and in a sentence; a run of minutes never ends in a traceback for want of a folder.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import click

SOME = click.IntRange(min=1)
SOME_OR_NONE = click.IntRange(min=0)


class _Amount(click.FloatRange):
    """A finite number above zero."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; ``inf`` and ``nan`` are floats to Python, and no amounts."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


AMOUNT = _Amount()


def listed(text: str, *, known: Iterable[str] | None = None, what: str = "name") -> list[str]:
    """The names in a list separated by commas: at least one, and all of them known."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if not chosen:
        raise click.BadParameter(f"an empty list; give at least one {what}")
    every = None if known is None else list(known)
    if every is not None and (unknown := [name for name in chosen if name not in every]):
        raise click.BadParameter(f"{what} {', '.join(unknown)} unknown; there are {', '.join(every)}")
    return chosen


def writable(_context: click.Context, _option: click.Parameter, path: str | None) -> str | None:
    """The path of a file that can be written; ``-`` and none at all are as good."""
    if path is None or path == "-":
        return path
    file = pathlib.Path(path)
    if file.is_dir():
        raise click.BadParameter(f"{path} is a folder; name a file in it")
    if not file.parent.is_dir():
        raise click.BadParameter(f"there is no folder {file.parent}; make it first")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written; name another file")
    return path


json_file = click.option(
    "--json", "path", metavar="FILE", callback=writable, help="Write all figures here as one JSON object; - prints it."
)
