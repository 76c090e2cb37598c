"""Clusters and queues to measure planning with: made from a seed, so that anyone gets the same ones.

What must stay true: equal arguments give equal snapshots on every machine; running jobs
stand where the planner could really have put them, in holes that jobs which have ended left
behind; and each mix is named after what makes it hard.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import random
from collections.abc import Sequence

from stowplan_allocator import planner, types

PRODUCT = "NVIDIA-H100-80GB-HBM3"
SLOWER = "NVIDIA-A100-SXM4-80GB"
LEVELS = ("zone", "rack")
NODES_PER_RACK = 32
RACKS_PER_ZONE = 8
ACCELERATORS = 8
CPU_MILLI = 96_000
MEMORY_MIB = 900_000
# More running jobs than asked for are placed and these many in a hundred end again: the holes of a steady cluster.
ENDED_PERCENT = 15


class Mix(enum.StrEnum):
    """What the queue is made of."""

    PLAIN = "plain"
    DISTINCT = "distinct"
    ODD = "odd"
    RACKS = "racks"
    CPU = "cpu"


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """A shape of job: pods, what one takes, and its topology."""

    num_pods: int
    pod: types.Resources
    topology: types.TopologyRequest | None = None
    products: tuple[types.ProductChoice, ...] = ()

    @property
    def nodes_worth(self) -> float:
        """The share that the gang takes of what it takes most of, in nodes."""
        pod = self.pod
        share = max(pod.accelerators / ACCELERATORS, pod.cpu_milli / CPU_MILLI, pod.memory_mib / MEMORY_MIB)
        return self.num_pods * share


def cluster(
    num_nodes: int, *, products: Sequence[str] = (PRODUCT,), nodes_per_rack: int = NODES_PER_RACK
) -> tuple[types.Node, ...]:
    """Racks of nodes with 8 accelerators each, 8 racks to a zone; rack by rack one product after the other."""
    room = types.Resources(ACCELERATORS, CPU_MILLI, MEMORY_MIB)
    nodes = []
    for i in range(num_nodes):
        rack = i // nodes_per_rack
        path = (f"z{rack // RACKS_PER_ZONE}", f"r{rack}")
        nodes.append(types.Node(f"node-{i}", products[rack % len(products)], room, room, path))
    return tuple(nodes)


def steady(
    *,
    num_nodes: int,
    num_jobs: int,
    num_running: int,
    num_shapes: int,
    seed: int,
    demand: float,
    mix: Mix = Mix.PLAIN,
    nodes_per_rack: int = NODES_PER_RACK,
) -> types.Snapshot:
    """A cluster where jobs run and others wait.

    ``demand`` is what running and waiting jobs ask for over what the cluster has, of each
    job what it takes most of, as near as the shapes allow. One shape is the gang of 8 pods
    with one accelerator each, whatever the demand.
    """
    name = f"{mix} {num_nodes} {num_jobs} {num_running} {num_shapes} {seed}"
    rng = random.Random(name)  # noqa: S311 - a workload is no secret
    nodes = cluster(num_nodes, nodes_per_rack=nodes_per_rack)
    wishes = _wishes(mix, num_shapes=num_shapes, num_jobs=num_jobs, rng=rng)
    placed_first = num_running * 100 // (100 - ENDED_PERCENT)
    weights = tilted([wish.nodes_worth for wish in wishes], mean=num_nodes * demand / (num_jobs + num_running))
    ran = _jobs("r", rng.choices(wishes, weights, k=placed_first), rng=rng)
    running = _settle(nodes, jobs=ran, num_running=num_running, rng=rng)
    waiting = _jobs("w", rng.choices(wishes, weights, k=num_jobs), rng=rng)
    if mix is Mix.DISTINCT:
        waiting = [_made_distinct(job, number=i) for i, job in enumerate(waiting)]
    return types.Snapshot(nodes, (*running, *waiting), LEVELS)


def in_queues(snapshot: types.Snapshot, *, num_queues: int, seed: int) -> types.Snapshot:
    """The same with so many queues: one root, departments below, teams below these, which own the whole cluster.

    Teams have weights of 1, 2 and 3 and equal quotas; every job is in one of them by chance.
    """
    rng = random.Random(f"queues {num_queues} {seed}")  # noqa: S311 - a workload is no secret
    departments = max(math.isqrt(num_queues), 1)
    teams = max(num_queues - departments - 1, 1)
    owned = sum(node.allocatable.accelerators for node in snapshot.nodes) // teams
    queues = [types.Queue("org"), *(types.Queue(f"department{i}", parent="org") for i in range(departments))]
    for i in range(teams):
        parent, weight = f"department{i % departments}", 1000 * (1 + i % 3)
        quotas = (types.Quota(PRODUCT, owned),)
        queues.append(types.Queue(f"team{i}", parent=parent, weight_milli=weight, quotas=quotas))
    jobs = tuple(dataclasses.replace(job, queue=f"team{rng.randrange(teams)}") for job in snapshot.jobs)
    return dataclasses.replace(snapshot, jobs=jobs, queues=tuple(queues))


def tilted(sizes: Sequence[float], *, mean: float) -> list[float]:
    """Weights under which sizes have about this mean: exp(−λ·size), λ found by halving."""
    low, high = -1.0, 1.0
    scale = max(sizes)
    for _ in range(60):
        middle = (low + high) / 2
        weights = [math.exp(-middle * 40 * size / scale) for size in sizes]
        if sum(w * size for w, size in zip(weights, sizes, strict=True)) > mean * sum(weights):
            low = middle
        else:
            high = middle
    return weights


def _wishes(mix: Mix, *, num_shapes: int, num_jobs: int, rng: random.Random) -> list[Wish]:
    if num_shapes == 1:
        return [Wish(8, types.Resources(1, 4_000, 50_000))]
    return [_wish(mix, rng=rng) for _ in range(num_jobs if mix is Mix.DISTINCT else num_shapes)]


def _wish(mix: Mix, *, rng: random.Random) -> Wish:
    num_pods = rng.choice([1, 1, 2, 4, 8, 16])
    size = rng.choice([3, 5, 6]) if mix is Mix.ODD else rng.choice([1, 2, 4, 8])
    cpu_milli, memory_mib = 8_000 * size, 50_000 * size
    level = rng.choice([None, None, types.TopologyMode.PREFERRED, types.TopologyMode.REQUIRED])
    topology = None if level is None else types.TopologyRequest("rack", level)
    if mix is Mix.RACKS and rng.random() < 0.5:
        num_pods, size = NODES_PER_RACK // 2, ACCELERATORS
        topology = types.TopologyRequest("rack", types.TopologyMode.REQUIRED)
    elif mix is Mix.CPU:
        # Four accelerators' worth of CPUs for one or two: most nodes run out of CPUs first.
        size = rng.choice([1, 2])
        cpu_milli = rng.choice([20_000, 30_000, 40_000, 47_000])
        memory_mib = rng.choice([50_000, 100_000, 240_000])
    return Wish(num_pods, types.Resources(size, cpu_milli, memory_mib), topology)


def _jobs(prefix: str, wishes: Sequence[Wish], *, rng: random.Random) -> list[types.Job]:
    return [
        types.Job(
            f"{prefix}{i}",
            f"team-{i % 7}/{prefix}{i}",
            wish.num_pods,
            wish.pod,
            priority=rng.choice([0, 0, 10]),
            created_at_seconds=i,
            products=wish.products,
            topology=wish.topology,
        )
        for i, wish in enumerate(wishes)
    ]


def _made_distinct(job: types.Job, *, number: int) -> types.Job:
    pod = dataclasses.replace(job.pod, memory_mib=job.pod.memory_mib + number)
    return dataclasses.replace(job, pod=pod)


def _settle(
    nodes: tuple[types.Node, ...], *, jobs: Sequence[types.Job], num_running: int, rng: random.Random
) -> list[types.Job]:
    """Place the jobs greedily, let some of them end, and return those that go on, at most ``num_running``."""
    settings = types.Settings(strategy=types.Strategy.GREEDY, explain=False)
    made = planner.plan(types.Snapshot(nodes, tuple(jobs), LEVELS), settings)
    started = [dataclasses.replace(job, placement=made.placements[job.id]) for job in jobs if job.id in made.placements]
    rng.shuffle(started)
    return sorted(started[:num_running], key=lambda job: job.created_at_seconds)


def race(*, num_nodes: int, demand: float, seed: int) -> types.Snapshot:
    """An empty cluster of two products, and gangs of one age that ask for ``demand`` times its accelerators.

    A fifth of the gangs each have pods of 3, 5 and 6 accelerators, must stand in one rack, need
    more CPUs, or more memory, than accelerators' worth; some take one product alone.
    """
    rng = random.Random(f"race {num_nodes} {demand:g} {seed}")  # noqa: S311 - a workload is no secret
    nodes = cluster(num_nodes, products=(PRODUCT, SLOWER))
    left = round(num_nodes * ACCELERATORS * demand)
    jobs: list[types.Job] = []
    while left > 0:
        wish = _gang(rng)
        if wish.num_pods * wish.pod.accelerators > left:
            wish = Wish(left, types.Resources(1, 4_000, 20_000))
        left -= wish.num_pods * wish.pod.accelerators
        name = f"gang-{len(jobs):05}"
        jobs.append(
            types.Job(name, f"race/{name}", wish.num_pods, wish.pod, products=wish.products, topology=wish.topology)
        )
    return types.Snapshot(nodes, tuple(jobs), LEVELS)


def _gang(rng: random.Random) -> Wish:
    size = rng.choice([1, 2, 4, 8])
    num_pods = rng.choice([1, 2, 4, 8, 16])
    cpu_milli, memory_mib = 8_000 * size, 60_000 * size
    topology = None
    match rng.choice(["plain", "odd", "rack", "cpu", "memory"]):
        case "odd":
            size = rng.choice([3, 5, 6])
            cpu_milli, memory_mib = 8_000 * size, 60_000 * size
        case "rack":
            topology = types.TopologyRequest("rack", types.TopologyMode.REQUIRED)
        case "cpu":
            size = rng.choice([1, 2])
            cpu_milli, memory_mib = 16_000 * size, 30_000 * size
        case "memory":
            size = rng.choice([1, 2])
            cpu_milli, memory_mib = 6_000 * size, 180_000 * size
        case _:
            pass
    products = rng.choice(
        [
            (),
            (),
            (types.ProductChoice(PRODUCT),),
            (types.ProductChoice(SLOWER),),
            (types.ProductChoice(PRODUCT), types.ProductChoice(SLOWER, 450)),
        ]
    )
    return Wish(num_pods, types.Resources(size, cpu_milli, memory_mib), topology, products)
