"""The Prometheus client against a real HTTP server on loopback, and the joining of series."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stowplan_operator import dcgm
from stowplan_operator.prometheus import PrometheusClient, PrometheusError
from unit.operator.bad_servers import endless, never

NOW = 1_800_000_000.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/"))

    yield start
    for server in servers:
        await server.close()


def vector(*items: tuple[dict[str, str], Any]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [NOW, value]} for labels, value in items]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def by_family(answers: dict[str, list[tuple[dict[str, str], Any]]]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.path.endswith("/api/v1/query")
        family = request.query["query"].rsplit("(", 1)[1].rstrip(")")
        return web.json_response(vector(*answers.get(family, [])))

    return handle


def client(url: str, session: aiohttp.ClientSession, **changes: Any) -> PrometheusClient:
    options: dict[str, Any] = {"timeout_seconds": 5.0, "max_bytes": 1 << 20, **changes}
    return PrometheusClient(url=url, session=session, **options)


async def test_all_families_of_one_gpu_become_one_reading(serve: Serve, session: aiohttp.ClientSession) -> None:
    one = {"Hostname": "w1", "gpu": "1", "UUID": "GPU-b"}
    two = {"Hostname": "w1", "gpu": "0", "UUID": "GPU-a"}
    answers: dict[str, list[tuple[dict[str, str], Any]]] = {
        dcgm.XID: [(one, "79"), (two, "0")],
        dcgm.MEMORY_USED: [(one, "1000")],
        dcgm.MEMORY_FREE: [(one, "80000")],
        dcgm.MEMORY_RESERVED: [(one, "559")],
        dcgm.UTILISATION: [(one, "97")],
        dcgm.TEMPERATURE: [(one, "61")],
        dcgm.POWER: [(one, "655.5")],
    }
    read = await client(await serve(by_family(answers)), session).read_gpus(now_seconds=NOW)
    assert list(read) == ["w1"]
    first, second = read["w1"]
    assert (first.index, first.uuid, first.xid, first.memory_total_mib) == ("0", "GPU-a", 0, None)
    assert (second.index, second.uuid, second.xid) == ("1", "GPU-b", 79)
    assert (second.memory_used_mib, second.memory_total_mib) == (1000, 81559)
    assert (second.utilisation_percent, second.temperature_celsius, second.power_watts) == (97, 61, 655.5)
    assert second.sampled_at == NOW


NODE_NAMES = {
    "the exporter's old label": ({"Hostname": "w1"}, "w1"),
    "the exporter's newer label": ({"hostname": "w1"}, "w1"),
    "the scrape's node label beats the exporter's, which may be a pod's name": (
        {"node": "w1", "Hostname": "dcgm-exporter-x7k2p"},
        "w1",
    ),
    "kubernetes_node": ({"kubernetes_node": "w1", "Hostname": "pod"}, "w1"),
    "exported_node": ({"exported_node": "w1", "hostname": "pod"}, "w1"),
    "an empty label does not count": ({"node": "", "Hostname": "w1"}, "w1"),
}


@pytest.mark.parametrize(("labels", "want_node"), NODE_NAMES.values(), ids=NODE_NAMES)
async def test_node_name(labels: dict[str, str], want_node: str, serve: Serve, session: aiohttp.ClientSession) -> None:
    url = await serve(by_family({dcgm.XID: [({**labels, "gpu": "0", "UUID": "GPU-a"}, "48")]}))
    read = await client(url, session).read_gpus(now_seconds=NOW)
    assert {node: gpus[0].xid for node, gpus in read.items()} == {want_node: 48}


HOLDERS: dict[str, tuple[list[dict[str, str]], str]] = {
    "the exporter's own labels": ([{"namespace": "team", "pod": "a-1-0"}], "team/a-1-0"),
    "renamed by the scrape": (
        [{"exported_namespace": "team", "exported_pod": "a-1-0", "namespace": "gpu", "pod": "dcgm-x"}],
        "team/a-1-0",
    ),
    "an idle GPU": ([{}], ""),
    "a pod without a namespace": ([{"exported_pod": "a-1-0"}], ""),
    "several pods share the GPU": ([{"namespace": "t", "pod": "a"}, {"namespace": "t", "pod": "b"}], ""),
}


@pytest.mark.parametrize(("labels", "want"), HOLDERS.values(), ids=HOLDERS)
async def test_whose_the_gpu_is(
    labels: list[dict[str, str]], want: str, serve: Serve, session: aiohttp.ClientSession
) -> None:
    gpu = {"Hostname": "w1", "gpu": "0", "UUID": "GPU-a"}
    url = await serve(by_family({dcgm.XID: [({**gpu, **one}, "13") for one in labels], dcgm.POWER: [(gpu, "90")]}))
    (reading,) = (await client(url, session).read_gpus(now_seconds=NOW))["w1"]
    assert (reading.pod, reading.xid, reading.power_watts) == (want, 13, 90)


async def test_mig_instances_are_one_gpu_whose_total_memory_is_unknown(
    serve: Serve, session: aiohttp.ClientSession
) -> None:
    gpu = {"Hostname": "w1", "gpu": "0", "UUID": "GPU-a"}
    halves = [({**gpu, "GPU_I_ID": "1"}, "100"), ({**gpu, "GPU_I_ID": "2"}, "200")]
    url = await serve(by_family({dcgm.MEMORY_USED: halves, dcgm.MEMORY_FREE: halves}))
    (reading,) = (await client(url, session).read_gpus(now_seconds=NOW))["w1"]
    assert (reading.memory_used_mib, reading.memory_total_mib) == (300, None)


VALUES = {
    "a code": ("79", 79),
    "not a number": ("NaN", 0),
    "infinite": ("+Inf", 0),
    "negative": ("-1", 0),
    "DCGM's blank": ("2147483632", 0),
    "too large for a code": ("100000", 0),
    "no text at all": (None, 0),
    "a number past all measure": (10**400, 0),
}


@pytest.mark.parametrize(("value", "want_xid"), VALUES.values(), ids=VALUES)
async def test_strange_values_are_no_xid(
    value: object, want_xid: int, serve: Serve, session: aiohttp.ClientSession
) -> None:
    gpu = {"Hostname": "w1", "gpu": "0", "UUID": "GPU-a"}
    url = await serve(by_family({dcgm.XID: [(gpu, value)], dcgm.POWER: [(gpu, "90")]}))
    (reading,) = (await client(url, session).read_gpus(now_seconds=NOW))["w1"]
    assert reading.xid == want_xid


async def test_dcgm_s_blank_is_no_value(serve: Serve, session: aiohttp.ClientSession) -> None:
    gpu = {"Hostname": "w1", "gpu": "0", "UUID": "GPU-a"}
    url = await serve(by_family({dcgm.XID: [(gpu, "0")], dcgm.POWER: [(gpu, "9223372036854775794")]}))
    (reading,) = (await client(url, session).read_gpus(now_seconds=NOW))["w1"]
    assert reading.power_watts is None


def reply(**options: Any) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(**options)

    return handle


async def redirect(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/login")


async def packed(_: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(b" " * (8 << 20)), headers={"Content-Encoding": "gzip"})


BAD_ANSWERS: dict[str, tuple[Handler, tuple[str, ...]]] = {
    "HTML where JSON belongs": (
        reply(text="<html>sign in</html>", content_type="text/html"),
        ("the answer is HTML", "prometheus.url"),
    ),
    "broken JSON": (reply(text='{"status": "succ'), ("no JSON", "prometheus.url")),
    "JSON of another kind": (reply(text="[]"), ("not that of a Prometheus query",)),
    "a matrix": (
        reply(text='{"status":"success","data":{"resultType":"matrix","result":[]}}'),
        ("no instant vector",),
    ),
    "very deep JSON": (reply(text="[" * 200_000), ("RecursionError",)),
    "not found": (reply(status=404, text="nope"), ("HTTP 404", "base address")),
    "a redirect to a login page": (redirect, ("HTTP 302",)),
    "credentials wanted": (reply(status=401), ("HTTP 401", "credentials")),
    "its own error with a reason": (
        reply(status=503, text='{"status":"error","errorType":"timeout","error":"query timed out"}'),
        ("HTTP 503, timeout: query timed out", "log of the Prometheus server"),
    ),
    "an answer without an end": (endless, ("larger than 1048576 bytes", "prometheus.maxBytes")),
    "a small answer that unpacks to a large one": (packed, ("larger than 1048576 bytes",)),
    "no answer in time": (never, ("no answer within 0.5 s", "prometheus.timeoutSeconds")),
    "no series": (by_family({}), ("no DCGM series", "DCGM exporter")),
    "series without a node": (by_family({dcgm.XID: [({"gpu": "0"}, "0")]}), ("no DCGM series",)),
}


@pytest.mark.parametrize(("handler", "want_texts"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_unusable_answers_say_cause_and_fix(
    handler: Handler, want_texts: tuple[str, ...], serve: Serve, session: aiohttp.ClientSession
) -> None:
    url = await serve(handler)
    with pytest.raises(PrometheusError) as caught:
        await client(url, session, timeout_seconds=0.5).read_gpus(now_seconds=NOW)
    for text in (url, *want_texts):
        assert text in str(caught.value)
    assert url not in caught.value.detail


async def test_a_closed_port_is_an_error_that_names_it(session: aiohttp.ClientSession) -> None:
    with pytest.raises(PrometheusError, match=r"cannot connect to 127\.0\.0\.1:1 .*NetworkPolic"):
        await client("http://127.0.0.1:1", session).read_gpus(now_seconds=NOW)


async def test_credentials_in_the_url_are_used_but_never_said(serve: Serve, session: aiohttp.ClientSession) -> None:
    seen: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(status=403)

    url = (await serve(handle)).replace("http://", "http://robot:hunter2@") + "prom?token=abc"
    with pytest.raises(PrometheusError) as caught:
        await client(url, session).read_gpus(now_seconds=NOW)
    assert seen[0].startswith("Basic ")
    for secret in ("robot", "hunter2", "abc"):
        assert secret not in str(caught.value)


async def test_samples_older_than_the_limit_are_refused(serve: Serve, session: aiohttp.ClientSession) -> None:
    url = await serve(by_family({dcgm.XID: [({"Hostname": "w1", "gpu": "0"}, "79")]}))
    assert await client(url, session).read_gpus(now_seconds=NOW + 119)
    with pytest.raises(PrometheusError, match=r"all 1 GPU samples are older than 120 s; .*clocks"):
        await client(url, session).read_gpus(now_seconds=NOW + 121)


async def test_the_server_is_asked_not_to_look_back_further(serve: Serve, session: aiohttp.ClientSession) -> None:
    queries: list[dict[str, str]] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        queries.append(dict(request.query))
        return web.json_response(vector(({"Hostname": "w1", "gpu": "0"}, "0")))

    url = await serve(handle)
    await client(url + "prefix/", session, stale_after_seconds=90).read_gpus(now_seconds=NOW)
    assert {query["lookback_delta"] for query in queries} == {"90"}
    assert [query["query"].rsplit("(", 1)[1] for query in queries] == [f"{name})" for name in dcgm.FAMILIES]


async def test_a_large_answer_is_read_whole(serve: Serve, session: aiohttp.ClientSession) -> None:
    many = [({"Hostname": f"w{n // 8}", "gpu": str(n % 8), "UUID": f"GPU-{n}"}, "0") for n in range(8000)]
    body = json.dumps(vector(*many))
    assert len(body) > 256 * 1024
    read = await client(await serve(reply(text=body)), session).read_gpus(now_seconds=NOW)
    assert len(read) == 1000
    assert all(len(gpus) == 8 for gpus in read.values())


async def test_a_missing_xid_field_is_said_once(
    serve: Serve, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    reader = client(await serve(by_family({dcgm.POWER: [({"Hostname": "w1", "gpu": "0"}, "9")]})), session)
    for _ in range(2):
        await reader.read_gpus(now_seconds=NOW)
    assert [record.getMessage().count("no XID is seen") for record in caplog.records] == [1]


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://x/", "http://", "http://[::1", "/"])
async def test_a_url_that_cannot_be_one_is_refused_at_once(url: str, session: aiohttp.ClientSession) -> None:
    with pytest.raises(ValueError, match=r"prometheus\.url"):
        client(url, session)
