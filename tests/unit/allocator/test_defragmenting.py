"""Whole nodes made free by moves, and what each costs: compared with all ways to move."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import defragmenting
from unit.allocator import brute, worlds
from unit.allocator.worlds import A100, H100, node, running

FOUR = [node(f"n{i}") for i in range(1, 5)]
SCATTERED = [running(name, {f"n{i}": 1}, 4, cost=10 * i) for i, name in enumerate("abcd", 1)]


def test_each_step_makes_one_more_node_free_and_says_what_it_loses() -> None:
    [found] = defragmenting.defragment(worlds.snapshot(FOUR, SCATTERED), budget=1000)
    assert (found.product, found.size, found.slots, found.most) == (H100, 8, 0, 2)
    assert [(step.more, step.cost, step.bound, [move.job_id for move in step.moves]) for step in found.steps] == [
        (1, 10, 10, ["a"]),
        (2, 30, 30, ["a", "b"]),
    ]
    assert found.best is not None
    assert found.best.more == 1
    assert not found.cut


def test_steps_beyond_the_budget_are_left_out() -> None:
    [found] = defragmenting.defragment(worlds.snapshot(FOUR, SCATTERED), budget=29)
    assert [step.more for step in found.steps] == [1]
    assert found.cut == "the next one loses 30 accelerator-seconds, more than 29"


def test_products_are_told_apart_and_who_must_stay_stays() -> None:
    nodes = [*FOUR[:2], node("n3", product=A100, taints=(sa.Taint("pool", sa.TaintEffect.NO_SCHEDULE, "x"),))]
    jobs = [dataclasses.replace(one, disruption_cost=None) for one in SCATTERED[:2]]
    found = defragmenting.defragment(worlds.snapshot(nodes, jobs), budget=1000)
    assert [(one.product, one.slots, one.most, one.steps) for one in found] == [(A100, 1, 1, ()), (H100, 0, 1, ())]


@given(st.lists(st.tuples(st.sampled_from([2, 3, 4, 6]), st.sampled_from([None, 1, 5, 20])), min_size=2, max_size=4))
@settings(max_examples=40, deadline=None)
def test_no_moves_free_as_many_nodes_and_lose_less(standing: list[tuple[int, int | None]]) -> None:
    nodes = FOUR[: len(standing)]
    jobs = [running(f"r{i}", {f"n{i + 1}": 1}, gpus, cost=cost) for i, (gpus, cost) in enumerate(standing)]
    snapshot = worlds.snapshot(nodes, jobs)
    [found] = defragmenting.defragment(snapshot, budget=10_000)
    best: dict[int, int] = {}
    for chosen in itertools.product((False, True), repeat=len(jobs)):
        movers = [job for job, moves in zip(jobs, chosen, strict=True) if moves]
        if any(job.disruption_cost is None for job in movers):
            continue
        staying = tuple(job for job in jobs if job not in movers)
        lifted = [dataclasses.replace(job, placement=None) for job in movers]
        cost = sum(job.disruption_cost or 0 for job in movers)
        for places in _placements(dataclasses.replace(snapshot, jobs=staying), lifted):
            free = sum(amounts.accelerators == 8 for amounts in brute.free_of(places).values())
            best[free] = min(cost, best.get(free, cost))
    got = {found.slots + step.more: step.cost for step in found.steps}
    for slots in range(found.slots + 1, len(nodes) + 1):
        costs = [cost for free, cost in best.items() if free >= slots]
        assert got.get(slots) == min(costs, default=None)


def _placements(snapshot: sa.Snapshot, jobs: list[sa.Job]) -> list[sa.Snapshot]:
    if not jobs:
        return [snapshot]
    first, *rest = jobs
    return [
        world
        for place in brute.ways(first, snapshot)
        for world in _placements(
            dataclasses.replace(snapshot, jobs=(*snapshot.jobs, dataclasses.replace(first, placement=place))), rest
        )
    ]
