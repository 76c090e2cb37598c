"""Frozen data as plain JSON values and back, by the types of its fields.

One rule for every dataclass, so that a field added to the model is in every document without
another line of code. What must stay true: ``decode(cls, encode(value)) == value`` for every
value of the supported types; nothing unknown is dropped and nothing is guessed: no text
becomes a number, no number a flag. Dataclasses and mappings are objects; tuples are lists, and
sets sorted lists; enums are their values.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import math
import types as pytypes
import typing
from collections.abc import Callable, Mapping
from typing import Any

from stowplan_allocator import inputs

Faults = list[inputs.Fault]
_Decode = Callable[[Any, str, Faults], Any]
_PLAIN: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def encode(value: Any) -> Any:
    """The value as what ``json`` can write."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value):
        cls: Any = type(value)
        return {name: encode(getattr(value, name)) for name in _names(cls)}
    if isinstance(value, Mapping):
        return {key: encode(value[key]) for key in sorted(value)}
    if isinstance(value, frozenset):
        return sorted(encode(item) for item in value)
    return [encode(item) for item in value]


def decode[T](cls: type[T], value: Any, *, where: str = "", faults: Faults) -> T | None:
    """The value of type ``cls`` that a JSON value stands for; None after adding to ``faults`` what is wrong."""
    before, kind = len(faults), typing.cast(Any, cls)
    result = _decoder(kind)(value, where, faults)
    return typing.cast(T, result) if len(faults) == before else None


@functools.cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@functools.cache
def _decoder(kind: Any) -> _Decode:
    """How to read one type. The few forms of types that the model uses; another one is our own mistake."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return functools.partial(_read_enum, kind)
    if kind in _PLAIN:
        return functools.partial(_read_plain, kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if origin in (typing.Union, pytypes.UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        read = _decoder(inner)
        return lambda value, where, faults: None if value is None else read(value, where, faults)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return functools.partial(_read_fixed, tuple(_decoder(one) for one in arguments))
    if origin in (tuple, frozenset):
        return functools.partial(_read_list, origin, _decoder(arguments[0]))
    assert origin is collections.abc.Mapping, kind
    return functools.partial(_read_mapping, _decoder(arguments[1]))


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _wrong(value: Any, where: str, faults: Faults, *, want: str) -> None:
    faults.append(inputs.Fault(where, f"{inputs.quoted(value)} is not {want}", f"write {want}"))


def _read_plain(kind: type, value: Any, where: str, faults: Faults) -> Any:
    if not _is(value, kind):
        return _wrong(value, where, faults, want=_PLAIN[kind])
    return float(value) if kind is float else value


def _read_enum(kind: type[enum.Enum], value: Any, where: str, faults: Faults) -> Any:
    for member in kind:
        if member.value == value and isinstance(value, str):
            return member
    return _wrong(value, where, faults, want="one of " + ", ".join(str(member.value) for member in kind))


def _read_list(make: Callable[[Any], Any], read: _Decode, value: Any, where: str, faults: Faults) -> Any:
    if not isinstance(value, list):
        return _wrong(value, where, faults, want="a list")
    return make([read(item, f"{where}[{index}]", faults) for index, item in enumerate(value)])


def _read_fixed(reads: tuple[_Decode, ...], value: Any, where: str, faults: Faults) -> Any:
    if not isinstance(value, list) or len(value) != len(reads):
        return _wrong(value, where, faults, want=f"a list of {len(reads)}")
    pairs = enumerate(zip(reads, value, strict=True))
    return tuple(read(item, f"{where}[{index}]", faults) for index, (read, item) in pairs)


def _read_mapping(read: _Decode, value: Any, where: str, faults: Faults) -> Any:
    if not isinstance(value, dict):
        return _wrong(value, where, faults, want="an object")
    return {key: read(item, f"{where}[{key!r}]", faults) for key, item in value.items()}


def _dataclass(cls: Any) -> _Decode:
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    reads = {name: _decoder(hints[name]) for name in fields}
    needed = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]

    def read(value: Any, where: str, faults: Faults) -> Any:
        if not isinstance(value, dict):
            return _wrong(value, where, faults, want=f"an object with the fields of a {cls.__name__}")
        before = len(faults)
        prefix = f"{where}." if where else ""
        for name in (name for name in value if name not in reads):
            fix = inputs.unknown(name, known=reads)
            faults.append(inputs.Fault(f"{prefix}{name}", "there is no such field", fix))
        for name in needed:
            if name not in value:
                faults.append(inputs.Fault(f"{prefix}{name}", "the field is missing", "add it"))
        found = {name: reads[name](item, f"{prefix}{name}", faults) for name, item in value.items() if name in reads}
        return cls(**found) if len(faults) == before else None

    return read
