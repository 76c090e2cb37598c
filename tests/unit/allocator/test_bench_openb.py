"""``bench openb`` on made-up clusters: measures over arrays, arrivals, the verifier, the command."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import random
from collections import Counter
from unittest import mock

import click.testing
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stowplan_allocator import fragmentation, room_value
from stowplan_allocator.bench import __main__ as bench
from stowplan_allocator.bench import (
    openb_moving,
    openb_offline,
    openb_online,
    openb_policies,
    openb_run,
    openb_verify,
    openb_workload,
)
from stowplan_allocator.bench.openb_cluster import Cluster, Stand
from stowplan_allocator.bench.openb_policies import Rows
from stowplan_allocator.bench.openb_workload import Workload
from stowplan_allocator.fragmentation import Room, Want
from stowplan_allocator.simulate.traces.openb import Machine

MACHINES = st.builds(
    Machine,
    name=st.uuids().map(str),
    cpu_milli=st.sampled_from([8000, 16000, 32000]),
    memory_mib=st.sampled_from([8000, 64000]),
    num_gpus=st.sampled_from([1, 2, 4]),
    model=st.sampled_from(["A", "B"]),
)
AMOUNTS = st.tuples(st.sampled_from([1000, 4000, 9000]), st.sampled_from([1000, 9000]))
WANTS = st.builds(
    lambda size, others, kinds: Want(*size, others, 1.0, kinds),
    st.sampled_from([(0, 0), (1, 300), (1, 500), (1, 810), (1, 1000), (2, 1000)]),
    AMOUNTS,
    st.sampled_from([None, frozenset({"A"}), frozenset({"A", "B"})]),
)


def distinct(wants: list[Want], counts: list[int]) -> tuple[Want, ...]:
    weighted = dict(zip(wants, counts, strict=False))
    return tuple(dataclasses.replace(want, weight=float(count)) for want, count in weighted.items())


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    machines = draw(st.lists(MACHINES, min_size=1, max_size=6, unique_by=lambda machine: machine.name))
    wants = draw(st.lists(WANTS, min_size=1, max_size=6, unique=True))
    wants = [*wants, Want(1, 470, (2000, 2000))]
    counts = draw(st.lists(st.integers(1, 9), min_size=len(wants), max_size=len(wants)))
    kept = distinct(wants, counts)
    return Workload(tuple(machines), kept, tuple(i for i, want in enumerate(kept) for _ in range(int(want.weight))))


def room_of(cluster: Cluster, workload: Workload, node: int) -> Room:
    models = {machine.name: machine.model for machine in workload.machines}
    others = (int(cluster.cpu[node]), int(cluster.memory[node]))
    return Room(models[cluster.names[node]], tuple(sorted(cluster.devices[node], reverse=True)), others)


def fgd_by_hand(workload: Workload, arriving: list[int]) -> list[Room]:
    """The policy as the paper tells it, with whole scores, on rooms and nothing else."""
    # It looks at CPU and devices only.
    pods = Counter(
        dataclasses.replace(workload.wants[pod], others=workload.wants[pod].others[:1], weight=0.0)
        for pod in workload.pods
    )
    wants = [dataclasses.replace(want, weight=float(count)) for want, count in pods.items()]
    usual = fragmentation.usual(wants, share=openb_policies.USUAL_SHARE)
    rooms = [
        Room(machine.model, (1000,) * machine.num_gpus, (machine.cpu_milli, machine.memory_mib))
        for machine in sorted(workload.machines, key=lambda machine: machine.name)
    ]

    def measure(room: Room) -> float:
        return fragmentation.expected(dataclasses.replace(room, others=room.others[:1]), wants=usual)

    for want in arriving:
        best: tuple[float, int, Room] | None = None
        for node, room in enumerate(rooms):
            for left in fragmentation.after(room, workload.wants[want]):
                growth = round(measure(left) - measure(room), openb_policies.DIGITS)
                score = math.floor(100 / (1 + math.exp(growth / 1000)))
                if best is None or score > best[0]:
                    best = (score, node, left)
        if best is not None:
            rooms[best[1]] = best[2]
    return rooms


@settings(max_examples=20, deadline=None)
@given(workload=workloads(), seed=st.integers(0, 99))
def test_fgd_does_what_the_paper_says(workload: Workload, seed: int) -> None:
    rows = Rows(workload)
    arriving = openb_workload.sample(workload, seed=seed)
    policy = openb_policies.make("fgd", rows=rows, workload=workload)
    cluster = Cluster(workload, rows=rows, policy=policy, rng=None)
    openb_online.online(cluster, arriving)
    ours = [room_of(cluster, workload, node) for node in range(len(cluster.names))]
    assert ours == fgd_by_hand(workload, arriving)


@settings(max_examples=20, deadline=None)
@given(workload=workloads(), seed=st.integers(0, 99), strategy=st.sampled_from(sorted(openb_run.STRATEGIES)))
def test_measures_over_arrays_are_the_plain_ones_and_nothing_is_given_twice(
    workload: Workload, seed: int, strategy: str
) -> None:
    rows = Rows(workload)
    arriving = openb_workload.sample(workload, seed=seed)
    name, serve = openb_run.STRATEGIES[strategy]
    policy = openb_policies.make(name, rows=rows, workload=workload)
    cluster = Cluster(workload, rows=rows, policy=policy, rng=random.Random(seed))
    outcome = serve(cluster, arriving)
    free = openb_verify.verify(
        workload, arriving=arriving, stands=outcome.stands, names=cluster.names, all_fitting_placed=not outcome.moves
    )
    assert outcome.moves <= openb_moving.MOST_MOVES * len(outcome.stands)
    # Offline tries several orders, each on a cluster of its own.
    assert free == cluster.free_milli or strategy == "stow-offline"
    usual = [dataclasses.replace(want, others=(want.others[0], 0)) for want in rows.usual]
    worth = room_value.Worth.under(workload.wants, usual=tuple(usual))
    for node in range(len(cluster.names)):
        room = room_of(cluster, workload, node)
        one = np.array([node])
        kinds = np.array([rows.kinds.index(room.kind)])
        got = policy.worth(kinds, cluster.cpu[one], cluster.memory[one], cluster.states[one])[0]
        if name == "fgd":
            seen = dataclasses.replace(room, others=room.others[:1])
            wants = fragmentation.usual(openb_policies.by_cpu(workload.wants), share=openb_policies.USUAL_SHARE)
            assert got == pytest.approx(-fragmentation.expected(seen, wants=wants), abs=1e-6)
        elif name == "stow":
            assert got == pytest.approx(worth.of_room(room), abs=1e-6)


def a_workload() -> Workload:
    """Nodes with little and nodes with much CPU; large shares that leave holes, and small ones."""
    machines = [Machine(f"few-{i:02}", 48000, 192000, 4, "A") for i in range(12)]
    machines += [Machine(f"many-{i:02}", 104000, 524288, 2, "B") for i in range(8)]
    wants = distinct(
        [
            Want(0, 0, (16000, 50000)),
            Want(1, 1000, (11000, 45000)),
            Want(1, 1000, (3000, 6000)),
            Want(1, 810, (3000, 6000)),
            Want(1, 470, (10000, 40000)),
            Want(1, 320, (4000, 20000)),
            Want(1, 650, (11000, 47000)),
        ],
        [13, 50, 8, 13, 12, 6, 3],
    )
    return Workload(tuple(machines), wants, tuple(i for i, want in enumerate(wants) for _ in range(int(want.weight))))


MOVABLE = {
    "a share makes way": (1.0, True),
    "not without a budget": (0.0, False),
}


@pytest.mark.parametrize(("budget", "want_placed"), MOVABLE.values(), ids=MOVABLE)
def test_a_share_moves_to_a_hole_so_that_a_whole_device_appears(budget: float, want_placed: bool) -> None:
    machines = (Machine("a", 64000, 64000, 1, "A"), Machine("b", 64000, 64000, 1, "B"))
    wants = (
        Want(1, 470, (1000, 1000), 1.0, frozenset({"A"})),
        Want(1, 480, (1000, 1000), 1.0),
        Want(1, 300, (1000, 1000), 1.0),
        Want(1, 1000, (1000, 1000), 1.0, frozenset({"B"})),
    )
    workload = Workload(machines, wants, (0, 1, 2, 3))
    rows = Rows(workload)
    cluster = Cluster(workload, rows=rows, policy=openb_policies.make("stow", rows=rows, workload=workload), rng=None)
    board = openb_moving.Board(cluster, [0, 1, 3])
    with mock.patch.object(openb_moving, "MOST_MOVES", budget):
        for pod, node in ((0, 0), (1, 1)):
            assert cluster.grades(pod)[node] > -math.inf
            board.put(pod, node)
        assert cluster.choose(3) is None
        assert board.make_room(2) is want_placed
    assert {pod: stand.node for pod, stand in board.stands.items()} == (
        {0: 0, 1: 0, 2: 1} if want_placed else {0: 0, 1: 1}
    )
    openb_verify.verify(
        workload, arriving=[0, 1, 3], stands=board.stands, names=cluster.names, all_fitting_placed=False
    )


def test_a_share_that_nothing_fits_beside_leaves_a_hole() -> None:
    large, half, whole = Want(1, 810, (1,)), Want(1, 500, (1,)), Want(1, 1000, (1,), weight=3.0)
    prices = room_value.prices([large, half, whole], may_refuse=True)
    assert openb_offline.hole(half, prices=prices) == 0
    assert openb_offline.hole(large, prices=prices) == 190


def test_offline_leaves_less_and_its_first_order_ends_with_holes() -> None:
    workload = a_workload()
    rows = Rows(workload)
    left = {
        strategy: openb_run.run(workload, rows=rows, strategy=strategy, ties="name", seed=1).unallocated_percent
        for strategy in ("stow", "stow-offline")
    }
    assert left["stow-offline"] < left["stow"]
    arriving = openb_workload.sample(workload, seed=1)
    policy = openb_policies.make("stow", rows=rows, workload=workload)
    cluster = Cluster(workload, rows=rows, policy=policy, rng=None)
    first, second, third = openb_offline.orders(cluster, arriving)
    assert [workload.wants[arriving[pod]].milli for pod in (first[0], first[-1], second[-1])] == [1000, 810, 320]
    assert third == sorted(first) == sorted(second)


@pytest.mark.parametrize("ties", ["name", "random"])
def test_fewer_devices_are_left_than_with_fgd(ties: str) -> None:
    workload = a_workload()
    rows = Rows(workload)
    left = {
        strategy: sum(
            openb_run.run(workload, rows=rows, strategy=strategy, ties=ties, seed=seed).unallocated_percent
            for seed in range(4)
        )
        for strategy in ("fgd", "stow")
    }
    assert left["stow"] < 0.9 * left["fgd"]


def test_a_run_is_the_same_again_and_another_seed_is_another_sample() -> None:
    workload = a_workload()
    runs = [
        openb_run.run(workload, rows=Rows(workload), strategy="stow", ties="random", seed=seed) for seed in (3, 3, 4)
    ]
    assert runs[0] == runs[1]
    assert openb_workload.sample(workload, seed=3) != openb_workload.sample(workload, seed=4)


def test_pods_may_ask_for_devices_alone() -> None:
    workload = Workload((Machine("n", 10, 10, 2, "A"),), (Want(1, 600, (0, 0), 3.0),), (0, 0, 0))
    for strategy in openb_run.STRATEGIES:
        figures = openb_run.run(workload, rows=Rows(workload), strategy=strategy, ties="name", seed=1)
        assert figures.unallocated_percent == pytest.approx(40)


def test_pods_are_sampled_until_enough_is_asked_for() -> None:
    workload = a_workload()
    size = max(want.total_milli for want in workload.wants)
    for pressure in (0.3, 1.3, 4.0):
        arriving = openb_workload.sample(workload, seed=1, pressure=pressure)
        asked = sum(workload.wants[want].total_milli for want in arriving)
        assert pressure * workload.capacity_milli - size <= asked <= pressure * workload.capacity_milli


BAD = {
    "a device twice": (
        [Stand(0, 0, (0,)), Stand(0, 0, (0,))],
        "more CPU, memory or GPU is given than there is",
    ),
    "too much CPU": ([Stand(1, 0, ()), Stand(1, 0, ())], "more CPU, memory or GPU is given than there is"),
    "too few devices": ([Stand(2, 0, (1,))], "it has 1 GPUs and wants 2"),
    "one device counted twice": ([Stand(2, 0, (1, 1))], "it has 1 GPUs and wants 2"),
    "the wrong model": ([Stand(3, 0, (1,))], "it does not accept A"),
}


@pytest.mark.parametrize(("stands", "want_message"), BAD.values(), ids=BAD.keys())
def test_the_verifier_refuses(stands: list[Stand], want_message: str) -> None:
    wants = (Want(1, 600, (1,)), Want(0, 0, (9,)), Want(2, 1000, (1,)), Want(1, 500, (1,), 1.0, frozenset({"B"})))
    wants = tuple(dataclasses.replace(want, others=(want.others[0], 0)) for want in wants)
    workload = Workload((Machine("n", 10, 10, 2, "A"),), wants, (0, 1, 2, 3))
    with pytest.raises(openb_verify.OvercommitError, match=want_message):
        openb_verify.verify(
            workload, arriving=[stand.want for stand in stands], stands=dict(enumerate(stands)), names=["n"]
        )


def test_the_verifier_refuses_to_drop_what_fits() -> None:
    workload = Workload((Machine("n", 10, 10, 2, "A"),), (Want(1, 600, (1, 1)),), (0,))
    with pytest.raises(openb_verify.OvercommitError, match="a dropped pod"):
        openb_verify.verify(workload, arriving=[0, 0], stands={0: Stand(0, 0, (0,))}, names=["n"])


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "openb_node_list_gpu_node.csv").write_text(
        "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{i},16000,64000,2,G{i % 2}\n" for i in range(6))
    )
    (tmp_path / "openb_pod_list_tiny.csv").write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
        "a,4000,8000,1,470,\nb,4000,8000,1,1000,G0\nc,4000,8000,0,0,\nd,4000,8000,2,1000,G0|G1\ne,4000,8000,1,320,\n"
    )
    return tmp_path


def test_the_command_writes_the_fields_that_are_fixed(data: pathlib.Path) -> None:
    path = data / "out.json"
    strategies = ",".join(openb_run.STRATEGIES)
    arguments = ["openb", "--data", str(data), "--traces", "tiny", "--strategy", strategies, "--seeds", "2"]
    result = click.testing.CliRunner().invoke(bench.main, [*arguments, "--ties", "random", "--json", str(path)])
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["results"]
    assert [row["strategy"] for row in rows] == list(openb_run.STRATEGIES)
    for row in rows:
        assert list(row) == [
            "trace",
            "strategy",
            "ties",
            "seeds",
            "unallocated_percent_mean",
            "unallocated_percent_std",
            "dropped_cpu_pods",
        ]
        assert (row["trace"], row["ties"], row["seeds"]) == ("tiny", "random", 2)


@pytest.mark.parametrize(
    ("traces", "strategy"), [("tiny", "nonsense"), ("missing", "stow"), ("", "stow")], ids=["strategy", "file", "empty"]
)
def test_wrong_use_is_said(data: pathlib.Path, traces: str, strategy: str) -> None:
    arguments = ["openb", "--data", str(data), "--traces", traces, "--strategy", strategy]
    assert click.testing.CliRunner().invoke(bench.main, arguments).exit_code == 2
