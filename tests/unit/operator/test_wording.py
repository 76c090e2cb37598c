"""Lists of names in messages stay short, and say how many they leave out."""

from __future__ import annotations

import pytest

from stowplan_operator import wording


@pytest.mark.parametrize(
    ("names", "want"),
    [
        pytest.param([], "", id="none"),
        pytest.param(["a", "b"], "a, b", id="as many as are named"),
        pytest.param(["a", "b", "c", "d"], "a, b and 2 more", id="more than are named"),
    ],
)
def test_some(names: list[str], want: str) -> None:
    assert wording.some(names, most=2) == want
