"""The simulator: submissions, failures and the end of jobs as events, and ``plan()`` between them.

One round of the loop: (1) the next moment at which anything happens; (2) samples up to it;
(3) all events of that moment, ends before failures before arrivals; (4) decisions, until
one starts or stops nobody. What must stay true: no accelerator is held twice, every job
that the cluster can hold ends exactly once, and the same inputs give the same history.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stowplan_allocator import types
from stowplan_allocator.simulate import deciding, live, records, sampling, workload
from stowplan_allocator.simulate.failures import Failures, Faults, Restarts
from stowplan_allocator.simulate.lives import Life

Progress = Callable[[int, int], None]
PROGRESS_EVERY = 64


@dataclass(frozen=True, slots=True)
class Options:
    """How to simulate, where ``types.Settings`` say how to plan.

    Without ``ends_at_seconds`` the run goes on until every job has ended, or nothing can
    happen any more. A sample is taken every ``sample_every_seconds``. ``shortcut`` lets the
    greedy strategy decide from a living stock, which gives the same history sooner (see ``live``). With
    ``reserve_after_seconds`` the first of each line that waits so long gets room kept (see ``starvation``).
    """

    levels: tuple[str, ...] = ()
    seed: int = 0
    sample_every_seconds: int = 3600
    ends_at_seconds: int | None = None
    failures: Failures = field(default_factory=Failures)
    restarts: Restarts = field(default_factory=Restarts)
    shortcut: bool = True
    queues: tuple[types.Queue, ...] = ()
    reserve_after_seconds: int | None = None


def simulate(
    nodes: Sequence[types.Node],
    submissions: Sequence[workload.Submission],
    *,
    settings: types.Settings | None = None,
    options: Options | None = None,
    on_progress: Progress | None = None,
    decider: deciding.Decider | None = None,
) -> records.History:
    """Run the submissions on the nodes.

    ``on_progress`` hears now and then how many jobs of all have ended. A ``decider`` of one's own
    decides in place of ``plan()``: benchmarks compare with other policies that way.
    """
    settings, options = settings or types.Settings(), options or Options()
    simulation = Simulation(nodes, submissions, settings=settings, options=options, decider=decider)
    return simulation.run(on_progress)


class Simulation:
    """The state of one run."""

    def __init__(
        self,
        nodes: Sequence[types.Node],
        submissions: Sequence[workload.Submission],
        *,
        settings: types.Settings,
        options: Options,
        decider: deciding.Decider | None = None,
    ) -> None:
        workload.check(tuple(submissions))
        ordered = sorted(submissions, key=lambda s: (s.submitted_seconds, s.job.id))
        self.nodes = tuple(nodes)
        self.lives = [Life(i, s, options.restarts, s.duration_seconds * 1000) for i, s in enumerate(ordered)]
        self._options = options
        self._settings = settings
        self._decider = decider or self._choose_decider()
        self._current = {node.name: node for node in nodes}
        self._books = sampling.Books(nodes, (submission.job for submission in ordered))
        self._running: dict[int, Life] = {}
        self._on_node: dict[str, set[int]] = {node.name: set() for node in nodes}
        self._arrived = 0
        self._ended = 0
        self._started_at = self._now = ordered[0].submitted_seconds if ordered else 0
        # (moment, job, its earlier runs): a run that was stopped leaves its entry behind, which then matches none.
        self._ends: list[tuple[int, int, int]] = []
        self._faults = Faults(self.nodes, failures=options.failures, seed=options.seed, from_seconds=self._started_at)
        self._samples: list[records.Sample] = []
        self._num_events = 0
        self._plan_seconds = 0.0

    def run(self, on_progress: Progress | None = None) -> records.History:
        """Until every job has ended, nothing can happen any more, or the end that the options set."""
        while (now := self._next_moment()) is not None:
            self._take_samples(now)
            self._now = now
            before = self._num_events
            self._end_jobs()
            self._break_and_repair()
            self._submit()
            self._decide()
            if on_progress and self._num_events // PROGRESS_EVERY != before // PROGRESS_EVERY:
                on_progress(self._ended, len(self.lives))
        if on_progress:
            on_progress(self._ended, len(self.lives))
        return self._finish()

    def _choose_decider(self) -> deciding.Decider:
        options, levels, settings = self._options, self._options.levels, self._settings
        jobs = [life.job for life in self.lives]
        plain = not options.queues and options.reserve_after_seconds is None
        if options.shortcut and plain and live.serves(jobs, settings=settings):
            return live.ByLiveStock(self.nodes, jobs=jobs, levels=levels, settings=settings)
        return deciding.BySnapshot(
            self.nodes,
            levels=levels,
            settings=settings,
            queues=options.queues,
            reserve_after_seconds=options.reserve_after_seconds,
        )

    def _next_moment(self) -> int | None:
        while self._ends and not self._is_current(self._ends[0]):
            heapq.heappop(self._ends)
        moments = [self._ends[0][0]] if self._ends else []
        if self._arrived < len(self.lives):
            moments.append(self.lives[self._arrived].submission.submitted_seconds)
        if self._faults.moment is not None and (moments or (self._books.waiting and self._faults.down)):
            moments.append(self._faults.moment)
        last = self._options.ends_at_seconds
        now = min(moments, default=None)
        return None if now is None or (last is not None and now > last) else now

    def _is_current(self, end: tuple[int, int, int]) -> bool:
        return end[1] in self._running and len(self._running[end[1]].runs) == end[2]

    def _take_samples(self, until: int) -> None:
        """Samples of the time before ``until``, in which nothing changed since the last events."""
        every = self._options.sample_every_seconds
        due = self._started_at + len(self._samples) * every
        if due < until and self._settings.explain and not self._decider.gives_reasons and self._books.waiting:
            lives = [*self._running.values(), *self._books.waiting.values()]
            plan = deciding.ask(
                self._now,
                nodes=self._current.values(),
                lives=lives,
                levels=self._options.levels,
                settings=replace(self._settings, strategy=types.Strategy.GREEDY),
            )
            self._note({life.number: plan.waiting[life.job.id] for life in lives if life.job.id in plan.waiting})
        while (due := self._started_at + len(self._samples) * every) < until:
            self._samples.append(self._books.sample(due))

    def _end_jobs(self) -> None:
        while self._ends and self._ends[0][0] == self._now:
            end = heapq.heappop(self._ends)
            if self._is_current(end):
                life = self._running[end[1]]
                self._stop(life, records.Outcome.FAILED if life.submission.fails else records.Outcome.COMPLETED)
                self._ended += 1
                self._num_events += 1

    def _break_and_repair(self) -> None:
        for node in self._faults.take(self._now):
            self._num_events += 1
            for number in sorted(self._on_node[node.name]) if node.blocked else ():
                life = self._running[number]
                self._stop(life, records.Outcome.NODE_LOST)
                self._wait(life)
            self._current[node.name] = node
            self._books.node(node.name, down=bool(node.blocked))
            self._decider.node_changed(node)

    def _submit(self) -> None:
        while self._arrived < len(self.lives):
            life = self.lives[self._arrived]
            if life.submission.submitted_seconds != self._now:
                break
            self._arrived += 1
            self._num_events += 1
            if (placement := life.submission.placement) is None:
                self._wait(life)
            else:
                self._books.wait(life)
                self._start(life, placement=placement)
                self._decider.found_running(life)

    def _decide(self) -> None:
        # Nobody is stopped twice at one moment: a decider that could not use the room would ask for ever.
        stopped: set[int] = set()
        going_on = True
        began = time.process_time()
        while going_on:
            decision = self._decider.decide(self._now, running=self._running.values())
            for number, placement in decision.starts:
                self._start(self.lives[number], placement=placement)
            leaving = [number for number in decision.evictions if number not in stopped]
            for number in leaving:
                self._stop(self.lives[number], records.Outcome.PREEMPTED)
                self._wait(self.lives[number])
            stopped.update(leaving)
            going_on = bool(leaving) or decision.again
            self._note(decision.waiting)
        self._plan_seconds += time.process_time() - began

    def _note(self, waiting: Mapping[int, types.Waiting]) -> None:
        for number, reason in waiting.items():
            life = self.lives[number]
            life.first_reason = life.first_reason or reason
            life.last_reason = reason

    def _wait(self, life: Life) -> None:
        self._books.wait(life)
        self._decider.submitted(life)

    def _start(self, life: Life, *, placement: types.Placement) -> None:
        heapq.heappush(self._ends, (life.start(placement, now=self._now), life.number, len(life.runs)))
        self._running[life.number] = life
        for share in placement.shares:
            self._on_node[share.node].add(life.number)
        self._books.start(life, placement=placement)

    def _stop(self, life: Life, outcome: records.Outcome) -> None:
        placement = life.stop(outcome, now=self._now)
        del self._running[life.number]
        for share in placement.shares:
            self._on_node[share.node].discard(life.number)
        self._books.stop(life, placement=placement)
        self._decider.released(life, placement=placement)

    def _finish(self) -> records.History:
        """Cut what still runs, and close the books."""
        last = self._options.ends_at_seconds
        if last is not None and last > self._now:
            self._take_samples(last)
            self._now = last
        self._take_samples(self._now + 1)
        for life in list(self._running.values()):
            life.stop(records.Outcome.UNFINISHED, now=self._now)
        return records.History(
            self.nodes,
            tuple(life.record() for life in self.lives),
            tuple(self._samples),
            self._num_events,
            self._decider.num_plans,
            self._plan_seconds,
            self._started_at,
            self._now,
        )
