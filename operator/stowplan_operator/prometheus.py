"""The one module that talks to Prometheus: what the DCGM exporter says of every GPU.

One instant query per metric family, not one for all: at 5,000 nodes of 8 GPUs a family is about
5 MB of JSON, all seven together would pass the size limit and hold the event loop. The aggregation
drops every label that we do not read (models, drivers), so that a GPU is one series.

What must stay true: an answer is never read past ``max_bytes`` or ``timeout_seconds``; anything but a
well-formed answer with GPU samples is a ``PrometheusError`` that names cause and fix; user names,
passwords and query strings of the URL appear in no message.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging

import aiohttp
import yarl

from stowplan_operator import dcgm
from stowplan_operator.views import GpuReading

_LOG = logging.getLogger(__name__)

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

    async def read_gpus(self, *, now_seconds: float) -> dict[str, tuple[GpuReading, ...]]:
        """All GPUs by node name. PrometheusError where no reading of any GPU could be had."""
        readings = dcgm.Readings()
        num_used: dict[str, int] = {}
        num_old = 0
        oldest = now_seconds - self._stale_after_seconds
        for family in dcgm.FAMILIES:
            body = await self._query(family)
            # A large answer is taken in by a thread, so that the event loop stays responsive.
            inline = len(body) <= _PARSE_INLINE_BYTES
            take = functools.partial(readings.take, family, body, oldest_seconds=oldest)
            try:
                num_used[family], too_old = take() if inline else await asyncio.to_thread(take)
            except ValueError as error:
                raise PrometheusError(self.url, str(error), _BASE_ADDRESS) from None
            num_old += too_old
        if not any(num_used.values()):
            self._say_why_empty(num_old)
        if not num_used[dcgm.XID] and not self._warned:
            self._warned = True
            text = "Prometheus at %s has no %s: no XID is seen until the DCGM exporter exports it"
            _LOG.warning(text, self.url, dcgm.XID)
        return await asyncio.to_thread(readings.by_node)

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
        labels = dcgm.LABELS_OF_XIDS if family == dcgm.XID else dcgm.LABELS
        params = {
            "query": f"max by ({', '.join(labels)}) ({family})",
            "lookback_delta": f"{self._stale_after_seconds:g}",
        }
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
                cause = f"HTTP {status}, {dcgm.refusal(answer)}"
        except (ValueError, RecursionError):
            pass
        if status in (401, 403):
            return PrometheusError(self.url, cause, "it wants credentials, or others than those in prometheus.url")
        if status >= 500:
            return PrometheusError(self.url, cause, "look at the log of the Prometheus server")
        return PrometheusError(self.url, cause, _BASE_ADDRESS)
