"""Which running elastic jobs may be restarted at another size, what that loses, and how they are told to stop."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import NOW, JobBuilder, a_job, an_attempt, time_text
from stowplan_allocator import types
from stowplan_operator import displacing, resizing, snapshot, states, views
from stowplan_operator.estimates import Estimate
from stowplan_operator.settings import ElasticSettings, Settings

LATER = NOW + 1800
SETTINGS = Settings()
PROGRESS = {"attempt": 1, "step": 9, "firstStep": 2, "checkpointTime": time_text(NOW - 60)}
RUNNING = (
    a_job("a")
    .placed_on("n1", "n2", "n3")
    .started(NOW)
    .nodes(4)
    .spec(elastic={"minNodes": 2, "maxNodes": 6})
    .status(progress=PROGRESS)
)
GROWN = RUNNING.ended(*(an_attempt(n, begin=LATER - 1800, outcome="Resized") for n in range(3)))


def told(job: JobBuilder, *, settings: ElasticSettings | None = None, left: float | None = None) -> types.Job:
    request = snapshot.build_job(
        job.view(),
        job.parsed(),
        priorities={},
        default_priority=views.PriorityClass(),
        settings=SETTINGS,
    )
    return resizing.resizable(
        request,
        job.view(),
        job.parsed(),
        settings=settings or ElasticSettings(),
        expected=None if left is None else Estimate(left, "progress", most=left),
        avoided={"n3", "n9"},
        now_seconds=LATER,
    )


COSTS: dict[str, tuple[JobBuilder, ElasticSettings, int | None]] = {
    "the restart, of the pods that it has": (RUNNING, ElasticSettings(), 3 * 4 * 60),
    "as its restarts took before": (RUNNING.status(restartSeconds=90), ElasticSettings(), 3 * 4 * 90),
    "a gang without accelerators loses time as well": (RUNNING.gpus(0), ElasticSettings(), 60),
    "of three resizes within the hour": (GROWN, ElasticSettings(), 3 * 4 * 60),
    "not where the administrator wants none": (RUNNING, ElasticSettings(resize=False), None),
    "not one of a single size": (RUNNING.without("elastic"), ElasticSettings(), None),
    "not before it runs": (RUNNING.placed_on("n1", "n2"), ElasticSettings(), None),
    "not before its minimum runtime": (
        RUNNING.spec(preemption={"minRuntimeSeconds": 1801}),
        ElasticSettings(),
        None,
    ),
    "not one that is about to stop": (RUNNING.suspended(), ElasticSettings(), None),
    "not one that never told of a checkpoint": (
        RUNNING.status(progress={"attempt": 1, "step": 9, "firstStep": 2}),
        ElasticSettings(),
        None,
    ),
    "not before its first step": (
        RUNNING.status(progress={**PROGRESS, "step": 2}),
        ElasticSettings(),
        None,
    ),
    "not by the steps of an earlier attempt": (
        RUNNING.status(progress={**PROGRESS, "attempt": 0}),
        ElasticSettings(),
        None,
    ),
    "not more often than allowed within an hour": (GROWN, ElasticSettings(max_per_hour=3), None),
}


@pytest.mark.parametrize(("job", "settings", "want"), COSTS.values(), ids=COSTS)
def test_what_a_resize_loses(job: JobBuilder, settings: ElasticSettings, want: int | None) -> None:
    assert told(job, settings=settings).resize_cost == want


def test_a_resizable_job_is_told_with_its_sizes_and_where_it_may_go() -> None:
    job = told(RUNNING)
    assert (job.num_pods, job.placement and job.placement.num_pods) == (4, 3)
    assert job.allowed_num_pods == (2, 3, 4, 5, 6)
    assert dict(job.goodput_milli)[4] == 1000
    assert job.avoided_nodes == {"n9"}, "where it stands it may stay"
    assert job.products == ()
    assert job.tolerations


ENDS = {
    "unknown": (None, None),
    "beyond the horizon": (4000, None),
    "coarsely, so that an hour has four plans at most": (100, 900),
    "the same a minute later": (40, 900),
    "within the horizon": (1700, 1800),
}


@pytest.mark.parametrize(("left", "want"), ENDS.values(), ids=ENDS)
def test_the_end_of_a_resizable_job(left: float | None, want: int | None) -> None:
    assert told(RUNNING, left=left).expected_seconds == want


def test_without_growth_a_job_has_the_sizes_up_to_its_own() -> None:
    capped = resizing.without_growth(told(RUNNING), RUNNING.view())
    assert (capped.num_pods, capped.allowed_num_pods) == (3, (2, 3))
    assert dict(capped.goodput_milli)[3] == 1000
    assert not resizing.wants_more(capped)
    fixed = told(RUNNING, settings=ElasticSettings(resize=False))
    assert resizing.without_growth(fixed, RUNNING.view()) is fixed


def test_room_for_one_more_pod() -> None:
    room = types.Resources(accelerators=4, cpu_milli=64000, memory_mib=2**19, other=(("pods", 110),))

    def node(free: int, blocked: str = "") -> types.Node:
        available = types.Resources(accelerators=free, other=(("pods", 9),))
        return types.Node(name="n", product="A", available=available, allocatable=room, blocked=blocked)

    job = told(RUNNING)
    assert resizing.is_room_for_one([job], [node(3), node(4)])
    assert not resizing.is_room_for_one([job], [node(3), node(4, blocked="cordoned")])


def returns(job: JobBuilder, after: float) -> bool:
    return resizing.is_returning(job.view().status, job.parsed(), now_seconds=NOW + after)


def test_who_has_stopped_for_another_size_returns_for_ten_minutes_after_its_grace() -> None:
    released = a_job("a").status(attempt=1).ended(an_attempt(1, outcome="Resized", begin=NOW, seconds=0))
    assert [returns(released, after) for after in (629, 630)] == [True, False]
    slow = released.spec(checkpoint={"gracePeriodSeconds": 3600})
    assert [returns(slow, after) for after in (4199, 4200)] == [True, False]
    assert not returns(released.placed_on("n1", attempt=2), 1)
    assert not returns(released.ended(an_attempt(1, outcome="Preempted")), 1)


def stopped(order: displacing.Order, job: JobBuilder = RUNNING) -> dict[str, Any]:
    state = states.JobState(job=job.view(), pods=[], spec=job.parsed())
    states.interpret(state, priorities={}, default_priority=views.PriorityClass(), settings=SETTINGS)
    transition = displacing.stopped(
        state,
        order,
        requests={"u": types.Job("u", "team/next", 2, types.Resources())},
        horizon_seconds=7200,
        now_seconds=LATER,
    )
    assert transition is not None
    return {**transition.status, "told": transition.event}


def test_a_shrink_says_for_whom_and_what_it_loses() -> None:
    status = stopped(types.Resize("uid-a", 2, "u", 1234), RUNNING.status(restarts=2, retryAfter=time_text(NOW)))
    assert status["told"] == (
        "Resizing",
        "Attempt 1 stops and starts again from 3 to 2 pods, so that team/next can start; by the restart and the "
        "smaller size it loses about 1234 GPU-seconds within 2 hours. Its pods get 30 s to write a checkpoint.",
    )
    assert (status["phase"], status["restarts"], "placement" in status, "retryAfter" in status) == (
        "Restarting",
        2,
        False,
        False,
    )
    entry = status["history"][-1]
    assert (entry["outcome"], entry["reason"]) == ("Resized", "from 3 to 2 pods: team/next gets what it gives up")
    assert (entry["firstStep"], entry["lastStep"], entry["nodes"], entry["gpuSeconds"]) == (2, 9, 3, 1800 * 12)


def test_a_growth_says_what_it_gains() -> None:
    status = stopped(types.Resize("uid-a", 6, "", 720, gain=20000))
    assert "from 3 to 6 pods, as nobody waits for the GPUs; it gains about 20000 GPU-seconds" in status["told"][1]
    assert "the restart costs 720" in status["told"][1]


def test_every_order_of_a_plan_is_for_one_job() -> None:
    plan = types.Plan(
        placements={},
        waiting={},
        certificate=types.Certificate(types.SolveStatus.OPTIMAL, "exact"),
        evictions=(types.Eviction("x", "u", 1),),
        resizes=(types.Resize("y", 2, "u", 1),),
    )
    assert set(displacing.orders(plan)) == {"x", "y"}


def test_a_job_without_a_place_cannot_be_stopped() -> None:
    state = states.JobState(job=a_job("a").view(), pods=[], spec=a_job("a").parsed())
    order = types.Resize("uid-a", 2, "", 1)
    assert displacing.stopped(state, order, requests={}, horizon_seconds=3600, now_seconds=LATER) is None
