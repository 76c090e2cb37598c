"""Who starts now? The simulator's door to ``plan()``.

``BySnapshot`` asks ``plan()`` with everything that the cluster and the queue hold, as the
operator does. What must stay true: a decider only decides; the engine alone changes jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from stowplan_allocator import planner, starvation, types
from stowplan_allocator.simulate.lives import Life


@dataclass(frozen=True, slots=True)
class Decision:
    """Jobs to start and jobs to stop, by number; stops ask for another decision, and so does ``again``."""

    starts: Sequence[tuple[int, types.Placement]] = ()
    evictions: Sequence[int] = ()
    waiting: Mapping[int, types.Waiting] = field(default_factory=dict)
    again: bool = False


NOTHING = Decision()


class Decider(Protocol):
    """What the engine tells and asks.

    ``num_plans`` counts decisions that needed planning; ``gives_reasons`` says whether
    decisions tell why jobs wait.
    """

    num_plans: int
    gives_reasons: bool

    def submitted(self, life: Life) -> None:
        """A job waits (again)."""

    def found_running(self, life: Life) -> None:
        """A job runs that nobody here has started: it was there before."""

    def released(self, life: Life, *, placement: types.Placement) -> None:
        """A job gave its place back."""

    def node_changed(self, node: types.Node) -> None:
        """A node failed or came back; what ran there was released before."""

    def decide(self, now: int, *, running: Iterable[Life]) -> Decision:
        """Who starts and who stops now."""


class BySnapshot:
    """A new snapshot and a whole ``plan()`` for every decision that can differ from the last one."""

    gives_reasons = True

    def __init__(
        self,
        nodes: Sequence[types.Node],
        *,
        levels: tuple[str, ...],
        settings: types.Settings,
        queues: tuple[types.Queue, ...] = (),
        reserve_after_seconds: int | None = None,
    ) -> None:
        self.num_plans = 0
        self._nodes = {node.name: node for node in nodes}
        self._levels = levels
        self._settings = settings
        self._queues = queues
        self._reserve_after = reserve_after_seconds
        self._kept: tuple[types.Reservation, ...] = ()
        self._waiting: dict[int, Life] = {}
        self._new: list[Life] = []
        self._room_grew = True
        self._refused: dict[types.Job, types.Waiting] = {}

    def submitted(self, life: Life) -> None:
        """See ``Decider``."""
        self._waiting[life.number] = life
        self._new.append(life)

    def found_running(self, life: Life) -> None:
        """See ``Decider``."""

    def released(self, life: Life, *, placement: types.Placement) -> None:
        """See ``Decider``."""
        self._room_grew = True

    def node_changed(self, node: types.Node) -> None:
        """See ``Decider``."""
        self._nodes[node.name] = node
        self._room_grew = True

    def decide(self, now: int, *, running: Iterable[Life]) -> Decision:
        """See ``Decider``."""
        if not self._waiting:
            return NOTHING
        if self._nothing_can_start():
            waiting = {life.number: self._refused[_request_of(life.job)] for life in self._new}
            self._new.clear()
            return Decision(waiting=waiting)
        by_id = {life.job.id: life for life in self._waiting.values()}
        lives = {**{life.job.id: life for life in running}, **by_id}
        snapshot = seen(now, nodes=self._nodes.values(), lives=lives.values(), levels=self._levels, queues=self._queues)
        if self._reserve_after is not None:
            self._kept = starvation.reservations(
                replace(snapshot, reservations=self._kept), settings=self._settings, after_seconds=self._reserve_after
            )
        plan = planner.plan(replace(snapshot, reservations=self._kept), self._settings)
        self.num_plans += 1
        self._new.clear()
        self._room_grew = False
        self._refused = {
            _request_of(by_id[job_id].job): waiting
            for job_id, waiting in plan.waiting.items()
            if waiting.reason is not types.Reason.SOLVER_TIME_LIMIT
        }
        starts = [(by_id[job_id].number, placement) for job_id, placement in plan.placements.items()]
        for number, _ in starts:
            del self._waiting[number]
        return Decision(
            starts,
            [lives[eviction.job_id].number for eviction in plan.evictions],
            {by_id[job_id].number: waiting for job_id, waiting in plan.waiting.items()},
            # Whoever starts elsewhere gives the room back that was kept for him.
            again=any(one.job_id in plan.placements for one in self._kept),
        )

    def _nothing_can_start(self) -> bool:
        """Room only shrinks between releases: what was refused since the last one is refused still, for equal reasons.

        With preemption a job may also start by taking another's place, and a strategy that searches may find next
        time what it did not find this time: there every change is asked about. Where room is kept, it moves as well.
        """
        if self._room_grew or self._settings.preemption is not types.Preemption.NEVER or self._kept:
            return False
        if self._settings.strategy not in (types.Strategy.EXACT, types.Strategy.GREEDY):
            return False
        return all(_request_of(life.job) in self._refused for life in self._new)


def ask(
    now: int,
    *,
    nodes: Iterable[types.Node],
    lives: Iterable[Life],
    levels: tuple[str, ...],
    settings: types.Settings,
) -> types.Plan:
    """The plan for these jobs on the cluster as it is."""
    return planner.plan(seen(now, nodes=nodes, lives=lives, levels=levels), settings)


def seen(
    now: int,
    *,
    nodes: Iterable[types.Node],
    lives: Iterable[Life],
    levels: tuple[str, ...],
    queues: tuple[types.Queue, ...] = (),
) -> types.Snapshot:
    """The cluster as the planner sees it."""
    return types.Snapshot(tuple(nodes), tuple(life.seen(now) for life in lives), levels, now, queues=queues)


def _request_of(job: types.Job) -> types.Job:
    """What a job asks for, without its name, age, priority and past: equal jobs share it."""
    return replace(
        job,
        id="",
        name="",
        priority=0,
        created_at_seconds=0,
        expected_seconds=None,
        attained_accelerator_seconds=0,
        disruption_cost=None,
    )
