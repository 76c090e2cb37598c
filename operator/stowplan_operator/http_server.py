"""``/metrics``, ``/livez`` and ``/readyz``, what "alive" means, and ``/snapshot`` for questions.

The server runs in a thread with an event loop of its own: a planner that holds the main loop cannot delay an
answer, and a main loop that hangs is reported in words (503) and not as a probe's time-out.

What must stay true: only parts that were asked to be watched can be late; a follower watches no planner and
is alive; ages are measured on the monotonic clock, which stands still with a suspended machine; ``/snapshot``, which
names the jobs of all namespaces, is served on loopback alone: it is reached by forwarding the port of the pod, which
is a right that the API server checks.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import prometheus_client.exposition
from aiohttp import web

from stowplan_operator.answers import Desk, NothingToTellError
from stowplan_operator.metrics import Metrics
from stowplan_operator.settings import Settings

_LOOPBACK = "127.0.0.1"


def planner_max_age_seconds(settings: Settings) -> float:
    """The longest time between two planner heartbeats that still counts as alive."""
    return max(3 * settings.planner.resync_seconds, 2 * settings.planner.time_limit_seconds + 30)


@dataclass(frozen=True, slots=True)
class Late:
    """A part that does not do what it should: ``message`` says for how long, or what failed."""

    part: str
    message: str


class Liveness:
    """Heartbeats of the parts whose silence means that the process must be replaced. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[str, float] = {}
        self._beats: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._not_ready = "the operator is starting"

    def watch(self, part: str, *, max_age_seconds: float) -> None:
        """Expect heartbeats of a part from now on; again to change the limit, which counts as a beat."""
        with self._lock:
            self._limits[part] = max_age_seconds
            self._beats[part] = self._clock()

    def beat(self, part: str) -> None:
        """The part is at work. Ignored where the part is not watched."""
        with self._lock:
            if part in self._limits:
                self._beats[part] = self._clock()

    def unwatch(self, part: str) -> None:
        """Expect nothing of the part any more, as of a planner without the Lease."""
        with self._lock:
            self._limits.pop(part, None)
            self._beats.pop(part, None)

    def fail(self, part: str, message: str) -> None:
        """The part can only be helped by a new process."""
        with self._lock:
            self._failed[part] = message

    def set_ready(self, not_ready: str = "") -> None:
        """Ready from now on, or not, and why not."""
        with self._lock:
            self._not_ready = not_ready

    def late(self) -> tuple[Late, ...]:
        """What is late or failed, by part; empty means alive."""
        with self._lock:
            now = self._clock()
            found = dict(self._failed)
            for part, limit in self._limits.items():
                age = now - self._beats[part]
                if age > limit:
                    found.setdefault(part, f"no sign of life for {age:.0f} s (limit {limit:.0f} s)")
            return tuple(Late(part, message) for part, message in sorted(found.items()))

    def not_ready(self) -> str:
        """Why the operator is not ready; empty when it is."""
        with self._lock:
            return self._not_ready


class HttpServer:
    """The servers of metrics, health and answers; port 0 takes a free one.

    Metrics and health on equal ports share one server; answers never share theirs.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        liveness: Liveness,
        metrics_port: int,
        health_port: int,
        answers_port: int,
        desk: Desk,
        host: str | None = None,
    ) -> None:
        self._metrics = metrics
        self._liveness = liveness
        self._desk = desk
        self._wanted = (metrics_port, health_port, answers_port)
        self._host = host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self.metrics_port = 0
        self.health_port = 0
        self.answers_port = 0

    async def start(self) -> None:
        """Listen; OSError where a port cannot be had."""
        started: concurrent.futures.Future[tuple[int, int, int]] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="stowplan-http", daemon=True
        )
        self._thread.start()
        self.metrics_port, self.health_port, self.answers_port = await asyncio.wrap_future(started)

    async def stop(self) -> None:
        """Close all connections and end the thread."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 5)
            self._thread = None

    async def _serve(self, started: concurrent.futures.Future[tuple[int, int, int]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        metrics_routes = [web.get("/metrics", self._get_metrics)]
        health_routes = [web.get("/livez", self._get_livez), web.get("/readyz", self._get_readyz)]
        answers_routes = [web.get("/snapshot", self._get_snapshot)]
        metrics_port, health_port, answers_port = self._wanted
        async with contextlib.AsyncExitStack() as stack:
            try:
                if metrics_port == health_port != 0:
                    metrics = health = await self._listen(
                        stack, [*metrics_routes, *health_routes], metrics_port, host=self._host
                    )
                else:
                    metrics = await self._listen(stack, metrics_routes, metrics_port, host=self._host)
                    health = await self._listen(stack, health_routes, health_port, host=self._host)
                answers = await self._listen(stack, answers_routes, answers_port, host=_LOOPBACK)
            except OSError as error:
                started.set_exception(error)
                return
            started.set_result((metrics, health, answers))
            await self._stop.wait()

    async def _listen(
        self, stack: contextlib.AsyncExitStack, routes: list[web.RouteDef], port: int, *, host: str | None
    ) -> int:
        app = web.Application(client_max_size=1024)
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, host, port).start()
        actual: int = runner.addresses[0][1]
        return actual

    async def _get_metrics(self, request: web.Request) -> web.Response:
        encode, content_type = prometheus_client.exposition.choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._metrics.registry), headers={"Content-Type": content_type})

    async def _get_livez(self, _: web.Request) -> web.Response:
        late = self._liveness.late()
        body = {"alive": not late, "late": {one.part: one.message for one in late}}
        return web.json_response(body, status=503 if late else 200)

    async def _get_readyz(self, _: web.Request) -> web.Response:
        late = self._liveness.late()
        reason = self._liveness.not_ready() or "; ".join(f"{one.part}: {one.message}" for one in late)
        return web.json_response({"ready": not reason, "reason": reason}, status=503 if reason else 200)

    async def _get_snapshot(self, request: web.Request) -> web.Response:
        # A web page in a browser on this machine may have its own name point here; its requests still carry that name.
        if request.url.host not in (_LOOPBACK, "localhost"):
            return web.json_response({"reason": f"ask {_LOOPBACK}, not {request.url.host}"}, status=403)
        try:
            body = await asyncio.to_thread(self._desk.document)
        except NothingToTellError as error:
            return web.json_response({"reason": str(error), "leader": error.leader}, status=503)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "Cache-Control": "no-store"}
        return web.Response(body=body, headers=headers)
