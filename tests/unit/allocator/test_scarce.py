"""scarce.py: pods go where least of what runs out first is wasted, and only where it does run out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import compiling, scarce
from unit.allocator import worlds
from unit.allocator.worlds import job, node


def cpu_world(*takes: int, cpus: tuple[int, ...] = (47, 50)) -> sa.Snapshot:
    nodes = [node(f"n{i}", cpu=cpu) for i, cpu in enumerate(cpus)]
    return worlds.snapshot(nodes, [job(f"j{i}", 1, 1, cpu=cpu, created_at_seconds=i) for i, cpu in enumerate(takes)])


@pytest.mark.parametrize("strategy", [sa.Strategy.GREEDY, sa.Strategy.EXACT])
def test_a_pod_leaves_what_others_can_use(strategy: sa.Strategy) -> None:
    made = sa.plan(cpu_world(20, 30, 47, 20), sa.Settings(strategy=strategy))
    assert set(made.placements) == {"j0", "j1", "j2"}
    assert made.placements["j0"].shares[0].node == "n1"


UNSCARCE: dict[str, sa.Snapshot] = {
    "all CPUs that are asked for are free": cpu_world(20, 30),
    "accelerators run out first": worlds.snapshot([node("a")], [job("x", 20, 1, cpu=1)]),
    "pods take too many different amounts": worlds.snapshot(
        [node("a")],
        [sa.Job(f"j{i}", f"j{i}", 1, sa.Resources(1, 9_001 + i)) for i in range(60)],
    ),
}


@pytest.mark.parametrize("snapshot", UNSCARCE.values(), ids=UNSCARCE.keys())
def test_nothing_changes_where(snapshot: sa.Snapshot) -> None:
    assert scarce.find(compiling.compile_problem(snapshot)) is None


@given(st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True), st.integers(1, 24))
def test_the_reach_is_the_best_sum(takes: list[int], cpu: int) -> None:
    found = scarce.find(compiling.compile_problem(cpu_world(*takes * 30, cpus=(cpu,))))
    if found is None:
        return
    counts = [range(cpu // take + 1) for take in takes]
    best = max(
        total
        for chosen in itertools.product(*counts)
        if (total := sum(n * take for n, take in zip(chosen, takes, strict=True))) <= cpu
    )
    assert found.reach[-1] * found.unit == best * 1000
