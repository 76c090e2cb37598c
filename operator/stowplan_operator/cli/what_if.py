"""``what-if``: the plan before and after some changes, side by side. Pure but for planning.

Both plans are made here, with the operator's own function and settings, so that they differ by the changes alone. What
must stay true: every job whose lot differs is named; the verdict is yes only where every submitted job gets its place,
and nobody loses one that he has or would get.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

import stowplan_allocator
from stowplan_allocator import forecast, spread, types
from stowplan_operator import observation
from stowplan_operator.cli import figures, output, schedule, words
from stowplan_operator.cli.changes import Change, Changed
from stowplan_operator.cli.output import Column

_ROWS_SHOWN = 30
_REASONS_SHOWN = 6
_RUN_TIMES_SHOWN = 6
_NODES_NAMED = 2


class Lot(enum.StrEnum):
    """What becomes of a job; the values are part of the JSON form."""

    ABSENT = "absent"
    RUNS = "runs"
    STARTS = "starts"
    PREEMPTS = "preempts"
    WAITS = "waits"
    GIVES_WAY = "givesWay"
    LEAVES = "leaves"
    MOVES = "moves"
    RETURNS = "returns"
    RESIZES = "resizes"

    @property
    def has_place(self) -> bool:
        """Whether the job has its place, or it is decided."""
        return self in (Lot.RUNS, Lot.STARTS, Lot.PREEMPTS, Lot.MOVES, Lot.RETURNS, Lot.RESIZES)


@dataclass(frozen=True, slots=True)
class Fate:
    """One job under one plan. ``message`` says why, ``cost`` what it loses by giving way, in accelerator-seconds."""

    lot: Lot
    reason: str = ""
    message: str = ""
    placement: types.Placement | None = None
    cost: int = 0
    other: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two plans, with the lot of every job by id.

    ``outcome`` is the snapshot once all of the plan is done, and ``totals`` are its figures: who moves, is resized or
    returns stands where he will stand, and who gives way waits while those for whom he does run.
    """

    snapshot: types.Snapshot
    plan: types.Plan
    fates: dict[str, Fate]
    outcome: types.Snapshot
    totals: figures.Totals

    @property
    def num_running(self) -> int:
        """Jobs that run then."""
        return sum(job.placement is not None for job in self.outcome.jobs)

    @property
    def num_starting(self) -> int:
        """Of those that run then, those that had no place before."""
        return sum(
            job.placement is not None and self.fates[job.id].lot in (Lot.STARTS, Lot.PREEMPTS)
            for job in self.outcome.jobs
        )

    @property
    def num_waiting(self) -> int:
        """Jobs that wait then."""
        return sum(job.placement is None for job in self.outcome.jobs)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides; ``jobs`` are all of either, those whose lot differs first.

    ``starts`` foretells when submitted jobs start that have to wait, by id. ``knows_runs``: the snapshot tells how long
    jobs ran that succeeded.
    """

    changes: tuple[Change, ...]
    changed: Changed
    before: Side
    after: Side
    jobs: tuple[types.Job, ...]
    starts: Mapping[str, forecast.Forecast]
    knows_runs: bool = True

    def differs(self, job: types.Job) -> bool:
        """Whether the job's lot, or its reason, is another one; a gang that starts anew elsewhere included."""
        old, new = self.before.fates.get(job.id), self.after.fates.get(job.id)
        return old is None or new is None or (old.lot, old.reason) != (new.lot, new.reason)

    @property
    def is_yes(self) -> bool:
        """See the module."""
        if not all(self.after.fates[job_id].lot.has_place for job_id in self.changed.submitted):
            return False
        removed = set(self.changed.removed)
        return all(
            self.after.fates[job_id].lot.has_place
            for job_id, fate in self.before.fates.items()
            if fate.lot.has_place and job_id not in removed
        )


def side(seen: observation.Observation, snapshot: types.Snapshot, *, longest: Mapping[str, int] | None = None) -> Side:
    """The plan of a snapshot, beside the room that is kept for others; ``longest`` is the observation's, or another.

    ValueError where the snapshot contradicts itself.
    """
    counted = seen.longest if longest is None else longest
    told = spread.at_longest(snapshot, longest=counted, order=seen.settings.order)
    plan = stowplan_allocator.plan(told, seen.settings)
    names = {job.id: job.name for job in snapshot.jobs}
    victims: dict[str, types.Eviction | types.Move] = {one.job_id: one for one in plan.evictions}
    victims |= {one.job_id: one for one in plan.moves}
    fates = {job.id: _fate(job, plan, victims=victims, names=names) for job in snapshot.jobs}
    then = outcome(snapshot, plan)
    nodes = figures.of_nodes(then, devices=seen.devices)
    return Side(snapshot, plan, fates, then, figures.totals(nodes, sizes=figures.pod_sizes(snapshot.jobs)))


def outcome(snapshot: types.Snapshot, plan: types.Plan) -> types.Snapshot:
    """The cluster once all of the plan is done, and gangs that are leaving are gone."""
    places: dict[str, types.Placement | None] = {**plan.placements, **plan.held}
    places |= {one.job_id: None for one in plan.evictions}
    places |= {one.job_id: one.placement for one in plan.resizes}
    places |= {one.job_id: one.placement for one in plan.moves}
    jobs = (
        replace(job, placement=places.get(job.id, job.placement))
        for job in snapshot.jobs
        if not (job.leaving and job.placement is not None)
    )
    return replace(snapshot, jobs=tuple(jobs))


def _fate(
    job: types.Job, plan: types.Plan, *, victims: Mapping[str, types.Eviction | types.Move], names: dict[str, str]
) -> Fate:
    if job.leaving and job.placement is not None:
        return Fate(Lot.LEAVES, placement=job.placement)
    if job.id in victims:
        one = victims[job.id]
        if isinstance(one, types.Move):
            return Fate(Lot.MOVES, placement=one.placement, cost=one.cost, other=names[one.for_job])
        return Fate(Lot.GIVES_WAY, placement=job.placement, cost=one.cost, other=names[one.for_job])
    resized = next((one for one in plan.resizes if one.job_id == job.id), None)
    if resized is not None:
        other = names.get(resized.for_job, "")
        return Fate(Lot.RESIZES, placement=resized.placement, cost=resized.cost, other=other)
    if job.placement is not None:
        return Fate(Lot.RUNS, placement=job.placement)
    if job.id in plan.placements:
        return Fate(Lot.STARTS, placement=plan.placements[job.id])
    waiting = plan.waiting[job.id]
    if job.returning and job.id in plan.held:
        return Fate(Lot.RETURNS, waiting.reason.value, waiting.message, plan.held[job.id])
    lot = Lot.PREEMPTS if waiting.reason is types.Reason.WAITING_FOR_PREEMPTION else Lot.WAITS
    return Fate(lot, waiting.reason.value, waiting.message, plan.held.get(job.id), other=", ".join(waiting.blockers))


def compare(seen: observation.Observation, changes: Sequence[Change], changed: Changed) -> Comparison:
    """Plan twice, and foretell the starts of submitted jobs that wait as ``plan`` does."""
    before, after = side(seen, seen.snapshot), side(seen, changed.snapshot, longest=changed.longest)
    jobs = {job.id: job for job in seen.snapshot.jobs} | {job.id: job for job in changed.snapshot.jobs}
    knows_runs = seen.reading is not None and seen.reading.runs is not None
    starts: Mapping[str, forecast.Forecast] = {}
    if any(after.fates[job_id].lot in (Lot.WAITS, Lot.PREEMPTS) for job_id in changed.submitted):
        starts = forecast.predict_starts(
            changed.snapshot, settings=seen.settings, budget_seconds=schedule.FORECAST_SECONDS
        )
    found = Comparison(tuple(changes), changed, before, after, (), starts, knows_runs)
    touched = {*changed.submitted, *changed.displaced, *changed.removed}
    ordered = sorted(jobs.values(), key=lambda job: (not found.differs(job), job.id not in touched, job.name))
    return replace(found, jobs=tuple(ordered))


def show(found: Comparison, *, width: int) -> RenderableType:
    """The comparison for people."""
    blocks: list[RenderableType] = [Text("If you " + ", ".join(map(str, found.changes)), style="bold"), Text()]
    rows = [job for job in found.jobs if found.differs(job)]
    if rows:
        table = [
            (
                job.name,
                str(job.num_pods * job.pod.accelerators),
                _said(found, job, after=False),
                _said(found, job, after=True),
            )
            for job in rows[:_ROWS_SHOWN]
        ]
        blocks.append(output.indented(output.plain_table(_JOB_COLUMNS, table, width=width - 2)))
        if len(rows) > _ROWS_SHOWN:
            blocks.append(Text(f"  … and {words.count(len(rows) - _ROWS_SHOWN, 'more job')}; -o json lists all"))
    same = len(found.jobs) - len(rows)
    if same or not rows:
        other = "other " if rows else ""
        blocks.append(Text(f"  {words.count(same, other + 'job')} as before", style="dim"))
    blocks += [Text(), output.indented(output.plain_table(_SIDES, list(_totals(found)), width=width - 2))]
    blocks += list(_reasons(found, rows))
    if starts := list(_starts(found)):
        blocks.append(output.heading("When they would start, if nothing new comes"))
        blocks.append(output.indented(output.pairs(starts[:_RUN_TIMES_SHOWN])))
    if found.changed.submitted:
        blocks.append(output.heading("How long they would run"))
        blocks.append(output.indented(output.pairs(list(_run_times(found))[:_RUN_TIMES_SHOWN])))
    return Group(*blocks)


_JOB_COLUMNS = (
    Column("JOB", shrinks_to=16, wraps=True),
    Column("GPUS"),
    Column("NOW", shrinks_to=14, wraps=True),
    Column("THEN", shrinks_to=20, wraps=True),
)
_SIDES = (Column(""), Column("NOW", shrinks_to=20), Column("THEN", shrinks_to=20))
_STYLES = {Lot.WAITS: "yellow", Lot.GIVES_WAY: "red", Lot.STARTS: "green", Lot.PREEMPTS: "green"}


def _said(found: Comparison, job: types.Job, *, after: bool) -> Text:
    fate = (found.after if after else found.before).fates.get(job.id)
    if fate is None:
        return Text("removed" if after else words.UNKNOWN)
    ran = found.before.fates.get(job.id)
    stopped = after and ran is not None and ran.lot is Lot.RUNS
    return Text(sentence(fate, stopped=stopped), style=_STYLES.get(fate.lot, "") if after else "")


def sentence(fate: Fate, *, stopped: bool = False) -> str:
    """What becomes of a job, without its name; ``stopped`` where it ran before."""
    match fate.lot:
        case Lot.STARTS:
            return f"{'starts anew on' if stopped else 'starts on'} {_where(fate.placement)}"
        case Lot.PREEMPTS:
            return f"starts when {fate.other} {'has' if ',' not in fate.other else 'have'} left"
        case Lot.WAITS:
            return f"{'stops and waits' if stopped else 'waits'}: {fate.reason}"
        case Lot.GIVES_WAY:
            return f"gives way to {fate.other}, loses {words.gpu_time(fate.cost)}"
        case Lot.MOVES:
            return f"moves to {_where(fate.placement)} for {fate.other}, loses {words.gpu_time(fate.cost)}"
        case Lot.RETURNS:
            return f"starts again on {_where(fate.placement)}"
        case Lot.RESIZES:
            pods = words.count(fate.placement.num_pods if fate.placement else 0, "pod")
            return f"restarts with {pods}" + (f", for {fate.other}" if fate.other else ", as nobody waits")
        case Lot.LEAVES:
            return "is leaving"
    return f"runs on {_where(fate.placement)}"


def _where(placement: types.Placement | None) -> str:
    return figures.where(placement, most=_NODES_NAMED)


def _lost(victims: Sequence[types.Eviction | types.Move]) -> str:
    return words.gpu_time(sum(one.cost for one in victims)) if victims else words.UNKNOWN


def _totals(found: Comparison) -> Iterator[tuple[str, str, str]]:
    def pair(label: str, value: Any) -> tuple[str, str, str]:
        return label, str(value(found.before)), str(value(found.after))

    yield pair("Jobs running", lambda one: one.num_running)
    yield pair("  of them new", lambda one: one.num_starting)
    yield pair("Jobs waiting", lambda one: one.num_waiting)
    if found.before.plan.evictions or found.after.plan.evictions:
        yield pair("Evictions", lambda one: len(one.plan.evictions))
        yield pair("  lose", lambda one: _lost(one.plan.evictions))
    if found.before.plan.moves or found.after.plan.moves:
        yield pair("Moved", lambda one: len(one.plan.moves))
        yield pair("  lose", lambda one: _lost(one.plan.moves))
    if found.before.plan.resizes or found.after.plan.resizes:
        yield pair("Resized", lambda one: len(one.plan.resizes))
    yield pair("GPUs", lambda one: one.totals.total)
    yield pair("GPUs in use", lambda one: one.totals.used + one.totals.others)
    yield pair("GPUs free", lambda one: one.totals.free)
    yield pair("  fragmented", lambda one: figures.share(one.totals.fragmented))
    yield pair("Plan", lambda one: proof(one.plan.certificate))


def proof(certificate: types.Certificate) -> str:
    """Status and gap in a few words."""
    if certificate.status is types.SolveStatus.NOTHING_TO_DO:
        return "nobody waits"
    return f"{certificate.status.value}, gap {words.percent(str(certificate.gap))}"


def _reasons(found: Comparison, rows: Sequence[types.Job]) -> Iterator[RenderableType]:
    waiting = [job for job in rows if (fate := found.after.fates.get(job.id)) and fate.lot in (Lot.WAITS, Lot.PREEMPTS)]
    if waiting:
        yield output.heading("Why they would wait")
        pairs = ((job.name, found.after.fates[job.id].message) for job in waiting[:_REASONS_SHOWN])
        yield output.indented(output.pairs(pairs))


def start_of(found: Comparison, job_id: str) -> int | None:
    """When a submitted job starts, in Unix seconds; None where nobody knows."""
    if found.after.fates[job_id].lot is Lot.STARTS:
        return found.after.snapshot.now_seconds
    return found.starts[job_id].starts_at_seconds if job_id in found.starts else None


def _starts(found: Comparison) -> Iterator[tuple[str, str]]:
    names = {job.id: job.name for job in found.jobs}
    for job_id in found.changed.submitted:
        told = found.starts.get(job_id)
        if told is None or found.after.fates[job_id].lot is Lot.STARTS:
            continue
        seconds = (told.starts_at_seconds or 0) - found.after.snapshot.now_seconds
        yield names[job_id], (f"in {words.duration(seconds)}: " if seconds > 0 else "") + told.basis


def _run_times(found: Comparison) -> Iterator[tuple[str, str]]:
    jobs = {job.id: job for job in found.jobs}
    for job_id in found.changed.submitted:
        job = jobs[job_id]
        most = found.changed.longest.get(job_id, 0)
        if job.expected_seconds is None:
            yield job.name, _UNKNOWN if found.knows_runs else _NOT_TOLD
            continue
        said = words.duration(job.expected_seconds)
        if most > job.expected_seconds:
            said += f", at most {words.duration(most)}"
        yield job.name, f"{said} ({found.changed.bases[job_id]})"


_UNKNOWN = (
    "not known: no job like it has succeeded, and neither activeDeadlineSeconds nor a queue limits it; so it is not "
    "let in where room is kept for another job"
)
_NOT_TOLD = (
    "not known: the snapshot does not tell how long jobs ran, and neither activeDeadlineSeconds nor a queue limits it; "
    "a snapshot that is saved anew tells"
)
