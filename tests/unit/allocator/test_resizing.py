"""Running elastic jobs: what they give up for whom, at the least loss, and that all of it comes to rest."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import checks
from unit.allocator import brute, worlds

# A busy machine takes long to load the solver, and whoever has no time left lets nobody grow.
RESIZE = sa.Settings(resize=True, time_limit_seconds=60.0, late_tiers_seconds=60.0)
EVICT = dataclasses.replace(RESIZE, preemption=sa.Preemption.LOWER_PRIORITY)
BOTH = [sa.Strategy.EXACT, sa.Strategy.GREEDY]
HOUR = 3600


def node(name: str, **fields: Any) -> sa.Node:
    return worlds.node(name, **fields)


def elastic(name: str, on: dict[str, int], gpus: int = 8, *, sizes: tuple[int, ...], **fields: Any) -> sa.Job:
    """A running job that may be resized; it prefers its largest size unless told."""
    preferred = fields.pop("preferred", sizes[-1])
    fields = {"resize_cost": 100, "cost": None} | fields
    one = worlds.running(name, on, gpus, **fields)
    return dataclasses.replace(one, num_pods=preferred, allowed_num_pods=sizes)


def four(rack: str = "r1") -> list[sa.Node]:
    return [node(f"n{i}", rack=rack) for i in range(1, 5)]


@dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    settings: sa.Settings = RESIZE
    want: dict[str, tuple[int, str]] = field(default_factory=dict)  # job → its new size, and for whom
    want_evicted: set[str] = field(default_factory=set)
    want_kept: dict[str, set[str]] = field(default_factory=dict)  # job → the nodes that it keeps
    want_held: set[str] = field(default_factory=set)
    strategies: tuple[sa.Strategy, ...] = tuple(BOTH)


ON_FOUR = {"n1": 1, "n2": 1, "n3": 1, "n4": 1}
SHRINKS = {
    "unless the settings say so, nobody is resized": Case(
        four(), [elastic("s", ON_FOUR, sizes=(1, 2, 4)), worlds.job("j")], settings=sa.Settings()
    ),
    "a job gives up the least that will do": Case(
        four(), [elastic("s", ON_FOUR, sizes=(1, 2, 4)), worlds.job("j")], want={"s": (2, "j")}, want_held={"j"}
    ),
    "down to its smallest size for one of equal priority": Case(
        four(), [elastic("s", ON_FOUR, sizes=(1, 2, 4)), worlds.job("j", 3)], want={"s": (1, "j")}, want_held={"j"}
    ),
    "no further": Case(four(), [elastic("s", ON_FOUR, sizes=(1, 2, 4)), worlds.job("j", 4)]),
    "for one of lower priority it keeps its preferred size": Case(
        four(), [elastic("s", ON_FOUR, sizes=(1, 2, 4), preferred=4, priority=5), worlds.job("j")]
    ),
    "for one of lower priority it gives up what it has beyond that": Case(
        four(),
        [elastic("s", ON_FOUR, sizes=(1, 2, 4), preferred=2, priority=5), worlds.job("j")],
        want={"s": (2, "j")},
        want_held={"j"},
    ),
    "one that must not be resized is left alone": Case(
        four(), [elastic("s", ON_FOUR, sizes=(1, 2, 4), resize_cost=None), worlds.job("j", priority=5)]
    ),
    "one that is polite takes no surplus": Case(
        four(), [elastic("s", ON_FOUR, sizes=(1, 2, 4)), worlds.job("j", preempts=False)]
    ),
    "a shrink may be dearer than an eviction and still comes first": Case(
        [*four(), node("n5")],
        [
            elastic("s", ON_FOUR, sizes=(2, 4), resize_cost=10**6),
            worlds.running("low", {"n5": 1}, 8, cost=1),
            worlds.job("j", priority=5),
        ],
        settings=EVICT,
        want={"s": (2, "j")},
        want_held={"j"},
    ),
    "where surplus is not enough, both together": Case(
        [*four(), node("n5")],
        [
            elastic("s", ON_FOUR, sizes=(2, 4)),
            worlds.running("low", {"n5": 1}, 8, cost=1),
            worlds.job("j", 3, priority=5),
        ],
        settings=EVICT,
        want={"s": (2, "j")},
        want_evicted={"low"},
        want_held={"j"},
    ),
    "where an eviction alone loses less than both, nobody shrinks": Case(
        [*four(), *(node(f"m{i}") for i in range(3))],
        [
            elastic("s", ON_FOUR, sizes=(2, 4)),
            worlds.running("low", {"m0": 1, "m1": 1, "m2": 1}, 8, cost=1),
            worlds.job("j", 3, priority=5),
        ],
        settings=EVICT,
        want_evicted={"low"},
        want_held={"j"},
    ),
    "the one that gets least done with its surplus gives it up": Case(
        [*four(), node("m1"), node("m2")],
        [
            elastic("steep", ON_FOUR, sizes=(2, 4)),
            elastic("flat", {"m1": 1, "m2": 1}, sizes=(1, 2), goodput_milli=((1, 990), (2, 1000))),
            worlds.job("j"),
        ],
        want={"flat": (1, "j")},
        want_held={"j"},
    ),
    "one that soon ends loses little by it": Case(
        [*four(), node("m1"), node("m2")],
        [
            elastic("ends", ON_FOUR, sizes=(2, 4), expected_seconds=60),
            elastic("stays", {"m1": 1, "m2": 1}, sizes=(1, 2)),
            worlds.job("j"),
        ],
        want={"ends": (2, "j")},
        want_held={"j"},
    ),
    "two give up together what one alone has not": Case(
        four(),
        [
            elastic("a", {"n1": 1, "n2": 1}, sizes=(1, 2)),
            elastic("b", {"n3": 1, "n4": 1}, sizes=(1, 2)),
            worlds.job("j", 2),
        ],
        want={"a": (1, "j"), "b": (1, "j")},
        want_held={"j"},
    ),
    "the rack that the waiting job needs is given up": Case(
        [node("n1", rack="r1"), node("n2", rack="r1"), node("n3", rack="r2"), node("n4", rack="r2")],
        [elastic("s", ON_FOUR, sizes=(2, 4)), worlds.job("j", 2, level="rack")],
        want={"s": (2, "j")},
        want_held={"j"},
    ),
    "whole slices stay": Case(
        # Two in each rack; what is left must be one whole slice of two in one rack.
        [node("n1", rack="r1"), node("n2", rack="r1"), node("n3", rack="r2"), node("n4", rack="r2")],
        [
            dataclasses.replace(
                elastic("s", ON_FOUR, sizes=(2, 4)), topology=sa.TopologyRequest("rack", worlds.REQUIRED, 2)
            ),
            worlds.job("j", 1, node_selector=(("pool", "a"),)),
            worlds.job("k", 1),
        ],
        want={"s": (2, "k")},
        want_held={"k"},
    ),
    "one who could not come back where he stands is not asked": Case(
        [*four()[:3], node("n4", blocked="cordoned")], [elastic("s", ON_FOUR, sizes=(1, 2, 4)), worlds.job("j")]
    ),
    "one with a lost device is not asked": Case(
        [node("n1", free=7), *four()[1:]], [elastic("s", ON_FOUR, sizes=(1, 2, 4)), worlds.job("j")]
    ),
    "parts of a node are given up": Case(
        [node("n1")],
        [elastic("s", {"n1": 8}, 1, sizes=(2, 4, 8)), worlds.job("j", 1, 4)],
        want={"s": (4, "j")},
        want_kept={"s": {"n1"}},
        want_held={"j"},
    ),
    "who is leaving to return is not asked again, and its room is kept": Case(
        four(),
        [
            worlds.running("s/1", ON_FOUR, 8, leaving=True),
            dataclasses.replace(elastic("s", ON_FOUR, sizes=(2, 4), leaving=True, returning=True), placement=None),
            worlds.job("j", 2, priority=5),
            worlds.job("k", 1, priority=5, created_at_seconds=1),
        ],
        want_held={"j", "s"},
    ),
    "two waiting jobs, one surplus: it serves both": Case(
        four(),
        [
            elastic("s", ON_FOUR, sizes=(2, 4)),
            worlds.job("j", created_at_seconds=1),
            worlds.job("k", created_at_seconds=2),
        ],
        want={"s": (2, "j")},
        want_held={"j", "k"},
    ),
}


GROWS = {
    "unless the settings say so, nobody grows": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4))], settings=sa.Settings()
    ),
    "with nobody waiting, spare room goes to a running job": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4))], want={"s": (4, "")}
    ),
    "beyond its preferred size, too": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4), preferred=2)], want={"s": (4, "")}
    ),
    "as far as there is room": Case(four()[:3], [elastic("s", {"n1": 1}, sizes=(1, 2, 4))], want={"s": (2, "")}),
    "not where the restart costs more than the horizon gains": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2), resize_cost=8 * HOUR)]
    ),
    "not where it soon ends": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2), resize_cost=800, expected_seconds=100)]
    ),
    "not where it would get nothing more done": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2), goodput_milli=((1, 999), (2, 1000)))]
    ),
    "only to the size that is worth its price": Case(
        four(),
        [elastic("s", {"n1": 1}, sizes=(1, 2, 4), goodput_milli=((1, 300), (2, 1000), (4, 1000)))],
        want={"s": (2, "")},
    ),
    "while somebody waits nobody grows": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4)), worlds.job("j", 4, preempts=False)]
    ),
    "whoever can never run holds nobody up": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4)), worlds.job("j", 9)], want={"s": (4, "")}
    ),
    "who starts now comes first": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4)), worlds.job("j")], want={"s": (2, "")}
    ),
    "while somebody leaves nobody grows": Case(
        four(), [elastic("s", {"n1": 1}, sizes=(1, 2)), worlds.running("gone/1", {"n4": 1}, 8, leaving=True)]
    ),
    "whoever gains most for each accelerator comes first": Case(
        four()[:3],
        [
            elastic("flat", {"n1": 1}, sizes=(1, 2), goodput_milli=((1, 700), (2, 1000))),
            elastic("steep", {"n2": 1}, sizes=(1, 2)),
        ],
        want={"steep": (2, "")},
    ),
    "filling the room may gain more than gaining most for each accelerator": Case(
        # x gains 1.2 pods' worth by one pod more, y 2.1 by two; there is room for either.
        four(),
        [
            elastic("x", {"n1": 1}, sizes=(1, 2), goodput_milli=((1, 400), (2, 1000))),
            elastic("y", {"n2": 1}, sizes=(1, 3), goodput_milli=((1, 300), (3, 1000))),
        ],
        want={"y": (3, "")},
    ),
    "a job grows by moving where its node is full": Case(
        [node("n1"), node("n2", free=4, of=8)],
        [elastic("s", {"n2": 1}, 4, sizes=(1, 2), level="node")],
        want={"s": (2, "")},
        want_kept={"s": {"n1"}},
    ),
    "its required rack holds": Case(
        [node("n1", rack="r1"), node("n2", rack="r2"), node("n3", rack="r2")],
        [elastic("s", {"n1": 1}, sizes=(1, 2), level="rack")],
        want={"s": (2, "")},
        want_kept={"s": {"n2", "n3"}},
    ),
    "on its own product": Case([node("n1"), node("n2", product=worlds.A100)], [elastic("s", {"n1": 1}, sizes=(1, 2))]),
}


@pytest.mark.parametrize(
    ("case", "strategy"),
    [(case, strategy) for case in (SHRINKS | GROWS).values() for strategy in case.strategies],
    ids=[f"{name}, {strategy}" for name, case in (SHRINKS | GROWS).items() for strategy in case.strategies],
)
def test_resizing(case: Case, strategy: sa.Strategy) -> None:
    plan = sa.plan(worlds.snapshot(case.nodes, case.jobs), dataclasses.replace(case.settings, strategy=strategy))
    assert {one.job_id: (one.num_pods, one.for_job) for one in plan.resizes} == case.want
    assert {one.job_id for one in plan.evictions} == case.want_evicted
    assert plan.held.keys() == case.want_held
    kept = {one.job_id: {share.node for share in one.placement.shares} for one in plan.resizes if one.placement}
    assert {name: kept[name] for name in case.want_kept} == case.want_kept
    for job_id in case.want_held:
        assert plan.waiting[job_id].reason is sa.Reason.WAITING_FOR_PREEMPTION


def test_the_waiting_job_is_told_who_gives_up_what() -> None:
    snapshot = worlds.snapshot(four(), [elastic("team/s", ON_FOUR, sizes=(2, 4)), worlds.job("j")])
    plan = sa.plan(snapshot, RESIZE)
    lost = 100 + 2 * 8 * HOUR
    assert [(one.cost, one.gain) for one in plan.resizes] == [(lost, 0)]
    waiting = plan.waiting["j"]
    assert f"team/s shrinks from 4 to 2 pods for it, which loses {lost} accelerator-seconds of work" in waiting.message
    assert waiting.blockers == ("team/s",)
    assert dict(waiting.numbers)["shrinks"] == "1"
    [tier] = [tier for tier in plan.certificate.tiers if tier.name == "resizes"]
    assert (tier.value, tier.bound, tier.status) == (lost, lost, sa.SolveStatus.OPTIMAL)


def test_a_shrink_and_an_eviction_are_told_together() -> None:
    case = SHRINKS["where surplus is not enough, both together"]
    message = sa.plan(worlds.snapshot(case.nodes, case.jobs), case.settings).waiting["j"].message
    assert "low must leave and s shrinks from 4 to 2 pods for it" in message


@st.composite
def elastic_snapshots(draw: st.DrawFn, max_waiting: int = 1, max_nodes: int = 4, grown: bool = True) -> sa.Snapshot:
    """Running jobs of which most are elastic, some in slices or spread, and a few waiting ones."""
    nodes = []
    for i in range(draw(st.integers(2, max_nodes))):
        free = draw(st.sampled_from([4, 4, 4, 4, 3]))
        blocked = draw(st.sampled_from(["", "", "", "", "", "cordoned"]))
        nodes.append(node(f"n{i}", free=free, of=4, cpu=8, rack=draw(st.sampled_from(["r1", "r2"])), blocked=blocked))
    base = worlds.snapshot(nodes, [])
    placed: list[sa.Job] = []
    for i in range(draw(st.integers(2, 4))):
        sizes = draw(st.sampled_from([(1, 2), (1, 3), (1, 2, 3), (2, 4), (1, 2, 4)]))
        now = draw(st.sampled_from([sizes[-1] if grown else sizes[0], *sizes]))
        level = draw(st.sampled_from([None, None, "rack", "zone", "node"]))
        topology = None if level is None else sa.TopologyRequest(level, worlds.REQUIRED)
        if topology is not None and sizes == (2, 4) and draw(st.booleans()):
            topology = sa.TopologyRequest(topology.level, worlds.REQUIRED, 2)
        one = worlds.job(
            f"r{i}",
            now,
            draw(st.sampled_from([1, 2, 2, 3] if grown else [1, 1, 2])),
            cpu=draw(st.sampled_from([0, 1, 2])),
        )
        one = dataclasses.replace(one, topology=topology)
        if draw(st.sampled_from([True, False, False])):
            one = dataclasses.replace(one, spread=sa.Spread("rack", 2), topology=None)
        ways = brute.ways(one, worlds.snapshot(list(base.nodes), placed))
        if not ways:
            continue
        goodput = tuple((size, draw(st.integers(1, 12)) * 100) for size in sizes[: draw(st.integers(0, 3))])
        placed.append(
            dataclasses.replace(
                one,
                num_pods=draw(st.sampled_from(sizes)),
                allowed_num_pods=sizes,
                goodput_milli=goodput,
                placement=draw(st.sampled_from(ways)),
                disruption_cost=draw(st.sampled_from([None, 0, 10, 20, 400])),
                resize_cost=draw(st.sampled_from([None if grown else 20, 0, 5, 10, 10, 300])),
                expected_seconds=draw(st.sampled_from([None, 10, 100, 10**5])),
                priority=draw(st.sampled_from([0, 0, 0, 5])),
            )
        )
    waiting = []
    for i in range(draw(st.integers(min(1, max_waiting), max_waiting))):
        pods = draw(st.integers(1, 3))
        sizes = draw(st.sampled_from([(), (), (pods, pods * 2)]))
        one = worlds.job(
            f"w{i}",
            pods,
            draw(st.sampled_from([1, 2, 2, 4])),
            level=draw(st.sampled_from([None, None, "rack", "node"])),
            cpu=draw(st.sampled_from([0, 1, 2])),
            priority=draw(st.sampled_from([0, 5, 9])),
            created_at_seconds=i,
            allowed_num_pods=sizes,
            resize_cost=10,
            disruption_cost=10,
        )
        waiting.append(one)
    return dataclasses.replace(base, jobs=(*placed, *waiting))


def worth(job: sa.Job, size: int) -> int:
    return dict(job.goodput_milli).get(size, 0) * job.num_pods if size in dict(job.goodput_milli) else size * 1000


def done(job: sa.Job, size: int, horizon: int) -> int:
    seconds = horizon if job.expected_seconds is None else min(horizon, job.expected_seconds)
    return worth(job, size) * job.pod.accelerators * seconds // 1000


def smaller(one: sa.Job, taker: sa.Job, snapshot: sa.Snapshot) -> list[tuple[sa.Placement, int]]:
    """Every part of its place that a job could keep for the other one, and what that loses."""
    if one.placement is None or one.resize_cost is None:
        return []
    alone = dataclasses.replace(snapshot, jobs=tuple(job for job in snapshot.jobs if job.id != one.id))
    best = 0
    found = []
    for size in one.allowed_num_pods:
        if worth(one, size) <= best:
            continue
        best = worth(one, size)
        if size >= one.placement.num_pods or (one.priority > taker.priority and size < one.num_pods):
            continue
        cost = one.resize_cost + max(done(one, one.placement.num_pods, HOUR) - done(one, size, HOUR), 0)
        had = {share.node: share.num_pods for share in one.placement.shares}
        fixed = dataclasses.replace(one, placement=None, num_pods=size, allowed_num_pods=())
        for way in brute.ways(fixed, alone):
            if all(share.num_pods <= had.get(share.node, 0) for share in way.shares):
                found.append((way, cost))
    return found


def stands(one: sa.Job, snapshot: sa.Snapshot) -> bool:
    """Whether the running job could start anew exactly where it is."""
    alone = dataclasses.replace(snapshot, jobs=tuple(job for job in snapshot.jobs if job.id != one.id))
    assert one.placement is not None
    again = dataclasses.replace(one, placement=None, num_pods=one.placement.num_pods, allowed_num_pods=())
    return any({*way.shares} == {*one.placement.shares} for way in brute.ways(again, alone))


def least_loss(snapshot: sa.Snapshot, taker: sa.Job, *, evict: bool) -> tuple[int, int] | None:
    """The least loss, and then the fewest who lose, so that the job fits; None where nothing will do."""
    running = [one for one in snapshot.jobs if one.placement is not None]
    choices: list[list[tuple[sa.Placement | None, int, int]]] = []
    for one in running:
        mine: list[tuple[sa.Placement | None, int, int]] = [(one.placement, 0, 0)]
        if evict and one.disruption_cost is not None and one.priority < taker.priority:
            mine.append((None, one.disruption_cost, 1))
        if stands(one, snapshot):
            mine += [(way, cost, 1) for way, cost in smaller(one, taker, snapshot)]
        choices.append(mine)
    found = []
    for chosen in itertools.product(*choices):
        kept = tuple(
            dataclasses.replace(one, placement=at)
            for one, (at, _, _) in zip(running, chosen, strict=True)
            if at is not None
        )
        if brute.ways(taker, dataclasses.replace(snapshot, jobs=kept)):
            found.append((sum(cost for _, cost, _ in chosen), sum(number for *_, number in chosen)))
    return min(found, default=None)


@given(elastic_snapshots(max_nodes=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_other_way_loses_less(snapshot: sa.Snapshot, evict: bool) -> None:
    """Surplus alone, where that is enough; otherwise surplus and evictions together."""
    [taker] = brute.queue(snapshot)
    taker = dataclasses.replace(taker, num_pods=min(taker.allowed_num_pods or (taker.num_pods,)), allowed_num_pods=())
    snapshot = dataclasses.replace(snapshot, jobs=tuple(taker if job.id == taker.id else job for job in snapshot.jobs))
    plan = sa.plan(snapshot, EVICT if evict else RESIZE)
    want = least_loss(snapshot, taker, evict=False)
    if want is None and evict:
        want = least_loss(snapshot, taker, evict=True)
    if taker.id in plan.placements:
        assert want == (0, 0)
    elif want is None:
        assert not plan.held
        assert not plan.resizes
    else:
        losses = [one.cost for one in (*plan.evictions, *plan.resizes)]
        assert (sum(losses), len(losses)) == want
        assert [tier.status for tier in plan.certificate.tiers if tier.name in ("resizes", "disruptions")] == [
            sa.SolveStatus.OPTIMAL
        ]


def operate(snapshot: sa.Snapshot, chosen: sa.Settings, linger: st.DataObject) -> list[sa.Plan]:
    """What the operator makes of its plans until nothing changes any more; who is told to leave takes its time.

    A gang that leaves is a job of its own, beside the waiting job that it was.
    """
    plans: list[sa.Plan] = []
    while True:
        plan = sa.plan(snapshot, chosen)
        plans.append(plan)
        back = {job.id for job in snapshot.jobs if job.placement is None and job.returning and not job.leaving}
        if not any(job.leaving for job in snapshot.jobs):
            assert back <= plan.placements.keys(), "who only stopped to return has its place"
        jobs, gone = told(snapshot, plan, linger if len(plans) % 3 else None)
        after = dataclasses.replace(snapshot, jobs=tuple(job for job in jobs if job.id not in gone))
        after = dataclasses.replace(
            after,
            jobs=tuple(dataclasses.replace(job, leaving=False) if f"{job.id}/1" in gone else job for job in after.jobs),
        )
        if after == snapshot and not any(job.leaving for job in snapshot.jobs):
            return plans
        snapshot = after
        assert len(plans) < 60, "it does not come to rest"


def told(snapshot: sa.Snapshot, plan: sa.Plan, linger: st.DataObject | None) -> tuple[list[sa.Job], set[str]]:
    """The jobs once the plan is carried out, and which gangs have left meanwhile: all, or some of them."""
    sizes = {one.job_id: one.num_pods for one in plan.resizes}
    evicted = {one.job_id for one in plan.evictions}
    jobs, gone = [], set()
    for job in snapshot.jobs:
        if job.id in sizes or job.id in evicted:
            assert job.placement is not None
            size = job.placement.num_pods
            jobs.append(sa.Job(f"{job.id}/1", job.name, size, job.pod, placement=job.placement, leaving=True))
            resized = job.id in sizes
            job = dataclasses.replace(job, placement=None, leaving=resized, returning=resized)
        elif job.id in plan.placements:
            job = dataclasses.replace(job, placement=plan.placements[job.id], returning=False)
        elif job.leaving and job.placement is not None and (linger is None or linger.draw(st.booleans())):
            gone.add(job.id)
        jobs.append(job)
    return jobs, gone


@given(elastic_snapshots(max_waiting=3), st.booleans(), st.data())
@settings(max_examples=50, deadline=None)
def test_it_comes_to_rest(snapshot: sa.Snapshot, evict: bool, data: st.DataObject) -> None:
    """Nobody is resized again and again, and whom others made room for starts."""
    plans = operate(snapshot, EVICT if evict else RESIZE, data)
    resized = [one for plan in plans for one in plan.resizes]
    takers = {one.for_job for one in resized}
    started = {job_id for plan in plans for job_id in plan.placements}
    assert takers - {""} <= started
    waiting = sum(job.placement is None for job in snapshot.jobs)
    assert len(resized) <= len(snapshot.jobs) * (waiting + 1)
    assert not plans[-1].held


def test_the_certificate_says_what_growth_gains() -> None:
    plan = sa.plan(worlds.snapshot(four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4))]), RESIZE)
    gain = 3 * 8 * HOUR
    assert [(one.cost, one.gain) for one in plan.resizes] == [(100, gain)]
    [tier] = plan.certificate.tiers
    assert (tier.name, tier.value, tier.bound, tier.status) == (
        "resizes",
        gain - 100,
        gain - 100,
        sa.SolveStatus.OPTIMAL,
    )


def most_gain(snapshot: sa.Snapshot) -> int:
    """The most that running jobs gain by growing, less what they lose: every choice of larger sizes and places."""
    options: list[list[tuple[sa.Placement, int]]] = []
    for one in snapshot.jobs:
        assert one.placement is not None
        mine = [(one.placement, 0)]
        for size in one.allowed_num_pods if one.resize_cost is not None else ():
            gain = done(one, size, HOUR) - done(one, one.placement.num_pods, HOUR) - (one.resize_cost or 0)
            if size > one.placement.num_pods and gain > 0:
                lifted = dataclasses.replace(one, placement=None, num_pods=size, allowed_num_pods=())
                empty = dataclasses.replace(snapshot, jobs=())
                mine += [(way, gain) for way in brute.ways(lifted, empty) if way.product == one.placement.product]
        options.append(mine)
    best_of_all = 0
    for chosen in itertools.product(*options):
        if sum(gain for _, gain in chosen) <= best_of_all:
            continue
        free = {one.name: one.available for one in snapshot.nodes}
        for one, (place, _) in zip(snapshot.jobs, chosen, strict=True):
            for share in place.shares:
                free[share.node] = free[share.node] - one.pod * share.num_pods
        if all(
            min(free[share.node].accelerators, free[share.node].cpu_milli, free[share.node].memory_mib) >= 0
            for place, gain in chosen
            if gain
            for share in place.shares
        ):
            best_of_all = sum(gain for _, gain in chosen)
    return best_of_all


@given(elastic_snapshots(max_waiting=0, max_nodes=3, grown=False))
@settings(max_examples=60, deadline=None)
def test_no_other_growth_gains_more_and_none_is_left(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot, RESIZE)
    assert sum(one.gain - one.cost for one in plan.resizes) == most_gain(snapshot)
    grown = {one.job_id: one.placement for one in plan.resizes}
    after = tuple(dataclasses.replace(job, placement=grown.get(job.id, job.placement)) for job in snapshot.jobs)
    for chosen in (RESIZE, dataclasses.replace(RESIZE, strategy=sa.Strategy.GREEDY)):
        assert not sa.plan(dataclasses.replace(snapshot, jobs=after), chosen).resizes
    greedy = sa.plan(snapshot, dataclasses.replace(RESIZE, strategy=sa.Strategy.GREEDY))
    grown = {one.job_id: one.placement for one in greedy.resizes}
    after = tuple(dataclasses.replace(job, placement=grown.get(job.id, job.placement)) for job in snapshot.jobs)
    again = sa.plan(dataclasses.replace(snapshot, jobs=after), dataclasses.replace(RESIZE, strategy=sa.Strategy.GREEDY))
    assert not again.resizes


@st.composite
def bounded(draw: st.DrawFn) -> sa.Snapshot:
    """Elastic jobs in queues, under a ResourceQuota, beside reservations: everything that bounds who may take what."""
    base = draw(elastic_snapshots(max_waiting=3, grown=draw(st.booleans())))
    queues = draw(st.sampled_from([(), draw(worlds.queues())]))
    names = st.sampled_from(["", *(queue.name for queue in queues)])
    spaces = st.sampled_from(["a/", "b/"])
    jobs = [dataclasses.replace(one, queue=draw(names), name=draw(spaces) + one.id) for one in base.jobs]
    hard = draw(st.sampled_from([None, 0, 4, 8]))
    limits = () if hard is None else (sa.NamespaceLimit("rq", "a", "requests.nvidia.com/gpu", "accelerators", hard),)
    reserved: tuple[sa.Reservation, ...] = ()
    for one in jobs:
        if one.placement is None and not reserved and draw(st.booleans()):
            smallest = dataclasses.replace(
                one, num_pods=min(one.allowed_num_pods or (one.num_pods,)), allowed_num_pods=()
            )
            if ways := brute.ways(smallest, dataclasses.replace(base, jobs=())):
                reserved = (sa.Reservation(one.id, draw(st.sampled_from(ways)), draw(st.sampled_from([0, 50, 500]))),)
    return dataclasses.replace(base, jobs=tuple(jobs), queues=queues, namespace_limits=limits, reservations=reserved)


@given(bounded(), st.sampled_from([RESIZE, EVICT]), st.sampled_from(BOTH))
@settings(max_examples=30, deadline=None)
def test_quotas_limits_and_reservations_hold(snapshot: sa.Snapshot, chosen: sa.Settings, strategy: sa.Strategy) -> None:
    plan = sa.plan(snapshot, dataclasses.replace(chosen, strategy=strategy))  # verifies itself
    assert len({one.job_id for one in plan.resizes}) == len(plan.resizes)


TWO_QUEUES = (
    sa.Queue("a", quotas=(sa.Quota(worlds.H100, 16),), parent="all"),
    sa.Queue("b", quotas=(sa.Quota(worlds.H100, 16),), parent="all"),
    sa.Queue("all"),
)
IN_QUEUES = {
    "a borrower gives back what it can do without, whatever its priority": (
        [elastic("s", ON_FOUR, sizes=(1, 2, 4), priority=9, queue="b"), worlds.job("j", 2, queue="a")],
        {"s": (2, "j")},
    ),
    "but not what its queue owns": (
        [elastic("s", ON_FOUR, sizes=(1, 3, 4), queue="b"), worlds.job("j", 2, queue="a")],
        {"s": (1, "j")},
    ),
    "nobody gives up for what would be borrowed": (
        [elastic("s", ON_FOUR, sizes=(1, 2, 4), queue="b"), worlds.job("j", 3, queue="a")],
        {},
    ),
    "within a queue by priority": (
        [elastic("s", ON_FOUR, sizes=(1, 2, 4), preferred=2, priority=9, queue="b"), worlds.job("j", queue="b")],
        {"s": (2, "j")},
    ),
}


@pytest.mark.parametrize("sentence", IN_QUEUES)
def test_in_queues(sentence: str) -> None:
    jobs, want = IN_QUEUES[sentence]
    snapshot = dataclasses.replace(worlds.snapshot(four(), jobs), queues=TWO_QUEUES)
    plan = sa.plan(snapshot, EVICT)
    assert {one.job_id: (one.num_pods, one.for_job) for one in plan.resizes} == want


def test_a_job_whose_quota_was_lowered_is_not_asked_as_it_could_not_start_again() -> None:
    queues = (sa.Queue("a", quotas=(sa.Quota(worlds.H100, 8),)),)
    jobs = [elastic("s", ON_FOUR, sizes=(1, 2, 4), queue="a"), worlds.job("j", queue="")]
    assert not sa.plan(dataclasses.replace(worlds.snapshot(four(), jobs), queues=queues), EVICT).resizes


SHRUNK = worlds.snapshot(four(), [elastic("s", ON_FOUR, sizes=(2, 4), priority=1), worlds.job("j", priority=1)])
GROWN = worlds.snapshot(four(), [elastic("s", {"n1": 1}, sizes=(1, 2, 4))])
AT_TWO = sa.Placement(worlds.H100, (sa.NodeShare("n1", 1), sa.NodeShare("n2", 1)))


@pytest.mark.parametrize(
    ("snapshot", "changes", "want"),
    [
        (SHRUNK, {"cost": 1}, "it costs 57700, not 1"),
        (SHRUNK, {"job_id": "j"}, "the job does not run"),
        (SHRUNK, {"num_pods": 3}, "this is no size of the job"),
        (SHRUNK, {"placement": None}, "has no room"),
        (SHRUNK, {"for_job": "nobody"}, "no room is held for nobody"),
        (SHRUNK, {"for_job": "", "placement": AT_TWO}, "somebody waits"),
        (GROWN, {"gain": 1}, "it gains 86400 and costs 100, not 1 and 100"),
        (GROWN, {"num_pods": 2, "placement": AT_TWO, "gain": 28800, "cost": 5}, "costs 100"),
        (GROWN, {"for_job": "s"}, "nothing is given up for s"),
    ],
    ids=lambda value: "" if isinstance(value, sa.Snapshot | str) else ", ".join(value),
)
def test_a_wrong_resize_is_never_applied(snapshot: sa.Snapshot, changes: dict[str, Any], want: str) -> None:
    plan = sa.plan(snapshot, RESIZE)
    wrong = dataclasses.replace(plan.resizes[0], **changes)
    with pytest.raises(sa.PlanViolationError, match=want):
        checks.verify(dataclasses.replace(plan, resizes=(wrong,)), snapshot=snapshot, settings=RESIZE)


@pytest.mark.parametrize(
    ("job", "want"),
    [
        ({"priority": 5, "num_pods": 4}, "of higher priority and keeps its preferred size"),
        ({"resize_cost": None}, "must not be resized"),
        ({"leaving": True}, "is leaving"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ", ".join(value),
)
def test_who_must_not_be_resized_is_told_by_the_checks(job: dict[str, Any], want: str) -> None:
    plan = sa.plan(SHRUNK, RESIZE)
    changed = dataclasses.replace(SHRUNK, jobs=(dataclasses.replace(SHRUNK.jobs[0], **job), *SHRUNK.jobs[1:]))
    with pytest.raises(sa.PlanViolationError, match=want):
        checks.verify(plan, snapshot=changed, settings=RESIZE)


def test_resizes_need_the_setting() -> None:
    with pytest.raises(sa.PlanViolationError, match="the settings do not allow it"):
        checks.verify(sa.plan(SHRUNK, RESIZE), snapshot=SHRUNK, settings=sa.Settings())
