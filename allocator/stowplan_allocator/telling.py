"""What a replay says of one job, in words: when it starts and who must leave before, or why no time can be told.

What must stay true: each answer is solved for. A job that would not start in an empty cluster waits for nobody, and is
told so; whoever is named has a place that the job could use.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from stowplan_allocator import compiling, expanding, planner, types, words
from stowplan_allocator.replay import Moment, Replay

MAX_NAMES = 10
_BY_QUOTA = (types.Reason.WAITING_FOR_QUOTA, types.Reason.WAITING_FOR_RESOURCE_QUOTA)


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a job starts (Unix time) and where, or None; why so; and the jobs, by name, that must leave before."""

    starts_at_seconds: int | None
    basis: str
    waits_for: tuple[str, ...] = ()
    placement: types.Placement | None = None


def start(job_id: str, placement: types.Placement, *, moment: Moment, replay: Replay) -> Forecast:
    """A start that was found, and who had to leave for it: whoever gave way then, and whoever had ended before."""
    at, now, departures = moment.snapshot.now_seconds, replay.began_at_seconds, replay.departures
    nodes = {share.node for share in placement.shares}
    near = [one for one in departures if one.for_job == job_id or not nodes.isdisjoint(one.nodes)]
    gave_way = [one for one in near if not one.has_ended and one.at_seconds == at]
    ended = [one for one in near if one.has_ended]
    if at > now and not ended and not gave_way:
        ended = [one for one in departures if one.has_ended]
    clauses, names = [], []
    for group, verb in ((ended, "ended"), (gave_way, "left")):
        who = list(dict.fromkeys(one.name for one in reversed(group)))[:MAX_NAMES]
        if who:
            clauses.append(f"{words.names(who)} {'has' if len(who) == 1 else 'have'} {verb}")
            names += who
    if not clauses:
        return Forecast(at, "starts now", placement=placement)
    basis = f"starts once {' and '.join(clauses)}" + (", if that is when it is expected" if ended else "")
    kept = {one.name: one.protection for one in gave_way if one.protection is not None and now < at}
    for name, protection in list(kept.items())[: words.MAX_NAMES]:
        until = words.clock(protection.until_seconds, now=now)
        basis += f"; {name} keeps its place until {until} ({protection.why})"
    return Forecast(at, basis, tuple(dict.fromkeys(names)), placement)


class NoStarts:
    """Why no time can be told: it never starts, the replay was cut, or ends are unknown. Asked of a replay's end."""

    def __init__(self, replay: Replay, *, settings: types.Settings, waiting: Collection[str]) -> None:
        """``waiting`` are the names of those who waited when it began."""
        self._waiting = waiting
        self._cut = replay.cut
        self._snapshot = replace(replay.snapshot, reservations=())
        greedy = types.Strategy.GREEDY
        self._settings = replace(settings, strategy=greedy, preemption=types.Preemption.NEVER, resize=False)
        self._why = planner.plan(self._snapshot, replace(self._settings, explain=True)).waiting
        self._problem = compiling.compile_problem(self._snapshot)
        self._alone: dict[int, types.Waiting | None] = {}

    def of(self, job: types.Job) -> Forecast:
        """For a job that has not started by then."""
        why = self._why.get(job.id)
        if why is not None and why.reason in expanding.HOPELESS:
            return Forecast(None, f"never, as it is: {why.message}")
        if self._cut:
            return Forecast(None, self._cut)
        alone = self._without_others(job)
        if alone is not None:
            return Forecast(None, f"not even when all others have ended: {alone.message}")
        by_quota = why is not None and why.reason in _BY_QUOTA
        names = self._named(why.blockers) if why is not None and by_quota else ()
        names = names or self._on_its_nodes(job)
        if not names:
            return Forecast(None, "does not fit even when everything with a known end has ended")
        of = "whose end is" if len(names) == 1 else "whose ends are"
        told = [f"{name} (which starts before it)" if name in self._waiting else name for name in names]
        return Forecast(None, f"depends on {words.names(told)}, {of} unknown", names)

    def _without_others(self, job: types.Job) -> types.Waiting | None:
        """Why the job would wait if nothing else ran; None if it would not."""
        index = self._problem.shape_of[job.id].request.index
        if index not in self._alone:
            alone = replace(self._snapshot, jobs=(job,), coming_back=())
            made = planner.plan(alone, replace(self._settings, explain=True))
            self._alone[index] = made.waiting.get(job.id)
        return self._alone[index]

    def _named(self, names: Collection[str]) -> tuple[str, ...]:
        """Of these the running ones."""
        running = {one.name for one in self._snapshot.jobs if one.placement is not None}
        return tuple(name for name in names if name in running)

    def _on_its_nodes(self, job: types.Job) -> tuple[str, ...]:
        """Those who stand on nodes that it may use, the largest first."""
        problem = self._problem
        cells = problem.cells_of[problem.shape_of[job.id].request.index]
        usable = {problem.nodes[node].name for cell in cells for node in problem.cells[cell].nodes}
        there = [
            one
            for one in self._snapshot.jobs
            if one.placement is not None and any(share.node in usable for share in one.placement.shares)
        ]
        there.sort(key=lambda one: (-(one.placement.num_pods if one.placement else 0) * one.pod.accelerators, one.id))
        return tuple(one.name for one in there)[:MAX_NAMES]
