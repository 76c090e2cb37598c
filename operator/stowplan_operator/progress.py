"""What a training script says of its progress, and what follows from it. Pure; ``progress_reader`` asks the pod.

The script is the user's and is not trusted: a number that cannot be one is dropped. Not knowing is normal, as a script
need not report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_LARGEST_COUNT = 2.0**53
_LARGEST_VALUE = 1e12
_CLOCK_SLACK_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of rank 0. None where nothing, or nothing usable, was said; ``message`` says what was odd."""

    step: int | None = None
    steps_total: int | None = None
    loss: float | None = None
    samples_per_second: float | None = None
    checkpoint_step: int | None = None
    checkpoint_timestamp_seconds: float | None = None
    checkpoint_save_seconds: float | None = None
    eval_accuracy: float | None = None
    message: str = ""
    read_at_seconds: float = field(default=0.0, compare=False)


def final_from_termination(message: str) -> Progress | None:
    """The summary that our trainer leaves in the termination message: its last line with a ``stowplan`` object."""
    for line in reversed(message.splitlines()):
        line = line.strip()
        if not line.startswith("{") or '"stowplan"' not in line:
            continue
        try:
            summary = json.loads(line)["stowplan"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(summary, dict):
            said = {name: summary.get(key) for key, name in _SUMMARY_KEYS.items()}
            numbers = {name: value for name, value in said.items() if isinstance(value, int | float)}
            values = {name: float(value) for name, value in numbers.items() if not abs(value) > _LARGEST_COUNT}
            return from_values(values, read_at_seconds=0.0)
    return None


_SUMMARY_KEYS = {
    "step": "step",
    "stepsTotal": "steps_total",
    "loss": "loss",
    "accuracy": "eval_accuracy",
    "samplesPerSecond": "samples_per_second",
    "checkpointStep": "checkpoint_step",
    "checkpointTime": "checkpoint_timestamp_seconds",
}


def from_values(values: Mapping[str, float], *, read_at_seconds: float) -> Progress | None:
    """The progress in metrics by name, without our prefix; None where none of them is usable."""

    def count(name: str, least: int = 0) -> int | None:
        value = values.get(name)
        return int(value) if value is not None and least <= value < _LARGEST_COUNT else None

    def number(name: str, least: float, most: float) -> float | None:
        value = values.get(name)
        return value if value is not None and least <= value <= most else None

    latest = read_at_seconds + _CLOCK_SLACK_SECONDS if read_at_seconds else _LARGEST_VALUE
    found = Progress(
        step=count("step"),
        steps_total=count("steps_total", 1),
        loss=number("loss", -_LARGEST_VALUE, _LARGEST_VALUE),
        samples_per_second=number("samples_per_second", 0, _LARGEST_VALUE),
        checkpoint_step=count("checkpoint_step"),
        checkpoint_timestamp_seconds=number("checkpoint_timestamp_seconds", 1, latest),
        checkpoint_save_seconds=number("checkpoint_save_seconds", 0, _LARGEST_VALUE),
        eval_accuracy=number("eval_accuracy", 0, 100),
    )
    if "loss" in values and not math.isfinite(values["loss"]):
        found = replace(found, message="the loss is not a finite number")
    return replace(found, read_at_seconds=read_at_seconds) if found != Progress() else None


@dataclass(frozen=True, slots=True)
class Pace:
    """So many steps of one attempt in so many seconds."""

    steps: int
    seconds: float


def pace_between(first: Progress, last: Progress) -> Pace | None:
    """What was done between two reports of one attempt; None where that is not known."""
    if first.step is None or last.step is None:
        return None
    steps, seconds = last.step - first.step, last.read_at_seconds - first.read_at_seconds
    return Pace(steps, seconds) if steps > 0 and seconds > 0 else None


def estimate_seconds_left(first: Progress, last: Progress) -> float | None:
    """Seconds until the last step at the mean pace between two reports of one attempt; None where unknown."""
    pace = pace_between(first, last)
    if pace is None or last.step is None or last.steps_total is None:
        return None
    return max(0, last.steps_total - last.step) * pace.seconds / pace.steps


def eta_text(seconds_left: float | None) -> str:
    """``about 3m``; text, because kubectl prints dates in the future as invalid. Empty where unknown."""
    if seconds_left is None or not math.isfinite(seconds_left):
        return ""
    if seconds_left < 60:
        return "under 1m"
    minutes = seconds_left / 60
    if minutes < 90:
        return f"about {round(minutes)}m"
    hours = minutes / 60
    return f"about {round(hours)}h" if hours < 48 else f"about {round(hours / 24)}d"
