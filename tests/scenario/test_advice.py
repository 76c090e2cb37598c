"""What a waiting job's decision says beside its reason: position, predicted start, and changes that do start it."""

from __future__ import annotations

from fakes.builders import a_job, a_node
from fakes.world import World
from stowplan_allocator import advising
from stowplan_operator import advisor
from stowplan_operator.moments import Readings
from stowplan_operator.views import Telemetry


def take_advice(world: World) -> None:
    """What the operator's advisor does in the background."""
    seen = world.process.desk.seen
    assert seen is not None
    question = advisor.question_of(seen, order=seen.plan.waiting, budget_seconds=60, now_seconds=world.now)
    world.readings = Readings(telemetry=Telemetry(), progress={}, eta={}, advice=advising.answer(question))


async def test_a_waiting_job_says_when_it_starts_and_what_would_start_it_now() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(activeDeadlineSeconds=7200))
    await world.settle()
    world.submit(a_job("b"))
    await world.settle()
    assert "alternatives" not in world.status("b")["decision"]
    take_advice(world)
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


async def test_advice_stays_while_none_newer_is_known_and_moves_only_by_what_a_user_can_see() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(activeDeadlineSeconds=7200))
    world.submit(a_job("b"))
    await world.settle()
    take_advice(world)
    await world.settle()
    before = world.status("b")["decision"]
    world.readings = Readings(telemetry=Telemetry(), progress={}, eta={})
    await world.wait(61)
    assert world.status("b")["decision"] == before
    take_advice(world)
    await world.settle()
    assert world.status("b")["decision"] == before, "a minute of two hours is no news, and what a loses grows always"
    await world.wait(600)
    take_advice(world)
    await world.settle()
    assert world.status("b")["decision"] != before


async def test_a_start_that_nobody_can_predict_any_more_is_not_told() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(a_job("a").spec(activeDeadlineSeconds=7200))
    world.submit(a_job("b"))
    await world.settle()
    take_advice(world)
    await world.settle()
    assert "predictedStart" in world.status("b")["decision"]
    world.edit("a", activeDeadlineSeconds=None)
    await world.wait(61)
    take_advice(world)
    await world.settle()
    assert "predictedStart" not in world.status("b")["decision"]
    assert "eta" not in world.status("b")
