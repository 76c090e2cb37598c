"""Nodes for one gang: few, the fullest first, and the last one as small as will do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stowplan_allocator import gangs


def one_by_one(want: int, slots: dict[int, int]) -> dict[int, int]:
    """The rule as it is told: the node with most slots whole, while it holds less than is left; then the smallest."""
    taken: dict[int, int] = {}
    while want:
        left = [node for node in sorted(slots) if slots[node] and node not in taken]
        enough = [node for node in left if slots[node] >= want]
        if not left:
            break
        if max(slots[node] for node in left) >= want:
            taken[min(enough, key=lambda node: (slots[node], node))] = want
            break
        first = max(left, key=lambda node: (slots[node], -node))
        taken[first] = slots[first]
        want -= slots[first]
    return taken


@given(st.integers(1, 40), st.dictionaries(st.integers(0, 30), st.integers(0, 9), max_size=12))
def test_few_nodes_and_the_fullest_are_taken(want: int, slots: dict[int, int]) -> None:
    assert gangs.fullest(want, slots=slots) == one_by_one(want, slots)
