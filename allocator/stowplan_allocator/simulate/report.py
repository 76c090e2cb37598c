"""The report of a simulated run: one HTML page that needs nothing else, or one PNG.

What must stay true: whatever came from a user is escaped; the page loads nothing and runs nothing; it says
with which command, inputs and versions its figures were made.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator.simulate import pictures, style, summary

_MOST_ROWS = 25
_SECONDS = "_seconds"


@dataclass(frozen=True, slots=True)
class About:
    """What stands around the figures: the title, the command line, inputs and versions by name."""

    title: str
    command: str
    inputs: Mapping[str, object]
    versions: Mapping[str, object]
    notes: Sequence[str] = ()


def page(view: style.View, *, about: About) -> str:
    """The whole page."""
    figures = summary.summarise(view.history)
    parts = [
        f"<h1>{escaped(about.title)}</h1>",
        f'<p class="facts">{escaped(summary.facts(figures))}</p>',
        *(f'<p class="note">{escaped(note)}</p>' for note in about.notes),
        _cards(figures),
        *(section(picture, view) for picture in pictures.all_pictures(view)),
        _sizes(view),
        _queues(view),
        _reasons(view),
        _never_started(view),
        _all_figures(figures),
        _origin(about),
    ]
    return wrapped(about.title, parts)


def wrapped(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, which are HTML; the empty ones are left out."""
    head = f'<meta charset="utf-8"><title>{escaped(title)}</title><style>{_STYLE}</style>'
    view_port = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    guard = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    body = "\n".join(part for part in parts if part)
    top = f'<!doctype html>\n<html lang="en"><head>{head}{view_port}{guard}</head>'
    return f"{top}\n<body><main>\n{body}\n</main></body></html>\n"


def sheet(view: style.View, *, about: About) -> bytes:
    """All pictures as one PNG."""
    return pictures.png(view, title=about.title, facts=summary.facts(summary.summarise(view.history)))


def shown(name: str, value: summary.Figure) -> str:
    """A figure with its unit, as people read it."""
    if value is None:
        return "–"
    if name.endswith(_SECONDS) and not name.startswith("plan_"):
        return summary.duration(value)
    if name.endswith("_percent"):
        return f"{value:.1f} %"
    return f"{value:,.1f} s" if name.endswith(_SECONDS) else f"{value:,}"


def named(name: str) -> str:
    """The name of a figure without its unit, in words."""
    return name.removesuffix(_SECONDS).removesuffix("_percent").replace("_", " ")


def escaped(value: object) -> str:
    """Text as HTML."""
    return html.escape(str(value), quote=True)


def _cards(figures: Mapping[str, summary.Figure]) -> str:
    ended = f"of {figures['jobs']:,} jobs"
    if figures["failed"]:
        ended += f", {figures['failed']:,} failed"
    cards = (
        ("completed", figures["completed"], ended),
        ("utilisation_percent", figures["utilisation_percent"], _while(figures)),
        ("completion_mean_seconds", figures["completion_mean_seconds"], _p95(figures, "completion")),
        ("queue_mean_seconds", figures["queue_mean_seconds"], _p95(figures, "queue")),
        ("fragmentation_mean_percent", figures["fragmentation_mean_percent"], "of what is free"),
        ("never_started", figures["never_started"], f"{figures['unfinished']:,} more did not end"),
    )
    words = {
        "completion_mean_seconds": "Completion time",
        "queue_mean_seconds": "Time in the queue",
        "fragmentation_mean_percent": "Fragmentation",
    }
    drawn = (
        f'<div class="card"><dt>{escaped(words.get(name, named(name).capitalize()))}</dt>'
        f"<dd>{escaped(shown(name, value))}</dd><small>{escaped(below)}</small></div>"
        for name, value, below in cards
    )
    return f'<dl class="cards">{"".join(drawn)}</dl>'


def _while(figures: Mapping[str, summary.Figure]) -> str:
    share = figures["utilisation_while_submitting_percent"]
    return "of the whole time" if share is None else f"{share:.1f} % until the last submission"


def _p95(figures: Mapping[str, summary.Figure], what: str) -> str:
    median, tail = (summary.duration(figures[f"{what}_{name}_seconds"]) for name in ("p50", "p95"))
    return f"mean; median {median}, 95 % within {tail}"


def section(picture: pictures.Picture, view: style.View) -> str:
    """A picture with its title and caption."""
    drawn = pictures.svg(picture, view)
    label = escaped(f"{picture.title}. {picture.caption}")
    return (
        f'<section id="{picture.name}"><h2>{escaped(picture.title)}</h2>'
        f'<figure role="img" aria-label="{label}">{drawn}'
        f"<figcaption>{escaped(picture.caption)}</figcaption></figure></section>"
    )


def table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1, note: str = ""
) -> str:
    """A table whose first ``words`` columns are text and whose others are numbers."""
    head = "".join(f"<th{_aligned(index, words)}>{escaped(name)}</th>" for index, name in enumerate(headings))
    body = "".join(
        "<tr>"
        + "".join(f"<td{_aligned(index, words)}>{escaped(cell)}</td>" for index, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    if not body:
        return ""
    below = f'<p class="note">{escaped(note)}</p>' if note else ""
    return (
        f"<section><h2>{escaped(title)}</h2><div class=wide><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{below}</section>"
    )


def _aligned(index: int, words: int) -> str:
    return "" if index < words else " class=number"


def _sizes(view: style.View) -> str:
    rows = []
    for name, jobs in summary.size_classes(view.history.jobs).items():
        queue = sorted(job.queue_seconds for job in jobs if job.queue_seconds is not None)
        completion = [job.completion_seconds for job in jobs if job.completion_seconds is not None]
        times = (
            summary.mean(queue),
            summary.quantile(queue, 0.5),
            summary.quantile(queue, 0.95),
            summary.mean(completion),
        )
        rows.append((name, f"{len(jobs):,}", f"{len(completion):,}", *(summary.duration(time) for time in times)))
    headings = ("Accelerators", "Jobs", "Ended", "Queue, mean", "Queue, median", "Queue, 95 %", "Completion, mean")
    return table("Jobs by size", headings, rows)


def _queues(view: style.View) -> str:
    """By queue, where there are several: its jobs, their waits, and its part of what was used."""
    queues = summary.by_queue(view.history.jobs)
    if len(queues) < 2:
        return ""
    held = {name: sum(map(summary.held_seconds, jobs)) for name, jobs in queues.items()}
    total = sum(held.values())
    rows = []
    for name, jobs in queues.items():
        waits = sorted(job.queue_seconds for job in jobs if job.queue_seconds is not None)
        times = (
            summary.mean(waits),
            summary.quantile(waits, 0.5),
            summary.quantile(waits, 0.95),
            max(waits, default=None),
        )
        share = f"{100 * held[name] / total:.1f} %" if total else "–"
        rows.append((name or "(none)", f"{len(jobs):,}", f"{len(waits):,}", *map(summary.duration, times), share))
    headings = (
        "Queue",
        "Jobs",
        "Ended",
        "Wait, mean",
        "Wait, median",
        "Wait, 95 %",
        "Wait, longest",
        "Accelerator time",
    )
    return table("Jobs by queue", headings, rows)


def _reasons(view: style.View) -> str:
    rows = ((reason.value, f"{first:,}", f"{last:,}") for reason, first, last in summary.waiting_reasons(view.history))
    return table("Reasons", ("Reason", "Jobs that gave it first", "Jobs that never started and gave it last"), rows)


def _never_started(view: style.View) -> str:
    jobs = [job for job in view.history.jobs if not job.runs]
    rows = [
        (
            job.job.name,
            f"{job.job.num_pods} × {job.job.pod.accelerators}",
            job.last_reason.reason.value if job.last_reason else "–",
            job.last_reason.message if job.last_reason else "",
        )
        for job in jobs[:_MOST_ROWS]
    ]
    note = f"and {len(jobs) - len(rows):,} more" if len(jobs) > len(rows) else ""
    headings = ("Job", "Pods × accelerators", "Reason", "Message")
    return table("Jobs that never started", headings, rows, words=4, note=note)


def _all_figures(figures: Mapping[str, summary.Figure]) -> str:
    rows = [(named(name).capitalize(), shown(name, value)) for name, value in figures.items()]
    return table("All figures", ("Figure", "Value"), rows)


def _origin(about: About) -> str:
    given = [
        (name.replace("_", " "), value) for name, value in about.inputs.items() if value not in (None, (), [], "", {})
    ]
    return "".join(
        (
            f"<section><h2>Command</h2><pre>{escaped(about.command)}</pre></section>",
            table("Inputs", ("Input", "Value"), given, words=2),
            table("Versions", ("Of", "Version"), about.versions.items(), words=2),
        )
    )


_STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1f2328;--faint:#59636e;--line:#d1d9e0;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--page:#0d1117;--ink:#e6edf3;--faint:#9198a1;--line:#30363d;--card:#161b22}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:68rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.8rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.5rem 0 .5rem}
.facts{color:var(--faint);margin:.3rem 0 1.5rem}
.note,figcaption,small{color:var(--faint);font-size:.86rem}
.note{margin:.3rem 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.5rem 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem}
.card dt{color:var(--faint);font-size:.86rem}
.card dd{margin:.1rem 0;font-size:1.2rem;font-weight:600;white-space:nowrap;font-variant-numeric:tabular-nums}
.card small{display:block;line-height:1.35}
figure{margin:0}
figure svg{display:block;width:100%;height:auto;color:var(--ink)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--faint);font-weight:500}
td{overflow-wrap:anywhere}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;overflow-x:auto;
white-space:pre-wrap;overflow-wrap:anywhere}
@media print{section{break-inside:avoid}}
"""
