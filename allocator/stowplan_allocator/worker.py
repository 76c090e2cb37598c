"""plan() in a process of its own, under a watchdog.

A solver now and then overruns its time limit by minutes, and a thread cannot be killed. So
one long-living worker process plans; when it overruns, it is killed and the greedy plan is
used, which the certificate then says. A process that crashes is started anew. What must
stay true: the caller's event loop never waits for a solver; every call ends within the time
limit, a tenth of it and a small constant, and what the greedy plan takes; an answer is never
taken for the answer to another question; and no worker outlives its parent.

The worker is a plain child, not multiprocessing's spawn: that would import the parent's main
module, here the whole operator, once more. Parent and worker exchange pickles over pipes
which nobody else can open.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import os
import pathlib
import pickle
import queue
import signal
import struct
import sys
import threading
from typing import BinaryIO

from stowplan_allocator import types
from stowplan_allocator.planner import plan

_HEADER = struct.Struct(">Q")
_READY = b"ready"
_PACKAGE_ROOT = str(pathlib.Path(__file__).resolve().parent.parent)


class PlannerWorker:
    """Plans off the caller's process. One question at a time; further ones wait in line."""

    def __init__(self, *, grace_seconds: float = 1.0, start_seconds: float = 60.0) -> None:
        """``grace_seconds`` is added to the limit and its tenth before the worker is killed."""
        self._grace_seconds = grace_seconds
        self._start_seconds = start_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._ended: list[asyncio.subprocess.Process] = []
        self._line = asyncio.Lock()
        self.num_restarts = 0

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return None if self._process is None else self._process.pid

    async def plan(self, snapshot: types.Snapshot, settings: types.Settings) -> types.Plan:
        """See ``stowplan_allocator.plan``. Raises ValueError for a snapshot or settings that contradict themselves."""
        question = await asyncio.to_thread(pickle.dumps, (snapshot, settings), pickle.HIGHEST_PROTOCOL)
        limit_seconds = settings.time_limit_seconds * 1.1 + self._grace_seconds
        async with self._line:
            for _ in range(2):
                try:
                    answer = await self._ask(question, limit_seconds=limit_seconds)
                except TimeoutError as error:
                    return await self._without(snapshot, settings, why=str(error))
                except (asyncio.IncompleteReadError, ConnectionError, OSError):
                    await self._kill()
                    self.num_restarts += 1
                    continue
                result = await asyncio.to_thread(pickle.loads, answer)
                if isinstance(result, types.Plan):
                    return result
                raise result
            return await self._without(snapshot, settings, why="the planner process crashed twice")

    def close(self) -> None:
        """End the worker now; the event loop reaps it. A later ``plan`` would start a new one."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)
            self._ended.append(process)

    async def aclose(self) -> None:
        """End the worker and wait until it is gone."""
        await self._kill()

    async def _ask(self, question: bytes, *, limit_seconds: float) -> bytes:
        """One question, one answer. Whoever leaves in between takes the process with him."""
        try:
            try:
                process = await asyncio.wait_for(self._started(), self._start_seconds)
            except TimeoutError:
                raise TimeoutError(f"the planner process did not start in {self._start_seconds:g} s") from None
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(_HEADER.pack(len(question)))
            process.stdin.write(question)
            try:
                async with asyncio.timeout(limit_seconds):
                    await process.stdin.drain()
                    return await _read(process.stdout)
            except TimeoutError:
                overran = f"the solver overran its time limit and was stopped after {limit_seconds:.1f} s"
                raise TimeoutError(overran) from None
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
        if await _read(self._process.stdout) != _READY:
            raise ConnectionError("the planner process spoke out of turn")
        return self._process

    async def _kill(self) -> None:
        self.close()
        while self._ended:
            await asyncio.shield(self._ended[-1].wait())
            self._ended.pop()

    async def _without(self, snapshot: types.Snapshot, settings: types.Settings, *, why: str) -> types.Plan:
        """The greedy plan, which says why it was used."""
        greedy = dataclasses.replace(settings, strategy=types.Strategy.GREEDY)
        made = await asyncio.to_thread(plan, snapshot, greedy)
        if made.certificate.status is types.SolveStatus.NOTHING_TO_DO:
            return made
        note = f"greedy plan: {why}"
        return dataclasses.replace(made, certificate=dataclasses.replace(made.certificate, note=note))


def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and close its pipes; without the latter they stay open until the loop has read their end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    # asyncio has no public way to close the pipes of a process that was killed.
    process._transport.close()  # type: ignore[attr-defined]


async def _read(stream: asyncio.StreamReader) -> bytes:
    (size,) = _HEADER.unpack(await stream.readexactly(_HEADER.size))
    return await stream.readexactly(size)


def main() -> None:
    """The worker's side: questions on standard input, answers on what was standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a solver prints must not get between the answers
    questions: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, questions), daemon=True).start()
    importlib.import_module("stowplan_allocator.exact")  # now, and not within the first plan's time limit
    _send(answers, _READY)
    while True:
        snapshot, settings = pickle.loads(questions.get())  # noqa: S301 - from our parent alone
        result: object
        try:
            result = plan(snapshot, settings)
        except Exception as error:
            error.add_note("raised in the planner process")
            result = error
        _send(answers, pickle.dumps(result, pickle.HIGHEST_PROTOCOL))


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
