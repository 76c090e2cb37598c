"""The connection to the API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client as aio_client

from stowplan_operator.kube import ApiError, Kube
from stowplan_operator.leader import NotLeaderError


class SlowServer:
    """Answers for Leases at once, and holds every creation of a pod until ``go``."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.is_full = asyncio.Event()
        self.waiting = 0

    async def create_pod(self, _: web.Request) -> web.Response:
        self.waiting += 1
        if self.waiting == 16:
            self.is_full.set()
        await self.go.wait()
        return web.json_response({})

    async def read_lease(self, _: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "stowplan-operator"}})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/v1/namespaces/team/pods", self.create_pod)
        app.router.add_get("/apis/coordination.k8s.io/v1/namespaces/system/leases/stowplan-operator", self.read_lease)
        return app


@pytest.fixture
async def slow_server() -> SlowServer:
    return SlowServer()


@pytest.fixture
async def api_server(slow_server: SlowServer) -> AsyncIterator[Kube]:
    async with TestServer(slow_server.app()) as server:
        configuration = aio_client.Configuration(host=str(server.make_url("")).rstrip("/"))
        connection = Kube(configuration)
        yield connection
        await connection.close()


async def test_the_lease_is_renewed_while_a_thousand_pods_are_in_the_queue(
    api_server: Kube, slow_server: SlowServer
) -> None:
    creations = [asyncio.create_task(api_server.create("pods", "team", {})) for _ in range(1000)]
    async with asyncio.timeout(5):
        await slow_server.is_full.wait()
        assert await api_server.read_lease("system", "stowplan-operator") is not None
    assert slow_server.waiting == 16
    slow_server.go.set()
    await asyncio.gather(*creations)


async def test_writes_in_the_queue_are_not_sent_once_the_lease_is_lost(
    api_server: Kube, slow_server: SlowServer
) -> None:
    """As in a process that is frozen while it creates a large gang, and thawed after another one took over."""
    creations = [asyncio.create_task(api_server.create("pods", "team", {})) for _ in range(64)]
    await slow_server.is_full.wait()

    def lost() -> None:
        raise NotLeaderError("the Lease was not renewed in time")

    api_server.guard = lost
    slow_server.go.set()
    outcomes = await asyncio.gather(*creations, return_exceptions=True)
    assert sum(isinstance(outcome, NotLeaderError) for outcome in outcomes) == 64 - 16
    assert slow_server.waiting == 16
    assert await api_server.read_lease("system", "stowplan-operator") is not None, "reads and Leases go on"


@pytest.mark.parametrize("where", ["/api/v1/namespaces/kube-system/secrets/s", "http://127.0.0.1:1/latest/meta-data"])
async def test_a_pod_does_not_send_the_operator_elsewhere_through_the_proxy(where: str) -> None:
    """The API server hands a pod's answer through, and the operator's credentials go with each of its requests."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Cookie")))
        return web.Response(status=302, headers={"Location": where, "Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        # By name: for addresses no cookie is ever kept.
        connection = Kube(aio_client.Configuration(host=f"http://localhost:{server.port}"))
        for _ in range(2):
            with pytest.raises(ApiError, match="302"):
                await connection.read_pod_metrics("team", "a-1-0", port=9400, timeout_seconds=1)
        with pytest.raises(ApiError, match="302"):
            _ = [piece async for piece in connection.stream("/logs")]
        await connection.close()
    metrics = "/api/v1/namespaces/team/pods/a-1-0:9400/proxy/metrics"
    assert asked == [(metrics, None), (metrics, None), ("/logs", None)]
