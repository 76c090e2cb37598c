"""What a simulation takes from Kubernetes' own files, Nodes and TrainingJobs, and what these must say beside."""

from __future__ import annotations

import pathlib

import yaml

import stowplan_allocator as sa
from stowplan_allocator.simulate import loaders, manifests
from unit.allocator.simulate.written import MANIFESTS, NODES, QUEUE_MANIFESTS, faults_of, load

ROOT = pathlib.Path(__file__).parents[4]


def test_manifests_are_nodes_and_jobs(tmp_path: pathlib.Path) -> None:
    got = load(tmp_path, files_yaml=MANIFESTS, request=loaders.Request(duration=60))
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
    got = faults_of(tmp_path, files_yaml=body, nodes=NODES)
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


def test_a_training_job_stands_in_the_queue_that_it_names(tmp_path: pathlib.Path) -> None:
    job = {
        "kind": "TrainingJob",
        "metadata": {"name": "a", "annotations": {manifests.DURATION: "1h"}},
        "spec": {"queue": "vision"},
    }
    got = load(tmp_path, files_yaml=f"{QUEUE_MANIFESTS}\n---\n{yaml.safe_dump(job)}", nodes=NODES)
    assert [one.job.queue for one in got.submissions] == ["vision"]
    (fault,) = faults_of(tmp_path, jobs_yaml=yaml.safe_dump(job), nodes=NODES)
    assert fault.endswith('names the queue "vision"; give the queues as well')
