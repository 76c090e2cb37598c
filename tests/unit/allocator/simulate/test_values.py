"""Single values of tables and documents: times, amounts, flags, taints."""

from __future__ import annotations

from typing import Any

import pytest

import stowplan_allocator as sa
from stowplan_allocator.simulate import values

VALUES: dict[str, tuple[Any, Any, Any]] = {
    "seconds": (values.seconds, "90", 90),
    "a sum of units": (values.seconds, "1d2h3m4.6s", 93_785),
    "a number of YAML": (values.seconds, 1.5, 2),
    "a memory in bytes of gibibytes": (values.quantity, "1Gi", 2**30),
    "a milli": (values.quantity, "100m", values.quantity("0.1")),
    "an exponent": (values.quantity, "1e3", 1000),
    "a flag in a table": (values.flag, "Yes", True),
    "a taint without a value": (values.taint, "a:NoExecute", sa.Taint("a", sa.TaintEffect.NO_EXECUTE)),
    "a toleration of a key": (values.toleration, "a", sa.Toleration("a", "Exists")),
    "a toleration of a value": (
        values.toleration,
        "a=b:NoExecute",
        sa.Toleration("a", "Equal", "b", sa.TaintEffect.NO_EXECUTE),
    ),
    "a toleration of all": (values.toleration, "*", sa.Toleration("", "Exists")),
}


@pytest.mark.parametrize(("read", "value", "want"), VALUES.values(), ids=VALUES.keys())
def test_values(read: Any, value: Any, want: Any) -> None:
    assert read(value) == want


BAD = {
    "negative time": (values.seconds, "-5"),
    "endless time": (values.seconds, "9e9d"),
    "a flag as time": (values.seconds, True),
    "not a time": (values.moment, "yesterday"),
    "not finite": (values.seconds, float("nan")),
    "too many digits": (values.whole, "1" * 5000),
    "a huge amount": (values.quantity, "1e99"),
    "an unknown unit": (values.quantity, "5Zi"),
    "a flag as number": (values.whole, True),
    "half": (values.whole, 0.5),
    "nothing": (values.text, " "),
    "an effect that does not exist": (values.taint, "a:Maybe"),
    "no factor": (values.product, "H100=0"),
    "negative": (values.count, -1),
    "none": (values.positive, 0),
    "maybe": (values.flag, "maybe"),
}


@pytest.mark.parametrize(("read", "value"), BAD.values(), ids=BAD.keys())
def test_bad_values(read: Any, value: Any) -> None:
    with pytest.raises(values.Bad):
        read(value)
