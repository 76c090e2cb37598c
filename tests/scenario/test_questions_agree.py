"""What questions propose is what the planner does: the same moves, the same evictions, and none beside."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
import yaml

import stowplan_allocator
from fakes.builders import NAMESPACE, a_job, a_node
from fakes.world import World
from stowplan_allocator import types
from stowplan_operator import observation, settings
from stowplan_operator.api import PLURAL
from stowplan_operator.cli import changes, defrag, what_if


async def scattered(preemption: str, **defragmentation: object) -> World:
    """Two nodes of four GPUs, on each a job of two that has run for ten minutes; ``large`` wants a whole node."""
    chosen = {"preemption": {"policy": preemption}, "defragmentation": defragmentation}
    world = World(a_node("n1"), a_node("n2"), settings=settings.parse(chosen))
    world.add_priority_class("soon-gone", 5)
    for number in (1, 2):
        world.submit(a_job(f"s{number}").nodes(1).gpus(2).spec(priorityClassName="soon-gone"))
        await world.settle()
        world.submit(a_job(f"gone{number}").nodes(1).gpus(2))
        await world.settle()
    for number in (1, 2):
        world.delete(f"gone{number}")
    await world.settle()
    world.now += 600
    world.submit(a_job("large").nodes(1).gpus(4))
    await world.settle()
    return world


def seen(world: World) -> observation.Observation:
    return observation.read(world.document())


def job(of: observation.Observation, name: str) -> types.Job:
    return next(one for one in of.snapshot.jobs if one.name == f"{NAMESPACE}/{name}")


# Who may be preempted and moved, whether the PriorityClass of those who run is gone → whether one moves, and why not.
MOVES: dict[str, tuple[str, dict[str, object], bool, bool, str]] = {
    "a job that would come back moves": ("Never", {}, False, True, ""),
    "a job that would not come back as it is stays": ("LowerPriority", {}, True, False, "Fragmented"),
    "moves are switched off": (
        "LowerPriority",
        {"policy": "Never"},
        False,
        False,
        "the operator moves nobody (setting defragmentation.policy: Never)",
    ),
    "the hour has too little left": (
        "LowerPriority",
        {"budgetGpuSecondsPerHour": 100},
        False,
        False,
        "moves of an hour may lose 100 GPU seconds (setting defragmentation.budgetGpuSecondsPerHour); have it raised",
    ),
}


@pytest.mark.parametrize("case", MOVES)
async def test_moves_are_proposed_where_the_operator_makes_them(case: str) -> None:
    preemption, defragmentation, is_class_gone, want, want_why = MOVES[case]
    world = await scattered(preemption, **defragmentation)
    if is_class_gone:
        world.server.remove("priorityclasses", "", "soon-gone")
        await world.cycle()
    asked = seen(world)
    answer = defrag.for_job(asked, job(asked, "large"), budget=None)
    assert bool(answer.moves) is want
    assert want_why in answer.why_not
    whole = defrag.for_nodes(asked, budget=None)
    assert any(one.steps for one in whole.found) is (want or "hour" in case), "a price is told, whatever is left"
    annotations = {"stowplan.dev/make-room": "100000"}
    world.server.change(PLURAL, NAMESPACE, "large", lambda body: body["metadata"].update(annotations=annotations))
    await world.settle()
    assert (world.phase("large") == "Running") is want, "so does the operator"


@pytest.mark.parametrize(("policy", "want"), [("OnRequest", True), ("Never", False)])
async def test_a_submitted_job_that_asks_for_room_gets_it_where_the_operator_gives_it(
    tmp_path: pathlib.Path, policy: str, want: bool
) -> None:
    world = await scattered("Never", policy=policy)
    world.delete("large")
    await world.settle()
    asked = seen(world)
    new = a_job("new").nodes(1).gpus(4).meta(annotations={"stowplan.dev/make-room": "100000"})
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(new.body()))
    wanted = changes.parse(["submit", str(tmp_path / "new.yaml")])
    found = what_if.compare(asked, wanted, changes.apply(asked, wanted, namespace=None))
    assert len(found.after.plan.moves) == want
    assert found.is_yes is want
    assert found.after.num_running == 2 + want
    world.submit(new)
    await world.settle()
    assert (world.phase("new") == "Running") is want, "so does the operator"


async def test_what_moves_have_lost_within_the_hour_is_not_there_for_others() -> None:
    world = await scattered("Never", budgetGpuSecondsPerHour=2000)
    annotations = {"stowplan.dev/make-room": "100000"}
    world.server.change(PLURAL, NAMESPACE, "large", lambda body: body["metadata"].update(annotations=annotations))
    await world.settle()
    assert world.phase("large") == "Running"
    (stayed,) = (name for name in ("s1", "s2") if not world.status(name).get("history"))
    world.delete("large")
    world.submit(a_job("late").nodes(1).gpus(2))
    await world.settle()
    world.delete(stayed)
    world.now += 900
    world.submit(a_job("again").nodes(1).gpus(4))
    await world.settle()
    asked = seen(world)
    answer = defrag.for_job(asked, job(asked, "again"), budget=None)
    assert not answer.moves
    assert "680 GPU seconds of 2000 GPU seconds are left of what all moves of an hour may lose" in answer.why_not


async def test_a_gang_that_cannot_move_any_more_gives_its_place_up_in_plans_and_questions() -> None:
    world = World(a_node("n1"), a_node("n2"), settings=settings.parse({"preemption": {"policy": "LowerPriority"}}))
    world.add_priority_class("high", 100)
    world.submit(a_job("half").nodes(2))
    await world.settle()
    world.succeed("half", 1)
    world.submit(a_job("other").nodes(1).spec(preemption={"preemptible": False}))
    await world.settle()
    world.now += 600
    await world.settle()
    asked = seen(world)
    urgent = dataclasses.replace(
        job(asked, "other"), id="u", name="team/urgent", placement=None, priority=100, expected_seconds=None
    )
    then = dataclasses.replace(asked.snapshot, jobs=(*asked.snapshot.jobs, urgent))
    (eviction,) = stowplan_allocator.plan(then, asked.settings).evictions
    assert (eviction.job_id, eviction.for_job) == (job(asked, "half").id, "u")
    assert what_if.side(asked, then).fates["u"].lot is what_if.Lot.PREEMPTS
    # A job that has others moved is no reason to spare it.
    world.submit(a_job("wants").nodes(1).meta(annotations={"stowplan.dev/make-room": "100000"}))
    world.submit(a_job("urgent").nodes(1).spec(priorityClassName="high"))
    await world.settle()
    assert world.phase("urgent") == "Running"
    assert world.status("half")["history"][-1]["outcome"] == "Preempted"


async def test_priorities_that_a_job_can_be_given_are_those_of_classes_that_it_can_name() -> None:
    world = World(a_node("n1"))
    for name in ("high", "stowplan-gang", "system-node-critical"):
        world.add_priority_class(name, 100)
    world.submit(a_job("a"))
    await world.settle()
    assert seen(world).snapshot.priority_classes == (types.PriorityClass("high", 100),)
