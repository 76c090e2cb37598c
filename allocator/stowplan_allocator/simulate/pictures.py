"""Pictures of a simulated run, as SVG for a page or as one PNG.

The only module that sets matplotlib up, and only when a picture is drawn: nobody else needs it. What must
stay true: the same run gives the same bytes; no global state of matplotlib is read or changed, so that a user's own
settings do not matter.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stowplan_allocator import inputs
from stowplan_allocator.simulate import charts, grids, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXTRA = "report"
# The name of the picture of jobs on nodes over time.
NODES = "nodes"
_WIDTH_INCHES = 10.0
_CHART_INCHES = 2.9
# The ink of a page's pictures: no picture uses this colour otherwise, and the page puts its own text colour there.
_PAGE_INK = "#010203"
_PAPER_INK = "#24292f"
# Names of nodes and the axis of a chart take about so much of its width.
_MARGIN_INCHES = 1.9
_LINE_INCHES = 0.16

type _Draw = Callable[[Axes, style.View, str], None]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its name for links, its title, and what it shows in a sentence or two."""

    name: str
    title: str
    caption: str
    draw: _Draw


def all_pictures(view: style.View) -> tuple[Picture, ...]:
    """Every picture of a run, in the order of the page."""
    gantt = grids.is_gantt(view)
    width = (_WIDTH_INCHES - _MARGIN_INCHES) * 72

    def nodes(axes: Axes, of: style.View, ink: str) -> None:
        grids.nodes_over_time(axes, of, ink=ink, width_points=width)

    return (
        Picture(
            "allocation",
            "Allocation over time",
            "Accelerators in use, broken and free. The dashed line is what running and waiting jobs want together: "
            "above the areas it is demand that the cluster could not serve at that moment.",
            lambda axes, of, ink: charts.allocation(axes, of, ink=ink),
        ),
        Picture(
            "queue",
            "Jobs in the queue",
            "Jobs that wait and jobs that run.",
            lambda axes, of, ink: charts.queue(axes, of, ink=ink),
        ),
        Picture(
            "delays",
            "Queueing delay",
            "For every duration, the share of jobs that spent at most so long in the queue, restarts included. "
            "Only jobs that ended are counted. The scale is logarithmic above ten seconds.",
            lambda axes, of, ink: charts.delays(axes, of, ink=ink),
        ),
        Picture(
            "reasons",
            "Why jobs waited",
            "Waiting jobs by the reason that they were last given.",
            lambda axes, of, ink: charts.reasons(axes, of, ink=ink),
        ),
        Picture(
            "fragmentation",
            "Fragmentation",
            "The share of free accelerators that a pod drawn from the workload could not use, because its node has "
            "too few of them free. There is a gap where nothing was free.",
            lambda axes, of, ink: charts.fragmentation(axes, of, ink=ink),
        ),
        Picture(
            NODES,
            "Jobs on nodes" if gantt else "Use of nodes",
            "One row per node, one lane per accelerator, one bar per run; a job keeps its colour over restarts."
            if gantt
            else "Nodes by product, domain and name from top to bottom, and how much of each was in use. "
            "Red: half of it or more was away.",
            nodes,
        ),
    )


def require() -> None:
    """Say what is missing before any work is done: ``InputError`` where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        cause = "pictures need matplotlib, which is not installed"
        raise inputs.InputError([inputs.Fault("", cause, f"pip install 'stowplan[{EXTRA}]', or write --json only")])


def svg(picture: Picture, view: style.View) -> str:
    """The picture as an SVG element without a background, in the colour of the text around it."""
    height = grids.height_inches(view) if picture.name == NODES else _CHART_INCHES
    with _settings(ink=_PAGE_INK, salt=picture.name):
        figure = _figure(height, ink=_PAGE_INK)
        axes = figure.add_subplot()
        _dress(axes)
        picture.draw(axes, view, _PAGE_INK)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :].replace(_PAGE_INK, "currentColor")


def png(
    view: style.View, *, title: str, facts: str, pictures: Sequence[Picture] | None = None, below: Sequence[str] = ()
) -> bytes:
    """The pictures, or all of them, on one sheet; lines of text ``below`` them."""
    pictures = pictures or all_pictures(view)
    heights = [grids.height_inches(view) if one.name == NODES else _CHART_INCHES for one in pictures]
    with _settings(ink=_PAPER_INK, salt="sheet"):
        below_inches = _LINE_INCHES * (len(below) + 1) if below else 0.0
        figure = _figure(sum(heights) + 0.42 * len(heights) + 0.6 + below_inches, ink=_PAPER_INK)
        figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=15, fontweight="bold")
        figure.text(0.012, 0.995, f"\n\n{facts}", ha="left", va="top", fontsize=9)
        if below:
            figure.supxlabel("\n".join(below), x=0.012, ha="left", fontsize=8.5)
        all_axes = figure.subplots(len(pictures), 1, height_ratios=heights, squeeze=False)
        for (axes,), picture in zip(all_axes, pictures, strict=True):
            _dress(axes)
            picture.draw(axes, view, _PAPER_INK)
            axes.set_title(picture.title, loc="left", fontsize=11, fontweight="bold", pad=_title_pad(axes))
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def _title_pad(axes: Axes) -> float:
    """Room for the legend between the chart and its title."""
    names = len(axes.get_legend_handles_labels()[1]) if axes.get_legend() else 0
    rows = -(-names // 4) if names > 5 else min(1, names)
    return 5.0 + 14.0 * rows


def _figure(height: float, *, ink: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _settings(*, ink: str, salt: str) -> Any:
    """Matplotlib's own defaults with ours on top, for as long as the context lasts."""
    import matplotlib as mpl

    defaults: Any = mpl.rcParamsDefault
    chosen: Any = {
        **defaults,
        "text.parse_math": False,
        "svg.hashsalt": salt,
        "svg.fonttype": "path",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "axes.titlecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "hatch.linewidth": 0.5,
        "hatch.color": ink,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "legend.handlelength": 1.4,
        "legend.columnspacing": 1.4,
        "axes.labelsize": 9,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "axes.formatter.useoffset": False,
        "font.family": ["DejaVu Sans"],
    }
    del chosen["backend"]
    return mpl.rc_context(chosen)


def _dress(axes: Axes) -> None:
    """A quiet frame: no box, a faint grid behind."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_alpha(0.4)
    axes.set_axisbelow(True)
    axes.grid(visible=True, linewidth=0.5, alpha=0.45, color=style.GREY)
    axes.margins(x=0)
