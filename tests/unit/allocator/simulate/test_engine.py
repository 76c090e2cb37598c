"""The simulator's books: what runs where and when, and what stopping costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import simulate
from stowplan_allocator.simulate import deciding, failures
from stowplan_allocator.simulate.lives import Life
from unit.allocator import worlds

GREEDY = sa.Settings(strategy=sa.Strategy.GREEDY)


def submit(
    name: str, at: int, seconds: int, *, pods: int = 1, gpus: int = 8, **fields: int | str | None
) -> simulate.Submission:
    return simulate.Submission(worlds.job(name, pods, gpus, created_at_seconds=at, **fields), at, seconds)


def spans(history: simulate.History) -> dict[str, list[tuple[int, int, str]]]:
    return {job.job.id: [(r.start_seconds, r.end_seconds, r.outcome.value) for r in job.runs] for job in history.jobs}


def test_the_second_job_waits_for_the_first_and_says_why() -> None:
    jobs, options = [submit("a", 0, 100), submit("b", 10, 50)], simulate.Options(sample_every_seconds=30)
    history = simulate.simulate([worlds.node("n1")], jobs, settings=GREEDY, options=options)
    assert spans(history) == {"a": [(0, 100, "completed")], "b": [(100, 150, "completed")]}
    [first, second] = history.jobs
    assert (first.first_reason, second.queue_seconds, second.completion_seconds) == (None, 90, 140)
    assert second.last_reason is not None
    assert second.last_reason.reason is sa.Reason.WAITING_FOR_CAPACITY
    assert (history.num_events, history.num_plans, history.ended_at_seconds) == (4, 3, 150)


def test_a_lost_node_costs_the_work_since_the_last_checkpoint_and_a_restart() -> None:
    options = simulate.Options(
        failures=simulate.Failures(mean_seconds_between=3000, repair_seconds=100),
        restarts=simulate.Restarts(checkpoint_seconds=1000, restart_seconds=60),
    )
    history = simulate.simulate([worlds.node("n1")], [submit("a", 0, 5000)], settings=GREEDY, options=options)
    [job] = history.jobs
    lost = [run for run in job.runs if run.outcome is simulate.Outcome.NODE_LOST]
    assert lost
    work = 0
    for i, run in enumerate(job.runs):
        did = max(0, run.end_seconds - run.start_seconds - (60 if i else 0))
        work += did if run.outcome is simulate.Outcome.COMPLETED else did - did % 1000
    assert work == 5000
    assert job.run_seconds == 5000 + job.lost_seconds
    for before, after in zip(job.runs, job.runs[1:], strict=False):
        assert after.start_seconds == before.end_seconds + 100


def test_the_end_of_the_simulation_cuts_what_runs() -> None:
    options = simulate.Options(ends_at_seconds=70, sample_every_seconds=30)
    history = simulate.simulate(
        [worlds.node("n1")], [submit("a", 0, 100), submit("b", 90, 5)], settings=GREEDY, options=options
    )
    assert spans(history) == {"a": [(0, 70, "unfinished")], "b": []}
    assert [(s.time_seconds, s.accelerators_used) for s in history.samples] == [(0, 8), (30, 8), (60, 8)]


def test_who_comes_while_nothing_can_start_costs_no_plan_and_still_gets_a_reason() -> None:
    jobs = [submit("a", 0, 100), *(submit(f"b{i}", 10 + i, 1) for i in range(5)), submit("small", 20, 1, gpus=4)]
    history = simulate.simulate([worlds.node("n1")], jobs, settings=sa.Settings())
    # One plan for a, one for the first b, none for the other four, one for small; then six that start one by one.
    assert history.num_plans == 3 + 6
    reasons = {job.first_reason.reason for job in history.jobs if job.first_reason is not None}
    assert reasons == {sa.Reason.WAITING_FOR_CAPACITY}
    assert sum(job.first_reason is None for job in history.jobs) == 1


def test_nodes_fail_at_moments_of_their_own() -> None:
    model = simulate.Failures(mean_seconds_between=1000, repair_seconds=10)
    alone = list(itertools.islice(failures.moments("n1", failures=model, seed=4, from_seconds=0), 200))
    assert alone == list(itertools.islice(failures.moments("n1", failures=model, seed=4, from_seconds=0), 200))
    assert alone != list(itertools.islice(failures.moments("n2", failures=model, seed=4, from_seconds=0), 200))
    assert alone != list(itertools.islice(failures.moments("n1", failures=model, seed=5, from_seconds=0), 200))
    assert all(back == down + 10 for down, back in alone)
    assert 800 < alone[-1][0] / 200 < 1250


def test_nobody_is_stopped_twice_at_one_moment() -> None:
    class PingPong(deciding.BySnapshot):
        def decide(self, now: int, *, running: Iterable[Life]) -> deciding.Decision:
            before = [life.number for life in running]
            decision = super().decide(now, running=running)
            everybody = [*before, *(number for number, _ in decision.starts)]
            return deciding.Decision(decision.starts, everybody if now == 7 else ())

    nodes = [worlds.node("n1")]
    decider = PingPong(nodes, levels=worlds.LEVELS, settings=GREEDY)
    history = simulate.simulate(nodes, [submit("a", 0, 10), submit("b", 7, 10)], decider=decider)
    assert spans(history)["a"][:2] == [(0, 7, "preempted"), (7, 70, "completed")]
    assert [outcome for *_, outcome in spans(history)["b"]] == ["completed"]


def test_a_stream_of_short_jobs_does_not_starve_a_long_one() -> None:
    short = [submit(f"s{i}", 5 * i, 5, expected_seconds=5) for i in range(100)]
    long = submit("long", 1, 10, expected_seconds=10)
    chosen = replace(GREEDY, order=sa.QueueOrder.SHORTEST, explain=False)
    history = simulate.simulate([worlds.node("n1")], [*short, long], settings=chosen)
    started = {job.job.id: job.started_seconds for job in history.jobs}
    # Its turn is 1 + 20 × 10; that of a short one is 20 × 5 after it came, so those that come until 101 pass it.
    assert started["long"] == 105
    by_age = simulate.simulate([worlds.node("n1")], [*short, long], settings=GREEDY)
    assert {job.job.id: job.started_seconds for job in by_age.jobs}["long"] == 5


def test_small_jobs_do_not_starve_a_large_one_where_room_is_kept() -> None:
    small = [submit(f"s{i}", 5 * i, 20, gpus=4, expected_seconds=20) for i in range(100)]
    tiny = submit("tiny", 112, 3, gpus=4, expected_seconds=3)
    large = submit("large", 1, 10, expected_seconds=10)
    jobs = [*small, tiny, large]
    without = simulate.simulate([worlds.node("n1")], jobs, settings=GREEDY)
    assert {job.job.id: job.started_seconds for job in without.jobs}["large"] == 1008
    options = simulate.Options(reserve_after_seconds=100)
    history = simulate.simulate([worlds.node("n1")], jobs, settings=GREEDY, options=options)
    started = {job.job.id: job.started_seconds for job in history.jobs}
    # Two small jobs run from 100 to 120: when the next one comes, room is kept for the large one from 120 on.
    assert started["large"] == 120
    [kept_out] = [job.first_reason for job in history.jobs if job.job.id == "s21"]
    assert kept_out is not None
    assert (kept_out.reason, kept_out.blockers) == (sa.Reason.RESERVED_FOR_LARGER_JOB, ("large",))
    assert started["tiny"] == 112


def test_queues_share_the_cluster_and_never_take_more_than_their_quota() -> None:
    queues = (sa.Queue("org"), *(sa.Queue(name, "org", quotas=(sa.Quota(worlds.H100, 4),)) for name in "ab"))
    jobs = [submit(f"a{i}", i, 10, gpus=2, queue="a") for i in range(8)]
    jobs += [submit(f"b{i}", 5 + i, 10, gpus=2, queue="b") for i in range(2)]
    history = simulate.simulate([worlds.node("n1")], jobs, options=simulate.Options(queues=queues))
    runs = [(job.job.queue, run) for job in history.jobs for run in job.runs]
    for now in range(60):
        used = {
            name: sum(2 for queue, run in runs if queue == name and run.start_seconds <= now < run.end_seconds)
            for name in "ab"
        }
        assert used["a"] + used["b"] <= 8
        # While the first ones run, a has borrowed all; then b gets what it owns.
        assert used["b"] == (4 if 11 <= now < 20 else used["b"])
    reasons = {job.last_reason.reason for job in history.jobs if job.last_reason is not None}
    assert sa.Reason.WAITING_FOR_QUOTA in reasons


def test_what_never_fits_ends_the_simulation_unplaced() -> None:
    history = simulate.simulate(
        [worlds.node("n1")], [submit("a", 0, 10), submit("big", 0, 10, pods=2)], settings=GREEDY
    )
    assert spans(history) == {"a": [(0, 10, "completed")], "big": []}


def test_a_more_urgent_job_takes_the_place_of_one_that_saves_and_comes_back() -> None:
    jobs = [submit("low", 0, 100), submit("high", 40, 50, priority=1)]
    chosen = replace(GREEDY, preemption=sa.Preemption.LOWER_PRIORITY)
    options = simulate.Options(restarts=simulate.Restarts(restart_seconds=7))
    history = simulate.simulate([worlds.node("n1")], jobs, settings=chosen, options=options)
    # 40 s of work are kept; then 7 s to start again and the other 60.
    assert spans(history) == {"low": [(0, 40, "preempted"), (90, 157, "completed")], "high": [(40, 90, "completed")]}
    assert history.jobs[0].lost_seconds == 7


@st.composite
def workloads(draw: st.DrawFn) -> list[simulate.Submission]:
    return [
        submit(
            f"j{i}",
            draw(st.integers(0, 40)),
            draw(st.integers(0, 60)),
            pods=draw(st.sampled_from([1, 1, 1, 2])),
            gpus=draw(st.sampled_from([0, 1, 2, 3, 4, 8])),
            priority=draw(st.sampled_from([0, 0, 3])),
            expected_seconds=draw(st.sampled_from([None, 10, 60])),
        )
        for i in range(draw(st.integers(1, 12)))
    ]


PREEMPTION = st.sampled_from(list(sa.Preemption))


@given(workloads(), st.integers(0, 5), PREEMPTION, st.sampled_from(list(sa.QueueOrder)))
@settings(max_examples=60, deadline=None)
def test_every_job_ends_once_and_no_accelerator_is_held_twice(
    submissions: list[simulate.Submission], seed: int, preemption: sa.Preemption, order: sa.QueueOrder
) -> None:
    chosen = replace(GREEDY, preemption=preemption, order=order, explain=False)
    options = simulate.Options(
        seed=seed,
        sample_every_seconds=10,
        failures=simulate.Failures(mean_seconds_between=60 if seed else 0, repair_seconds=15),
        restarts=simulate.Restarts(checkpoint_seconds=10, restart_seconds=5),
    )
    nodes = [worlds.node(f"n{i}", of=8) for i in range(3)]
    history = simulate.simulate(nodes, submissions, settings=chosen, options=options)
    again = simulate.simulate(nodes[::-1], submissions[::-1], settings=chosen, options=options)
    assert spans(again) == spans(history)
    by_id = {submission.job.id: submission for submission in submissions}
    for job in history.jobs:
        assert [run.outcome is simulate.Outcome.COMPLETED for run in job.runs] == [False] * (len(job.runs) - 1) + [True]
        assert job.run_seconds == by_id[job.job.id].duration_seconds + job.lost_seconds
    check_capacity(history.jobs)
    for sample in history.samples:
        parts = sample.accelerators_used + sample.accelerators_free + sample.accelerators_broken
        assert parts == sample.accelerators_total == 24
        assert 0 <= sample.fragmented_share <= 1


def check_capacity(jobs: Iterable[simulate.JobRecord], *, per_node: int = 8) -> None:
    changes: list[tuple[int, int, str, int]] = []
    for job in jobs:
        for run in job.runs:
            for share in run.placement.shares:
                held = share.num_pods * job.job.pod.accelerators
                changes += [(run.start_seconds, 1, share.node, held), (run.end_seconds, 0, share.node, -held)]
    used: dict[str, int] = {}
    for _, _, node, change in sorted(c for c in changes if c[3]):
        used[node] = used.get(node, 0) + change
        assert used[node] <= per_node, node
