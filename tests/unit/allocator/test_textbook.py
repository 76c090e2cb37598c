"""The textbook's example: every number of docs/textbook.md is computed here from what is given."""

from __future__ import annotations

import itertools
import pathlib
import re

import pytest

import stowplan_allocator as sa
from stowplan_allocator import partition, textbook

PAGE = (pathlib.Path(__file__).parents[3] / "docs/textbook.md").read_text(encoding="utf-8")
EXAMPLE = textbook.Example()
SECONDS = float(EXAMPLE.seconds_per_subtask)
EQUAL = textbook.proportional(EXAMPLE.subtasks, weights=(1, 1, 1))


def hours(seconds: float) -> str:
    return f"{seconds / textbook.HOUR:.10g}"


def coarse() -> partition.Partition:
    task = partition.Task("t", (partition.Stage("s", EXAMPLE.images),))
    return partition.partition(task, limits=partition.Limits(6_000, sa.Resources(accelerators=1), EXAMPLE.nodes))


def coarse_hours() -> float:
    """Subtasks of two lengths on equal nodes: rounds of the longest bound it, and so it comes out."""
    counts = sorted((one.count for one in coarse().subtasks), reverse=True)
    nodes = [0] * EXAMPLE.nodes
    for count in counts:
        nodes[nodes.index(min(nodes))] += count
    return max(nodes) / EXAMPLE.images_per_subtask * SECONDS / textbook.HOUR


def test_the_example_is_derived_from_what_is_given() -> None:
    assert (EXAMPLE.nodes, EXAMPLE.subtasks, EXAMPLE.flop) == (10, 100, 36 * 10**18)
    assert EXAMPLE.seconds_per_subtask == textbook.HOUR
    assert EXAMPLE.shares() == [40, 30, 30]


def test_the_model_finds_the_only_split_that_keeps_the_deadline() -> None:
    capacity = [nodes * EXAMPLE.hours * textbook.HOUR for nodes in EXAMPLE.groups]
    found = textbook.assign([EXAMPLE.subtasks], seconds=[SECONDS], capacity=capacity)
    assert found == textbook.Assignment(EXAMPLE.subtasks * SECONDS, (tuple(EXAMPLE.shares()),))
    assert textbook.assign([EXAMPLE.subtasks + 1], seconds=[SECONDS], capacity=capacity).value is None


def test_the_proportional_split_is_optimal_and_equal_parts_are_not() -> None:
    assert textbook.shortest(EXAMPLE.subtasks, seconds=SECONDS, nodes=EXAMPLE.nodes) == pytest.approx(36_000)
    assert textbook.in_groups(EXAMPLE.shares(), groups=EXAMPLE.groups, seconds=SECONDS) == pytest.approx([36_000] * 3)
    assert max(textbook.in_groups(EQUAL, groups=EXAMPLE.groups, seconds=SECONDS)) == pytest.approx(39_600)


def test_no_division_of_the_nodes_does_equal_parts_faster() -> None:
    divisions = [one for one in itertools.product(range(1, 9), repeat=3) if sum(one) == EXAMPLE.nodes]
    times = [
        max(-(-share // nodes) for share, nodes in zip(EQUAL, division, strict=True)) * SECONDS
        for division in divisions
    ]
    assert min(times) == max(textbook.in_groups(EQUAL, groups=EXAMPLE.groups, seconds=SECONDS))


def test_every_number_of_the_page_is_given_or_computed() -> None:
    by_share = textbook.in_groups(EXAMPLE.shares(), groups=EXAMPLE.groups, seconds=SECONDS)
    by_equal = textbook.in_groups(EQUAL, groups=EXAMPLE.groups, seconds=SECONDS)
    longest = max(one.count for one in coarse().subtasks)
    given = [EXAMPLE.images, EXAMPLE.images_per_subtask, EXAMPLE.nodes, EXAMPLE.teraflops_per_node, EXAMPLE.hours]
    computed = [EXAMPLE.subtasks, *EXAMPLE.shares(), *EQUAL, len(coarse().subtasks), longest, round(SECONDS)]
    known = {str(number) for number in [*given, *EXAMPLE.groups, *computed, 6_000, 0]}
    known |= {hours(one) for one in [*by_share, *by_equal, EXAMPLE.subtasks * SECONDS]}
    known |= {hours(nodes * EXAMPLE.hours * textbook.HOUR) for nodes in EXAMPLE.groups}
    known |= {f"{work:.1e}".replace("e+", "e") for work in _work()}
    known |= {f"{coarse_hours():.1f}", str(-(-len(coarse().subtasks) // EXAMPLE.nodes))}
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    found = {number.replace(",", "") for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e\d+)?", text)}
    assert found - known == set()
    assert {"3.6e19", "3.6e17", "3.6e14", "11.8", "5883"} <= found


def _work() -> list[float]:
    return [EXAMPLE.flop, EXAMPLE.flop / EXAMPLE.subtasks, EXAMPLE.flop / EXAMPLE.images]


@pytest.mark.parametrize(
    ("number", "weights", "want"),
    [(100, (4, 3, 3), [40, 30, 30]), (100, (1, 1, 1), [34, 33, 33]), (1, (1, 2), [0, 1]), (0, (1, 1), [0, 0])],
)
def test_parts_are_whole_and_nothing_is_lost(number: int, weights: tuple[int, ...], want: list[int]) -> None:
    assert textbook.proportional(number, weights=weights) == want


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    [shell] = re.findall(r"<<'END'\n(.*?)END\n", PAGE, flags=re.DOTALL)
    [code] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(shell, names)
    exec(code, names)
    assert capsys.readouterr().out == "100 [40, 30, 30] 10.0\n101 10.0017\n"
    assert len(names["plan_now"]) == 100
