"""What a training script says of its progress, read from rank 0, and what follows from it.

The script is the user's and is not trusted: at most ``max_bytes`` are read, only our names are parsed, and a
number that cannot be one is dropped. Not knowing is normal (a script need not report), so nothing here fails a
job; ``ProgressError`` only carries the words that say why nothing is known.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import aiohttp
from prometheus_client import parser

from stowplan_operator import api
from stowplan_operator import kube as kube_module
from stowplan_operator.views import PodView

PREFIX = "stowplan_train_"
MAX_BYTES = 1024 * 1024
_MAX_LINES = 200
_MAX_LINE = 2_000
_LARGEST_COUNT = 2.0**53
_LARGEST_VALUE = 1e12
_CLOCK_SLACK_SECONDS = 3600

Via = Literal["auto", "direct", "proxy"]


class ProgressError(Exception):
    """Progress could not be read now; the text says why, and does not change while the cause is the same."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of rank 0. None where nothing, or nothing usable, was said; ``message`` says what was odd."""

    step: int | None = None
    steps_total: int | None = None
    loss: float | None = None
    samples_per_second: float | None = None
    checkpoint_step: int | None = None
    checkpoint_timestamp_seconds: float | None = None
    checkpoint_save_seconds: float | None = None
    eval_accuracy: float | None = None
    message: str = ""
    read_at_seconds: float = field(default=0.0, compare=False)


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
    return _progress(values, read_at_seconds=read_at_seconds)


def final_from_termination(message: str, *, read_at_seconds: float = 0.0) -> Progress | None:
    """The summary that our trainer leaves in the termination message: its last line with a ``stowplan`` object."""
    for line in reversed(message.splitlines()):
        line = line.strip()
        if not line.startswith("{") or '"stowplan"' not in line:
            continue
        try:
            summary = json.loads(line)["stowplan"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(summary, dict):
            said = {name: summary.get(key) for key, name in _SUMMARY_KEYS.items()}
            numbers = {name: value for name, value in said.items() if isinstance(value, int | float)}
            values = {name: float(value) for name, value in numbers.items() if not abs(value) > _LARGEST_COUNT}
            return _progress(values, read_at_seconds=read_at_seconds)
    return None


_SUMMARY_KEYS = {
    "step": "step",
    "stepsTotal": "steps_total",
    "loss": "loss",
    "accuracy": "eval_accuracy",
    "samplesPerSecond": "samples_per_second",
    "checkpointStep": "checkpoint_step",
    "checkpointTime": "checkpoint_timestamp_seconds",
}


def _progress(values: Mapping[str, float], *, read_at_seconds: float) -> Progress | None:
    def count(name: str, least: int = 0) -> int | None:
        value = values.get(name)
        return int(value) if value is not None and least <= value < _LARGEST_COUNT else None

    def number(name: str, least: float, most: float) -> float | None:
        value = values.get(name)
        return value if value is not None and least <= value <= most else None

    latest = read_at_seconds + _CLOCK_SLACK_SECONDS if read_at_seconds else _LARGEST_VALUE
    found = Progress(
        step=count("step"),
        steps_total=count("steps_total", 1),
        loss=number("loss", -_LARGEST_VALUE, _LARGEST_VALUE),
        samples_per_second=number("samples_per_second", 0, _LARGEST_VALUE),
        checkpoint_step=count("checkpoint_step"),
        checkpoint_timestamp_seconds=number("checkpoint_timestamp_seconds", 1, latest),
        checkpoint_save_seconds=number("checkpoint_save_seconds", 0, _LARGEST_VALUE),
        eval_accuracy=number("eval_accuracy", 0, 100),
    )
    if "loss" in values and not math.isfinite(values["loss"]):
        found = replace(found, message="the loss is not a finite number")
    return replace(found, read_at_seconds=read_at_seconds) if found != Progress() else None


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


def estimate_seconds_left(first: Progress, last: Progress) -> float | None:
    """Seconds until the last step at the mean pace between two reports of one attempt; None where unknown."""
    if first.step is None or last.step is None or last.steps_total is None:
        return None
    steps, seconds = last.step - first.step, last.read_at_seconds - first.read_at_seconds
    if steps <= 0 or seconds <= 0:
        return None
    return max(0, last.steps_total - last.step) * seconds / steps


def eta_text(seconds_left: float | None) -> str:
    """``about 3m``; text, because kubectl prints dates in the future as invalid. Empty where unknown."""
    if seconds_left is None or not math.isfinite(seconds_left):
        return ""
    if seconds_left < 60:
        return "under 1m"
    minutes = seconds_left / 60
    if minutes < 90:
        return f"about {round(minutes)}m"
    hours = minutes / 60
    return f"about {round(hours)}h" if hours < 48 else f"about {round(hours / 24)}d"
