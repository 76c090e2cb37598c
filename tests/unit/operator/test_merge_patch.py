"""The one write of a status: a merge patch that makes the new status of the old one, empty where nothing differs."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from fakes.server import apply_merge_patch
from stowplan_operator import status
from unit.operator.deriving import Json

values = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text("abc", max_size=2), values, max_size=5)


@hypothesis.settings(derandomize=True, deadline=None, max_examples=300, database=None)
@hypothesis.given(objects, objects)
def test_the_merge_patch_makes_new_of_old(old: Json, new: Json) -> None:
    assert apply_merge_patch(old, status.merge_patch(old, new)) == new


@hypothesis.settings(derandomize=True, deadline=None, max_examples=100, database=None)
@hypothesis.given(objects, objects)
def test_the_merge_patch_is_empty_only_when_nothing_differs(old: Json, new: Json) -> None:
    assert (status.merge_patch(old, new) == {}) is (old == new)


def test_a_list_is_replaced_whole_and_a_field_that_is_gone_is_removed() -> None:
    patch = status.merge_patch({"a": [1, 2], "b": 1, "c": {"d": 1, "e": 2}}, {"a": [1], "c": {"d": 1, "e": 3}})
    assert patch == {"b": None, "a": [1], "c": {"e": 3}}
