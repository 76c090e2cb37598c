"""Tables of nodes and jobs: CSV with one line of column names.

A column ``a.b`` is the field ``b`` of the object ``a``, so that tables and YAML share one set of fields. What must
stay true: a message about a cell names file, line and column.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from stowplan_allocator import inputs
from stowplan_allocator.simulate.fields import Fields

# Only these: the name of a resource may hold a dot as well.
OBJECTS = ("topology", "labels", "node_selector", "spread")


def read(text: str, *, where: str, faults: list[inputs.Fault]) -> Iterator[Fields]:
    """Every line of the table as a record; blank lines and lines that begin with ``#`` are passed over."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    columns: list[str] = []
    start = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            faults.append(inputs.Fault(f"{where}, line {start}", f"this is no CSV: {error}", "check its quotes"))
            return
        line, start = start, reader.line_num + 1
        if cells is None:
            break
        if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
            continue
        if not columns:
            columns = [cell.strip() for cell in cells]
            if not _check_columns(columns, where=f"{where}, line {line}", faults=faults):
                return
            continue
        if len(cells) != len(columns):
            cause = f"{len(cells)} cells under {len(columns)} columns"
            faults.append(inputs.Fault(f"{where}, line {line}", cause, "write one cell per column; quote commas"))
            continue
        yield _record(columns, cells, where=f"{where}, line {line}", faults=faults)
    if not columns:
        faults.append(inputs.Fault(where, "the table is empty", "begin it with a line of column names"))


def _check_columns(columns: list[str], *, where: str, faults: list[inputs.Fault]) -> bool:
    before = len(faults)
    for column in dict.fromkeys(columns):
        if not column:
            faults.append(inputs.Fault(where, "a column has no name", "name every column"))
        elif columns.count(column) > 1:
            faults.append(inputs.Fault(where, f'column "{column}" stands twice', "keep one of them"))
    return len(faults) == before


def _record(columns: list[str], cells: list[str], *, where: str, faults: list[inputs.Fault]) -> Fields:
    data: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        outer, dot, inner = column.partition(".")
        if dot and outer in OBJECTS:
            # An empty cell is no label with an empty value; a level keeps its place in the order of levels.
            if cell.strip() or outer == "topology":
                data.setdefault(outer, {})[inner] = cell.strip()
        else:
            data[column] = cell.strip()
    return Fields(data, place=lambda name: f"{where}, column {name}", faults=faults)
