"""``get``: everything that status and events say of one job, laid out for people. Pure, as ``explaining``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from stowplan_operator.cli import output, parts, words
from stowplan_operator.cli.model import Job, clean, event_time, mapping, number, objects, seconds_of, text
from stowplan_operator.cli.words import Speaker

_EVENTS_SHOWN = 10
_COMMAND_CHARACTERS = 300
_CONDITION_STYLES = {"True": "bold", "False": "dim", "Unknown": "yellow"}


def show(job: Job, events: Sequence[Mapping[str, Any]] | None, speaker: Speaker, *, events_note: str = "") -> Group:
    """All sections; ``events`` None says that they could not be read, ``events_note`` why."""
    head = [(label, value) for label, value in _head(job, speaker) if value]
    title = Text.assemble((job.name, "bold"), (f"  in namespace {job.namespace}", "dim"))
    blocks: list[RenderableType] = [title, Text(), output.indented(output.facts(head))]
    for heading, body in (
        ("Placement", _placement(job, speaker)),
        ("Conditions", _conditions(job, speaker)),
        ("Last failure", _failure(job, speaker)),
        ("Attempts that ended", _history(job, speaker)),
        ("Events", _events(events, speaker, note=events_note)),
    ):
        if body is not None:
            blocks += [output.heading(heading), output.indented(body)]
    return Group(*blocks)


def _head(job: Job, speaker: Speaker) -> Iterator[tuple[str, RenderableType]]:
    status = job.status
    if not job.phase:
        yield "Phase", "not seen by the operator yet"
    else:
        attempt = number(status, "attempt")
        phase = Text(job.phase, style=output.phase_style(job.phase))
        yield "Phase", phase.append(f"  attempt {attempt}", style="dim") if attempt else phase
    yield "Reason", job.reason
    yield "Message", job.message
    yield "Progress", parts.progress(job, speaker) or text(status, "progress", "message")
    yield "Checkpoint", parts.checkpoint(job, speaker)
    yield "Ready", f"{ready} pods" if (ready := text(status, "ready")) else ""
    yield "Asks for", parts.asks_for(job)
    yield "Sizes", parts.sizes(job)
    yield "Queue", text(status, "queue")
    yield "Image", text(job.spec, "image")
    command = parts.names(job.spec, "command") + parts.names(job.spec, "args")
    yield "Command", " ".join(" ".join(command).split())[:_COMMAND_CHARACTERS]
    yield "Restarts", parts.restarts(job)
    yield "Suspend", "asked for" if job.suspend else ""
    yield "Created", speaker.ago(text(job.meta, "creationTimestamp"))
    yield "Started", speaker.ago(text(status, "startTime"))
    yield "Ended", speaker.ago(text(status, "completionTime"))
    yield "Used", parts.gpu_hours(job)
    yield "Proof", parts.proof(job.decision)
    if job.is_deleting:
        yield "Deleting", f"since {speaker.age(text(job.meta, 'deletionTimestamp'))}"


def _placement(job: Job, speaker: Speaker) -> RenderableType | None:
    where = parts.place(job)
    if not where:
        return None
    planned = speaker.ago(text(job.status, "placement", "plannedAt"))
    line = Text(where + (f", planned {planned}" if planned else ""))
    return Group(line, output.grid(["NODE", "RANKS"], parts.node_rows(job)))


def _conditions(job: Job, speaker: Speaker) -> RenderableType | None:
    rows = [
        (
            text(one, "type"),
            Text(text(one, "status"), style=_CONDITION_STYLES.get(text(one, "status"), "")),
            speaker.age(text(one, "lastTransitionTime")),
            text(one, "reason"),
            text(one, "message"),
        )
        for one in objects(job.status, "conditions")
    ]
    return output.grid(["TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"], rows) if rows else None


def _failure(job: Job, speaker: Speaker) -> RenderableType | None:
    said = parts.failure(job, speaker)
    if not said:
        return None
    last = mapping(job.status, "lastFailure")
    blocks: list[RenderableType] = [Text(said)]
    if message := text(last, "message"):
        blocks.append(Text(message))
    if tail := text(last, "logTail").strip("\n"):
        blocks.append(output.log_lines(tail))
    return Group(*blocks)


def _took(attempt: Mapping[str, Any]) -> str:
    start, end = seconds_of(text(attempt, "startTime")), seconds_of(text(attempt, "endTime"))
    return words.UNKNOWN if start is None or end is None else words.duration(end - start)


def _history(job: Job, speaker: Speaker) -> RenderableType | None:
    rows = [
        (
            text(one, "attempt") or words.UNKNOWN,
            text(one, "outcome") or words.UNKNOWN,
            speaker.ago(text(one, "endTime")) or words.UNKNOWN,
            _took(one),
            text(one, "nodes") or words.UNKNOWN,
            text(one, "gpuSeconds") or words.UNKNOWN,
            parts.steps(one) or words.UNKNOWN,
            parts.cause(one) or words.UNKNOWN,
        )
        for one in objects(job.status, "history")
    ]
    headings = ["ATTEMPT", "OUTCOME", "ENDED", "TOOK", "PODS", "GPU-SECONDS", "STEPS", "REASON"]
    return output.grid(headings, rows) if rows else None


def _events(events: Iterable[Mapping[str, Any]] | None, speaker: Speaker, *, note: str) -> RenderableType | None:
    if events is None:
        return Text(note or "could not be read", style="dim")
    rows = []
    for one in list(events)[-_EVENTS_SHOWN:]:
        times = number(one, "series", "count") or number(one, "count") or 1
        style = "yellow" if text(one, "type") == "Warning" else ""
        rows.append(
            (
                speaker.age(event_time(one)),
                Text(text(one, "type"), style=style),
                text(one, "reason"),
                str(clean(text(one, "message"))) + (f" (×{times})" if times > 1 else ""),
            )
        )
    return output.grid(["AGE", "TYPE", "REASON", "MESSAGE"], rows) if rows else Text("none", style="dim")
