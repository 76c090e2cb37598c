"""``plan`` as one HTML page or one PNG: jobs on nodes over the time to come, drawn by the simulator's own pictures.

What must stay true: the page loads nothing and runs nothing; whatever came from a user is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from stowplan_allocator import types
from stowplan_allocator.simulate import pictures, records, report, style
from stowplan_operator import observation, views
from stowplan_operator.cli import schedule, words

TITLE = "Plan"
_MOST_LINES = 12
_LINE_LENGTH = 150


def view(seen: observation.Observation, future: schedule.Schedule) -> style.View:
    """The schedule as a run of the simulator that begins now; what has no known end runs until the chart's end."""
    now = seen.snapshot.now_seconds
    jobs = []
    for span in future.spans:
        outcome = records.Outcome.UNFINISHED if span.ends_in is None else records.Outcome.COMPLETED
        end = future.horizon if span.ends_in is None else span.ends_in
        run = records.Run(now + span.starts_in, now + end, span.placement, outcome)
        jobs.append(records.JobRecord(span.job, now, (run,)))
    away = {node.name: ((now, now + future.horizon),) for node in seen.snapshot.nodes if node.blocked}
    history = records.History(seen.snapshot.nodes, tuple(jobs), (), 0, 0, 0.0, now, now + future.horizon)
    return style.View(history, away, is_forecast=True)


def page(seen: observation.Observation, plan: types.Plan, future: schedule.Schedule) -> str:
    """The page."""
    drawn = view(seen, future)
    certificate = plan.certificate
    tiers = [
        (tier.name, f"{tier.value:g}", f"{tier.bound:g}", words.percent(str(tier.gap)), tier.status.value)
        for tier in certificate.tiers
    ]
    parts = [
        f"<h1>{TITLE}</h1>",
        f'<p class="facts">{report.escaped(facts(seen, plan))}</p>',
        *(report.section(picture, drawn) for picture in _pictures(drawn)),
        report.table("Jobs", ("Job", "GPUs", "Starts", "Ends", "Nodes", "Why then"), _rows(seen, future)),
        report.table("Jobs without a predicted start", ("Job", "Why"), _unknown(future), words=2),
        report.table("What was optimised, in this order", ("Tier", "Value", "Bound", "Gap", "Status"), tiers),
    ]
    return report.wrapped(TITLE, parts)


def png(seen: observation.Observation, plan: types.Plan, future: schedule.Schedule) -> bytes:
    """The picture alone."""
    drawn = view(seen, future)
    return pictures.png(drawn, title=TITLE, facts=facts(seen, plan), pictures=_pictures(drawn), below=below(future))


def below(future: schedule.Schedule) -> list[str]:
    """Waiting jobs that are in no bar, a line each."""
    if not future.unknown:
        return []
    lines = [f"  {name}: {why}" for name, why in _unknown(future)[:_MOST_LINES]]
    more = len(future.unknown) - len(lines)
    lines += [f"  … and {words.count(more, 'more job')}"] if more else []
    width = _LINE_LENGTH
    return [
        "Waiting, and no start can be told",
        *(one if len(one) <= width else f"{one[: width - 1]}…" for one in lines),
    ]


def facts(seen: observation.Observation, plan: types.Plan) -> str:
    """When the plan was made and what is proven about it, in a line."""
    certificate = plan.certificate
    proof = f"{certificate.status.value}, gap {words.percent(str(certificate.gap))}, {certificate.seconds:.3f} s"
    return f"{views.format_time(seen.snapshot.now_seconds)} · {certificate.strategy}: {proof}"


def _pictures(drawn: style.View) -> Sequence[pictures.Picture]:
    return [picture for picture in pictures.all_pictures(drawn) if picture.name == pictures.NODES]


def _rows(seen: observation.Observation, future: schedule.Schedule) -> list[tuple[str, ...]]:
    now = seen.snapshot.now_seconds
    return [
        (
            span.job.name,
            str(span.placement.num_pods * span.job.pod.accelerators),
            "runs" if span.is_running else views.format_time(now + span.starts_in),
            "unknown" if span.ends_in is None else views.format_time(now + span.ends_in),
            ", ".join(share.node for share in span.placement.shares),
            span.basis,
        )
        for span in future.spans
    ]


def _unknown(future: schedule.Schedule) -> list[tuple[str, str]]:
    return [(one.job.name, one.basis) for one in future.unknown]
