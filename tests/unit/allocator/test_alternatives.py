"""Alternatives: the smallest single changes that start a job, each applied and planned."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import alternatives as looking
from stowplan_allocator import forecast, relaxing, replay
from stowplan_allocator.relaxing import ChangeKind
from unit.allocator import worlds
from unit.allocator.worlds import A100, H100, job, node, running

TEAM = sa.Taint("team", sa.TaintEffect.NO_SCHEDULE, "x")
# Nodes, jobs of which "x" waits -> for each kind of alternative, its numbers.
Want = dict[ChangeKind, list[dict[str, str]]]
CASES: dict[str, tuple[list[sa.Node], list[sa.Job], Want]] = {
    "two racks have what one must have": (
        [node("n1", rack="r1"), node("n2", rack="r2")],
        [job("x", 2, 8, level="rack")],
        {
            ChangeKind.TOPOLOGY_PREFERRED: [{"level": "rack"}],
            ChangeKind.WIDER_LEVEL: [{"level": "zone", "instead_of": "rack"}],
            ChangeKind.SMALLER_PODS: [{"resource": "accelerators", "amount": "4", "instead_of": "8"}],
            ChangeKind.FEWER_PODS: [{"pods": "1", "instead_of": "2"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "nobody has the product, but others are free": (
        [node("n1", product=A100)],
        [job("x", products=[H100])],
        {ChangeKind.OTHER_PRODUCT: [{"product": A100}]},
    ),
    "a taint, a label and a spot node keep it away, one at a time": (
        [
            node("n1", taints=(TEAM,), labels={"pool": "a"}),
            node("n2", spot=True, labels={"pool": "a"}),
            node("n3", labels={"pool": "b"}),
        ],
        [job("x", node_selector=(("pool", "a"),), capacity_type=sa.CapacityType.ON_DEMAND)],
        {
            ChangeKind.TAINT_TOLERATED: [{"taints": "team=x:NoSchedule"}],
            ChangeKind.WITHOUT_SELECTOR: [{"labels": "pool=a"}],
            ChangeKind.ANY_CAPACITY_TYPE: [{"instead_of": "OnDemand"}],
            ChangeKind.MORE_NODES: [],
        },
    ),
    "the job ahead takes the room": (
        [node("n1")],
        [job("first", priority=3, created_at_seconds=1), job("x", created_at_seconds=2)],
        {
            ChangeKind.HIGHER_PRIORITY: [{"priority": "4", "instead_of": "0"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "of two running jobs the end of the cheaper one will do": (
        [node("n1"), node("n2")],
        [
            running("dear", {"n1": 1}, 8, cost=90, expected_seconds=40),
            running("cheap", {"n2": 1}, 8, cost=50, expected_seconds=60),
            job("x"),
        ],
        {
            ChangeKind.JOB_ENDED: [{"job": "cheap", "cost": "50"}],
            ChangeKind.LATER: [{"seconds": "40", "ends": "1"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "a small job moves over": (
        [node("n1"), node("n2")],
        [running("a", {"n1": 1}, 2, cost=5), running("b", {"n2": 1}, 2, cost=None), job("x")],
        {
            ChangeKind.SMALLER_PODS: [{"resource": "accelerators", "amount": "6", "instead_of": "8"}],
            ChangeKind.JOBS_MOVED: [{"jobs": "a", "cost": "5", "make_room": "2405"}],
            ChangeKind.JOB_ENDED: [{"job": "a", "cost": "5"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "the fewest broken nodes": (
        [
            node("n1", blocked="cordoned", free=4),
            node("n2", blocked="NotReady"),
            node("n3", free=6, unhealthy_accelerators=2),
        ],
        [job("x", 2, 4)],
        {
            ChangeKind.SMALLER_PODS: [{"resource": "accelerators", "amount": "3", "instead_of": "4"}],
            ChangeKind.FEWER_PODS: [{"pods": "1", "instead_of": "2"}],
            ChangeKind.NODES_BACK: [{"nodes": "1", "names": "n2"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "nodes avoided after failures": (
        [node("n1")],
        [job("x", avoided_nodes=frozenset({"n1"}))],
        {
            ChangeKind.AVOIDED_NODES_ALLOWED: [{"nodes": "n1"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "of nodes avoided after failures only those that its owner can bring back": (
        [node("n1"), node("n2")],
        [job("x", avoided_nodes=frozenset({"n1", "n2"}), avoided_anyway=frozenset({"n1"}))],
        {
            ChangeKind.AVOIDED_NODES_ALLOWED: [{"nodes": "n2"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "a node that is avoided whatever its owner wants": (
        [node("n1")],
        [job("x", avoided_nodes=frozenset({"n1"}), avoided_anyway=frozenset({"n1"}))],
        {ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}]},
    ),
    "too few CPUs": (
        [node("n1", cpu=16)],
        [job("x", 2, 2, cpu=9)],
        {
            ChangeKind.SMALLER_PODS: [{"resource": "cpu_milli", "amount": "8000", "instead_of": "9000"}],
            ChangeKind.FEWER_PODS: [{"pods": "1", "instead_of": "2"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "an elastic job may have a smaller size, too": (
        [node("n1")],
        [job("x", 3, 8, allowed_num_pods=(2, 3))],
        {
            ChangeKind.SMALLER_PODS: [{"resource": "accelerators", "amount": "4", "instead_of": "8"}],
            ChangeKind.FEWER_PODS: [{"pods": "1", "instead_of": "2"}],
            ChangeKind.MORE_NODES: [{"nodes": "1", "like": "n1"}],
        },
    ),
    "an affinity that no node has": (
        [node("n1")],
        [job("x", node_affinity=((sa.LabelExpression("gen", sa.LabelOperator.EXISTS),),))],
        {ChangeKind.WITHOUT_AFFINITY: [{"terms": "1"}]},
    ),
    "a job that starts needs no alternative": ([node("n1")], [job("x")], {}),
}


@pytest.mark.parametrize("sentence", CASES)
def test_alternatives(sentence: str) -> None:
    nodes, jobs, want = CASES[sentence]
    snapshot = dataclasses.replace(worlds.snapshot(nodes, jobs), move_budget=1000)
    found = looking.explore(snapshot, "x", budget_seconds=60)
    assert not found.not_tried
    got: Want = {}
    for one in found.alternatives:
        got.setdefault(one.kind, []).append(dict(one.numbers))
        assert one.sentence
        assert one.smallest
        assert "x" in sa.plan(one.apply(snapshot)).placements, one
    assert got == {kind: numbers for kind, numbers in want.items() if numbers}
    kinds = [one.kind for one in found.alternatives]
    assert kinds == sorted(kinds, key=list(ChangeKind).index)


CLASSES = {
    "the least that helps, and not the least of all": (("low", 1), ("mid", 4), ("top", 9), "mid"),
    "one that is as high as the job ahead, which is older, does not help": (("low", 1), ("mid", 3), ("top", 9), "top"),
    "none that helps": (("low", 1), ("mid", 2), ("same", 3), ""),
}


@pytest.mark.parametrize("sentence", CLASSES)
def test_a_priority_is_offered_by_the_name_of_a_class(sentence: str) -> None:
    *classes, want = CLASSES[sentence]
    jobs = [job("first", priority=3, created_at_seconds=1), job("x", created_at_seconds=2)]
    named = tuple(sa.PriorityClass(name, value, preempts=False) for name, value in classes)
    snapshot = dataclasses.replace(worlds.snapshot([node("n1")], jobs), priority_classes=named)
    found = [one for one in looking.alternatives(snapshot, "x") if one.kind is ChangeKind.HIGHER_PRIORITY]
    assert [dict(one.numbers)["class"] for one in found] == ([want] if want else [])
    for one in found:
        assert f"(priorityClassName: {want})" in one.sentence
        assert not one.patch.jobs[0].preempts
        assert "x" in sa.plan(one.apply(snapshot)).placements


def test_room_that_is_held_for_a_preempting_job_is_no_alternative() -> None:
    jobs = [
        running("low", {"n1": 1}, 4, cost=1),
        job("high", priority=5),
        job("x", created_at_seconds=1),
    ]
    setting = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
    for chosen, want in ((sa.Settings(), True), (setting, False)):
        found = looking.alternatives(worlds.snapshot([node("n1")], jobs), "x", settings=chosen)
        assert (ChangeKind.SMALLER_PODS in {one.kind for one in found}) is want


def test_a_reservation_that_is_given_up() -> None:
    kept = sa.Reservation("big", sa.Placement(H100, (sa.NodeShare("n1", 1), sa.NodeShare("n2", 1))), 50)
    jobs = [running("a", {"n2": 1}, 8, expected_seconds=50), job("big", 2, created_at_seconds=1), job("x")]
    jobs[2] = dataclasses.replace(jobs[2], created_at_seconds=2)
    snapshot = dataclasses.replace(worlds.snapshot([node("n1"), node("n2")], jobs), reservations=(kept,))
    found = [one for one in looking.alternatives(snapshot, "x") if one.kind is ChangeKind.RESERVATION_RELEASED]
    assert [one.sentence for one in found] == ["suspend big, for which room is kept (suspend: true)"]
    assert "x" in sa.plan(found[0].apply(snapshot)).placements


@pytest.mark.parametrize(("budget", "want"), [(0, []), (499, []), (500, ["a"])])
def test_moves_are_offered_within_what_they_may_lose(budget: int, want: list[str]) -> None:
    jobs = [running("a", {"n1": 1}, 4, cost=500), running("b", {"n2": 1}, 4, cost=900), job("x")]
    snapshot = dataclasses.replace(worlds.snapshot([node("n1"), node("n2")], jobs), move_budget=budget)
    found = [one for one in looking.alternatives(snapshot, "x") if one.kind is ChangeKind.JOBS_MOVED]
    assert [dict(one.numbers)["jobs"] for one in found] == want
    assert all("(annotation stowplan.dev/make-room=5300)" in one.sentence for one in found)


def test_patience_reckons_with_those_who_come_back() -> None:
    """The victim takes the free node again, and so the job waits for the other one."""
    back = dataclasses.replace(job("low", priority=9), name="low/1")
    jobs = [running("a", {"n1": 1}, 8, expected_seconds=50), running("low/1", {"n2": 1}, 8, leaving=True), job("x")]
    snapshot = worlds.snapshot([node("n1"), node("n2")], jobs)
    snapshot = dataclasses.replace(snapshot, coming_back=(back,))
    (later,) = [one for one in looking.alternatives(snapshot, "x") if one.kind is ChangeKind.LATER]
    assert dict(later.numbers)["seconds"] == "50"
    then = later.apply(snapshot)
    assert (then.coming_back, "x" in sa.plan(then).placements) == ((), True)


def test_what_the_budget_left_out_is_said() -> None:
    snapshot = worlds.snapshot([node("n1")], [job("x", 2)])
    assert looking.explore(snapshot, "x", budget_seconds=0.0).not_tried == tuple(ChangeKind)


def test_a_forecast_that_was_cut_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [running(f"r{i}", {"n1": 1}, 1, expected_seconds=10 * (i + 1)) for i in range(8)]
    snapshot = worlds.snapshot([node("n1")], [*jobs, job("x", 1, 8)])
    monkeypatch.setattr(replay, "MAX_STEPS", 1)
    monkeypatch.setattr(replay.Replay, "_advance", lambda *_: None)
    found = looking.explore(snapshot, "x", budget_seconds=60)
    assert found.not_tried == (ChangeKind.LATER,)
    assert ChangeKind.MORE_NODES in {one.kind for one in found.alternatives}


def test_to_wait_says_who_gives_way_then() -> None:
    kept = sa.Protection(80, 7, "preemption.minRuntimeSeconds")
    jobs = [running("low", {"n1": 1}, 8, cost=None, protection=kept), job("x", priority=5)]
    setting = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
    found = looking.explore(worlds.snapshot([node("n1")], jobs), "x", settings=setting, budget_seconds=60)
    (later,) = (one for one in found.alternatives if one.kind is ChangeKind.LATER)
    assert later.sentence == "wait 80 s, until low has left"


def test_a_job_that_does_not_wait_has_no_alternatives() -> None:
    with pytest.raises(ValueError, match="does not wait"):
        looking.alternatives(worlds.snapshot([node("n1")], []), "x")


@given(
    worlds.busy_snapshots(max_nodes=4, max_waiting=3),
    st.sampled_from(list(sa.Strategy)),
    st.sampled_from([sa.Preemption.NEVER, sa.Preemption.QUEUE_ORDER]),
    st.booleans(),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_alternative_applied_starts_the_job(
    snapshot: sa.Snapshot, strategy: sa.Strategy, preemption: sa.Preemption, reserved: bool
) -> None:
    setting = sa.Settings(strategy=strategy, preemption=preemption)
    first = next(one.id for one in snapshot.jobs if one.placement is None)
    kept = forecast.reserve(snapshot, first) if reserved else None
    if kept is not None:
        snapshot = dataclasses.replace(snapshot, reservations=(kept,))
    snapshot = dataclasses.replace(snapshot, move_budget=10_000)
    for waiting in [one for one in snapshot.jobs if one.placement is None]:
        found = looking.explore(snapshot, waiting.id, settings=setting, budget_seconds=60)
        assert not found.not_tried
        for one in found.alternatives:
            assert waiting.id in sa.plan(one.apply(snapshot), setting).placements, one
            if one.kind is ChangeKind.JOBS_MOVED:
                asked = dataclasses.replace(waiting, make_room=int(dict(one.numbers)["make_room"]))
                plan = sa.plan(relaxing.Patch(jobs=(asked,)).apply(snapshot), setting)
                assert {move.for_job for move in plan.moves} == {waiting.id}, one


@given(worlds.busy_snapshots(max_nodes=3, max_waiting=2))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_smaller_change_would_do(snapshot: sa.Snapshot) -> None:
    waiting = next(one for one in snapshot.jobs if one.placement is None)

    def starts(**wishes: object) -> bool:
        changed = dataclasses.replace(waiting, **wishes)
        jobs = tuple(changed if one.id == waiting.id else one for one in snapshot.jobs)
        return waiting.id in sa.plan(dataclasses.replace(snapshot, jobs=jobs)).placements

    if starts():
        return
    found = looking.alternatives(snapshot, waiting.id, budget_seconds=60)
    numbers = {one.kind: dict(one.numbers) for one in found}
    sizes = [size for size in range(1, waiting.num_pods) if starts(num_pods=size)]
    assert numbers.get(ChangeKind.FEWER_PODS, {}).get("pods") == (str(max(sizes)) if sizes else None)
    gpus = waiting.pod.accelerators
    amounts = [n for n in range(1, gpus) if starts(pod=dataclasses.replace(waiting.pod, accelerators=n))]
    got = [one for one in found if dict(one.numbers).get("resource") == "accelerators"]
    assert [dict(one.numbers)["amount"] for one in got] == ([str(max(amounts))] if amounts else [])
    higher = [p for p in range(waiting.priority + 1, 8) if starts(priority=p)]
    assert numbers.get(ChangeKind.HIGHER_PRIORITY, {}).get("priority") == (str(min(higher)) if higher else None)
    ends = [
        (one.disruption_cost is None, one.disruption_cost or 0)
        for one in snapshot.jobs
        if one.placement is not None and _starts_without(snapshot, waiting, one)
    ]
    unknown, cost = min(ends, default=(False, None))
    want = None if cost is None else "unknown" if unknown else str(cost)
    assert numbers.get(ChangeKind.JOB_ENDED, {}).get("cost") == want


@st.composite
def broken_clusters(draw: st.DrawFn) -> sa.Snapshot:
    nodes = [
        node(
            f"n{i}",
            draw(st.integers(0, 6)),
            rack=draw(st.sampled_from(["r1", "r2"])),
            blocked=draw(st.sampled_from(["", "cordoned", "NotReady"])),
            unhealthy_accelerators=draw(st.sampled_from([0, 0, 2])),
        )
        for i in range(draw(st.integers(1, 5)))
    ]
    level = draw(st.sampled_from([None, None, "rack"]))
    first = job("first", draw(st.integers(1, 2)), draw(st.integers(1, 4)), priority=1)
    return worlds.snapshot(nodes, [first, job("x", draw(st.integers(1, 4)), draw(st.integers(1, 4)), level=level)])


@given(broken_clusters())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_fewer_nodes_would_do(snapshot: sa.Snapshot) -> None:
    if "x" in sa.plan(snapshot).placements:
        return
    found = {one.kind: one for one in looking.alternatives(snapshot, "x", budget_seconds=60)}
    broken = [one for one in snapshot.nodes if relaxing.is_broken(one)]
    fewest = next(
        (
            number
            for number in range(1, len(broken) + 1)
            for back in itertools.combinations(broken, number)
            if "x" in sa.plan(relaxing.Patch(nodes=tuple(map(relaxing.restored, back))).apply(snapshot)).placements
        ),
        None,
    )
    back = found.get(ChangeKind.NODES_BACK)
    assert (back is None) == (fewest is None)
    if back is not None and fewest is not None:
        claimed = int(dict(back.numbers)["nodes"])
        assert claimed == fewest if back.smallest else claimed >= fewest
    more = found.get(ChangeKind.MORE_NODES)
    if more is not None:
        number = int(dict(more.numbers)["nodes"])
        for model in snapshot.nodes:
            new = relaxing.copies(model, number - 1, taken=frozenset())
            assert "x" not in sa.plan(relaxing.Patch(nodes=new).apply(snapshot)).placements


def _starts_without(snapshot: sa.Snapshot, waiting: sa.Job, gone: sa.Job) -> bool:
    left = tuple(one for one in snapshot.jobs if one.id != gone.id)
    return waiting.id in sa.plan(dataclasses.replace(snapshot, jobs=left)).placements
