"""A proxy between one operator and the API server, in which faults are injected.

It numbers and logs every write (Leases and Events aside: the first come by the clock, the second stop nothing), and
hands each call to the first fault that wants it. What must stay true: without faults it changes nothing; a fault
decides alone whether the API server ever sees the call and whether the operator ever sees the answer; a killed
operator's calls that were not forwarded yet are never forwarded.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import aiohttp
from aiohttp import web

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_DROPPED = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


class CutConnection(Exception):  # noqa: N818 - it is what happens to the operator, not an error of the proxy
    """The operator gets no answer: its connection is closed."""


@dataclasses.dataclass(slots=True)
class Call:
    """One request of the operator; ``number`` counts its writes from 1 and is 0 for reads."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    headers: dict[str, str]
    number: int = 0
    status: int = 0

    @property
    def is_watch(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.query.get("watch") in ("true", "1")

    @property
    def is_list(self) -> bool:
        """Whether it reads a collection of one resource, as kopf does (the audit asks for metadata only)."""
        return self.method == "GET" and not self.is_watch and "PartialObject" not in self.headers.get("Accept", "")

    @property
    def resource(self) -> str:
        """The plural of the resource, with its subresource: ``pods``, ``trainingjobs/status``."""
        parts = self.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if len(parts) > 2 and parts[0] == "namespaces":
            parts = parts[2:]
        if not parts:
            return ""
        return "/".join([parts[0], *parts[2:3]])

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    body: bytes
    content_type: str = "application/json"

    @staticmethod
    def refusal(status: int, reason: str, message: str, *, retry_after: int | None = None) -> Answer:
        """A Status object as the API server writes it."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
        }
        if retry_after is not None:
            body["details"] = {"retryAfterSeconds": retry_after}
        return Answer(status, json.dumps(body).encode())


Forward = Callable[[], Awaitable[Answer]]


class Fault(Protocol):
    """Takes the calls that it wants, and decides what becomes of them."""

    def wants(self, call: Call) -> bool:
        """Whether this call is the fault's."""

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """The answer that the operator gets; ``forward`` asks the API server."""


class Proxy:
    """Serves on a free loopback port in a thread of its own until closed."""

    def __init__(self, *, url: str, ca_file: str, token: str) -> None:
        self._upstream = url
        self._token = token
        self._trust = ssl.create_default_context(cafile=ca_file)
        self._trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.writes: list[Call] = []
        self.faults: list[Fault] = []
        self.pid: int | None = None
        self._url = ""
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the proxy did not start within 10 s")

    @property
    def url(self) -> str:
        """Where the operator finds it."""
        return self._url

    def close(self) -> None:
        """Stop serving; open connections are cut."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
        self._loop.close()

    def kill_operator(self) -> None:
        """SIGKILL, at this very moment."""
        if self.pid is not None:
            pid, self.pid = self.pid, None
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._trust)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        # Nothing is asked for compressed: answers go on as they come, without their headers.
        plain = {"skip_auto_headers": ("Accept-Encoding",)}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, **plain) as session:
            self._session = session
            # A watch of a dead operator would otherwise stay open until it has something to tell.
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self._url = f"http://{host}:{port}"
            self._ready.set()
            await self._stopped.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            body=await request.read(),
            headers={name: value for name, value in request.headers.items() if name.lower() not in _DROPPED},
        )
        if call.method in WRITES and call.resource not in ("leases", "events"):
            self.writes.append(call)
            call.number = len(self.writes)
        fault = next((fault for fault in self.faults if fault.wants(call)), None)
        try:
            if fault is None and call.is_watch:
                return await self._stream(request, call)
            forward = self._forward_once(call)
            answer = await (forward() if fault is None else fault.handle(call, forward))
        except (CutConnection, aiohttp.ClientError) as error:
            if request.transport is not None:
                request.transport.abort()
            raise web.HTTPBadGateway(text=str(error)) from None  # nobody is there any more to read it
        call.status = answer.status
        return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type})

    def _forward_once(self, call: Call) -> Forward:
        async def forward() -> Answer:
            async with self._ask(call) as response:
                body = await response.read()
                call.status = response.status
                return Answer(response.status, body, response.headers.get("Content-Type", "application/json"))

        return forward

    def _ask(self, call: Call) -> Any:
        assert self._session is not None
        return self._session.request(
            call.method,
            self._upstream + call.path,
            params=call.query,
            data=call.body or None,
            headers={**call.headers, "Authorization": f"Bearer {self._token}"},
        )

    async def _stream(self, request: web.Request, call: Call) -> web.StreamResponse:
        async with self._ask(call) as upstream:
            response = web.StreamResponse(status=upstream.status)
            response.content_type = "application/json"
            await response.prepare(request)
            async for piece in self._pieces(upstream, call):
                await response.write(piece)
            return response

    async def _pieces(self, upstream: aiohttp.ClientResponse, call: Call) -> AsyncIterator[bytes]:
        """The stream, for as long as no fault takes the watch."""
        async for piece in upstream.content.iter_any():
            for fault in self.faults:
                if fault.wants(call):
                    await fault.handle(call, self._forward_once(call))
            yield piece
