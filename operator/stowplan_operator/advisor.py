"""Keeps the last advice on every waiting job: when it starts, and what would start it now.

The questions are asked beside the planner, about its last cycle, in a process of their own: a plan never waits for
them. What must stay true: the jobs that have waited longest for an answer come first; an answer is forgotten with
its job; alternatives are known with the answer of the plan for which they were found, and a job that was answered
something else since comes an interval sooner; an interval has two batches more for such jobs at most; ``run`` ends
only by cancellation.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from stowplan_allocator.advising import Advice, AdviceError, Question
from stowplan_operator import answered
from stowplan_operator.answers import Seen, observe
from stowplan_operator.settings import Settings

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 2.0


def question_of(seen: Seen, *, order: Iterable[str], budget_seconds: float, now_seconds: float) -> Question:
    """The question as of now. Gangs that leave are gone from it: they will be, long before anything else ends."""
    observation = observe(seen)
    jobs = observation.snapshot.jobs
    return Question(
        snapshot=dataclasses.replace(
            observation.snapshot,
            jobs=tuple(job for job in jobs if not job.leaving),
            now_seconds=int(now_seconds),
        ),
        settings=observation.settings,
        asked=tuple(order),
        budget_seconds=budget_seconds,
        reserve_after_seconds=seen.settings.planner.reserve_after_seconds,
        longest=observation.longest,
        leaving=tuple(job for job in jobs if job.leaving and job.placement is not None),
    )


def answers_of(seen: Seen) -> dict[str, answered.Answer]:
    """What the plan answered to the jobs that wait, by UID."""
    generations = {state.job.uid: state.job.generation for state in seen.jobs}
    return {
        uid: answered.of_plan(waiting, generation=generations[uid])
        for uid, waiting in seen.plan.waiting.items()
        if uid in generations
    }


class Advisor:
    """Asks every ``answers.intervalSeconds`` while jobs wait. ``on_change`` is called where answers changed."""

    def __init__(
        self,
        *,
        seen: Callable[[], Seen | None],
        ask: Callable[[Question], Awaitable[Mapping[str, Advice]]],
        settings: Callable[[], Settings],
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._seen = seen
        self._ask = ask
        self._settings = settings
        self._on_change = on_change
        self._clock = clock
        self._answers: dict[str, Advice] = {}
        self._advised_on: dict[str, answered.Answer] = {}
        self._explored_at: dict[str, float] = {}
        # When a job was last asked about out of turn, by UID.
        self._hurried_at: dict[str, float] = {}
        self._last_hurry_at = 0.0
        self._asked_at = 0.0

    def latest(self) -> Mapping[str, Advice]:
        """The last advice by job UID."""
        return self._answers

    def advised_on(self) -> Mapping[str, answered.Answer]:
        """By job UID the answer for which the changes of ``latest`` were found."""
        return self._advised_on

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self.ask_where_due()
            except Exception:
                _LOG.exception("asking for advice failed")
            await asyncio.sleep(_LOOK_SECONDS)

    async def ask_where_due(self) -> None:
        """One batch, where jobs wait and the last answers are old, or miss one of them, or what the plan says of it."""
        seen, now, settings = self._seen(), self._clock(), self._settings().answers
        waiting = seen.plan.waiting if seen else ()
        if seen is None or not waiting:
            self._answers, self._advised_on, self._explored_at, self._hurried_at = {}, {}, {}, {}
            return
        answers = answers_of(seen)
        is_new = any(uid not in self._answers for uid in waiting)
        hurried = {
            uid
            for uid in waiting
            if self._is_outdated(uid, answers) and now - self._hurried_at.get(uid, 0.0) >= settings.interval_seconds
        }
        is_hurry = bool(hurried) and now - self._last_hurry_at >= settings.interval_seconds / 2
        if now - self._asked_at < (settings.gather_seconds if is_new or is_hurry else settings.interval_seconds):
            return
        if hurried:
            self._last_hurry_at = now
        self._asked_at = now
        kept = {uid: at for uid, at in self._hurried_at.items() if uid in waiting}
        self._hurried_at = kept | dict.fromkeys(hurried, now)
        ahead = dict.fromkeys(hurried, settings.interval_seconds)
        order = sorted(waiting, key=lambda uid: self._explored_at.get(uid, 0.0) - ahead.get(uid, 0.0))
        question = await asyncio.to_thread(
            question_of, seen, order=order, budget_seconds=settings.budget_seconds, now_seconds=now
        )
        try:
            found = await self._ask(question)
        except (AdviceError, OSError) as error:
            _LOG.warning("no advice on waiting jobs this time: %s", error)
            return
        before = self._answers, self._advised_on
        explored = {uid for uid, advice in found.items() if advice.changes is not None}
        self._answers = {uid: _with_changes(advice, self._answers.get(uid)) for uid, advice in found.items()}
        anew = {uid: answer for uid, answer in answers.items() if uid in explored}
        self._advised_on = {uid: one for uid, one in (self._advised_on | anew).items() if uid in found}
        self._explored_at = {
            uid: at for uid, at in (self._explored_at | dict.fromkeys(explored, now)).items() if uid in found
        }
        if (self._answers, self._advised_on) != before:
            self._on_change()

    def _is_outdated(self, uid: str, answers: Mapping[str, answered.Answer]) -> bool:
        """Whether the plan has another answer by now than that for which changes were found."""
        return uid in self._advised_on and uid in answers and not answers[uid].is_same(self._advised_on[uid])


def _with_changes(advice: Advice, old: Advice | None) -> Advice:
    """A job that there was no time for keeps its last alternatives."""
    if advice.changes is not None or old is None:
        return advice
    return dataclasses.replace(advice, changes=old.changes, not_tried=old.not_tried)
