"""How many nodes Stowplan itself may exclude."""

from __future__ import annotations

import pytest

from stowplan_operator import breaker

CASES: dict[str, tuple[int, float, int, int]] = {
    "one of four nodes is excluded": (4, 0.2, 1, 0),
    "two of two nodes are, as far as the breaker goes": (2, 0.2, 2, 0),
    "a third one is not": (4, 0.2, 3, 1),
    "a fifth of a hundred nodes": (100, 0.2, 20, 0),
    "more than a fifth": (100, 0.2, 21, 1),
    "all of them at once": (100, 0.2, 100, 80),
    "a fraction of 1 turns it off": (100, 1.0, 100, 0),
    "a fraction of 0 leaves two": (100, 0.0, 5, 3),
}


@pytest.mark.parametrize(("num_nodes", "fraction", "num_sick", "want"), CASES.values(), ids=CASES)
def test_spared(num_nodes: int, fraction: float, num_sick: int, want: int) -> None:
    sick = {f"n{number}": 1000.0 for number in range(num_sick)}
    assert len(breaker.spare(sick, num_nodes=num_nodes, fraction=fraction)) == want


def test_nodes_found_sick_first_stay_excluded() -> None:
    sick = {"a": 300.0, "b": 100.0, "c": 200.0, "d": 300.0}
    assert breaker.spare(sick, num_nodes=4, fraction=0.2) == {"a", "d"}
    assert breaker.spare(sick, num_nodes=15, fraction=0.2) == {"d"}
