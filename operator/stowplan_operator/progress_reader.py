"""Asks rank 0 for its progress: straight from the pod, or through the API server's pod proxy.

The script is the user's and is not trusted: at most ``max_bytes`` are read, and only our names are parsed. Nothing
here fails a job; ``ProgressError`` only carries the words that say why nothing is known.
"""

from __future__ import annotations

import time
from typing import Literal

import aiohttp
from prometheus_client import parser

from stowplan_operator import api
from stowplan_operator import kube as kube_module
from stowplan_operator.progress import Progress, from_values
from stowplan_operator.views import PodView

PREFIX = "stowplan_train_"
MAX_BYTES = 1024 * 1024
_MAX_LINES = 200
_MAX_LINE = 2_000

Via = Literal["auto", "direct", "proxy"]


class ProgressError(Exception):
    """Progress could not be read now; the text says why, and does not change while the cause is the same."""


def parse_metrics(text: str, *, read_at_seconds: float) -> Progress | None:
    """The progress in a Prometheus text; None where it holds none of our names with a usable value."""
    values: dict[str, float] = {}
    lines = (line for line in text.splitlines() if line.startswith(PREFIX) and len(line) <= _MAX_LINE)
    for _, line in zip(range(_MAX_LINES), lines, strict=False):
        try:
            for family in parser.text_string_to_metric_families(line + "\n"):
                for sample in family.samples:
                    values.setdefault(sample.name.removeprefix(PREFIX), float(sample.value))
        except (ValueError, TypeError, KeyError, IndexError):
            continue
    return from_values(values, read_at_seconds=read_at_seconds)


async def read_progress(
    pod: PodView,
    *,
    kube: kube_module.KubeApi,
    via: Via,
    session: aiohttp.ClientSession,
    timeout_seconds: float,
    max_bytes: int = MAX_BYTES,
    now_seconds: float | None = None,
    port: int = api.METRICS_PORT,
) -> Progress | None:
    """What rank 0 reports now; None where it answers without our names. ProgressError where it cannot be read.

    ``auto`` asks the pod itself when this process runs in the cluster, and the API server's pod proxy otherwise.
    """
    if via == "auto":
        via = "direct" if kube_module.in_cluster() else "proxy"
    if via == "direct":
        text = await _read_direct(pod, session=session, timeout_seconds=timeout_seconds, max_bytes=max_bytes, port=port)
    else:
        text = await _read_through_proxy(pod, kube=kube, timeout_seconds=timeout_seconds, port=port)
        if len(text) > max_bytes:
            raise ProgressError(f"pod {pod.name} serves more than {max_bytes} bytes of metrics")
    return parse_metrics(text, read_at_seconds=time.time() if now_seconds is None else now_seconds)


async def _read_direct(
    pod: PodView, *, session: aiohttp.ClientSession, timeout_seconds: float, max_bytes: int, port: int
) -> str:
    if not pod.ip:
        raise ProgressError(f"pod {pod.name} has no address yet")
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    where = f"pod {pod.name} at {host}:{port}"
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    body = bytearray()
    try:
        # A redirect could send us to addresses that only the operator reaches; a packed answer unpacks past any cap.
        async with session.get(
            f"http://{host}:{port}/metrics",
            headers={"Accept-Encoding": "identity"},
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                raise ProgressError(f"{where} answers HTTP {response.status} to GET /metrics")
            if "Content-Encoding" in response.headers:
                raise ProgressError(f"{where} serves packed metrics although plain ones were asked for")
            async for chunk in response.content.iter_chunked(16 * 1024):
                body += chunk
                if len(body) > max_bytes:
                    raise ProgressError(f"{where} serves more than {max_bytes} bytes of metrics")
    except TimeoutError:
        raise ProgressError(f"{where} gave no metrics within {timeout_seconds:g} s") from None
    except aiohttp.ClientError as error:
        raise ProgressError(f"{where} cannot be read ({type(error).__name__})") from None
    return body.decode(errors="replace")


async def _read_through_proxy(pod: PodView, *, kube: kube_module.KubeApi, timeout_seconds: float, port: int) -> str:
    try:
        return await kube.read_pod_metrics(pod.namespace, pod.name, port=port, timeout_seconds=timeout_seconds)
    except kube_module.ApiError as error:
        cause = f"{error.status} {error.reason}" if error.status else error.reason
        hint = "; it takes the right to get pods/proxy" if error.status == 403 else ""
        raise ProgressError(f"pod {pod.name} cannot be read through the API server ({cause}{hint})") from None
