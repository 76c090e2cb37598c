"""The telemetry poller with a scripted reader and a clock of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime

import pytest

from stowplan_operator import settings as settings_module
from stowplan_operator import telemetry
from stowplan_operator.prometheus import PrometheusError
from stowplan_operator.settings import PrometheusSettings, Settings
from stowplan_operator.views import GpuReading, Telemetry

T0 = datetime.datetime(2026, 11, 2, 10, tzinfo=datetime.UTC).timestamp()
SETTINGS = settings_module.parse({"prometheus": {"url": "http://prom.example:9090"}})
AWAY = PrometheusError("http://prom.example:9090", "cannot connect", "check prometheus.url")


def gpu(index: str = "0", *, xid: int = 0, at: float = T0, uuid: str = "") -> GpuReading:
    return GpuReading(index=index, uuid=uuid or f"GPU-{index}", xid=xid, sampled_at=at)


class Rig:
    """A poller, what it is told, and how often it called back."""

    def __init__(self, *answers: dict[str, tuple[GpuReading, ...]] | Exception, settings: Settings = SETTINGS) -> None:
        self.now = T0
        self.answers = list(answers)
        self.settings = settings
        self.changes = 0
        self.changed = asyncio.Event()
        self.connected: list[PrometheusSettings] = []
        self.poller = telemetry.TelemetryPoller(
            settings=lambda: self.settings,
            connect=self._connect,
            on_change=self._count,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
        )

    def _connect(self, chosen: PrometheusSettings) -> Rig:
        self.connected.append(chosen)
        return self

    def _count(self) -> None:
        self.changes += 1
        self.changed.set()

    async def read_gpus(self, *, now_seconds: float) -> dict[str, tuple[GpuReading, ...]]:
        assert now_seconds == self.now
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def poll(self, *, after_seconds: float = 15) -> Telemetry:
        self.now += after_seconds
        await self.poller.poll_once()
        return self.poller.current


async def test_a_reading_replaces_the_snapshot_whole() -> None:
    rig = Rig({"w1": (gpu(xid=79),)})
    before = rig.poller.current
    after = await rig.poll()
    assert before == Telemetry()
    assert after == Telemetry(configured=True, read_at=T0 + 15, gpus={"w1": (gpu(xid=79),)})


async def test_the_last_good_reading_outlives_prometheus() -> None:
    rig = Rig({"w1": (gpu(xid=79),)}, AWAY)
    good = await rig.poll()
    away = await rig.poll(after_seconds=1000)
    assert (away.gpus, away.read_at) == (good.gpus, good.read_at)
    assert away.error == "cannot connect; check prometheus.url"


@pytest.mark.parametrize("error", [ValueError("prometheus.url: bad"), RuntimeError("bug")])
async def test_no_error_gets_out(error: Exception) -> None:
    rig = Rig(error, {"w1": (gpu(),)})
    assert (await rig.poll()).error
    assert (await rig.poll()).error == ""


async def test_no_url_means_no_telemetry_and_no_connection() -> None:
    rig = Rig(AWAY, settings=settings_module.parse({}))
    assert await rig.poll() == Telemetry()
    assert rig.connected == []
    assert await rig.poller.wait_for_first_attempt(timeout_seconds=0.01)


async def test_changed_settings_connect_anew_and_only_then() -> None:
    rig = Rig({"w1": (gpu(),)})
    await rig.poll()
    await rig.poll()
    rig.settings = settings_module.parse({"prometheus": {"url": "http://other.example"}})
    await rig.poll()
    assert [one.url for one in rig.connected] == ["http://prom.example:9090", "http://other.example"]


async def test_on_change_is_called_only_for_what_plans_depend_on() -> None:
    healthy = {"w1": (gpu("0"), gpu("1"))}
    hot = {"w1": (dataclasses.replace(gpu("0"), temperature_celsius=99.0), gpu("1", xid=43))}
    broken = {"w1": (gpu("0", xid=79), gpu("1"))}
    faulty = {"w1": (gpu("0"), gpu("1", xid=31))}
    rig = Rig(healthy, hot, broken, broken, AWAY, AWAY, AWAY, healthy, faulty)
    want = {
        "first reading, nothing excluded": (15, 0),
        "temperature and a harmless XID": (15, 0),
        "an excluding XID": (15, 1),
        "the same XID again": (15, 1),
        "Prometheus is away, not yet stale": (15, 1),
        "now stale": (120, 2),
        "still stale": (120, 2),
        "back, and the XID cleared": (15, 3),
        "an application's XID": (15, 4),
    }
    for sentence, (after_seconds, want_changes) in want.items():
        await rig.poll(after_seconds=after_seconds)
        assert rig.changes == want_changes, sentence


async def test_an_on_change_that_raises_does_not_end_the_poller() -> None:
    rig = Rig({"w1": (gpu(xid=79),)})

    def fail() -> None:
        raise RuntimeError

    rig.poller._on_change = fail
    assert (await rig.poll()).gpus


CARRIED = {
    "a GPU with an XID that vanished from the metrics stays": (
        {"w1": (gpu("0"), gpu("1", xid=79))},
        {"w1": (gpu("0"),)},
        {("w1", "GPU-1", 79)},
    ),
    "a node with an XID whose exporter died stays": ({"w1": (gpu(xid=79),)}, {"w2": (gpu(),)}, {("w1", "GPU-0", 79)}),
    "a GPU that reports no XID any more is cleared": ({"w1": (gpu(xid=79),)}, {"w1": (gpu(),)}, set()),
    "a healthy GPU that vanished is forgotten": ({"w1": (gpu(),)}, {"w2": (gpu(),)}, set()),
    "an XID of more than a day ago is forgotten": ({"w1": (gpu(xid=79, at=T0 - 90_000),)}, {}, set()),
    "a GPU that moved to another index is the same GPU": (
        {"w1": (gpu("1", xid=79, uuid="GPU-x"),)},
        {"w1": (gpu("0", uuid="GPU-x"),)},
        set(),
    ),
}


@pytest.mark.parametrize(("old", "new", "want_excluded"), CARRIED.values(), ids=CARRIED)
def test_carry_forward(
    old: dict[str, tuple[GpuReading, ...]],
    new: dict[str, tuple[GpuReading, ...]],
    want_excluded: set[tuple[str, str, int]],
) -> None:
    merged = telemetry.carry_forward(old, new, now_seconds=T0)
    assert telemetry.sick_gpus(Telemetry(gpus=merged), SETTINGS) == want_excluded
    assert all(set(new[node]) <= set(merged[node]) for node in new)
    assert bool(want_excluded) or merged == new


STALE = {
    "off": (Telemetry(), None),
    "configured, not yet tried": (Telemetry(configured=True), ""),
    "fresh": (Telemetry(configured=True, read_at=T0), ""),
    "failing, but not for long": (Telemetry(configured=True, read_at=T0, error="x; y"), ""),
    "tried and never had": (
        Telemetry(configured=True, error="x; y"),
        "Prometheus at http://prom.example:9090 has given no GPU readings since the operator started "
        "(limit 120 s): x; y",
    ),
    "too old": (
        Telemetry(configured=True, read_at=T0 - 60, error="x; y"),
        "Prometheus at http://prom.example:9090 has given no GPU readings since 2026-11-02T09:59:00Z "
        "(limit 120 s): x; y",
    ),
}


@pytest.mark.parametrize(("current", "want"), STALE.values(), ids=STALE)
def test_stale_message(current: Telemetry, want: str | None) -> None:
    assert telemetry.stale_message(current, now_seconds=T0 + 100, settings=SETTINGS) == want
    assert telemetry.is_stale(current, now_seconds=T0 + 100, settings=SETTINGS) is bool(want)


def test_the_message_does_not_change_with_time_nor_hold_credentials() -> None:
    chosen = settings_module.parse({"prometheus": {"url": "http://robot:hunter2@prom.example/?token=abc"}})
    current = Telemetry(configured=True, read_at=T0, error="x; y")
    first, later = (telemetry.stale_message(current, now_seconds=T0 + s, settings=chosen) for s in (200, 900))
    assert first == later
    assert first
    assert not any(secret in first for secret in ("robot", "hunter2", "abc"))


async def test_pauses_grow_to_a_bound_and_end_with_success() -> None:
    rig = Rig(*[AWAY] * 8, {"w1": (gpu(),)})
    pauses = []
    for _ in range(9):
        await rig.poll()
        pauses.append(rig.poller._pause_seconds())
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30, 15]


async def test_a_pause_ends_where_telemetry_becomes_stale() -> None:
    rig = Rig({"w1": (gpu(),)}, AWAY)
    await rig.poll()
    for _ in range(6):
        await rig.poll(after_seconds=0)
    await rig.poll(after_seconds=110)
    assert rig.poller._pause_seconds() == pytest.approx(10.1)


async def test_run_polls_until_cancelled_and_wakes_at_once() -> None:
    rig = Rig({"w1": (gpu(),)}, {"w1": (gpu(xid=79),)})
    task = asyncio.create_task(rig.poller.run())
    assert await rig.poller.wait_for_first_attempt(timeout_seconds=5)
    rig.poller.wake()
    await asyncio.wait_for(rig.changed.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_waiting_for_the_first_attempt_has_a_limit() -> None:
    assert not await Rig(AWAY).poller.wait_for_first_attempt(timeout_seconds=0.01)
