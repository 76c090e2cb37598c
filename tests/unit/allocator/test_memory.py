"""Plans with a memory equal plans without one; a difference sent is the snapshot that was meant."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import compiling, differences
from stowplan_allocator import problem as problems
from stowplan_allocator.memory import Memory
from unit.allocator import worlds


def changed(snapshot: sa.Snapshot, rng: random.Random, *, number: int) -> sa.Snapshot:
    """What another cycle might see: nodes come, go and change; jobs arrive, start and end; all in any order."""
    nodes, jobs = list(snapshot.nodes), list(snapshot.jobs)
    names = (f"new{number}-{i}" for i in itertools.count())
    for _ in range(rng.randint(0, 3)):
        i = rng.randrange(len(nodes))
        match rng.randrange(5):
            case 0:
                nodes[i] = dataclasses.replace(nodes[i], blocked="" if nodes[i].blocked else "cordoned")
            case 1:
                nodes[i] = dataclasses.replace(nodes[i], available=worlds.amounts(rng.randint(0, 8), 16, 512))
            case 2:
                nodes[i] = dataclasses.replace(nodes[i], labels={"pool": rng.choice("ab")}, topology=("z1", "r9"))
            case 3 if len(nodes) > 1:
                del nodes[i]
            case _:
                nodes.append(worlds.node(next(names), rng.randint(0, 8)))
    for _ in range(rng.randint(0, 3)):
        if jobs and rng.random() < 0.6:
            i = rng.randrange(len(jobs))
            job, node = jobs[i], rng.choice(nodes)
            if job.placement is None and rng.random() < 0.5:
                share = sa.NodeShare(rng.choice([node.name, "gone"]), job.num_pods)
                jobs[i] = dataclasses.replace(job, placement=sa.Placement(node.product, (share,)))
            else:
                del jobs[i]
        else:
            other = {"rdma": 1} if rng.random() < 0.3 else {}
            jobs.append(dataclasses.replace(worlds.job(next(names)), pod=worlds.amounts(1, **other)))
    if rng.random() < 0.3:
        rng.shuffle(nodes)
        rng.shuffle(jobs)
    return dataclasses.replace(snapshot, nodes=tuple(nodes), jobs=tuple(jobs), now_seconds=number)


@settings(max_examples=40, deadline=None)
@given(worlds.snapshots(), st.integers(0, 10_000))
def test_whatever_was_planned_before_a_plan_with_memory_equals_the_plan_without(start: sa.Snapshot, seed: int) -> None:
    rng = random.Random(seed)
    memory = Memory()
    snapshot = start
    for number in range(6):
        chosen = sa.Settings(strategy=sa.Strategy.GREEDY, seed=rng.choice([0, 0, 0, 7]))
        assert sa.plan(snapshot, chosen, memory=memory) == sa.plan(snapshot, chosen)
        with_memory = compiling.compile_problem(snapshot, memory=memory)
        assert with_memory == compiling.compile_problem(snapshot)
        assert with_memory.balance == problems.free_vectors(snapshot, dims=with_memory.dims)
        snapshot = changed(snapshot, rng, number=number)


def test_the_exact_strategy_remembers_nothing_either() -> None:
    rng = random.Random(1)
    memory = Memory()
    snapshot = worlds.snapshot([worlds.node(f"n{i}") for i in range(6)], [worlds.job(f"j{i}", 2, 3) for i in range(5)])
    for number in range(8):
        assert sa.plan(snapshot, memory=memory) == sa.plan(snapshot)
        snapshot = changed(snapshot, rng, number=number)


@given(worlds.snapshots(), st.integers(0, 10_000))
def test_a_difference_gives_the_new_snapshot_and_keeps_what_did_not_change(start: sa.Snapshot, seed: int) -> None:
    rng = random.Random(seed)
    new = changed(start, rng, number=1)
    difference = differences.between(start, new)
    assert difference is not None
    there = differences.apply(pickle.loads(pickle.dumps(difference)), to=start)
    assert there == new
    old_nodes = {node.name: node for node in start.nodes}
    assert all(node is old_nodes[node.name] for node in there.nodes if old_nodes.get(node.name) == node)


def test_a_copy_is_no_difference_and_names_that_are_not_unique_have_none() -> None:
    start = worlds.snapshot([worlds.node("a"), worlds.node("b")], [worlds.job("j")])
    difference = differences.between(start, pickle.loads(pickle.dumps(start)))
    assert difference is not None
    assert difference.nodes == difference.jobs == differences.Change((), (), None)
    assert differences.between(start, dataclasses.replace(start, nodes=start.nodes * 2)) is None


@pytest.mark.parametrize("num_changed", [0, 3])
def test_what_is_sent_grows_with_what_changed_and_not_with_the_cluster(num_changed: int) -> None:
    start = worlds.snapshot([worlds.node(f"n{i}") for i in range(500)], [])
    nodes = [worlds.node(f"n{i}", 1 if i < num_changed else 8) for i in range(500)]
    difference = differences.between(start, worlds.snapshot(nodes, []))
    assert len(pickle.dumps(difference)) < 1_000 + 500 * num_changed
