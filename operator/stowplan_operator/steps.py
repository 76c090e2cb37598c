"""How far an attempt came, as far as rank 0 said so, and whether it still moves. Pure.

What must stay true: nothing that another attempt reported is said of this one; a hang is found only between two
readings that showed the same step, so that a failed read, an old one or a restart of the operator never makes one; only
the operator's clock counts, never a pod's. The moment of the last movement is in ``status.progress.stepTime``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from stowplan_operator import api, failures, progress, views

# A reading that is older tells nothing of now; the planner looks anew at least this often.
FRESH_SECONDS = 60
# Readings come every few seconds, and one that shows nothing new wakes nobody.
_LOOK_AGAIN_SECONDS = (0, 5, 10, 15, 20)


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What is known of a gang's progress beside its status: the last reading, and why the last read failed."""

    reading: progress.Progress | None = None
    error: str = ""


def told(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """``status.progress``, where the placed attempt reported it; empty otherwise."""
    said: Mapping[str, Any] = status.get("progress") or {}
    placement = status.get("placement") or {}
    return said if said.get("attempt") is not None and said["attempt"] == placement.get("attempt") else {}


def current(status: Mapping[str, Any], reading: progress.Progress | None) -> progress.Progress | None:
    """The reading, where it was made after the placed attempt had started."""
    started = views.parse_time((status.get("placement") or {}).get("startedAt"))
    return reading if reading is not None and started and reading.read_at_seconds >= started else None


def span(status: Mapping[str, Any], heard: Heard, rank_zero: views.PodView | None) -> tuple[int | None, int | None]:
    """First and last step that the placed attempt reported; None where it reported none."""
    said, reading = told(status), current(status, heard.reading)
    end = rank_zero.end if rank_zero else None
    final = progress.final_from_termination(end.message) if end else None
    known = [one.step for one in (final, reading) if one is not None and one.step is not None]
    last = known[0] if known else said.get("step")
    return said.get("firstStep", last), last


def described(
    failure: failures.Failure, status: Mapping[str, Any], heard: Heard, rank_zero: views.PodView | None
) -> failures.Failure:
    """The failure with the step at which it happened, or with words on why that is not known."""
    if not (status.get("placement") or {}).get("startedAt"):
        return failure
    _, last = span(status, heard, rank_zero)
    if last is not None:
        said = "" if failure.cause is failures.Cause.HANG else f"; last reported step {last}"
        return dataclasses.replace(failure, step=last, message=failure.message + said)
    why = f", as its progress is unknown: {heard.error}" if heard.error else ""
    return dataclasses.replace(failure, message=f"{failure.message}; no step was reported before it ended{why}")


def find_hang(
    status: Mapping[str, Any], spec: api.TrainingJobSpec, heard: Heard, *, now_seconds: float
) -> failures.Failure | None:
    """A gang whose rank 0 answers, but has made no step for longer than ``spec.hangTimeoutSeconds``."""
    limit, said, reading = spec.hang_timeout_seconds, told(status), current(status, heard.reading)
    if not limit or reading is None or reading.step is None or not said.get("stepTime"):
        return None
    if has_moved(reading, said) or now_seconds - reading.read_at_seconds > FRESH_SECONDS:
        return None
    if reading.steps_total is not None and reading.step >= reading.steps_total:
        return None
    still = reading.read_at_seconds - views.parse_time(said["stepTime"])
    if still < limit:
        return None
    return failures.Failure(
        failures.Cause.HANG,
        f"no step within spec.hangTimeoutSeconds ({limit} s): step {reading.step} since {said['stepTime']}; which rank "
        "hangs is not known",
    )


def has_moved(reading: progress.Progress, said: Mapping[str, Any]) -> bool:
    """Whether the reading shows another step or checkpoint than ``said``, which is ``status.progress``."""
    return any(
        value is not None and value != said.get(name)
        for name, value in (("step", reading.step), ("checkpointStep", reading.checkpoint_step))
    )


def deadlines(status: Mapping[str, Any], spec: api.TrainingJobSpec) -> list[float]:
    """Times (Unix seconds) around which the clock alone makes a hang."""
    since = views.parse_time(told(status).get("stepTime"))
    if not spec.hang_timeout_seconds or not since:
        return []
    return [since + spec.hang_timeout_seconds + later for later in _LOOK_AGAIN_SECONDS]


def to_status(
    reading: progress.Progress, old: Mapping[str, Any], *, attempt: int, now_seconds: float
) -> dict[str, Any]:
    """A reading as ``status.progress``; the last known checkpoint stays when a reading has none.

    ``stepTime`` is when the step or the checkpoint last moved, on the operator's clock.
    """
    same = old if old.get("attempt") == attempt else {}
    new: dict[str, Any] = {"attempt": attempt, "lastReportTime": views.format_time(now_seconds)}
    if reading.step is not None:
        new["step"] = int(reading.step)
        new["firstStep"] = same.get("firstStep", new["step"])
        if reading.steps_total:
            new["totalSteps"] = int(reading.steps_total)
            new["percent"] = f"{min(100, int(100 * reading.step / reading.steps_total))}%"
    if has_moved(reading, same) or "stepTime" not in same:
        new["stepTime"] = views.format_time(reading.read_at_seconds or now_seconds)
    for name, value, form in (
        ("loss", reading.loss, "{:.4g}"),
        ("accuracy", reading.eval_accuracy, "{:.4f}"),
        ("samplesPerSecond", reading.samples_per_second, "{:.1f}"),
    ):
        if value is not None:
            new[name] = form.format(value)
    if reading.checkpoint_step is not None and reading.checkpoint_step >= 0:
        new["checkpointStep"] = int(reading.checkpoint_step)
    if reading.checkpoint_timestamp_seconds:
        new["checkpointTime"] = views.format_time(reading.checkpoint_timestamp_seconds)
    if reading.message:
        new["message"] = reading.message
    for name in ("checkpointStep", "checkpointTime"):
        if name in old:
            new.setdefault(name, old[name])
    for name in ("startSeconds", "step", "firstStep", "stepTime", "totalSteps", "percent", "loss", "samplesPerSecond"):
        if name in same:
            new.setdefault(name, same[name])
    return new
