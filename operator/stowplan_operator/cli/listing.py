"""``list``: the columns of ``kubectl get tj``, read from the CRD's printer columns, with colour on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from stowplan_operator.api import Condition
from stowplan_operator.cli import output, words
from stowplan_operator.cli.model import Job, text
from stowplan_operator.cli.output import Column
from stowplan_operator.cli.words import Speaker

COLUMNS = (
    Column("NAME"),
    Column("PHASE"),
    Column("REASON", shrinks_to=12),
    Column("READY"),
    Column("GPUS"),
    Column("PROGRESS"),
    Column("ETA"),
    Column("RESTARTS"),
    Column("AGE"),
)
WIDE_COLUMNS = (*COLUMNS, Column("ATTEMPT"), Column("LOSS"), Column("ADMITTED"), Column("MESSAGE", shrinks_to=40))


def _row(job: Job, speaker: Speaker) -> list[str | Text]:
    status = job.status
    cells: list[str | Text] = [
        job.name,
        Text(job.phase or words.UNKNOWN, style=output.phase_style(job.phase)),
        text(status, "reason"),
        text(status, "ready"),
        text(status, "gpus"),
        text(status, "progress", "percent"),
        text(status, "eta"),
        text(status, "restarts"),
        speaker.age(text(job.meta, "creationTimestamp")),
        text(status, "attempt"),
        text(status, "progress", "loss"),
        text(job.condition(Condition.ADMITTED), "status"),
        text(status, "message").replace("\n", " "),
    ]
    return [cell or words.UNKNOWN for cell in cells]


def show(jobs: Iterable[Job], speaker: Speaker, *, namespaces: bool, wide: bool, width: int) -> Text:
    """The table; ``namespaces`` adds their column, ``wide`` the columns of ``kubectl get tj -o wide``."""
    columns = WIDE_COLUMNS if wide else COLUMNS
    rows = [[*([job.namespace] if namespaces else []), *_row(job, speaker)[: len(columns)]] for job in jobs]
    return output.plain_table([*([Column("NAMESPACE")] if namespaces else []), *columns], rows, width=width)
