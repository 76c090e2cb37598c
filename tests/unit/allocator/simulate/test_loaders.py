"""Nodes, jobs and queues are the same from tables, YAML, JSON, manifests and snapshots, alone and together."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import yaml

import stowplan_allocator as sa
from stowplan_allocator import snapshots
from stowplan_allocator.simulate import loaders
from unit.allocator import worlds
from unit.allocator.simulate.written import MANIFESTS, NODES, QUEUE_MANIFESTS, load


def test_a_table_and_yaml_with_the_same_fields_are_the_same_nodes_and_jobs(tmp_path: pathlib.Path) -> None:
    nodes = (
        "name,count,product,gpus,cpu,memory,rdma/hca,topology.zone,topology.rack,labels.pool,taints,unhealthy_gpus,"
        "price_per_hour,spot,blocked\n"
        "n,2,H100,8,95.5,900Gi,4,z1,r1,a,team=x:NoSchedule|old:NoExecute,1,12.5,yes,\nm,,,,4,,,,,,,,,,cordoned\n"
    )
    jobs = (
        "name,count,every,submit,duration,estimate,fails,pods,sizes,gpus,cpu,memory,rdma/hca,priority,products,"
        "topology.level,topology.mode,topology.slice_size,spread.level,spread.max_pods,node_selector.pool,tolerations,"
        "avoid_nodes,capacity_type\n"
        "j,2,30s,1m,1h30m,2h,no,4,4|2,8,500m,64Gi,1,-3,H100|A100=0.45,rack,required,2,node,1,a,team=x|*,n-0|m,spot\n"
    )
    both = {
        "levels": ["zone", "rack"],
        "nodes": [
            {
                "name": "n",
                "count": 2,
                "product": "H100",
                "gpus": 8,
                "cpu": 95.5,
                "memory": "900Gi",
                "rdma/hca": 4,
                "topology": {"zone": "z1", "rack": "r1"},
                "labels": {"pool": "a"},
                "taints": ["team=x:NoSchedule", "old:NoExecute"],
                "unhealthy_gpus": 1,
                "price_per_hour": "12.5",
                "spot": True,
            },
            {"name": "m", "cpu": "4", "blocked": "cordoned"},
        ],
        "jobs": [
            {
                "name": "j",
                "count": 2,
                "every": 30,
                "submit": 60,
                "duration": 5400,
                "estimate": "2h",
                "pods": 4,
                "sizes": [2, 4],
                "gpus": 8,
                "cpu": "0.5",
                "memory": "64Gi",
                "rdma/hca": 1,
                "priority": -3,
                "products": ["H100", "A100=0.45"],
                "node_selector": {"pool": "a"},
                "topology": {"level": "rack", "mode": "Required", "slice_size": 2},
                "spread": {"level": "node", "max_pods": 1},
                "tolerations": ["team=x", "*"],
                "avoid_nodes": ["n-0", "m"],
                "capacity_type": "Spot",
            }
        ],
    }
    of_tables = load(tmp_path, nodes=nodes, jobs=jobs)
    assert of_tables == load(tmp_path, files_yaml=yaml.safe_dump(both))
    assert of_tables == load(tmp_path, files_json=json.dumps(both))
    first, _, last = of_tables.nodes
    assert (first.name, first.topology, first.available.accelerators) == ("n-0", ("z1", "r1"), 7)
    assert (first.allocatable.cpu_milli, first.price_per_hour_micros, first.spot) == (95_500, 12_500_000, True)
    assert first.taints[1] == sa.Taint("old", sa.TaintEffect.NO_EXECUTE)
    assert (last.blocked, last.topology) == ("cordoned", (None, None))
    early, late = of_tables.submissions
    assert (early.submitted_seconds, late.submitted_seconds, late.job.created_at_seconds) == (60, 90, 90)
    assert (late.duration_seconds, late.job.expected_seconds, late.job.allowed_num_pods) == (5400, 7200, (2, 4))
    assert late.job.topology == sa.TopologyRequest("rack", sa.TopologyMode.REQUIRED, 2)
    assert late.job.products == (sa.ProductChoice("H100"), sa.ProductChoice("A100", 450))
    assert late.job.pod == sa.Resources(8, 500, 65_536, (("rdma/hca", 1),))


QUEUES = """
reserve_after: 1h
queues:
- {name: lab, quotas: {H100: 32, A100: 4}}
- {name: vision, parent: lab, weight: 2.5, quotas: {H100: {nominal: 16, borrow: 8, lend: 12}}, max_gpus_per_job: 8}
- {name: idle, parent: lab, max_running_jobs: 2, preemption: [reclaimlent]}
nodes: [{name: a, gpus: 8}]
jobs: [{name: train, duration: 5, queue: vision}]
"""
WANT_QUEUES = (
    sa.Queue("lab", quotas=(sa.Quota("H100", 32), sa.Quota("A100", 4))),
    sa.Queue("vision", "lab", 2500, (sa.Quota("H100", 16, 8, 12),), max_accelerators_per_job=8),
    sa.Queue("idle", "lab", max_running_jobs=2, preemption=(sa.QueuePreemption.RECLAIM_LENT,)),
)


def test_queues_are_read_from_yaml_from_manifests_and_from_snapshots(tmp_path: pathlib.Path) -> None:
    own = load(tmp_path, files_yaml=QUEUES)
    assert own.queues == WANT_QUEUES
    assert (own.reserve_after_seconds, own.submissions[0].job.queue) == (3600, "vision")
    table = "name,duration,queue\nj,5,idle\nk,5,\n"
    manifests_too = load(tmp_path, files_yaml=QUEUE_MANIFESTS, nodes=NODES, jobs=table)
    assert manifests_too.queues == WANT_QUEUES
    assert [one.job.queue for one in manifests_too.submissions] == ["idle", ""]
    assert manifests_too.reserve_after_seconds is None
    jobs = [worlds.job(name, queue=queue, expected_seconds=5) for name, queue in (("j", "vision"), ("k", "gone"))]
    kept = dataclasses.replace(worlds.snapshot([worlds.node("n")], jobs), queues=WANT_QUEUES)
    snapshot = load(tmp_path, files_json=snapshots.write(kept))
    assert snapshot.queues == WANT_QUEUES
    assert [one.job.queue for one in snapshot.submissions] == ["vision", ""]
    assert snapshot.notes[0].endswith('"k" names the queue "gone", which is not there')


def test_times_without_a_date_count_from_the_first_date(tmp_path: pathlib.Path) -> None:
    jobs = "name,duration,submit\na,5,2026-11-02T08:30:00\nb,5,10s\nc,5,2026-11-02 09:30:00+01:00\n"
    got = load(tmp_path, nodes=NODES, jobs=jobs)
    assert [one.submitted_seconds - 1_793_608_200 for one in got.submissions] == [0, 10, 0]
    assert got.submissions[1].job.created_at_seconds == 1_793_608_210


def test_nodes_of_all_kinds_of_files_share_one_order_of_levels(tmp_path: pathlib.Path) -> None:
    own = (
        "levels: [zone, row, rack]\nnodes: [{name: a, topology: {rack: r2, row: w}}]\njobs: [{name: j, duration: 5}]\n"
    )
    (tmp_path / "own.yaml").write_text(own)
    (tmp_path / "kept.json").write_text(snapshots.write(worlds.snapshot([worlds.node("k", zone="z3", rack="r3")], [])))
    (tmp_path / "nodes.yaml").write_text(MANIFESTS)
    names = ("kept.json", "nodes.yaml", "own.yaml")
    request = loaders.Request(files=tuple(tmp_path / name for name in names), duration=5)
    got = loaders.load(request)
    assert got.levels == ("zone", "row", "rack")
    assert {node.name: node.topology for node in got.nodes} == {
        "k": ("z3", None, "r3"),
        "gpu-1": ("z1", None, "r1"),
        "cpu-1": (None, None, None),
        "a": (None, "w", "r2"),
    }


def test_the_order_of_levels_is_that_of_whoever_names_most() -> None:
    assert loaders.merge_levels([("rack",), ("zone", "rack"), ("row",)]) == ("zone", "rack", "row")
    assert loaders.merge_levels([]) == ()
