"""What a gang loses if it leaves, and which gangs are leaving already."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stowplan_allocator
from fakes.builders import H100, NOW, JobBuilder, PodBuilder, a_gang, a_job, an_attempt, time_text
from stowplan_allocator import types
from stowplan_operator import api, preemption
from stowplan_operator.settings import PreemptionSettings
from stowplan_operator.views import parse_time
from unit.allocator import worlds

LATER = NOW + 7200
RUNNING = a_job("a").placed_on("n1", "n2", attempt=1).started(NOW)
LOSSES: dict[str, tuple[JobBuilder, int | None]] = {
    "what was done since the last checkpoint, and the restart": (
        RUNNING.status(progress={"checkpointTime": time_text(LATER - 600)}),
        8 * (600 + 60),
    ),
    "whole minutes only": (RUNNING.status(progress={"checkpointTime": time_text(LATER - 659)}), 8 * (600 + 60)),
    "without a checkpoint half an hour at most": (RUNNING, 8 * (1800 + 60)),
    "a checkpoint of an earlier attempt saves nothing of this one": (
        RUNNING.status(progress={"checkpointTime": time_text(NOW - 60)}),
        8 * (1800 + 60),
    ),
    "the restart as it was measured": (
        RUNNING.status(progress={"checkpointTime": time_text(LATER - 600)}, restartSeconds=300),
        8 * (600 + 300),
    ),
    "a gang that has not started loses the restart": (a_job("a").placed_on("n1", "n2", attempt=1), 8 * 60),
    "a gang without accelerators loses time as well": (RUNNING.gpus(0), 1 * (1800 + 60)),
    "a job that must keep its place": (RUNNING.spec(preemption={"preemptible": False}), None),
    "a job that has not run long enough": (RUNNING.spec(preemption={"minRuntimeSeconds": 7201}), None),
    "a job that has": (RUNNING.spec(preemption={"minRuntimeSeconds": 7200}), 8 * (1800 + 60)),
    "a job that was preempted three times within the hour": (
        RUNNING.ended(*(an_attempt(n, begin=LATER - 3000, outcome="Preempted") for n in (1, 2, 3))),
        None,
    ),
    "a job that was preempted three times, once long ago": (
        RUNNING.ended(
            *(an_attempt(n, begin=LATER - begin, outcome="Preempted") for n, begin in enumerate((3700, 9, 9)))
        ),
        8 * (1800 + 60),
    ),
}


@pytest.mark.parametrize(("job", "want"), LOSSES.values(), ids=LOSSES)
def test_disruption_cost(job: JobBuilder, want: int | None) -> None:
    gpus = 8 if job.body()["spec"]["resourcesPerNode"].get("nvidia.com/gpu") else 0
    cost = preemption.disruption_cost(
        job.view(), job.parsed(), num_accelerators=gpus, settings=PreemptionSettings(), now_seconds=LATER
    )
    assert cost == want


OFTEN = RUNNING.ended(*(an_attempt(n, begin=LATER - 3000 + n, outcome="Preempted") for n in (1, 2, 3)))
SAVED = {"checkpointTime": time_text(LATER - 600)}
OVER_OFTEN = "it gave way 3 times within an hour, settings.preemption.maxPerHour"
# A job that must not be disturbed -> until when, what it would lose then, and why.
PROTECTED: dict[str, tuple[JobBuilder, types.Protection | None]] = {
    "its minimum runtime": (
        RUNNING.spec(preemption={"minRuntimeSeconds": 7800}).status(progress=SAVED),
        types.Protection(int(NOW + 7800), 8 * (1200 + 60), "preemption.minRuntimeSeconds"),
    ),
    "an hour from its third last preemption": (
        OFTEN,
        types.Protection(int(parse_time(OFTEN.view().status["history"][0]["endTime"])) + 3600, 8 * 1860, OVER_OFTEN),
    ),
    "the later of both": (
        OFTEN.spec(preemption={"minRuntimeSeconds": 36_000}),
        types.Protection(int(NOW + 36_000), 8 * 1860, "preemption.minRuntimeSeconds"),
    ),
    "for ever": (RUNNING.spec(preemption={"preemptible": False}), None),
    "nobody knows before it has started": (
        a_job("a").placed_on("n1", "n2").spec(preemption={"minRuntimeSeconds": 60}),
        None,
    ),
}


@pytest.mark.parametrize(("job", "want"), PROTECTED.values(), ids=PROTECTED)
def test_protection(job: JobBuilder, want: types.Protection | None) -> None:
    found = preemption.protection(job.view(), job.parsed(), num_accelerators=8, settings=PreemptionSettings())
    assert found == want


RELEASED = a_job("a").status(attempt=1, phase="Pending")
GANG = [pod.running() for pod in a_gang(RELEASED, "n1", "n2", attempt=1)]
LEAVING: dict[str, tuple[list[JobBuilder], list[PodBuilder], bool, dict[str, list[str]]]] = {
    "pods of a victim": (
        [RELEASED.ended(an_attempt(1, outcome="Preempted"))],
        GANG,
        True,
        {"uid-a/1": ["n1", "n2"]},
    ),
    "where nobody can be preempted, only these": ([RELEASED.ended(an_attempt(1))], GANG, True, {}),
    "else pods of any attempt that no status asks for": ([RELEASED], GANG, False, {"uid-a/1": ["n1", "n2"]}),
    "of a job that is gone": ([], GANG, False, {"uid-a/1": ["n1", "n2"]}),
    "of a job that has failed": ([RELEASED.phase(api.Phase.FAILED)], GANG, False, {"uid-a/1": ["n1", "n2"]}),
    "not those that have ended": ([RELEASED], [GANG[0].succeeded(), GANG[1]], False, {"uid-a/1": ["n2"]}),
    "not those of the placed attempt": ([a_job("a").placed_on("n1", "n2", attempt=1)], GANG, False, {}),
    "not those on a lost node": ([RELEASED], [GANG[0], GANG[1].on("lost")], False, {"uid-a/1": ["n1"]}),
}


@pytest.mark.parametrize(("jobs", "pods", "only_victims", "want"), LEAVING.values(), ids=LEAVING)
def test_leaving(
    jobs: list[JobBuilder], pods: list[PodBuilder], only_victims: bool, want: dict[str, list[str]]
) -> None:
    found = preemption.leaving(
        [job.view() for job in jobs],
        [pod.view() for pod in pods],
        lost_nodes={"lost"},
        only_victims=only_victims,
    )
    gangs = {gang.id: [share.node for share in gang.placement.shares if gang.placement] for gang in found.gangs}
    assert gangs == want
    assert all(gang.leaving and gang.pod.accelerators == 4 for gang in found.gangs)
    assert len(found.pods) == sum(len(nodes) for nodes in want.values())


def a_request(name: str, queue: str = "", *, priority: int = 0, preempts: bool = True) -> types.Job:
    return types.Job(name, name, 1, types.Resources(accelerators=1), priority=priority, queue=queue, preempts=preempts)


RECLAIM, WITHIN = types.QueuePreemption.RECLAIM_LENT, types.QueuePreemption.WITHIN_QUEUE
BOTH = (types.Queue("red"), types.Queue("blue"))
THREATS: dict[str, tuple[list[types.Job], tuple[types.Queue, ...], types.Job, bool]] = {
    "nobody waits": ([], (), a_request("r"), False),
    "one of higher priority waits": ([a_request("w", priority=1)], (), a_request("r"), True),
    "one of equal priority waits": ([a_request("w")], (), a_request("r"), False),
    "one of higher priority that preempts nobody waits": (
        [a_request("w", priority=1, preempts=False)],
        (),
        a_request("r"),
        False,
    ),
    "one of another queue waits, whatever its priority": (
        [a_request("w", "red", priority=-1)],
        BOTH,
        a_request("r", "blue"),
        True,
    ),
    "one of the same queue and equal priority waits": ([a_request("w", "red")], BOTH, a_request("r", "red"), False),
    "one of the same queue and higher priority waits": (
        [a_request("w", "red", priority=1)],
        BOTH,
        a_request("r", "red"),
        True,
    ),
    "one waits whose queue takes nothing from others": (
        [a_request("w", "red", priority=1)],
        (types.Queue("red", preemption=(WITHIN,)), types.Queue("blue")),
        a_request("r", "blue"),
        False,
    ),
    "one waits whose queue takes nothing within": (
        [a_request("w", "red", priority=1)],
        (types.Queue("red", preemption=(RECLAIM,)),),
        a_request("r", "red"),
        False,
    ),
    "a guest waits, who owns nothing": ([a_request("w", priority=9)], BOTH, a_request("r", "red"), False),
    "several queues wait": ([a_request("w", "red"), a_request("v", "blue")], BOTH, a_request("r", "red"), True),
}


@pytest.mark.parametrize(("waiting", "queues", "running", "want"), THREATS.values(), ids=THREATS)
def test_a_running_job_may_lose_its_place_when(
    waiting: list[types.Job], queues: tuple[types.Queue, ...], running: types.Job, want: bool
) -> None:
    assert preemption.Threat.of(waiting, queues=queues).hangs_over(running) is want
    assert preemption.ANYBODY.hangs_over(running)


POLICIES = (
    (),
    (types.QueuePreemption.WITHIN_QUEUE,),
    (types.QueuePreemption.RECLAIM_LENT,),
    (types.QueuePreemption.LEAST_ATTAINED,),
    tuple(types.QueuePreemption),
)


@st.composite
def crowds(draw: st.DrawFn) -> types.Snapshot:
    """Two full nodes; jobs of two queues or of none run there, and others wait."""
    queues = tuple(
        types.Queue(name, parent="top", quotas=(types.Quota(H100, 4),), preemption=draw(st.sampled_from(POLICIES)))
        for name in draw(st.sampled_from([(), ("red", "blue"), ("red", "blue")]))
    )
    stood_in = draw(st.sampled_from(["", *(one.name for one in queues), *(one.name for one in queues[1:])]))

    def one(name: str, *, usual: str, **fields: Any) -> types.Job:
        queue = draw(st.sampled_from([*[usual] * 6, "", *(one.name for one in queues)]))
        lines = {one.name for one in queues if types.QueuePreemption.LEAST_ATTAINED in one.preemption}
        return worlds.job(
            name,
            1,
            draw(st.sampled_from([2, 4])),
            queue=queue,
            order=types.QueueOrder.LEAST_ATTAINED if queue in lines else None,
            priority=draw(st.sampled_from([0, 0, 5])),
            **fields,
        )

    standing = []
    for node in ("n1", "n2"):
        free = 4
        while free:
            job = one(
                f"r{len(standing)}",
                usual=stood_in,
                attained_accelerator_seconds=draw(st.sampled_from([0, 3600, 36_000])),
            )
            place = types.Placement(H100, (types.NodeShare(node, 1),))
            cost = draw(st.sampled_from([None, 7, 9]))
            if job.pod.accelerators <= free:
                free -= job.pod.accelerators
                standing.append(dataclasses.replace(job, placement=place, disruption_cost=cost))
    waiting = [
        one(f"w{index}", usual="red" if queues else "", created_at_seconds=index)
        for index in range(draw(st.integers(1, 2)))
    ]
    nodes = [worlds.node(name, 4, of=4) for name in ("n1", "n2")]
    return dataclasses.replace(
        worlds.snapshot(nodes, [*standing, *waiting]), queues=(types.Queue("top"), *queues) if queues else ()
    )


@given(crowds(), st.booleans())
@hypothesis.settings(max_examples=80, deadline=None)
def test_whoever_is_told_what_he_would_lose_without_a_threat_loses_no_place(
    everybody: types.Snapshot, equals: bool
) -> None:
    """So questions, which tell it of everybody, propose no eviction that the planner would not make."""
    settings = types.Settings(
        preemption=types.Preemption.LEAST_ATTAINED if equals else types.Preemption.LOWER_PRIORITY,
        order=types.QueueOrder.LEAST_ATTAINED if equals else types.QueueOrder.AGE,
    )
    waiting = [job for job in everybody.jobs if job.placement is None]
    threat = preemption.Threat.of(waiting, queues=everybody.queues, equals=equals)
    threatened = dataclasses.replace(
        everybody,
        jobs=tuple(
            job if job.placement is None or threat.hangs_over(job) else dataclasses.replace(job, disruption_cost=None)
            for job in everybody.jobs
        ),
    )
    asked, planned = (stowplan_allocator.plan(one, settings) for one in (everybody, threatened))
    assert (asked.evictions, asked.placements, asked.waiting) == (
        planned.evictions,
        planned.placements,
        planned.waiting,
    )


def test_a_gang_that_leaves_uses_its_quota_until_it_is_gone() -> None:
    job = a_job("a").ended(an_attempt(1, outcome="Preempted"))
    pods = [pod.running().view() for pod in a_gang(job, "n1", "n2")]
    found = preemption.leaving(
        [job.view()], pods, lost_nodes=(), only_victims=True, queues={job.view().uid: "red"}, products={"n1": H100}
    )
    (gang,) = found.gangs
    assert gang.placement is not None
    assert (gang.queue, gang.placement.product, gang.leaving) == ("red", H100, True)


def test_the_words_of_a_preemption() -> None:
    red, blue, guest = (a_request("j", queue) for queue in ("red", "blue", ""))
    assert preemption.reclaim_text(red, dataclasses.replace(red, priority=1)) == ""
    assert preemption.reclaim_text(red, red) == "it has the same priority and has had much less"
    assert preemption.reclaim_text(red, blue) == 'queue "blue" takes back quota that it lent to queue "red"'
    assert preemption.reclaim_text(guest, blue) == 'queue "blue" takes back quota that it lent to jobs without a queue'
