"""Liveness with a clock of its own; the server over real sockets on loopback."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from stowplan_operator import settings as settings_module
from stowplan_operator.answers import Desk
from stowplan_operator.http_server import HttpServer, Late, Liveness, planner_max_age_seconds
from stowplan_operator.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_server(
    liveness: Liveness,
    *,
    metrics_port: int = 0,
    health_port: int = 0,
    host: str = "127.0.0.1",
    desk: Desk | None = None,
) -> HttpServer:
    """On free ports, where none are given."""
    return HttpServer(
        metrics=Metrics(version="1"),
        liveness=liveness,
        metrics_port=metrics_port,
        health_port=health_port,
        answers_port=0,
        desk=desk or Desk(),
        host=host,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    return Liveness(clock=clock)


@pytest.fixture
async def server(liveness: Liveness) -> AsyncIterator[HttpServer]:
    started = HttpServer(
        metrics=Metrics(version="1.2.3"),
        liveness=liveness,
        metrics_port=0,
        health_port=0,
        answers_port=0,
        desk=Desk(),
        host="127.0.0.1",
    )
    await started.start()
    yield started
    await started.stop()


async def get(port: int, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, response.content_type, await response.text()


async def health(server: HttpServer, path: str) -> tuple[int, dict[str, Any]]:
    status, _, text = await get(server.health_port, path)
    return status, json.loads(text)


LIMITS = {
    "defaults": ({}, 90),
    "a slow resync": ({"resyncSeconds": 60}, 180),
    "a long solve": ({"timeLimitSeconds": 120}, 270),
}


@pytest.mark.parametrize(("planner", "want_seconds"), LIMITS.values(), ids=LIMITS)
def test_planner_max_age(planner: dict[str, float], want_seconds: float) -> None:
    assert planner_max_age_seconds(settings_module.parse({"planner": planner})) == want_seconds


def test_only_watched_parts_can_be_late(liveness: Liveness, clock: Clock) -> None:
    clock.now = 1e6
    liveness.beat("planner")
    assert liveness.late() == ()


def test_a_part_is_late_only_past_its_limit_and_recovers(liveness: Liveness, clock: Clock) -> None:
    liveness.watch("planner", max_age_seconds=90)
    clock.now = 90
    assert liveness.late() == ()
    clock.now = 91
    assert liveness.late() == (Late("planner", "no sign of life for 91 s (limit 90 s)"),)
    liveness.beat("planner")
    assert liveness.late() == ()


def test_a_leader_that_becomes_a_follower_is_alive(liveness: Liveness, clock: Clock) -> None:
    liveness.watch("planner", max_age_seconds=90)
    liveness.unwatch("planner")
    liveness.unwatch("planner")
    clock.now = 1000
    assert liveness.late() == ()


def test_a_failed_part_does_not_recover_by_beating(liveness: Liveness) -> None:
    liveness.watch("indexes", max_age_seconds=90)
    liveness.fail("indexes", "they differ from the API server")
    liveness.beat("indexes")
    assert liveness.late() == (Late("indexes", "they differ from the API server"),)


async def test_livez_says_what_is_late(server: HttpServer, liveness: Liveness, clock: Clock) -> None:
    assert await health(server, "/livez") == (200, {"alive": True, "late": {}})
    liveness.watch("planner", max_age_seconds=90)
    clock.now = 120
    late = {"planner": "no sign of life for 120 s (limit 90 s)"}
    assert await health(server, "/livez") == (503, {"alive": False, "late": late})


async def test_readyz_waits_for_the_start_and_for_life(server: HttpServer, liveness: Liveness) -> None:
    assert await health(server, "/readyz") == (503, {"ready": False, "reason": "the operator is starting"})
    liveness.set_ready()
    assert await health(server, "/readyz") == (200, {"ready": True, "reason": ""})
    liveness.fail("planner", "bug")
    assert await health(server, "/readyz") == (503, {"ready": False, "reason": "planner: bug"})


async def test_metrics_are_on_a_port_of_their_own(server: HttpServer) -> None:
    status, content_type, text = await get(server.metrics_port, "/metrics")
    assert (status, content_type) == (200, "text/plain")
    assert 'stowplan_build_info{version="1.2.3"} 1.0' in text
    assert server.metrics_port != server.health_port
    assert (await get(server.health_port, "/metrics"))[0] == 404
    assert (await get(server.metrics_port, "/livez"))[0] == 404


async def test_openmetrics_for_those_who_ask(server: HttpServer) -> None:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")


async def test_a_blocked_main_loop_does_not_delay_answers(server: HttpServer, liveness: Liveness, clock: Clock) -> None:
    liveness.watch("planner", max_age_seconds=90)
    clock.now = 120

    def ask() -> tuple[int, float]:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.health_port}/livez", timeout=5) as answer:
                return answer.status, time.monotonic() - began
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, time.monotonic() - began

    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(ask)
        time.sleep(2)  # noqa: ASYNC251 - it is the point: nothing else can run on this loop
        status, seconds = answer.result(0)
    assert status == 503
    assert seconds < 1.5


async def test_equal_ports_share_one_server(liveness: Liveness) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = a_server(liveness, metrics_port=port, health_port=port)
    await server.start()
    try:
        assert (server.metrics_port, server.health_port) == (port, port)
        assert [(await get(port, path))[0] for path in ("/metrics", "/livez")] == [200, 200]
    finally:
        await server.stop()


async def test_a_port_that_is_taken_is_an_error_at_start(server: HttpServer, liveness: Liveness) -> None:
    second = a_server(liveness, health_port=server.health_port)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.stop()


async def test_stop_frees_the_ports_and_may_be_called_twice(liveness: Liveness) -> None:
    server = a_server(liveness)
    await server.start()
    port = server.health_port
    await server.stop()
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(port, "/livez")
    await asyncio.sleep(0)


async def test_a_snapshot_is_on_loopback_on_a_port_of_its_own(liveness: Liveness) -> None:
    everywhere = a_server(liveness, host="0.0.0.0")
    await everywhere.start()
    try:
        with socket.socket() as probe, pytest.raises(OSError, match="refused"):
            probe.connect(("127.0.0.2", everywhere.answers_port))
        for port in (everywhere.metrics_port, everywhere.health_port):
            assert (await get(port, "/snapshot"))[0] == 404
    finally:
        await everywhere.stop()


async def test_who_does_not_lead_says_who_does(liveness: Liveness) -> None:
    desk = Desk(leader=lambda: "stowplan-x_1_ab")
    server = a_server(liveness, desk=desk)
    await server.start()
    try:
        status, _, text = await get(server.answers_port, "/snapshot")
        want = {"reason": "this operator does not lead, stowplan-x_1_ab does", "leader": "stowplan-x_1_ab"}
        assert (status, json.loads(text)) == (503, want)
        desk.lead(True)
        status, _, text = await get(server.answers_port, "/snapshot")
        want_reason = "the operator leads, but its first cycle has not ended yet"
        assert (status, json.loads(text)["reason"]) == (503, want_reason)
    finally:
        await server.stop()


async def test_a_page_whose_name_points_here_gets_nothing(server: HttpServer) -> None:
    url = f"http://127.0.0.1:{server.answers_port}/snapshot"
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Host": "evil.example"}) as response:
        assert response.status == 403
