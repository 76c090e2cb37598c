"""Which queues can be planned with, and in which of them a job stands."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.builders import H100, NAMESPACE, QueueBuilder, a_job, a_queue
from stowplan_allocator import types
from stowplan_operator import queueing
from stowplan_operator.settings import Settings
from stowplan_operator.snapshot import build_job
from stowplan_operator.views import PriorityClass


def read(*queues: QueueBuilder) -> queueing.Queues:
    return queueing.read(queue.view() for queue in queues)


TEAM, OTHER = a_queue("team-q"), a_queue("other-q")
FOREIGN, OPEN = a_queue("foreign", "elsewhere"), a_queue("open", "*")
ORPHAN = a_queue("orphan").under("nowhere")

CHOICES: dict[str, tuple[tuple[QueueBuilder, ...], str | None, str, tuple[str, ...]]] = {
    "without queues": ((), None, "", ()),
    "the only one that names the namespace": ((TEAM, FOREIGN), None, "team-q", ()),
    "the only one that admits all": ((OPEN, FOREIGN), None, "open", ()),
    "one that names the namespace before one that admits all": ((OPEN, TEAM), None, "team-q", ("open",)),
    "the one that is named": ((TEAM, OTHER), "other-q", "other-q", ("team-q",)),
    "one that admits all, by name": ((TEAM, OPEN), "open", "open", ("team-q",)),
    "none admits the namespace": ((FOREIGN,), None, "", ()),
    "a queue with others below it": ((TEAM.under("top"), a_queue("top")), "top", "top", ("team-q",)),
    "queues that cannot be planned with are no alternative": ((TEAM, ORPHAN), "team-q", "team-q", ()),
}


@pytest.mark.parametrize(("queues", "named", "want", "others"), CHOICES.values(), ids=CHOICES)
def test_a_waiting_job_stands_in(
    queues: tuple[QueueBuilder, ...], named: str | None, want: str, others: tuple[str, ...]
) -> None:
    assert read(*queues).choose(NAMESPACE, named=named) == queueing.Choice(want, others)


REFUSALS: dict[str, tuple[tuple[QueueBuilder, ...], str | None, str]] = {
    "several queues and none named": (
        (TEAM, OTHER),
        None,
        'spec.queue: namespace "team" may use 2 queues, other-q, team-q; name one of them',
    ),
    "a queue that is not there": (
        (TEAM,),
        "gone",
        'spec.queue: there is no queue "gone"; namespace "team" may use team-q',
    ),
    "a queue that is not there, and none that could be named": (
        (FOREIGN,),
        "gone",
        'spec.queue: there is no queue "gone"; no queue admits namespace "team": remove the field, or have a queue '
        "admit it",
    ),
    "a queue of others": (
        (TEAM, FOREIGN),
        "foreign",
        'spec.queue: queue "foreign" does not admit namespace "team" (its spec.namespaces); namespace "team" may use '
        "team-q",
    ),
    "a queue that cannot be planned with": (
        (ORPHAN,),
        None,
        'queue "orphan" cannot be planned with: spec.parent: there is no queue "nowhere"; create it, or name another',
    ),
}


@pytest.mark.parametrize(("queues", "named", "want"), REFUSALS.values(), ids=REFUSALS)
def test_a_waiting_job_is_told_what_to_change(queues: tuple[QueueBuilder, ...], named: str | None, want: str) -> None:
    with pytest.raises(ValueError, match="queue") as caught:
        read(*queues).choose(NAMESPACE, named=named)
    assert str(caught.value) == want


PLACED: dict[str, tuple[tuple[QueueBuilder, ...], str | None, str, str]] = {
    "where it stood": ((TEAM, OTHER), None, "team-q", "team-q"),
    "where it stood, though it names another since": ((TEAM, OTHER), "other-q", "team-q", "team-q"),
    "where it stood, though it may not use what it names": ((TEAM, FOREIGN), "foreign", "team-q", "team-q"),
    "nowhere, while its queue cannot be planned with, whatever it names": ((ORPHAN, TEAM), "team-q", "orphan", ""),
    "in the queue that it names, when its own is gone": ((OTHER,), "other-q", "team-q", "other-q"),
    "where it stood, though its namespace is no longer admitted": ((FOREIGN, TEAM), None, "foreign", "foreign"),
    "nowhere, when its queue is gone": ((FOREIGN,), None, "team-q", ""),
    "nowhere, when its queue is gone and its namespace has another": ((OTHER,), None, "team-q", ""),
    "nowhere, while its queue cannot be planned with": ((ORPHAN,), None, "orphan", ""),
    "in the only queue of its namespace, when it was placed before there were any": ((TEAM,), None, "", "team-q"),
    "nowhere, when there are several that it could have named": ((TEAM, OTHER), None, "", ""),
}


@pytest.mark.parametrize(("queues", "named", "stood_in", "want"), PLACED.values(), ids=PLACED)
def test_a_job_with_a_place_counts(
    queues: tuple[QueueBuilder, ...], named: str | None, stood_in: str, want: str
) -> None:
    assert read(*queues).of_placed(NAMESPACE, named=named, stood_in=stood_in) == want


LOOP = (a_queue("a").under("b"), a_queue("b").under("c"), a_queue("c").under("b"))
FAULTS: dict[str, tuple[tuple[QueueBuilder, ...], dict[str, str]]] = {
    "a parent that is not there takes those below with it": (
        (a_queue("a").under("b"), a_queue("b").under("gone"), a_queue("fine")),
        {
            "a": 'spec.parent (of queue "b", above this one): there is no queue "gone"; create it, or name another',
            "b": 'spec.parent: there is no queue "gone"; create it, or name another',
        },
    ),
    "a circle, and a queue below it": (
        LOOP,
        {
            "a": "spec.parent: b → c → b is a circle; remove spec.parent of one of them",
            "b": "spec.parent: b → c → b is a circle; remove spec.parent of one of them",
            "c": "spec.parent: c → b → c is a circle; remove spec.parent of one of them",
        },
    ),
    "a spec that the API server would not have taken": (
        (a_queue("a").under("b"), a_queue("b").spec(quotas=[{"product": H100, "nominal": "many"}])),
        {
            "a": 'spec.parent: queue "b" cannot be planned with: spec.quotas.0.nominal: Input should be a valid '
            "integer, unable to parse string as an integer",
            "b": "spec.quotas.0.nominal: Input should be a valid integer, unable to parse string as an integer",
        },
    ),
    "a product twice": ((a_queue("a").owns(1).owns(2),), {"a": f'spec: quotas name "{H100}" twice; keep one of them'}),
    "a weight that is none": (
        (a_queue("a").spec(weight="-1"),),
        {"a": "spec.weight: '-1' is not a decimal above 0; write it as a text such as \"1.5\""},
    ),
    "a tree that is too deep": (
        (*tuple(a_queue(f"q{n:02}").under(f"q{n + 1:02}") for n in range(33)), a_queue("q33")),
        {
            "q00": "spec.parent: more than 32 levels; name a queue nearer to the top",
            "q01": "spec.parent: more than 32 levels; name a queue nearer to the top",
        },
    ),
}


@pytest.mark.parametrize(("queues", "want"), FAULTS.values(), ids=FAULTS)
def test_queues_that_cannot_be_planned_with_are_left_out_and_say_why(
    queues: tuple[QueueBuilder, ...], want: dict[str, str]
) -> None:
    found = read(*queues)
    assert {name: door.fault for name, door in found.doors.items() if door.fault} == want
    assert {queue.name for queue in found.planned} == {queue.name for queue in queues} - set(want)


MENDERS: dict[str, tuple[tuple[QueueBuilder, ...], dict[str, str]]] = {
    "whose parent is not there": (
        FAULTS["a parent that is not there takes those below with it"][0],
        {"a": "b", "b": "b"},
    ),
    "of a circle any": (LOOP, {"a": "c", "b": "c", "c": "b"}),
    "which cannot be read": (FAULTS["a spec that the API server would not have taken"][0], {"a": "b", "b": "b"}),
}


@pytest.mark.parametrize(("queues", "want"), MENDERS.values(), ids=MENDERS)
def test_the_queue_to_correct_is_that(queues: tuple[QueueBuilder, ...], want: dict[str, str]) -> None:
    found = read(*queues)
    assert {name: door.to_mend for name, door in found.doors.items() if door.to_mend} == want
    for name in (name for name in want if NAMESPACE in found.doors[name].namespaces):
        with pytest.raises(queueing.QueueFaultError) as caught:
            found.choose(NAMESPACE, named=name)
        assert (caught.value.queue, caught.value.to_mend) == (name, want[name])


def test_a_queue_as_the_allocator_has_it() -> None:
    given = a_queue("a").under("top").spec(weight="1.5", preemption=["WithinQueue"]).owns(8, borrows=4, lends=2)
    given = given.limits(runningJobs=3, acceleratorsPerJob=16, runSeconds=3600)
    found = {queue.name: queue for queue in read(given, a_queue("top")).planned}
    assert found["a"] == types.Queue(
        name="a",
        parent="top",
        weight_milli=1500,
        quotas=(types.Quota(H100, 8, 4, 2),),
        max_running_jobs=3,
        max_accelerators_per_job=16,
        max_run_seconds=3600,
        preemption=(types.QueuePreemption.WITHIN_QUEUE,),
    )
    assert found["top"] == types.Queue(name="top")


def test_the_shortest_run_time_on_the_way_up_holds() -> None:
    found = read(
        a_queue("a").under("b").limits(runSeconds=200), a_queue("b").under("c").limits(runSeconds=100), a_queue("c")
    )
    assert found.run_limit("a") == queueing.RunLimit(100, 'limits.runSeconds of queue "b"')
    assert found.run_limit("c") is None
    assert found.run_limit("") is None


DEFAULT = a_queue("q").spec(defaultPriorityClassName="high")
PRIORITIES = {"high": PriorityClass(1000), "low": PriorityClass(10, preempts=False)}
STANDINGS: dict[str, tuple[QueueBuilder, dict[str, Any], int]] = {
    "the class that it names": (DEFAULT, {"priorityClassName": "low"}, 10),
    "else that of its queue": (DEFAULT, {}, 1000),
    "else the cluster's": (a_queue("q"), {}, 7),
}


@pytest.mark.parametrize(("queue", "spec", "want"), STANDINGS.values(), ids=STANDINGS)
@pytest.mark.parametrize("placed", [False, True], ids=["waiting", "placed"])
def test_the_priority_of_a_job_is(queue: QueueBuilder, spec: dict[str, Any], want: int, *, placed: bool) -> None:
    job = a_job().spec(**spec)
    job = job.placed_on("n1", "n2") if placed else job
    built = build_job(
        job.view(),
        job.parsed(),
        priorities=PRIORITIES,
        default_priority=PriorityClass(7),
        settings=Settings(),
        queues=read(queue),
    )
    assert (built.priority, built.queue) == (want, "q")


def test_a_queue_whose_priority_class_is_gone_says_so_to_those_who_name_none() -> None:
    queue, job = a_queue("q").spec(defaultPriorityClassName="gone"), a_job()
    arguments: dict[str, Any] = {"priorities": PRIORITIES, "default_priority": PriorityClass(), "settings": Settings()}
    with pytest.raises(ValueError, match="defaultPriorityClassName") as caught:
        build_job(job.view(), job.parsed(), queues=read(queue), **arguments)
    assert str(caught.value) == (
        "spec.priorityClassName: queue \"q\" gives its jobs PriorityClass 'gone' (its spec.defaultPriorityClassName), "
        "which does not exist; name one of high, low, or have the queue changed"
    )
    job = job.spec(priorityClassName="low")
    assert build_job(job.view(), job.parsed(), queues=read(queue), **arguments).priority == 10
