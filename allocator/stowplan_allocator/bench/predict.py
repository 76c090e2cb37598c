"""How far predicted starts are off, on a window of the Philly trace.

The window is simulated in the default order, by age. Then, for a sample of jobs that waited, the
clock is put back to the moment of submission and to moments during the wait, the run times are hidden from the
predictor, and the start that it tells is compared with what happened. What must stay true: a
predictor knows what had ended by that moment, and nothing else of any run time unless
it is the one that is told the truth; all predictors meet the same jobs at the same moments;
each answer is also compared with what would have happened had nobody come after the moment.

A prediction is ``forecast.predict_starts`` with the greedy strategy, replayed on the
simulator's living stock, which gives the same starts sooner (a test compares the two).
"""

from __future__ import annotations

import bisect
import heapq
import math
import pathlib
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import click

from stowplan_allocator import inputs, spread, types
from stowplan_allocator.bench import options, philly_estimates, report
from stowplan_allocator.bench import philly as replayed
from stowplan_allocator.simulate import engine, workload
from stowplan_allocator.simulate.lives import Life
from stowplan_allocator.simulate.traces import philly

GREEDY = types.Settings(strategy=types.Strategy.GREEDY, explain=False)
# Waits of less than a minute are over before anybody reads what was predicted.
LEAST_WAIT_SECONDS = 60
# With fewer runs of the same users and size, runs of the size tell more; then all runs.
RUNS_THAT_TELL = 20
# A job of whose run time nobody has said anything.
UNKNOWN_SECONDS = 86_400
PREDICTORS = {
    "exact": "the true run times",
    "users": "what users say (philly_estimates), as long again once that is over",
    "median": "the median of runs of the same virtual cluster and size that took longer",
    "spread": "for each job a quantile of these runs (spread)",
}


@click.command(epilog="\b\n" + "\n".join(f"{name}: {what}" for name, what in PREDICTORS.items()))
@click.option("--csv", "csv_path", metavar="FILE", required=True, help="timestamp, duration, num_gpus, cluster.")
@click.option("--gpus", default=560, type=options.SOME, show_default=True)
@click.option("--gpus-per-node", default=8, type=options.SOME, show_default=True)
@click.option("--predictors", "names", metavar="A,B", default=",".join(PREDICTORS), show_default=True)
@click.option("--sample", default=300, type=options.SOME, show_default=True, help="Jobs that waited.")
@click.option("--seed", default=1, show_default=True, help="Of the sample, and of the users' errors.")
@click.option("--count-from-day", "first_day", default=14, type=options.SOME_OR_NONE, show_default=True)
@options.json_file
def command(
    *,
    csv_path: str,
    gpus: int,
    gpus_per_node: int,
    names: str,
    sample: int,
    seed: int,
    first_day: int,
    path: str | None,
) -> None:
    """Compare predicted starts with what happened."""
    meter = report.Meter()
    chosen = options.listed(names, known=PREDICTORS, what="predictor")
    try:
        nodes = philly.nodes(gpus, per_node=gpus_per_node)
        rows = philly.read(pathlib.Path(csv_path))
    except inputs.InputError as error:
        raise click.ClickException(str(error)) from error
    submissions = [
        replace(one, job=replace(one.job, queue=row.cluster))
        for row, one in zip(rows, philly.submissions(rows, per_node=gpus_per_node), strict=True)
        if replayed.fits(one.job, nodes=nodes)
    ]
    past = Past(nodes, submissions, seed=seed)
    asked = past.sample(sample, from_day=first_day, seed=seed)
    if not asked:
        raise click.ClickException("no job waited in the days that are counted; try --count-from-day 0")
    results = compare(past, asked, names=chosen)
    told = {
        "csv": pathlib.Path(csv_path).name,
        "jobs": len(submissions),
        "jobs_that_waited": past.num_waited(first_day),
        "sample": len(asked),
        "gpus": gpus,
        "gpus_per_node": gpus_per_node,
        "seed": seed,
        "count_from_day": first_day,
    }
    report.publish("predict", inputs=told, results=results, meter=meter, path=path)


@dataclass
class Answers:
    """What one predictor told at one part of the wait: by how much it was off, and by how much without newcomers."""

    off: list[float] = field(default_factory=list)
    off_alone: list[float] = field(default_factory=list)
    off_seconds: list[int] = field(default_factory=list)

    def add(self, told: int, *, happened: int, alone: int, now: int) -> None:
        """Predicted, true, and what would have been true had nobody come; shares are of what was left to wait."""
        left = max(happened - now, 1)
        self.off.append((told - happened) / left)
        self.off_seconds.append(abs(told - happened))
        self.off_alone.append((told - alone) / max(alone - now, 1))

    def row(self) -> dict[str, report.Scalar]:
        """As the table has it: errors are shares of the time that was left to wait."""
        wrong = sorted(map(abs, self.off))
        return {
            "predictions": len(wrong),
            "error_p25": round(_quantile(wrong, 0.25), 4),
            "error_median": round(_quantile(wrong, 0.5), 4),
            "error_p75": round(_quantile(wrong, 0.75), 4),
            "error_median_if_nobody_came": round(_quantile(sorted(map(abs, self.off_alone)), 0.5), 4),
            "bias_median": round(statistics.median(self.off), 4),
            "error_median_s": round(statistics.median(self.off_seconds)),
        }


def compare(past: Past, asked: Sequence[str], *, names: Sequence[str]) -> list[dict[str, report.Scalar]]:
    """One row for each predictor and part of the wait."""
    found: dict[tuple[str, float], Answers] = {}
    moments = sorted(
        (past.submitted[job_id] + int(part * past.waited(job_id)), part, job_id)
        for job_id in asked
        for part in (0.0, 0.5)
    )
    for now, part, job_id in moments:
        past.learn(now)
        alone = past.start_of(job_id, now=now, seconds=past.true_seconds)
        for name in names:
            told = alone if name == "exact" else past.start_of(job_id, now=now, seconds=past.predictor(name))
            found.setdefault((name, part), Answers()).add(told, happened=past.started[job_id], alone=alone, now=now)
    return [
        {"predictor": name, "asked": "at submission" if not part else "half way", **found[name, part].row()}
        for part in (0.0, 0.5)
        for name in names
    ]


class Past:
    """The simulated window, and what was known of it at a moment that moves on."""

    def __init__(self, nodes: Sequence[types.Node], submissions: Sequence[workload.Submission], *, seed: int) -> None:
        self._nodes = nodes
        self._ordered = sorted(submissions, key=lambda one: (one.submitted_seconds, one.job.id))
        options_ = engine.Options(sample_every_seconds=replayed.DAY)
        history = engine.simulate(nodes, submissions, settings=GREEDY, options=options_)
        runs = {one.job.id: one.runs[0] for one in history.jobs}
        self.submitted = {one.job.id: one.submitted_seconds for one in submissions}
        self.started = {job_id: run.start_seconds for job_id, run in runs.items()}
        self._placements = {job_id: run.placement for job_id, run in runs.items()}
        said = philly_estimates.as_users_say(self._ordered, sigma=1.0, seed=seed)
        self._said = {one.job.id: one.job.expected_seconds for one in said}
        # What has not ended by the moment, what will come and end after it, and the run times of what has ended.
        self._now = -1
        self._next = 0
        self._live: dict[str, workload.Submission] = {}
        self._ends: list[tuple[int, str]] = []
        self._ended_at = {job_id: run.end_seconds for job_id, run in runs.items()}
        self._ran: dict[tuple[str | None, int | None], _Latest] = {}

    def num_waited(self, from_day: int) -> int:
        """Jobs from that day on that waited for a minute at least."""
        return len(self._waiters(from_day))

    def sample(self, number: int, *, from_day: int, seed: int) -> list[str]:
        """Some of them."""
        some = self._waiters(from_day)
        return random.Random(seed).sample(some, min(number, len(some)))  # noqa: S311 - a sample is no secret

    def _waiters(self, from_day: int) -> list[str]:
        since = replayed.midnight(self._ordered) + from_day * replayed.DAY
        return [
            one.job.id
            for one in self._ordered
            if one.submitted_seconds >= since and self.waited(one.job.id) >= LEAST_WAIT_SECONDS
        ]

    def waited(self, job_id: str) -> int:
        """Seconds."""
        return self.started[job_id] - self.submitted[job_id]

    def learn(self, now: int) -> None:
        """Go on to this moment."""
        assert now >= self._now, "time goes on"
        self._now = now
        while self._next < len(self._ordered) and self._ordered[self._next].submitted_seconds <= now:
            one = self._ordered[self._next]
            self._next += 1
            self._live[one.job.id] = one
            heapq.heappush(self._ends, (self._ended_at[one.job.id], one.job.id))
        while self._ends and self._ends[0][0] <= now:
            gone = self._live.pop(heapq.heappop(self._ends)[1])
            for key in _likeness(gone.job):
                self._ran.setdefault(key, _Latest()).add(gone.duration_seconds)

    def start_of(self, job_id: str, *, now: int, seconds: Callable[[workload.Submission, int], int]) -> int:
        """When the job starts if nobody comes and every job needs so many seconds, given those that it has run."""
        scene = []
        for one in self._live.values():
            began = self.started[one.job.id]
            runs = began <= now
            left = max(seconds(one, now - began if runs else 0), 1)
            placement = self._placements[one.job.id] if runs else None
            scene.append(workload.Submission(one.job, now, left, placement=placement))
        return start_in(self._nodes, scene, job_id=job_id)

    def true_seconds(self, one: workload.Submission, ran: int) -> int:
        """The truth."""
        return one.duration_seconds - ran

    def predictor(self, name: str) -> Callable[[workload.Submission, int], int]:
        """The seconds that a job still needs, by the predictor's name."""
        return {"users": self._users, "median": self._median, "spread": self._spread}[name]

    def _users(self, one: workload.Submission, ran: int) -> int:
        return workload.expected_left(self._said[one.job.id], worked_seconds=ran) or UNKNOWN_SECONDS

    def _median(self, one: workload.Submission, ran: int) -> int:
        longer = self._runs_like(one.job, longer_than=ran)
        return longer[len(longer) // 2] - ran if longer else _unheard_of(ran)

    def _spread(self, one: workload.Submission, ran: int) -> int:
        quantiles = spread.rest_quantiles(self._runs_like(one.job, longer_than=ran), ran_seconds=ran)
        return spread.draw(one.job.id, quantiles) if quantiles else _unheard_of(ran)

    def _runs_like(self, job: types.Job, *, longer_than: int) -> Sequence[int]:
        """Run times of the latest ended jobs most like it, ascending, that took longer."""
        found: Sequence[int] = ()
        for key in _likeness(job):
            runs = self._ran[key].ascending if key in self._ran else []
            found = runs[bisect.bisect_right(runs, longer_than) :]
            if len(found) >= RUNS_THAT_TELL:
                break
        return found


class _Latest:
    """The run times of the last jobs of one kind that ended."""

    def __init__(self) -> None:
        self.ascending: list[int] = []
        self._in_turn: deque[int] = deque()

    def add(self, seconds: int) -> None:
        """One more has ended."""
        self._in_turn.append(seconds)
        bisect.insort(self.ascending, seconds)
        if len(self._in_turn) > spread.RUNS_KEPT:
            del self.ascending[bisect.bisect_left(self.ascending, self._in_turn.popleft())]


def start_in(nodes: Sequence[types.Node], scene: Sequence[workload.Submission], *, job_id: str) -> int:
    """When the job starts, if all of these are there from the first moment on and nobody comes."""
    try:
        _Until(nodes, scene, settings=GREEDY, options=engine.Options(sample_every_seconds=1 << 40), job_id=job_id).run()
    except _StartedError as started:
        return started.at_seconds
    raise AssertionError("a job that the cluster can hold starts once all others have ended")


class _StartedError(Exception):
    def __init__(self, at_seconds: int) -> None:
        super().__init__(at_seconds)
        self.at_seconds = at_seconds


class _Until(engine.Simulation):
    """Simulates no further than to the start of one job."""

    def __init__(
        self,
        nodes: Sequence[types.Node],
        submissions: Sequence[workload.Submission],
        *,
        settings: types.Settings,
        options: engine.Options,
        job_id: str,
    ) -> None:
        super().__init__(nodes, submissions, settings=settings, options=options)
        self._job_id = job_id

    def _start(self, life: Life, *, placement: types.Placement) -> None:
        if life.job.id == self._job_id:
            raise _StartedError(self._now)
        super()._start(life, placement=placement)


def _likeness(job: types.Job) -> Iterable[tuple[str | None, int | None]]:
    """What a job is compared by, the closest first: its virtual cluster and GPUs; its GPUs; nothing."""
    num_gpus = job.num_pods * job.pod.accelerators
    return (job.queue, num_gpus), (None, num_gpus), (None, None)


def _unheard_of(ran: int) -> int:
    """No run took that long: as long again."""
    return ran or UNKNOWN_SECONDS


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
