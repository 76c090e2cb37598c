"""Alternatives where queues keep a job waiting: more quota, another queue; each applied and planned."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import alternatives as looking
from stowplan_allocator.relaxing import ChangeKind
from unit.allocator import worlds
from unit.allocator.test_queues import job, queue
from unit.allocator.test_reclaiming import TEAMS, runs
from unit.allocator.worlds import H100

Want = dict[ChangeKind, list[dict[str, str]]]
# Queues, jobs of which "w" waits on two nodes of eight -> for each kind of alternative, its numbers.
CASES: dict[str, tuple[list[sa.Queue], list[sa.Job], Want]] = {
    "a little more quota": (
        [queue("a", 4)],
        [job("w", "a", 6)],
        {
            ChangeKind.MORE_QUOTA: [{"queue": "a", "product": H100, "more": "2", "instead_of": "4"}],
            ChangeKind.SMALLER_PODS: [{"resource": "accelerators", "amount": "4", "instead_of": "6"}],
            ChangeKind.JOB_ENDED: [],
            ChangeKind.MORE_NODES: [],
        },
    ),
    "more quota is for those ahead in the queue first": (
        [queue("a", 4)],
        [job("first", "a", 3, created_at_seconds=1), job("w", "a", 4, created_at_seconds=2)],
        {
            ChangeKind.MORE_QUOTA: [{"queue": "a", "product": H100, "more": "3", "instead_of": "4"}],
            ChangeKind.HIGHER_PRIORITY: [{"priority": "1", "instead_of": "0"}],
        },
    ),
    "a job that borrows ends, and not one that only stands there": (
        TEAMS,
        [runs("g", "", 1, cost=1), runs("b1", "b", 3, cost=50), runs("b2", "b", 4, cost=9), job("w", "a", 4)],
        {
            ChangeKind.JOB_ENDED: [{"job": "b2", "cost": "9"}],
            ChangeKind.MORE_QUOTA: [{"queue": "a", "product": H100, "more": "3", "instead_of": "4"}],
        },
    ),
    "another queue that its owner may use": (
        [queue("a", 4), queue("b", 8), queue("c", 2), queue("d", 8)],
        [job("w", "a", 6, other_queues=("a", "b", "c", "d"))],
        {ChangeKind.OTHER_QUEUE: [{"queue": "b", "instead_of": "a"}, {"queue": "d", "instead_of": "a"}]},
    ),
    "as many jobs as may run: one ends": (
        [queue("a", 8, max_running_jobs=1)],
        [runs("a1", "a", 1, cost=7), runs("g", "", 1, cost=1), job("w", "a", 1)],
        {ChangeKind.JOB_ENDED: [{"job": "a1", "cost": "7"}], ChangeKind.MORE_QUOTA: []},
    ),
    "quota is not what lacks": (
        [queue("a", 99)],
        [job("w", "a", 9)],
        {
            ChangeKind.MORE_QUOTA: [],
            ChangeKind.SMALLER_PODS: [{"resource": "accelerators", "amount": "8", "instead_of": "9"}],
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    there, jobs, want = CASES[name]
    snapshot = sa.Snapshot((worlds.node("n0"), worlds.node("n1")), tuple(jobs), queues=tuple(there))
    found = looking.alternatives(snapshot, "w", budget_seconds=60)
    got = {kind: [dict(one.numbers) for one in found if one.kind is kind] for kind in want}
    assert got == want
    for one in found:
        assert "w" in sa.plan(one.apply(snapshot)).placements, one


def test_jobs_move_only_within_what_quotas_allow() -> None:
    nodes = (worlds.node("n0"), worlds.node("n1"))
    jobs = (runs("r1", "a", 4), runs("r2", "a", 4, on="n1"), job("w", "a", 8))
    for owned, moved in ((16, [{"jobs": "r1", "cost": "100", "make_room": "4900"}]), (12, [])):
        snapshot = sa.Snapshot(nodes, jobs, queues=(queue("a", owned),), move_budget=100)
        found = looking.alternatives(snapshot, "w", budget_seconds=60)
        assert [dict(one.numbers) for one in found if one.kind is ChangeKind.JOBS_MOVED] == moved


@given(
    worlds.queued_snapshots(max_nodes=3, max_jobs=4, max_pods=2),
    st.sampled_from([sa.Strategy.EXACT, sa.Strategy.GREEDY]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_alternative_applied_starts_the_job(snapshot: sa.Snapshot, strategy: sa.Strategy) -> None:
    setting = sa.Settings(strategy=strategy)
    names = tuple(queue.name for queue in snapshot.queues)
    jobs = tuple(dataclasses.replace(one, other_queues=names) for one in snapshot.jobs)
    snapshot = dataclasses.replace(snapshot, jobs=jobs, move_budget=10_000)
    for waiting in [one for one in snapshot.jobs if one.placement is None][:3]:
        found = looking.explore(snapshot, waiting.id, settings=setting, budget_seconds=60)
        assert not found.not_tried
        for one in found.alternatives:
            assert waiting.id in sa.plan(one.apply(snapshot), setting).placements, one


@given(worlds.queued_snapshots(max_nodes=2, max_jobs=3, max_pods=2))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_less_quota_would_do(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot)
    waiting = next((one.id for one in snapshot.jobs if one.id in plan.waiting and one.queue), None)
    if waiting is None:
        return
    for one in looking.alternatives(snapshot, waiting, budget_seconds=60):
        if one.kind is ChangeKind.MORE_QUOTA:
            numbers = dict(one.numbers)
            for more in range(1, int(numbers["more"])):
                assert waiting not in sa.plan(_with(snapshot, numbers, more)).placements


def _with(snapshot: sa.Snapshot, numbers: dict[str, str], more: int) -> sa.Snapshot:
    def raised(one: sa.Queue) -> sa.Queue:
        if one.name != numbers["queue"]:
            return one
        quotas = {quota.product: quota for quota in one.quotas}
        before = quotas.get(numbers["product"], sa.Quota(numbers["product"]))
        quotas[before.product] = dataclasses.replace(before, nominal=before.nominal + more)
        return dataclasses.replace(one, quotas=tuple(quotas.values()))

    return dataclasses.replace(snapshot, queues=tuple(map(raised, snapshot.queues)))
