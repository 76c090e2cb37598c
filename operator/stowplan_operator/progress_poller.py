"""Reads the progress of all running gangs at a steady pace, and forgets those that are gone.

What must stay true: ``run`` ends only by cancellation; at most ``_AT_ONCE`` reads are under way; a script that
does not answer costs ever fewer reads; nothing that was read of one attempt is shown for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from stowplan_operator.progress import Pace, Progress, estimate_seconds_left, eta_text, pace_between
from stowplan_operator.progress_reader import ProgressError
from stowplan_operator.settings import Settings
from stowplan_operator.views import PodView

_LOG = logging.getLogger(__name__)

_AT_ONCE = 16
_LONGEST_PAUSE_INTERVALS = 6


@dataclass(slots=True)
class _Gang:
    """What is known of one attempt of one job."""

    pod: PodView
    due_at: float
    first: Progress | None = None
    last: Progress | None = None
    error: str = ""
    failures: int = 0
    reading: asyncio.Task[None] | None = None


class ProgressPoller:
    """Polls rank 0 of every gang that ``running`` lists as (job UID, pod of rank 0).

    ``read`` is ``progress.read_progress`` with all but the pod filled in. ``on_change`` gets the UID of a job
    whose values, or whose reason for having none, changed.
    """

    def __init__(
        self,
        *,
        running: Callable[[], Iterable[tuple[str, PodView]]],
        read: Callable[[PodView], Awaitable[Progress | None]],
        on_change: Callable[[str], None],
        settings: Callable[[], Settings],
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._running = running
        self._read = read
        self._on_change = on_change
        self._settings = settings
        self._clock = clock
        self._jitter = jitter
        self._gangs: dict[str, _Gang] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def latest(self) -> dict[str, Progress]:
        """The last report of each running gang that has made one, by job UID."""
        return {uid: gang.last for uid, gang in self._gangs.items() if gang.last is not None}

    def etas(self) -> dict[str, str]:
        """Texts such as ``about 3m`` by job UID, where the pace is known."""
        texts = {uid: eta_text(seconds) for uid, seconds in self.seconds_left().items()}
        return {uid: text for uid, text in texts.items() if text}

    def seconds_left(self) -> dict[str, float]:
        """Seconds until the last step at the mean pace so far by job UID, where the pace is known."""
        estimates = {
            uid: estimate_seconds_left(gang.first, gang.last)
            for uid, gang in self._gangs.items()
            if gang.first is not None and gang.last is not None
        }
        return {uid: seconds for uid, seconds in estimates.items() if seconds is not None}

    def paces(self) -> dict[str, Pace]:
        """Steps and seconds between the first and the last report of each running gang, by job UID."""
        known = {
            uid: pace_between(gang.first, gang.last)
            for uid, gang in self._gangs.items()
            if gang.first is not None and gang.last is not None
        }
        return {uid: pace for uid, pace in known.items() if pace is not None}

    def errors(self) -> dict[str, str]:
        """Why the last read of a gang failed, by job UID."""
        return {uid: gang.error for uid, gang in self._gangs.items() if gang.error}

    async def run(self) -> None:
        """Poll until cancelled; reads under way are cancelled with it."""
        try:
            while True:
                try:
                    self.start_due_reads()
                except Exception:
                    _LOG.exception("listing the running gangs failed")
                await asyncio.sleep(min(1.0, self._settings().progress.interval_seconds / 4))
        finally:
            for gang in self._gangs.values():
                self._cancel(gang)

    def start_due_reads(self) -> None:
        """Compare with the running gangs, and start the reads that are due."""
        now = self._clock()
        interval = self._settings().progress.interval_seconds
        running: dict[str, PodView] = {}
        for uid, pod in self._running():
            if uid not in running or running[uid].attempt < pod.attempt:
                running[uid] = pod
        for uid in [uid for uid in self._gangs if uid not in running]:
            self._cancel(self._gangs.pop(uid))
        for uid, pod in running.items():
            gang = self._gangs.get(uid)
            if gang is None or gang.pod.uid != pod.uid:
                if gang is not None:
                    self._cancel(gang)
                gang = self._gangs[uid] = _Gang(pod=pod, due_at=now + min(1.0, interval) * self._jitter())
            gang.pod = pod
            if gang.reading is None and gang.due_at <= now:
                gang.reading = asyncio.create_task(self._read_one(uid, gang), name=f"progress-{pod.name}")

    @staticmethod
    def _cancel(gang: _Gang) -> None:
        if gang.reading is not None:
            gang.reading.cancel()

    async def _read_one(self, uid: str, gang: _Gang) -> None:
        before = (gang.last, gang.error)
        try:
            async with self._slots:
                report = await self._read(gang.pod)
            self._take(gang, report)
        except ProgressError as error:
            gang.failures, gang.error = gang.failures + 1, str(error)
        except Exception as error:
            _LOG.exception("reading the progress of pod %s failed", gang.pod.name)
            gang.failures, gang.error = gang.failures + 1, f"unexpected {type(error).__name__}"
        interval = self._settings().progress.interval_seconds
        pause = interval * min(_LONGEST_PAUSE_INTERVALS, 2.0 ** min(gang.failures, 30) if gang.failures > 1 else 1)
        gang.due_at = self._clock() + pause * (0.9 + 0.2 * self._jitter())
        gang.reading = None
        if (gang.last, gang.error) != before:
            with contextlib.suppress(Exception):
                self._on_change(uid)

    @staticmethod
    def _take(gang: _Gang, report: Progress | None) -> None:
        if report is None:
            gang.failures += 1
            gang.error = f"pod {gang.pod.name} serves metrics, but none whose name begins with stowplan_train_"
            return
        gang.failures, gang.error = 0, ""
        backwards = gang.last is not None and (report.step or 0) < (gang.last.step or 0)
        if gang.first is None or gang.first.step is None or backwards:
            gang.first = report
        gang.last = report
