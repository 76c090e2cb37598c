"""ResourceQuotas and LimitRanges of a namespace: no gang is half-created because some of its pods are refused.

After what users of the peers met: pods of a gang that a quota refuses one by one (kueue#706, trainer#165), and
Kubernetes' own rules of quotas (e2e/apimachinery/resource_quota.go: extended resources, scopes by PriorityClass,
terminating pods that are still charged, defaults of a LimitRange).
"""

from __future__ import annotations

from typing import Any

import pytest

from policies.lines import deletes, ends, job, leaves, nodes, run, runs, submit, waits
from policies.stage import TEAM, Stage
from policies.stories import Line, play
from world.client import MERGE

pytestmark = pytest.mark.policies

GPUS = "requests.nvidia.com/gpu"
Json = dict[str, Any]


def quota(team: str = TEAM, *, name: str = "quota", scope: Json | None = None, **hard: int) -> Line:
    """A ResourceQuota, once its controller has taken it up, or a new limit of one; ``gpus`` are requests of GPUs."""
    amounts = {GPUS if key == "gpus" else key: str(value) for key, value in hard.items()}

    def create(stage: Stage) -> None:
        path = f"/api/v1/namespaces/{stage.namespace(team)}/resourcequotas"
        spec = {"hard": amounts} | ({"scopeSelector": {"matchExpressions": [scope]}} if scope else {})
        if stage.world.client.ask("GET", f"{path}/{name}")[0] == 200:
            stage.world.client.must("PATCH", f"{path}/{name}", {"spec": spec}, kind=MERGE)
        else:
            stage.world.client.must("POST", path, {"metadata": {"name": name}, "spec": spec})

        def is_taken_up() -> bool:
            found = stage.world.client.must("GET", f"{path}/{name}")
            return found.get("status", {}).get("hard") == amounts

        stage.world.wait("the quota is taken up", is_taken_up)

    return Line(f"quota({team!r}, {hard})", act=create)


def limit_range(**item: Json) -> Line:
    """A LimitRange for containers."""

    def create(stage: Stage) -> None:
        path = f"/api/v1/namespaces/{stage.namespace(TEAM)}/limitranges"
        body = {"metadata": {"name": "range"}, "spec": {"limits": [{"type": "Container", **item}]}}
        stage.world.client.must("POST", path, body)

    return Line(f"limit_range({item})", act=create)


def used(**amounts: int) -> Line:
    """So much of the team's quota is used, as the API server counts it."""
    want = {GPUS if key == "gpus" else key: str(value) for key, value in amounts.items()}

    def look(stage: Stage) -> str:
        path = f"/api/v1/namespaces/{stage.namespace(TEAM)}/resourcequotas/quota"
        found = stage.world.client.must("GET", path)["status"]["used"]
        return "" if found.items() >= want.items() else f"used is {found}"

    return Line(f"used({amounts})", look=look)


def never_refused() -> Line:
    """The API server has refused no pod of this story's namespaces."""

    def look(stage: Stage) -> str:
        log = stage.operator.log.read_text()
        lines = [line for line in log.splitlines() if "cannot create pods" in line and stage.namespace(TEAM) in line]
        return lines[-1] if lines else ""

    return Line("never_refused()", look=look)


def is_refused(name: str, says: str) -> Line:
    """The API server refuses the job's pods, and the job says so in its words."""

    def look(stage: Stage) -> str:
        conditions = {one["type"]: one for one in stage.status(name).get("conditions", ())}
        told = conditions.get("PodsReady", {}).get("message", "")
        if says not in told:
            return f"PodsReady says: {told}"
        return f"there are pods: {stage.pods_of(name)}" if stage.pods_of(name) else ""

    return Line(f"is_refused({name!r}, {says!r})", look=look)


STORIES = {
    "a gang waits until the quota of its namespace holds all of it": [
        nodes("a", "b", "c"),
        quota(gpus=8),
        submit(job("first")),
        runs("first"),
        submit(job("gang", pods=2)),
        waits(
            "gang",
            "WaitingForResourceQuota",
            blockers="first",
            resource_quota="quota",
            resource_quota_resource=GPUS,
            resource_quota_hard=8,
            resource_quota_used=4,
            resource_quota_needed=8,
        ),
        used(gpus=4),
        ends("first"),
        runs("gang", pods=2, attempt=1),
        used(gpus=8),
        never_refused(),
    ],
    "two gangs of one moment share a quota that holds one of them": [
        nodes("a", "b", "c", "d"),
        quota(gpus=8, pods=3),
        submit(job("one", pods=2), job("two", pods=2), job("three")),
        runs("one", pods=2, attempt=1),
        waits("two", "WaitingForResourceQuota", blockers="one"),
        waits("three", "WaitingForResourceQuota", blockers="one"),
        ends("one"),
        runs("two", pods=2, attempt=1),
        never_refused(),
    ],
    "a gang that the quota never holds is told so, and starts when it is raised": [
        nodes("a", "b"),
        quota(gpus=4),
        submit(job("gang", pods=2)),
        waits("gang", "ExceedsResourceQuota", resource_quota_hard=4, resource_quota_needed=8),
        quota(gpus=8),
        runs("gang", pods=2, attempt=1),
        never_refused(),
    ],
    "pods on their way out hold their quota until they are gone": [
        nodes("a", "b"),
        quota(gpus=4),
        submit(job("old", stays=True)),
        runs("old"),
        submit(job("new")),
        waits("new", "WaitingForResourceQuota", blockers="old"),
        deletes("old"),
        waits("new", "WaitingForResourceQuota", blockers="", resource_quota_used=4),
        leaves("old"),
        runs("new", attempt=1),
        never_refused(),
    ],
    "other namespaces, and quotas of other priorities, keep nobody": [
        nodes("a", "b"),
        quota("others", gpus=0),
        quota(name="high", scope={"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}, pods=0),
        submit(job("mine")),
        runs("mine"),
        never_refused(),
    ],
    "a quota on CPU that a pod does not name is told, and a LimitRange is enough": [
        nodes("a"),
        quota(**{"requests.cpu": 2}),
        submit(job("one", gpus=1), job("two", gpus=1), job("three", gpus=1)),
        waits("one", "ExceedsResourceQuota", says="give the namespace a LimitRange with a default for cpu"),
        limit_range(defaultRequest={"cpu": "1"}),
        run("one two"),
        waits("three", "WaitingForResourceQuota", resource_quota_hard=2, resource_quota_used=2),
        never_refused(),
    ],
    "pods that break a LimitRange are refused, the job says why, and no part of the gang is there": [
        nodes("a", "b"),
        limit_range(min={"cpu": "2"}),
        submit(job("gang", pods=2, cpu=1)),
        is_refused("gang", "minimum cpu usage per Container is 2"),
    ],
}


@pytest.mark.parametrize("sentence", STORIES)
def test_resource_quotas(stage: Stage, sentence: str) -> None:
    play(stage, sentence, STORIES[sentence])
