"""The pace of the progress poller, with scripted reads and a clock of its own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stowplan_operator import settings
from stowplan_operator.progress import Pace, Progress
from stowplan_operator.progress_poller import ProgressPoller
from stowplan_operator.progress_reader import ProgressError
from stowplan_operator.views import PodView

Answer = Progress | None | Exception


def pod(job: str = "a", *, attempt: int = 1) -> PodView:
    name = f"{job}-{attempt}-0"
    return cast(PodView, SimpleNamespace(name=name, uid=f"uid-{name}", attempt=attempt))


def at(step: int, seconds: float = 0, total: int = 100) -> Progress:
    return Progress(step=step, steps_total=total, read_at_seconds=seconds)


class Rig:
    """A poller, the gangs that it sees, and the answers that it gets by job."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.now = 0.0
        self.gangs: list[tuple[str, PodView]] = [(job, pod(job)) for job in answers]
        self.answers: dict[str, list[Answer]] = answers
        self.reads: list[str] = []
        self.changed: list[str] = []
        self.gate: asyncio.Event | None = None
        self.under_way = 0
        self.most_at_once = 0
        self.settings = settings.Settings()
        self.poller = ProgressPoller(
            running=lambda: self.gangs,
            read=self._read,
            on_change=self.changed.append,
            settings=lambda: self.settings,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
        )

    async def _read(self, pod: PodView) -> Progress | None:
        self.reads.append(pod.name)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            if self.gate:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        answers = self.answers[pod.name.split("-")[0]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until(self, seconds: float) -> None:
        """Let the clock run in steps of half a second, finishing reads on the way."""
        while self.now < seconds:
            self.now += 0.5
            self.poller.start_due_reads()
            if reads := [task for task in asyncio.all_tasks() if task.get_name().startswith("progress-")]:
                await asyncio.wait(reads)


async def test_each_gang_is_read_once_per_interval() -> None:
    rig = Rig(a=[at(1)], b=[at(1)])
    await rig.until(35)
    assert sorted(rig.reads) == ["a-1-0"] * 4 + ["b-1-0"] * 4


async def test_callbacks_come_only_with_changes() -> None:
    rig = Rig(a=[at(1, 0), at(1, 10), at(2, 20), at(2, 30)])
    await rig.until(35)
    assert len(rig.reads) == 4
    assert rig.changed == ["a", "a"]
    assert rig.poller.latest() == {"a": at(2)}


async def test_eta_comes_from_the_first_and_the_last_report_of_the_attempt() -> None:
    rig = Rig(a=[at(10, 0), at(20, 60), at(40, 180)], b=[at(1)])
    await rig.until(35)
    assert rig.poller.etas() == {"a": "about 6m"}
    assert rig.poller.paces() == {"a": Pace(steps=30, seconds=180)}


async def test_a_failure_keeps_the_last_report_and_says_why() -> None:
    rig = Rig(a=[at(5), ProgressError("no answer"), ProgressError("no answer")])
    await rig.until(35)
    assert rig.poller.latest() == {"a": at(5)}
    assert rig.poller.errors() == {"a": "no answer"}
    assert rig.changed == ["a", "a"]


async def test_an_answer_without_our_names_is_said_too() -> None:
    rig = Rig(a=[None])
    await rig.until(1)
    assert rig.poller.latest() == {}
    assert "stowplan_train_" in rig.poller.errors()["a"]


async def test_a_gang_that_never_answers_is_asked_ever_less() -> None:
    rig = Rig(a=[ProgressError("no answer")])
    await rig.until(300)
    # after 0.5 s; then pauses of 10, 40, 60, 60, 60, 60 s
    assert len(rig.reads) == 7


@pytest.mark.parametrize("error", [RuntimeError("bug"), OSError()])
async def test_no_error_gets_out(error: Exception) -> None:
    rig = Rig(a=[error, at(1)])
    await rig.until(15)
    assert rig.poller.latest() == {"a": at(1)}
    assert rig.poller.errors() == {}


async def test_gangs_that_are_gone_are_forgotten_with_their_reads() -> None:
    rig = Rig(a=[at(1)], b=[at(1)])
    await rig.until(1)
    rig.gangs = rig.gangs[:1]
    await rig.until(2)
    assert set(rig.poller.latest()) == {"a"}


async def test_a_new_attempt_starts_from_nothing() -> None:
    rig = Rig(a=[at(50, 0), at(60, 10), ProgressError("starting")])
    await rig.until(15)
    assert rig.poller.etas()
    rig.gangs = [("a", pod("a", attempt=2)), ("a", pod("a", attempt=1))]
    await rig.until(16)
    assert (rig.poller.latest(), rig.poller.etas()) == ({}, {})
    assert rig.reads[-1] == "a-2-0"


async def test_a_late_answer_of_an_old_attempt_is_not_shown() -> None:
    rig = Rig(a=[at(50)])
    rig.gate = asyncio.Event()
    rig.now = 1
    rig.poller.start_due_reads()
    rig.now = 2
    rig.poller.start_due_reads()
    await asyncio.sleep(0)
    assert rig.under_way == 1
    rig.gangs = [("a", pod("a", attempt=2))]
    rig.poller.start_due_reads()
    rig.gate.set()
    await asyncio.sleep(0.01)
    assert (rig.poller.latest(), rig.changed) == ({}, [])


async def test_at_most_sixteen_reads_are_under_way() -> None:
    rig = Rig(**{f"j{n}": [at(1)] for n in range(100)})
    await rig.until(1)
    assert (rig.most_at_once, len(rig.reads)) == (16, 100)


async def test_run_ends_only_by_cancellation() -> None:
    rig = Rig(a=[at(1)])
    listing = iter([RuntimeError("bug")])

    def list_gangs() -> Any:
        for error in listing:
            raise error
        return [("a", pod())]

    rig.poller._running = list_gangs
    rig.settings = settings.parse({"progress": {"intervalSeconds": 0.04}})
    task = asyncio.create_task(rig.poller.run())
    async with asyncio.timeout(5):
        while not rig.changed:
            rig.now += 0.04
            await asyncio.sleep(0.01)
    rig.gate = asyncio.Event()
    async with asyncio.timeout(5):
        while not rig.under_way:
            rig.now += 0.04
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert rig.under_way == 0
