"""How pictures look: colours that people with colour blindness tell apart, times with their units, empty pictures.

What must stay true: nothing here needs matplotlib, so the page without pictures can use it as well; every colour reads
on a light and on a dark page.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from stowplan_allocator import types
from stowplan_allocator.simulate import records, summary
from stowplan_allocator.simulate.loaders import FIRST_DATE_SECONDS

# After Okabe and Ito; the greys stand between black and white.
BLUE, ORANGE, GREEN, RED = "#2f7fc1", "#e69f00", "#149e76", "#d55e00"
SKY, PURPLE, YELLOW, GREY = "#56b4e9", "#b66a9a", "#c9b21f", "#8a919c"
JOB_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, "#7a6fc4", "#a9714b", "#5f8f3a", "#c26d6d")
REASON_COLOURS: dict[types.Reason, str] = {
    types.Reason.WAITING_FOR_CAPACITY: BLUE,
    types.Reason.QUEUED_BEHIND: SKY,
    types.Reason.FRAGMENTED: ORANGE,
    types.Reason.TOPOLOGY_UNSATISFIED: PURPLE,
    types.Reason.NODES_UNHEALTHY: RED,
    types.Reason.RESERVED_FOR_LARGER_JOB: GREEN,
    types.Reason.WAITING_FOR_PREEMPTION: YELLOW,
    types.Reason.EXCEEDS_CLUSTER_CAPACITY: "#7a4b2a",
    types.Reason.NO_MATCHING_ACCELERATOR: "#a9714b",
    types.Reason.WAITING_FOR_QUOTA: "#1f7a6d",
    types.Reason.EXCEEDS_QUOTA: "#0d4a42",
    types.Reason.WAITING_FOR_RESOURCE_QUOTA: "#4f9d3a",
    types.Reason.EXCEEDS_RESOURCE_QUOTA: "#2f5d22",
    types.Reason.SOLVER_TIME_LIMIT: "#5b5bd6",
    types.Reason.MISCONFIGURED: "#c23b6b",
    types.Reason.SUSPENDED: GREY,
}
_UNITS = ((300, 1, "seconds"), (3 * 3600, 60, "minutes"), (4 * 86_400, 3600, "hours"))
MOST_POINTS = 2000


@dataclass(frozen=True, slots=True)
class View:
    """A run, ready to be drawn: its records, and when nodes were away.

    ``is_forecast``: it is still to come. Jobs without a placement are then only planned, and the end of an unfinished
    run is not known.
    """

    history: records.History
    downtimes: summary.Downtimes
    is_forecast: bool = False

    @property
    def span_seconds(self) -> int:
        """From the start to the end; at least one second, so that it can be drawn."""
        return max(1, self.history.ended_at_seconds - self.history.started_at_seconds)

    @property
    def unit(self) -> tuple[int, str]:
        """The seconds and the name of the unit of time that suits the span."""
        return next(((size, name) for most, size, name in _UNITS if self.span_seconds <= most), (86_400, "days"))

    @property
    def time_label(self) -> str:
        """What stands below the axis of time."""
        return f"{self.unit[1]} since {self.start}"

    @property
    def start(self) -> str:
        """The start as a date, where submissions have dates."""
        return moment(self.history.started_at_seconds, default="the start")

    def at(self, seconds: float) -> float:
        """A moment on the axis of time."""
        return (seconds - self.history.started_at_seconds) / self.unit[0]

    @property
    def samples(self) -> Sequence[records.Sample]:
        """The samples, thinned out where a picture could not show them all; the last one holds until the end."""
        samples = self.history.samples
        if not samples:
            return ()
        stride = -(-len(samples) // MOST_POINTS)
        end = self.history.started_at_seconds + self.span_seconds
        return (*samples[:-1:stride], samples[-1], dataclasses.replace(samples[-1], time_seconds=end))


def moment(seconds: int, *, default: str = "") -> str:
    """A date; the default for a time that only counts from the start."""
    if seconds < FIRST_DATE_SECONDS:
        return default
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour such as ``#2f7fc1`` (relative luminance, WCAG 2)."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#ffffff"


def shortened(name: str, most: int) -> str:
    """A name that fits, with its middle left out."""
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[len(name) - tail :]}" if most > 2 else name[:most]
