"""Elastic jobs: they start at the size that fits, give up pods for a waiting job, and grow where nobody waits."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import NAMESPACE, JobBuilder, NodeBuilder, QueueBuilder, a_job, a_node, a_queue
from fakes.world import InlineSolver, World
from stowplan_allocator import types
from stowplan_operator.api import PLURAL, QUEUES
from stowplan_operator.moments import Readings
from stowplan_operator.progress import Pace, Progress
from stowplan_operator.settings import ElasticSettings, Settings
from stowplan_operator.views import Telemetry


def an_elastic_job(name: str = "wide", *, nodes: int = 4, **elastic: Any) -> JobBuilder:
    return a_job(name).nodes(nodes).spec(elastic=elastic or {"minNodes": 1})


def environment(world: World, job: str) -> dict[str, str]:
    return {one["name"]: one.get("value") for one in world.gang(job)[0]["spec"]["containers"][0]["env"]}


async def test_it_starts_at_the_largest_size_that_fits_and_ends_when_these_pods_have() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(an_elastic_job(nodes=4))
    await world.settle()
    status = world.status("wide")
    assert (world.phase("wide"), status["ready"], status["readyNodes"], status["gpus"]) == ("Running", "2/2", 2, 8)
    assert world.pod_names("wide") == ["wide-1-0", "wide-1-1"]
    assert environment(world, "wide")["PET_NNODES"] == "2"
    world.succeed("wide")
    await world.settle()
    ended = world.status("wide")["history"][-1]
    assert (world.phase("wide"), ended["nodes"]) == ("Succeeded", 2)


async def test_alone_on_one_node_it_needs_no_service() -> None:
    world = World(a_node("n1"))
    world.submit(an_elastic_job(nodes=4))
    await world.settle()
    assert (world.status("wide")["ready"], world.server.all("services")) == ("1/1", [])
    assert environment(world, "wide")["PET_MASTER_ADDR"] == "localhost"


async def test_after_a_failure_it_starts_at_the_size_that_fits_then() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.submit(an_elastic_job(nodes=3))
    await world.settle()
    assert world.status("wide")["ready"] == "3/3"
    world.remove_node("n3")
    await world.settle()
    assert (world.status("wide")["ready"], world.status("wide")["attempt"]) == ("2/2", 2)


async def test_it_waits_where_its_smallest_size_does_not_fit() -> None:
    world = World(a_node("n1"))
    world.submit(an_elastic_job(nodes=4, minNodes=2))
    await world.settle()
    assert (world.phase("wide"), world.status("wide")["ready"]) == ("Pending", "0/4")
    world.edit("wide", elastic={"minNodes": 1})
    await world.settle()
    assert (world.phase("wide"), world.status("wide")["ready"]) == ("Running", "1/1")


async def test_a_size_that_is_no_longer_allowed_is_kept_until_the_next_attempt() -> None:
    world = World(a_node("n1"), a_node("n2"), a_node("n3"))
    world.cordon("n3")
    world.submit(an_elastic_job(nodes=4, allowedNodes=[2, 4]))
    await world.settle()
    world.edit("wide", elastic={"allowedNodes": [3, 4]})
    world.cordon("n3", False)
    await world.settle()
    assert world.status("wide")["ready"] == "2/2"
    world.fail("wide", 1)
    await world.settle()
    assert world.status("wide")["ready"] == "3/3"


async def train(world: World, *names: str, seconds: float = 600, paces: dict[str, float] | None = None) -> None:
    """Rank 0 of each job tells of steps, and of a checkpoint, as time passes."""
    uids = {name: world.job(name)["metadata"]["uid"] for name in names}
    first = {name: world.status(name).get("progress", {}).get("step", 0) for name in names}
    for told in (0.0, 0.5, 1.0):
        world.now += seconds / 2 if told else 0
        steps = {name: first[name] + round(1 + told * seconds * (paces or {}).get(name, 1.0)) for name in names}
        world.readings = Readings(
            telemetry=Telemetry(),
            progress={
                uids[name]: Progress(
                    step=step,
                    checkpoint_step=step - 1,
                    checkpoint_timestamp_seconds=world.now - 1,
                    read_at_seconds=world.now,
                )
                for name, step in steps.items()
            },
            eta={},
            paces={uids[name]: Pace(steps[name] - first[name], told * seconds) for name in names if told},
        )
        await world.settle()


def nodes(number: int) -> list[NodeBuilder]:
    return [a_node(f"n{one}") for one in range(1, number + 1)]


def sizes(world: World, *names: str) -> dict[str, str]:
    return {name: f"{world.phase(name)} {world.status(name)['ready']}" for name in names}


def graces(world: World, job: str) -> set[int]:
    pods = [world.server.get("pods", NAMESPACE, name) for name in world.pod_names(job)]
    return {pod["metadata"].get("deletionGracePeriodSeconds") for pod in pods if pod}


async def a_wide_world(number: int = 4, *, settings: Settings | None = None, **elastic: Any) -> World:
    """A running job that has all nodes, and has trained for ten minutes."""
    world = World(*nodes(number), settings=settings)
    checkpoint = {"persistentVolumeClaim": "ckpt", "path": "/ckpt", "gracePeriodSeconds": 120}
    world.submit(an_elastic_job(nodes=number, **elastic).spec(checkpoint=checkpoint))
    await world.settle()
    await train(world, "wide")
    return world


async def test_it_gives_pods_up_for_a_waiting_job_and_both_run() -> None:
    world = await a_wide_world(4)
    world.submit(a_job("next").nodes(2))
    await world.cycle()
    assert (world.phase("wide"), world.reason("next")) == ("Restarting", "WaitingForPreemption")
    assert graces(world, "wide") == {120}, "it has the time to save"
    assert f"{NAMESPACE}/wide" in world.status("next")["message"]
    await world.settle()
    assert sizes(world, "wide", "next") == {"wide": "Running 2/2", "next": "Running 2/2"}
    status = world.status("wide")
    assert (status["attempt"], status["restarts"], status.get("infrastructureRestarts", 0)) == (2, 0, 0)
    assert environment(world, "wide")["PET_NNODES"] == "2"
    ended = status["history"][-1]
    assert (ended["outcome"], ended["reason"]) == ("Resized", "from 4 to 2 pods: team/next gets what it gives up")
    assert (ended["lastStep"], world.told("wide").count("Resizing")) == (601, 1)
    told = [one for one in world.server.all("events") if one["reason"] == "Resizing"]
    assert told[0]["message"].startswith(
        "Attempt 1 stops and starts again from 4 to 2 pods, so that team/next can start"
    )
    assert world.process.metrics.registry.get_sample_value("stowplan_resizes_total") == 1
    assert not status.get("preemptions")


async def test_a_job_that_gains_nothing_from_more_pods_does_not_grow() -> None:
    world = await a_wide_world(4)
    world.submit(a_job("next").nodes(2))
    await world.settle()
    await train(world, "wide", paces={"wide": 1.0})  # as fast with two pods as with four
    world.succeed("next")
    await world.settle()
    await train(world, "wide")
    assert sizes(world, "wide") == {"wide": "Running 2/2"}


LEFT_ALONE: dict[str, tuple[dict[str, Any], Settings]] = {
    "when the administrator wants none of it": ({}, Settings(elastic=ElasticSettings(resize=False))),
    "before its minimum runtime": ({"preemption": {"minRuntimeSeconds": 3600}}, Settings()),
    "when its smallest size leaves too little": ({"elastic": {"minNodes": 3}}, Settings()),
    "when it is not elastic": ({"elastic": None}, Settings()),
}


@pytest.mark.parametrize(("spec", "settings"), LEFT_ALONE.values(), ids=LEFT_ALONE)
async def test_a_running_job_is_not_resized(spec: dict[str, Any], settings: Settings) -> None:
    world = await a_wide_world(4, settings=settings)
    world.edit("wide", **spec)
    world.submit(a_job("next").nodes(2))
    await world.settle()
    assert sizes(world, "wide", "next") == {"wide": "Running 4/4", "next": "Pending 0/2"}


NOT_PLANNED_WITH_AGAIN: dict[str, tuple[list[QueueBuilder], dict[str, Any], dict[str, Any]]] = {
    "its namespace may use two queues since": ([a_queue("red"), a_queue("blue")], {}, {"queue": "red"}),
    "its namespace stands in another queue since": ([a_queue("open", "*"), a_queue("own")], {}, {"queue": "open"}),
    "its queue is not there": ([], {"queue": "gone"}, {}),
    "its PriorityClass is not there": ([], {"priorityClassName": "gone"}, {}),
    "its topology level is not there": ([], {"topology": {"level": "gone", "mode": "Preferred"}}, {}),
}


@pytest.mark.parametrize(("queues", "spec", "other"), NOT_PLANNED_WITH_AGAIN.values(), ids=NOT_PLANNED_WITH_AGAIN)
async def test_a_job_that_would_only_wait_when_it_has_stopped_is_not_resized(
    queues: list[QueueBuilder], spec: dict[str, Any], other: dict[str, Any]
) -> None:
    world = await a_wide_world(4)
    for queue in queues:
        world.add_queue(queue)
        await world.wait(10)
    world.edit("wide", **spec)
    world.submit(a_job("next").nodes(2).spec(**other))
    await world.settle()
    assert sizes(world, "wide", "next") == {"wide": "Running 4/4", "next": "Pending 0/2"}
    assert world.reason("next") == "WaitingForCapacity"
    for name in spec:
        world.server.change(PLURAL, NAMESPACE, "wide", lambda body, name=name: body["spec"].pop(name))
    for queue in queues[1:]:
        world.server.remove(QUEUES, "", queue.name)
    await world.settle()
    assert sizes(world, "wide", "next") == {"wide": "Running 2/2", "next": "Running 2/2"}


async def test_a_job_that_is_not_known_to_save_is_not_resized() -> None:
    world = World(*nodes(4))
    world.submit(an_elastic_job(nodes=4))
    await world.settle()
    world.now += 600
    world.submit(a_job("next").nodes(2))
    await world.settle()
    assert sizes(world, "wide", "next") == {"wide": "Running 4/4", "next": "Pending 0/2"}


async def test_while_its_pods_leave_one_by_one_nobody_takes_its_room() -> None:
    world = await a_wide_world(4, minNodes=2)
    world.submit(a_job("next").nodes(2))
    world.machinery.terminates = False
    await world.step()
    for name in world.pod_names("wide")[:3]:
        world.server.remove("pods", NAMESPACE, name)
    world.submit(a_job("late").nodes(1))
    for _ in range(3):
        await world.step()
    assert (world.phase("wide"), world.reason("wide"), world.phase("late")) == (
        "Restarting",
        "WaitingForOldPods",
        "Pending",
    )
    world.machinery.terminates = True
    await world.settle()
    assert sizes(world, "wide", "next", "late") == {
        "wide": "Running 2/2",
        "next": "Running 2/2",
        "late": "Pending 0/1",
    }


async def test_room_that_a_failed_gang_is_about_to_take_back_is_not_grown_into() -> None:
    world = await a_wide_world(4)
    world.submit(a_job("next").nodes(2))
    await world.settle()
    await train(world, "wide", paces={"wide": 0.55})
    for _ in range(3):  # the first had run for long
        world.fail("next", 0)
        await world.settle()
    assert (world.reason("next"), world.status("wide")["attempt"]) == ("BackOff", 2)
    await world.wait(30)
    assert sizes(world, "wide", "next") == {"wide": "Running 2/2", "next": "Running 2/2"}


@pytest.mark.parametrize("number", range(1, 10))
@pytest.mark.parametrize("before", [True, False])
async def test_killed_at_any_write_of_a_resize(number: int, *, before: bool) -> None:
    world = await a_wide_world(2)
    world.restart(crash_at=number, crash_before=before)
    world.submit(a_job("next").nodes(1))
    await world.settle()
    assert sizes(world, "wide", "next") == {"wide": "Running 1/1", "next": "Running 1/1"}
    assert [one["outcome"] for one in world.status("wide")["history"]] == ["Resized"]


async def test_an_idle_cluster_with_a_job_that_could_grow_is_planned_once() -> None:
    world = await a_wide_world(2, minNodes=1, maxNodes=4)
    world.server.create("nodes", a_node("cpu").gpus(4).of_product("other").body())
    await world.settle()
    solver = CountingSolver()
    world.process.planner._solver = solver  # counts, and asks the real one
    for _ in range(10):
        await train(world, "wide", seconds=60)
    assert solver.num_plans <= 1


class CountingSolver(InlineSolver):
    """Counts the plans that were asked for."""

    num_plans = 0

    async def plan(self, snapshot: types.Snapshot, settings: types.Settings) -> types.Plan:
        self.num_plans += 1
        return await super().plan(snapshot, settings)


async def test_it_grows_back_when_nobody_waits_and_the_gain_is_worth_it() -> None:
    world = await a_wide_world(4)
    world.submit(a_job("next").nodes(2))
    await world.settle()
    await train(world, "wide", paces={"wide": 0.55})
    world.succeed("next")
    await world.settle()
    assert sizes(world, "wide") == {"wide": "Running 4/4"}
    assert world.status("wide")["history"][-1]["reason"] == "from 2 to 4 pods: nobody waits for the GPUs"
    observed = {one["nodes"] for one in world.status("wide")["elastic"]["observed"]}
    assert observed == {2, 4}
    before = len(world.server.writes)
    await train(world, "wide", seconds=3600)
    assert world.status("wide")["attempt"] == 3
    assert all(write.kind == "trainingjobs" for write in world.server.writes[before:])


async def test_a_job_is_resized_only_so_often_within_an_hour() -> None:
    world = await a_wide_world(4, settings=Settings(elastic=ElasticSettings(max_per_hour=1)))
    world.submit(a_job("next").nodes(2))
    await world.settle()
    await train(world, "wide", paces={"wide": 0.55})
    world.succeed("next")
    await world.settle()
    assert sizes(world, "wide") == {"wide": "Running 2/2"}
    await train(world, "wide", seconds=3600, paces={"wide": 0.55})
    assert sizes(world, "wide") == {"wide": "Running 4/4"}
