"""The short way through the simulator gives the history that plan() gives, node for node."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import simulate
from stowplan_allocator.simulate import deciding, engine, live
from unit.allocator import worlds

ORDERS = st.sampled_from(list(sa.QueueOrder))


@st.composite
def scenarios(draw: st.DrawFn) -> tuple[list[sa.Node], list[simulate.Submission]]:
    nodes = [draw(worlds.nodes(i)) for i in range(draw(st.integers(1, 5)))]
    kinds = [plain(draw(worlds.jobs(i, 3))) for i in range(draw(st.integers(1, 4)))]
    submissions = []
    for i in range(draw(st.integers(1, 14))):
        at, seconds = draw(st.integers(0, 60)), draw(st.integers(0, 40))
        job = replace(
            draw(st.sampled_from(kinds)),
            id=f"j{i}",
            name=f"j{i}",
            created_at_seconds=at,
            expected_seconds=draw(st.sampled_from([None, 5, seconds, 100])),
        )
        submissions.append(simulate.Submission(job, at, seconds))
    return nodes, submissions


def plain(job: sa.Job) -> sa.Job:
    topology = None if job.topology is None else replace(job.topology, slice_size=None)
    return sa.Job(job.id, job.name, job.num_pods, job.pod, job.priority, products=job.products, topology=topology)


@given(scenarios(), ORDERS, st.integers(0, 3), st.booleans())
@settings(max_examples=120, deadline=None)
def test_the_short_way_gives_the_same_history_as_plan(
    scenario: tuple[list[sa.Node], list[simulate.Submission]], order: sa.QueueOrder, seed: int, failing: bool
) -> None:
    nodes, submissions = scenario
    chosen = sa.Settings(strategy=sa.Strategy.GREEDY, order=order, seed=seed, explain=False)
    options = simulate.Options(
        levels=worlds.LEVELS,
        seed=seed,
        failures=simulate.Failures(mean_seconds_between=50 if failing else 0, repair_seconds=20),
        restarts=simulate.Restarts(checkpoint_seconds=10, restart_seconds=3),
        ends_at_seconds=400,
    )
    assert live.serves([submission.job for submission in submissions], settings=chosen)
    short = simulate.simulate(nodes, submissions, settings=chosen, options=options)
    full = simulate.simulate(nodes, submissions, settings=chosen, options=replace(options, shortcut=False))
    assert [job.runs for job in short.jobs] == [job.runs for job in full.jobs]
    assert [replace(s, reasons=()) for s in short.samples] == [replace(s, reasons=()) for s in full.samples]
    assert short.num_events == full.num_events


@given(scenarios(), ORDERS)
@settings(max_examples=25, deadline=None)
def test_between_events_plan_has_nothing_to_start(
    scenario: tuple[list[sa.Node], list[simulate.Submission]], order: sa.QueueOrder
) -> None:
    nodes, submissions = scenario
    chosen = sa.Settings(strategy=sa.Strategy.GREEDY, order=order)
    options = simulate.Options(levels=worlds.LEVELS, sample_every_seconds=7)
    asked = []

    def ask(*args: object, **kwargs: object) -> sa.Plan:
        plan = real(*args, **kwargs)  # only looks at what comes out
        asked.append(plan)
        return plan

    real, deciding.ask = deciding.ask, ask  # put back below
    try:
        history = simulate.simulate(nodes, submissions, settings=chosen, options=options)
    finally:
        deciding.ask = real
    assert not any(plan.placements for plan in asked)
    for sample in history.samples:
        assert sum(count for _, count in sample.reasons) == sample.jobs_waiting


def test_sizes_that_wait_count_as_slots() -> None:
    # With a pod of 3 in the queue, 1 of 7 destroys no slot of 3, and 1 of 3 does; without it 3 is the better fit.
    nodes = [worlds.node("n3", 3), worlds.node("n7", 7)]
    one, three = worlds.job("one", gpus=1), worlds.job("three", gpus=3, created_at_seconds=1)
    greedy = sa.Settings(strategy=sa.Strategy.GREEDY)
    for three_comes, want in ((50, "n3"), (1, "n7")):
        submissions = [simulate.Submission(one, 1, 9), simulate.Submission(three, three_comes, 9)]
        for shortcut in (True, False):
            options = simulate.Options(levels=worlds.LEVELS, shortcut=shortcut)
            history = simulate.simulate(nodes, submissions, settings=greedy, options=options)
            assert history.jobs[0].runs[0].placement.shares == (sa.NodeShare(want, 1),)


def test_what_changes_cells_goes_through_plan() -> None:
    greedy = sa.Settings(strategy=sa.Strategy.GREEDY)
    jobs = [worlds.job("a"), worlds.job("b", gpus=3, level="rack")]
    assert live.serves(jobs, settings=greedy)
    assert not live.serves(jobs, settings=sa.Settings())
    assert not live.serves(jobs, settings=replace(greedy, preemption=sa.Preemption.LOWER_PRIORITY))
    for odd in (
        replace(jobs[0], node_selector=(("pool", "a"),)),
        replace(jobs[0], avoided_nodes=frozenset({"n0"})),
        replace(jobs[0], num_pods=2, allowed_num_pods=(1, 2)),
        replace(jobs[0], spread=sa.Spread("rack", 1)),
        replace(jobs[0], pod=worlds.amounts(8, rdma=1)),
        replace(jobs[0], capacity_type=sa.CapacityType.SPOT),
        replace(jobs[0], returning=True),
    ):
        assert not live.serves([*jobs, odd], settings=greedy)


def test_every_field_of_a_job_is_known_to_the_short_way() -> None:
    # A new field may change cells or shapes: decide in live.is_plain and live.kind_of, and name it here.
    known = {
        *("id", "name", "priority", "created_at_seconds", "expected_seconds", "attained_accelerator_seconds"),
        *("num_pods", "pod", "products", "topology"),
        *("node_selector", "tolerations", "node_affinity", "capacity_type"),
        *("avoided_nodes", "allowed_num_pods", "spread"),
        *("placement", "disruption_cost", "leaving", "preempts"),
        *("queue", "other_queues", "order"),
        *("goodput_milli", "resize_cost", "returning", "make_room", "stays"),
        *("rest_quantiles", "avoided_anyway", "protection"),
    }
    assert {field.name for field in fields(sa.Job)} == known


def test_a_decider_of_ones_own_decides() -> None:
    class Nobody(deciding.BySnapshot):
        def decide(self, now: int, *, running: object) -> deciding.Decision:
            return deciding.NOTHING

    nodes = [worlds.node("n1")]
    nobody = Nobody(nodes, levels=worlds.LEVELS, settings=sa.Settings())
    history = engine.simulate(nodes, [simulate.Submission(worlds.job("a"), 0, 9)], decider=nobody)
    assert history.jobs[0].runs == ()
