"""What a forecast says: who never starts, whom a start waits for, and who keeps its place until when."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import stowplan_allocator as sa
from stowplan_allocator import forecast
from unit.allocator import worlds
from unit.allocator.test_queues import queue
from unit.allocator.worlds import job, node, running

# A job that could not start if nothing else ran; where, or in which queues -> how its answer begins.
NEVER: dict[str, tuple[sa.Job, dict[str, Any], str]] = {
    "a gang larger than the cluster": (job("x", 3), {}, "never, as it is: needs 3 pods × 8 accelerators; all 2 "),
    "more than its queue may ever use": (
        job("x", 2, products=[worlds.H100], queue="small"),
        {"queues": (queue("small", 6, borrow=0), queue("rest", 10))},
        "never, as it is: needs 2 pods × 8 NVIDIA-H100-80GB-HBM3, 16 accelerators in all; queue",
    ),
    "more than one job of its queue may use": (
        job("x", 1, queue="q"),
        {"queues": (queue("q", 16, max_accelerators_per_job=4),)},
        "never, as it is: ",
    ),
    "more than a ResourceQuota allows in all": (
        dataclasses.replace(job("x", 1, 3), name="team/x"),
        {"namespace_limits": (sa.NamespaceLimit("small", "team", "requests.nvidia.com/gpu", "accelerators", 2),)},
        "never, as it is: ",
    ),
    "a product that no node has": (job("x", products=[worlds.A100]), {}, "never, as it is: "),
    "what cannot be planned": (job("x", 0), {}, "never, as it is: "),
    "what no rack holds": (
        job("x", 2, level="rack"),
        {"nodes": (node("n1", rack="r1"), node("n2", rack="r2"))},
        "not even when all others have ended: needs 2 pods",
    ),
    "what a broken node keeps away": (
        job("x", 2),
        {"nodes": (node("n1"), node("n2", blocked="NotReady"))},
        "not even when all others have ended: needs 2 pods",
    ),
}
CUT = forecast.Forecast(None, "the budget for the forecast ran out")


@pytest.mark.parametrize("sentence", NEVER)
def test_what_never_starts_waits_for_nobody(sentence: str) -> None:
    one, fields, want = NEVER[sentence]
    jobs = [running("busy", {"n1": 1}, 1, expected_seconds=50), running("open", {"n1": 1}, 1), one]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1"), node("n2")], jobs), **fields)
    found = forecast.predict_starts(snapshot)["x"]
    assert found.basis.startswith(want), found.basis
    assert (found.starts_at_seconds, found.waits_for) == (None, ())
    soon = forecast.predict_starts(snapshot, budget_seconds=0)["x"]
    assert soon == (found if want.startswith("never") else CUT), "who never starts is told so at once"


def test_who_waits_for_quota_depends_on_those_who_use_it_and_not_on_whoever_stands_on_its_nodes() -> None:
    jobs = [running("own", {"n1": 1}, 2, queue="a"), running("other", {"n1": 1}, 4, queue="b")]
    snapshot = worlds.snapshot([node("n1"), node("n2")], [*jobs, job("x", 1, 4, queue="a")])
    queues = (queue("a", 4, borrow=0), queue("b", 12))
    found = forecast.predict_starts(dataclasses.replace(snapshot, queues=queues))["x"]
    assert found == forecast.Forecast(None, "depends on own, whose end is unknown", ("own",))


def test_who_waits_itself_is_named_as_one_that_starts_before() -> None:
    jobs = [running("a", {"n1": 1}, 8, expected_seconds=70), job("x"), job("y", created_at_seconds=1)]
    found = forecast.predict_starts(worlds.snapshot([node("n1")], jobs))["y"]
    assert found.basis == "depends on x (which starts before it), whose end is unknown"


LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
HOUR = 3600
RUNTIME = sa.Protection(14 * HOUR + 1205, 7, "preemption.minRuntimeSeconds")
# What runs on the only node at 14:00 -> when a job of higher priority starts, and why then.
TAKING: dict[str, tuple[dict[str, Any], tuple[int | None, str]]] = {
    "who may be disturbed leaves at once": ({"cost": 7}, (14 * HOUR, "starts once low has left")),
    "who is protected keeps its place until then": (
        {"cost": None, "protection": RUNTIME},
        (
            14 * HOUR + 1205,
            "starts once low has left; low keeps its place until 14:20:05 UTC (preemption.minRuntimeSeconds)",
        ),
    ),
    "far moments have a date": (
        {"cost": None, "protection": sa.Protection(50 * HOUR, 7, "why")},
        (50 * HOUR, "starts once low has left; low keeps its place until 1970-01-03 02:00:00 UTC (why)"),
    ),
    "whose protection has just ended leaves at once": (
        {"cost": None, "protection": sa.Protection(14 * HOUR, 7, "why")},
        (14 * HOUR, "starts once low has left"),
    ),
    "who ends before its protection does ends": (
        {"cost": None, "protection": RUNTIME, "expected_seconds": 60},
        (14 * HOUR + 60, "starts once low has ended, if that is when it is expected"),
    ),
    "who is protected for ever has to end": ({"cost": None}, (None, "depends on low, whose end is unknown")),
}


@pytest.mark.parametrize("sentence", TAKING)
def test_a_start_in_the_place_of_another(sentence: str) -> None:
    fields, want = TAKING[sentence]
    jobs = [running("low", {"n1": 1}, 8, **fields), job("high", priority=5)]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1")], jobs), now_seconds=14 * HOUR)
    found = forecast.predict_starts(snapshot, settings=LOWER)["high"]
    assert (found.starts_at_seconds, found.basis) == want
    assert found.waits_for == ("low",)


def test_who_may_leave_first_leaves_and_of_those_who_may_then_the_cheapest() -> None:
    jobs = [
        running("dear", {"n1": 1}, 8, cost=None, protection=sa.Protection(50, 900, "why")),
        running("cheap", {"n2": 1}, 8, cost=None, protection=sa.Protection(50, 10, "why")),
        running("early", {"n3": 1}, 8, cost=None, protection=sa.Protection(40, 999, "why")),
    ]
    nodes = [node("n1"), node("n2"), node("n3")]
    for number, want in ((3, ("early", 40)), (2, ("cheap", 50))):
        snapshot = worlds.snapshot(nodes[:number], [*jobs[:number], job("x", priority=5)])
        found = forecast.predict_starts(snapshot, settings=LOWER)["x"]
        assert (*found.waits_for, found.starts_at_seconds) == want


def test_who_gets_the_surplus_of_an_elastic_job_starts_at_once_and_that_one_takes_longer() -> None:
    elastic = running("e", {"n1": 1, "n2": 1}, 8, allowed_num_pods=(1, 2), resize_cost=5, expected_seconds=50)
    jobs = [elastic, job("x"), job("y", 2, created_at_seconds=1)]
    snapshot = worlds.snapshot([node("n1"), node("n2")], [*jobs[:2], dataclasses.replace(jobs[2], preempts=False)])
    setting = sa.Settings(resize=True)
    found = forecast.predict_starts(snapshot, settings=setting)
    assert (found["x"].starts_at_seconds, found["x"].basis) == (0, "starts once e has left")
    alone = dataclasses.replace(snapshot, jobs=(elastic, dataclasses.replace(jobs[1], expected_seconds=30), jobs[2]))
    assert forecast.predict_starts(alone, settings=setting)["y"].starts_at_seconds == 100


def test_who_takes_the_place_of_a_gang_that_the_snapshot_leaves_out_is_told_that_it_leaves() -> None:
    gang = running("low/1", {"n1": 1}, 8, leaving=True)
    snapshot = worlds.snapshot([node("n1"), node("n2")], [job("high"), job("other", created_at_seconds=1)])
    found = forecast.predict_starts(snapshot, leaving=[gang])
    assert {job_id: one.basis for job_id, one in found.items()} == {
        "high": "starts once low/1 has left",
        "other": "starts now",
    }
