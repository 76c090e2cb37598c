"""Families of small planning problems on which strategies are compared: each is hard for one reason.

What must stay true: equal arguments give equal snapshots on every machine; and the cluster is
not tidy: on three nodes of ten some accelerators are taken, as in real life.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from stowplan_allocator import types
from stowplan_allocator.bench import workloads

CPU_PER_ACCELERATOR = 8_000
MEMORY_PER_ACCELERATOR = 64_000
TAKEN_PERCENT = 30
BOTH = (types.ProductChoice(workloads.PRODUCT), types.ProductChoice(workloads.SLOWER, 450))

MakeJob = Callable[[random.Random, str, int], types.Job]


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """What makes it hard, in words; what its jobs look like; and what they ask for over what is free."""

    about: str
    make: MakeJob
    demand: float
    products: tuple[str, ...] = (workloads.PRODUCT,)


def _job(name: str, age: int, num_pods: int, size: int, *, cpu: int | None = None) -> types.Job:
    cpu_milli = size * CPU_PER_ACCELERATOR if cpu is None else cpu
    pod = types.Resources(size, cpu_milli, size * MEMORY_PER_ACCELERATOR)
    return types.Job(name, name, num_pods, pod, created_at_seconds=age)


def _dividing(rng: random.Random, name: str, age: int) -> types.Job:
    return _job(name, age, rng.choice([1, 1, 2, 4, 8]), rng.choice([1, 2, 4, 8]))


def _odd(rng: random.Random, name: str, age: int) -> types.Job:
    return _job(name, age, rng.choice([1, 2, 4]), rng.choice([3, 5, 6]))


def _racks(rng: random.Random, name: str, age: int) -> types.Job:
    if rng.random() < 0.5:
        return _dividing(rng, name, age)
    half = _job(name, age, workloads.NODES_PER_RACK // 2, rng.choice([4, 8]))
    return dataclasses.replace(half, topology=types.TopologyRequest("rack", types.TopologyMode.REQUIRED))


def _cpu(rng: random.Random, name: str, age: int) -> types.Job:
    return _job(name, age, rng.choice([1, 2, 4]), rng.choice([1, 2, 4]), cpu=rng.choice([16_000, 30_000, 44_000]))


def _products(rng: random.Random, name: str, age: int) -> types.Job:
    job = _dividing(rng, name, age)
    choices = rng.choice([BOTH, BOTH, BOTH[:1], BOTH[1:]])
    return dataclasses.replace(job, products=choices)


def _shapes(rng: random.Random, name: str, age: int) -> types.Job:
    return _job(name, age, rng.randint(1, 12), rng.randint(1, 8), cpu=rng.randint(1, 12) * 2_000)


def _elastic(rng: random.Random, name: str, age: int) -> types.Job:
    job = dataclasses.replace(_job(name, age, 8, rng.choice([1, 2, 4])), products=rng.choice([BOTH, BOTH[:1]]))
    return dataclasses.replace(job, allowed_num_pods=rng.choice([(1, 2, 4, 8), (2, 3, 5, 8), (3, 8)]))


TWO = (workloads.PRODUCT, workloads.SLOWER)
FAMILIES: dict[str, Family] = {
    "uncontested": Family("pods of 1, 2, 4, 8; everything fits", _dividing, 0.7),
    "contested": Family("pods of 1, 2, 4, 8; more than fits", _dividing, 1.3),
    "odd": Family("pods of 3, 5, 6", _odd, 1.1),
    "racks": Family("half of the gangs want half of one rack", _racks, 1.3),
    "cpu": Family("CPUs run out before accelerators", _cpu, 0.9),
    "products": Family("two products, one at 0.45 of the other's speed", _products, 1.1, TWO),
    "shapes": Family("every job a different shape", _shapes, 1.1),
    "elastic": Family("1 to 8 pods a job, two products", _elastic, 2.0, TWO),
}


def snapshot(name: str, *, num_nodes: int, seed: int) -> types.Snapshot:
    """A snapshot of the family."""
    family = FAMILIES[name]
    rng = random.Random(f"{name} {num_nodes} {seed}")  # noqa: S311 - a workload is no secret
    nodes = tuple(_used(node, rng=rng) for node in workloads.cluster(num_nodes, products=family.products))
    wanted = family.demand * sum(node.available.accelerators for node in nodes)
    jobs: list[types.Job] = []
    while wanted > 0:
        job = family.make(rng, f"job-{len(jobs):04}", len(jobs))
        wanted -= job.num_pods * job.pod.accelerators
        jobs.append(job)
    return types.Snapshot(nodes, tuple(jobs), workloads.LEVELS)


def _used(node: types.Node, *, rng: random.Random) -> types.Node:
    if rng.randrange(100) >= TAKEN_PERCENT:
        return node
    taken = rng.randint(1, node.available.accelerators)
    used = types.Resources(taken, taken * CPU_PER_ACCELERATOR, taken * MEMORY_PER_ACCELERATOR)
    return dataclasses.replace(node, available=node.available - used)
