"""The strategy ``fgd`` against the measure, on small clusters."""

from __future__ import annotations

import dataclasses
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import fragmentation
from stowplan_allocator.fragmentation import Room, Want
from unit.allocator import worlds
from unit.allocator.worlds import node

# On a busy machine the first plan may take seconds, because it loads the solver.
FGD = sa.Settings(strategy=sa.Strategy.FGD, time_limit_seconds=300)


def test_a_pod_goes_where_accelerators_lack_cpu_although_greed_would_not() -> None:
    nodes = [node("few-cpus", 4, cpu=4), node("many-cpus", 2, cpu=96)]
    usual = [worlds.job(f"usual-{i}", 1, 1, cpu=16, created_at_seconds=1) for i in range(2)]
    snapshot = worlds.snapshot(nodes, [worlds.job("light", 1, 1), *usual])
    chosen = {}
    for strategy in (sa.Strategy.GREEDY, sa.Strategy.FGD):
        plan = sa.plan(snapshot, dataclasses.replace(FGD, strategy=strategy))
        chosen[strategy] = plan.placements["light"].shares[0].node, len(plan.placements)
    assert chosen == {sa.Strategy.GREEDY: ("many-cpus", 2), sa.Strategy.FGD: ("few-cpus", 3)}


def test_a_gang_stays_in_the_domain_that_it_requires() -> None:
    nodes = [node(f"{rack}{i}", 4, rack=rack) for rack in ("r1", "r2") for i in range(2)]
    gang = worlds.job("gang", 3, 2, level="rack")
    plan = sa.plan(worlds.snapshot([*nodes, node("r1-more", 1, rack="r1")], [gang]), FGD)
    assert len({share.node[:2] for share in plan.placements["gang"].shares}) == 1


def test_pods_without_accelerators_keep_away_from_them() -> None:
    nodes = [node("a-accelerated", 8), node("b-plain", 0, of=0, product="")]
    plan = sa.plan(worlds.snapshot(nodes, [worlds.job("light", 1, 0, cpu=1)]), FGD)
    assert plan.placements["light"].shares[0].node == "b-plain"


def test_after_the_time_limit_nodes_are_chosen_as_greed_does_and_the_note_says_so() -> None:
    snapshot = worlds.snapshot([node("a"), node("b")], [worlds.job(f"j{i}", 1, 3) for i in range(4)])
    plan = sa.plan(snapshot, dataclasses.replace(FGD, time_limit_seconds=1e-6))
    assert len(plan.placements) == 4
    assert "the time limit ended the measuring of fragmentation" in plan.certificate.note


@given(
    rooms=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), min_size=1, max_size=6),
    pods=st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0, 4, 9])), min_size=1, max_size=10),
)
@settings(max_examples=40, deadline=None)
def test_every_pod_goes_where_the_measure_grows_least(
    rooms: list[tuple[int, int]], pods: list[tuple[int, int]]
) -> None:
    nodes = [node(f"n{i}", free, cpu=96, cpu_free=cpu) for i, (free, cpu) in enumerate(rooms)]
    jobs = [worlds.job(f"j{i:02}", 1, gpus, cpu=cpu) for i, (gpus, cpu) in enumerate(pods)]
    placements = sa.plan(worlds.snapshot(nodes, jobs), FGD).placements
    wants = fragmentation.weighted(
        Want(gpus, 1000, (cpu * 1000,), float(count)) for (gpus, cpu), count in Counter(pods).items()
    )
    left = {one.name: Room("", (1000,) * free, (cpu * 1000,)) for one, (free, cpu) in zip(nodes, rooms, strict=True)}
    for job, (gpus, cpu) in zip(jobs, pods, strict=True):
        growth = {
            name: round(fragmentation.expected(after, wants=wants) - fragmentation.expected(room, wants=wants), 6)
            for name, room in left.items()
            for after in fragmentation.after(room, Want(gpus, 1000, (cpu * 1000,)))
        }
        assert (job.id in placements) == bool(growth)
        if growth:
            chosen = placements[job.id].shares[0].node
            assert growth[chosen] == min(growth.values())
            room = left[chosen]
            (left[chosen],) = fragmentation.after(room, Want(gpus, 1000, (cpu * 1000,)))
            left[chosen] = Room("", tuple(free for free in left[chosen].devices if free), left[chosen].others)
