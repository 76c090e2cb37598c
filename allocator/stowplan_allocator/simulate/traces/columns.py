"""The lines of a trace's table, by the columns that its loader needs.

What must stay true: a trace has its own columns, so others may stand beside them; one that is missing, or a cell
that cannot be read, is named with file and line.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable, Sequence

from stowplan_allocator import inputs
from stowplan_allocator.simulate import values


class Line:
    """One line: its cells by column, and its place."""

    __slots__ = ("_cells", "_faults", "_index", "_where")

    def __init__(self, cells: list[str], *, index: dict[str, int], where: str, faults: list[inputs.Fault]) -> None:
        self._cells = cells
        self._index = index
        self._where = where
        self._faults = faults

    def text(self, column: str) -> str:
        """The cell; empty where the trace has no such column."""
        index = self._index.get(column)
        return "" if index is None else self._cells[index].strip()

    def number(self, column: str, *, read: values.Reader[int] = values.count, default: int | None = None) -> int:
        """A number that is not negative; ``default``, if there is one, where the cell is empty."""
        cell = self.text(column)
        if cell == "" and default is not None:
            return default
        try:
            return read(cell)
        except values.Bad as error:
            self._faults.append(inputs.Fault(f"{self._where}, column {column}", error.cause, error.fix))
            return 0


def read[T](path: pathlib.Path, *, needs: Sequence[str], make: Callable[[Line], T]) -> tuple[T, ...]:
    """Every line of the table; ``InputError`` with all faults."""
    faults: list[inputs.Fault] = []
    made: list[T] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            index = {name: position for position, name in enumerate(header)}
            missing = [name for name in needs if name not in index]
            if missing:
                cause = f"the table has no column {', '.join(missing)}"
                raise inputs.InputError([inputs.Fault(str(path), cause, "give the trace as it was published")])
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if len(cells) == len(header):
                    made.append(make(Line(cells, index=index, where=where, faults=faults)))
                elif cells:
                    faults.append(inputs.Fault(where, f"{len(cells)} cells under {len(header)} columns"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fault = inputs.Fault(str(path), f"it cannot be read: {reason}", "name the trace's own file")
        raise inputs.InputError([fault]) from None
    inputs.refuse(faults)
    return tuple(made)
