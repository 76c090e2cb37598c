"""What ResourceQuotas leave to jobs, as the API server counts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fakes.builders import GPU, NAMESPACE, PodBuilder, a_job, a_pod
from stowplan_allocator import types
from stowplan_operator import headroom, imposed
from stowplan_operator.settings import Settings

Json = dict[str, Any]
GPUS = f"requests.{GPU}"


def a_quota(hard: Json, *, used: Json | None = None, status: Json | None = None, **spec: Any) -> Json:
    meta = {"name": "quota", "namespace": NAMESPACE, "uid": "u", "resourceVersion": "1"}
    there = {"hard": hard if status is None else status, "used": used or {}}
    return {"metadata": meta, "spec": {"hard": hard, **spec}, "status": there}


def a_range(**item: Any) -> Json:
    meta = {"name": "range", "namespace": NAMESPACE, "uid": "r", "resourceVersion": "1"}
    return {"metadata": meta, "spec": {"limits": [{"type": "Container", **item}]}}


def selecting(scope: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": list(values)}]}


OURS = a_pod().of(a_job()).gpus(4).on("n1")
THEIRS = a_pod("theirs").gpus(1)
MINE = "stowplan-gang"


@dataclass(frozen=True)
class Case:
    """Limits as (resource, hard, used by others, what a pod without takes)."""

    quota: Json
    pods: list[PodBuilder] = field(default_factory=list)
    ranges: list[Json] = field(default_factory=list)
    want: list[tuple[str, int, int, int]] = field(default_factory=list)


CASES = {
    "what is used, less our own pods, is used by others": Case(
        a_quota({GPUS: "8"}, used={GPUS: "6"}), [OURS], want=[(GPUS, 8, 2, 0)]
    ),
    "what is seen of others counts before the quota shows it": Case(
        a_quota({GPUS: "8"}, used={GPUS: "0"}), [OURS, THEIRS], want=[(GPUS, 8, 1, 0)]
    ),
    "our own pods that the quota does not show yet make no room": Case(
        a_quota({GPUS: "8"}, used={GPUS: "1"}), [OURS, THEIRS], want=[(GPUS, 8, 1, 0)]
    ),
    "pods that have ended are not counted": Case(
        a_quota({GPUS: "8"}, used={GPUS: "0"}), [THEIRS.succeeded(), OURS.failed()], want=[(GPUS, 8, 0, 0)]
    ),
    "but as objects": Case(
        a_quota({"count/pods": "8", "pods": "8"}),
        [THEIRS.succeeded(), OURS],
        want=[("count/pods", 8, 1, 0), ("pods", 8, 0, 0)],
    ),
    "Terminating pods are": Case(a_quota({GPUS: "8"}, used={GPUS: "0"}), [THEIRS.deleting()], want=[(GPUS, 8, 1, 0)]),
    "pods of other namespaces are not": Case(
        a_quota({GPUS: "8"}), [THEIRS.meta(namespace="other")], want=[(GPUS, 8, 0, 0)]
    ),
    "the limit is the one that the quota controller has taken up": Case(
        a_quota({GPUS: "16"}, status={GPUS: "8"}), want=[(GPUS, 8, 0, 0)]
    ),
    "or a lower one that it has not yet": Case(a_quota({GPUS: "4"}, status={GPUS: "8"}), want=[(GPUS, 4, 0, 0)]),
    "a quota that is new counts at once": Case(a_quota({GPUS: "4"}, status={}), want=[(GPUS, 4, 0, 0)]),
    "CPU and memory, by either name, in thousandths and MiB": Case(
        a_quota({"cpu": "1500m", "requests.memory": "2Gi"}, used={"cpu": "1", "requests.memory": "1025Ki"}),
        want=[("cpu", 1500, 1000, 0), ("requests.memory", 2048, 2, 0)],
    ),
    "a pod without takes the default of a LimitRange": Case(
        a_quota({"requests.cpu": "4", "limits.cpu": "8", "limits.memory": "4Gi"}),
        ranges=[a_range(default={"cpu": "2", "memory": "1Gi"}, defaultRequest={"cpu": "500m"})],
        want=[("limits.cpu", 8000, 0, 2000), ("limits.memory", 4096, 0, 1024), ("requests.cpu", 4000, 0, 500)],
    ),
    "other extended resources and huge pages": Case(
        a_quota({"requests.rdma/hca": "2", "hugepages-2Mi": "1Gi"}),
        want=[("hugepages-2Mi", 1 << 30, 0, 0), ("requests.rdma/hca", 2, 0, 0)],
    ),
    "what pods of jobs take nothing of is nobody's affair here": Case(
        a_quota({"persistentvolumeclaims": "0", "count/jobs.batch": "0", "services": "0", "requests.storage": "1Gi"})
    ),
    "a quantity that cannot be read limits nothing": Case(a_quota({GPUS: "many"})),
    "a quota of our priority": Case(
        a_quota({GPUS: "4"}, scopeSelector=selecting("PriorityClass", "In", MINE)), want=[(GPUS, 4, 0, 0)]
    ),
    "of another priority": Case(a_quota({GPUS: "4"}, scopeSelector=selecting("PriorityClass", "In", "high"))),
    "of all but ours": Case(a_quota({GPUS: "4"}, scopeSelector=selecting("PriorityClass", "NotIn", MINE))),
    "of pods with a priority": Case(a_quota({GPUS: "4"}, scopes=["PriorityClass"]), want=[(GPUS, 4, 0, 0)]),
    "of pods that end by themselves": Case(a_quota({GPUS: "4"}, scopes=["Terminating"])),
    "of pods that do not": Case(a_quota({GPUS: "4"}, scopes=["NotTerminating"]), want=[(GPUS, 4, 0, 0)]),
    "others in a scope are known from the quota alone": Case(
        a_quota({GPUS: "4"}, used={GPUS: "0"}, scopes=["NotTerminating"]), [THEIRS], want=[(GPUS, 4, 0, 0)]
    ),
    "with defaults no pod is without": Case(
        a_quota({"pods": "4"}, scopes=["BestEffort"]), ranges=[a_range(default={"cpu": "1"})]
    ),
}


def limits(case: Case) -> tuple[types.NamespaceLimit, ...]:
    found = imposed.Imposed.of(
        [
            imposed.ResourceQuotaView.from_body(case.quota),
            *(imposed.LimitRangeView.from_body(one) for one in case.ranges),
        ]
    )
    return headroom.namespace_limits(
        found,
        [pod.view() for pod in case.pods],
        is_counted=lambda pod: pod.managed,
        namespaces={NAMESPACE},
        rounded={},
        settings=Settings(),
    )


@pytest.mark.parametrize("sentence", CASES)
def test_what_is_left(sentence: str) -> None:
    case = CASES[sentence]
    found = [(one.resource, one.hard, one.used_by_others, one.default) for one in limits(case)]
    assert sorted(found) == case.want


def test_who_asks_for_neither_cpu_nor_memory() -> None:
    found = {
        scope: limits(Case(a_quota({"pods": "4"}, scopes=[scope])))[0].best_effort
        for scope in ("BestEffort", "NotBestEffort", "NotTerminating")
    }
    assert found == {"BestEffort": True, "NotBestEffort": False, "NotTerminating": None}


def test_what_every_pod_must_ask_for() -> None:
    found = limits(Case(a_quota({"limits.cpu": "4", "memory": "4Gi", GPUS: "4", "pods": "4"})))
    assert {one.resource: (one.counts, one.mandatory) for one in found} == {
        "limits.cpu": ("", True),
        "memory": ("memory_mib", True),
        GPUS: ("accelerators", False),
        "pods": ("pods", False),
    }


def test_rounding_refuses_nothing_that_the_api_server_lets_in() -> None:
    # Eight pods of 64G are 512G; in whole MiB they are seven more than the quota.
    assert headroom.rounding([(NAMESPACE, 8, "64G"), (NAMESPACE, 2, "64Gi"), ("b", 1, None)]) == {NAMESPACE: 8}
    quota = imposed.ResourceQuotaView.from_body(a_quota({"memory": "512G"}))
    [limit] = headroom.namespace_limits(
        imposed.Imposed(quotas=(quota,)),
        (),
        is_counted=lambda pod: False,
        namespaces=None,
        rounded={NAMESPACE: 8},
        settings=Settings(),
    )
    each = imposed.amount_of("64G", "memory", round_up=True)
    assert each is not None
    assert limit.hard - 8 * each in range(2)


def a_budget(allowed: int = 1, *, selector: Json | None = None, seen: int = 1) -> Json:
    meta = {"name": "pdb", "namespace": NAMESPACE, "uid": "p", "resourceVersion": "1", "generation": 1}
    spec = {} if selector is None else {"selector": selector}
    return {"metadata": meta, "spec": spec, "status": {"disruptionsAllowed": allowed, "observedGeneration": seen}}


GANG = [a_pod().of(a_job(), rank=rank).on(f"n{rank}").running() for rank in range(2)]
ALL: Json = {}
BUDGETS: dict[str, tuple[Json, list[PodBuilder], list[tuple[int, dict[str, int]]]]] = {
    "all pods of its namespace": (a_budget(2, selector=ALL), GANG, [(2, {"uid-a": 2})]),
    "no selector selects none": (a_budget(), GANG, []),
    "by labels": (a_budget(selector={"matchLabels": {"stowplan.dev/job": "a"}}), GANG, [(1, {"uid-a": 2})]),
    "by other labels": (a_budget(selector={"matchLabels": {"stowplan.dev/job": "b"}}), GANG, []),
    "by expressions": (
        a_budget(
            selector={
                "matchExpressions": [
                    {"key": "stowplan.dev/rank", "operator": "In", "values": ["0"]},
                    {"key": "stowplan.dev/job", "operator": "Exists"},
                    {"key": "team", "operator": "DoesNotExist"},
                    {"key": "stowplan.dev/attempt", "operator": "NotIn", "values": ["7"]},
                ]
            }
        ),
        GANG,
        [(1, {"uid-a": 1})],
    ),
    "what the controller has not taken up allows nothing": (
        a_budget(2, selector=ALL, seen=0),
        GANG,
        [(0, {"uid-a": 2})],
    ),
    "of another namespace": (a_budget(selector=ALL), [pod.meta(namespace="b") for pod in GANG], []),
    "pods that have ended cannot be stopped": (
        a_budget(selector=ALL),
        [GANG[0], GANG[1].succeeded()],
        [(1, {"uid-a": 1})],
    ),
    "pods on their way out are taken off it": (
        a_budget(2, selector=ALL),
        [*GANG, a_pod().of(a_job("b")).running().deleting(), a_pod().of(a_job(), attempt=9)],
        [(0, {"uid-a": 2})],
    ),
    "other people's pods are known from its status": (a_budget(2, selector=ALL), [*GANG, THEIRS], [(2, {"uid-a": 2})]),
}


@pytest.mark.parametrize("sentence", BUDGETS)
def test_what_may_be_stopped(sentence: str) -> None:
    body, pods, want = BUDGETS[sentence]
    found = headroom.disruption_budgets(
        imposed.Imposed.of([imposed.DisruptionBudgetView.from_body(body)]),
        [pod.view() for pod in pods],
        placed={"uid-a": 1, "uid-b": 1},
    )
    assert [(one.allowed, dict(one.pods)) for one in found] == want
    assert all(one.name == f"{NAMESPACE}/pdb" for one in found)
