"""Large jobs do not starve: room is kept for whoever is first and waits long, and small jobs fill it while they may."""

from __future__ import annotations

from fakes.builders import JobBuilder, a_job
from fakes.world import World, a_world
from stowplan_operator import estimates
from stowplan_operator.views import parse_time


def a_small_job(name: str, *, seconds: int | None = None) -> JobBuilder:
    """One pod of four GPUs: a whole node."""
    job = a_job(name).nodes(1).spec(args=[estimates.stem(name)])
    return job if seconds is None else job.spec(activeDeadlineSeconds=seconds)


async def advise(world: World) -> None:
    """The advisor says for whom room is kept, and no more; the cycles that follow know it."""
    world.advise(order=())
    await world.settle()


async def the_large_job_waits(world: World, *, seconds: int | None = 7200) -> None:
    """One node is busy, the other free; the large job wants both, and has waited for eleven minutes."""
    world.submit(a_small_job("holder", seconds=seconds))
    await world.settle()
    world.submit(a_job("large").nodes(2))
    await world.settle()
    world.now += 660
    await advise(world)


async def test_a_large_job_that_waits_long_says_when_it_starts_and_that_room_is_kept() -> None:
    world = a_world()
    await the_large_job_waits(world)
    decision = world.status("large")["decision"]
    assert decision["reserved"] is True
    assert world.status("large")["eta"] == "starts in about 2h (reserved)"
    assert "team/holder" in decision["predictedStartBasis"]
    assert decision["predictedStartBasis"].endswith("; room is kept for it on n1, n2")


async def test_a_stream_of_small_jobs_does_not_starve_it() -> None:
    """Each is younger than the large one, runs for an hour, and comes before the one ahead has ended."""
    world = a_world()
    world.submit(a_small_job("small-0", seconds=9000))
    await world.settle()
    world.submit(a_job("large").nodes(2))
    started_at = 0.0
    for number in range(1, 8):
        world.now += 1800
        world.submit(a_small_job(f"small-{number}", seconds=3600))
        for name in [f"small-{one}" for one in range(number)]:
            begun = world.status(name).get("startTime")
            if world.phase(name) == "Running" and begun and world.now - parse_time(begun) >= 3600:
                world.succeed(name)
        await world.settle()
        await advise(world)
        if world.phase("large") == "Running":
            started_at = world.now
            break
    assert started_at, "the large job starved"


async def test_a_small_job_that_ends_in_time_is_backfilled_and_one_that_does_not_waits() -> None:
    world = a_world()
    await the_large_job_waits(world)
    world.submit(a_small_job("long", seconds=9000))
    world.submit(a_small_job("unknown"))
    world.submit(a_small_job("short", seconds=3600))
    await world.settle()
    assert {name: world.phase(name) for name in ("long", "unknown", "short")} == {
        "long": "Pending",
        "unknown": "Pending",
        "short": "Running",
    }
    world.succeed("short")
    await world.settle()
    for name in ("long", "unknown"):
        assert world.reason(name) == "ReservedForLargerJob"
        assert "team/large" in world.status(name)["message"]
    world.succeed("holder")
    await world.settle()
    assert world.phase("large") == "Running"


async def test_a_small_job_is_backfilled_by_what_jobs_like_it_took() -> None:
    world = a_world()
    world.submit(a_small_job("eval-1"))
    await world.settle()
    world.now += 600
    world.succeed("eval-1")
    await world.settle()
    await the_large_job_waits(world)
    world.submit(a_small_job("eval-2"))
    await world.settle()
    assert world.phase("eval-2") == "Running"


async def test_no_room_is_kept_for_a_job_that_is_deleted_or_asks_for_another_size() -> None:
    for leave in (lambda world: world.delete("large"), lambda world: world.edit("large", numNodes=3)):
        world = a_world()
        await the_large_job_waits(world)
        world.submit(a_small_job("unknown"))
        await world.settle()
        assert world.reason("unknown") == "ReservedForLargerJob"
        leave(world)
        await world.settle()
        assert world.phase("unknown") == "Running"


async def test_no_room_is_kept_before_its_time_or_where_the_settings_say_never() -> None:
    for after in (900, 0):
        world = a_world(reserveAfterSeconds=after)
        await the_large_job_waits(world)
        assert "reserved" not in world.status("large")["decision"]
        world.submit(a_small_job("unknown"))
        await world.settle()
        assert world.phase("unknown") == "Running"


async def test_a_new_operator_keeps_room_again_once_it_has_asked() -> None:
    world = a_world()
    await the_large_job_waits(world)
    world.restart()
    await world.settle()
    await advise(world)
    world.submit(a_small_job("unknown"))
    await world.settle()
    assert world.reason("unknown") == "ReservedForLargerJob"


async def test_where_no_end_is_known_room_is_kept_without_a_promise() -> None:
    world = a_world()
    await the_large_job_waits(world, seconds=None)
    decision = world.status("large")["decision"]
    assert (decision["reserved"], "predictedStart" in decision) == (True, False)
    assert "team/holder" in decision["predictedStartBasis"]


async def test_while_room_is_kept_ten_idle_cycles_make_no_plan_and_no_write() -> None:
    world = a_world()
    await the_large_job_waits(world)
    world.submit(a_small_job("unknown"))
    await world.settle()
    await advise(world)
    count = world.process.metrics.registry.get_sample_value
    before = count("stowplan_solver_seconds_count")
    assert before
    for _ in range(10):
        world.now += 10
        assert await world.cycle() == []
    assert count("stowplan_solver_seconds_count") == before
