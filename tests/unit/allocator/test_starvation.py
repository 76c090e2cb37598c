"""Nobody starves: small clusters over many hours, whatever comes, by the rules of the operator's loop.

Each hour jobs end, what was told to leave has left, others come, room is kept for who waits too
long, and the cluster is planned. There is always more small work than room, so that without
rules for it nothing large would ever start.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import starvation
from unit.allocator import worlds
from unit.allocator.test_queues import queue

HOUR = 3600
PATIENCE_HOURS, LONGEST_HOURS = 4, 6
# Patience, what is promised at most, whoever stands there then, and an hour in which nothing is decided.
ONE_TURN_HOURS = PATIENCE_HOURS + LONGEST_HOURS + LONGEST_HOURS + 1
# As above, once more for those ahead in the same queue; and one hour to leave.
OWNERS_MOST_HOURS = 2 * (PATIENCE_HOURS + LONGEST_HOURS) + 2
OWNERS = ("a", "b")
TREE = (
    queue("org"),
    queue("a", 8, parent="org"),
    queue("b", 8, parent="org", lend=6),
    queue("c", parent="org", weight_milli=5000),
)
NODES = (worlds.node("n0"), worlds.node("n1"))

# What a job says of the hours that it needs: the truth, nothing, or always one.
type Told = Callable[[int], int | None]
TOLD: dict[str, Told] = {"the truth": lambda hours: hours, "nothing": lambda _: None, "too little": lambda _: 1}


@dataclass
class Loop:
    """The cluster as it goes; ``waits`` has the hours that each started job had waited since it last ran."""

    settings: sa.Settings
    queues: tuple[sa.Queue, ...] = ()
    told: Told = TOLD["the truth"]
    now: int = 0
    number: int = 0
    jobs: dict[str, sa.Job] = field(default_factory=dict)
    # The hours that each one still needs.
    needs: dict[str, int] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    kept: tuple[sa.Reservation, ...] = ()
    waits: dict[str, list[int]] = field(default_factory=dict)

    def add(self, of: str, gpus: int, hours: int, *, pods: int = 1, priority: int = 0) -> str:
        """A job comes."""
        self.number += 1
        name = f"{of or 'guest'}{self.number}"
        self.jobs[name] = worlds.job(
            name, pods, gpus, queue=of, priority=priority, created_at_seconds=self.now, disruption_cost=gpus
        )
        self.needs[name], self.since[name] = hours, self.now
        return name

    def waiting(self, of: str) -> list[sa.Job]:
        """Who waits in a queue."""
        return [job for job in self.jobs.values() if job.placement is None and job.queue == of]

    def snapshot(self) -> sa.Snapshot:
        """What is planned; whoever outlived what he said is expected to end at any moment."""
        jobs = []
        for name, job in self.jobs.items():
            had = job.attained_accelerator_seconds // (job.num_pods * job.pod.accelerators * HOUR)
            said = self.told(self.needs[name] + had)
            left = None if said is None else max(said - had, 0) * HOUR
            jobs.append(dataclasses.replace(job, expected_seconds=left))
        return sa.Snapshot(NODES, tuple(jobs), (), self.now, self.kept, self.queues)

    def hour(self) -> None:
        """Keep room, plan, start, tell victims to leave; then an hour passes."""
        self.kept = starvation.reservations(
            self.snapshot(), settings=self.settings, after_seconds=PATIENCE_HOURS * HOUR
        )
        plan = sa.plan(self.snapshot(), self.settings)
        for name, placement in plan.placements.items():
            self.jobs[name] = dataclasses.replace(self.jobs[name], placement=placement)
            self.waits.setdefault(self.jobs[name].queue, []).append((self.now - self.since.pop(name)) // HOUR)
        for one in plan.evictions:
            self._assert_may_evict(one)
            self.jobs[one.job_id] = dataclasses.replace(self.jobs[one.job_id], leaving=True)
        self.now += HOUR
        for name, job in list(self.jobs.items()):
            if job.placement is None:
                continue
            self.needs[name] -= 1
            had = job.attained_accelerator_seconds + job.num_pods * job.pod.accelerators * HOUR
            if not self.needs[name]:
                del self.jobs[name], self.needs[name]
            elif job.leaving:
                self.since[name] = self.now
                self.jobs[name] = dataclasses.replace(
                    job, placement=None, leaving=False, attained_accelerator_seconds=had
                )
            else:
                self.jobs[name] = dataclasses.replace(job, attained_accelerator_seconds=had)

    def _assert_may_evict(self, one: sa.Eviction) -> None:
        victim, job = self.jobs[one.job_id], self.jobs[one.for_job]
        assert victim.queue != job.queue or victim.priority < job.priority, (one, "of the same queue and priority")


def greedy(preemption: sa.Preemption = sa.Preemption.NEVER) -> sa.Settings:
    return sa.Settings(strategy=sa.Strategy.GREEDY, preemption=preemption, explain=False)


def _owners_borrowers_and_guests(hours: int, *, seed: int, preemption: sa.Preemption) -> Iterator[Loop]:
    rng = random.Random(seed)
    loop = Loop(greedy(preemption), TREE)
    for _ in range(hours):
        for of in ("c", ""):
            while len(loop.waiting(of)) < 3:
                loop.add(of, rng.choice([1, 1, 2, 4]), rng.randint(1, LONGEST_HOURS), priority=rng.choice([0, 0, 1]))
        for of in OWNERS:
            if not loop.waiting(of) and rng.random() < 0.3:
                loop.add(of, rng.choice([2, 4, 8]), rng.randint(1, LONGEST_HOURS), priority=rng.choice([0, 0, 1]))
        loop.hour()
        yield loop


def _assert_no_owner_starves(hours: int, *, seed: int, preemption: sa.Preemption) -> None:
    loop = None
    for loop in _owners_borrowers_and_guests(hours, seed=seed, preemption=preemption):
        late = [loop.now - since for name, since in loop.since.items() if loop.jobs[name].queue in OWNERS]
        assert max(late, default=0) <= OWNERS_MOST_HOURS * HOUR, (seed, loop.now, loop.since)
    assert loop is not None
    assert len(loop.waits["a"]) > hours // 40
    # What is lent is used: borrowers and guests run, too.
    assert loop.waits["c"]
    assert loop.waits[""]


@pytest.mark.parametrize("preemption", [sa.Preemption.NEVER, sa.Preemption.LOWER_PRIORITY])
def test_what_a_queue_owns_is_never_waited_for_without_end(preemption: sa.Preemption) -> None:
    _assert_no_owner_starves(60, seed=2, preemption=preemption)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("preemption", [sa.Preemption.NEVER, sa.Preemption.LOWER_PRIORITY])
def test_no_owner_starves_in_ten_thousand_hours(preemption: sa.Preemption) -> None:
    for seed in range(10):
        _assert_no_owner_starves(500, seed=seed, preemption=preemption)


def _large_among_small(hours: int, *, queues: tuple[sa.Queue, ...], told: Told, chance: random.Random) -> int:
    """In every line small work that fills whatever is free, and one job for the whole cluster; how many of these ran.

    None of them waits longer than a turn for each line, and for the small one that may stand before it in its own.
    """
    lines = [one.name for one in queues] or [""]
    loop = Loop(greedy(), queues, told)
    large: dict[str, str] = {}
    ran = 0
    for _ in range(hours):
        for of in lines:
            while len(loop.waiting(of)) < 4:
                loop.add(of, chance.choice([1, 1, 2, 4, 8]), chance.randint(1, LONGEST_HOURS))
            if large.get(of) not in loop.since:
                ran += of in large
                large[of] = loop.add(of, 8, chance.randint(1, LONGEST_HOURS), pods=2)
        loop.hour()
        for of in lines:
            waited = loop.now - loop.since.get(large[of], loop.now)
            # Ahead of it in its line stand four at most.
            assert waited <= 5 * len(lines) * ONE_TURN_HOURS * HOUR, (of, loop.now, loop.kept)
        for name, since in loop.since.items():
            assert loop.now - since <= 6 * len(lines) * ONE_TURN_HOURS * HOUR, (name, loop.now, loop.kept)
    return ran


LINES = {"one line": (), "two queues of unequal weight": (queue("a"), queue("b", weight_milli=3000))}


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("lines", LINES)
def test_a_large_job_among_small_ones_that_always_fit_does_start(lines: str, told: str) -> None:
    ran = _large_among_small(40, queues=LINES[lines], told=TOLD[told], chance=random.Random(7))
    assert ran >= 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("lines", LINES)
def test_nobody_starves_in_ten_thousand_hours(lines: str, told: str) -> None:
    ran = 0
    for seed in range(4):
        ran += _large_among_small(500, queues=LINES[lines], told=TOLD[told], chance=random.Random(seed))
    assert ran > 2_000 / (5 * ONE_TURN_HOURS)


ARRIVALS = st.lists(
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, LONGEST_HOURS)), max_size=4),
    min_size=ONE_TURN_HOURS,
    max_size=ONE_TURN_HOURS,
)


@given(ARRIVALS, st.sampled_from(list(TOLD.values())))
@settings(max_examples=12, deadline=None)
def test_the_first_of_a_line_starts_in_a_turn_whatever_comes_after_it(
    arrivals: list[list[tuple[int, int]]], told: Told
) -> None:
    loop = Loop(greedy(), told=told)
    for gpus, hours in ((8, LONGEST_HOURS), (4, 3), (1, 2)):
        loop.add("", gpus, hours)
    loop.hour()
    large = loop.add("", 8, 3, pods=2)
    for coming in arrivals:
        for gpus, hours in coming:
            loop.add("", gpus, hours)
        loop.hour()
    assert large not in loop.since


def test_beyond_the_budget_only_who_has_room_already_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [
        worlds.running("r", {"n0": 1}, 8, cost=None),
        worlds.job("kept", 1, 8, queue="a"),
        *(worlds.job(f"large{i}", 3 + i, 8, created_at_seconds=i, queue="b") for i in range(9)),
    ]
    kept = sa.Reservation("kept", sa.Placement(worlds.H100, (sa.NodeShare("n0", 1),)), 90 * HOUR)
    snapshot = dataclasses.replace(
        worlds.snapshot([worlds.node("n0")], jobs),
        now_seconds=50 * HOUR,
        queues=(queue("a", 8), queue("b", 800)),
        reservations=(kept,),
    )
    asked = []
    monkeypatch.setattr(starvation, "_could_hold", lambda _, job, *, settings: asked.append((job.id, settings)))
    assert starvation.reservations(snapshot, after_seconds=HOUR, budget_seconds=0.0) == (kept,)
    assert not asked
