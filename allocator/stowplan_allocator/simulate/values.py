"""Amounts, times and lists as people write them in tables and manifests.

Every reader takes a text (from a table) or a typed value (from YAML) and raises ``Bad`` with what is wrong and what
would be right. What must stay true: nothing is guessed: a memory of 64 is 64 bytes in Kubernetes and
surely a slip, so it is refused; requests are rounded up and room is rounded down, as the operator does.
"""

from __future__ import annotations

import datetime
import enum
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from stowplan_allocator import inputs, types

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)([A-Za-z]{0,2})")
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{name: Decimal(1000) ** power for power, name in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}
# Longer than any simulation, and still a time that Python can print.
_LONGEST_SECONDS = 100 * 365 * 86_400
_LARGEST_AMOUNT = Decimal(10) ** 15
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
_MIB = 1024 * 1024

MOST_PODS = 100_000
MOST_COPIES = 1_000_000

type Reader[T] = Callable[[Any], T]


class Bad(ValueError):  # noqa: N818 - it is not a fault yet: it does not know its place
    """A value that cannot be read: what is wrong, and what would be right."""

    def __init__(self, value: object, want: str, fix: str = "") -> None:
        super().__init__(value, want)
        self.cause = f"{inputs.quoted(value)} is not {want}"
        self.fix = fix


def text(value: Any) -> str:
    """A name; YAML may have taken it for a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise Bad(value, "a name", "write letters and digits, in quotes where YAML sees something else")
    return str(value).strip()


def whole(value: Any) -> int:
    """A whole number."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_AMOUNT:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_AMOUNT:
        raise Bad(value, "a whole number", "write a number such as 8")
    return value


def count(value: Any) -> int:
    """A whole number that is not negative."""
    number = whole(value)
    if number < 0:
        raise Bad(value, "zero or more", "write a number such as 8")
    return number


def positive(value: Any) -> int:
    """A whole number of one or more."""
    number = whole(value)
    if number < 1:
        raise Bad(value, "one or more", "write a number such as 8")
    return number


def up_to(most: int) -> Reader[int]:
    """A whole number from one to ``most``: what comes many times in memory cannot be any number."""

    def read(value: Any) -> int:
        number = positive(value)
        if number > most:
            raise Bad(value, f"{most:,} or less", "write a smaller number")
        return number

    return read


def some_seconds(value: Any) -> int:
    """A duration of at least a second."""
    found = seconds(value)
    if found < 1:
        raise Bad(value, "a second or more", "write seconds, or 90s, 10m, 1h30m, 2d")
    return found


def flag(value: Any) -> bool:
    """True or false."""
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise Bad(value, "true or false", "write true or false")


def seconds(value: Any) -> int:
    """A duration: seconds, or numbers with units (``90s``, ``10m``, ``1h30m``, ``2d``), rounded to seconds."""
    words = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        found = None
    elif _NUMBER.fullmatch(words):
        found = float(words)
    elif _DURATION.fullmatch(words):
        found = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(words))
    else:
        found = None
    if found is None or not 0 <= found <= _LONGEST_SECONDS:
        raise Bad(value, "a duration", "write seconds, or 90s, 10m, 1h30m, 2d")
    return math.floor(found + 0.5)


def moment(value: Any) -> int:
    """A time: a duration after the start, Unix seconds, or a date with a time (UTC unless it names a zone)."""
    try:
        return seconds(value)
    except Bad:
        pass
    try:
        when = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value).strip())
        when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
        return math.floor(when.timestamp() + 0.5)
    except (ValueError, OverflowError):
        raise Bad(value, "a time", "write seconds, 1h30m, or a date such as 2026-11-02T08:30:00Z") from None


def quantity(value: Any) -> Decimal:
    """A Kubernetes quantity."""
    match = _QUANTITY.fullmatch(str(value).strip())
    if isinstance(value, bool) or match is None or match[2] not in _SUFFIXES:
        raise Bad(value, "a quantity", "write a quantity such as 8, 500m or 64Gi")
    amount = Decimal(match[1]) * _SUFFIXES[match[2]]
    if abs(amount) > _LARGEST_AMOUNT * 1024:
        raise Bad(value, "an amount that a machine can have", "write a quantity such as 8, 500m or 64Gi")
    return amount


def amount(value: Any, *, unit: Decimal | int = 1, up: bool) -> int:
    """A quantity in whole units; requests are rounded up, room is rounded down."""
    found = quantity(value)
    if found < 0:
        raise Bad(value, "zero or more", "write a quantity such as 8, 500m or 64Gi")
    exact = found / unit
    return math.ceil(exact) if up else math.floor(exact)


def cpu_milli(value: Any, *, up: bool) -> int:
    """CPUs, as ``64`` or ``500m``, in thousandths."""
    return amount(value, unit=Decimal("0.001"), up=up)


def memory_mib(value: Any, *, up: bool) -> int:
    """Memory, as ``900Gi``, in MiB. Less than one MiB is a unit that was forgotten."""
    if 0 < quantity(value) < _MIB:
        raise Bad(value, "an amount of memory with a unit", "write for example 64Gi")
    return amount(value, unit=_MIB, up=up)


def micros(value: Any) -> int:
    """A price, as ``12.5``, in millionths."""
    return amount(value, unit=Decimal("0.000001"), up=False)


def milli(value: Any) -> int:
    """A factor, as ``0.45``, in thousandths."""
    found = amount(value, unit=Decimal("0.001"), up=False)
    if found < 1:
        raise Bad(value, "a factor of 0.001 or more", "write for example 0.45")
    return found


def label(value: Any) -> str:
    """A label's value; YAML may have taken it for a number or a flag."""
    return str(value).lower() if isinstance(value, bool) else text(value)


def many[T](read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list; in a table its parts stand in one cell, with ``|`` between them."""

    def read_all(value: Any) -> tuple[T, ...]:
        if isinstance(value, str):
            value = [part for part in value.split("|") if part.strip()]
        return tuple(read(one) for one in (value if isinstance(value, list) else [value]))

    return read_all


def choice[E: enum.Enum](kind: type[E]) -> Reader[E]:
    """A word of a fixed list; capitals do not matter."""

    def read(value: Any) -> E:
        for member in kind:
            if str(member.value).lower() == str(value).strip().lower():
                return member
        words = ", ".join(str(member.value) for member in kind)
        raise Bad(value, f"one of {words}", f"write one of {words}")

    return read


def product(value: Any) -> types.ProductChoice:
    """``PRODUCT``, or ``PRODUCT=0.45`` with its throughput relative to the best."""
    name, _, factor = text(value).partition("=")
    return types.ProductChoice(text(name), milli(factor) if factor else 1000)


def taint(value: Any) -> types.Taint:
    """``key:Effect`` or ``key=value:Effect``, as ``kubectl taint`` takes it."""
    match = re.fullmatch(r"([^=:\s]+)(?:=([^:\s]*))?:(NoSchedule|NoExecute)", str(value).strip())
    if match is None:
        raise Bad(value, "a taint", "write key=value:NoSchedule, or NoExecute")
    return types.Taint(match[1], types.TaintEffect(match[3]), match[2] or "")


def toleration(value: Any) -> types.Toleration:
    """``key``, ``key=value``, either with ``:Effect``; ``*`` tolerates everything."""
    match = re.fullmatch(r"([^=:\s]+)(?:=([^:\s]*))?(?::(NoSchedule|NoExecute))?", str(value).strip())
    if match is None:
        raise Bad(value, "a toleration", "write key, key=value or key=value:NoSchedule, or * for all taints")
    key, wanted, effect = match[1], match[2], types.TaintEffect(match[3]) if match[3] else None
    if key == "*":
        return types.Toleration(operator="Exists", effect=effect)
    if wanted is None:
        return types.Toleration(key, operator="Exists", effect=effect)
    return types.Toleration(key, value=wanted, effect=effect)
