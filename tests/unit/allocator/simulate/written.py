"""Files of nodes and jobs, written for a test and loaded as the command would."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

import stowplan_allocator as sa
from stowplan_allocator import inputs
from stowplan_allocator.simulate import loaders
from unit.allocator import worlds

NODES = "name,gpus\na,8\n"
JOBS = "name,duration,gpus\nj,10m,8\n"
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
MANIFESTS = """
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


def load(tmp_path: pathlib.Path, **files: Any) -> loaders.Scenario:
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


def faults_of(tmp_path: pathlib.Path, **files: Any) -> list[str]:
    """What loading them complains of, without the folder's name."""
    with pytest.raises(inputs.InputError) as caught:
        load(tmp_path, **files)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def a_live_cluster() -> sa.Snapshot:
    """Two nodes, a job that runs, and two that wait, of which one's run time nobody knows."""
    placement = sa.Placement(worlds.H100, (sa.NodeShare("n", 1),))
    jobs = [
        worlds.job("runs", gpus=4, placement=placement, expected_seconds=60, disruption_cost=5, leaving=True),
        worlds.job("waits", gpus=8, expected_seconds=90),
        worlds.job("silent", gpus=2),
    ]
    nodes = [worlds.node("m", of=2, free=2), worlds.node("n")]
    return dataclasses.replace(worlds.snapshot(nodes, jobs), now_seconds=2_000_000_000)
