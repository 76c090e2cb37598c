"""The faults: what a real cluster does to an operator, each at a chosen moment."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable

from faults.proxy import Answer, Call, CutConnection, Forward, Proxy

REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


async def _until(event: threading.Event) -> None:
    """Wait for what the test's own thread sets."""
    await asyncio.to_thread(event.wait)


@dataclasses.dataclass(slots=True)
class Kill:
    """SIGKILL of the operator at write ``number``: ``before`` the API server sees it, or after, its answer lost."""

    proxy: Proxy
    number: int
    before: bool
    fired: threading.Event = dataclasses.field(default_factory=threading.Event)

    def wants(self, call: Call) -> bool:
        """The write itself; and everything that a dead process had on its way."""
        return call.number == self.number or (self.fired.is_set() and self.proxy.pid is None)

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """Kill, and never answer."""
        if call.number == self.number and not self.fired.is_set():
            if not self.before:
                await forward()
            self.proxy.kill_operator()
            self.fired.set()
        raise CutConnection("the operator was killed")

    def __str__(self) -> str:
        return f"killed {'before' if self.before else 'after'} write {self.number}"


@dataclasses.dataclass(slots=True)
class Refuse:
    """Writes ``first`` to ``last`` are answered with an error that the API server really gives, and not made."""

    status: int
    first: int
    last: int

    def wants(self, call: Call) -> bool:
        """These writes."""
        return self.first <= call.number <= self.last

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """The API server never sees it."""
        pause = 1 if self.status == 429 else None
        return Answer.refusal(self.status, REASONS[self.status], f"injected: {call}", retry_after=pause)

    def __str__(self) -> str:
        return f"writes {self.first} to {self.last} answered with {self.status}"


@dataclasses.dataclass(slots=True)
class Lose:
    """Write ``number`` gets no answer, made or not (``before``: not)."""

    number: int
    before: bool

    def wants(self, call: Call) -> bool:
        """This write."""
        return call.number == self.number

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """Cut the connection."""
        if not self.before:
            await forward()
        raise CutConnection("injected")

    def __str__(self) -> str:
        return f"write {self.number} {'never arrived' if self.before else 'made, its answer lost'}"


@dataclasses.dataclass(slots=True)
class Delay:
    """Writes ``first`` to ``last`` take so much longer; every write from ``first`` on without a last one."""

    seconds: float
    first: int = 1
    last: int | None = None

    def wants(self, call: Call) -> bool:
        """These writes."""
        return call.number >= self.first and (self.last is None or call.number <= self.last)

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """Later."""
        await asyncio.sleep(self.seconds)
        return await forward()

    def __str__(self) -> str:
        return f"writes {self.first} to {self.last or 'the last'} delayed by {self.seconds} s"


@dataclasses.dataclass(slots=True)
class StaleLists:
    """The next process gets the LISTs of an earlier one, as from an API server whose cache lags behind.

    While ``recording`` the answers are kept; afterwards each is served instead of the true one, ``times`` times.
    """

    resources: frozenset[str]
    times: int = 1
    recording: bool = True
    _kept: dict[str, Answer] = dataclasses.field(default_factory=dict)
    _given: dict[str, int] = dataclasses.field(default_factory=dict)

    def wants(self, call: Call) -> bool:
        """LISTs of these resources."""
        return call.is_list and call.resource in self.resources

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """The true answer while recording or when it was served often enough."""
        key = f"{call.path}?{sorted(call.query.items())}"
        if not self.recording and key in self._kept and self._given.get(key, 0) < self.times:
            self._given[key] = self._given.get(key, 0) + 1
            return self._kept[key]
        answer = await forward()
        if self.recording and answer.status == 200:
            self._kept[key] = answer
        return answer

    def __str__(self) -> str:
        return f"stale LISTs of {', '.join(sorted(self.resources))}"


@dataclasses.dataclass(slots=True)
class SilentWatch:
    """Watches of these resources stay open and tell nothing until ``over`` is set."""

    resources: frozenset[str]
    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    def wants(self, call: Call) -> bool:
        """Their watches, those that are open already too."""
        return call.is_watch and call.resource in self.resources and not self.over.is_set()

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """Nothing comes, and when the fault is over the connection is cut, as after a network failure."""
        await _until(self.over)
        raise CutConnection("injected")

    def __str__(self) -> str:
        return f"silent watches of {', '.join(sorted(self.resources))}"


@dataclasses.dataclass(slots=True)
class HoldAndFreeze:
    """At write ``number`` the operator is stopped (SIGSTOP) with that write still on its way, until ``over``.

    A process that is thawed after another one took the Lease, and its last write that arrives only then.
    """

    freeze: Callable[[], None]
    number: int
    frozen: threading.Event = dataclasses.field(default_factory=threading.Event)
    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    def wants(self, call: Call) -> bool:
        """This write."""
        return call.number == self.number

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """Forward it when it is over."""
        self.freeze()
        self.frozen.set()
        await _until(self.over)
        return await forward()

    def __str__(self) -> str:
        return f"frozen at write {self.number}, which arrives after the thaw"


@dataclasses.dataclass(slots=True)
class CutOff:
    """Nothing goes through, watches included, until ``over`` is set: the network between operator and API server."""

    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    def wants(self, call: Call) -> bool:
        """Everything."""
        return not self.over.is_set()

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """The connection is refused."""
        raise CutConnection("injected")

    def __str__(self) -> str:
        return "cut off"
