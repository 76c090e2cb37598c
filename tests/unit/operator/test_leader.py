"""Leader election: one leader at a time, whatever freezes, fails or races."""

from __future__ import annotations

import asyncio

import pytest

from fakes.leases import FakeLeases
from stowplan_operator.leader import Leader, NotLeaderError

DURATION = 15


class Clock:
    """A monotonic clock that a test sets. Each process may have its own."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def candidate(leases: FakeLeases, identity: str, clock: Clock, *, duration_seconds: int = DURATION) -> Leader:
    return Leader(
        leases=leases,
        name="stowplan-operator",
        namespace="stowplan-system",
        duration_seconds=duration_seconds,
        identity=identity,
        clock=clock,
    )


def may_write(leader: Leader) -> bool:
    try:
        leader.guard()
    except NotLeaderError:
        return False
    return True


async def test_a_lease_that_does_not_exist_is_made() -> None:
    leases = FakeLeases()
    assert await candidate(leases, "a", Clock()).try_once()
    assert leases.lease is not None
    assert leases.lease["metadata"]["name"] == "stowplan-operator"
    spec = leases.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", DURATION, 0)


async def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    leases = FakeLeases()
    first, second = candidate(leases, "a", Clock()), candidate(leases, "b", Clock())
    await first.try_once()
    assert not await second.try_once()
    await first.release()
    assert leases.holder == ""
    assert await second.try_once()
    assert leases.lease is not None
    assert leases.lease["spec"]["leaseTransitions"] == 1


async def test_a_holder_renews_its_own_lease() -> None:
    leases = FakeLeases()
    leader = candidate(leases, "a", Clock())
    await leader.try_once()
    assert leases.lease is not None
    first = dict(leases.lease["spec"])
    assert await leader.try_once()
    second = leases.lease["spec"]
    assert (second["acquireTime"], second["leaseTransitions"]) == (first["acquireTime"], 0)


async def test_a_silent_holder_is_replaced_after_the_duration_on_the_observers_own_clock() -> None:
    leases, clock = FakeLeases(), Clock(5000.0)
    await candidate(leases, "a", Clock()).try_once()
    second = candidate(leases, "b", clock)
    assert not await second.try_once(), "when it was renewed is not known: the time runs from the first look"
    clock.now += DURATION
    assert not await second.try_once()
    clock.now += 0.1
    assert await second.try_once()
    assert leases.holder == "b"


async def test_every_renewal_starts_the_observers_wait_anew() -> None:
    leases, clock = FakeLeases(), Clock()
    first, second = candidate(leases, "a", Clock()), candidate(leases, "b", clock)
    for _ in range(10):
        assert await first.try_once()
        assert not await second.try_once()
        clock.now += DURATION - 1
    assert leases.holder == "a"


async def test_the_wait_is_as_long_as_the_holders_lease_says() -> None:
    leases, clock = FakeLeases(), Clock()
    await candidate(leases, "a", Clock(), duration_seconds=60).try_once()
    second = candidate(leases, "b", clock)
    await second.try_once()
    clock.now += 59
    assert not await second.try_once()
    clock.now += 2
    assert await second.try_once()


async def test_of_two_that_try_at_once_one_wins() -> None:
    leases = FakeLeases()
    leaders = [candidate(leases, name, Clock()) for name in "abc"]
    assert sum(await asyncio.gather(*(leader.try_once() for leader in leaders))) == 1


async def test_a_conflict_on_renewal_is_no_renewal() -> None:
    leases = FakeLeases()
    leader = candidate(leases, "a", Clock())
    await leader.try_once()
    leases.before_write = lambda: leases.steal("b")
    assert not await leader.try_once()


async def test_an_api_server_that_is_away_is_no_renewal() -> None:
    leases = FakeLeases()
    leader = candidate(leases, "a", Clock())
    await leader.try_once()
    leases.is_down = True
    assert not await leader.try_once()


async def test_the_guard_lets_through_only_a_leader() -> None:
    leases, clock = FakeLeases(), Clock()
    leader = candidate(leases, "a", clock)
    assert not may_write(leader)
    await leader.try_once()
    assert not may_write(leader), "it holds the Lease, and does not lead yet"
    leader.is_leading = True
    assert may_write(leader)


async def test_the_guard_holds_back_a_process_that_was_frozen() -> None:
    """A process that sleeps past its Lease may not write, although nothing has told it."""
    leases, clock = FakeLeases(), Clock()
    leader = candidate(leases, "a", clock)
    await leader.try_once()
    leader.is_leading = True
    clock.now += DURATION - 0.1
    assert may_write(leader)
    clock.now += 0.1
    assert not may_write(leader)
    assert await leader.try_once()
    assert may_write(leader)


async def test_a_renewal_counts_from_its_request_not_from_its_answer() -> None:
    leases, clock = FakeLeases(), Clock()
    leader = candidate(leases, "a", clock)

    def slow() -> None:
        clock.now += 10

    leases.before_write = slow
    await leader.try_once()
    leader.is_leading = True
    clock.now += 4.9
    assert may_write(leader)
    clock.now += 0.1
    assert not may_write(leader)


async def test_no_moment_has_two_that_may_write() -> None:
    """The old leader is cut off before the new one may take the Lease, on clocks that start anywhere."""
    leases, old_clock, new_clock = FakeLeases(), Clock(100.0), Clock(77777.0)
    old, new = candidate(leases, "a", old_clock), candidate(leases, "b", new_clock)
    assert await old.try_once()
    old.is_leading = True
    for _ in range(400):
        old_clock.now += 0.1
        new_clock.now += 0.1
        if await new.try_once():
            new.is_leading = True
        assert not (may_write(old) and may_write(new))
    assert may_write(new)


async def test_release_leaves_somebody_elses_lease_alone() -> None:
    leases = FakeLeases()
    leader = candidate(leases, "a", Clock())
    await leader.release()
    leases.steal("b")
    await leader.release()
    assert leases.holder == "b"


async def test_release_does_not_fail_without_an_api_server() -> None:
    leases = FakeLeases()
    leader = candidate(leases, "a", Clock())
    await leader.try_once()
    leases.is_down = True
    await leader.release()


# ``run`` sleeps on the real clock between its tries, here for 20 ms; what counts as late is the test's own clock.
SHORT = 0.15


def running(leases: FakeLeases, clock: Clock) -> Leader:
    return candidate(leases, "a", clock, duration_seconds=SHORT)


async def until_renewed(leases: FakeLeases) -> None:
    before = leases.num_writes
    while leases.num_writes == before:  # noqa: ASYNC110 - the store tells nobody of reads and writes
        await asyncio.sleep(0.005)


async def test_run_leads_while_it_renews_and_ends_when_lead_does() -> None:
    leases, clock = FakeLeases(), Clock()
    leader = running(leases, clock)
    led: list[bool] = []

    async def lead() -> None:
        for _ in range(4):
            await until_renewed(leases)
            clock.now += SHORT / 2
            leader.guard()
        led.append(leader.is_leading)

    await leader.run(lead)
    assert led == [True]
    assert not leader.is_leading


async def test_run_raises_what_lead_raises() -> None:
    async def lead() -> None:
        raise ValueError("the planner broke")

    with pytest.raises(ValueError, match="the planner broke"):
        await running(FakeLeases(), Clock()).run(lead)


async def test_run_stops_leading_before_the_lease_is_over_when_it_cannot_renew() -> None:
    leases, clock = FakeLeases(), Clock()
    leader = running(leases, clock)
    stopped: list[bool] = []

    async def lead() -> None:
        leases.is_down = True
        clock.now += SHORT * 2 / 3
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(leader.is_leading)

    await leader.run(lead)
    assert stopped == [False]
    assert clock.now < SHORT


async def test_run_survives_a_short_absence_of_the_api_server() -> None:
    leases, clock = FakeLeases(), Clock()
    leader = running(leases, clock)
    led: list[bool] = []

    async def lead() -> None:
        leases.is_down = True
        clock.now += SHORT / 2
        reads = leases.num_reads
        while leases.num_reads == reads:  # noqa: ASYNC110 - the store tells nobody of reads and writes
            await asyncio.sleep(0.005)
        leases.is_down = False
        await until_renewed(leases)
        clock.now += SHORT / 2
        leader.guard()
        led.append(True)

    await leader.run(lead)
    assert led == [True]


async def test_run_waits_for_the_holder() -> None:
    leases = FakeLeases()
    leases.steal("b")
    led = asyncio.Event()

    async def lead() -> None:
        led.set()

    waiting = asyncio.create_task(running(leases, Clock()).run(lead))
    while leases.num_reads < 3:  # noqa: ASYNC110 - the store tells nobody of reads and writes
        await asyncio.sleep(0.005)
    assert not led.is_set()
    leases.steal("")
    await waiting
    assert led.is_set()
