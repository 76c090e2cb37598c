"""Every run of the matrix as one line of JSON, and the table of docs/reliability.md from it.

The lines go to `faults.jsonl` in the folder that STOWPLAN_RESULTS names, and nowhere without it.
`python -m faults.records FILE…` prints the table (with `tests` on PYTHONPATH).
"""

from __future__ import annotations

import collections
import json
import math
import os
import pathlib
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]


def note(
    *, kind: str, flow: str, fault: str, broken: Sequence[str], seconds: float = 0.0, converged_seconds: float = 0.0
) -> None:
    """Add a run to the records; ``converged_seconds`` is 0 where nothing was restarted."""
    folder = os.environ.get("STOWPLAN_RESULTS")
    if not folder:
        return
    line = {
        "kind": kind,
        "flow": flow,
        "fault": fault,
        "seconds": round(seconds, 2),
        "converged": round(converged_seconds, 2),
        "broken": list(broken),
    }
    path = pathlib.Path(folder) / "faults.jsonl"
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def table(lines: Iterable[Json]) -> str:
    """Runs and violations by flow and class of faults, and how long the end took after a restart, as Markdown."""
    cells: dict[tuple[str, str], list[Json]] = collections.defaultdict(list)
    for line in lines:
        cells[line["flow"], line["kind"]].append(line)
    kinds = sorted({kind for _, kind in cells})
    rows = [["flow", *kinds], ["---"] * (len(kinds) + 1)]
    for flow in dict.fromkeys(flow for flow, _ in cells):
        rows.append([flow, *(_count(cells.get((flow, kind), [])) for kind in kinds)])
    totals = [[one for (_, kind), some in cells.items() if kind == wanted for one in some] for wanted in kinds]
    rows.append(["**all**", *(_count(some) for some in totals)])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    for kind, some in zip(kinds, totals, strict=True):
        times = sorted(one["converged"] for one in some if one["converged"])
        if times:
            p95 = times[math.ceil(0.95 * len(times)) - 1]
            text += f"\n\n{kind}: {len(times)} restarts; p50 {statistics.median(times):.1f} s, "
            text += f"p95 {p95:.1f} s, max {times[-1]:.1f} s."
    return text


def _count(lines: Sequence[Json]) -> str:
    broken = sum(bool(line["broken"]) for line in lines)
    return f"{len(lines)} / {broken}" if lines else ""


if __name__ == "__main__":
    print(table(json.loads(line) for name in sys.argv[1:] for line in pathlib.Path(name).read_text().splitlines()))
