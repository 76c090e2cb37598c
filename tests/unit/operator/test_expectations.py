"""What snapshots are told of run times: coarse ends that stand still while time passes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.builders import NOW, JobBuilder, a_job
from stowplan_allocator import types
from stowplan_allocator.advising import Advice
from stowplan_operator import expectations
from stowplan_operator.estimates import Estimate

POD = types.Resources(accelerators=4)
PLACE = types.Placement("H100", (types.NodeShare("n1", 1), types.NodeShare("n2", 1)))
RUNNING = a_job("a").placed_on("n1", "n2").started(NOW)
WAITING = a_job("a")


def of(seconds: float, basis: str) -> Estimate:
    return Estimate(seconds, basis, 2 * seconds)


def told(
    job: JobBuilder, estimate: Estimate | None, *, seconds: float = 0, placed: bool = True, with_ends: bool = True
) -> types.Job:
    one = types.Job("uid-a", "team/a", 2, POD, placement=PLACE if placed else None)
    found = snapshot(job, estimate, one, seconds=seconds, with_ends=with_ends)
    return found.jobs[0]


def snapshot(
    job: JobBuilder,
    estimate: Estimate | None,
    one: types.Job,
    *,
    seconds: float = 0,
    with_ends: bool = True,
    reserved: types.Reservation | None = None,
) -> types.Snapshot:
    return expectations.complete(
        types.Snapshot((), (one,), now_seconds=int(NOW + seconds)),
        [job.view()],
        expected={} if estimate is None else {"uid-a": estimate},
        advice={} if reserved is None else {reserved.job_id: Advice(reservation=reserved)},
        with_ends=with_ends,
    )


@given(left=st.floats(0, 1e6), passed=st.integers(0, 3600))
def test_an_end_is_never_told_early_and_late_by_a_minute_or_a_sixteenth(left: float, passed: int) -> None:
    for job, placed, basis in (
        (RUNNING, True, "progress"),
        (RUNNING, True, "history of 1 run"),
        (WAITING, False, "history of 1 run"),
    ):
        seconds = told(job, of(left, basis), seconds=passed, placed=placed).expected_seconds
        assert seconds is not None
        assert left - 1 <= seconds <= left + max(60, left / 16) + 1


@pytest.mark.parametrize("basis", ["progress", "history of 3 runs", "activeDeadlineSeconds"])
def test_an_end_that_stays_asks_for_no_new_plan(basis: str) -> None:
    """Time passes, and the job comes nearer to its end as it was expected to."""
    running = types.Job("uid-a", "team/a", 2, POD, placement=PLACE)
    seen = {
        expectations.timeless(snapshot(RUNNING, of(7000.3 - passed, basis), running, seconds=passed))
        for passed in range(0, 100, 10)
    }
    assert len(seen) == 1


def test_a_pace_that_wavers_asks_for_no_new_plan() -> None:
    running = types.Job("uid-a", "team/a", 2, POD, placement=PLACE)
    seen = {
        expectations.timeless(snapshot(RUNNING, of(100_000 + wavers - passed, "progress"), running, seconds=passed))
        for passed, wavers in ((0, 0), (10, 300), (20, -300), (30, 150))
    }
    assert len(seen) == 1


def test_where_no_plan_depends_on_ends_none_are_told() -> None:
    assert told(RUNNING, of(50, "progress"), with_ends=False).expected_seconds is None
    assert told(RUNNING, None).expected_seconds is None


def test_a_gang_that_leaves_is_gone_soon() -> None:
    leaving = types.Job("uid-x/1", "team/x", 2, POD, placement=PLACE, leaving=True)
    assert snapshot(RUNNING, None, leaving).jobs[0].expected_seconds == 0


ROOM = types.Reservation("uid-a", PLACE, int(NOW) + 100)
KEPT: dict[str, tuple[types.Job, bool]] = {
    "for a job that waits": (types.Job("uid-a", "team/a", 2, POD), True),
    "for an elastic one that may have this size": (
        types.Job("uid-a", "team/a", 3, POD, allowed_num_pods=(2, 3)),
        True,
    ),
    "not for one that has its place": (types.Job("uid-a", "team/a", 2, POD, placement=PLACE), False),
    "nor for one that asks for another number of pods": (types.Job("uid-a", "team/a", 3, POD), False),
    "nor for one that is gone": (types.Job("uid-b", "team/b", 2, POD), False),
}


@pytest.mark.parametrize(("job", "kept"), KEPT.values(), ids=KEPT)
def test_room_is_kept(job: types.Job, kept: bool) -> None:
    made = snapshot(WAITING, of(50, "history of 9 runs"), job, with_ends=False, reserved=ROOM)
    assert made.reservations == ((ROOM,) if kept else ())


def test_where_room_is_kept_whoever_waits_is_told_at_its_longest() -> None:
    """Half of all runs are longer than the median, and would delay the job whose room it is."""
    estimate, job = of(300, "history of 9 runs"), types.Job("uid-a", "team/a", 2, POD)
    kept = snapshot(WAITING, estimate, job, with_ends=False, reserved=ROOM)
    asked = snapshot(WAITING, estimate, job, with_ends=True, reserved=ROOM)
    assert (kept.jobs[0].expected_seconds, asked.jobs[0].expected_seconds) == (600, 300)


def test_where_room_is_kept_only_the_ends_of_what_stands_there_are_told() -> None:
    """Any other end could change no plan, and would be a reason for one."""
    elsewhere = types.Placement("H100", (types.NodeShare("n3", 2),))
    large = types.Job("uid-large", "team/large", 2, POD)
    there, other = (
        types.Job(f"uid-{name}", "team/x", 2, POD, placement=place)
        for name, place in (("there", PLACE), ("other", elsewhere))
    )
    made = expectations.complete(
        types.Snapshot((), (there, other, large), now_seconds=int(NOW)),
        [RUNNING.meta(uid=uid).view() for uid in ("uid-there", "uid-other")],
        expected={uid: of(300, "history of 9 runs") for uid in ("uid-there", "uid-other")},
        advice={"uid-large": Advice(reservation=dataclasses.replace(ROOM, job_id="uid-large"))},
        with_ends=False,
    )
    assert [job.expected_seconds for job in made.jobs] == [300, None, None]


HAD: dict[str, tuple[JobBuilder, float, bool, int]] = {
    "less than an accelerator-hour is nothing": (RUNNING, 449, True, 0),
    "one": (RUNNING, 450, True, 3600),
    "ten, and what it had in earlier attempts counts": (RUNNING.status(gpuSeconds=32_400), 450, True, 36_000),
    "of a waiting job": (WAITING.status(gpuSeconds=40_000), 450, False, 36_000),
}


@pytest.mark.parametrize(("job", "seconds", "placed", "want"), HAD.values(), ids=HAD)
def test_what_a_job_has_had(job: JobBuilder, seconds: float, placed: bool, want: int) -> None:
    assert told(job, None, seconds=seconds, placed=placed).attained_accelerator_seconds == want


def test_moments_differ_only_by_more_than_the_clock() -> None:
    running = types.Job("uid-a", "team/a", 2, POD, placement=PLACE, expected_seconds=500)
    waiting = types.Job("uid-b", "team/b", 2, POD, expected_seconds=500)
    now = types.Snapshot((), (running, waiting), now_seconds=1000)
    later = types.Snapshot((), (dataclasses.replace(running, expected_seconds=490), waiting), now_seconds=1010)
    assert expectations.timeless(now) == expectations.timeless(later)
    assert expectations.timeless(now) != expectations.timeless(dataclasses.replace(now, now_seconds=1010))
