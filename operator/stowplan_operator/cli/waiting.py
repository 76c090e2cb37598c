"""``wait``: until a job reaches a phase, ends otherwise, or the time is up.

Polls once a second: a GET of one object costs the API server less than a watch costs in care. Phases that
pass between two polls are not missed, because later phases imply the earlier ones. An API server that is
away for less than a minute does not end the wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from stowplan_operator.api import Phase
from stowplan_operator.cli import refusals, words
from stowplan_operator.cli.client import Cluster
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.model import Job
from stowplan_operator.cli.words import Speaker

POLL_SECONDS = 1.0
TOLERATED_OUTAGE_SECONDS = 60.0
FINISHED = "Finished"

_IMPLIED_BY = {
    Phase.STARTING.value: {Phase.RUNNING, Phase.SUCCEEDED},
    Phase.RUNNING.value: {Phase.SUCCEEDED},
}


def verdict(job: Job, goal: str) -> Exit | None:
    """Yes when the goal is reached, no when it never will be, None while it may."""
    phase = job.phase
    if goal == FINISHED:
        return None if not job.is_finished else Exit.YES if phase == Phase.SUCCEEDED else Exit.NO
    if phase == goal or phase in _IMPLIED_BY.get(goal, ()):
        return Exit.YES
    return Exit.NO if job.is_finished else None


async def wait(
    cluster: Cluster,
    name: str,
    *,
    goal: str,
    timeout_seconds: float | None,
    say: Callable[[str], None],
    speaker: Speaker,
) -> Exit:
    """Wait, saying each phase once; a CliError with code 1 says why the answer is no."""
    started = time.monotonic()
    job = (await cluster.get_job(name)).printable
    uid, shown, away_since = job.uid, "", 0.0
    while True:
        said = "  ".join(one for one in (job.phase or "not seen by the operator yet", job.reason) if one)
        if said != shown:
            say(f"{words.clock(time.time())}  {name}  {said}")
            shown = said
        decided = verdict(job, goal)
        if decided is Exit.YES:
            return Exit.YES
        if decided is not None:
            raise _no(f"{name} ended as {job.phase}{_cause(job)}", name, speaker)
        elapsed = time.monotonic() - started
        if timeout_seconds is not None and elapsed >= timeout_seconds:
            limit = words.duration(timeout_seconds)
            raise _no(f"{name} is {job.phase or 'not seen'} after {limit}{_cause(job)}", name, speaker)
        remaining = POLL_SECONDS if timeout_seconds is None else timeout_seconds - elapsed
        await asyncio.sleep(min(POLL_SECONDS, remaining))
        try:
            latest = await cluster.find_job(name)
        except refusals.TransientError:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > TOLERATED_OUTAGE_SECONDS:
                raise
            continue
        away_since = 0.0
        if latest is None:
            raise CliError(f"{name} was deleted", code=Exit.NO)
        if latest.uid != uid:
            raise CliError(f"{name} was deleted and made anew", code=Exit.NO)
        job = latest.printable


def _cause(job: Job) -> str:
    said = job.message or job.reason
    return f": {said}" if said else ""


def _no(message: str, name: str, speaker: Speaker) -> CliError:
    return CliError(message, code=Exit.NO, hint=speaker.command("stowplan", "explain", name))
