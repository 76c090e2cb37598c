"""Reading progress from scripts that are not trusted, and what follows from two reports."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stowplan_allocator.types import Resources
from stowplan_operator import kube as kube_module
from stowplan_operator import progress, progress_reader
from stowplan_operator.kube import ApiError
from stowplan_operator.progress import Progress
from stowplan_operator.progress_reader import ProgressError, Via
from stowplan_operator.views import PodView
from unit.operator.bad_servers import endless, never

NOW = 1_800_000_000.0
OURS = """# HELP stowplan_train_step Steps done.
# TYPE stowplan_train_step gauge
stowplan_train_step 420
stowplan_train_steps_total{job="digits"} 1000
stowplan_train_loss 0.1234
stowplan_train_samples_per_second 812.5
stowplan_train_checkpoint_step 400
stowplan_train_checkpoint_timestamp_seconds 1.79999999e+09
stowplan_train_checkpoint_save_seconds 2.5
stowplan_train_eval_accuracy 0.97
python_gc_objects_collected_total{generation="0"} 321.0
"""
WANT = Progress(
    step=420,
    steps_total=1000,
    loss=0.1234,
    samples_per_second=812.5,
    checkpoint_step=400,
    checkpoint_timestamp_seconds=1_799_999_990.0,
    checkpoint_save_seconds=2.5,
    eval_accuracy=0.97,
)

TEXTS: dict[str, tuple[str, Progress | None]] = {
    "all of our names": (OURS, WANT),
    "a script that serves only its step": ("stowplan_train_step 7\n", Progress(step=7)),
    "no newline at the end": ("stowplan_train_step 7", Progress(step=7)),
    "none of our names": ("up 1\n", None),
    "nothing": ("", None),
    "the first of several ranks counts": (
        'stowplan_train_step{rank="0"} 7\nstowplan_train_step{rank="1"} 8\n',
        Progress(step=7),
    ),
    "a broken line does not hide the others": ("stowplan_train_step{ 1\nstowplan_train_loss 2\n", Progress(loss=2)),
    "not a number": ("stowplan_train_step seven\n", None),
    "a negative step": ("stowplan_train_step -1\n", None),
    "a NaN step": ("stowplan_train_step NaN\n", None),
    "an infinite total": ("stowplan_train_step 1\nstowplan_train_steps_total +Inf\n", Progress(step=1)),
    "a huge step": ("stowplan_train_step 1e300\n", None),
    "a total of nothing": ("stowplan_train_steps_total 0\n", None),
    "no checkpoint yet, as -1 and 0": (
        "stowplan_train_step 1\nstowplan_train_checkpoint_step -1\nstowplan_train_checkpoint_timestamp_seconds 0\n",
        Progress(step=1),
    ),
    "a checkpoint in the far future": ("stowplan_train_checkpoint_timestamp_seconds 1.9e9\n", None),
    "a loss may be negative": ("stowplan_train_loss -3.5\n", Progress(loss=-3.5)),
    "a loss that became NaN is said in words": (
        "stowplan_train_step 9\nstowplan_train_loss NaN\n",
        Progress(step=9, message="the loss is not a finite number"),
    ),
    "a negative pace": ("stowplan_train_samples_per_second -5\n", None),
    "a line of a megabyte": (
        'stowplan_train_step{x="' + "y" * 1_000_000 + '"} 1\nstowplan_train_loss 1\n',
        Progress(loss=1),
    ),
    "more lines than anyone needs": ("stowplan_train_x 1\n" * 100_000 + "stowplan_train_step 1\n", None),
}


@pytest.mark.parametrize(("text", "want"), TEXTS.values(), ids=TEXTS)
def test_parse_metrics(text: str, want: Progress | None) -> None:
    found = progress_reader.parse_metrics(text, read_at_seconds=NOW)
    assert found == want
    assert found is None or found.read_at_seconds == NOW


MESSAGES: dict[str, tuple[str, Progress | None]] = {
    "the summary alone": (
        '{"stowplan":{"step":10,"stepsTotal":10,"loss":0.5,"accuracy":0.96,"checkpointStep":8}}',
        Progress(step=10, steps_total=10, loss=0.5, eval_accuracy=0.96, checkpoint_step=8),
    ),
    "after other text, and the last one counts": (
        'epoch 1\n{"stowplan":{"step":1}}\n{"stowplan":{"step":2}}\nbye\n',
        Progress(step=2),
    ),
    "a summary cut off, after a whole one": ('{"stowplan":{"step":1}}\n{"stowplan":{"st', Progress(step=1)),
    "other JSON": ('{"error":"x"}', None),
    "a summary that is no object": ('{"stowplan":7}', None),
    "values that are no numbers": ('{"stowplan":{"step":"ten","loss":null,"accuracy":[1]}}', None),
    "numbers past all measure": ('{"stowplan":{"step":1' + "0" * 400 + ',"loss":1}}', Progress(loss=1)),
    "a NaN loss": ('{"stowplan":{"loss":NaN}}', Progress(message="the loss is not a finite number")),
    "very deep JSON": ('{"stowplan":' + "[" * 100_000, None),
    "plain text": ("Traceback (most recent call last):\n  boom", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("message", "want"), MESSAGES.values(), ids=MESSAGES)
def test_final_from_termination(message: str, want: Progress | None) -> None:
    assert progress.final_from_termination(message) == want


def pod(**changes: Any) -> PodView:
    base = PodView(
        namespace="team-a",
        name="digits-1-0",
        uid="pod-1",
        resource_version="1",
        owner_uid="job-1",
        job="digits",
        attempt=1,
        rank=0,
        managed=True,
        node="w1",
        phase="Running",
        ready=True,
        running=True,
        deleting_since=0,
        created_at=0,
        started_at=0,
        ip="127.0.0.1",
        requests=Resources(),
        waiting_reason="",
        waiting_message="",
        end=None,
        disruption="",
    )
    return dataclasses.replace(base, **changes)


class FakeKube(kube_module.KubeApi):
    """Only the pod proxy."""

    def __init__(self, answer: str | Exception = OURS) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, int]] = []

    async def read_pod_metrics(self, namespace: str, name: str, *, port: int, timeout_seconds: float) -> str:
        self.asked.append((namespace, name, port))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> int:
        app = web.Application()
        app.router.add_get("/metrics", handler)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        servers.append(server)
        assert server.port
        return server.port

    yield start
    for server in servers:
        await server.close()


async def read(
    session: aiohttp.ClientSession,
    *,
    via: Via = "direct",
    port: int = 9400,
    kube: FakeKube | None = None,
    **changes: Any,
) -> Progress | None:
    return await progress_reader.read_progress(
        pod(**changes),
        kube=kube or FakeKube(AssertionError("the proxy is not to be asked")),
        via=via,
        session=session,
        timeout_seconds=0.5,
        max_bytes=100_000,
        now_seconds=NOW,
        port=port,
    )


async def good(_: web.Request) -> web.StreamResponse:
    return web.Response(text=OURS)


async def test_direct_reads_from_the_pod(serve: Serve, session: aiohttp.ClientSession) -> None:
    assert await read(session, port=await serve(good)) == WANT


async def test_the_proxy_reads_through_the_api_server(session: aiohttp.ClientSession) -> None:
    kube = FakeKube()
    assert await read(session, via="proxy", kube=kube) == WANT
    assert kube.asked == [("team-a", "digits-1-0", 9400)]


@pytest.mark.parametrize("inside", [True, False])
async def test_auto_goes_direct_only_inside_the_cluster(
    inside: bool, serve: Serve, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_module, "in_cluster", lambda: inside)
    kube = FakeKube()
    assert await read(session, via="auto", port=await serve(good), kube=kube) == WANT
    assert bool(kube.asked) is not inside


async def redirect(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data")


async def packed(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"", headers={"Content-Encoding": "identity"})


async def missing(_: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


UNREADABLE: dict[str, tuple[Handler, str]] = {
    "redirects are not followed": (redirect, "HTTP 302"),
    "an answer without an end is cut off": (endless, "more than 100000 bytes"),
    "packed answers are refused": (packed, "packed"),
    "a silent server": (never, "within 0.5 s"),
    "no such page": (missing, "HTTP 404"),
}


@pytest.mark.parametrize(("handler", "want_text"), UNREADABLE.values(), ids=UNREADABLE)
async def test_direct_failures_say_why(
    handler: Handler, want_text: str, serve: Serve, session: aiohttp.ClientSession
) -> None:
    with pytest.raises(ProgressError, match=f"pod digits-1-0 at .*{want_text}"):
        await read(session, port=await serve(handler))


async def test_a_closed_port_and_a_pod_without_address(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ProgressError, match="cannot be read"):
        await read(session, port=1)
    with pytest.raises(ProgressError, match="no address yet"):
        await read(session, ip="")


PROXY_FAILURES = {
    "no right": (ApiError(403, "Forbidden", "secret details"), "403 Forbidden; it takes the right to get pods/proxy"),
    "no answer": (ApiError(0, "Timeout", "GET took over 3 s"), r"\(Timeout\)"),
    "too much": ("x" * 100_001, "more than 100000 bytes"),
}


@pytest.mark.parametrize(("answer", "want_text"), PROXY_FAILURES.values(), ids=PROXY_FAILURES)
async def test_proxy_failures_say_why(answer: str | Exception, want_text: str, session: aiohttp.ClientSession) -> None:
    with pytest.raises(ProgressError, match=want_text):
        await read(session, via="proxy", kube=FakeKube(answer))


def report(step: int | None, at: float, total: int | None = 1000) -> Progress:
    return Progress(step=step, steps_total=total, read_at_seconds=NOW + at)


ESTIMATES: dict[str, tuple[Progress, Progress, float | None]] = {
    "a steady pace": (report(0, 0), report(100, 10), 90),
    "after a restart from a checkpoint": (report(500, 0), report(600, 20), 80),
    "done": (report(0, 0), report(1000, 10), 0),
    "past the end": (report(0, 0), report(1200, 10), 0),
    "one report": (report(100, 0), report(100, 0), None),
    "no step since": (report(100, 0), report(100, 50), None),
    "backwards": (report(100, 0), report(50, 10), None),
    "a clock that went back": (report(0, 10), report(50, 0), None),
    "no total": (report(0, 0), report(100, 10, None), None),
    "no step": (report(None, 0), report(100, 10), None),
}


@pytest.mark.parametrize(("first", "last", "want"), ESTIMATES.values(), ids=ESTIMATES)
def test_estimate_seconds_left(first: Progress, last: Progress, want: float | None) -> None:
    assert progress.estimate_seconds_left(first, last) == want


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        (None, ""),
        (math.inf, ""),
        (math.nan, ""),
        (0, "under 1m"),
        (59, "under 1m"),
        (60, "about 1m"),
        (180, "about 3m"),
        (5300, "about 88m"),
        (5400, "about 2h"),
        (3600 * 47, "about 47h"),
        (3600 * 72, "about 3d"),
    ],
)
def test_eta_text(seconds: float | None, want: str) -> None:
    assert progress.eta_text(seconds) == want
