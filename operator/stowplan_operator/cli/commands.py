"""What each command does once its flags are read: fetch, decide, print; the exit code is the answer.

Imported by ``command_line`` only when a command runs, so that ``--help`` does not pay for the Kubernetes client.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rich.text import Text

from stowplan_operator.api import Phase
from stowplan_operator.cli import details, documents, explaining, listing, logs, output, pulse, rights, waiting, words
from stowplan_operator.cli.client import Cluster, Target
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.model import Job
from stowplan_operator.cli.words import Speaker

_INTERRUPTED = 130
_ACTIVE = (Phase.STARTING, Phase.RUNNING, Phase.RESTARTING)


def execute(target: Target, work: Callable[[Cluster, Speaker], Awaitable[Exit]]) -> int:
    """Connect, do the work, and print what went wrong to stderr; the exit code."""

    async def connected() -> Exit:
        async with Cluster.open(target) as cluster:
            return await work(cluster, speaker_of(target))

    return run(connected())


def run(work: Coroutine[Any, Any, Exit]) -> int:
    """Do the work, and print what went wrong to stderr; the exit code."""
    try:
        return asyncio.run(work)
    except CliError as error:
        remark(error.message, prefix="Error: ", style="bold red")
        if error.hint:
            remark(error.hint, prefix="  ", style="")
        return error.code
    except KeyboardInterrupt:
        return _INTERRUPTED


def speaker_of(target: Target) -> Speaker:
    """This moment, and the flags that the user gave."""
    return Speaker(now=time.time(), cluster_flags=target.cluster_flags, namespace=target.namespace)


def remark(message: str, *, prefix: str = "", style: str = "dim") -> None:
    """A line on stderr."""
    console = output.make_console(stderr=True)
    body = Text.assemble((prefix, style if prefix.strip() else ""), (message, "" if prefix else style))
    console.print(body, soft_wrap=True)


def print_document(value: Any, form: str) -> None:
    """The JSON or YAML form of an answer, on stdout."""
    sys.stdout.write(output.serialise(value, form))


async def list_jobs(
    cluster: Cluster, speaker: Speaker, *, form: str | None, all_namespaces: bool, selector: str
) -> Exit:
    """Print the table of jobs."""
    jobs = await cluster.list_jobs(None if all_namespaces else cluster.namespace, selector=selector)
    if form in ("json", "yaml"):
        print_document(documents.job_list(jobs), form)
        return Exit.YES
    if not jobs:
        where = "" if all_namespaces else f" in namespace {cluster.namespace}"
        remark(f"No TrainingJobs found{where}.", style="")
        return Exit.YES
    console = output.make_console()
    table = listing.show(
        [job.printable for job in jobs],
        speaker,
        namespaces=all_namespaces,
        wide=form == "wide",
        width=console.width if console.is_terminal and form != "wide" else sys.maxsize,
    )
    output.write(table, wrap=False)
    return Exit.YES


async def get_job(cluster: Cluster, speaker: Speaker, *, name: str, form: str | None) -> Exit:
    """Print everything known about one job; events that may not be read are left out and that is said."""
    job = await cluster.get_job(name)
    events, note = None, ""
    try:
        events = await cluster.job_events(job)
    except CliError as error:
        note = error.message
    if form:
        print_document(documents.job_details(job, events), form)
    else:
        output.write(details.show(job.printable, events, speaker, events_note=note))
    return Exit.YES


async def explain_job(
    cluster: Cluster, speaker: Speaker, *, name: str, form: str | None, operator_namespace: str
) -> Exit:
    """Print what the job does and why; yes when it has its place or succeeded."""
    job = (await cluster.get_job(name)).printable
    said = explaining.explain(job, speaker, pulse=await pulse.take(cluster, operator_namespace, speaker))
    said = await rights.within(said, cluster, speaker, operator_namespace=operator_namespace)
    print_explanation(job, said, speaker, form=form)
    return said.answer.exit


def print_explanation(job: Job, said: explaining.Explanation, speaker: Speaker, *, form: str | None) -> None:
    """What the job's status answers."""
    if form:
        print_document(documents.explanation(job, said), form)
        return
    output.write(explaining.show(job, said, speaker))
    output.write(explaining.show_next(said), wrap=False)


async def print_logs(cluster: Cluster, speaker: Speaker, *, name: str, request: logs.Request) -> Exit:
    """Print the log of one rank."""

    def write(piece: bytes) -> None:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    return await logs.print_logs(cluster, name, request, logs.Printer(write=write, say=remark), speaker)


async def suspend_job(cluster: Cluster, speaker: Speaker, *, name: str) -> Exit:
    """Set ``spec.suspend``; suspending twice is the same as once."""
    job = await cluster.get_job(name)
    _refuse_finished(job, "suspended", speaker)
    wait = speaker.command("stowplan", "wait", name, "--for", Phase.SUSPENDED)
    if not job.suspend:
        await cluster.suspend_job(job, suspend=True)
    elif job.phase == Phase.SUSPENDED:
        _say(f"{name} is suspended already.", speaker.command("stowplan", "resume", name))
        return Exit.YES
    before = "will be suspended" if not job.suspend else "is being suspended already"
    if job.phase in _ACTIVE:
        grace = words.duration(job.grace_period_seconds)
        after = f"its pods get up to {grace} to write a checkpoint, then its accelerators are free"
    else:
        after = "it has no pods, so nothing is stopped, and it is not planned until it is resumed"
    _say(f"{name} {before}: {after}.", wait)
    return Exit.YES


async def resume_job(cluster: Cluster, speaker: Speaker, *, name: str) -> Exit:
    """Clear ``spec.suspend``; resuming twice is the same as once."""
    job = await cluster.get_job(name)
    _refuse_finished(job, "resumed", speaker)
    if not job.suspend:
        state = f"it is {job.phase}" if job.phase and job.phase != Phase.SUSPENDED else "it will be planned again"
        _say(f"{name} is not suspended; {state}.", speaker.command("stowplan", "explain", name))
        return Exit.YES
    await cluster.suspend_job(job, suspend=False)
    had_run = bool(job.status.get("attempt"))
    after = " and continues from its last checkpoint" if had_run and job.spec.get("checkpoint") else ""
    stopping = " Pods that were told to stop already are started anew." if job.phase in _ACTIVE else ""
    _say(
        f"{name} will be planned again: it starts when all its pods have room{after}.{stopping}",
        speaker.command("stowplan", "wait", name, "--for", Phase.RUNNING),
    )
    return Exit.YES


def _refuse_finished(job: Job, done: str, speaker: Speaker) -> None:
    if job.is_finished:
        raise CliError(
            f"{job.name} has {job.phase.lower()}; a job that ended cannot be {done}",
            code=Exit.NO,
            hint=speaker.command("stowplan", "get", job.name),
        )


def _say(sentence: str, command: str) -> None:
    output.write(Text(sentence))
    output.write(Text.assemble(("  Next  ", "dim"), (command, "cyan")), wrap=False)


async def wait_for_job(
    cluster: Cluster, speaker: Speaker, *, name: str, goal: str, timeout_seconds: float | None
) -> Exit:
    """Wait for a phase."""

    def say(line: str) -> None:
        output.write(Text(line), wrap=False)
        sys.stdout.flush()

    return await waiting.wait(cluster, name, goal=goal, timeout_seconds=timeout_seconds, say=say, speaker=speaker)
