"""Amounts, times and commands in words, the same in every command.

Durations are written as kubectl writes ages. A ``Speaker`` knows the moment and the flags that the
user gave, so that every command it suggests can be copied and run as it stands.
"""

from __future__ import annotations

import datetime
import decimal
import shlex
import signal
from dataclasses import dataclass

from stowplan_operator.cli import model

UNKNOWN = "-"


def duration(seconds: float) -> str:
    """Seconds as kubectl writes ages: ``45s``, ``3m12s``, ``4h5m``, ``2d3h``, ``45d``."""
    total = max(0, int(seconds))
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"


def parse_duration(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``1h30m`` in seconds; ValueError for anything else."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    if text.isdecimal():
        return float(text)
    total, digits, rest = 0, "", list(units)
    for character in text:
        if character.isdecimal():
            digits += character
        elif digits and character in rest:
            total += int(digits) * units[character]
            digits, rest = "", rest[rest.index(character) + 1 :]
        else:
            break
    else:
        if text and not digits:
            return float(total)
    raise ValueError(f"{text!r} is not a duration; write for example 90s, 10m or 1h30m")


def count(amount: int, noun: str) -> str:
    """``1 pod``, ``2 pods``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def gpu_time(seconds: int) -> str:
    """GPU time in words: hours from one on, below in the seconds that settings and statuses count."""
    return f"{seconds / 3600:.1f} GPU hours" if seconds >= 3600 else f"{seconds} GPU seconds"


def percent(fraction: str) -> str:
    """A decimal fraction such as ``0.0002`` as ``0.02%``; the text itself where it is none."""
    try:
        value = decimal.Decimal(fraction) * 100
    except decimal.InvalidOperation:
        return fraction
    if not value.is_finite():
        return fraction
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "under 0.01%" if shown == "0" and value > 0 else f"{shown}%"


def phrase(name: str) -> str:
    """A key such as ``acceleratorsNeeded`` or ``accelerators_needed`` as words; other names stay as they are."""
    if not name.isidentifier():
        return name
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name.replace("_", " "))
    return spaced.strip()


def exit_of(code: int | None, signal_number: int | None) -> str:
    """How a process ended: ``exit code 137 (SIGKILL)``; empty where nothing is known."""
    number = signal_number or (code - 128 if code and 128 < code < 128 + signal.NSIG else 0)
    name = ""
    if number:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
    if code is None:
        return f"ended by {name}" if name else ""
    return f"exit code {code} ({name})" if name else f"exit code {code}"


def clock(seconds: float) -> str:
    """Unix seconds as a local time of day."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")


@dataclass(frozen=True, slots=True)
class Speaker:
    """The moment, as Unix seconds, and the flags to repeat in suggested commands."""

    now: float
    cluster_flags: tuple[str, ...] = ()
    namespace: str | None = None

    def age(self, time: str) -> str:
        """How long ago an RFC 3339 time was; ``-`` where it is unknown."""
        seconds = self.since(time)
        return UNKNOWN if seconds is None else duration(seconds)

    def ago(self, time: str) -> str:
        """``3m12s ago``; empty where the time is unknown."""
        seconds = self.since(time)
        return "" if seconds is None else f"{duration(seconds)} ago"

    def since(self, time: str) -> float | None:
        """Seconds since an RFC 3339 time; None where it is unknown."""
        moment = model.seconds_of(time)
        return None if moment is None else max(0.0, self.now - moment)

    def until(self, time: str) -> float | None:
        """Seconds until an RFC 3339 time, 0 where it is past; None where it is unknown."""
        moment = model.seconds_of(time)
        return None if moment is None else max(0.0, moment - self.now)

    def command(self, *words: str) -> str:
        """A kubectl command, its first word left out, with the user's flags where they mean something."""
        is_wide = "-A" in words or words[1:2] in (("nodes",), ("q",))
        namespaced = self.namespace and not is_wide
        flags = (*self.cluster_flags, *(("-n", self.namespace) if namespaced and self.namespace else ()))
        return shlex.join(("kubectl", *words, *flags))

    def elsewhere(self, *words: str) -> str:
        """A kubectl command on the user's cluster that names its namespace itself, or needs none."""
        return shlex.join(("kubectl", *words, *self.cluster_flags))
