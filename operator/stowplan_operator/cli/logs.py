"""``logs``: what one rank printed; when its pod is gone, the tail that status keeps of the last failure.

What is a log goes to stdout untouched; what we say about it goes to stderr.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stowplan_operator import kube
from stowplan_operator.cli.client import Cluster
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.model import Job, mapping, number, objects, pod_attempt, text
from stowplan_operator.cli.words import Speaker

POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to print; ``rank`` and ``attempt`` are None where the user did not say."""

    rank: int | None = None
    attempt: int | None = None
    follow: bool = False
    tail: int | None = None


@dataclass(frozen=True, slots=True)
class Printer:
    """Where log bytes and our own remarks go."""

    write: Callable[[bytes], None]
    say: Callable[[str], None]


async def print_logs(cluster: Cluster, name: str, request: Request, printer: Printer, speaker: Speaker) -> Exit:
    """Print the log; with ``follow`` also those of later attempts, until the job ends."""
    job = await cluster.get_job(name)
    rank = request.rank or 0
    if rank >= job.most_nodes:
        ranks = "only rank 0" if job.most_nodes == 1 else f"ranks 0 to {job.most_nodes - 1}"
        raise CliError(f"--rank {rank}: {name} has {ranks}", code=Exit.USAGE)
    printed = 0
    while True:
        pod = await _pod(cluster, job, rank, request, printer, after=printed)
        if pod is None:
            return Exit.YES if printed else _kept_tail(job, request, printer, speaker)
        attempt = pod_attempt(pod)
        if printed:
            printer.say(f"attempt {attempt}:")
        try:
            async for piece in cluster.pod_log(text(pod, "metadata", "name"), follow=request.follow, tail=request.tail):
                printer.write(piece)
        except kube.ApiError as error:
            if printed:
                return Exit.YES
            return _kept_tail(await cluster.get_job(name), request, printer, speaker, cause=error.message, pod=pod)
        printed = attempt
        if not request.follow or request.attempt is not None:
            return Exit.YES
        job = await cluster.get_job(name)


async def _pod(
    cluster: Cluster, job: Job, rank: int, request: Request, printer: Printer, *, after: int
) -> dict[str, Any] | None:
    """The pod to print, its container started; None where there is none and none will come. Waits with ``follow``."""
    said = ""
    while True:
        pods = await cluster.job_pods(job, rank=rank, attempt=request.attempt)
        pod = next((one for one in pods if pod_attempt(one) > after), None)
        waiting = _waiting(pod) if pod else f"{job.name} is {job.phase or 'not planned yet'}"
        if pod and not waiting:
            current = number(job.status, "attempt") or 0
            if request.attempt is None and pod_attempt(pod) < current:
                printer.say(f"attempt {current} has no pod yet; this is attempt {pod_attempt(pod)}:")
            return pod
        if not request.follow and pod:
            raise CliError(f"rank {rank} has not started: {waiting}", code=Exit.NO, hint="add -f to wait for it")
        if not request.follow or (not pod and (job.is_finished or request.attempt is not None)):
            return None
        if waiting != said and not after:
            printer.say(f"waiting for rank {rank}: {waiting}")
            said = waiting
        await asyncio.sleep(POLL_SECONDS)
        latest = await cluster.find_job(job.name)
        if latest is None or latest.uid != job.uid:
            return None
        job = latest


def _waiting(pod: dict[str, Any]) -> str:
    """Why the container of a pod has printed nothing yet; empty once it has started."""
    status = mapping(pod, "status")
    states = [mapping(one, "state") for one in objects(status, "containerStatuses")]
    if any("running" in state or "terminated" in state for state in states):
        return ""
    if text(status, "phase") in ("Succeeded", "Failed"):
        return ""
    waiting = mapping(states[0], "waiting") if states else {}
    reason = text(waiting, "reason") or text(status, "phase") or "Pending"
    message = text(waiting, "message")
    return f"{reason}: {message}" if message else reason


def _kept_tail(
    job: Job,
    request: Request,
    printer: Printer,
    speaker: Speaker,
    *,
    cause: str = "",
    pod: dict[str, Any] | None = None,
) -> Exit:
    """Print what status keeps of the last failure, if that is what was asked for; else say why there is no log."""
    last = mapping(job.status, "lastFailure")
    rank, attempt = number(last, "rank"), number(last, "attempt")
    fits = request.rank in (None, rank) and request.attempt in (None, attempt)
    name = text(pod or {}, "metadata", "name")
    gone = f"the log of {name} cannot be read ({cause})" if pod else "the pod is gone"
    if (tail := text(last, "logTail")) and fits:
        printer.say(f"{gone}; this is the tail that status keeps of rank {rank}, attempt {attempt}:")
        printer.write(tail.encode() + (b"" if tail.endswith("\n") else b"\n"))
        return Exit.YES
    if tail:
        command = speaker.command("stowplan", "logs", job.name, "--rank", str(rank), "--attempt", str(attempt))
        raise CliError(f"{gone}; status keeps a log tail of another", code=Exit.NO, hint=command)
    if not job.is_finished and not pod:
        raise CliError(
            f"{job.name} has no pod for this: it is {job.phase or 'not planned yet'}",
            code=Exit.NO,
            hint=speaker.command("stowplan", "explain", job.name),
        )
    raise CliError(f"{gone}, and status keeps no log tail", code=Exit.NO)
