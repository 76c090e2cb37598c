"""The charts over time and the distribution of delays, each drawn into axes that it is given.

What must stay true: a chart says so in words where there is nothing to draw; text of users is drawn as it is,
never as a formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stowplan_allocator import types
from stowplan_allocator.simulate import records, style, summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

_DEMAND_LIMIT = 2.0
_MARKS = (0, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
_CDF_POINTS = 500


def allocation(axes: Axes, view: style.View, *, ink: str) -> None:
    """Used, broken and free accelerators, and how many running and waiting jobs want together."""
    samples = view.samples
    total = max((sample.accelerators_total for sample in samples), default=0)
    if not total:
        empty(axes, "The cluster has no accelerators", view)
        return
    times = [view.at(sample.time_seconds) for sample in samples]
    parts = {
        "in use": ([sample.accelerators_used for sample in samples], style.BLUE, 0.9),
        "broken": ([sample.accelerators_broken for sample in samples], style.RED, 0.75),
        "free": ([sample.accelerators_free for sample in samples], style.GREY, 0.3),
    }
    stack(axes, times, parts)
    wanted = [sample.accelerators_used + sample.accelerators_waiting for sample in samples]
    axes.step(times, wanted, where="post", color=ink, linewidth=1.1, linestyle=(0, (4, 2)), label="wanted")
    top = min(max([total, *wanted]), total * _DEMAND_LIMIT)
    axes.set_ylim(0, top * 1.04)
    if max(wanted) > top:
        note = f"wanted reaches {max(wanted):,}"
        axes.text(0.995, 0.97, note, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=ink)
    axes.set_ylabel("accelerators")
    whole_numbers(axes)
    over_time(axes, view)
    legend(axes)


def queue(axes: Axes, view: style.View, *, ink: str) -> None:
    """Jobs that wait and jobs that run."""
    samples = view.samples
    times = [view.at(sample.time_seconds) for sample in samples]
    waiting = [sample.jobs_waiting for sample in samples]
    running = [sample.jobs_running for sample in samples]
    if not any(waiting) and not any(running):
        empty(axes, "No job at any sample", view)
        return
    axes.fill_between(times, waiting, step="post", color=style.ORANGE, alpha=0.35, linewidth=0)
    axes.step(times, waiting, where="post", color=style.ORANGE, linewidth=1.4, label="waiting")
    axes.step(times, running, where="post", color=style.BLUE, linewidth=1.2, label="running")
    axes.set_ylabel("jobs")
    whole_numbers(axes)
    axes.set_ylim(0, max(*waiting, *running, 1) * 1.06)
    over_time(axes, view)
    legend(axes)


def fragmentation(axes: Axes, view: style.View, *, ink: str) -> None:
    """The share of free accelerators that a typical pod cannot use; a gap where nothing is free."""
    samples = view.samples
    shares = [100 * one.fragmented_share if one.accelerators_free > 0 else float("nan") for one in samples]
    known = [share for share in shares if share == share]
    if not known:
        empty(axes, "Nothing was free at any sample", view)
        return
    times = [view.at(sample.time_seconds) for sample in samples]
    axes.fill_between(times, shares, step="post", color=style.PURPLE, alpha=0.25, linewidth=0)
    axes.step(times, shares, where="post", color=style.PURPLE, linewidth=1.3, label="of what is free")
    mean = sum(known) / len(known)
    axes.axhline(mean, color=ink, linewidth=0.9, linestyle=(0, (1, 2)), label=f"mean {mean:.1f} %")
    axes.set_ylabel("fragmented %")
    axes.set_ylim(0, max(10.0, max(known) * 1.06))
    over_time(axes, view)
    legend(axes)


def reasons(axes: Axes, view: style.View, *, ink: str) -> None:
    """Waiting jobs by the reason that they were given last."""
    samples = view.samples
    counts = [dict(sample.reasons) for sample in samples]
    seen = [reason for reason in types.Reason if any(count.get(reason) for count in counts)]
    if not seen:
        empty(axes, "No job waited with a reason at any sample", view)
        return
    times = [view.at(sample.time_seconds) for sample in samples]
    parts = {
        reason.value: ([count.get(reason, 0) for count in counts], style.REASON_COLOURS[reason], 0.85)
        for reason in seen
    }
    stack(axes, times, parts)
    axes.set_ylabel("waiting jobs")
    whole_numbers(axes)
    axes.set_ylim(0, max(sum(count.values()) for count in counts) * 1.06)
    over_time(axes, view)
    legend(axes)


def delays(axes: Axes, view: style.View, *, ink: str) -> None:
    """Which share of the jobs that ended waited at most so long, in all and by the accelerators that they asked for."""
    ended = [job for job in view.history.jobs if job.queue_seconds is not None]
    if not ended:
        empty(axes, "No job ended", view)
        axes.set_xlabel("time in the queue")
        return
    classes = summary.size_classes(ended)
    colours = (style.GREEN, style.ORANGE, style.BLUE, style.PURPLE, style.RED)
    if len(classes) > 1:
        for (name, jobs), colour in zip(classes.items(), colours, strict=False):
            _steps(
                axes, jobs, colour=colour, label=f"{name} GPU{'' if name == '1' else 's'} ({len(jobs):,})", width=1.1
            )
    _steps(axes, ended, colour=ink, label=f"all ({len(ended):,})", width=1.8)
    longest = max(job.queue_seconds or 0 for job in ended)
    axes.set_xscale("symlog", linthresh=10, linscale=0.5)
    axes.set_xlim(0, max(10, longest) * 1.1)
    marks = [mark for mark in _MARKS if mark <= max(10, longest) * 1.1]
    axes.set_xticks(marks, [summary.duration(mark) for mark in marks])
    axes.xaxis.set_minor_locator(_no_marks())
    axes.set_ylim(0, 102)
    axes.set_ylabel("% of jobs that ended")
    axes.set_xlabel("time in the queue, at most")
    if longest == 0:
        axes.text(0.5, 0.5, "No job waited", transform=axes.transAxes, ha="center", color=ink)
    legend(axes)


def _steps(axes: Axes, jobs: Sequence[records.JobRecord], *, colour: str, label: str, width: float) -> None:
    waits = sorted(job.queue_seconds or 0 for job in jobs)
    picked = sorted({0, *(round(index * (len(waits) - 1) / _CDF_POINTS) for index in range(_CDF_POINTS + 1))})
    # The line begins at nothing and goes on to the edge: below the shortest delay is no job, beyond the longest all.
    across = [0, *(waits[index] for index in picked), max(waits[-1], 1) * 1e6]
    up = [0.0, *(100 * (index + 1) / len(waits) for index in picked), 100.0]
    axes.step(across, up, where="post", color=colour, linewidth=width, label=label)


def _no_marks() -> Locator:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def stack(axes: Axes, times: Sequence[float], parts: dict[str, tuple[list[int], str, float]]) -> None:
    """Areas on top of each other, which keep their height from one sample to the next."""
    below = [0] * len(times)
    for name, (amounts, colour, alpha) in parts.items():
        above = [low + amount for low, amount in zip(below, amounts, strict=True)]
        if any(amounts):
            axes.fill_between(times, below, above, step="post", color=colour, alpha=alpha, linewidth=0, label=name)
        below = above


def whole_numbers(axes: Axes) -> None:
    """An axis of things that are not divided, with commas."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def over_time(axes: Axes, view: style.View) -> None:
    """The axis of time, from the start to the end."""
    axes.set_xlim(0, view.at(view.history.started_at_seconds + view.span_seconds))
    axes.set_xlabel(view.time_label)


def legend(axes: Axes) -> None:
    """Names above the chart, in rows, where they hide nothing."""
    handles, names = axes.get_legend_handles_labels()
    columns = 4 if len(names) > 5 else len(names)
    axes.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=max(1, columns), borderaxespad=0.2)


def empty(axes: Axes, words: str, view: style.View) -> None:
    """Words instead of a chart."""
    over_time(axes, view)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=10, alpha=0.8)
