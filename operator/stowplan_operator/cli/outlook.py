"""When a job starts and ends, and what would start it now, as its status says. Pure; nothing is asked or solved.

The operator finds these answers beside its plans, so they may be a minute older than the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from stowplan_operator.cli import output, words
from stowplan_operator.cli.model import Job, mapping, number, objects, text
from stowplan_operator.cli.words import Speaker

_CHANGES_SHOWN = 6


def of_waiting(job: Job) -> Iterator[tuple[str, RenderableType]]:
    """Its place in the line, its start and its run time, and the changes that would each start it now."""
    decision = job.decision
    position = number(decision, "position")
    yield "Position", f"{position} in the line of its queue" if position is not None else ""
    basis, eta = text(decision, "predictedStartBasis"), text(job.status, "eta").removeprefix("starts ")
    yield "Starts", f"{eta}: {basis}" if eta and basis else eta or basis
    estimate = mapping(job.status, "estimate")
    seconds = number(estimate, "runSeconds")
    if seconds is not None:
        yield "Runs", f"{words.duration(seconds)} once it has started ({text(estimate, 'basis')})"
    changes = [text(one, "message") for one in objects(decision, "alternatives")]
    rows = [("•", one) for one in changes[:_CHANGES_SHOWN]]
    yield "To start now", output.pairs(rows) if rows else ""
    more = len(changes) - len(rows)
    yield "", f"and {more} more changes: {job.name}'s status.decision.alternatives" if more else ""


def of_placed(job: Job, speaker: Speaker) -> Iterator[tuple[str, RenderableType]]:
    """When it is expected to end."""
    estimate = mapping(job.status, "estimate")
    end, basis = text(estimate, "endTime"), text(estimate, "basis")
    if end and (left := speaker.until(end)) is not None:
        yield "Ends", f"in {words.duration(left)} ({basis})" if left else f"any moment ({basis})"
