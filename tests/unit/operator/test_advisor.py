"""When the adviser is asked, about whom first, and what is kept of its answers."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

import pytest

from fakes.builders import NOW, a_job, a_node
from fakes.world import World
from stowplan_allocator import advising, types
from stowplan_allocator.advising import Advice, AdviceError, Change, Question
from stowplan_allocator.relaxing import ChangeKind
from stowplan_operator import advisor
from stowplan_operator.answers import Seen
from stowplan_operator.gathering import Scene
from stowplan_operator.settings import Settings
from stowplan_operator.states import JobState
from stowplan_operator.views import PriorityClass, Telemetry

CHANGE = Change(ChangeKind.FEWER_PODS, "with 1 pod")
SETTINGS = Settings()


def seen(*waiting: str, allowed: int = 2, free: int = 0) -> Seen:
    """A cycle in which these jobs wait, with so much allowed and so much free."""
    numbers = (("resource_quota_hard", str(allowed)), ("accelerators_free", str(free)))
    reasons = {uid: types.Waiting(types.Reason.WAITING_FOR_RESOURCE_QUOTA, "", numbers) for uid in waiting}
    certificate = types.Certificate(types.SolveStatus.OPTIMAL, "exact")
    return Seen(
        jobs=tuple(JobState(job=a_job(uid).meta(uid=uid).view(), pods=[]) for uid in waiting),
        scene=Scene(nodes={}, assessments={}, lost_nodes=frozenset(), pods=(), now_seconds=NOW),
        plan=types.Plan({}, reasons, certificate),
        settings=SETTINGS,
        priorities={},
        default_priority=PriorityClass(),
        telemetry=Telemetry(),
        stale=None,
        expected={},
    )


@dataclasses.dataclass
class Rig:
    """An advisor whose adviser answers what the test says."""

    now: float = NOW
    seen: Seen | None = None
    answer: Mapping[str, Advice] = dataclasses.field(default_factory=dict)
    error: Exception | None = None
    # Of so many of the jobs that are asked about the changes are found, instead of ``answer``.
    most_tried: int | None = None
    questions: list[Question] = dataclasses.field(default_factory=list)
    changes: int = 0

    def __post_init__(self) -> None:
        self.advisor = advisor.Advisor(
            seen=lambda: self.seen,
            ask=self._ask,
            settings=lambda: SETTINGS,
            on_change=self._changed,
            clock=lambda: self.now,
        )

    async def _ask(self, question: Question) -> Mapping[str, Advice]:
        self.questions.append(question)
        if self.error:
            raise self.error
        if self.most_tried is None:
            return self.answer
        tried = question.asked[: self.most_tried]
        return {uid: Advice(changes=(CHANGE,) if uid in tried else None) for uid in question.asked}

    def _changed(self) -> None:
        self.changes += 1


@pytest.mark.parametrize("cycle", [None, seen()], ids=["before the first cycle", "while nobody waits"])
async def test_nothing_is_asked(cycle: Seen | None) -> None:
    rig = Rig(seen=cycle)
    await rig.advisor.ask_where_due()
    assert (rig.questions, rig.advisor.latest()) == ([], {})


async def test_a_new_job_is_asked_about_soon_and_old_ones_every_minute() -> None:
    rig = Rig(seen=seen("x"), answer={"x": Advice()})
    times = []
    for seconds in range(0, 140, 2):
        rig.now = NOW + seconds
        if seconds == 20:
            rig.seen, rig.answer = seen("x", "y"), {"x": Advice(), "y": Advice()}
        before = len(rig.questions)
        await rig.advisor.ask_where_due()
        times += [seconds] * (len(rig.questions) - before)
    assert times == [0, 20, 80]
    assert rig.changes == 2, "the same answer again is no change"


ROUNDS: dict[str, tuple[dict[int, Seen], list[int]]] = {
    "what others hold and free changes all the time": (
        {at: seen("x", free=at) for at in range(0, 140, 2)},
        [0, 60, 120],
    ),
    "the quota is raised once": ({0: seen("x"), 20: seen("x", allowed=3)}, [0, 20, 80]),
    "the quota is raised just after it was asked": ({0: seen("x"), 4: seen("x", allowed=3)}, [0, 10, 70, 130]),
    "the quota changes all the time": ({at: seen("x", allowed=at) for at in range(0, 140, 2)}, [0, 10, 70, 130]),
}


@pytest.mark.parametrize(("cycles", "want"), ROUNDS.values(), ids=ROUNDS)
async def test_a_job_that_was_answered_something_else_is_asked_about_soon_but_not_all_the_time(
    cycles: dict[int, Seen], want: list[int]
) -> None:
    rig = Rig(answer={"x": Advice(changes=(CHANGE,))})
    times = []
    for seconds in range(0, 140, 2):
        rig.now, rig.seen = NOW + seconds, cycles.get(seconds, rig.seen)
        before = len(rig.questions)
        await rig.advisor.ask_where_due()
        times += [seconds] * (len(rig.questions) - before)
    assert times == want


def crowd(minute: int, *, restless: int) -> Seen:
    """Thirty jobs that wait, of which the first ones are told something else each minute."""
    names = [f"u{number:02}" for number in range(30)]
    moved, still = seen(*names, allowed=minute), seen(*names)
    waiting = {name: (moved if name < f"u{restless:02}" else still).plan.waiting[name] for name in names}
    return dataclasses.replace(still, plan=dataclasses.replace(still.plan, waiting=waiting))


@pytest.mark.parametrize("restless", [5, 30])
async def test_jobs_that_are_told_something_else_all_the_time_keep_nobody_from_an_answer(restless: int) -> None:
    rig, explored = Rig(most_tried=3), collections.Counter[str]()
    for seconds in range(0, 3600, 2):
        rig.now, rig.seen = NOW + seconds, crowd(seconds // 60, restless=restless)
        before = len(rig.questions)
        await rig.advisor.ask_where_due()
        explored.update(name for question in rig.questions[before:] for name in question.asked[:3])
    assert len(explored) == 30
    assert min(explored.values()) >= 4
    assert len(rig.questions) <= 180, "three an interval at most"


async def test_changes_are_told_with_the_answer_for_which_they_were_found() -> None:
    rig = Rig(seen=seen("x"), answer={"x": Advice(changes=(CHANGE,))})
    await rig.advisor.ask_where_due()
    assert rig.seen is not None
    first = advisor.answers_of(rig.seen)
    assert rig.advisor.advised_on() == first
    rig.seen, rig.answer, rig.now = seen("x", allowed=3), {"x": Advice()}, rig.now + 60
    await rig.advisor.ask_where_due()
    assert rig.advisor.advised_on() == first, "there was no time for its changes, which are still the old ones"
    rig.answer, rig.now, told = {"x": Advice(changes=(CHANGE,))}, rig.now + 60, rig.changes
    await rig.advisor.ask_where_due()
    assert rig.advisor.advised_on() == advisor.answers_of(rig.seen)
    assert rig.changes == told + 1, "the same changes are news where they are for another answer"


async def test_who_waited_longest_for_an_answer_comes_first_and_old_answers_stay_until_then() -> None:
    rig = Rig(seen=seen("x", "y"), answer={"x": Advice(changes=(CHANGE,)), "y": Advice()})
    await rig.advisor.ask_where_due()
    rig.now += 60
    rig.answer = {"x": Advice(), "y": Advice(changes=())}
    await rig.advisor.ask_where_due()
    assert [question.asked for question in rig.questions] == [("x", "y"), ("y", "x")]
    assert rig.advisor.latest() == {"x": Advice(changes=(CHANGE,)), "y": Advice(changes=())}
    rig.seen = seen()
    await rig.advisor.ask_where_due()
    assert rig.advisor.latest() == {}


@pytest.mark.parametrize("error", [AdviceError("no answer"), OSError("no process")])
async def test_without_an_answer_the_last_one_stays(error: Exception) -> None:
    rig = Rig(seen=seen("x"), answer={"x": Advice()})
    await rig.advisor.ask_where_due()
    rig.error, rig.now = error, rig.now + 60
    await rig.advisor.ask_where_due()
    assert rig.advisor.latest() == {"x": Advice()}


async def test_the_question_is_of_this_moment_and_has_no_gangs_that_leave() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.add_priority_class("high", 1000)
    world.submit(a_job("a"))
    await world.settle()
    world.machinery.terminates = False
    world.submit(a_job("vip").spec(priorityClassName="high"))
    await world.step()
    await world.step()
    cycle = world.process.desk.seen
    assert cycle is not None
    assert any(job.leaving for job in advisor.observe(cycle).snapshot.jobs)
    question = advisor.question_of(cycle, order=["x"], budget_seconds=5, now_seconds=world.now + 7)
    assert [job.name for job in question.snapshot.jobs] == ["team/vip"]
    assert (question.snapshot.now_seconds, question.asked) == (int(world.now + 7), ("x",))
    (told,) = advising.answer(question).values()
    assert told.forecast is not None
    assert (told.forecast.starts_at_seconds, told.forecast.basis) == (
        int(world.now + 7),
        "starts once team/a has left",
    )
