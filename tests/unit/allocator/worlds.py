"""Builders and hypothesis strategies for snapshots."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

import stowplan_allocator as sa
from unit.allocator import brute

H100, A100 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"
LEVELS = ("zone", "rack")
CPUS = st.sampled_from([0, 1, 4, 7])
REQUIRED, PREFERRED = sa.TopologyMode.REQUIRED, sa.TopologyMode.PREFERRED

IN, NOT_IN, EXISTS = sa.LabelOperator.IN, sa.LabelOperator.NOT_IN, sa.LabelOperator.EXISTS
MISSING, GT, LT = sa.LabelOperator.DOES_NOT_EXIST, sa.LabelOperator.GT, sa.LabelOperator.LT
AFFINITIES: list[tuple[sa.AffinityTerm, ...]] = [
    ((sa.LabelExpression("pool", IN, ("a", "c")),),),
    ((sa.LabelExpression("pool", NOT_IN, ("b",)), sa.LabelExpression("gen", MISSING)),),
    ((sa.LabelExpression("gen", GT, ("4",)),), (sa.LabelExpression("pool", EXISTS),)),
    ((sa.LabelExpression("gen", LT, ("5",)),), ()),
]


def amounts(accelerators: int, cpu: int = 0, memory_gib: int = 0, **other: int) -> sa.Resources:
    return sa.Resources(accelerators, cpu * 1000, memory_gib * 1024, tuple(other.items()))


def node(
    name: str,
    free: int = 8,
    *,
    rack: str | None = "r1",
    zone: str | None = "z1",
    product: str = H100,
    of: int = 8,
    cpu: int = 96,
    cpu_free: int | None = None,
    **fields: Any,
) -> sa.Node:
    available = amounts(free, cpu if cpu_free is None else cpu_free, 512)
    return sa.Node(name, product, available, amounts(of, cpu, 512), (zone, rack), **fields)


def job(name: str, pods: int = 1, gpus: int = 8, *, cpu: int = 0, **fields: Any) -> sa.Job:
    level = fields.pop("level", None)
    if level is not None:
        fields["topology"] = sa.TopologyRequest(level, fields.pop("mode", REQUIRED))
    products = fields.pop("products", ())
    chosen = tuple(p if isinstance(p, sa.ProductChoice) else sa.ProductChoice(p) for p in products)
    return sa.Job(name, name, pods, amounts(gpus, cpu), products=chosen, **fields)


def running(name: str, on: dict[str, int], gpus: int, *, cost: int | None = 100, **fields: Any) -> sa.Job:
    """A running job with so many pods on each node."""
    shares = tuple(sa.NodeShare(node, pods) for node, pods in on.items())
    placed = sa.Placement(H100, shares)
    return job(name, sum(on.values()), gpus, placement=placed, disruption_cost=cost, **fields)


def snapshot(nodes: list[sa.Node], jobs: list[sa.Job], levels: tuple[str, ...] = LEVELS) -> sa.Snapshot:
    return sa.Snapshot(tuple(nodes), tuple(jobs), levels)


@st.composite
def nodes(draw: st.DrawFn, index: int, sizes: tuple[int, ...] = (4, 8)) -> sa.Node:
    of = draw(st.sampled_from(sizes))
    free = draw(st.integers(0, of))
    cpu = draw(st.sampled_from([0, 8, 16, 16]))
    return node(
        f"n{index}",
        free,
        of=of,
        cpu=16,
        cpu_free=cpu,
        zone=draw(st.sampled_from(["z1", "z1", "z2", None])),
        rack=draw(st.sampled_from(["r1", "r1", "r2", None])),
        product=draw(st.sampled_from([H100, H100, A100])),
        blocked=draw(st.sampled_from(["", "", "", "", "cordoned"])),
        labels=draw(st.sampled_from([{}, {}, {"pool": "a"}, {"pool": "b", "gen": "4"}, {"gen": "5"}])),
        spot=draw(st.sampled_from([False, False, True])),
        taints=draw(st.sampled_from([(), (), (), (sa.Taint("team", sa.TaintEffect.NO_SCHEDULE, "x"),)])),
        price_per_hour_micros=draw(st.sampled_from([0, 0, 2_000_000])),
    )


@st.composite
def jobs(draw: st.DrawFn, index: int, max_pods: int = 3, gpus: tuple[int, ...] = (0, 1, 2, 3, 4, 8)) -> sa.Job:
    products = draw(st.sampled_from([(), (), (H100,), (A100,), (H100, A100), (A100, H100)]))
    level = draw(st.sampled_from([None, None, "zone", "rack", "node"]))
    num_pods = draw(st.integers(1, max_pods))
    mode = draw(st.sampled_from([REQUIRED, PREFERRED]))
    topology = None if level is None else sa.TopologyRequest(level, mode)
    if topology is not None and mode is REQUIRED and draw(st.booleans()):
        size = draw(st.sampled_from([size for size in range(1, num_pods + 1) if num_pods % size == 0]))
        topology = sa.TopologyRequest(topology.level, mode, size)
    spread = None
    if draw(st.sampled_from([False] * 4 + [True])):
        spread = sa.Spread(draw(st.sampled_from(["zone", "rack", "node"])), draw(st.integers(1, 2)))
    return sa.Job(
        id=f"j{index}",
        name=f"j{index}",
        num_pods=num_pods,
        pod=amounts(draw(st.sampled_from(gpus)), draw(st.sampled_from([0, 1, 4, 7]))),
        priority=draw(st.sampled_from([0, 0, 0, 5])),
        created_at_seconds=draw(st.integers(0, 2)),
        products=tuple(sa.ProductChoice(p, 1000 if i == 0 else 450) for i, p in enumerate(products)),
        topology=topology,
        spread=spread,
        node_selector=draw(st.sampled_from([(), (), (), (("pool", "a"),)])),
        tolerations=draw(st.sampled_from([(), (), (sa.Toleration("team", "Exists"),)])),
        node_affinity=draw(st.sampled_from([(), (), (), *AFFINITIES])),
        capacity_type=draw(st.sampled_from([sa.CapacityType.ANY] * 3 + [*sa.CapacityType])),
        avoided_nodes=draw(st.sampled_from([frozenset(), frozenset(), frozenset({"n0"})])),
    )


@st.composite
def snapshots(draw: st.DrawFn, max_nodes: int = 6, max_jobs: int = 8, max_pods: int = 4) -> sa.Snapshot:
    some_nodes = [draw(nodes(i)) for i in range(draw(st.integers(1, max_nodes)))]
    some_jobs = [draw(jobs(i, max_pods)) for i in range(draw(st.integers(1, max_jobs)))]
    # Some jobs are copies of others, as in real queues: they share a shape.
    for i, copied in enumerate(draw(st.lists(st.sampled_from(some_jobs), max_size=max_jobs // 2))):
        some_jobs.append(_renamed(copied, f"c{i}"))
    if draw(st.booleans()):
        target = some_nodes[0]
        held = min(2, target.available.accelerators)
        placement = sa.Placement(target.product, (sa.NodeShare(target.name, 1),))
        some_jobs.append(sa.Job("running", "running", 1, amounts(held), placement=placement))
    return snapshot(some_nodes, some_jobs)


def _renamed(some: sa.Job, name: str) -> sa.Job:
    return dataclasses.replace(some, id=name, name=name)


@st.composite
def busy_snapshots(draw: st.DrawFn, max_nodes: int = 4, max_running: int = 6, max_waiting: int = 1) -> sa.Snapshot:
    """Running jobs of priority 0 that may be disturbed at some cost, or not, and a few waiting ones."""
    some_nodes = [draw(nodes(i)) for i in range(draw(st.integers(1, max_nodes)))]
    # Most nodes are plain and empty, or hardly anything would run and nothing could be gained.
    some_nodes = [
        one if draw(st.integers(0, 3)) == 0 else node(one.name, 8, cpu=16, rack=one.topology[1]) for one in some_nodes
    ]
    placed: list[sa.Job] = []
    for i in range(draw(st.integers(max_running // 2, max_running))):
        candidate = job(f"r{i}", draw(st.integers(1, 2)), draw(st.sampled_from([2, 3, 4, 8])), cpu=draw(CPUS))
        ways = brute.ways(candidate, snapshot(some_nodes, placed))
        if ways:
            cost = draw(st.sampled_from([None, 0, 10, 10, 20, 70, 400]))
            expected = draw(st.sampled_from([None, 60, 100, 100, 300]))
            place = draw(st.sampled_from(ways))
            placed.append(
                dataclasses.replace(candidate, placement=place, disruption_cost=cost, expected_seconds=expected)
            )
    waiting = [draw(jobs(i, gpus=(2, 3, 4, 8))) for i in range(draw(st.integers(1, max_waiting)))]
    waiting = [dataclasses.replace(one, products=one.products[:1], node_selector=()) for one in waiting]
    return snapshot(some_nodes, placed + waiting)


@st.composite
def queues(draw: st.DrawFn, max_queues: int = 4) -> tuple[sa.Queue, ...]:
    """A forest of queues: quotas on some, limits on some, none of them wrong."""
    found: list[sa.Queue] = []
    for i in range(draw(st.integers(1, max_queues))):
        some = st.sampled_from([None, None, 0, 2, 8])
        quotas = [
            sa.Quota(product, draw(st.sampled_from([0, 2, 4, 8, 12])), draw(some), draw(some))
            for product in draw(st.sampled_from([(), (H100,), (H100,), (H100, A100), ("*",), (A100, "*")]))
        ]
        found.append(
            sa.Queue(
                f"q{i}",
                parent=draw(st.sampled_from(["", *(queue.name for queue in found)])),
                weight_milli=draw(st.sampled_from([500, 1000, 1000, 3000])),
                quotas=tuple(quotas),
                max_running_jobs=draw(st.sampled_from([None, None, None, 1, 2])),
                max_accelerators_per_job=draw(st.sampled_from([None, None, None, 4, 8])),
            )
        )
    return tuple(found)


@st.composite
def queued_snapshots(draw: st.DrawFn, max_nodes: int = 5, max_jobs: int = 7, max_pods: int = 3) -> sa.Snapshot:
    """A snapshot with queues, its jobs in them or in the default one; some run already."""
    base = draw(snapshots(max_nodes, max_jobs, max_pods))
    there = draw(queues())
    names = st.sampled_from(["", *(queue.name for queue in there)])
    return dataclasses.replace(
        base, queues=there, jobs=tuple(dataclasses.replace(one, queue=draw(names)) for one in base.jobs)
    )
