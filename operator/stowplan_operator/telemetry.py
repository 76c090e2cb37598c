"""Keeps the last good reading of all GPUs, so that planning never waits for Prometheus.

What must stay true: ``TelemetryPoller.current`` is one frozen value, replaced whole; ``run`` ends only by
cancellation; when Prometheus is away the last known facts stay facts and ``stale_message`` says so. An XID
also outlives its series: a GPU that fell off the bus often takes its exporter, or itself, out of the metrics,
which is no recovery. It is forgotten when the GPU reports again, when its node has come back (see
``health``), or after a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from stowplan_operator import prometheus, views, xids
from stowplan_operator.settings import PrometheusSettings, Settings
from stowplan_operator.views import GpuReading, Telemetry

_LOG = logging.getLogger(__name__)

FORGET_AFTER_SECONDS = 86_400.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

Gpus = Mapping[str, tuple[GpuReading, ...]]


class GpuReader(Protocol):
    """What the poller asks of Prometheus."""

    async def read_gpus(self, *, now_seconds: float) -> dict[str, tuple[GpuReading, ...]]:
        """All GPUs by node name; PrometheusError when there is no usable answer."""


def is_stale(telemetry: Telemetry, *, now_seconds: float, settings: Settings) -> bool:
    """Whether telemetry is wanted and older than the limit, or was tried and never had."""
    if not telemetry.configured:
        return False
    if not telemetry.read_at:
        return bool(telemetry.error)
    return now_seconds - telemetry.read_at > settings.prometheus.stale_after_seconds


def stale_message(telemetry: Telemetry, *, now_seconds: float, settings: Settings) -> str | None:
    """The message of condition TelemetryStale; empty when fresh, None when telemetry is off.

    It names a moment, not an age: its text must not change with every cycle.
    """
    if not telemetry.configured:
        return None
    if not is_stale(telemetry, now_seconds=now_seconds, settings=settings):
        return ""
    since = views.format_time(telemetry.read_at) if telemetry.read_at else "the operator started"
    limit = f"{settings.prometheus.stale_after_seconds:g}"
    url = prometheus.redact(settings.prometheus.url)
    cause = telemetry.error or "no read has ended since"
    return f"Prometheus at {url} has given no GPU readings since {since} (limit {limit} s): {cause}"


def sick_gpus(telemetry: Telemetry, settings: Settings) -> frozenset[tuple[str, str, int]]:
    """(node, GPU, XID) of every GPU whose last XID asks for more than to be recorded."""
    return frozenset(
        (node, gpu.uuid or gpu.index, gpu.xid)
        for node, gpus in telemetry.gpus.items()
        for gpu in gpus
        if xids.action_of(gpu.xid, settings.health.xid_actions) is not xids.Action.RECORD
    )


def carry_forward(old: Gpus, new: Gpus, *, now_seconds: float) -> dict[str, tuple[GpuReading, ...]]:
    """The new readings, and the old ones with an XID whose GPUs are missing from them."""
    merged = dict(new)
    for node, readings in old.items():
        present = {gpu.uuid or gpu.index for gpu in new.get(node, ())}
        kept = tuple(
            gpu
            for gpu in readings
            if gpu.xid
            and (gpu.uuid or gpu.index) not in present
            and now_seconds - gpu.sampled_at < FORGET_AFTER_SECONDS
        )
        if kept:
            merged[node] = (*new.get(node, ()), *kept)
    return merged


class TelemetryPoller:
    """Reads Prometheus every ``prometheus.intervalSeconds``; settings are looked at anew each time.

    ``on_change`` is called when something changed on which something depends: the GPUs with an XID that asks for
    anything, or whether telemetry is stale.
    """

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        connect: Callable[[PrometheusSettings], GpuReader],
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._reader: tuple[PrometheusSettings, GpuReader] | None = None
        self._failures = 0
        self._said: tuple[frozenset[tuple[str, str, int]], bool] = (frozenset(), False)
        self._attempted = asyncio.Event()
        self._woken = asyncio.Event()
        self.current = Telemetry()

    def wake(self) -> None:
        """Read now, for example because the settings changed."""
        self._woken.set()

    async def wait_for_first_attempt(self, *, timeout_seconds: float) -> bool:
        """Whether Prometheus was asked once (or is off) in time: a plan before that knows no XIDs."""
        try:
            await asyncio.wait_for(self._attempted.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll_once()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._pause_seconds())
            self._woken.clear()

    async def poll_once(self) -> None:
        """One attempt: replace ``current`` and call ``on_change`` where due. Raises nothing."""
        settings = self._settings()
        try:
            self.current = await self._read(settings)
        except Exception as error:
            _LOG.exception("reading telemetry failed")
            self._note_failure(f"unexpected {type(error).__name__}; see the operator's log")
        self._attempted.set()
        said = (
            sick_gpus(self.current, settings),
            is_stale(self.current, now_seconds=self._clock(), settings=settings),
        )
        if said != self._said:
            self._said = said
            try:
                self._on_change()
            except Exception:
                _LOG.exception("on_change failed")

    async def _read(self, settings: Settings) -> Telemetry:
        wanted = settings.prometheus
        if not wanted.url:
            self._failures = 0
            return Telemetry()
        try:
            if self._reader is None or self._reader[0] != wanted:
                self._reader = (wanted, self._connect(wanted))
            gpus = await self._reader[1].read_gpus(now_seconds=self._clock())
        except prometheus.PrometheusError as error:
            return self._note_failure(error.detail)
        except ValueError as error:
            return self._note_failure(str(error))
        now_seconds = self._clock()
        if self._failures:
            _LOG.info("Prometheus at %s answers again", prometheus.redact(wanted.url))
        self._failures = 0
        return Telemetry(
            configured=True,
            read_at=now_seconds,
            gpus=carry_forward(self.current.gpus, gpus, now_seconds=now_seconds),
        )

    def _note_failure(self, detail: str) -> Telemetry:
        """Keep the last good reading and say in ``error`` why there is no newer one."""
        if detail != self.current.error:
            url = prometheus.redact(self._settings().prometheus.url)
            _LOG.warning("no telemetry from Prometheus at %s: %s", url, detail)
        self._failures += 1
        self.current = dataclasses.replace(self.current, configured=True, error=detail)
        return self.current

    def _pause_seconds(self) -> float:
        """The interval, or after failures 1, 2, 4 … seconds; never past the moment of becoming stale."""
        settings = self._settings().prometheus
        if not self._failures:
            pause = settings.interval_seconds
        else:
            longest = max(_LONGEST_PAUSE_SECONDS, settings.interval_seconds)
            pause = min(longest, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 30))
            if self.current.read_at:
                until_stale = self.current.read_at + settings.stale_after_seconds - self._clock()
                if until_stale > 0:
                    return min(pause * (0.9 + 0.2 * self._jitter()), until_stale + 0.1)
        return pause * (0.9 + 0.2 * self._jitter())
