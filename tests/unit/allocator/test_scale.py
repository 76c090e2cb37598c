"""Sizes at which a plan must stay quick. The limits are generous: real times are in docs/benchmarks.md."""

from __future__ import annotations

import random
import time

import pytest

import stowplan_allocator as sa
from unit.allocator.worlds import H100

ROOM = sa.Resources(8, 96_000, 900_000)
LEVELS = ("zone", "rack")


def cluster(num_nodes: int) -> tuple[sa.Node, ...]:
    """Racks of 32 nodes of 8 accelerators, 8 racks to a zone."""
    return tuple(sa.Node(f"node-{i}", H100, ROOM, ROOM, (f"z{i // 256}", f"r{i // 32}")) for i in range(num_nodes))


def gangs(num_nodes: int, num_jobs: int) -> sa.Snapshot:
    pod = sa.Resources(1, 4_000, 50_000)
    jobs = tuple(sa.Job(f"g{i}", f"g{i}", 8, pod, created_at_seconds=i) for i in range(num_jobs))
    return sa.Snapshot(cluster(num_nodes), jobs, LEVELS)


def mixed(num_nodes: int, num_jobs: int, num_shapes: int) -> sa.Snapshot:
    rng = random.Random(7)
    shapes = []
    for _ in range(num_shapes):
        size = rng.choice([1, 2, 4, 8])
        mode = rng.choice([None, None, sa.TopologyMode.PREFERRED, sa.TopologyMode.REQUIRED])
        topology = None if mode is None else sa.TopologyRequest("rack", mode)
        shapes.append((rng.choice([1, 1, 2, 4, 8, 16]), sa.Resources(size, size * 8_000, size * 50_000), topology))
    jobs = []
    for i in range(num_jobs):
        num_pods, pod, topology = rng.choice(shapes)
        jobs.append(sa.Job(f"j{i}", f"j{i}", num_pods, pod, rng.choice([0, 0, 10]), i, topology=topology))
    return sa.Snapshot(cluster(num_nodes), tuple(jobs), LEVELS)


@pytest.mark.parametrize(
    "snapshot",
    [gangs(1_000, 900), gangs(1_000, 1_200), mixed(5_000, 1_000, 60), mixed(500, 1_000, 60)],
    ids=[
        "1,000 nodes, 900 gangs",
        "more gangs than fit",
        "5,000 nodes, 1,000 jobs",
        "an overfull cluster",
    ],
)
def test_large_snapshots_are_planned_with_proof_in_seconds(snapshot: sa.Snapshot) -> None:
    started = time.process_time()
    plan = sa.plan(snapshot)
    assert time.process_time() - started < 10
    admitted = [tier for tier in plan.certificate.tiers if tier.name.startswith("admit")]
    assert all(tier.status is sa.SolveStatus.OPTIMAL for tier in admitted), plan.certificate
    assert len(plan.placements) + len(plan.waiting) == len(snapshot.jobs)
