"""`kubectl scale` of TrainingJobs, and autoscalers, which must do no harm to gangs.

After Kubernetes' own kinds with a scale subresource. It differs: a gang's size is fixed while it has a place, and there
is nothing for an autoscaler to measure.
"""

from __future__ import annotations

import pytest

from policies.lines import job, nodes, runs, submit, undisturbed, waits
from policies.stage import TEAM, Json, Stage
from policies.stories import act, look, play

pytestmark = pytest.mark.policies


def _scale(stage: Stage, name: str, pods: int) -> str:
    """What kubectl answers."""
    where = ("-n", stage.namespace(TEAM))
    return stage.world.server.kubectl("scale", "tj", name, f"--replicas={pods}", *where).text


@act
def scales(stage: Stage, name: str, *, pods: int) -> None:
    """`kubectl scale` of a job."""
    assert "scaled" in _scale(stage, name, pods)


@look
def does_not_scale(stage: Stage, name: str, *, pods: int, says: str) -> str:
    """`kubectl scale` of a job is refused in such words."""
    told = _scale(stage, name, pods)
    return "" if says in told else f"kubectl says: {told}"


@act
def autoscaler(stage: Stage, name: str, *, least: int, most: int) -> None:
    """A HorizontalPodAutoscaler on a job, by how busy the CPUs of its pods are."""
    usage = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    target = {"apiVersion": "stowplan.dev/v1alpha1", "kind": "TrainingJob", "name": name}
    spec = {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": most}
    body = {"metadata": {"name": name}, "spec": {**spec, "metrics": [{"type": "Resource", "resource": usage}]}}
    stage.world.client.must("POST", _autoscalers(stage), body)


@look
def autoscaler_gives_up(stage: Stage, name: str, reason: str) -> str:
    """The job's autoscaler has a condition that is False for this reason, and has changed nothing."""
    status: Json = stage.world.client.must("GET", f"{_autoscalers(stage)}/{name}").get("status") or {}
    reasons = [one["reason"] for one in status.get("conditions") or () if one["status"] == "False"]
    if "lastScaleTime" in status:
        return f"it scaled: {status}"
    return "" if reason in reasons else f"conditions {status.get('conditions')}"


def _autoscalers(stage: Stage) -> str:
    return f"/apis/autoscaling/v2/namespaces/{stage.namespace(TEAM)}/horizontalpodautoscalers"


STORIES = {
    "a job that waits is scaled, and starts at that size": [
        nodes("a"),
        submit(job("wants", pods=2)),
        waits("wants", "ExceedsClusterCapacity"),
        scales("wants", pods=1),
        runs("wants", pods=1),
    ],
    "sizes that a job cannot have are refused": [
        nodes("a"),
        submit(job("wants", pods=2, topology={"level": "rack", "sliceSize": 2}, elastic={"minNodes": 2})),
        does_not_scale("wants", pods=0, says="should be greater than or equal to 1"),
        does_not_scale("wants", pods=1, says="raise numNodes"),
        does_not_scale("wants", pods=3, says="spec.topology.sliceSize must divide spec.numNodes"),
    ],
    "a gang that runs is not scaled, and whoever tries is told what to do": [
        nodes("a", "b"),
        submit(job("gang")),
        runs("gang"),
        does_not_scale("gang", pods=2, says="spec.numNodes is fixed once the job is placed; set spec.suspend to true"),
        undisturbed("gang"),
    ],
    "an autoscaler changes no gang that runs, and knows nothing of one that waits": [
        nodes("a", "b"),
        submit(job("gang", pods=2)),
        runs("gang"),
        submit(job("wants", pods=2)),
        waits("wants", "WaitingForCapacity"),
        autoscaler("gang", least=1, most=1),
        autoscaler("wants", least=1, most=4),
        autoscaler_gives_up("gang", "FailedUpdateScale"),
        autoscaler_gives_up("wants", "InvalidSelector"),
        undisturbed("gang"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_scale(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
