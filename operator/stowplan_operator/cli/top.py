"""``top``: what accelerators do, node by node or queue by queue. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from stowplan_operator import observation
from stowplan_operator.cli import figures, output, words
from stowplan_operator.cli.output import Column

_HEADINGS = ("NODE", "PRODUCT", "GPUS", "USED", "OTHERS", "FREE", "BROKEN", "UTIL", "FRAG", "STATE")
_SHRINKS = {"NODE": 20, "PRODUCT": 10, "STATE": 12}
_QUEUE_HEADINGS = (
    "QUEUE",
    "PRODUCT",
    "NOMINAL",
    "USED",
    "BORROWED",
    "LENT",
    "PENDING",
    "RUNNING",
    "WAITING",
    "SHARE",
    "IDEAL",
)
_BUSY, _IDLE = 70.0, 20.0


def show_nodes(
    seen: observation.Observation,
    rows: Sequence[figures.NodeFigures],
    totals: figures.Totals,
    *,
    width: int,
    height: int | None = None,
) -> RenderableType:
    """The table; at most ``height`` lines where there is a screen to fill: nodes in trouble, then those with room."""
    if not rows:
        return Text("No node has GPUs.")
    shown = list(rows)
    note = ""
    if height is not None and len(shown) > height - 5:
        shown = sorted(shown, key=lambda row: (not row.node.blocked, not row.broken, -row.free))[: max(1, height - 6)]
        note = f"… and {words.count(len(rows) - len(shown), 'more node')}; without --watch all are shown"
    headings = [
        name
        for name in _HEADINGS
        if (name != "OTHERS" or totals.others) and (name != "UTIL" or seen.utilisation or seen.telemetry is not None)
    ]
    cells = [dict(zip(_HEADINGS, _cells(seen, row), strict=True)) for row in shown]
    columns = [Column(name, shrinks_to=_SHRINKS.get(name, 0)) for name in headings]
    table = output.plain_table(columns, [[cell[name] for name in headings] for cell in cells], width=width)
    parts: list[RenderableType] = [Text(_summary(seen, totals), style="bold"), Text(), table]
    if note:
        parts.append(Text(note, style="dim"))
    if seen.telemetry:
        parts.append(Text(f"\nUtilisation is stale: {seen.telemetry}", style="yellow"))
    return Group(*parts)


def _summary(seen: observation.Observation, totals: figures.Totals) -> str:
    said = [f"{totals.used} of {words.count(totals.total, 'GPU')} used on {words.count(totals.nodes, 'node')}"]
    said += [f"{totals.others} by others"] if totals.others else []
    said.append(f"{totals.free} free" + (f" ({figures.share(totals.fragmented)} fragmented)" if totals.free else ""))
    said += [f"{totals.blocked} blocked"] if totals.blocked else []
    said += [f"{totals.broken} broken"] if totals.broken else []
    if seen.utilisation:
        mean = sum(seen.utilisation.values()) / len(seen.utilisation)
        said.append(f"utilisation {mean:.0f}% on {words.count(len(seen.utilisation), 'node')}")
    return ", ".join(said)


def _cells(seen: observation.Observation, row: figures.NodeFigures) -> Iterator[str | Text]:
    utilisation = seen.utilisation.get(row.node.name)
    yield row.node.name
    yield row.node.product or words.UNKNOWN
    yield str(row.total)
    yield str(row.used)
    yield str(row.others)
    yield Text(str(row.free), style="green" if row.free else "")
    yield Text(str(row.broken), style="red" if row.broken else "")
    busy = "" if utilisation is None else "green" if utilisation >= _BUSY else "yellow" if utilisation < _IDLE else ""
    yield Text(words.UNKNOWN if utilisation is None else f"{utilisation:.0f}%", style=busy if row.used else "")
    yield figures.share(row.fragmented)
    why = "; ".join(one for one in (row.node.blocked, *seen.notes.get(row.node.name, ())) if one)
    yield Text(why or "ok", style="red" if row.node.blocked else "yellow" if why else "dim")


def show_queues(rows: Sequence[figures.QueueFigures], *, width: int) -> RenderableType:
    """The table of queues."""
    columns = [
        Column(name, shrinks_to=12, wraps=True) if name in ("QUEUE", "PRODUCT") else Column(name)
        for name in _QUEUE_HEADINGS
    ]
    cells: list[list[str | Text]] = [
        [
            row.name or "(default)",
            row.product or words.UNKNOWN,
            words.UNKNOWN if row.nominal is None else str(row.nominal),
            str(row.used),
            Text(str(row.borrowed), style="yellow" if row.borrowed else ""),
            str(row.lent),
            str(row.pending),
            str(row.running),
            str(row.waiting),
            words.UNKNOWN if row.fault else figures.share(row.share),
            words.UNKNOWN if row.fault else figures.share(row.ideal),
        ]
        for row in rows
    ]
    table = output.plain_table(columns, cells, width=width)
    faults = {row.name: row.fault for row in rows if row.fault}
    if not faults:
        return table
    said = Text("\nNot planned with; their running jobs go on, others wait", style="bold yellow")
    return Group(table, said, *(Text(f"  {name}  {fault}") for name, fault in faults.items()))
