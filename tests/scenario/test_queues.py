"""Queues of a running cluster: who may use which, what is borrowed and comes back, and what a faulty queue changes."""

from __future__ import annotations

import pytest

from fakes.builders import NAMESPACE, JobBuilder, QueueBuilder, a_job, a_node, a_queue
from fakes.world import World


def a_world(*queues: QueueBuilder, nodes: int = 4) -> World:
    """Nodes of four GPUs each, and these queues."""
    world = World(*(a_node(f"n{number}") for number in range(1, nodes + 1)))
    for queue in queues:
        world.add_queue(queue)
    return world


def job(name: str, queue: str | None = None, *, nodes: int = 1) -> JobBuilder:
    """Pods of four GPUs, one for each node."""
    return a_job(name).nodes(nodes).spec(**({"queue": queue} if queue else {}))


def two_teams() -> tuple[QueueBuilder, ...]:
    """Each owns two of four nodes and borrows what the other leaves."""
    return (
        a_queue("org", "nobody"),
        a_queue("red").under("org").owns(8),
        a_queue("blue").under("org").owns(8),
    )


async def test_what_is_lent_comes_back_and_the_borrower_returns_at_its_place() -> None:
    world = a_world(*two_teams())
    for name in ("a", "b", "c"):
        world.submit(job(name, "red"))
        world.now += 1
    await world.settle()
    assert {world.phase(name) for name in "abc"} == {"Running"}, "red borrows what blue leaves"
    world.now += 600
    world.submit(job("mine", "blue", nodes=2))
    await world.cycle()
    assert world.reason("mine") == "WaitingForPreemption"
    (victim,) = (name for name in "abc" if world.phase(name) == "Pending")
    status = world.status(victim)
    assert (status["history"][-1]["outcome"], status["history"][-1]["reason"]) == (
        "Preempted",
        f'{NAMESPACE}/mine takes its place: queue "blue" takes back quota that it lent to queue "red"',
    )
    (condition,) = (one for one in status["conditions"] if one["type"] == "Preempted")
    assert (condition["status"], condition["reason"]) == ("True", "QuotaReclaimed")
    (event,) = (one for one in world.server.all("events") if one["reason"] == "Preempted")
    assert 'queue "blue" takes back quota that it lent to queue "red"' in event["message"]
    assert "higher priority" not in event["message"]
    await world.settle()
    assert world.phase("mine") == "Running"
    assert (world.phase(victim), world.reason(victim)) == ("Pending", "WaitingForQuota")
    assert "team/mine" in world.status(victim)["decision"]["blockers"]
    world.succeed("mine")
    await world.settle()
    assert (world.phase(victim), world.status(victim)["attempt"]) == ("Running", 2)


async def test_while_the_borrower_saves_its_quota_is_still_in_use() -> None:
    """Room elsewhere is no way around: quotas are kept at every moment, and nobody else gets what comes back."""
    world = a_world(*two_teams(), nodes=5)
    for name in ("a", "b", "c", "d"):
        world.submit(job(name, "red"))
    await world.settle()
    world.machinery.terminates = False
    world.submit(job("mine", "blue"))
    for _ in range(4):
        await world.step(seconds=61)
    assert (world.phase("mine"), world.reason("mine")) == ("Pending", "WaitingForPreemption")
    assert sum(world.phase(name) == "Pending" for name in "abcd") == 1
    world.machinery.terminates = True
    await world.settle()
    assert world.phase("mine") == "Running"


UNMOVED: dict[str, tuple[QueueBuilder, ...]] = {
    "that reclaims nothing": (
        a_queue("org", "nobody"),
        a_queue("red").under("org").owns(8),
        a_queue("blue").under("org").owns(8).spec(preemption=["WithinQueue"]),
    ),
    "that would borrow itself": (
        a_queue("org", "nobody"),
        a_queue("red").under("org").owns(16),
        a_queue("blue").under("org").owns(0),
    ),
    "of another tree": (a_queue("red").owns(16), a_queue("blue").owns(8)),
}


@pytest.mark.parametrize("queues", UNMOVED.values(), ids=UNMOVED)
async def test_nobody_loses_his_place_to_a_queue(queues: tuple[QueueBuilder, ...]) -> None:
    world = a_world(*queues)
    for name in ("a", "b", "c", "d"):
        world.submit(job(name, "red"))
    await world.settle()
    world.now += 600
    world.submit(job("mine", "blue"))
    await world.settle()
    assert {world.phase(name) for name in "abcd"} == {"Running"}
    assert world.phase("mine") == "Pending"


async def test_within_a_queue_a_higher_priority_takes_a_place() -> None:
    world = a_world(a_queue("red").owns(4))
    world.add_priority_class("high", 1000)
    world.submit(job("low"))
    await world.settle()
    world.submit(job("vip").spec(priorityClassName="high"))
    await world.settle()
    assert (world.phase("low"), world.phase("vip")) == ("Pending", "Running")
    (condition,) = (one for one in world.status("low")["conditions"] if one["type"] == "Preempted")
    assert condition["reason"] == "HigherPriority"
