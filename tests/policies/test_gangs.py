"""Gangs: all pods of a job start together, or none does, and half a gang never keeps another one from starting.

After Volcano's e2e cases of gang scheduling (test/e2e/schedulingbase/job_scheduling.go: "Gang scheduling", "Gang
scheduling: Full Occupied", "Gang scheduling: contains both best-effort and non-best-effort pods", "schedule job when
resource released"), KAI's gang cases (actions/integration_tests/allocate), Kueue's KEP 349 (all or nothing), and the
deadlock of partly placed jobs of kubeflow/trainer#165. They differ where those let some pods of a gang run
(minAvailable below the number of pods): all of ours run or none, since torchrun waits for all.
"""

from __future__ import annotations

import pytest

from policies.lines import adds, cordons, deletes, edits, ends, job, nodes, run, runs, submit, waits
from policies.stage import Stage
from policies.stories import play

pytestmark = pytest.mark.policies

STORIES = {
    "a gang of which only half fits starts no pod, and all of them when the rest is free": [
        nodes("a", "b"),
        submit(job("small")),
        runs("small", on="a"),
        submit(job("gang", pods=2)),
        waits("gang", "WaitingForCapacity", blockers="small", pods_needed=2, pods_fitting=1, accelerators_free=4),
        ends("small"),
        runs("gang", on="a b", pods=2),
    ],
    "two gangs that each fit alone do not take half of the cluster each": [
        nodes("a", "b"),
        submit(job("first", pods=2), job("second", pods=2)),
        runs("first", on="a b", attempt=1),
        waits("second", "WaitingForCapacity", blockers="first", pods_fitting=0),
        ends("first"),
        runs("second", on="a b", attempt=1),
    ],
    "a job that can never run is told so, and keeps nobody waiting": [
        nodes("a", "b"),
        submit(job("huge", pods=3), job("modest", pods=2)),
        waits("huge", "ExceedsClusterCapacity", pods_needed=3, capacity_pods=2, says="3 pods"),
        runs("modest", on="a b"),
    ],
    "a job that was too large for the cluster starts when the cluster has grown": [
        nodes("a"),
        submit(job("gang", pods=2)),
        waits("gang", "ExceedsClusterCapacity", capacity_pods=1),
        adds("b"),
        runs("gang", on="a b"),
    ],
    "a gang fills the cluster to the last accelerator": [
        nodes("a", "b", "c"),
        submit(job("full", pods=6, gpus=2)),
        runs("full", on="a b c", pods=6),
        submit(job("one", gpus=1)),
        waits("one", "WaitingForCapacity", blockers="full", accelerators_free=0),
    ],
    "pods of a gang share nodes where that leaves others whole": [
        nodes("a", "b"),
        submit(job("pair", pods=2, gpus=2)),
        runs("pair", on="a"),
        submit(job("whole", gpus=4)),
        runs("whole", on="b"),
    ],
    "enough is free in all but in no whole pod: it says that, and does not start": [
        nodes("a", "b"),
        submit(job("one", gpus=3), job("two", gpus=3)),
        run("one two"),
        submit(job("pair", gpus=2)),
        waits("pair", "Fragmented", accelerators_needed=2, accelerators_free=2, largest_free="1,1"),
        ends("one"),
        runs("pair"),
    ],
    "pods without accelerators are a gang like any other": [
        nodes("a", cpu=8, gpus=0),
        submit(job("cooks", pods=2, gpus=0, cpu=3)),
        runs("cooks", on="a", pods=2),
        submit(job("more", pods=2, gpus=0, cpu=2)),
        waits("more", "WaitingForCapacity", pods_needed=2, pods_fitting=1, binding_resource="cpu_milli"),
        ends("cooks"),
        runs("more", pods=2),
    ],
    "the resource that runs out first is named, though accelerators are free": [
        nodes("a", cpu=8),
        submit(job("thirsty", gpus=1, cpu=6)),
        runs("thirsty"),
        submit(job("gang", gpus=1, cpu=4)),
        waits("gang", "WaitingForCapacity", binding_resource="cpu_milli", blockers="thirsty"),
        deletes("thirsty"),
        runs("gang"),
    ],
    "a product that nobody has is named beside those that there are": [
        nodes("a", product="NVIDIA-L4"),
        submit(job("wish", accelerators=[{"product": "NVIDIA-B200"}])),
        waits("wish", "NoMatchingAccelerator", says="NVIDIA-B200", products_in_cluster="NVIDIA-L4"),
        edits("wish", accelerators=[{"product": "NVIDIA-B200"}, {"product": "NVIDIA-L4", "relativeThroughput": "0.2"}]),
        runs("wish", on="a"),
    ],
    "a gang is not spread over two products": [
        nodes("a", product="NVIDIA-L4"),
        nodes("b", product="NVIDIA-T4"),
        submit(job("gang", pods=2)),
        waits("gang", "ExceedsClusterCapacity", pods_needed=2, capacity_pods=1),
        adds("c", product="NVIDIA-T4"),
        runs("gang", on="b c"),
    ],
    "a cordoned node is the reason where nothing else lacks": [
        nodes("a", "b"),
        cordons("b"),
        submit(job("gang", pods=2)),
        waits("gang", "NodesUnhealthy", nodes_blocked=1, nodes_unusable=1, says="b"),
        cordons("b", wanted=False),
        runs("gang", on="a b"),
    ],
    "a job that asks for fewer pods starts at once": [
        nodes("a"),
        submit(job("gang", pods=2)),
        waits("gang", "ExceedsClusterCapacity"),
        edits("gang", numNodes=1),
        runs("gang", on="a", pods=1),
    ],
    "a gang that is deleted while it waits gives its place in the queue up": [
        nodes("a", "b"),
        submit(job("now")),
        runs("now"),
        submit(job("large", pods=2), job("larger", pods=2)),
        waits("large", "WaitingForCapacity"),
        waits("larger", "WaitingForCapacity"),
        deletes("large"),
        ends("now"),
        runs("larger", on="a b"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_gangs(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
