"""Nodes over time: a bar for every run where there are few nodes, a map of their use where there are many.

What must stay true: which of the two is drawn depends on the run alone; names of users are drawn as they are.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from stowplan_allocator import types
from stowplan_allocator.simulate import charts, lanes, records, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NODES = 40
MOST_LANES = 400
MOST_BARS = 3000
_MAP_ROWS, _MAP_COLUMNS = 500, 480
_NAME_LENGTH = 22
_CHARACTER_POINTS = 3.9
_STOPS = {
    records.Outcome.NODE_LOST: ("lost with its node", "x", style.RED),
    records.Outcome.PREEMPTED: ("preempted", ">", None),
    records.Outcome.FAILED: ("failed", "D", style.RED),
}


def is_gantt(view: style.View) -> bool:
    """Whether every run can be told apart."""
    nodes = lanes.drawn_nodes(view)
    runs = sum(len(run.placement.shares) for job in view.history.jobs for run in job.runs)
    num_lanes = sum(node.allocatable.accelerators for node in nodes)
    return len(nodes) <= MOST_NODES and num_lanes <= MOST_LANES and runs <= MOST_BARS


def height_inches(view: style.View) -> float:
    """How high the picture must be to be read."""
    if not is_gantt(view):
        return 4.6
    nodes = len(lanes.drawn_nodes(view))
    return max(2.4, 1.2 + nodes * (0.62 if nodes <= 10 else 0.36))


def nodes_over_time(axes: Axes, view: style.View, *, ink: str, width_points: float) -> None:
    """The picture of nodes that suits the run."""
    nodes = lanes.drawn_nodes(view)
    if not nodes:
        charts.empty(axes, "The cluster has no accelerators", view)
    elif is_gantt(view):
        _gantt(axes, view, nodes, ink=ink, width_points=width_points)
    else:
        _map(axes, view, nodes, ink=ink)


def _gantt(axes: Axes, view: style.View, nodes: tuple[types.Node, ...], *, ink: str, width_points: float) -> None:
    from matplotlib.collections import PolyCollection

    drawn = lanes.bars(view, nodes)
    colours = _colours(drawn)
    gap = 1.2 * view.at(view.history.started_at_seconds + view.span_seconds) / width_points
    boxes = []
    planned = [view.is_forecast and bar.job.job.placement is None for bar in drawn]
    for bar in drawn:
        left, right = view.at(bar.run.start_seconds), view.at(bar.run.end_seconds)
        right = max(right - gap, left + (right - left) / 2)
        top, bottom = bar.lane + 0.06, bar.lane + bar.lanes - 0.06
        boxes.append([(left, top), (right, top), (right, bottom), (left, bottom)])
    for is_planned, alpha in ((False, 0.92), (True, 0.45)):
        chosen = [index for index, one in enumerate(planned) if one is is_planned]
        faces = [colours[drawn[index].number] for index in chosen]
        axes.add_collection(
            PolyCollection([boxes[index] for index in chosen], facecolors=faces, linewidths=0, alpha=alpha)
        )
    if view.is_forecast:
        _forecast_key(axes, view, drawn, planned, ink=ink)
    _away(axes, view, nodes, ink=ink)
    _stops(axes, view, drawn, ink=ink)
    _node_axis(axes, nodes, ink=ink)
    charts.over_time(axes, view)
    _names(axes, view, drawn, colours=colours, planned=planned, ink=ink, width_points=width_points)
    if axes.get_legend_handles_labels()[1]:
        charts.legend(axes)


def _forecast_key(axes: Axes, view: style.View, drawn: list[lanes.Bar], planned: list[bool], *, ink: str) -> None:
    """Which bars run and which are planned, and whose end is not known."""
    for is_planned, alpha, label in ((False, 0.92, "runs"), (True, 0.45, "planned")):
        if is_planned in planned:
            axes.fill_between([0, 0], 0, 0, facecolor=style.GREY, alpha=alpha, linewidth=0, label=label)
    going_on = [bar for bar in drawn if bar.run.outcome is records.Outcome.UNFINISHED]
    if going_on:
        axes.scatter(
            [view.at(bar.run.end_seconds) for bar in going_on],
            [bar.lane + bar.lanes / 2 for bar in going_on],
            marker=">",
            color=ink,
            s=34,
            zorder=3,
            clip_on=False,
            label="goes on, end not known",
        )


def _colours(drawn: list[lanes.Bar]) -> dict[int, str]:
    """A colour for every job, in turn; not that of the bar before it on a lane, so that neighbours differ."""
    chosen: dict[int, str] = {}
    last: dict[int, int] = {}
    turn = 0
    for bar in sorted(drawn, key=lambda bar: (bar.run.start_seconds, bar.number, bar.lane)):
        taken = range(bar.lane, bar.lane + bar.lanes)
        if bar.number not in chosen:
            before = {chosen[last[lane]] for lane in taken if lane in last}
            palette = [
                style.JOB_COLOURS[(turn + step) % len(style.JOB_COLOURS)] for step in range(len(style.JOB_COLOURS))
            ]
            chosen[bar.number] = next((colour for colour in palette if colour not in before), palette[0])
            turn += 1
        last.update(dict.fromkeys(taken, bar.number))
    return chosen


def _away(axes: Axes, view: style.View, nodes: tuple[types.Node, ...], *, ink: str) -> None:
    lane, label = 0, "node away"
    for node in nodes:
        for down, back in view.downtimes.get(node.name, ()):
            axes.fill_between(
                [view.at(down), view.at(back)],
                lane,
                lane + node.allocatable.accelerators,
                facecolor=style.GREY,
                edgecolor=ink,
                hatch="////",
                alpha=0.35,
                linewidth=0,
                label=label,
            )
            label = ""
        lane += node.allocatable.accelerators


def _stops(axes: Axes, view: style.View, drawn: list[lanes.Bar], *, ink: str) -> None:
    for outcome, (label, marker, colour) in _STOPS.items():
        stopped = [bar for bar in drawn if bar.run.outcome is outcome]
        if stopped:
            axes.scatter(
                [view.at(bar.run.end_seconds) for bar in stopped],
                [bar.lane + bar.lanes / 2 for bar in stopped],
                marker=marker,
                color=colour or ink,
                s=16,
                linewidths=1.4,
                zorder=3,
                label=label,
            )


def _node_axis(axes: Axes, nodes: tuple[types.Node, ...], *, ink: str) -> None:
    edges = [0]
    for node in nodes:
        edges.append(edges[-1] + node.allocatable.accelerators)
    axes.set_ylim(edges[-1], 0)
    middles = [(above + below) / 2 for above, below in itertools.pairwise(edges)]
    axes.set_yticks(middles, [style.shortened(node.name, _NAME_LENGTH) for node in nodes])
    axes.tick_params(axis="y", length=0, labelsize=8 if len(nodes) <= 20 else 7)
    axes.grid(visible=False, axis="y")
    for edge in edges[1:-1]:
        axes.axhline(edge, color=ink, linewidth=0.6, alpha=0.3)


def _names(
    axes: Axes,
    view: style.View,
    drawn: list[lanes.Bar],
    *,
    colours: dict[int, str],
    planned: list[bool],
    ink: str,
    width_points: float,
) -> None:
    """Names of jobs in bars that have room for them; of a forecast, with its few jobs, else beside them."""
    per_second = width_points / view.span_seconds
    for bar, is_planned in zip(drawn, planned, strict=True):
        room = (bar.run.end_seconds - bar.run.start_seconds) * per_second
        is_inside = True
        if view.is_forecast and (room - 4) / _CHARACTER_POINTS < len(bar.job.job.name):
            beside = (_free_until(bar, drawn, view) - bar.run.end_seconds) * per_second
            is_inside, room = room >= beside, max(room, beside)
        most = int((room - 4) / _CHARACTER_POINTS)
        name = style.shortened(bar.job.job.name, most) if most >= 4 else ""
        # A bar of one lane is as high as its text only where nodes have few lanes.
        if not name or bar.lanes < _lanes_per_text(axes):
            continue
        axes.text(
            view.at(bar.run.start_seconds if is_inside else bar.run.end_seconds),
            bar.lane + bar.lanes / 2,
            f" {name}",
            fontsize=6.5,
            va="center_baseline",
            color=ink if is_planned or not is_inside else style.ink_on(colours[bar.number]),
            clip_on=True,
        )


def _free_until(bar: lanes.Bar, drawn: list[lanes.Bar], view: style.View) -> int:
    """When the next run begins on one of the bar's lanes; the picture's end where none does."""
    after = (
        one.run.start_seconds
        for one in drawn
        if one.run.start_seconds >= bar.run.end_seconds
        and one.lane < bar.lane + bar.lanes
        and bar.lane < one.lane + one.lanes
    )
    return min(after, default=view.history.started_at_seconds + view.span_seconds)


def _lanes_per_text(axes: Axes) -> float:
    """How many lanes high a line of text is."""
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes belong to a figure"
    points = axes.get_window_extent().height * 72 / figure.dpi
    bottom, top = axes.get_ylim()
    return 7.0 * abs(bottom - top) / max(points, 1.0)


def _map(axes: Axes, view: style.View, nodes: tuple[types.Node, ...], *, ink: str) -> None:
    from matplotlib import colormaps

    cells = lanes.use(view, nodes, rows=_MAP_ROWS, columns=_MAP_COLUMNS)
    colours = colormaps["cividis"].with_extremes(bad=style.RED)
    right = view.at(view.history.started_at_seconds + view.span_seconds)
    image = axes.imshow(
        cells,
        aspect="auto",
        interpolation="nearest",
        cmap=colours,
        vmin=0,
        vmax=100,
        extent=(0, right, len(nodes), 0),
    )
    axes.grid(visible=False)
    step = -(-len(nodes) // 12)
    shown = range(0, len(nodes), step)
    several = len({node.product for node in nodes}) > 1
    named = [f"{node.product} {node.name}" if several else node.name for node in nodes]
    labels = [style.shortened(named[index], _NAME_LENGTH) for index in shown]
    axes.set_yticks([index + 0.5 for index in shown], labels)
    axes.tick_params(axis="y", labelsize=8)
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes belong to a figure"
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=28)
    bar.set_label("accelerators in use, %", color=ink)
    bar.ax.spines["outline"].set_visible(False)
    charts.over_time(axes, view)
    axes.set_xlim(0, right)
