"""Moves in a plan: room for a waiting job that asks, held for everybody until all have come where they are to stand."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import checks, forecast, moving
from unit.allocator import brute, worlds
from unit.allocator.worlds import job, node, running

EXACT, GREEDY = sa.Settings(), sa.Settings(strategy=sa.Strategy.GREEDY)
LOWER = sa.Settings(preemption=sa.Preemption.LOWER_PRIORITY)
HALVES = [running("a", {"n1": 1}, 4, cost=900), running("b", {"n2": 1}, 4, cost=500)]
TWO = [node("n1"), node("n2")]


def asking(name: str, pods: int = 1, gpus: int = 8, *, make_room: int = 1000, **fields: object) -> sa.Job:
    return job(name, pods, gpus, make_room=make_room, **fields)


def world(nodes: list[sa.Node], jobs: list[sa.Job], budget: int = 10_000, **fields: object) -> sa.Snapshot:
    return dataclasses.replace(worlds.snapshot(nodes, jobs), move_budget=budget, **fields)


@dataclasses.dataclass(frozen=True)
class Case:
    nodes: list[sa.Node]
    jobs: list[sa.Job]
    want_moves: dict[str, tuple[str, str]]
    want_placed: frozenset[str] = frozenset()
    want_evicted: frozenset[str] = frozenset()
    budget: int = 10_000
    settings: sa.Settings = EXACT


CASES: dict[str, Case] = {
    "the cheaper half moves, and its room is held": Case(TWO, [*HALVES, asking("x")], {"b": ("x", "n1")}),
    "nobody moves for a job that does not ask": Case(TWO, [*HALVES, job("x")], {}),
    "nobody moves where moves may lose nothing": Case(TWO, [*HALVES, asking("x")], {}, budget=0),
    "nobody moves for more than the job may cost": Case(TWO, [*HALVES, asking("x", make_room=499)], {}),
    "nobody moves for more than all moves may cost": Case(TWO, [*HALVES, asking("x")], {}, budget=499),
    "a job that must not be disturbed stays, and the dearer one moves": Case(
        TWO, [running("a", {"n1": 1}, 4, cost=900), running("b", {"n2": 1}, 4, cost=None), asking("x")],
        {"a": ("x", "n2")},
    ),
    "a job that stays is not moved, and the dearer one moves": Case(
        TWO,
        [HALVES[0], dataclasses.replace(HALVES[1], stays=True), asking("x")],
        {"a": ("x", "n2")},
    ),
    "a job that stays may be evicted all the same": Case(
        TWO,
        [running("a", {"n1": 1}, 8, cost=None), running("b", {"n2": 1}, 4, stays=True), asking("x", priority=5)],
        {}, want_evicted=frozenset("b"), settings=LOWER,
    ),
    "nobody moves for a job that starts without": Case([*TWO, node("n3")], [*HALVES, asking("x")], {}, frozenset("x")),
    "a younger job does not take the room of who moves": Case(
        TWO, [*HALVES, asking("x"), job("y", 1, 4, created_at_seconds=9)], {"b": ("x", "n1")}
    ),
    "an older job starts first, and nobody moves where that leaves too little": Case(
        TWO, [*HALVES, job("y", 1, 4), asking("x", created_at_seconds=9)], {}, frozenset("y")
    ),
    "an older job that starts stays where it is": Case(
        [*TWO, node("n3", free=4)], [*HALVES, job("y", 1, 4), asking("x", created_at_seconds=9)],
        {"b": ("x", "n3")}, frozenset("y"),
    ),
    "a younger job starts where nothing is held": Case(
        [*TWO, node("n3", free=4)], [*HALVES, asking("x"), job("y", 1, 4, created_at_seconds=9)],
        {"b": ("x", "n1")}, frozenset("y"),
    ),
    "two jobs ask, and both are given room": Case(
        [*TWO, node("n3"), node("n4")],
        [*HALVES, running("c", {"n3": 1}, 4, cost=70), running("d", {"n4": 1}, 4, cost=80),
         asking("x"), asking("y", created_at_seconds=9)],
        {"c": ("x", "n1"), "d": ("y", "n2")},
    ),
    "the second finds nothing left in the budget": Case(
        [*TWO, node("n3"), node("n4")],
        [*HALVES, running("c", {"n3": 1}, 4, cost=70), running("d", {"n4": 1}, 4, cost=80),
         asking("x"), asking("y", created_at_seconds=9)],
        {"c": ("x", "n1")}, budget=149,
    ),
    "scattered over racks, the job gets one rack": Case(
        [node("n1", rack="r1"), node("n2", rack="r1"), node("n3", rack="r2"), node("n4", rack="r2")],
        [running("a", {"n1": 1}, 8, cost=30), running("b", {"n3": 1}, 8, cost=40), asking("x", 2, 8, level="rack")],
        {"a": ("x", "n4")},
    ),
    "moving costs nobody his place, so it comes before evictions": Case(
        TWO, [*HALVES, asking("x", priority=5)], {"b": ("x", "n1")}, settings=LOWER
    ),
    "who is ahead and gets a place by evictions goes first": Case(
        TWO, [*HALVES, job("w", priority=5), asking("x")], {}, want_evicted=frozenset("b"), settings=LOWER
    ),
    "who is ahead keeps his victims, though what moves would not be enough for him": Case(
        TWO, [*HALVES, job("w", 2, priority=5), asking("x")], {}, want_evicted=frozenset("ab"), settings=LOWER
    ),
    "who is ahead and does not ask would get the room, so nobody moves": Case(
        TWO, [*HALVES, job("w"), asking("x", created_at_seconds=9)], {}
    ),
    "what a job leaves is free to nobody before it has left": Case(
        [*TWO, node("n3"), node("n4", free=4)],
        [
            running("a", {"n1": 1}, 4, cost=None),
            running("b", {"n2": 1, "n3": 1}, 4, cost=9, avoided_nodes=frozenset({"n3"})),
            running("c", {"n3": 1}, 4, cost=None),
            asking("x"),
            job("y", 1, 4, created_at_seconds=9),
        ],
        {"b": ("x", "n1,n4")},
    ),
    "who is ahead and finds no victims does not keep others from asking": Case(
        TWO, [*HALVES, job("w", 3, priority=5), asking("x")], {"b": ("x", "n1")}, settings=LOWER
    ),
    "nobody goes to a slower product": Case(
        [node("n1", free=4), node("n2", product=worlds.A100), node("n3")],
        [
            running("a", {"n3": 1}, 4, cost=9, products=(
                sa.ProductChoice(worlds.H100), sa.ProductChoice(worlds.A100, 450))),
            running("b", {"n1": 1}, 2, cost=None),
            asking("x", 1, 8, products=(worlds.H100,)),
        ],
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", CASES)
def test_moves(sentence: str) -> None:
    case = CASES[sentence]
    snapshot = world(case.nodes, case.jobs, case.budget)
    plan = sa.plan(snapshot, case.settings)
    got = {move.job_id: (move.for_job, ",".join(share.node for share in move.placement.shares)) for move in plan.moves}
    assert got == case.want_moves
    assert plan.placements.keys() == case.want_placed
    assert {eviction.job_id for eviction in plan.evictions} == case.want_evicted
    for name in {move.for_job for move in plan.moves}:
        assert name in plan.held
        assert plan.waiting[name].reason is sa.Reason.WAITING_FOR_PREEMPTION
    if case.want_moves:
        [tier] = [tier for tier in plan.certificate.tiers if tier.name == "moves"]
        assert tier.value == sum(move.cost for move in plan.moves)
        assert tier.status is sa.SolveStatus.OPTIMAL


@pytest.mark.parametrize("strategy", [sa.Strategy.EXACT, sa.Strategy.GREEDY], ids=str)
@pytest.mark.parametrize("dear_node", ["n1", "n2"])
def test_room_that_is_kept_for_the_job_itself_is_no_reason_to_move_a_dearer_one(
    strategy: sa.Strategy, dear_node: str
) -> None:
    """On the node that is kept for it one may go who is not known to end: the job starts elsewhere."""
    cheap_node = {"n1": "n2", "n2": "n1"}[dear_node]
    halves = [
        running("dear", {dear_node: 1}, 4, cost=900, expected_seconds=50),
        running("cheap", {cheap_node: 1}, 4, cost=5),
    ]
    kept = sa.Reservation("x", sa.Placement(worlds.H100, (sa.NodeShare(dear_node, 1),)), 50)
    snapshot = world(TWO, [*halves, asking("x"), job("small", 1, 1, created_at_seconds=9)], reservations=(kept,))
    found = moving.moves(snapshot, "x", settings=sa.Settings(strategy=strategy))
    assert found is not None
    assert [move.job_id for move in found.moves] == ["cheap"]
    plan = sa.plan(snapshot, sa.Settings(strategy=strategy))
    assert [(move.job_id, move.cost) for move in plan.moves] == [("cheap", 5)]
    assert plan.held["x"].shares == (sa.NodeShare(cheap_node, 1),)
    loop = Loop(snapshot, sa.Settings(strategy=strategy))
    for _ in range(2):
        loop.cycle()
    loop.gone("cheap/1")
    assert loop.cycle().placements.keys() == {"x", "cheap"}
    assert [move.job_id for move in loop.told] == ["cheap"]


def test_the_answer_names_who_moves_and_what_that_loses() -> None:
    plan = sa.plan(world(TWO, [*HALVES, asking("x")]))
    assert plan.waiting["x"] == sa.Waiting(
        sa.Reason.WAITING_FOR_PREEMPTION,
        "needs 1 pod × 8 accelerators; b moves elsewhere for it and loses 500 accelerator-seconds of work; its room "
        "is kept until then",
        (
            ("pods_needed", "1"),
            ("accelerators_needed", "8"),
            ("moves", "1"),
            ("disruption_cost", "500"),
            ("disruption_bound", "500"),
        ),
        ("b",),
    )


class Loop:
    """What an operator does with plans, one step after the other; ``told`` has the moves in order."""

    def __init__(self, snapshot: sa.Snapshot, settings: sa.Settings = EXACT) -> None:
        self.snapshot, self.settings = snapshot, settings
        self.told: list[sa.Move] = []

    def _replace(self, job_id: str, *new: sa.Job) -> None:
        jobs = [one for one in self.snapshot.jobs if one.id != job_id]
        self.snapshot = dataclasses.replace(self.snapshot, jobs=(*jobs, *new))

    def _job(self, job_id: str) -> sa.Job:
        return next(one for one in self.snapshot.jobs if one.id == job_id)

    def cycle(self, *, most_moves: int = 100) -> sa.Plan:
        """Plan and act, telling only the first of those who are to move: the process may end between two writes."""
        plan = sa.plan(self.snapshot, self.settings)
        for move in plan.moves[:most_moves]:
            one = self._job(move.job_id)
            assert one.placement is not None
            self.told.append(move)
            gang = sa.Job(
                f"{one.id}/1", one.name, one.num_pods, one.pod, placement=one.placement, leaving=True, queue=one.queue
            )
            size = one.placement.num_pods
            back = dataclasses.replace(
                one, placement=None, num_pods=size, allowed_num_pods=(), returning=True, leaving=True
            )
            self._replace(one.id, gang, back)
        for job_id, placement in plan.placements.items():
            one = dataclasses.replace(self._job(job_id), placement=placement, returning=False, make_room=0)
            self._replace(job_id, one)
        return plan

    @property
    def leaving(self) -> list[str]:
        return sorted(one.id for one in self.snapshot.jobs if one.leaving and one.placement is not None)

    def gone(self, gang: str) -> None:
        self._replace(gang)
        back = self._job(gang.removesuffix("/1"))
        self._replace(back.id, dataclasses.replace(back, leaving=False))

    @property
    def waiting(self) -> set[str]:
        return {one.id for one in self.snapshot.jobs if one.placement is None}

    def arrive(self, one: sa.Job) -> None:
        self.snapshot = dataclasses.replace(self.snapshot, jobs=(*self.snapshot.jobs, one))


@pytest.mark.parametrize(
    ("avoided", "want"),
    [(frozenset(), {"b"}), (frozenset({"n3"}), set())],
    ids=["who take what becomes free", "who leave it to the job"],
)
def test_moves_are_decided_beside_those_who_come_back(avoided: frozenset[str], want: set[str]) -> None:
    gang = running("y/1", {"n3": 1}, 8, cost=None, leaving=True)
    back = dataclasses.replace(job("y", priority=9, avoided_nodes=avoided), name="y/1")
    halves = [running("a", {"n1": 1}, 4, cost=9), running("b", {"n2": 1}, 4, cost=5)]
    snapshot = worlds.snapshot([node("n1"), node("n2"), node("n3")], [*halves, gang, job("x", make_room=50)])
    snapshot = dataclasses.replace(snapshot, coming_back=(back,), move_budget=50)
    assert {move.job_id for move in sa.plan(snapshot).moves} == want


def test_who_comes_meanwhile_waits_and_all_find_their_places() -> None:
    loop = Loop(world(TWO, [*HALVES, asking("x")]))
    loop.cycle()
    loop.arrive(job("y", 1, 4, created_at_seconds=9))
    plan = loop.cycle()
    assert not plan.placements
    assert not plan.moves
    assert plan.held.keys() == {"x", "b"}
    assert plan.waiting["b"].message == "was stopped to start again; waits until b has left, and its room is kept"
    loop.gone("b/1")
    assert loop.cycle().placements.keys() == {"x", "b"}
    assert loop.waiting == {"y"}


def test_an_interrupted_round_goes_on_and_nobody_pays_twice() -> None:
    nodes = [node("n1"), node("n2"), node("n3"), node("n4")]
    jobs = [running(name, {f"n{i}": 1}, 4, cost=10 * i) for i, name in enumerate("abcd", 1)]
    loop = Loop(world(nodes, [*jobs, asking("x", 2)], budget=30))
    first = loop.cycle(most_moves=1)
    assert [move.job_id for move in first.moves] == ["a", "b"]
    rest = loop.cycle()
    assert [move.job_id for move in rest.moves] == ["b"]
    loop.gone("a/1")
    loop.cycle()
    loop.gone("b/1")
    loop.cycle()
    assert not loop.waiting
    assert [move.job_id for move in loop.told] == ["a", "b"]


@st.composite
def scattered(draw: st.DrawFn) -> sa.Snapshot:
    """Small jobs all over the nodes, so that large ones fit only where some of these move; most may be moved."""
    racks = st.sampled_from(["r1", "r2"])
    nodes = [node(f"n{i}", 8, rack=draw(racks), cpu=16) for i in range(draw(st.integers(2, 5)))]
    standing = []
    for one in nodes:
        left = 8
        for gpus in draw(st.lists(st.sampled_from([1, 2, 2, 3, 4]), max_size=3)):
            if gpus <= left and len(standing) < 8:
                left -= gpus
                on = {one.name: 1}
                cost = draw(st.sampled_from([None, 0, 10, 10, 20, 70]))
                level = draw(st.sampled_from([None, None, "node", "rack"]))
                name = f"r{len(standing)}"
                standing.append(running(name, on, gpus, cost=cost, level=level, priority=draw(st.sampled_from([0, 5]))))
    for i, (one, other) in enumerate(itertools.pairwise(nodes)):
        if draw(st.booleans()) and all(
            brute.free_of(world(nodes, standing))[n.name].accelerators > 1 for n in (one, other)
        ):
            standing.append(running(f"pair{i}", {one.name: 1, other.name: 1}, 2, cost=draw(st.sampled_from([1, 30]))))
    waiting = [
        job(
            f"w{i}",
            draw(st.integers(1, 2)),
            draw(st.sampled_from([4, 6, 8, 8])),
            make_room=draw(st.sampled_from([0, 50, 1000, 1000])),
            level=draw(st.sampled_from([None, None, "rack"])),
            priority=draw(st.sampled_from([0, 0, 5])),
            created_at_seconds=i,
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    return world(nodes, standing + waiting, draw(st.sampled_from([60, 5000])))


@given(scattered(), st.data())
@settings(max_examples=60, deadline=None)
def test_it_comes_to_an_end(snapshot: sa.Snapshot, data: st.DataObject) -> None:
    loop = Loop(snapshot)
    whole = data.draw(st.booleans())
    first = sa.plan(loop.snapshot)
    promised = set(first.placements)
    if whole:
        promised |= {move.job_id for move in first.moves} | {move.for_job for move in first.moves}
    for step in range(40):
        plan = loop.cycle(most_moves=100 if whole else data.draw(st.integers(0, 2)))
        if data.draw(st.booleans()) and step < 3:
            loop.arrive(job(f"late{step}", 1, data.draw(st.sampled_from([2, 4])), created_at_seconds=99))
        leaving = loop.leaving
        if leaving:
            loop.gone(data.draw(st.sampled_from(leaving)))
        elif not plan.placements and not plan.moves:
            break
    else:
        raise AssertionError("moves go on and on")
    moved = [move.job_id for move in loop.told]
    assert not loop.waiting & (promised | set(moved))
    assert len(set(moved)) == len(moved), "nobody moves twice"


def test_a_forecast_knows_of_moves_and_of_those_who_are_on_their_way() -> None:
    snapshot = world(TWO, [*HALVES, asking("x")])
    assert forecast.predict_starts(snapshot)["x"].starts_at_seconds == 0
    loop = Loop(snapshot)
    loop.cycle()
    assert {one.starts_at_seconds for one in forecast.predict_starts(loop.snapshot).values()} == {0}


MOVING = world(TWO, [*HALVES, asking("x")])
SOUND = sa.plan(MOVING)
[MOVE] = SOUND.moves
# What is wrong with a plan of moves → the plan, and how it is said.
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "another cost": ({"moves": (dataclasses.replace(MOVE, cost=499),)}, "it costs 500, not 499"),
    "a job that does not run": ({"moves": (dataclasses.replace(MOVE, job_id="x"),)}, "it does not run"),
    "told twice": ({"moves": (MOVE, MOVE)}, "it leaves already"),
    "too few pods": (
        {"moves": (dataclasses.replace(MOVE, placement=sa.Placement(worlds.H100, ())),)},
        "it has 1 pods, and would have 0",
    ),
    "nothing is held for the job": ({"held": {}}, "no room is held for it"),
    "the new place is taken": (
        {"moves": (dataclasses.replace(MOVE, placement=sa.Placement(worlds.H100, (sa.NodeShare("n2", 1),))),)},
        "given where",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_of_moves_is_refused(case: str) -> None:
    change, want = WRONG[case]
    with pytest.raises(sa.PlanViolationError, match=want):
        checks.verify(dataclasses.replace(SOUND, **change), snapshot=MOVING)


@pytest.mark.parametrize(("change", "want"), [({"move_budget": 499}, "in all, where 499"), ({}, "where 7 are allowed")])
def test_moves_that_lose_too_much_are_refused(change: dict[str, int], want: str) -> None:
    jobs = tuple(dataclasses.replace(one, make_room=1000 if change else 7) for one in MOVING.jobs)
    with pytest.raises(sa.PlanViolationError, match=want):
        checks.verify(SOUND, snapshot=dataclasses.replace(MOVING, jobs=jobs, **change))


def test_a_move_of_a_job_that_stays_is_refused() -> None:
    jobs = tuple(dataclasses.replace(one, stays=one.id == "b") for one in MOVING.jobs)
    with pytest.raises(sa.PlanViolationError, match="it is not to be moved"):
        checks.verify(SOUND, snapshot=dataclasses.replace(MOVING, jobs=jobs))


def test_a_move_to_a_slower_product_is_refused() -> None:
    choices = (sa.ProductChoice(worlds.H100), sa.ProductChoice(worlds.A100, 450))
    nodes = [*TWO, node("n3", product=worlds.A100)]
    jobs = [HALVES[0], dataclasses.replace(HALVES[1], products=choices), asking("x", products=(worlds.H100,))]
    snapshot = world(nodes, jobs)
    plan = sa.plan(snapshot)
    slower = dataclasses.replace(plan.moves[0], placement=sa.Placement(worlds.A100, (sa.NodeShare("n3", 1),)))
    with pytest.raises(sa.PlanViolationError, match="is slower than"):
        checks.verify(dataclasses.replace(plan, moves=(slower,)), snapshot=snapshot)


@pytest.mark.parametrize(
    ("nominal", "want"), [(16, {"b": "x"}), (12, {})], ids=["within its queue's quota", "beyond its queue's quota"]
)
def test_nobody_moves_for_a_job_without_quota(nominal: int, want: dict[str, str]) -> None:
    team = sa.Queue("team", quotas=(sa.Quota(worlds.H100, nominal),))
    jobs = [dataclasses.replace(one, queue="team") for one in (*HALVES, asking("x"))]
    snapshot = world(TWO, jobs, queues=(team,))
    plan = sa.plan(snapshot)
    assert {move.job_id: move.for_job for move in plan.moves} == want


@given(scattered(), st.data())
@settings(max_examples=25, deadline=None)
def test_with_queues_quotas_hold_and_it_comes_to_an_end(snapshot: sa.Snapshot, data: st.DataObject) -> None:
    quotas = st.sampled_from([8, 16, 24])
    teams = tuple(sa.Queue(name, quotas=(sa.Quota(worlds.H100, data.draw(quotas)),)) for name in ("a", "b"))
    jobs = tuple(
        dataclasses.replace(one, queue=data.draw(st.sampled_from(["a", "b"])), priority=0) for one in snapshot.jobs
    )
    loop = Loop(dataclasses.replace(snapshot, jobs=jobs, queues=teams))
    told = set()
    for _ in range(40):
        plan = loop.cycle()
        told |= {move.job_id for move in plan.moves} | {move.for_job for move in plan.moves}
        if loop.leaving:
            loop.gone(data.draw(st.sampled_from(loop.leaving)))
        elif not plan.placements and not plan.moves:
            break
    else:
        raise AssertionError("moves go on and on")
    assert not loop.waiting & told
    assert len({move.job_id for move in loop.told}) == len(loop.told)
