"""Queues: quotas that nobody exceeds, borrowing in a tree, and whose turn it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import checks, compiling, fairness, forecast, greedy, queues, quota_checks
from unit.allocator import brute, worlds
from unit.allocator.worlds import A100, H100

BOTH = [sa.Strategy.EXACT, sa.Strategy.GREEDY]


def queue(
    name: str, nominal: int | None = None, *, borrow: int | None = None, lend: int | None = None, **fields: object
) -> sa.Queue:
    """A queue with a quota of H100s, or none."""
    quotas = () if nominal is None else (sa.Quota(H100, nominal, borrow, lend),)
    return sa.Queue(name, quotas=quotas, **fields)


def job(name: str, of: str, gpus: int = 1, **fields: object) -> sa.Job:
    return worlds.job(name, 1, gpus, queue=of, **fields)


def several(number: int, of: str, gpus: int = 1, **fields: object) -> list[sa.Job]:
    return [job(f"{of}{i}", of, gpus, **fields) for i in range(number)]


def runs(name: str, of: str, gpus: int, **fields: object) -> sa.Job:
    return worlds.running(name, {"n0": 1}, gpus, queue=of, **fields)


@dataclass(frozen=True)
class Case:
    """Of each queue's waiting jobs so many start; eight H100s on each node."""

    queues: list[sa.Queue]
    jobs: list[sa.Job]
    nodes: int = 4
    want: dict[str, int] = field(default_factory=dict)


TEAMS = [queue("org"), queue("a", 8, parent="org"), queue("b", 8, parent="org")]

CASES = {
    "a queue of its own uses what it owns and no more": Case(
        queues=[queue("a", 4)], jobs=several(9, "a"), want={"a": 4}
    ),
    "a queue that names no quota, in a tree without any, is not limited": Case(
        queues=[queue("a")], jobs=several(9, "a"), want={"a": 9}
    ),
    "jobs without a queue are not limited by those of others": Case(
        queues=[queue("a", 4)], jobs=several(9, ""), want={"": 9}
    ),
    "a product that the tree does not name is nobody's": Case(
        queues=[sa.Queue("a", quotas=(sa.Quota(A100, 8),))], jobs=several(2, "a"), want={}
    ),
    "a star stands for the products that are not named": Case(
        queues=[sa.Queue("a", quotas=(sa.Quota(A100, 8), sa.Quota("*", 3)))], jobs=several(9, "a"), want={"a": 3}
    ),
    "pods without accelerators take nothing of a quota": Case(
        queues=[queue("a", 0)], jobs=several(3, "a", 0, cpu=1), want={"a": 3}
    ),
    "running jobs count": Case(queues=[queue("a", 4)], jobs=[runs("r", "a", 3), *several(9, "a")], want={"a": 1}),
    "where running jobs exceed a quota that was lowered nothing more starts, and nobody is stopped": Case(
        queues=[queue("a", 2)], jobs=[runs("r", "a", 4), *several(9, "a")], want={}
    ),
    "what a sibling does not use is borrowed": Case(queues=TEAMS, jobs=several(20, "a"), want={"a": 16}),
    "what a sibling uses is not borrowed": Case(
        queues=TEAMS, jobs=[runs("r", "b", 8), *several(20, "a")], want={"a": 8}
    ),
    "a sibling that waits gets its own first": Case(
        queues=TEAMS,
        jobs=[*several(20, "a", created_at_seconds=1), *several(20, "b", created_at_seconds=9)],
        want={"a": 8, "b": 8},
    ),
    "no more is borrowed than the borrowing limit": Case(
        queues=[queue("org"), queue("a", 8, borrow=3, parent="org"), queue("b", 8, parent="org")],
        jobs=several(20, "a"),
        want={"a": 11},
    ),
    "no more is lent than the lending limit": Case(
        queues=[queue("org"), queue("a", 8, parent="org"), queue("b", 8, lend=5, parent="org")],
        jobs=several(20, "a"),
        want={"a": 13},
    ),
    "what a queue keeps for itself it uses without asking anybody above": Case(
        queues=[queue("org"), queue("a", 8, parent="org"), queue("b", 8, lend=5, parent="org")],
        jobs=[*several(20, "b"), runs("r", "a", 8)],
        want={"b": 8},
    ),
    "separate trees lend each other nothing": Case(
        queues=[queue("a", 4), queue("b", 4)], jobs=several(9, "a"), want={"a": 4}
    ),
    "a queue without quotas borrows from its siblings": Case(
        queues=[queue("org"), queue("a", parent="org"), queue("b", 6, parent="org")],
        jobs=several(9, "a"),
        want={"a": 6},
    ),
    "what the parent itself owns is for its children": Case(
        queues=[queue("org", 4), queue("a", 2, parent="org")], jobs=several(9, "a"), want={"a": 6}
    ),
    "a parent may have jobs of its own": Case(
        queues=[queue("org", 4), queue("a", 2, parent="org")], jobs=several(9, "org"), want={"org": 6}
    ),
    "a cousin lends through both parents": Case(
        queues=[
            queue("org"),
            queue("left", parent="org"),
            queue("right", parent="org"),
            queue("a", 4, parent="left"),
            queue("b", 8, parent="right"),
        ],
        jobs=several(20, "a"),
        want={"a": 12},
    ),
    "a parent's borrowing limit holds for all below it together": Case(
        queues=[
            queue("org"),
            queue("left", 0, borrow=3, parent="org"),
            queue("a", 4, parent="left"),
            queue("c", 4, parent="left"),
            queue("b", 8, parent="org"),
        ],
        jobs=[*several(20, "a"), *several(20, "c")],
        want={"a": 6, "c": 5},
    ),
    "a parent's lending limit keeps quota inside its subtree": Case(
        queues=[
            queue("org"),
            queue("right", 0, lend=2, parent="org"),
            queue("a", 4, parent="org"),
            queue("b", 4, parent="right"),
            queue("c", 4, parent="right"),
        ],
        jobs=several(20, "a"),
        want={"a": 6},
    ),
    "siblings share what is borrowed by their weights": Case(
        queues=[
            queue("org", 24),
            queue("a", parent="org", weight_milli=1000),
            queue("b", parent="org", weight_milli=3000),
        ],
        jobs=[*several(30, "a", created_at_seconds=1), *several(30, "b", created_at_seconds=9)],
        want={"a": 6, "b": 18},
    ),
    "without quotas the cluster is shared by weights": Case(
        queues=[queue("a"), queue("b")], jobs=[*several(40, "a"), *several(40, "b")], want={"a": 16, "b": 16}
    ),
    "shares are compared at the nearest common ancestor": Case(
        queues=[queue("x"), queue("y"), queue("x1", parent="x"), queue("x2", parent="x"), queue("y1", parent="y")],
        jobs=[*several(40, "x1"), *several(40, "x2"), *several(40, "y1")],
        want={"x1": 8, "x2": 8, "y1": 16},
    ),
    "who runs much already is served last": Case(
        queues=[queue("a"), queue("b")],
        jobs=[runs("r", "a", 8), *several(40, "a"), *several(40, "b")],
        want={"a": 8, "b": 16},
    ),
    "a queue with quota comes before guests, up to what it owns": Case(
        queues=[queue("a", 8), queue("b")],
        jobs=[*several(40, "a"), *several(40, "b", priority=9)],
        nodes=2,
        want={"a": 8, "b": 8},
    ),
    "priority decides within a queue and not between queues": Case(
        queues=[queue("a"), queue("b")],
        jobs=[*several(40, "a", priority=9), *several(40, "b")],
        want={"a": 16, "b": 16},
    ),
    "no more jobs run than the queue may have": Case(
        queues=[queue("a", 8, max_running_jobs=3)], jobs=[runs("r", "a", 1), *several(9, "a")], want={"a": 2}
    ),
    "a limit on jobs holds for all below": Case(
        queues=[queue("org", 8, max_running_jobs=3), queue("a", parent="org"), queue("b", parent="org")],
        jobs=[*several(9, "a"), *several(9, "b")],
        want={"a": 2, "b": 1},
    ),
    "a job that is larger than the queue allows does not start": Case(
        queues=[queue("a", 16, max_accelerators_per_job=4)],
        jobs=[job("large", "a", 8), job("small", "a", 4)],
        want={"a": 1},
    ),
}


@pytest.mark.parametrize("strategy", BOTH)
@pytest.mark.parametrize("name", CASES)
def test_case(name: str, strategy: sa.Strategy) -> None:
    case = CASES[name]
    nodes = tuple(worlds.node(f"n{i}") for i in range(case.nodes))
    plan = sa.plan(sa.Snapshot(nodes, tuple(case.jobs), queues=tuple(case.queues)), sa.Settings(strategy=strategy))
    jobs = {one.id: one for one in case.jobs}
    started = [jobs[job_id].queue for job_id in plan.placements]
    assert {name: started.count(name) for name in sorted(set(started))} == dict(sorted(case.want.items()))
    if strategy is sa.Strategy.EXACT:
        assert plan.certificate.gap == 0


def test_an_elastic_job_grows_only_within_quota_and_limit() -> None:
    nodes = tuple(worlds.node(f"n{i}") for i in range(4))
    one = worlds.job("e", 4, 2, allowed_num_pods=(1, 2, 3, 4, 8), queue="a")
    cases = {
        "free": (queue("a", 99), 8),
        "quota": (queue("a", 7), 3),
        "limit": (queue("a", 9, max_accelerators_per_job=4), 2),
    }
    for name, (of, want) in cases.items():
        for strategy in BOTH:
            plan = sa.plan(sa.Snapshot(nodes, (one,), queues=(of,)), sa.Settings(strategy=strategy))
            assert plan.placements["e"].num_pods == want, (name, strategy)


def test_a_job_takes_its_second_product_where_only_that_has_quota() -> None:
    nodes = (worlds.node("n0"), worlds.node("n1", product=A100))
    given = sa.Queue("a", quotas=(sa.Quota(H100, 4), sa.Quota(A100, 8)))
    jobs = [worlds.job(f"j{i}", 1, 4, products=(H100, sa.ProductChoice(A100, 450)), queue="a") for i in range(3)]
    for strategy in sa.Strategy:
        plan = sa.plan(sa.Snapshot(nodes, tuple(jobs), queues=(given,)), sa.Settings(strategy=strategy))
        assert sorted(placement.product for placement in plan.placements.values()) == [A100, A100, H100], strategy


WRONG = {
    "a parent that does not exist": ([queue("a", parent="x")], 'parent "x" does not exist'),
    "a circle": ([queue("a", parent="b"), queue("b", parent="a")], "ancestor of itself"),
    "its own parent": ([queue("a", parent="a")], "ancestor of itself"),
    "a name twice": ([queue("a"), queue("a")], "unique"),
    "no name": ([queue("")], "name is empty"),
    "no weight": ([queue("a", weight_milli=0)], "at least 1"),
    "less than nothing": ([queue("a", -1)], "less than zero"),
    "a product twice": ([sa.Queue("a", quotas=(sa.Quota(H100), sa.Quota(H100)))], "twice"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_queue_is_named_before_anything_is_planned(name: str) -> None:
    given, want = WRONG[name]
    assert want in next(iter(queues.faults(given).values()))
    with pytest.raises(ValueError, match="queue"):
        sa.plan(sa.Snapshot((), (), queues=tuple(given)))


def test_a_job_in_a_queue_that_does_not_exist_is_misconfigured() -> None:
    plan = sa.plan(sa.Snapshot((worlds.node("n0"),), (job("j", "b"),), queues=(queue("a"),)))
    assert plan.waiting["j"].reason is sa.Reason.MISCONFIGURED
    assert plan.waiting["j"].message == 'queue "b" does not exist; queues in the cluster: a'


@given(worlds.queued_snapshots(), st.sampled_from(list(sa.Strategy)))
@settings(max_examples=60, deadline=None)
def test_no_strategy_ever_exceeds_a_quota(snapshot: sa.Snapshot, strategy: sa.Strategy) -> None:
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    pending = {one.id for one in snapshot.jobs if one.placement is None}
    assert plan.placements.keys() | plan.waiting.keys() == pending
    # plan() verifies itself; here the jobs run, and in that snapshot nothing is exceeded that was not before.
    assert not list(quota_checks.find_breaches(plan.placements, snapshot=snapshot))


@given(worlds.queued_snapshots(max_nodes=3, max_jobs=4, max_pods=2))
@settings(max_examples=60, deadline=None)
def test_whoever_has_his_turn_starts_if_that_is_possible_beside_those_before_him(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot)
    possible = {
        frozenset(placed)
        for placed in brute.assignments(snapshot)
        if not list(quota_checks.find_breaches(placed, snapshot=snapshot))
    }
    problem = compiling.compile_problem(snapshot)
    line = fairness.turns(problem, problem.queue)
    started: frozenset[str] = frozenset()
    while (one := line.head()) is not None:
        placement = plan.placements.get(one.id)
        assert (placement is not None) == any(started | {one.id} <= placed for placed in possible), one.id
        line.serve(one, None if placement is None else greedy.Spot(placement.product, [(0, placement.num_pods)]))
        started |= {one.id} if placement is not None else set()


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=2, max_size=5), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_fair_shares_are_within_one_job_of_the_ideal(wishes: list[tuple[int, int]], nodes: int) -> None:
    """Everybody wants more than there is: each has his weight's part of the cluster, but for one job of his size."""
    given = tuple(queue(f"q{i}", weight_milli=weight * 1000) for i, (weight, _) in enumerate(wishes))
    sizes = {f"q{i}": size for i, (_, size) in enumerate(wishes)}
    jobs = [one for name, size in sizes.items() for one in several(8 * nodes, name, size)]
    plan = sa.plan(sa.Snapshot(tuple(worlds.node(f"n{i}") for i in range(nodes)), tuple(jobs), queues=given))
    of = {one.id: one.queue for one in jobs}
    used = dict.fromkeys(sizes, 0)
    for job_id in plan.placements:
        used[of[job_id]] += sizes[of[job_id]]
    total = sum(used.values())
    whole = sum(weight for weight, _ in wishes)
    largest = max(sizes.values())
    for i, (weight, _) in enumerate(wishes):
        # What nobody's job is small enough for is not shared.
        assert abs(used[f"q{i}"] - total * weight / whole) <= largest + 1e-9, used


BREACHES = {
    "more than it owns": ([queue("a", 4)], [job("j", "a", 5)], "5 accelerators"),
    "more than it may borrow": (
        [queue("org"), queue("a", 4, borrow=0, parent="org"), queue("b", 4, parent="org")],
        [job("j", "a", 5)],
        "owns and may borrow 4",
    ),
    "more than is lent": (
        [queue("org"), queue("a", 4, parent="org"), queue("b", 4, lend=0, parent="org")],
        [job("j", "a", 5)],
        'queue "org": 5',
    ),
    "too many jobs": ([queue("a", 9, max_running_jobs=1)], [job("i", "a"), job("j", "a")], "2 jobs run where 1"),
    "too large a job": ([queue("a", 9, max_accelerators_per_job=2)], [job("j", "a", 3)], "3 accelerators where"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_the_check_sees(name: str) -> None:
    given, jobs, want = BREACHES[name]
    placed = {one.id: sa.Placement(H100, (sa.NodeShare("n0", 1),)) for one in jobs}
    plan = sa.Plan(placed, {}, sa.Certificate(sa.SolveStatus.GREEDY, "greedy"))
    snapshot = sa.Snapshot((worlds.node("n0"),), tuple(jobs), queues=tuple(given))
    with pytest.raises(sa.PlanViolationError, match=want):
        checks.verify(plan, snapshot=snapshot)
    checks.verify(plan, snapshot=dataclasses.replace(snapshot, queues=()))


def _reserved(*jobs: sa.Job) -> sa.Snapshot:
    """Queue a owns 8: ``large`` is to have them in 100 s, when ``r`` has ended."""
    large, running = job("large", "a", 8), runs("r", "a", 4, expected_seconds=100)
    kept = sa.Reservation("large", sa.Placement(H100, (sa.NodeShare("n1", 1),)), 100)
    nodes = (worlds.node("n0"), worlds.node("n1"))
    return sa.Snapshot(nodes, (large, running, *jobs), reservations=(kept,), queues=(queue("a", 8),))


@pytest.mark.parametrize("strategy", sa.Strategy)
def test_quota_is_kept_with_reserved_room_but_for_jobs_that_end_in_time(strategy: sa.Strategy) -> None:
    snapshot = _reserved(job("long", "a", 2, expected_seconds=101), job("short", "a", 2, expected_seconds=100))
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    assert plan.placements.keys() == {"short"}
    assert plan.waiting["long"].reason is sa.Reason.RESERVED_FOR_LARGER_JOB
    assert plan.waiting["long"].blockers == ("large",)
    assert "its queue has quota now, but that is kept for large" in plan.waiting["long"].message


def _one_more(*jobs: sa.Job, above: bool = False) -> sa.Snapshot:
    """Queue a may run two jobs, or what is above it: one runs, and ``large`` has room from 100 s on."""
    there = [queue("top", 32), queue("a", parent="top"), queue("b", parent="top")]
    there[0 if above else 1] = dataclasses.replace(there[0 if above else 1], max_running_jobs=2)
    kept = sa.Reservation("large", sa.Placement(H100, (sa.NodeShare("n1", 1),)), 100)
    nodes = (worlds.node("n0"), worlds.node("n1", 4))
    standing = (job("large", "a", 8), runs("r", "a", 2))
    return sa.Snapshot(nodes, (*standing, *jobs), reservations=(kept,), queues=tuple(there))


@pytest.mark.parametrize("strategy", sa.Strategy)
@pytest.mark.parametrize("above", [False, True], ids=["its own queue", "the queue above"])
def test_the_place_of_a_running_job_is_kept_with_reserved_room(strategy: sa.Strategy, above: bool) -> None:
    others = [job("long", "b" if above else "a", 1, expected_seconds=101), job("cpus", "a", 0, cpu=1)]
    plan = sa.plan(_one_more(*others, above=above), sa.Settings(strategy=strategy))
    assert plan.placements == {}
    for name in ("long", "cpus"):
        assert (plan.waiting[name].reason, plan.waiting[name].blockers) == (
            sa.Reason.RESERVED_FOR_LARGER_JOB,
            ("large",),
        )
        assert "its queue may run one more job now, but that is kept for large" in plan.waiting[name].message
    ends = _one_more(*others, job("short", "a", 1, expected_seconds=100), above=above)
    assert sa.plan(ends, sa.Settings(strategy=strategy)).placements.keys() == {"short"}
    free = dataclasses.replace(_one_more(*others, above=above), reservations=())
    assert len(sa.plan(free, sa.Settings(strategy=strategy)).placements) == 1


def test_a_forecast_keeps_the_number_of_running_jobs() -> None:
    """What is to start in 100 s does: nobody of its queue comes in between who would still run then."""
    blocker = runs("blocker", "b", 8, expected_seconds=100)
    assert blocker.placement is not None
    on_n1 = dataclasses.replace(blocker.placement, shares=(sa.NodeShare("n1", 1),))
    long = job("long", "a", 1, expected_seconds=10_000)
    snapshot = _one_more(dataclasses.replace(blocker, placement=on_n1), long)
    snapshot = dataclasses.replace(snapshot, nodes=(worlds.node("n0"), worlds.node("n1")))
    found = forecast.predict_starts(snapshot)
    assert found["large"].starts_at_seconds == 100
    assert found["long"].starts_at_seconds is None
    kept = forecast.reserve(dataclasses.replace(snapshot, reservations=()), "large")
    assert kept is not None
    assert kept.starts_at_seconds == 100


def test_the_check_sees_the_place_of_a_running_job_that_was_kept() -> None:
    placed = {"long": sa.Placement(H100, (sa.NodeShare("n0", 1),))}
    plan = sa.Plan(
        placed,
        {"large": sa.Waiting(sa.Reason.WAITING_FOR_CAPACITY, "")},
        sa.Certificate(sa.SolveStatus.GREEDY, "greedy"),
    )
    with pytest.raises(sa.PlanViolationError, match='when large is to start: queue "a": 3 jobs run where 2 may'):
        checks.verify(plan, snapshot=_one_more(job("long", "a", 1)))


def test_the_check_sees_quota_that_was_kept() -> None:
    snapshot = _reserved(job("long", "a", 2))
    placed = {"long": sa.Placement(H100, (sa.NodeShare("n0", 1),))}
    waiting = {"large": sa.Waiting(sa.Reason.WAITING_FOR_QUOTA, "")}
    plan = sa.Plan(placed, waiting, sa.Certificate(sa.SolveStatus.GREEDY, "greedy"))
    with pytest.raises(sa.PlanViolationError, match='when large is to start: queue "a": 10 accelerators'):
        checks.verify(plan, snapshot=snapshot)
