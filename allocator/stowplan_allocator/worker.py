"""plan() in a process of its own, under a watchdog.

One long-living worker process plans. It keeps to the time limit by itself, even where a
solver does not (``overrun``). Should it not answer all the same, it is killed: a worker that
is still at work after half its time sends the greedy plan first, so that one is in hand then,
and says so. A process that crashes is started anew. What must stay true: the caller's event
loop never waits for a solver; every call ends within the time limit and a tenth of it, unless
not even the greedy plan is there by then; an answer is never taken for the answer to another
question; and no worker outlives its parent.

The worker is a plain child, not multiprocessing's spawn: that would import the parent's main
module, here the whole operator, once more. Parent and worker exchange pickles over pipes
which nobody else can open.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import importlib
import itertools
import os
import pathlib
import pickle
import queue
import signal
import struct
import sys
import threading
from collections.abc import Awaitable
from typing import BinaryIO

from stowplan_allocator import differences, fallback, overrun, types
from stowplan_allocator.memory import Memory
from stowplan_allocator.planner import plan

_HEADER = struct.Struct(">Q")
# The first byte of a message from the worker.
_READY, _INTERIM, _ANSWER = b"r", b"i", b"a"
# Of the time limit: when the worker sends a greedy plan first, and when it is stopped.
INTERIM_SHARE = 0.5
STOP_SHARE = 1.08
PLANS_BETWEEN_FULL_COLLECTIONS = 256
_PACKAGE_ROOT = str(pathlib.Path(__file__).resolve().parent.parent)


class PlannerWorker:
    """Plans off the caller's process. One question at a time; further ones wait in line."""

    def __init__(self, *, grace_seconds: float = 1.0, start_seconds: float = 60.0) -> None:
        """``grace_seconds`` is what a worker gets beyond its time where no plan is in hand at all."""
        self._grace_seconds = grace_seconds
        self._start_seconds = start_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._ended: list[asyncio.subprocess.Process] = []
        self._line = asyncio.Lock()
        # What the process that runs now was sent last.
        self._sent: types.Snapshot | None = None
        self.num_restarts = 0

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return None if self._process is None else self._process.pid

    async def plan(self, snapshot: types.Snapshot, settings: types.Settings) -> types.Plan:
        """See ``stowplan_allocator.plan``. Raises ValueError for a snapshot or settings that contradict themselves."""
        async with self._line:
            for _ in range(2):
                try:
                    answer = await self._ask(snapshot, settings)
                except _Stopped as stopped:
                    return await self._without(snapshot, settings, why=str(stopped), interim=stopped.interim)
                except (asyncio.IncompleteReadError, ConnectionError, OSError):
                    await self._kill()
                    self.num_restarts += 1
                    continue
                result = await asyncio.to_thread(pickle.loads, answer)
                if isinstance(result, types.Plan):
                    return result
                raise result
            return await self._without(snapshot, settings, why="the planner process crashed twice", interim=None)

    def close(self) -> None:
        """End the worker now; the event loop reaps it. A later ``plan`` would start a new one."""
        process, self._process = self._process, None
        self._sent = None
        if process is not None:
            _end(process)
            self._ended.append(process)

    async def aclose(self) -> None:
        """End the worker and wait until it is gone."""
        await self._kill()

    async def _ask(self, snapshot: types.Snapshot, settings: types.Settings) -> bytes:
        """One question, one answer. Whoever leaves in between takes the process with him."""
        try:
            try:
                process = await asyncio.wait_for(self._started(), self._start_seconds)
            except TimeoutError:
                raise _Stopped(f"the planner process did not start in {self._start_seconds:g} s") from None
            assert process.stdin is not None
            assert process.stdout is not None
            interim: bytes | None = None
            loop = asyncio.get_running_loop()
            limit_seconds = settings.time_limit_seconds * STOP_SHARE
            stop_at = loop.time() + limit_seconds
            question = await asyncio.to_thread(_encode, snapshot, settings, self._sent)
            self._sent = snapshot
            process.stdin.write(_HEADER.pack(len(question)))
            process.stdin.write(question)
            try:
                # With a plan in hand the limit holds; without one, a little patience may still bring one.
                await _until(stop_at + self._grace_seconds, process.stdin.drain())
                while True:
                    patience = self._grace_seconds if interim is None else 0.0
                    kind, message = await _until(stop_at + patience, _read(process.stdout))
                    if kind == _ANSWER:
                        return message
                    interim = message
            except TimeoutError:
                after = loop.time() - stop_at + limit_seconds
                overran = f"the planner overran its time limit and was stopped after {after:.1f} s"
                raise _Stopped(overran, interim) from None
        except BaseException:
            await self._kill()
            raise

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._kill()
        path = os.pathsep.join(part for part in (_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")) if part)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "stowplan_allocator.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,
        )
        assert self._process.stdout is not None
        if await _read(self._process.stdout) != (_READY, b""):
            raise ConnectionError("the planner process spoke out of turn")
        return self._process

    async def _kill(self) -> None:
        self.close()
        while self._ended:
            await asyncio.shield(self._ended[-1].wait())
            self._ended.pop()

    async def _without(
        self, snapshot: types.Snapshot, settings: types.Settings, *, why: str, interim: bytes | None
    ) -> types.Plan:
        """The greedy plan, which says why it was used: the worker's, or one that is made here."""
        made = await asyncio.to_thread(_greedy_plan, snapshot, settings, interim)
        if made.certificate.status is types.SolveStatus.NOTHING_TO_DO:
            return made
        note = f"greedy plan: {why}"
        return dataclasses.replace(made, certificate=dataclasses.replace(made.certificate, note=note))


class _Stopped(Exception):  # noqa: N818 - a decision, not an error
    """The worker was given up; what it sent before, if anything."""

    def __init__(self, why: str, interim: bytes | None = None) -> None:
        super().__init__(why)
        self.interim = interim


def _encode(snapshot: types.Snapshot, settings: types.Settings, sent: types.Snapshot | None) -> bytes:
    """The question: the snapshot, or what is new in it since the last one that was sent."""
    news = None if sent is None else differences.between(sent, snapshot)
    return pickle.dumps((snapshot if news is None else news, settings), pickle.HIGHEST_PROTOCOL)


def _greedy_plan(snapshot: types.Snapshot, settings: types.Settings, interim: bytes | None) -> types.Plan:
    made = None if interim is None else pickle.loads(interim)  # noqa: S301 - from our child alone
    if isinstance(made, types.Plan):
        return made
    return answer(snapshot, dataclasses.replace(settings, strategy=types.Strategy.GREEDY))


def answer(snapshot: types.Snapshot, settings: types.Settings, *, memory: Memory | None = None) -> types.Plan:
    """The plan; starts alone where it fails."""
    try:
        return plan(snapshot, settings, memory=memory)
    except Exception as error:
        if memory is not None:
            memory.clear()
        return fallback.plan_anyway(snapshot, settings, error=error)


async def _until[T](moment: float, awaited: Awaitable[T]) -> T:
    async with asyncio.timeout_at(moment):
        return await awaited


def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and close its pipes; without the latter they stay open until the loop has read their end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    # asyncio has no public way to close the pipes of a process that was killed.
    process._transport.close()  # type: ignore[attr-defined]


async def _read(stream: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One message: its kind and the rest."""
    (size,) = _HEADER.unpack(await stream.readexactly(_HEADER.size))
    message = await stream.readexactly(size)
    return message[:1], message[1:]


def main() -> None:
    """The worker's side: questions on standard input, answers on what was standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a solver prints must not get between the answers
    questions: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, questions), daemon=True).start()
    importlib.import_module("stowplan_allocator.exact")  # now, and not within the first plan's time limit
    _send(answers, _READY)
    snapshot = types.Snapshot((), ())
    memory = Memory()
    # Looking for garbage through a snapshot of thousands of objects takes longer than many a plan: that is done
    # between plans, and only for what is new.
    gc.disable()
    for num_plans in itertools.count(1):
        news, settings = pickle.loads(questions.get())  # noqa: S301 - from our parent alone
        snapshot = differences.apply(news, to=snapshot) if isinstance(news, differences.Difference) else news
        result: object
        interim = Interim(answers, snapshot=snapshot, settings=settings)
        try:
            result = answer(snapshot, settings, memory=memory)
        except Exception as error:
            error.add_note("raised in the planner process")
            result = error
        interim.end()
        _send(answers, _ANSWER + pickle.dumps(result, pickle.HIGHEST_PROTOCOL))
        if overrun.is_still_at_work():
            os._exit(0)  # the next plan deserves a processor of its own; the parent starts another worker
        collect_garbage(num_plans=num_plans)


def collect_garbage(*, num_plans: int) -> None:
    """Look through what is new; now and then through all, for what was kept may have become garbage since."""
    if num_plans % PLANS_BETWEEN_FULL_COLLECTIONS == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


class Interim:
    """Sends the greedy plan of a question that is still worked on when half its time is over."""

    def __init__(self, answers: BinaryIO, *, snapshot: types.Snapshot, settings: types.Settings) -> None:
        self._answers = answers
        self._snapshot = snapshot
        self._settings = dataclasses.replace(settings, strategy=types.Strategy.GREEDY)
        self._lock = threading.Lock()
        self._ended = settings.strategy is types.Strategy.GREEDY
        self._timer = threading.Timer(settings.time_limit_seconds * INTERIM_SHARE, self._run)
        self._timer.daemon = True
        if not self._ended:
            self._timer.start()

    def end(self) -> None:
        """From here on nothing is sent."""
        self._timer.cancel()
        with self._lock:
            self._ended = True

    def _run(self) -> None:
        # A snapshot that cannot be planned raises in the question itself, where it is told.
        with contextlib.suppress(Exception):
            message = _INTERIM + pickle.dumps(plan(self._snapshot, self._settings), pickle.HIGHEST_PROTOCOL)
            with self._lock:
                if not self._ended:
                    _send(self._answers, message)


def _listen(stream: BinaryIO, questions: queue.SimpleQueue[bytes]) -> None:
    """Pass questions on; at the end of input the parent is gone, and so are we, in the middle of a solve or not."""
    while True:
        header = stream.read(_HEADER.size)
        if len(header) < _HEADER.size:
            os._exit(0)
        questions.put(stream.read(_HEADER.unpack(header)[0]))


def _send(stream: BinaryIO, message: bytes) -> None:
    stream.write(_HEADER.pack(len(message)))
    stream.write(message)
    stream.flush()


if __name__ == "__main__":
    main()
