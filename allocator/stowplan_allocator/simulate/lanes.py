"""What stood where and when: runs as bars on the lanes of a node, or all nodes as cells of use over time.

What must stay true: a node has one lane per accelerator, two runs never share one, and the cells add up to the
time that jobs held. Nothing here draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stowplan_allocator import types
from stowplan_allocator.simulate import records, style

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bar:
    """A run on one node: its first lane and how many, counted from the top of the picture."""

    job: records.JobRecord
    number: int
    run: records.Run
    lane: int
    lanes: int


def drawn_nodes(view: style.View) -> tuple[types.Node, ...]:
    """Nodes with accelerators: by product, then domain, then name."""
    nodes = [node for node in view.history.nodes if node.allocatable.accelerators > 0]

    def place(node: types.Node) -> tuple[object, ...]:
        return node.product, tuple(_natural(name or "") for name in node.topology), _natural(node.name)

    return tuple(sorted(nodes, key=place))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """``node-2`` before ``node-10``: of two numbers the longer one is the larger."""
    parts: list[tuple[int, str]] = []
    for is_number, letters in itertools.groupby(name, key=str.isdecimal):
        word = "".join(letters)
        parts.append((len(word.lstrip("0")), word.lstrip("0")) if is_number else (-1, word))
    return tuple(parts)


def bars(view: style.View, nodes: Sequence[types.Node]) -> list[Bar]:
    """Every run that held accelerators, on the lanes that were free when it began."""
    first_lane: dict[str, int] = {}
    lanes = 0
    for one in nodes:
        first_lane[one.name] = lanes
        lanes += one.allocatable.accelerators
    free = {node.name: [True] * node.allocatable.accelerators for node in nodes}
    found: list[Bar] = []
    held: dict[tuple[int, int, str], list[int]] = {}
    for _, is_start, number, index, share in _changes(view, first_lane):
        job, node = view.history.jobs[number], share.node
        if not is_start:
            for lane in held.pop((number, index, node)):
                free[node][lane] = True
            continue
        taken = _take(free[node], job.job.pod.accelerators * share.num_pods)
        held[number, index, node] = taken
        for start, length in _stretches(taken):
            found.append(Bar(job, number, job.runs[index], first_lane[node] + start, length))
    return found


def _changes(view: style.View, known: dict[str, int]) -> Iterator[tuple[int, bool, int, int, types.NodeShare]]:
    """Starts and ends of runs on nodes, in the order of time; ends before starts of the same moment."""
    changes = [
        (moment, is_start, number, index, share)
        for number, job in enumerate(view.history.jobs)
        if job.job.pod.accelerators
        for index, run in enumerate(job.runs)
        if run.end_seconds > run.start_seconds
        for share in run.placement.shares
        if share.node in known
        for moment, is_start in ((run.start_seconds, True), (run.end_seconds, False))
    ]
    yield from sorted(changes, key=lambda change: (change[:4], change[4].node))


def _take(free: list[bool], wanted: int) -> list[int]:
    """Lanes side by side where there are enough, else the first free ones."""
    stretches = _stretches([lane for lane, is_free in enumerate(free) if is_free])
    fitting = min((one for one in stretches if one[1] >= wanted), key=lambda one: (one[1], one[0]), default=None)
    if fitting is not None:
        taken = list(range(fitting[0], fitting[0] + wanted))
    else:
        taken = [lane for lane, is_free in enumerate(free) if is_free][:wanted]
    for lane in taken:
        free[lane] = False
    return taken


def _stretches(lanes: Sequence[int]) -> list[tuple[int, int]]:
    """Lanes as stretches of neighbours: first lane and length."""
    found: list[tuple[int, int]] = []
    for lane in lanes:
        if found and found[-1][0] + found[-1][1] == lane:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((lane, 1))
    return found


def use(view: style.View, nodes: Sequence[types.Node], *, rows: int, columns: int) -> NDArray[np.float64]:
    """Use of accelerators in per cent, nodes by time; several nodes share a row where there are more than rows.

    Not a number where half of the row or more was away.
    """
    import numpy as np

    rows = min(rows, len(nodes))
    row_of = {node.name: index * rows // len(nodes) for index, node in enumerate(nodes)}
    room = np.zeros(rows)
    for node in nodes:
        room[row_of[node.name]] += node.allocatable.accelerators
    scale = columns / view.span_seconds
    start = view.history.started_at_seconds
    held: list[tuple[int, float, float, float]] = [
        (
            row_of[share.node],
            (run.start_seconds - start) * scale,
            (run.end_seconds - start) * scale,
            float(share.num_pods * job.job.pod.accelerators),
        )
        for job in view.history.jobs
        for run in job.runs
        for share in run.placement.shares
        if share.node in row_of
    ]
    away: list[tuple[int, float, float, float]] = [
        (row_of[node.name], (down - start) * scale, (back - start) * scale, float(node.allocatable.accelerators))
        for node in nodes
        for down, back in view.downtimes.get(node.name, ())
    ]
    cells = _spread(held, rows=rows, columns=columns) / room[:, None] * 100
    cells[_spread(away, rows=rows, columns=columns) >= room[:, None] / 2] = np.nan
    return cells


def _spread(spans: Sequence[tuple[int, float, float, float]], *, rows: int, columns: int) -> NDArray[np.float64]:
    """Amounts over time as means per cell: each span gives every cell its amount times the part that it covers."""
    import numpy as np

    inside = np.zeros((rows, columns + 1))
    after = np.zeros((rows, columns + 1))
    if spans:
        row, begin, end, amount = (np.array(part) for part in zip(*spans, strict=True))
        for when, change in ((begin, amount), (end, -amount)):
            cell: NDArray[Any] = np.minimum(when.astype(np.int64), columns)
            np.add.at(inside, (row, cell), change * (cell + 1 - when))
            np.add.at(after, (row, np.minimum(cell + 1, columns)), change)
    spread: NDArray[np.float64] = (inside + np.cumsum(after, axis=1))[:, :columns]
    return np.clip(spread, 0.0, None)
