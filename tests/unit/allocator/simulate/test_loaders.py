"""Nodes and jobs from tables, YAML, manifests and snapshots; every mistake with its place, all at once."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import tempfile
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import inputs, simulate, snapshots
from stowplan_allocator.simulate import loaders, manifests
from unit.allocator import worlds

ROOT = pathlib.Path(__file__).parents[4]
NODES = "name,gpus\na,8\n"
JOBS = "name,duration,gpus\nj,10m,8\n"


def _load(tmp_path: pathlib.Path, **files: Any) -> loaders.Scenario:
    """Write the files and load them; the suffix is after the last underscore of the name."""
    paths: dict[str, list[pathlib.Path]] = {"nodes": [], "jobs": [], "files": []}
    request = files.pop("request", loaders.Request())
    for name, text in files.items():
        kind, _, suffix = name.partition("_")
        path = tmp_path / f"{kind}.{suffix or 'csv'}"
        path.write_text(text)
        paths[kind].append(path)
    found = {kind: tuple(some) for kind, some in paths.items()}
    return loaders.load(dataclasses.replace(request, **found))


def _faults(tmp_path: pathlib.Path, **files: Any) -> list[str]:
    with pytest.raises(inputs.InputError) as caught:
        _load(tmp_path, **files)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


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
    of_tables = _load(tmp_path, nodes=nodes, jobs=jobs)
    assert of_tables == _load(tmp_path, files_yaml=yaml.safe_dump(both))
    assert of_tables == _load(tmp_path, files_json=json.dumps(both))
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
QUEUE_MANIFESTS = """
apiVersion: queues.stowplan.dev/v1alpha1
kind: Queue
metadata: {name: lab}
spec: {namespaces: ["*"], quotas: [{product: H100, nominal: 32}, {product: A100, nominal: 4}]}
---
apiVersion: queues.stowplan.dev/v1alpha1
kind: Queue
metadata: {name: vision}
spec:
  parent: lab
  weight: "2.5"
  quotas: [{product: H100, nominal: 16, borrowingLimit: 8, lendingLimit: 12}]
  limits: {acceleratorsPerJob: 8, runSeconds: 60}
---
kind: Queue
metadata: {name: idle}
spec: {parent: lab, limits: {runningJobs: 2}, preemption: [ReclaimLent]}
"""
WANT_QUEUES = (
    sa.Queue("lab", quotas=(sa.Quota("H100", 32), sa.Quota("A100", 4))),
    sa.Queue("vision", "lab", 2500, (sa.Quota("H100", 16, 8, 12),), max_accelerators_per_job=8),
    sa.Queue("idle", "lab", max_running_jobs=2, preemption=(sa.QueuePreemption.RECLAIM_LENT,)),
)


def test_queues_are_read_from_yaml_from_manifests_and_from_snapshots(tmp_path: pathlib.Path) -> None:
    own = _load(tmp_path, files_yaml=QUEUES)
    assert own.queues == WANT_QUEUES
    assert (own.reserve_after_seconds, own.submissions[0].job.queue) == (3600, "vision")
    table = "name,duration,queue\nj,5,idle\nk,5,\n"
    manifests_too = _load(tmp_path, files_yaml=QUEUE_MANIFESTS, nodes=NODES, jobs=table)
    assert manifests_too.queues == WANT_QUEUES
    assert [one.job.queue for one in manifests_too.submissions] == ["idle", ""]
    assert manifests_too.reserve_after_seconds is None
    jobs = [worlds.job(name, queue=queue, expected_seconds=5) for name, queue in (("j", "vision"), ("k", "gone"))]
    kept = dataclasses.replace(worlds.snapshot([worlds.node("n")], jobs), queues=WANT_QUEUES)
    snapshot = _load(tmp_path, files_json=snapshots.write(kept))
    assert snapshot.queues == WANT_QUEUES
    assert [one.job.queue for one in snapshot.submissions] == ["vision", ""]
    assert snapshot.notes[0].endswith('"k" names the queue "gone", which is not there')


def test_a_training_job_stands_in_the_queue_that_it_names(tmp_path: pathlib.Path) -> None:
    job = {
        "kind": "TrainingJob",
        "metadata": {"name": "a", "annotations": {manifests.DURATION: "1h"}},
        "spec": {"queue": "vision"},
    }
    got = _load(tmp_path, files_yaml=f"{QUEUE_MANIFESTS}\n---\n{yaml.safe_dump(job)}", nodes=NODES)
    assert [one.job.queue for one in got.submissions] == ["vision"]
    (fault,) = _faults(tmp_path, jobs_yaml=yaml.safe_dump(job), nodes=NODES)
    assert fault.endswith('names the queue "vision"; give the queues as well')


# A sentence → the files, and what every fault must say, in order.
FAULTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "a cell is named by line and column": (
        {"nodes": NODES, "jobs": "name,duration,gpus\na,10m,8\nb,soon,1\n"},
        ["jobs.csv, line 3, column duration: 'soon' is not a duration; write seconds, or 90s, 10m, 1h30m, 2d"],
    ),
    "every fault of every file is told": (
        {"nodes": "name,gpus\na,8.5\n,1\n", "jobs": "name,duration,gpus\nb,1h,x\nc,,1\n"},
        [
            "nodes.csv, line 2, column gpus: '8.5' is not a whole number",
            "nodes.csv, line 3, column name: the field is missing",
            "jobs.csv, line 2, column gpus: 'x' is not a whole number",
            "jobs.csv, line 3, column duration: the field is missing; say how long",
        ],
    ),
    "an unknown column is told with the one that was meant": (
        {"nodes": "name,gpu\na,8\n", "jobs": JOBS},
        ['nodes.csv, line 2, column gpu: there is no such field; did you mean "gpus"?'],
    ),
    "a field of YAML is named by its path": (
        {"files_yaml": "nodes: [{name: a, gpus: 8}]\njobs: [{name: j, duration: 5, topology: {levl: rack}}]\n"},
        [
            "files.yaml: jobs[0].topology.level: the field is missing",
            "files.yaml: jobs[0].topology.levl: there is no such field",
        ],
    ),
    "a line of the wrong length": (
        {"nodes": "name,gpus\na,8,9\n", "jobs": JOBS},
        ["nodes.csv, line 2: 3 cells under 2 columns"],
    ),
    "a column twice": ({"nodes": "name,gpus,gpus\na,8,9\n", "jobs": JOBS}, ['line 1: column "gpus" stands twice']),
    "a name twice": (
        {"nodes": NODES + "a,4\n", "jobs": JOBS},
        ['nodes.csv, line 3, column name: node "a" is there already (nodes.csv, line 2, column name)'],
    ),
    "memory without a unit is a slip": (
        {"nodes": "name,gpus,memory\na,8,900\n", "jobs": JOBS},
        ["column memory: '900' is not an amount of memory with a unit; write for example 64Gi"],
    ),
    "a level that no node has": (
        {"nodes": NODES, "jobs": "name,duration,topology.level\nj,5,rak\n"},
        ['jobs.csv, line 2, column name: job "j" names the topology level "rak"; known: node'],
    ),
    "pods that are not among the sizes": (
        {"nodes": NODES, "jobs": "name,duration,pods,sizes\nj,5,3,2|4\n"},
        ["column sizes: 3 pods are not among the sizes; add 3"],
    ),
    "slices that do not fill the job": (
        {"nodes": NODES, "jobs": "name,duration,pods,topology.level,topology.slice_size\nj,5,3,node,2\n"},
        ["column topology.slice_size: 2 does not divide 3 pods"],
    ),
    "more sick GPUs than there are": (
        {"nodes": "name,gpus,unhealthy_gpus\na,1,2\n", "jobs": JOBS},
        ["column unhealthy_gpus: 2 of 1 GPUs; write at most the node's gpus"],
    ),
    "an empty table": ({"nodes": "", "jobs": JOBS}, ["nodes.csv: the table is empty"]),
    "nodes but no jobs": ({"nodes": NODES}, ["there are no jobs; give --jobs FILE"]),
    "jobs but no nodes": ({"jobs": JOBS}, ["there are no nodes; give --nodes FILE"]),
    "a table of both": ({"files_csv": NODES}, ["files.csv: a table holds nodes or jobs, not both"]),
    "jobs in a file that was given for its nodes": (
        {"nodes_yaml": "nodes: [{name: a}]\njobs: [{name: j, duration: 5}]\n"},
        ["nodes.yaml: it holds jobs as well; give it as --file"],
    ),
    "broken YAML": ({"files_yaml": "nodes:\n- {name: a\n"}, ["files.yaml, line 3, column 1: this is no YAML"]),
    "a key of YAML twice": (
        {"files_yaml": "nodes:\n- name: a\n  name: b\n"},
        ['files.yaml, line 3, column 3: this is no YAML: the key "name" stands twice'],
    ),
    "a key of YAML that is no text": (
        {"files_yaml": "nodes:\n- name: a\n  1: b\n"},
        ["files.yaml, line 3, column 3: this is no YAML: a name must be text: quote it"],
    ),
    "more copies than memory holds": (
        {"nodes": "name,count\na,999999999999\n", "jobs": JOBS},
        ["line 2, column count: '999999999999' is not 1,000,000 or less"],
    ),
    "broken JSON": ({"files_json": '{"nodes": [}'}, ["files.json, line 1, column 12: this is no JSON"]),
    "YAML that is no object": ({"files_yaml": "- a\n"}, ["files.yaml: ['a'] is no object; write"]),
    "an unknown part": (
        {"files_yaml": "node: []\n"},
        ['files.yaml: node: there is no such field; did you mean "nodes"?'],
    ),
    "entries that are no list": ({"files_yaml": "jobs: {a: 1}\n"}, ["files.yaml: jobs: this is no list"]),
    "an entry that is no object": ({"files_yaml": "jobs: [a]\n"}, ["files.yaml: jobs[0]: 'a' is no object"]),
    "quotes that do not close": ({"nodes": 'name,gpus\n"a,8\n', "jobs": JOBS}, ["nodes.csv, line 2: this is no CSV"]),
    "a queue that is not there": (
        {"files_yaml": "queues: [{name: vision}]\nnodes: [{name: a}]\njobs: [{name: j, duration: 5, queue: visio}]\n"},
        ['files.yaml: jobs[0].name: job "j" names the queue "visio"; did you mean "vision"?'],
    ),
    "queues without order": (
        {
            "files_yaml": "queues: [{name: a, parent: b}, {name: c, parent: c}, {name: d}, {name: d}]\n",
            "nodes": NODES,
            "jobs": JOBS,
        },
        ['files.yaml: queues[3].name: queue "d" is there already (files.yaml: queues[2].name)'],
    ),
    "a tree that is none": (
        {"files_yaml": "queues: [{name: a, parent: b}, {name: c, parent: c}]\n", "nodes": NODES, "jobs": JOBS},
        [
            'files.yaml: queues[0].name: queue "a": parent "b" does not exist; create it or name another',
            'files.yaml: queues[1].name: queue "c": it is an ancestor of itself; parents must form a tree',
        ],
    ),
    "a quota that is none": (
        {"files_yaml": "queues: [{name: a, quotas: {H100: {nominal: -1, lent: 3}, A100: x}}]\nreserve_after: soon\n"},
        [
            "files.yaml: reserve_after: 'soon' is not a duration",
            "files.yaml: queues[0].quotas.H100.nominal: -1 is not zero or more",
            'files.yaml: queues[0].quotas.H100.lent: there is no such field; did you mean "lend"?',
            "files.yaml: queues[0].quotas.A100: 'x' is not a whole number",
        ],
    ),
    "a snapshot with a fault": (
        {"files_json": json.dumps({"schema": snapshots.SCHEMA, "nodes": [], "jobs": 3})},
        ["files.json: jobs: 3 is not a list"],
    ),
}


@pytest.mark.parametrize(("files", "want"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(tmp_path: pathlib.Path, files: dict[str, str], want: list[str]) -> None:
    got = _faults(tmp_path, **files)
    assert len(got) == len(want), got
    for part, line in zip(want, got, strict=True):
        assert part in line


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: pathlib.Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"name\n\xe4\n")
    (tmp_path / "folder").mkdir()
    names = tuple(tmp_path / name for name in ("missing.csv", "latin.csv", "folder"))
    with pytest.raises(inputs.InputError) as caught:
        loaders.load(loaders.Request(nodes=names))
    causes = [fault.cause for fault in caught.value.faults]
    assert causes == ["there is no such file", "byte 5 is no UTF-8", "it cannot be read: Is a directory"]


NODE = """
apiVersion: v1
kind: List
items:
- kind: Node
  metadata:
    name: gpu-1
    labels: {nvidia.com/gpu.product: H100, topology.kubernetes.io/zone: z1, topology.stowplan.dev/rack: r1}
  spec:
    unschedulable: true
    taints:
    - {key: nvidia.com/gpu, effect: NoSchedule}
    - {key: node.kubernetes.io/unschedulable, effect: NoSchedule}
  status:
    allocatable: {cpu: 95500m, memory: 1031Mi, nvidia.com/gpu: "8", pods: "110", ephemeral-storage: 10Gi, rdma/hca: 2}
    conditions: [{type: Ready, status: "True"}]
- kind: Node
  metadata: {name: cpu-1}
  status: {allocatable: {cpu: 4}, conditions: [{type: Ready, status: Unknown}]}
- kind: Pod
  metadata: {name: some}
---
kind: PriorityClass
metadata: {name: research}
value: 100
---
apiVersion: stowplan.dev/v1alpha1
kind: TrainingJob
metadata:
  name: llama
  namespace: team
  creationTimestamp: 2026-11-02T08:30:00Z
  annotations: {stowplan.dev/simulated-duration: 2h30m, stowplan.dev/simulated-estimate: 3h}
spec:
  image: some
  numNodes: 4
  resourcesPerNode: {nvidia.com/gpu: 8, cpu: 64.0001, memory: 1Gi}
  accelerators: [{product: H100}, {product: A100, relativeThroughput: "0.45"}]
  topology: {level: rack, mode: Required, sliceSize: 2}
  elastic: {minNodes: 2, maxNodes: 8, allowedNodes: [2, 4, 8]}
  priorityClassName: research
  nodeSelector: {pool: a}
  tolerations: [{key: team, operator: Exists}]
  capacityType: OnDemand
---
kind: TrainingJob
metadata: {name: later}
spec: {suspend: true}
"""


def test_manifests_are_nodes_and_jobs(tmp_path: pathlib.Path) -> None:
    got = _load(tmp_path, files_yaml=NODE, request=loaders.Request(duration=60))
    gpu, cpu = got.nodes
    assert (gpu.product, gpu.topology, gpu.blocked) == ("H100", ("z1", "r1"), "cordoned")
    assert gpu.available == sa.Resources(8, 95_500, 1031, (("rdma/hca", 2),))
    assert gpu.taints == (sa.Taint("nvidia.com/gpu", sa.TaintEffect.NO_SCHEDULE),)
    assert (cpu.product, cpu.topology, cpu.blocked) == ("", (None, None), "NotReady")
    (llama,) = got.submissions
    assert (llama.job.id, llama.submitted_seconds, llama.duration_seconds) == ("team/llama", 1_793_608_200, 9000)
    assert (llama.job.num_pods, llama.job.priority, llama.job.expected_seconds) == (4, 100, 10_800)
    assert llama.job.pod == sa.Resources(8, 64_001, 1024)
    assert llama.job.products == (sa.ProductChoice("H100"), sa.ProductChoice("A100", 450))
    assert llama.job.topology == sa.TopologyRequest("rack", sa.TopologyMode.REQUIRED, 2)
    assert (llama.job.allowed_num_pods, llama.job.capacity_type) == ((2, 4, 8), sa.CapacityType.ON_DEMAND)
    assert [one.key for one in llama.job.tolerations] == ["team", "nvidia.com/gpu"]
    assert len(got.notes) == 2
    assert "Pod is neither" in got.notes[0]
    assert "suspended" in got.notes[1]


def test_a_training_job_says_what_it_lacks(tmp_path: pathlib.Path) -> None:
    body = (
        "kind: TrainingJob\nmetadata: {name: a}\nspec: {numNode: 2, priorityClassName: vip, elastic: {minNodes: 2}}\n"
    )
    got = _faults(tmp_path, files_yaml=body, nodes=NODES)
    assert len(got) == 4
    assert (
        f"metadata.annotations.{manifests.DURATION}: the field is missing; annotate it with {manifests.DURATION}"
        in got[0]
    )
    assert "spec.elastic.allowedNodes: numNodes 1 is not among the sizes" in got[1]
    assert 'spec.priorityClassName: there is no PriorityClass "vip"' in got[2]
    assert 'spec.numNode: there is no such field; did you mean "numNodes"?' in got[3]


def test_every_field_of_a_training_job_is_either_used_or_known_not_to_matter() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "trainingjobs.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert spec.keys() <= manifests.FOR_PLANNING | manifests.NOT_FOR_PLANNING
    assert not manifests.FOR_PLANNING & manifests.NOT_FOR_PLANNING


def _kept() -> sa.Snapshot:
    placement = sa.Placement(worlds.H100, (sa.NodeShare("n", 1),))
    jobs = [
        worlds.job("runs", gpus=4, placement=placement, expected_seconds=60, disruption_cost=5, leaving=True),
        worlds.job("waits", gpus=8, expected_seconds=90),
        worlds.job("silent", gpus=2),
    ]
    nodes = [worlds.node("m", of=2, free=2), worlds.node("n")]
    return dataclasses.replace(worlds.snapshot(nodes, jobs), now_seconds=2_000_000_000)


def test_a_job_of_a_snapshot_must_say_how_long_it_runs(tmp_path: pathlib.Path) -> None:
    (fault,) = _faults(tmp_path, files_json=snapshots.write(_kept()))
    assert 'jobs[2].expected_seconds: nothing says how long "silent" runs; write its seconds, or give' in fault


def test_a_snapshot_runs_on_from_its_moment(tmp_path: pathlib.Path) -> None:
    kept = _kept()
    got = _load(tmp_path, files_json=snapshots.write(kept), request=loaders.Request(duration=7))
    assert (got.nodes, got.levels, got.notes) == (kept.nodes, worlds.LEVELS, ())
    assert [one.duration_seconds for one in got.submissions] == [60, 90, 7]
    assert [one.placement for one in got.submissions] == [kept.jobs[0].placement, None, None]
    assert {
        (one.job.placement, one.job.leaving, one.submitted_seconds - kept.now_seconds) for one in got.submissions
    } == {(None, False, 0)}
    history = simulate.simulate(got.nodes, got.submissions, settings=sa.Settings(strategy=sa.Strategy.GREEDY))
    (first,), (second,), (third,) = (job.runs for job in history.jobs)
    spans = [(run.start_seconds - kept.now_seconds, run.placement.shares[0].node) for run in (first, second, third)]
    assert spans == [(0, "n"), (0, "m"), (60, "n")]
    assert [job.job.id for job in history.jobs] == ["runs", "silent", "waits"]


def test_a_job_that_runs_on_nodes_that_are_gone_waits(tmp_path: pathlib.Path) -> None:
    kept = dataclasses.replace(_kept(), nodes=_kept().nodes[:1])
    got = _load(tmp_path, files_json=snapshots.write(kept), request=loaders.Request(duration=7))
    assert got.submissions[0].placement is None
    assert '"runs" runs on nodes that are not there, so it waits' in got.notes[0]


@pytest.mark.parametrize("kind", ["nodes", "jobs", "queues"])
def test_the_documentation_names_every_field(tmp_path: pathlib.Path, kind: str) -> None:
    entry: dict[str, Any] = {"name": "a", "duration": 5} if kind == "jobs" else {"name": "a"}
    if kind == "jobs":
        entry |= {"topology": {"level": "node", "?": 1}, "spread": {"level": "node", "max_pods": 1, "?": 1}}
    if kind == "queues":
        entry["quotas"] = {"H100": {"?": 1}}
    got = _faults(tmp_path, files_json=json.dumps({kind: [{**entry, "?": 1}]}))
    known = [name for fault in got if "known: " in fault for name in fault.partition("known: ")[2].split(", ")]
    text = (ROOT / "docs" / "simulator.md").read_text()
    assert len(known) >= (9 if kind == "queues" else 12)
    assert not [name for name in known if not re.search(rf"`(?:\w+\.)?{name}(?:\.\w+)?`", text)]


def test_times_without_a_date_count_from_the_first_date(tmp_path: pathlib.Path) -> None:
    jobs = "name,duration,submit\na,5,2026-11-02T08:30:00\nb,5,10s\nc,5,2026-11-02 09:30:00+01:00\n"
    got = _load(tmp_path, nodes=NODES, jobs=jobs)
    assert [one.submitted_seconds - 1_793_608_200 for one in got.submissions] == [0, 10, 0]
    assert got.submissions[1].job.created_at_seconds == 1_793_608_210


def test_nodes_of_all_kinds_of_files_share_one_order_of_levels(tmp_path: pathlib.Path) -> None:
    own = (
        "levels: [zone, row, rack]\nnodes: [{name: a, topology: {rack: r2, row: w}}]\njobs: [{name: j, duration: 5}]\n"
    )
    (tmp_path / "own.yaml").write_text(own)
    (tmp_path / "kept.json").write_text(snapshots.write(worlds.snapshot([worlds.node("k", zone="z3", rack="r3")], [])))
    (tmp_path / "nodes.yaml").write_text(NODE)
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


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_document_there_is_no_traceback(data: st.DataObject) -> None:
    """Any part of a sound document replaced by anything: it is read, or refused with its place."""
    documents = list(yaml.safe_load_all(NODE))
    some = data.draw(st.sampled_from([*documents, documents[0]["items"][0], OWN, json.loads(snapshots.write(_kept()))]))
    odd = data.draw(st.sampled_from([None, True, -1, 0.5, 10**20, "", "x", [], [None], ["x"], {}, {"x": "y"}, [{}]]))
    broken = _replaced(some, odd, data)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "any.json"
        path.write_text(json.dumps(broken, default=str))
        faults: tuple[inputs.Fault, ...] = ()
        try:
            loaders.load(loaders.Request(files=(path,), duration=5))
        except inputs.InputError as error:
            faults = error.faults
    assert all(fault.cause for fault in faults)


OWN = {
    "levels": ["rack"],
    "nodes": [{"name": "n", "gpus": 8, "topology": {"rack": "r"}, "labels": {"a": "b"}, "taints": ["a:NoExecute"]}],
    "jobs": [
        {"name": "j", "duration": 5, "sizes": [1, 2], "products": ["A=0.5"], "spread": {"level": "node", "max_pods": 1}}
    ],
}


def _replaced(value: Any, odd: Any, data: st.DataObject) -> Any:
    """The value with one part of it, at any depth, replaced."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or data.draw(st.integers(0, 4)) == 0:
        return odd
    chosen = data.draw(st.sampled_from(keys))
    if isinstance(value, dict):
        return {key: _replaced(one, odd, data) if key == chosen else one for key, one in value.items()}
    return [_replaced(one, odd, data) if key == chosen else one for key, one in enumerate(value)]
