"""Why a queue keeps a job waiting: the reason, its numbers and who is named."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

import stowplan_allocator as sa
from unit.allocator import worlds
from unit.allocator.test_queues import job, queue
from unit.allocator.test_reclaiming import TEAMS, runs
from unit.allocator.worlds import A100, H100


@dataclass(frozen=True)
class Case:
    """The answer to job ``w`` on a node of eight H100s, or on several."""

    queues: list[sa.Queue]
    jobs: list[sa.Job]
    want: sa.Reason = sa.Reason.WAITING_FOR_QUOTA
    want_message: str = ""
    want_numbers: dict[str, str] = field(default_factory=dict)
    want_blockers: tuple[str, ...] = ()
    nodes: int = 2


CASES = {
    "more than the queue could ever use": Case(
        queues=[queue("a", 4)],
        jobs=[job("w", "a", 5)],
        want=sa.Reason.EXCEEDS_QUOTA,
        want_message=f'needs 1 pod × 5 accelerators, 5 accelerators in all; queue "a" may use at most 4 of {H100}, '
        "with all that it may borrow",
        want_numbers={"queue": "a", "quota_wanted": "5", "quota_nominal": "4", "quota_limit": "4"},
    ),
    "more than it owns and may borrow": Case(
        queues=[queue("org"), queue("a", 4, borrow=2, parent="org"), queue("b", 8, parent="org")],
        jobs=[job("w", "a", 7)],
        want=sa.Reason.EXCEEDS_QUOTA,
        want_numbers={"quota_nominal": "4", "quota_limit": "6"},
    ),
    "more than its kin lend": Case(
        queues=[queue("org"), queue("a", 4, parent="org"), queue("b", 8, lend=1, parent="org")],
        jobs=[job("w", "a", 6)],
        want=sa.Reason.EXCEEDS_QUOTA,
        want_numbers={"quota_limit": "5"},
    ),
    "no quota of the product at all": Case(
        queues=[sa.Queue("a", quotas=(sa.Quota(A100, 8),))],
        jobs=[job("w", "a", 1)],
        want=sa.Reason.EXCEEDS_QUOTA,
        want_message=f'needs 1 pod × 1 accelerator; queue "a" has no quota of {H100} and may borrow none',
    ),
    "more than the queue allows for one job": Case(
        queues=[queue("a", 8, max_accelerators_per_job=4)],
        jobs=[job("w", "a", 8)],
        want=sa.Reason.EXCEEDS_QUOTA,
        want_message='needs 8 accelerators; queue "a" allows at most 4 for one job (limits.acceleratorsPerJob)',
        want_numbers={"accelerators_needed": "8", "accelerators_per_job": "4"},
    ),
    "its own jobs use what the queue owns": Case(
        queues=[queue("a", 4)],
        jobs=[runs("a1", "a", 1), runs("a2", "a", 2), job("w", "a", 2)],
        want_message=f'needs 1 pod × 2 accelerators, 2 accelerators in all; queue "a" uses 3 of {H100} and owns 4; '
        "with what it may borrow it has 1 left; a2, a1 hold it",
        want_numbers={"quota_used": "3", "quota_nominal": "4", "quota_borrowed": "0", "quota_lent": "0"},
        want_blockers=("a2", "a1"),
    ),
    "others have borrowed what it owns": Case(
        queues=TEAMS,
        jobs=[runs("b1", "b", 4), runs("b2", "b", 3), job("w", "a", 4)],
        want_message=f'needs 1 pod × 4 accelerators, 4 accelerators in all; queue "a" uses 0 of {H100} and owns 4, of '
        'which 3 are lent; queue "org" above it has 1 of 8 left; b1, b2 hold it',
        want_numbers={"quota_lent": "3", "quota_binds_at": "org", "quota_limit": "8", "quota_used_there": "7"},
        want_blockers=("b1", "b2"),
    ),
    "it borrows, and no more is there": Case(
        queues=TEAMS,
        jobs=[runs("a1", "a", 6), runs("b1", "b", 2), job("w", "a", 1)],
        want_numbers={"quota_used": "6", "quota_borrowed": "2", "quota_lent": "0"},
        want_blockers=("a1", "b1"),
    ),
    "as many jobs as may run": Case(
        queues=[queue("org", 8, max_running_jobs=1), queue("a", 4, parent="org")],
        jobs=[runs("o1", "org", 1), job("w", "a", 1)],
        want_message='needs 1 pod × 1 accelerator; queue "org" may run 1 job and runs 1',
        want_numbers={"queue": "a", "quota_binds_at": "org", "running_jobs": "1", "max_running_jobs": "1"},
        want_blockers=("o1",),
    ),
    "those ahead in the same plan count, and are named": Case(
        queues=[queue("a", 4)],
        jobs=[job("first", "a", 4, priority=1), job("w", "a", 4)],
        want_blockers=("first",),
    ),
    "no room, and quota enough: room is what it waits for": Case(
        queues=[queue("a", 16)],
        jobs=[runs("g1", "", 8), job("w", "a", 8)],
        want=sa.Reason.WAITING_FOR_CAPACITY,
        want_blockers=("g1",),
        nodes=1,
    ),
    "larger than the cluster: that is said, and not the quota": Case(
        queues=[queue("a", 4)], jobs=[job("w", "a", 99)], want=sa.Reason.EXCEEDS_CLUSTER_CAPACITY
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    nodes = tuple(worlds.node(f"n{i}") for i in range(case.nodes))
    plan = sa.plan(sa.Snapshot(nodes, tuple(case.jobs), queues=tuple(case.queues)))
    got = plan.waiting["w"]
    assert got.reason is case.want, got
    assert got.message == (case.want_message or got.message)
    numbers = dict(got.numbers)
    assert {one: numbers.get(one) for one in case.want_numbers} == case.want_numbers
    assert got.blockers == case.want_blockers
