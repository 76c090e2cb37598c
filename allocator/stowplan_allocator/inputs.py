"""What is wrong with a file or an option that somebody gave us: where, why, and what would fix it.

What must stay true: whoever reads an input goes on after a mistake and tells of all it has found,
so that nobody has to mend a table of a thousand lines one run at a time; every mistake names its place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake: ``where`` is a file, line or field's path, ``cause`` what is wrong there, ``fix`` what to write."""

    where: str
    cause: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.cause}" if self.where else self.cause
        return f"{text}; {self.fix}" if self.fix else text


class InputError(ValueError):
    """An input that cannot be used, with every fault that was found in it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.lines()))

    def lines(self, *, limit: int = MAX_SHOWN) -> list[str]:
        """One line per fault, and how many more there are."""
        shown = [str(fault) for fault in self.faults[:limit]]
        more = len(self.faults) - len(shown)
        return [*shown, f"and {more} more"] if more > 0 else shown


def refuse(faults: Sequence[Fault]) -> None:
    """Raise if there are faults."""
    if faults:
        raise InputError(faults)


def unknown(name: str, *, known: Iterable[str]) -> str:
    """The fix for a name that does not exist: the nearest one that does, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


def quoted(value: object, *, limit: int = 40) -> str:
    """A value as somebody wrote it, short enough for a line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
