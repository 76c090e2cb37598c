"""What must hold at every moment of a simulation: quotas, fair shares, and promises of room."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import simulate
from stowplan_allocator.simulate import deciding
from stowplan_allocator.simulate.lives import Life
from unit.allocator import worlds
from unit.allocator.test_queues import queue

NODES = [worlds.node("n0"), worlds.node("n1")]
ORG = (
    queue("org"),
    queue("a", 8, borrow=4, parent="org"),
    queue("b", 6, lend=2, parent="org"),
    queue("c", 2, parent="org", max_running_jobs=3),
)
# What each may use at most: with what it borrows, and without what others keep for themselves.
MOST = {"a": 12, "b": 16, "c": 12}


def _greedy(preemption: sa.Preemption = sa.Preemption.NEVER) -> sa.Settings:
    return sa.Settings(strategy=sa.Strategy.GREEDY, preemption=preemption, explain=False)


def _used(history: simulate.History) -> Iterator[tuple[int, dict[str, list[int]]]]:
    """At every moment at which anything begins: the accelerators of each running job, by queue."""
    runs = [(job.job, run) for job in history.jobs for run in job.runs if run.end_seconds > run.start_seconds]
    for now in sorted({run.start_seconds for _, run in runs}):
        found: dict[str, list[int]] = {}
        for job, run in runs:
            if run.start_seconds <= now < run.end_seconds:
                found.setdefault(job.queue, []).append(run.placement.num_pods * job.pod.accelerators)
        yield now, found


@st.composite
def workloads(draw: st.DrawFn, *, queues: Sequence[str] = ("",), most: int = 10) -> list[simulate.Submission]:
    """Jobs of a few queues and sizes with exact estimates."""
    made = []
    for i in range(draw(st.integers(most // 2, most))):
        came, seconds = draw(st.integers(0, 60)), draw(st.integers(1, 30))
        job = worlds.job(
            f"j{i}",
            *draw(st.sampled_from([(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (2, 8)])),
            queue=draw(st.sampled_from(queues)),
            created_at_seconds=came,
            expected_seconds=seconds,
        )
        made.append(simulate.Submission(job, came, seconds))
    return made


@given(
    workloads(queues=("a", "b", "c")),
    st.sampled_from([sa.Preemption.NEVER, sa.Preemption.LOWER_PRIORITY]),
    st.sampled_from([None, 10]),
)
@settings(max_examples=6, deadline=None)
def test_quotas_are_kept_at_every_moment(
    submissions: list[simulate.Submission], preemption: sa.Preemption, after: int | None
) -> None:
    options = simulate.Options(
        queues=ORG, reserve_after_seconds=after, restarts=simulate.Restarts(restart_seconds=1), ends_at_seconds=2_000
    )
    history = simulate.simulate(NODES, submissions, settings=_greedy(preemption), options=options)
    assert any(job.runs for job in history.jobs)
    for now, used in _used(history):
        amounts = {name: sum(sizes) for name, sizes in used.items()}
        assert all(amounts[name] <= MOST[name] for name in amounts), (now, amounts)
        assert sum(amounts.values()) <= 16
        assert len(used.get("c", ())) <= 3


@pytest.mark.parametrize("keeps_room", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_shares_stay_within_one_job_of_the_ideal_while_all_queues_have_work(seed: int, keeps_room: bool) -> None:
    rng = random.Random(seed)
    weights = [rng.randint(1, 4) for _ in range(rng.randint(2, 3))]
    size = rng.choice([2, 4])
    queues = tuple(sa.Queue(f"q{i}", weight_milli=1000 * weight) for i, weight in enumerate(weights))
    work = 48 // size
    submissions = [
        simulate.Submission(
            worlds.job(f"{one.name}-{i}", 1, size, queue=one.name, expected_seconds=seconds), 0, seconds
        )
        for one in queues
        for i, seconds in enumerate(rng.randint(20, 40) for _ in range(work))
    ]
    options = simulate.Options(queues=queues, reserve_after_seconds=30 if keeps_room else None, ends_at_seconds=60)
    history = simulate.simulate(NODES, submissions, settings=_greedy(), options=options)
    moments = 0
    for now, used in _used(history):
        moments += 1
        for one in queues:
            ideal = 16 * one.weight_milli / sum(queue.weight_milli for queue in queues)
            # Room that is kept for the first of a queue may be one job more.
            most = 2 * size if keeps_room else size
            assert abs(sum(used.get(one.name, ())) - ideal) <= most, (now, used, ideal)
    assert moments > 3


class _Promises(deciding.BySnapshot):
    """Remembers all that was promised."""

    made: list[sa.Reservation]

    def decide(self, now: int, *, running: Iterable[Life]) -> deciding.Decision:
        decision = super().decide(now, running=running)
        self.made += self._kept
        return decision


def _promises(submissions: list[simulate.Submission], *, queues: tuple[sa.Queue, ...]) -> list[sa.Reservation]:
    """All that were made; each job starts at the moment that it was promised, or before."""
    decider = _Promises(NODES, levels=worlds.LEVELS, settings=_greedy(), queues=queues, reserve_after_seconds=5)
    decider.made = []
    history = simulate.simulate(NODES, submissions, settings=_greedy(), decider=decider)
    started = {job.job.id: job.started_seconds for job in history.jobs}
    for promise in decider.made:
        assert not promise.assumed
        at = started[promise.job_id]
        assert at is not None
        assert at <= promise.starts_at_seconds, promise
    return decider.made


@given(workloads(most=12))
@settings(max_examples=8, deadline=None)
def test_where_ends_are_exact_no_backfilled_job_delays_a_promised_start(submissions: list[simulate.Submission]) -> None:
    _promises(submissions, queues=())


@given(workloads(queues=("a", "b"), most=12))
@settings(max_examples=6, deadline=None)
def test_nor_does_any_of_another_queue(submissions: list[simulate.Submission]) -> None:
    _promises(submissions, queues=(sa.Queue("a"), sa.Queue("b", weight_milli=3000)))


@pytest.mark.parametrize("seed", range(2))
def test_promises_are_made(seed: int) -> None:
    rng = random.Random(seed)
    small = [
        simulate.Submission(worlds.job(f"s{i}", 1, 4, created_at_seconds=2 * i, expected_seconds=took), 2 * i, took)
        for i, took in enumerate(rng.randint(3, 12) for _ in range(20))
    ]
    large = simulate.Submission(worlds.job("large", 2, 8, created_at_seconds=3, expected_seconds=9), 3, 9)
    made = _promises([*small, large], queues=())
    assert {one.job_id for one in made} >= {"large"}
