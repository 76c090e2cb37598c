"""What a waiting job's decision says beside its reason: position, predicted start, and changes that do start it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fakes.builders import H100, NAMESPACE, a_job, a_node, a_queue
from fakes.world import World
from stowplan_operator.api import PLURAL
from stowplan_operator.moments import Readings
from stowplan_operator.settings import DefragmentationSettings, PreemptionSettings, Settings
from stowplan_operator.views import Telemetry


def offers(world: World, name: str) -> dict[str, str]:
    """The changes that the status of a waiting job offers."""
    return {one["kind"]: one["message"] for one in world.status(name)["decision"]["alternatives"]}


async def test_a_waiting_job_says_when_it_starts_and_what_would_start_it_now() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(activeDeadlineSeconds=7200))
    await world.settle()
    world.submit(a_job("b"))
    await world.settle()
    assert "alternatives" not in world.status("b")["decision"]
    world.advise()
    await world.settle()
    decision = world.status("b")["decision"]
    assert decision["position"] == 1
    assert world.status("b")["eta"] == "starts in about 2h"
    assert "team/a" in decision["predictedStartBasis"]
    ended = [one for one in decision["alternatives"] if one["kind"] == "JobEnded"]
    assert [one["message"] for one in ended] == [one["message"] for one in ended if "team/a" in one["message"]]
    assert ended
    world.delete("a")
    await world.settle()
    assert (world.phase("b"), world.status("b")["decision"]["reason"]) == ("Running", "Placed")
    assert "alternatives" not in world.status("b")["decision"]


async def test_places_in_the_line_are_those_of_the_cycle_that_says_them() -> None:
    world = World(a_node("n1"), a_node("n2"))

    def places(*names: str) -> list[int | None]:
        return [world.status(name)["decision"].get("position") for name in names]

    for number, name in enumerate(("runs", "first", "second")):
        world.submit(a_job(name).created(world.now + number))
        await world.settle()
    assert places("first", "second") == [1, 2]
    world.advise()
    await world.settle()
    world.submit(a_job("huge").nodes(9).created(world.now))
    await world.settle()
    assert places("first", "second", "huge") == [1, 2, None], "who can never start stands in no line"
    world.delete("first")
    await world.settle()
    assert places("second") == [1], "whatever the last advice was found for"


async def test_advice_stays_while_none_newer_is_known_and_moves_only_by_what_a_user_can_see() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(activeDeadlineSeconds=7200))
    await world.settle()
    await world.wait(1000)
    world.submit(a_job("b"))
    await world.settle()
    world.advise()
    await world.settle()
    before = world.status("b")["decision"]
    world.readings = Readings(telemetry=Telemetry(), progress={}, eta={})
    await world.wait(61)
    assert world.status("b")["decision"] == before
    world.advise()
    await world.settle()
    assert world.status("b")["decision"] == before, "a minute of two hours is no news, nor is what a loses in it"
    await world.wait(600)
    world.advise()
    await world.settle()
    assert world.status("b")["decision"] != before


async def test_a_start_that_nobody_can_predict_any_more_is_not_told() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(activeDeadlineSeconds=7200))
    world.submit(a_job("b"))
    await world.settle()
    world.advise()
    await world.settle()
    assert "predictedStart" in world.status("b")["decision"]
    world.edit("a", activeDeadlineSeconds=None)
    await world.wait(61)
    world.advise()
    await world.settle()
    assert "predictedStart" not in world.status("b")["decision"]
    assert "eta" not in world.status("b")


RULE = {"maxRestarts": 10, "rules": [{"reasons": ["StartupTimeout"], "action": "RestartElsewhere"}]}


@pytest.mark.parametrize(("policy", "is_offered"), [({}, True), (RULE, False)], ids=["by itself", "by a rule"])
async def test_an_avoided_node_is_offered_where_the_owner_can_bring_it_back(
    policy: dict[str, Any], is_offered: bool
) -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(startupTimeoutSeconds=120, failurePolicy=policy))
    world.machinery.starts = False
    await world.settle()
    await world.wait(120)
    world.machinery.starts = True
    await world.settle()
    world.advise()
    await world.settle()
    told = "allow the nodes that it avoids after failures: n1 (failurePolicy.avoidFailedNodes: false)"
    assert offers(world, "a").get("AvoidedNodesAllowed") == (told if is_offered else None)
    world.edit("a", failurePolicy={**policy, "avoidFailedNodes": False})
    await world.settle()
    assert (world.phase("a") == "Running") is is_offered


@pytest.mark.parametrize(
    ("rules", "is_offered"),
    [({}, True), ({"budget_gpu_seconds_per_hour": 1000}, False), ({"policy": "Never"}, False)],
    ids=["on request", "they would lose more than they may", "nobody is moved"],
)
async def test_moves_are_offered_where_the_job_may_ask_for_them(rules: dict[str, Any], is_offered: bool) -> None:
    settings = Settings(
        defragmentation=DefragmentationSettings.model_validate(rules),
        preemption=PreemptionSettings(policy="LowerPriority"),
    )
    world = World(a_node("n1"), a_node("n2"), settings=settings)
    for name in ("s1", "gone1", "s2", "gone2"):
        world.submit(a_job(name).nodes(1).gpus(2))
        await world.settle()
    for name in ("gone1", "gone2"):
        world.delete(name)
    world.now += 600
    world.submit(a_job("large").nodes(1).gpus(4))
    await world.settle()
    world.advise()
    await world.settle()
    told = offers(world, "large").get("JobsMoved", "")
    found = re.fullmatch(
        r"move team/s\d to other nodes, which loses 1320 accelerator-seconds of work "
        r"\(annotation stowplan\.dev/make-room=(3720)\)",
        told,
    )
    assert (found is not None, bool(told)) == (is_offered, is_offered), told
    # What it loses has grown until somebody reads it.
    world.now += 1200
    asks = {"stowplan.dev/make-room": found[1] if found else "3720"}
    world.server.change(PLURAL, NAMESPACE, "large", lambda body: body["metadata"].update(annotations=asks))
    await world.settle()
    assert (world.phase("large") == "Running") is is_offered


async def test_who_suspends_a_job_for_which_room_is_kept_lets_another_one_start() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("holder").nodes(1))
    await world.settle()
    world.submit(a_job("large").nodes(2))
    await world.wait(1000)
    world.advise()
    await world.settle()
    assert world.status("large")["decision"]["reserved"]
    world.submit(a_job("small").nodes(1))
    await world.settle()
    world.advise()
    await world.settle()
    assert offers(world, "small")["ReservationReleased"] == (
        "suspend team/large, for which room is kept (suspend: true)"
    )
    world.edit("large", suspend=True)
    await world.cycle()
    await world.settle()
    assert world.phase("small") == "Running"


async def test_what_was_found_for_another_answer_is_not_offered_beside_the_new_one() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.set_quota(gpus=8)
    world.submit(a_job("holder").nodes(1))
    await world.settle()
    world.submit(a_job("b").nodes(3))
    await world.settle()
    world.advise()
    await world.settle()
    assert world.reason("b") == "ExceedsResourceQuota"
    assert offers(world, "b")
    world.set_quota(gpus=12)
    await world.settle()
    assert world.reason("b") == "WaitingForResourceQuota"
    assert not world.status("b")["decision"].get("alternatives")
    world.advise()
    await world.settle()
    first = offers(world, "b")
    assert first
    world.set_quota(gpus=13)
    await world.settle()
    assert world.reason("b") == "WaitingForResourceQuota"
    assert "allows 13" in world.status("b")["message"], "a quota that was changed is told at once"
    assert not world.status("b")["decision"].get("alternatives"), "the reason is the same, what is allowed is not"
    world.readings = Readings(telemetry=Telemetry(), progress={}, eta={})
    world.edit("b", priorityClassName=None, activeDeadlineSeconds=100)
    await world.settle()
    assert not world.status("b")["decision"].get("alternatives")


async def test_a_quota_that_was_changed_and_jobs_that_are_gone_are_told_within_a_second() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.add_queue(a_queue("red", NAMESPACE).owns(4, borrows=0))
    world.submit(a_job("holder").nodes(1))
    await world.settle()
    world.submit(a_job("b").nodes(1))
    await world.settle()
    assert (world.reason("b"), world.status("b")["decision"]["blockers"]) == ("WaitingForQuota", ["team/holder"])
    world.edit_queue("red", quotas=[{"product": H100, "nominal": 6, "borrowingLimit": 0}])
    await world.cycle()
    assert "owns 6" in world.status("b")["message"]
    world.add_priority_class("high", 1000)
    world.submit(a_job("next").nodes(1).spec(priorityClassName="high"))
    world.delete("holder")
    await world.settle()
    assert (world.reason("b"), world.status("b")["decision"]["blockers"]) == ("WaitingForQuota", ["team/next"])


async def test_what_was_found_while_more_was_free_is_not_offered_any_longer() -> None:
    world = World(*(a_node(f"n{number}") for number in range(1, 4)))
    world.submit(a_job("holder").nodes(1))
    await world.settle()
    world.submit(a_job("b").nodes(3))
    await world.settle()
    world.advise()
    await world.settle()
    first = offers(world, "b")
    assert "FewerPods" in first
    world.submit(a_job("small").nodes(1))
    await world.settle()
    assert world.phase("small") == "Running"
    assert "alternatives" not in world.status("b")["decision"], "two pods do not fit any more"
    world.advise()
    await world.settle()
    assert offers(world, "b") != first
    world.delete("small")
    await world.settle()
    assert offers(world, "b"), "with more room it still does"
