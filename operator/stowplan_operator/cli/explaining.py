"""``explain``: what a job does and why, from its status alone, in words and as data.

``explain`` decides what is said; ``show`` lays it out. Both are pure: the moment comes with the Speaker.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from stowplan_operator import api, wording
from stowplan_operator.api import Condition, Phase
from stowplan_operator.cli import outlook, output, parts, reasons, words
from stowplan_operator.cli.client import OPERATOR_SELECTOR
from stowplan_operator.cli.exits import Exit
from stowplan_operator.cli.model import Job, mapping, number, seconds_of, text
from stowplan_operator.cli.pulse import Pulse
from stowplan_operator.cli.words import Speaker

_EXPECTED_WITHIN_SECONDS = 15
_PLACED = "Placed"
_TAIL_LINES = 12
DEEP = "--deep"


class Answer(enum.StrEnum):
    """What the job does; the values are part of the JSON form."""

    UNSEEN = "unseen"
    WAITS = "waits"
    SUSPENDED = "suspended"
    STARTS = "starts"
    RUNS = "runs"
    RESTARTS = "restarts"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def exit(self) -> Exit:
        """Yes for a job that has its place or has succeeded, no for one that waits or failed."""
        return Exit.YES if self in (Answer.STARTS, Answer.RUNS, Answer.SUCCEEDED) else Exit.NO


_ANSWERS: dict[str, Answer] = {
    Phase.PENDING: Answer.WAITS,
    Phase.STARTING: Answer.STARTS,
    Phase.RUNNING: Answer.RUNS,
    Phase.RESTARTING: Answer.RESTARTS,
    Phase.SUSPENDED: Answer.SUSPENDED,
    Phase.SUCCEEDED: Answer.SUCCEEDED,
    Phase.FAILED: Answer.FAILED,
}


_WITHOUT_PLACE = (Answer.WAITS, Answer.RESTARTS, Answer.SUSPENDED)


@dataclass(frozen=True, slots=True)
class Next:
    """A command to run next, and what it shows or does."""

    command: str
    shows: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is said about a job; ``since`` is when this began, ``seconds`` how long ago that is."""

    answer: Answer
    headline: str
    reason: str
    message: str
    meaning: str
    since: str
    seconds: int | None
    notes: tuple[str, ...]
    next: tuple[Next, ...]
    pulse: Pulse | None = None


def explain(job: Job, speaker: Speaker, *, pulse: Pulse | None = None) -> Explanation:
    """What the job does, why, and which command helps next; ``pulse`` tells whether the operator lives."""
    answer = _ANSWERS.get(job.phase, Answer.UNSEEN)
    reason, message = job.reason, job.message
    since = _since(job, answer)
    elapsed = speaker.since(since)
    queue = text(job.decision, "numbers", api.QUEUE_TO_MEND)
    known = reasons.meaning(reason, queue_to_mend=queue) if answer in _WITHOUT_PLACE else None
    if answer is Answer.UNSEEN:
        message = _why_unseen(job, elapsed, pulse)
    return Explanation(
        answer=answer,
        headline=_headline(job, answer, reason, elapsed),
        reason=reason,
        message=message,
        meaning=known.text if known else "",
        since=since,
        seconds=None if elapsed is None else int(elapsed),
        notes=tuple(_notes(job, pulse)),
        next=tuple(_next(job, answer, known, speaker)),
        pulse=pulse,
    )


def _is_decided(job: Job, answer: Answer) -> bool:
    """Whether the allocator's last word is about the state that the job is in now."""
    decided = text(job.decision, "reason")
    return decided == job.reason if answer in _WITHOUT_PLACE else decided == _PLACED


def _since(job: Job, answer: Answer) -> str:
    status = job.status
    times = {
        Answer.WAITS: text(job.condition(Condition.ADMITTED), "lastTransitionTime"),
        Answer.SUSPENDED: text(job.condition(Condition.SUSPENDED), "lastTransitionTime"),
        Answer.STARTS: text(status, "placement", "plannedAt"),
        Answer.RUNS: text(job.condition(Condition.PODS_READY), "lastTransitionTime") or text(status, "startTime"),
        Answer.RESTARTS: text(job.condition(Condition.RESTARTING), "lastTransitionTime"),
        Answer.SUCCEEDED: text(status, "completionTime"),
        Answer.FAILED: text(status, "completionTime"),
    }
    created = text(job.meta, "creationTimestamp") if answer in (Answer.WAITS, Answer.UNSEEN) else ""
    return times.get(answer) or created


def _headline(job: Job, answer: Answer, reason: str, elapsed: float | None) -> str:
    lasting = f" for {words.duration(elapsed)}" if elapsed is not None else ""
    ago = f" {words.duration(elapsed)} ago" if elapsed is not None else ""
    why = f": {reason}" if reason else ""
    ready = text(job.status, "ready").replace("/", " of ")
    fraction = parts.fraction_done(job)
    done = f", {int(fraction * 100)}% done" if fraction is not None else ""
    match answer:
        case Answer.UNSEEN:
            return f"{job.name} has not been seen by the operator yet"
        case Answer.WAITS:
            return f"{job.name} has been waiting{lasting}{why}"
        case Answer.SUSPENDED:
            return f"{job.name} has been suspended{lasting}"
        case Answer.STARTS:
            return f"{job.name} is starting: " + (f"{ready} pods are ready" if ready else reason or "pods are made")
        case Answer.RUNS:
            return f"{job.name} has been running{lasting}{done}"
        case Answer.RESTARTS:
            return f"{job.name} is restarting{why}"
        case Answer.SUCCEEDED:
            took = _took(job)
            return f"{job.name} succeeded{ago}" + (f", {words.duration(took)} after its start" if took else "")
    return f"{job.name} failed{ago}{why}"


def _took(job: Job) -> float | None:
    start, end = seconds_of(text(job.status, "startTime")), seconds_of(text(job.status, "completionTime"))
    return None if start is None or end is None else end - start


def _why_unseen(job: Job, elapsed: float | None, pulse: Pulse | None) -> str:
    if elapsed is not None and elapsed <= _EXPECTED_WITHIN_SECONDS:
        return f"It was created {words.duration(elapsed)} ago; the operator needs a moment to look at it."
    age = f"It was created {words.duration(elapsed)} ago, but has no status. " if elapsed is not None else ""
    if pulse is None:
        return f"{age}Either the operator is not running, or it does not watch the namespace {job.namespace}."
    if pulse.is_silent:
        return f"{age}The operator is not running."
    return f"{age}The operator runs, but does not watch the namespace {job.namespace}, or has more to do than it can."


def _notes(job: Job, pulse: Pulse | None) -> Iterator[str]:
    if pulse is not None and pulse.is_silent and not job.is_finished:
        yield pulse.sentence
    if job.is_deleting:
        yield "It is being deleted; its pods go with it."
    if job.is_outdated:
        yield "The spec has changed since the operator last looked; what follows speaks of the old one."
    if job.suspend and job.phase and job.phase != Phase.SUSPENDED and not job.is_finished:
        grace = words.duration(job.grace_period_seconds)
        yield f"Suspension was asked for: its pods get up to {grace} to write a checkpoint."
    if not job.suspend and job.phase == Phase.SUSPENDED:
        yield "It was resumed; the operator has not planned it again yet."
    if job.holds(Condition.TELEMETRY_STALE):
        why = text(job.condition(Condition.TELEMETRY_STALE), "message")
        yield f"GPU telemetry is stale, so sick GPUs are not seen{f': {why}' if why else '.'}"
    if job.holds(Condition.DEADLINE_AT_RISK):
        why = text(job.condition(Condition.DEADLINE_AT_RISK), "message")
        yield f"Its deadline is at risk: {why}."
    if unknown := text(job.status, "progress", "message"):
        yield unknown[:1].upper() + unknown[1:]


def _next(job: Job, answer: Answer, known: reasons.Meaning | None, speaker: Speaker) -> Iterator[Next]:
    last = mapping(job.status, "lastFailure")
    rank, attempt = number(last, "rank"), number(last, "attempt")
    logs = ["stowplan", "logs", job.name]
    failed_logs = [*logs, *(("--rank", str(rank)) if rank is not None else ())]
    failed_logs += ["--attempt", str(attempt)] if attempt is not None else []
    wait = Next(speaker.command("stowplan", "wait", job.name, "--for", "Running"), "returns when it runs")
    if known:
        yield Next(speaker.command(*(word.format(job=job.name) for word in known.command)), known.shows)
    match answer:
        case Answer.UNSEEN:
            command = speaker.command("get", "pods", "-A", "-l", OPERATOR_SELECTOR)
            yield Next(command, "whether the operator runs and is ready")
        case Answer.WAITS if not known or "does not help" not in known.text:
            yield wait
        case Answer.STARTS:
            command = speaker.command("get", "pods", "-l", f"{api.LABEL_JOB}={job.name}", "-o", "wide")
            yield Next(command, "its pods, and which are not ready")
            yield wait
        case Answer.RUNS:
            yield Next(speaker.command(*logs, "-f"), "what rank 0 prints")
        case Answer.RESTARTS:
            if last:
                yield Next(speaker.command(*failed_logs), "what the failed rank printed")
            yield wait
        case Answer.SUCCEEDED:
            yield Next(speaker.command(*logs), "what rank 0 printed")
        case Answer.FAILED:
            yield Next(speaker.command("stowplan", "get", job.name), "its attempts and events")
            yield Next(speaker.command(*failed_logs), "what the failed rank printed" if last else "what rank 0 printed")
    if answer is Answer.WAITS and _is_decided(job, answer) and job.reason != "Misconfigured":
        deep = speaker.command("stowplan", "explain", job.name, DEEP)
        yield Next(deep, "the smallest changes that would start it now")


def show(job: Job, said: Explanation, speaker: Speaker) -> RenderableType:
    """The explanation for people, without its last lines."""
    pairs = [(label, value) for label, value in _facts(job, said, speaker) if value]
    headline = Text(said.headline, style="bold")
    if said.reason:
        headline.highlight_words([said.reason], style=output.phase_style(job.phase))
    return Group(headline, Text(), output.indented(output.facts(pairs)))


def show_next(said: Explanation) -> Text:
    """The commands that help next, one a line, to be printed without wrapping so that they can be copied."""
    longest = max((len(one.command) for one in said.next), default=0)
    lines = [
        Text.assemble(
            ("  Next  " if index == 0 else "        ", "dim"),
            (one.command, "cyan"),
            (f"{' ' * (min(longest, 60) - len(one.command))}  # {one.shows}", "dim"),
        )
        for index, one in enumerate(said.next)
    ]
    return Text("\n").join([Text(), *lines])


def _facts(job: Job, said: Explanation, speaker: Speaker) -> Iterator[tuple[str, RenderableType]]:
    for note in said.notes:
        yield "Note", note
    ready = text(job.status, "ready").replace("/", " of ")
    if said.answer in (Answer.STARTS, Answer.RUNS):
        yield "State", said.message or (f"{ready} pods run" if ready else said.reason)
    else:
        yield "Why", said.message or said.reason
    yield "Means", said.meaning
    if said.answer in (Answer.STARTS, Answer.RUNS):
        yield from _where(job)
        yield "Progress", parts.progress(job, speaker) or ""
        yield "Checkpoint", parts.checkpoint(job, speaker)
        yield from outlook.of_placed(job, speaker)
    else:
        yield "Asks for", parts.asks_for(job)
    yield "Sizes", parts.sizes(job)
    if said.answer is Answer.SUCCEEDED:
        yield "Result", parts.progress(job, speaker) or ""
    if _is_decided(job, said.answer) and not job.is_finished:
        yield from _decision(job, said, speaker)
    yield "Used", parts.gpu_hours(job) if job.is_finished else ""
    yield "Restarts", parts.restarts(job)
    if said.answer is not Answer.SUCCEEDED and (failed := parts.failure(job, speaker)):
        last = mapping(job.status, "lastFailure")
        yield "What failed" if said.answer is Answer.FAILED else "Last failure", failed
        cause = text(last, "message")
        yield "", cause if cause != said.message else ""
        tail = text(last, "logTail").strip("\n")
        if tail and said.answer in (Answer.RESTARTS, Answer.FAILED):
            yield "Log tail", output.log_lines(tail, most=_TAIL_LINES)


def _decision(job: Job, said: Explanation, speaker: Speaker) -> Iterator[tuple[str, RenderableType]]:
    decision = job.decision
    numbers = mapping(decision, "numbers")
    # The API server sorts keys; amounts come before the names of products and domains.
    keys = sorted(numbers, key=lambda key: not key.isidentifier())
    yield "Numbers", output.pairs((words.phrase(key), text(numbers, key)) for key in keys) if keys else ""
    blockers = parts.names(decision, "blockers")
    yield "Blocked by", wording.some(blockers, most=5)
    if said.answer in _WITHOUT_PLACE:
        yield from outlook.of_waiting(job)
    yield "Proof", parts.proof(decision)
    since, updated = speaker.since(text(decision, "since")), speaker.ago(text(decision, "lastUpdated"))
    if said.answer in _WITHOUT_PLACE and since is not None:
        yield "Decided", f"{said.reason} for {words.duration(since)}, numbers last changed {updated or 'then'}"
    else:
        yield "Decided", updated


def _where(job: Job) -> Iterator[tuple[str, RenderableType]]:
    if where := parts.place(job):
        yield "Where", where
        rows = [(name, ("rank " if ranks.isdecimal() else "ranks ") + ranks) for name, ranks in parts.node_rows(job)]
        yield "", output.pairs(rows)
    decided = text(job.decision, "message")
    if decided and decided != job.message:
        yield "Why there", decided
