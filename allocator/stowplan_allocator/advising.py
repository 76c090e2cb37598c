"""Answers beside the plan, from a process of its own: for whom room is kept, when each waiting job starts, and what
would start it now.

These questions take seconds and nobody waits for them, so each batch is one short-lived child at low priority. It is
killed when it overruns its budget. What must stay true: the caller's event loop never waits for a solver; an answer
that the budget cut says so by what is missing.

Parent and child exchange pickles over pipes which nobody else can open.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import pickle
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from stowplan_allocator import alternatives, forecast, spread, starvation, types
from stowplan_allocator.relaxing import ChangeKind

_PACKAGE_ROOT = str(pathlib.Path(__file__).resolve().parent.parent)
_NICENESS = 10
# Of the budget: reservations, forecasts for all, then as many jobs as there is time for.
_RESERVATION_SHARE, _FORECAST_SHARE = 0.3, 0.3
# A child that has not answered after so many times its budget, and the time to start, hangs in a solver.
_PATIENCE = 2.0
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Change:
    """A change that would start the job now, for people. To wait is none: the forecast says how long."""

    kind: ChangeKind
    sentence: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What is known of one waiting job beside its reason.

    ``changes`` is None where it was not asked for, or there was no time. ``reservation`` is the room that should be
    kept for it from now on, and which the forecasts of all reckon with.
    """

    forecast: forecast.Forecast | None = None
    changes: tuple[Change, ...] | None = None
    not_tried: tuple[ChangeKind, ...] = ()
    reservation: types.Reservation | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Waiting jobs of a snapshot; of those ``asked`` (job ids, the first most) also what would start them now.

    Whoever is first in line and waits longer than ``reserve_after_seconds`` gets room kept; with 0 nobody does.
    ``longest`` has, by job id, the seconds upon which plans count where room is kept. ``leaving`` are gangs that are
    not in the snapshot, as they will be gone long before anything else ends.
    """

    snapshot: types.Snapshot
    settings: types.Settings
    asked: tuple[str, ...]
    budget_seconds: float
    reserve_after_seconds: int = 0
    longest: Mapping[str, int] = dataclasses.field(default_factory=dict)
    leaving: tuple[types.Job, ...] = ()


class AdviceError(RuntimeError):
    """The child gave no answer; the text says why."""


def answer(question: Question) -> dict[str, Advice]:
    """Advice for every waiting job, by id, within about the budget."""
    began = time.monotonic()
    settings = question.settings
    snapshot = dataclasses.replace(question.snapshot, reservations=_reserved(question))
    reserved = {one.job_id: one for one in snapshot.reservations}
    starts = forecast.predict_starts(
        snapshot,
        settings=settings,
        budget_seconds=_FORECAST_SHARE * question.budget_seconds,
        leaving=question.leaving,
    )
    found = {job_id: Advice(forecast=start, reservation=reserved.get(job_id)) for job_id, start in starts.items()}
    planned = spread.at_longest(snapshot, longest=question.longest, order=settings.order)
    for job_id in question.asked:
        left = question.budget_seconds - (time.monotonic() - began)
        if left <= 0 or job_id not in found:
            continue
        explored = alternatives.explore(planned, job_id, settings=settings, budget_seconds=left)
        found[job_id] = dataclasses.replace(
            found[job_id],
            changes=tuple(
                Change(one.kind, one.sentence) for one in explored.alternatives if one.kind is not ChangeKind.LATER
            ),
            not_tried=explored.not_tried,
        )
    return found


def _reserved(question: Question) -> tuple[types.Reservation, ...]:
    if not question.reserve_after_seconds:
        return ()
    return starvation.reservations(
        question.snapshot,
        settings=question.settings,
        after_seconds=question.reserve_after_seconds,
        budget_seconds=_RESERVATION_SHARE * question.budget_seconds,
    )


async def ask(question: Question) -> Mapping[str, Advice]:
    """``answer`` in a child. AdviceError where it died, failed, or took far more than its budget."""
    message = await asyncio.to_thread(pickle.dumps, question, pickle.HIGHEST_PROTOCOL)
    path = os.pathsep.join(part for part in (_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")) if part)
    # Not with -m: the classes of the answer would be those of the child's main module.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", "from stowplan_allocator import advising; advising.main()"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        process_group=0,
    )
    limit = _PATIENCE * question.budget_seconds + _START_SECONDS
    try:
        output, _ = await asyncio.wait_for(process.communicate(message), limit)
    except TimeoutError:
        raise AdviceError(f"no answer within {limit:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise AdviceError(f"the process ended with code {process.returncode}")
    found: dict[str, Advice] = await asyncio.to_thread(pickle.loads, output)
    return found


def main() -> None:
    """The child's side: the question on standard input, the answer on what was standard output."""
    os.nice(_NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a solver prints must not get into the answer
    question = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our parent alone
    answers.write(pickle.dumps(answer(question), pickle.HIGHEST_PROTOCOL))
    answers.flush()
