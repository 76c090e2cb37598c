"""The one module that talks to Prometheus: what the DCGM exporter says of every GPU.

One instant query per metric family, not one for all: at 5,000 nodes of 8 GPUs a family is about
7 MB of JSON, all seven together would pass the size limit and hold the event loop. The aggregation
drops every label that we do not read (pods, models, drivers), so that a GPU is one series.

What must stay true: an answer is never read past ``max_bytes`` or ``timeout_seconds``; anything but a
well-formed answer with GPU samples is a ``PrometheusError`` that names cause and fix; user names,
passwords and query strings of the URL appear in no message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yarl

from stowplan_operator import settings as settings_module
from stowplan_operator.views import GpuReading

_LOG = logging.getLogger(__name__)

XID = "DCGM_FI_DEV_XID_ERRORS"
UTILISATION = "DCGM_FI_DEV_GPU_UTIL"
MEMORY_USED = "DCGM_FI_DEV_FB_USED"
MEMORY_FREE = "DCGM_FI_DEV_FB_FREE"
MEMORY_RESERVED = "DCGM_FI_DEV_FB_RESERVED"
TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"
POWER = "DCGM_FI_DEV_POWER_USAGE"
FAMILIES = (XID, MEMORY_USED, MEMORY_FREE, MEMORY_RESERVED, UTILISATION, TEMPERATURE, POWER)

# Labels that scrape configurations add name the Kubernetes node for certain; the exporter's own
# host name is its pod's name where NODE_NAME is not set.
_NODE_LABELS = ("node", "kubernetes_node", "exported_node", "Hostname", "hostname")
_UUID_LABELS = ("UUID", "uuid")
_BY = ", ".join((*_NODE_LABELS, "gpu", *_UUID_LABELS, "GPU_I_ID"))

_LARGEST_VALUE = 1e9  # DCGM marks "blank" by values near 2^31 and 2^63
_LARGEST_XID = 999
_PARSE_INLINE_BYTES = 256 * 1024
_BASE_ADDRESS = "set prometheus.url to the server's base address, such as http://prometheus.monitoring.svc:9090"


class PrometheusError(Exception):
    """Prometheus gave no usable answer; ``detail`` is the cause and the fix without the address."""

    def __init__(self, url: str, cause: str, fix: str) -> None:
        self.detail = f"{cause}; {fix}"
        super().__init__(f"Prometheus at {url}: {self.detail}")


def redact(url: str) -> str:
    """The URL without user, password, query and fragment, fit for messages."""
    try:
        return str(yarl.URL(url).with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        return "(not a URL)"


@dataclass(frozen=True, slots=True)
class Sample:
    """One GPU's (or MIG instance's) value of one family."""

    node: str
    gpu: str
    uuid: str
    instance: str
    value: float
    at_seconds: float


@dataclass(slots=True)
class _Gpu:
    values: dict[str, dict[str, float]] = field(default_factory=dict)  # family → MIG instance → value
    sampled_at: float = 0.0


class Readings:
    """Joins samples of all families by node, GPU index and UUID."""

    def __init__(self) -> None:
        self._gpus: dict[tuple[str, str, str], _Gpu] = {}

    def add(self, family: str, sample: Sample) -> None:
        """Take one sample in; of two for the same thing (scraped twice) the larger counts."""
        gpu = self._gpus.setdefault((sample.node, sample.gpu, sample.uuid), _Gpu())
        values = gpu.values.setdefault(family, {})
        values[sample.instance] = max(sample.value, values.get(sample.instance, sample.value))
        gpu.sampled_at = max(gpu.sampled_at, sample.at_seconds)

    def by_node(self) -> dict[str, tuple[GpuReading, ...]]:
        """One reading per GPU, in the order of the GPUs' indexes."""
        nodes: dict[str, list[GpuReading]] = {}
        for (node, index, uuid), gpu in self._gpus.items():
            nodes.setdefault(node, []).append(_reading(index, uuid, gpu))
        return {node: tuple(sorted(readings, key=_index_order)) for node, readings in nodes.items()}


def _index_order(reading: GpuReading) -> tuple[int, str, str]:
    return (int(reading.index) if reading.index.isdecimal() else 1 << 30, reading.index, reading.uuid)


def _reading(index: str, uuid: str, gpu: _Gpu) -> GpuReading:
    def largest(family: str) -> float | None:
        return max(gpu.values[family].values()) if family in gpu.values else None

    def total(family: str) -> float | None:
        return sum(gpu.values[family].values()) if family in gpu.values else None

    used, free = total(MEMORY_USED), total(MEMORY_FREE)
    # Instances of a partitioned (MIG) GPU do not add up to its memory: then the total stays unknown.
    partitioned = any(instance for values in gpu.values.values() for instance in values)
    known = used is not None and free is not None and not partitioned
    xid = largest(XID) or 0.0
    return GpuReading(
        index=index,
        uuid=uuid,
        xid=int(xid) if xid <= _LARGEST_XID else 0,
        utilisation_percent=largest(UTILISATION),
        memory_used_mib=used,
        memory_total_mib=(used or 0.0) + (free or 0.0) + (total(MEMORY_RESERVED) or 0.0) if known else None,
        temperature_celsius=largest(TEMPERATURE),
        power_watts=largest(POWER),
        sampled_at=gpu.sampled_at,
    )


def parse_vector(body: bytes) -> list[Sample]:
    """The samples of an instant query's JSON answer; ValueError says what is wrong with the answer.

    Samples without a node or without a usable number are left out.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        what = "HTML" if body.lstrip()[:1] == b"<" else "no JSON"
        raise ValueError(f"the answer is {what} ({type(error).__name__})") from None
    if not isinstance(answer, dict):
        raise ValueError("the answer is not that of a Prometheus query")
    if answer.get("status") != "success":
        raise ValueError(f"the query was refused: {_refusal(answer)}")
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "vector" or not isinstance(data.get("result"), list):
        raise ValueError("the answer holds no instant vector")
    return [sample for item in data["result"] for sample in _samples(item)]


def _refusal(answer: Mapping[str, Any]) -> str:
    return f"{answer.get('errorType') or 'error'}: {answer.get('error') or 'no reason given'}"[:300]


def _samples(item: Any) -> Iterator[Sample]:
    labels = item.get("metric") if isinstance(item, dict) else None
    pair = item.get("value") if isinstance(item, dict) else None
    if not isinstance(labels, dict) or not isinstance(pair, list) or len(pair) != 2:
        return
    try:
        at_seconds, value = float(pair[0]), float(pair[1])
    except (TypeError, ValueError):
        return
    node = next((str(labels[name]) for name in _NODE_LABELS if labels.get(name)), "")
    if node and math.isfinite(at_seconds) and 0 <= value < _LARGEST_VALUE:
        yield Sample(
            node=node,
            gpu=str(labels.get("gpu", "")),
            uuid=next((str(labels[name]) for name in _UUID_LABELS if labels.get(name)), ""),
            instance=str(labels.get("GPU_I_ID", "")),
            value=value,
            at_seconds=at_seconds,
        )


class PrometheusClient:
    """Reads GPUs from one Prometheus server; ValueError at once where the URL cannot be one.

    Samples older than ``stale_after_seconds`` are not believed: the server is asked not to look back
    further (its default is five minutes), and samples that carry an older time are dropped.
    """

    def __init__(
        self,
        *,
        url: str,
        timeout_seconds: float,
        max_bytes: int,
        session: aiohttp.ClientSession,
        stale_after_seconds: float = 120,
    ) -> None:
        self.url = redact(url)
        try:
            base = yarl.URL(url)
        except ValueError:
            base = yarl.URL()
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(f"prometheus.url: {self.url!r} is not an http or https address; {_BASE_ADDRESS}")
        self._query_url = base / "api/v1/query"
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._session = session
        self._stale_after_seconds = stale_after_seconds
        self._warned = False

    @classmethod
    def from_settings(
        cls, settings: settings_module.PrometheusSettings, *, session: aiohttp.ClientSession
    ) -> PrometheusClient:
        """A client as the settings describe it."""
        return cls(
            url=settings.url,
            timeout_seconds=settings.timeout_seconds,
            max_bytes=settings.max_bytes,
            session=session,
            stale_after_seconds=settings.stale_after_seconds,
        )

    async def read_gpus(self, *, now_seconds: float) -> dict[str, tuple[GpuReading, ...]]:
        """All GPUs by node name. PrometheusError where no reading of any GPU could be had."""
        readings = Readings()
        num_used: dict[str, int] = {}
        num_old = 0
        for family in FAMILIES:
            body = await self._query(family)
            try:
                inline = len(body) <= _PARSE_INLINE_BYTES
                samples = parse_vector(body) if inline else await asyncio.to_thread(parse_vector, body)
            except ValueError as error:
                raise PrometheusError(self.url, str(error), _BASE_ADDRESS) from None
            fresh = [one for one in samples if one.at_seconds >= now_seconds - self._stale_after_seconds]
            num_used[family] = len(fresh)
            num_old += len(samples) - len(fresh)
            for sample in fresh:
                readings.add(family, sample)
        if not any(num_used.values()):
            self._say_why_empty(num_old)
        if not num_used[XID] and not self._warned:
            self._warned = True
            text = "Prometheus at %s has no %s: health.excludeXids has no effect until the DCGM exporter exports it"
            _LOG.warning(text, self.url, XID)
        return readings.by_node()

    def _say_why_empty(self, num_old: int) -> None:
        if num_old:
            raise PrometheusError(
                self.url,
                f"all {num_old} GPU samples are older than {self._stale_after_seconds:g} s",
                "check that the DCGM exporters are still scraped and that the clocks agree",
            )
        raise PrometheusError(
            self.url,
            "it answers, but has no DCGM series that name a node",
            "check that the DCGM exporter runs on the GPU nodes and that this Prometheus scrapes it",
        )

    async def _query(self, family: str) -> bytes:
        params = {"query": f"max by ({_BY}) ({family})", "lookback_delta": f"{self._stale_after_seconds:g}"}
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        try:
            async with self._session.get(
                self._query_url, params=params, timeout=timeout, allow_redirects=False
            ) as response:
                body = await self._read(response)
                if response.status != 200:
                    raise self._wrong_status(response.status, response.content_type, body)
                return body
        except TimeoutError:
            cause = f"no answer within {self._timeout_seconds:g} s"
            raise PrometheusError(self.url, cause, "look at its load, or raise prometheus.timeoutSeconds") from None
        except aiohttp.ClientConnectorError as error:
            cause = f"cannot connect to {error.host}:{error.port} ({error.os_error.strerror or type(error).__name__})"
            fix = "check prometheus.url, the server, and NetworkPolicies between it and the operator"
            raise PrometheusError(self.url, cause, fix) from None
        except aiohttp.ClientError as error:
            raise PrometheusError(self.url, f"the connection failed ({type(error).__name__})", _BASE_ADDRESS) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            body += chunk
            if len(body) > self._max_bytes:
                cause = f"an answer is larger than {self._max_bytes} bytes"
                raise PrometheusError(self.url, cause, "raise prometheus.maxBytes if so many GPUs are expected")
        return bytes(body)

    def _wrong_status(self, status: int, content_type: str, body: bytes) -> PrometheusError:
        cause = f"HTTP {status} ({content_type})"
        try:
            answer = json.loads(body)
            if isinstance(answer, dict) and "error" in answer:
                cause = f"HTTP {status}, {_refusal(answer)}"
        except (ValueError, RecursionError):
            pass
        if status in (401, 403):
            return PrometheusError(self.url, cause, "it wants credentials, or others than those in prometheus.url")
        if status >= 500:
            return PrometheusError(self.url, cause, "look at the log of the Prometheus server")
        return PrometheusError(self.url, cause, _BASE_ADDRESS)
