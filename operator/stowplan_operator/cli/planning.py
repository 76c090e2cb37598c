"""``plan``: the current plan with its proof, and planned starts as a chart of bars, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from stowplan_allocator import types
from stowplan_operator import observation
from stowplan_operator.cli import output, parts, schedule, words

_MOST_ROWS = 40
_LEAST_RUNNING = 10
_MOST_UNKNOWN = 8
_NAME_WIDTH = 26
_WHEN_WIDTH = 8
_LEAST_CHART = 20
_TICKS = 4
_RUNS, _PLANNED, _ON = "█", "▒", "→"


def show(
    seen: observation.Observation, plan: types.Plan, future: schedule.Schedule, *, age_seconds: float, width: int
) -> RenderableType:
    """Proof, figures and the chart."""
    facts = [(label, value) for label, value in _facts(seen, plan) if value]
    running = sum(span.is_running for span in future.spans)
    waiting = sum(job.placement is None for job in seen.snapshot.jobs)
    outside = f", {len(seen.outside)} more waiting outside the plan" if seen.outside else ""
    age = words.duration(age_seconds)
    headline = f"{words.count(running, 'job')} running, {waiting} waiting{outside}, as of {age} ago"
    blocks: list[RenderableType] = [Text(headline, style="bold"), Text(), output.indented(output.facts(facts))]
    if plan.certificate.tiers:
        rows = [
            (tier.name, f"{tier.value:g}", f"{tier.bound:g}", words.percent(str(tier.gap)), tier.status.value)
            for tier in plan.certificate.tiers
        ]
        grid = output.grid(("tier", "value", "bound", "gap", "status"), rows)
        blocks += [output.heading("What was optimised, in this order"), output.indented(grid)]
    if future.spans:
        blocks += [output.heading("Planned starts, if nothing new comes"), *_chart(future, width=width)]
    blocks += list(_listed("No start can be told", [(one.job.name, one.basis) for one in future.unknown]))
    blocks += list(_listed("Not in the plan", list(seen.outside.items())))
    return Group(*blocks)


def _facts(seen: observation.Observation, plan: types.Plan) -> Iterator[tuple[str, str]]:
    certificate = plan.certificate
    yield "Proof", parts.PROOFS.get(certificate.status.value, certificate.status.value)
    if certificate.status is not types.SolveStatus.NOTHING_TO_DO:
        gap = words.percent(str(certificate.gap))
        yield (
            "Starts now",
            f"{words.count(round(certificate.value), 'job')} of at most {certificate.bound:g}, gap {gap}",
        )
        used = certificate.strategy
        used += f" with {seen.settings.solver}" if used == types.Strategy.EXACT else ""
        yield "Solver", f"{used}, {certificate.seconds:.3f} s of at most {seen.settings.time_limit_seconds:g} s"
        phases = [f"{name} {seconds:.3f} s" for name, seconds in certificate.phases if seconds >= 0.0005]
        yield "Time", ", ".join(phases)
    yield "Note", certificate.note
    names = {job.id: job.name for job in seen.snapshot.jobs}
    evictions = [
        f"{names.get(one.job_id, one.job_id)} for {names.get(one.for_job, one.for_job)}" for one in plan.evictions
    ]
    yield "Gives way", ", ".join(evictions)
    moves = [f"{names.get(one.job_id, one.job_id)} for {names.get(one.for_job, one.for_job)}" for one in plan.moves]
    yield "Moves", ", ".join(moves)
    jobs = {job.id: job for job in seen.snapshot.jobs}
    yield "Resizes", "; ".join(resize(one, jobs) for one in plan.resizes)


def resize(one: types.Resize, jobs: Mapping[str, types.Job]) -> str:
    """Who is restarted at which size, and for whom. ``jobs`` are all of the snapshot by id."""
    placement = jobs[one.job_id].placement
    before = placement.num_pods if placement is not None else 0
    why = f"for {jobs[one.for_job].name}" if one.for_job else "as nobody waits for the GPUs"
    return f"{jobs[one.job_id].name} from {before} to {one.num_pods} pods {why}"


def _chart(future: schedule.Schedule, *, width: int) -> Iterator[RenderableType]:
    shown = _rows(future.spans)
    names = min(_NAME_WIDTH, max(len(span.job.name) for span in shown))
    cells = max(_LEAST_CHART, width - names - _WHEN_WIDTH - 6)
    margin = " " * (2 + names + 2 + _WHEN_WIDTH + 2)
    yield Text(margin + _axis(future.horizon, cells), style="dim", no_wrap=True, overflow="crop")
    for span in shown:
        line = Text("  ", no_wrap=True, overflow="crop")
        name = span.job.name if len(span.job.name) <= names else f"…{span.job.name[1 - names :]}"
        line.append(f"{name:<{names}}  ")
        when = "runs" if span.is_running else "now" if not span.starts_in else f"in {words.duration(span.starts_in)}"
        line.append(f"{when:<{_WHEN_WIDTH}}  ", style="dim" if span.is_running else "")
        line.append_text(_bar(span, future.horizon, cells))
        line.rstrip()
        yield line
    if len(future.spans) > len(shown):
        yield Text(f"  … and {words.count(len(future.spans) - len(shown), 'more job')}; -o json lists all", style="dim")


def _rows(spans: Sequence[schedule.Span]) -> list[schedule.Span]:
    """What a screen holds: some of those that run, which end first, and those that start next."""
    planned = [span for span in spans if not span.is_running]
    running = [span for span in spans if span.is_running][: max(_LEAST_RUNNING, _MOST_ROWS - len(planned))]
    return [*running, *planned[: _MOST_ROWS - len(running)]]


def _axis(horizon: int, cells: int) -> str:
    """Durations from now above the chart, each beginning at its place."""
    line = ""
    for tick in range(_TICKS):
        at = cells * tick // _TICKS
        label = f"+{words.duration(horizon * tick / _TICKS)}" if tick else "now"
        line = f"{line:<{at}}" + label
    return line


def _bar(span: schedule.Span, horizon: int, cells: int) -> Text:
    first = min(span.starts_in * cells // horizon, cells - 1)
    last = cells if span.ends_in is None else max(first + 1, -(-span.ends_in * cells // horizon))
    length = min(last, cells) - first
    mark = _RUNS if span.is_running else _PLANNED
    bar = mark * (length - 1) + (_ON if span.ends_in is None else mark)
    return Text.assemble(" " * first, (bar, "green" if span.is_running else "cyan"))


def _listed(heading: str, jobs: Sequence[tuple[str, str]]) -> Iterator[RenderableType]:
    """Names of jobs and why, a few of them."""
    if jobs:
        yield output.heading(heading)
        rows = list(jobs[:_MOST_UNKNOWN])
        if len(jobs) > _MOST_UNKNOWN:
            rows.append((f"… {len(jobs) - _MOST_UNKNOWN} more", "-o json lists all"))
        yield output.indented(output.pairs(rows))
