"""Nobody starves: a small cluster over many hours, whatever comes, by the rules of the operator's loop.

Each hour jobs end, what was told to leave has left, others come, and the cluster is planned. The
job that has waited longest beyond some patience gets a reservation. Borrowers and guests always
have more work than there is room, so that without rules for it nothing large would ever start.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import stowplan_allocator as sa
from stowplan_allocator import starvation
from unit.allocator import worlds
from unit.allocator.test_queues import queue

HOUR = 3600
PATIENCE_HOURS, LONGEST_HOURS = 4, 6
# Patience, then whoever runs by then ends; twice, for those ahead in the same queue; and one hour to leave.
MOST_HOURS = 2 * (PATIENCE_HOURS + LONGEST_HOURS) + 2
OWNERS = ("a", "b")
QUEUES = (
    queue("org"),
    queue("a", 8, parent="org"),
    queue("b", 8, parent="org", lend=6),
    queue("c", parent="org", weight_milli=5000),
)


@dataclass
class Loop:
    """The cluster as it goes; ``waits`` has the hours that each started job had waited since it last ran."""

    rng: random.Random
    settings: sa.Settings
    queues: tuple[sa.Queue, ...] = QUEUES
    now: int = 0
    number: int = 0
    jobs: dict[str, sa.Job] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    kept: tuple[sa.Reservation, ...] = ()
    waits: dict[str, list[int]] = field(default_factory=dict)

    def add(self, of: str, gpus: int) -> None:
        """A job comes."""
        self.number += 1
        name = f"{of or 'guest'}{self.number}"
        hours = self.rng.randint(1, LONGEST_HOURS)
        self.jobs[name] = worlds.job(
            name, 1, gpus, queue=of, created_at_seconds=self.now, expected_seconds=hours * HOUR, disruption_cost=gpus
        )
        self.since[name] = self.now

    def waiting(self, of: str) -> list[sa.Job]:
        """Who waits in a queue."""
        return [job for job in self.jobs.values() if job.placement is None and job.queue == of]

    def snapshot(self) -> sa.Snapshot:
        """What is planned."""
        nodes = (worlds.node("n0"), worlds.node("n1"))
        return sa.Snapshot(nodes, tuple(self.jobs.values()), (), self.now, self.kept, self.queues)

    def hour(self) -> None:
        """Plan, start, tell victims to leave, reserve; then an hour passes."""
        plan = sa.plan(self.snapshot(), self.settings)
        for name, placement in plan.placements.items():
            self.jobs[name] = dataclasses.replace(self.jobs[name], placement=placement)
            self.waits.setdefault(self.jobs[name].queue, []).append((self.now - self.since.pop(name)) // HOUR)
        for one in plan.evictions:
            self.jobs[one.job_id] = dataclasses.replace(self.jobs[one.job_id], leaving=True)
        self._reserve()
        self.now += HOUR
        for name, job in list(self.jobs.items()):
            if job.placement is None:
                continue
            left = (job.expected_seconds or 0) - HOUR
            if left <= 0:
                del self.jobs[name]
            elif job.leaving:
                again = dataclasses.replace(job, placement=None, leaving=False, expected_seconds=left)
                self.jobs[name], self.since[name] = again, self.now
            else:
                self.jobs[name] = dataclasses.replace(job, expected_seconds=left)

    def _reserve(self) -> None:
        self.kept = starvation.reservations(
            self.snapshot(), settings=self.settings, after_seconds=PATIENCE_HOURS * HOUR
        )


def _run(hours: int, *, seed: int, preemption: sa.Preemption) -> Iterator[Loop]:
    rng = random.Random(seed)
    loop = Loop(rng, sa.Settings(strategy=sa.Strategy.GREEDY, preemption=preemption, explain=False))
    for _ in range(hours):
        for of in ("c", ""):
            while len(loop.waiting(of)) < 3:
                loop.add(of, rng.choice([1, 1, 2, 4]))
        for of in OWNERS:
            if not loop.waiting(of) and rng.random() < 0.3:
                loop.add(of, rng.choice([2, 4, 8]))
        loop.hour()
        yield loop


def _assert_nobody_starves(hours: int, *, seed: int, preemption: sa.Preemption) -> None:
    loop = None
    for loop in _run(hours, seed=seed, preemption=preemption):
        late = [loop.now - since for name, since in loop.since.items() if loop.jobs[name].queue in OWNERS]
        assert max(late, default=0) <= MOST_HOURS * HOUR, (seed, loop.now, loop.since)
    assert loop is not None
    assert len(loop.waits["a"]) > hours // 40
    # What is lent is used: borrowers and guests run, too.
    assert loop.waits["c"]
    assert loop.waits[""]


@pytest.mark.parametrize("preemption", [sa.Preemption.NEVER, sa.Preemption.LOWER_PRIORITY])
def test_what_a_queue_owns_is_never_waited_for_without_end(preemption: sa.Preemption) -> None:
    for seed in (1, 2):
        _assert_nobody_starves(60, seed=seed, preemption=preemption)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("preemption", [sa.Preemption.NEVER, sa.Preemption.LOWER_PRIORITY])
def test_nobody_starves_in_ten_thousand_hours(preemption: sa.Preemption) -> None:
    for seed in range(10):
        _assert_nobody_starves(500, seed=seed, preemption=preemption)
