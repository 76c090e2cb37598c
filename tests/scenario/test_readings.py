"""What Prometheus says of GPUs keeps new pods away, disturbs nobody who runs, and blocks nothing by its absence."""

from __future__ import annotations

from fakes.builders import a_job
from fakes.world import two_nodes
from stowplan_operator.moments import Readings
from stowplan_operator.views import GpuReading, Telemetry


async def test_a_node_with_xid_79_gets_no_new_pod() -> None:
    world = two_nodes()
    bad = GpuReading(index="3", uuid="GPU-3", xid=79, sampled_at=world.now)
    world.readings = Readings(
        telemetry=Telemetry(configured=True, read_at=world.now, gpus={"n1": (bad,)}), progress={}, eta={}
    )
    world.submit(a_job("a"))
    await world.settle()
    assert (world.phase("a"), world.server.all("pods")) == ("Pending", [])
    world.submit(a_job("b").nodes(1))
    await world.settle()
    assert world.nodes_of("b") == ["n2"]


async def test_an_xid_that_was_there_before_anybody_watched_does_not_stop_the_gang_that_runs_there() -> None:
    world = two_nodes()
    world.submit(a_job("a"))
    await world.settle()
    bad = GpuReading(index="3", uuid="GPU-3", xid=79, sampled_at=world.now)
    telemetry = Telemetry(configured=True, read_at=world.now, gpus={"n1": (bad,)})
    world.readings = Readings(telemetry=telemetry, progress={}, eta={})
    await world.settle()
    assert (world.phase("a"), world.status("a")["attempt"]) == ("Running", 1)


async def test_telemetry_that_is_away_is_said_and_does_not_block() -> None:
    world = two_nodes()
    world.readings = Readings(telemetry=Telemetry(configured=True, error="connection refused"), progress={}, eta={})
    world.submit(a_job("a"))
    await world.settle()
    assert world.phase("a") == "Running"
    assert world.condition("a", "TelemetryStale") == "True"
    since = next(one for one in world.status("a")["conditions"] if one["type"] == "TelemetryStale")
    world.now += 100
    world.fail("a")
    await world.settle()
    after = next(one for one in world.status("a")["conditions"] if one["type"] == "TelemetryStale")
    assert after["lastTransitionTime"] == since["lastTransitionTime"], "the condition's status has not changed"
    world.readings = Readings(telemetry=Telemetry(configured=True, read_at=world.now), progress={}, eta={})
    await world.settle()
    assert world.condition("a", "TelemetryStale") == "False"
