"""``explain --deep``: the smallest changes that would start a waiting job now, each found by planning with it made.

Solved here, on the operator's snapshot, with its settings. What must stay true: what the time did not allow to try is
named, and is not taken for something that would not help.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from stowplan_allocator import alternatives, types
from stowplan_operator import observation
from stowplan_operator.cli import output, what_if, words

BUDGET_SECONDS = alternatives.BUDGET_SECONDS


def explore(seen: observation.Observation, job: types.Job) -> alternatives.Exploration:
    """All kinds of changes for a waiting job; nothing is tried for one that has its place."""
    if job.placement is not None:
        return alternatives.Exploration(())
    return alternatives.explore(seen.counted_upon, job.id, settings=seen.settings, budget_seconds=BUDGET_SECONDS)


def show(job: types.Job, found: alternatives.Exploration) -> RenderableType:
    """The alternatives for people, those that the owner of the job can choose first."""
    if job.placement is not None:
        return Text("\nIt has its place, so no change was tried.", style="dim")
    blocks: list[RenderableType] = [output.heading("What would start it now")]
    rows = [("•", one.sentence + ("" if one.smallest else " (less might do)")) for one in found.alternatives]
    if rows:
        blocks.append(output.indented(output.pairs(rows)))
    elif not found.num_plans or found.not_tried:
        blocks.append(output.indented(Text("Nothing was found in the time.")))
    else:
        blocks.append(output.indented(Text("No single change: it starts anyway, or only several together would do.")))
    if found.not_tried:
        kinds = ", ".join(words.phrase(_spaced(kind.value)) for kind in found.not_tried)
        blocks.append(output.indented(Text(f"Not tried in {BUDGET_SECONDS:g} s: {kinds}.", style="dim")))
    return Group(*blocks)


def _spaced(name: str) -> str:
    return name[:1].lower() + name[1:]


def document(found: alternatives.Exploration) -> dict[str, Any]:
    """The alternatives for programs."""
    return {
        "alternatives": [
            {
                "kind": one.kind.value,
                "sentence": one.sentence,
                "numbers": dict(one.numbers),
                "smallest": one.smallest,
            }
            for one in found.alternatives
        ],
        "notTried": [kind.value for kind in found.not_tried],
    }


def show_snapshot(seen: observation.Observation, job: types.Job) -> tuple[what_if.Fate, RenderableType]:
    """What the plan of a saved snapshot says of a job, for people."""
    planned = what_if.side(seen, seen.snapshot)
    fate = planned.fates[job.id]
    facts = [(label, value) for label, value in _facts(planned, fate) if value]
    headline = Text(f"{job.name} {what_if.sentence(fate)}", style="bold")
    return fate, Group(headline, Text(), output.indented(output.facts(facts)))


def _facts(planned: what_if.Side, fate: what_if.Fate) -> Iterator[tuple[str, str]]:
    yield "Why", fate.message
    yield "Blocked by", fate.other
    yield "Plan", what_if.proof(planned.plan.certificate)
