"""One record of an input, read field by field: a line of a table or an entry of a document.

What must stay true: every field is either used or reported as unknown; a bad one is reported with its place and
does not keep the others from being looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stowplan_allocator import inputs
from stowplan_allocator.simulate import values

type Places = Callable[[str], str]


class Fields:
    """The fields of one record. ``place`` says where a field stands, for messages."""

    def __init__(self, data: Mapping[str, Any], *, place: Places, faults: list[inputs.Fault]) -> None:
        self._data = data
        self._used: set[str] = set()
        self._faults = faults
        self._before = len(faults)
        self.place = place

    @property
    def is_sound(self) -> bool:
        """Whether nothing was wrong with it so far."""
        return len(self._faults) == self._before

    def fault(self, name: str, cause: str, fix: str = "") -> None:
        """Report a field."""
        self._faults.append(inputs.Fault(self.place(name), cause, fix))

    def has(self, name: str) -> bool:
        """Whether the field is there and not empty. A table's object is there when one of its cells is filled."""
        value = self._data.get(name)
        if isinstance(value, Mapping):
            return any(one not in (None, "") for one in value.values())
        return value is not None and value != ""

    def take[T, D](self, name: str, read: values.Reader[T], default: D) -> T | D:
        """The field's value, or the default where it is absent, empty or wrong."""
        self._used.add(name)
        value = self._data.get(name)
        if value is None or value == "":
            return default
        try:
            return read(value)
        except values.Bad as error:
            self.fault(name, error.cause, error.fix)
            return default

    def need[T, D](self, name: str, read: values.Reader[T], default: D, *, fix: str) -> T | D:
        """The same, for a field that must be there."""
        if not self.has(name):
            self._used.add(name)
            self.fault(name, "the field is missing", fix)
            return default
        return self.take(name, read, default)

    def inner(self, name: str) -> Fields:
        """The fields of an object inside; none where it is absent."""
        self._used.add(name)
        value = self._data.get(name)
        if self.has(name) and not isinstance(value, Mapping):
            self.fault(name, f"{inputs.quoted(value)} is no object", "write its fields below it")
        found = value if isinstance(value, Mapping) else {}
        return Fields(found, place=lambda inner: self.place(f"{name}.{inner}"), faults=self._faults)

    def names(self) -> tuple[str, ...]:
        """The names of all fields."""
        return tuple(self._data)

    def is_object(self, name: str) -> bool:
        """Whether the field has fields of its own."""
        return isinstance(self._data.get(name), Mapping)

    def rest(self, where: Callable[[str], bool] = lambda _: True) -> list[str]:
        """The names of unused fields that ``where`` accepts; they count as used from now on."""
        names = [name for name in self._data if name not in self._used and where(name)]
        self._used.update(names)
        return names

    def close(self, *, known: Iterable[str] = ()) -> None:
        """Report every field that nobody has asked for."""
        names = sorted({*self._used, *known})
        for name in self.rest():
            self.fault(name, "there is no such field", inputs.unknown(name, known=names))
