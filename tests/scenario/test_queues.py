"""Queues of a running cluster: who may use which, what is borrowed and comes back, and what a faulty queue changes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from fakes.builders import H100, NAMESPACE, JobBuilder, QueueBuilder, a_job, a_node, a_queue
from fakes.world import World
from stowplan_operator import api, kube


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


QUEUES_OF_A_NAMESPACE: dict[str, tuple[tuple[QueueBuilder, ...], str | None, str, str]] = {
    "none": ((), None, "Running", ""),
    "one, and the job names none": ((a_queue("red"),), None, "Running", "red"),
    "several, and the job names none": ((a_queue("red"), a_queue("blue")), None, "Misconfigured", ""),
    "several, and the job names one": ((a_queue("red"), a_queue("blue")), "blue", "Running", "blue"),
    "one of its own and one for all": ((a_queue("red"), a_queue("open", "*")), None, "Running", "red"),
    "one for all": ((a_queue("open", "*"),), None, "Running", "open"),
    "none that admits it": ((a_queue("foreign", "elsewhere"),), None, "Running", ""),
    "one that does not admit it": ((a_queue("foreign", "elsewhere"),), "foreign", "Misconfigured", ""),
    "one that is not there": ((a_queue("red"),), "gone", "Misconfigured", ""),
    "one whose parent is not there": ((a_queue("red").under("gone"),), None, "Misconfigured", ""),
}


@pytest.mark.parametrize(
    ("queues", "named", "want", "queue"), QUEUES_OF_A_NAMESPACE.values(), ids=QUEUES_OF_A_NAMESPACE
)
async def test_the_queue_of_a_job(queues: tuple[QueueBuilder, ...], named: str | None, want: str, queue: str) -> None:
    world = a_world(*queues)
    world.submit(job("a", named))
    await world.settle()
    assert world.status("a").get("queue", "") == queue
    assert want in (world.phase("a"), world.reason("a"))
    if want == "Misconfigured":
        assert "queue" in world.status("a")["message"].partition(":")[0], "the field, or the queue that is wrong"


async def test_a_job_that_names_no_queue_of_several_starts_when_it_does() -> None:
    world = a_world(a_queue("red").owns(8), a_queue("blue").owns(8))
    world.submit(job("a"))
    await world.settle()
    assert world.status("a")["message"] == (
        'spec.queue: namespace "team" may use 2 queues, blue, red; name one of them'
    )
    world.edit("a", queue="blue")
    await world.settle()
    assert world.phase("a") == "Running"
    await world.wait(10)
    assert world.queue("blue")["gpus"] == "4/8"


async def test_a_waiting_job_moves_to_another_queue_by_its_field() -> None:
    world = a_world(a_queue("red").owns(0), a_queue("blue").owns(8))
    world.submit(job("a", "red"))
    await world.settle()
    assert (world.reason("a"), world.status("a")["queue"]) == ("ExceedsQuota", "red")
    world.edit("a", queue="blue")
    await world.settle()
    assert (world.phase("a"), world.status("a")["queue"]) == ("Running", "blue")


async def test_a_running_job_counts_where_it_started_whatever_it_names_until_it_starts_again() -> None:
    world = a_world(a_queue("red").owns(4), a_queue("blue").owns(0))
    world.submit(job("a", "red"))
    await world.settle()
    for name in ("blue", "gone"):
        world.edit("a", queue=name)
        await world.settle()
        assert (world.phase("a"), world.status("a")["queue"]) == ("Running", "red")
    world.submit(job("b", "red"))
    await world.settle()
    assert (world.phase("b"), world.reason("b")) == ("Pending", "WaitingForQuota"), "its quota is not free again"
    world.edit("a", queue="blue")
    world.fail("a", 0)
    await world.wait(30)
    assert (world.phase("b"), world.status("a")["queue"]) == ("Running", "blue")
    assert world.reason("a") == "ExceedsQuota"


async def test_a_queue_that_loses_its_parent_says_so_and_its_jobs_wait_while_others_go_on() -> None:
    world = a_world(*two_teams())
    world.submit(job("a", "red"))
    await world.settle()
    world.edit_queue("red", parent="gone")
    for name in ("later", "other"):
        world.submit(job(name, "red" if name == "later" else "blue"))
    await world.settle()
    assert world.phase("a") == "Running", "nobody loses his place for a fault in a Queue"
    assert (world.reason("later"), world.phase("other")) == ("Misconfigured", "Running")
    decision = world.status("later")["decision"]
    assert decision["message"].startswith('queue "red" cannot be planned with: spec.parent: there is no queue "gone"')
    assert decision["numbers"] == {"queue_to_mend": "red"}
    (active,) = world.queue("red")["conditions"]
    assert (active["type"], active["status"], active["reason"]) == ("Active", "False", "Misconfigured")
    assert active["message"] == (
        'spec.parent: there is no queue "gone"; create it, or name another. Its jobs wait; those that run keep their '
        "places"
    )
    red = world.queue("red")
    assert (red["runningJobs"], red["pendingJobs"], red["gpus"], red["pendingGpus"]) == (1, 1, "4/8", "4")
    assert world.status("later")["gpus"] == 4, "what it asks for can be read"
    await world.wait(10)
    assert world.queue("blue")["gpus"] == "4/8"
    assert world.queue("org")["gpus"] == "4/8", "what is below the fault is not counted above it"
    world.edit_queue("red", parent="org")
    await world.settle()
    assert world.phase("later") == "Running"
    (active,) = world.queue("red")["conditions"]
    assert active["status"] == "True"


async def test_while_its_queue_cannot_be_planned_with_nobody_takes_a_jobs_place() -> None:
    world = a_world(*two_teams())
    for name in "abcd":
        world.submit(job(name, "red"))
    await world.settle()
    world.edit_queue("red", parent="gone")
    world.submit(job("mine", "blue"))
    await world.settle()
    assert {world.phase(name) for name in "abcd"} == {"Running"}
    world.edit_queue("red", parent="org")
    await world.settle()
    assert world.phase("mine") == "Running", "it gets what it owns when the fault is mended"


async def test_a_job_whose_queue_is_deleted_runs_on_as_a_guest() -> None:
    world = a_world(*two_teams())
    for name in "abc":
        world.submit(job(name, "red"))
    await world.settle()
    world.server.remove(api.QUEUES, "", "red")
    await world.settle()
    assert {world.phase(name) for name in "abc"} == {"Running"}
    world.submit(job("mine", "blue", nodes=2))
    await world.settle()
    assert world.phase("mine") == "Running"
    (guest,) = (name for name in "abc" if world.phase(name) == "Pending")
    assert world.reason(guest) == "Misconfigured"
    assert "that it lent to jobs without a queue" in world.status(guest)["history"][-1]["reason"]


async def test_a_job_whose_queue_is_deleted_is_in_no_other_queue_by_that_and_comes_back_with_its_own() -> None:
    own, shared = a_queue("own").admits(NAMESPACE).owns(8), a_queue("shared").admits("*").owns(4).limits(runSeconds=60)
    world = a_world(own, shared)
    world.submit(a_job("a").nodes(1))
    await world.settle()
    await world.wait(600)
    world.server.remove(api.QUEUES, "", "own")
    for _ in range(3):
        await world.step()
    await world.wait(15)
    assert (world.phase("a"), world.queue("shared")["gpus"]) == ("Running", "0/4")
    world.add_queue(own)
    await world.settle()
    await world.wait(15)
    assert (world.phase("a"), world.queue("own")["gpus"]) == ("Running", "4/8")


async def test_one_job_that_cannot_be_read_in_a_queue_with_a_fault_stops_nobody() -> None:
    world = a_world(a_queue("own").admits(NAMESPACE))
    world.submit(a_job("odd").nodes(9))
    world.submit(a_job("fine"))
    await world.settle()
    history = [{"attempt": 1, "nodes": 1, "lastStep": 3}]
    world.server.change(api.PLURAL, NAMESPACE, "odd", lambda job: job["status"].update(attempt=1, history=history))
    world.edit_queue("own", parent="gone")
    await world.settle()
    world.succeed("fine")
    await world.settle()
    assert world.phase("fine") == "Succeeded"


async def test_limits_of_a_queue() -> None:
    world = a_world(a_queue("red").limits(runningJobs=1, acceleratorsPerJob=4, runSeconds=600))
    world.submit(job("a"))
    await world.settle()
    world.submit(job("b"))
    world.submit(job("big", nodes=2))
    await world.settle()
    assert {name: world.reason(name) for name in ("a", "b", "big")} == {
        "a": "AllPodsRunning",
        "b": "WaitingForQuota",
        "big": "ExceedsQuota",
    }
    assert world.status("b")["message"].endswith('queue "red" may run 1 job and runs 1')
    assert 'queue "red" allows at most 4 for one job' in world.status("big")["message"]
    await world.wait(600)
    failure = world.status("a")["lastFailure"]
    assert (world.phase("a"), failure["reason"]) == ("Failed", "DeadlineExceeded")
    assert failure["message"] == 'the job ran longer than limits.runSeconds of queue "red" (600 s)'
    assert world.phase("b") == "Running"


async def test_the_smaller_of_two_run_times_holds() -> None:
    world = a_world(a_queue("red").limits(runSeconds=600))
    world.submit(job("a").spec(activeDeadlineSeconds=300))
    await world.settle()
    await world.wait(300)
    assert world.status("a")["lastFailure"]["message"] == ("the job ran longer than spec.activeDeadlineSeconds (300 s)")


async def test_a_run_time_that_is_set_later_ends_who_is_past_it_and_says_from_when_it_counts() -> None:
    world = a_world(a_queue("red"), nodes=2)
    world.add_priority_class("high", 1000)
    for name in ("a", "b"):
        world.submit(job(name))
    await world.settle()
    await world.wait(500)
    world.submit(job("vip").spec(priorityClassName="high"))
    await world.settle()
    (waits,) = (name for name in ("a", "b") if world.phase(name) == "Pending")
    (runs,) = {"a", "b"} - {waits}
    await world.wait(200)
    world.edit_queue("red", limits={"runSeconds": 600})
    await world.settle()
    assert [world.phase(name) for name in (waits, runs, "vip")] == ["Failed", "Failed", "Running"]
    assert world.status(runs)["lastFailure"]["message"].startswith("the job ran longer than limits.runSeconds")
    found = re.fullmatch(
        r'the job first started (\d+) s ago, and limits\.runSeconds of queue "red" \(600 s\) counts from then on, '
        "restarts and waiting in between included",
        world.status(waits)["lastFailure"]["message"],
    )
    assert found is not None
    assert int(found[1]) >= 700


async def test_a_waiting_job_starts_when_its_queue_gets_more() -> None:
    world = a_world(a_queue("red").owns(4))
    for name in ("a", "b"):
        world.submit(job(name))
    await world.settle()
    assert [world.phase(name) for name in ("a", "b")] == ["Running", "Pending"]
    world.edit_queue("red", quotas=[{"product": H100, "nominal": 8}])
    await world.settle()
    assert world.phase("b") == "Running"
    world.edit_queue("red", quotas=[{"product": H100, "nominal": 0}])
    await world.settle()
    assert [world.phase(name) for name in ("a", "b")] == ["Running", "Running"], "a lowered quota stops nobody"


async def test_a_status_of_a_queue() -> None:
    world = a_world(*two_teams())
    for name in "abc":
        world.submit(job(name, "red"))
    world.submit(job("large", "blue", nodes=9))
    await world.settle()
    await world.wait(10)
    red, org = world.queue("red"), world.queue("org")
    assert {key: red[key] for key in ("runningJobs", "pendingJobs", "gpus", "pendingGpus", "borrowed", "lent")} == {
        "runningJobs": 3,
        "pendingJobs": 0,
        "gpus": "12/8",
        "pendingGpus": "0",
        "borrowed": "4",
        "lent": "0",
    }
    assert (world.queue("blue")["lent"], world.queue("blue")["pendingGpus"]) == ("4", "36")
    assert (org["gpus"], org["runningJobs"], org["pendingJobs"], org["borrowed"]) == ("12/16", 3, 1, "0")
    assert red["fairShare"] == {"share": "75%", "ideal": "50%"}
    assert red["products"] == [
        {"product": H100, "nominal": 8, "owned": 8, "used": 12, "pending": 0, "borrowed": 4, "lent": 0}
    ]
    assert (
        world.process.metrics.registry.get_sample_value(
            "stowplan_queue_gpus", {"queue": "red", "product": H100, "state": "borrowed"}
        )
        == 4
    )


async def test_numbers_of_a_queue_are_written_at_most_every_ten_seconds_and_then_by_the_clock_alone() -> None:
    world = a_world(a_queue("red"), nodes=8)
    await world.settle()
    before = len(world.writes("patch", api.QUEUES))
    for number in range(8):
        world.submit(job(f"j{number}"))
        await world.step(seconds=1)
    assert len(world.writes("patch", api.QUEUES)) - before <= 1
    await world.settle(seconds=0)
    assert 0 < world.pause <= 10
    await world.wait(world.pause)
    assert world.queue("red")["runningJobs"] == 8


async def test_a_priority_class_that_a_queue_names_and_nobody_has() -> None:
    world = a_world(a_queue("red").spec(defaultPriorityClassName="batch"))
    world.submit(job("a"))
    await world.settle()
    (active,) = world.queue("red")["conditions"]
    assert (active["status"], active["reason"]) == ("True", "PriorityClassMissing")
    assert world.reason("a") == "Misconfigured"
    world.add_priority_class("batch", 5)
    await world.settle()
    assert world.phase("a") == "Running"
    (active,) = world.queue("red")["conditions"]
    assert active["reason"] == "Planned"


async def test_two_queues_that_name_one_namespace_both_say_so_until_one_lets_go() -> None:
    world = a_world(a_queue("red", NAMESPACE), a_queue("blue", "other", NAMESPACE), a_queue("open", "*"))
    world.submit(job("a"))
    await world.settle()
    assert world.reason("a") == "Misconfigured"
    (red,), (blue,), (every,) = (world.queue(name)["conditions"] for name in ("red", "blue", "open"))
    assert (red["status"], red["reason"], every["reason"]) == ("True", "NamespaceShared", "Planned")
    assert red["message"] == (
        'spec.namespaces: namespace "team" may use queue "blue", too: jobs of it that name no queue wait as '
        "Misconfigured. Keep the namespace in one of the queues, or set spec.queue of its jobs"
    )
    assert 'namespace "team" may use queue "red", too' in blue["message"]
    world.edit_queue("blue", namespaces=["other"])
    await world.settle()
    assert world.reason("a") == "AllPodsRunning"
    assert [world.queue(name)["conditions"][0]["reason"] for name in ("red", "blue")] == ["Planned", "Planned"]


async def test_two_queues_that_admit_all_share_the_namespaces_that_no_queue_names() -> None:
    world = a_world(a_queue("red", "*"), a_queue("blue", "*"))
    world.submit(job("a"))
    await world.settle()
    assert world.reason("a") == "Misconfigured"
    world.add_queue(a_queue("own", NAMESPACE))
    await world.settle()
    assert (world.reason("a"), world.status("a")["queue"]) == ("AllPodsRunning", "own")
    assert world.queue("red")["conditions"][0]["message"] == (
        'spec.namespaces: queue "blue" admits every namespace, too: jobs of namespaces that no queue names wait as '
        'Misconfigured where they name no queue. Keep "*" in one of the queues, or set spec.queue of those jobs'
    )
    assert [world.queue(name)["conditions"][0]["reason"] for name in ("blue", "own")] == ["NamespaceShared", "Planned"]


async def test_two_queues_that_name_several_namespaces_say_so_of_all() -> None:
    world = a_world(a_queue("red", NAMESPACE, "x", "y"), a_queue("blue", "x", "y", NAMESPACE), a_queue("green", "x"))
    await world.settle()
    assert world.queue("red")["conditions"][0]["message"] == (
        'spec.namespaces: namespace "team" may use queue "blue", too, and 2 more of its namespaces may use others: '
        "jobs of them that name no queue wait as Misconfigured. Keep each namespace in one of the queues, or set "
        "spec.queue of its jobs"
    )


async def test_a_queue_whose_status_cannot_be_written_stops_nothing() -> None:
    world = a_world(a_queue("red"))
    world.process.connection.refuse = lambda verb, kind, name: (
        kube.ApiError(403, "Forbidden", "no right") if kind == api.QUEUES else None
    )
    world.submit(job("a"))
    for _ in range(6):
        await world.step()
    assert world.phase("a") == "Running"


CHANGES_OF_QUEUES: dict[str, Callable[[World], object]] = {
    "one is made": lambda world: world.add_queue(a_queue("new")),
    "one is deleted": lambda world: world.server.remove(api.QUEUES, "", "red"),
}


@pytest.mark.parametrize("change", CHANGES_OF_QUEUES.values(), ids=CHANGES_OF_QUEUES)
@pytest.mark.parametrize("kind", [api.PLURAL, api.QUEUES])
async def test_while_a_cycle_goes_on(change: Callable[[World], object], kind: str) -> None:
    """Before its first write of this kind, and the watch shows it at once."""
    world = a_world(a_queue("blue"), a_queue("red"))
    changes = [change]

    def show(verb: str, written: str, name: str) -> None:
        if written == kind and changes:
            changes.pop()(world)
            world.process.watch.deliver()

    world.process.connection.refuse = show
    world.submit(job("a", "blue"))
    await world.settle()
    assert not changes
    assert world.phase("a") == "Running"
    for body in world.server.all(api.QUEUES):
        assert body["status"]["conditions"][0]["status"] == "True", body["metadata"]["name"]


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("before", [True, False])
async def test_killed_at_any_write_while_a_quota_comes_back(number: int, *, before: bool) -> None:
    world = a_world(*two_teams())
    for name in "abc":
        world.submit(job(name, "red"))
    await world.settle()
    world.restart(crash_at=number, crash_before=before)
    world.now += 60
    world.submit(job("mine", "blue", nodes=2))
    await world.settle()
    assert world.phase("mine") == "Running"
    assert sum(world.status(name).get("preemptions", 0) for name in "abc") == 1
    await world.wait(10)
    assert (world.queue("blue")["gpus"], world.queue("red")["gpus"]) == ("8/8", "8/8")
