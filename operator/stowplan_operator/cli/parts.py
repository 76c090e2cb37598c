"""Sentences about parts of a job that several commands show: what it asks for, where it is, how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from stowplan_operator import wording
from stowplan_operator.api import Phase
from stowplan_operator.cli import output, words
from stowplan_operator.cli.model import Job, mapping, number, numbers, objects, text
from stowplan_operator.cli.words import Speaker

_NODES_SHOWN = 12

PROOFS = {
    "Optimal": "Optimal: the solver proved that no other plan for the whole cluster is better",
    "Feasible": "Feasible, not proved best: the time limit ended the search",
    "Greedy": "Greedy: planned by rule, without a proof that no better plan exists",
    "NothingToDo": "No solving was needed",
}


def names(source: Mapping[str, Any], key: str) -> list[str]:
    """The texts in the list at ``key``; empty where it is missing."""
    value = source.get(key)
    return [str(one) for one in value if one] if isinstance(value, list) else []


def asks_for(job: Job) -> str:
    """What the job wants, in one line."""
    amounts = mapping(job.spec, "resourcesPerNode")
    each = ", ".join(f"{name} {text(amounts, name)}" for name in sorted(amounts, key=lambda one: ("/" not in one, one)))
    gpus = number(job.status, "gpus")
    line = words.count(job.num_nodes, "pod") + (f" × ({each})" if each else "")
    if gpus and not mapping(job.spec, "elastic"):
        line += f" = {words.count(gpus, 'GPU')}"
    if products := [text(one, "product") for one in objects(job.spec, "accelerators")]:
        line += f"; {' or '.join(products)}"
    topology = mapping(job.spec, "topology")
    if level := text(topology, "level"):
        size = number(topology, "sliceSize")
        together = f"each {words.count(size, 'pod')}" if size else "all"
        line += f"; {together} in one {level} ({(text(topology, 'mode') or 'Preferred').lower()})"
    return line


def sizes(job: Job) -> str:
    """Which sizes an elastic job may have, and which it has; empty for any other."""
    elastic = mapping(job.spec, "elastic")
    if not elastic:
        return ""
    allowed = ", ".join(map(str, numbers(elastic, "allowedNodes")))
    line = allowed or f"{number(elastic, 'minNodes') or 1} to {job.most_nodes}"
    line += f" pods, {job.num_nodes} preferred"
    now = text(job.status, "ready").partition("/")[2]
    if not mapping(job.status, "placement") or job.is_finished:
        return line
    gpus = number(job.status, "gpus")
    return f"{line}; now {now}" + (f", {words.count(gpus, 'GPU')}" if gpus else "")


def place(job: Job) -> str:
    """Product and domains of the placement; empty where there is none."""
    placement = mapping(job.status, "placement")
    nodes = objects(placement, "nodes")
    if not nodes:
        return ""
    named = names(placement, "domains")
    where = words.count(len(nodes), "node")
    if product := text(placement, "product"):
        where += f" with {product}"
    if named:
        where += f" in {wording.some(named, most=4)}"
    return where


def node_rows(job: Job) -> list[tuple[str, str]]:
    """Nodes of the placement with their ranks; for long ones the rest in a last row."""
    nodes = objects(mapping(job.status, "placement"), "nodes")
    rows = [(text(one, "name") or words.UNKNOWN, text(one, "ranks") or words.UNKNOWN) for one in nodes[:_NODES_SHOWN]]
    if len(nodes) > _NODES_SHOWN:
        rows.append((f"… {len(nodes) - _NODES_SHOWN} more", "-o json lists all"))
    return rows


def fraction_done(job: Job) -> float | None:
    """Share of the steps that are done; None where it is unknown."""
    progress = mapping(job.status, "progress")
    step, total = number(progress, "step"), number(progress, "totalSteps")
    if step is not None and total:
        return step / total
    try:
        return float(text(progress, "percent").rstrip("% ")) / 100
    except ValueError:
        return None


def progress(job: Job, speaker: Speaker) -> Text | None:
    """Bar, step, loss, speed and time left; None where nothing was reported."""
    reported = mapping(job.status, "progress")
    pieces: list[str] = []
    step, total = number(reported, "step"), number(reported, "totalSteps")
    if step is not None:
        pieces.append(f"step {step} of {total}" if total else f"step {step}")
    for key, form in (("loss", "loss {}"), ("accuracy", "accuracy {}"), ("samplesPerSecond", "{} samples/s")):
        if value := text(reported, key):
            pieces.append(form.format(value))
    if (eta := text(job.status, "eta")) and job.phase == Phase.RUNNING:
        pieces.append(f"{eta} left")
    if not job.is_finished and (age := speaker.since(text(reported, "lastReportTime"))) is not None and age > 60:
        pieces.append(f"last report {words.duration(age)} ago")
    fraction = fraction_done(job)
    if fraction is None and not pieces:
        return None
    line = Text()
    if fraction is not None:
        line.append_text(output.progress_bar(fraction)).append(f" {int(fraction * 100)}%  ")
    return line.append(", ".join(pieces))


def checkpoint(job: Job, speaker: Speaker) -> str:
    """The last committed checkpoint; empty where none was reported."""
    reported = mapping(job.status, "progress")
    step, ago = number(reported, "checkpointStep"), speaker.ago(text(reported, "checkpointTime"))
    return "" if step is None else f"step {step}" + (f", {ago}" if ago else "")


def restarts(job: Job) -> str:
    """Restarts used and allowed, and preemptions; empty for a job that had none, and did not fail."""
    used = number(job.status, "restarts") or 0
    allowed = number(job.spec, "failurePolicy", "maxRestarts")
    uncharged = number(job.status, "infrastructureRestarts") or 0
    preempted = number(job.status, "preemptions") or 0
    if not used and not uncharged and not preempted and job.phase != Phase.FAILED:
        return ""
    line = f"{used} of {allowed} allowed" if allowed is not None else str(used)
    line += f", {uncharged} more for faults of the infrastructure" if uncharged else ""
    return line + (f", preempted {preempted} times" if preempted else "")


def failure(job: Job, speaker: Speaker) -> str:
    """Which rank failed, where, when and how; empty where no failure is known."""
    last = mapping(job.status, "lastFailure")
    if not last:
        return ""
    rank, attempt = number(last, "rank"), number(last, "attempt")
    who = f"rank {rank}" if rank is not None else text(last, "pod") or "a pod"
    if node := text(last, "node"):
        who += f" on {node}"
    if attempt is not None:
        who += f", attempt {attempt}"
    if ago := speaker.ago(text(last, "time")):
        who += f", {ago}"
    step = number(last, "step")
    how = [text(last, "reason"), *_end(last), f"last reported step {step}" if step is not None else ""]
    return f"{who}: {', '.join(one for one in how if one) or 'cause unknown'}"


def _end(failure: Mapping[str, Any]) -> list[str]:
    """Exit code, signal and XID in words; empty texts for what is not known."""
    xid = number(failure, "xid")
    return [words.exit_of(number(failure, "exitCode"), number(failure, "signal")), f"XID {xid}" if xid else ""]


def cause(attempt: Mapping[str, Any]) -> str:
    """Why an attempt of ``status.history`` ended: its reason, rank, node and how the rank ended."""
    rank, node = number(attempt, "rank"), text(attempt, "node")
    where = " on ".join(one for one in (f"rank {rank}" if rank is not None else "", node) if one)
    return ", ".join(one for one in (text(attempt, "reason"), where, *_end(attempt)) if one)


def steps(attempt: Mapping[str, Any]) -> str:
    """The steps between which an attempt of ``status.history`` ran; empty where it reported none."""
    first, last = number(attempt, "firstStep"), number(attempt, "lastStep")
    return "" if first is None or last is None else f"{first} to {last}"


def proof(decision: Mapping[str, Any]) -> str:
    """What is proved about the plan, in one sentence; empty where there is no certificate."""
    certificate = mapping(decision, "certificate")
    status = text(certificate, "status")
    if not status:
        return ""
    said = PROOFS.get(status, status)
    gap, bound = text(certificate, "gap"), text(certificate, "bound")
    if status == "Feasible" and gap:
        said += f"; the best plan can be at most {words.percent(gap)} better"
    numbers = [
        f"gap {words.percent(gap)}" if gap else "",
        f"bound {bound}" if bound else "",
        f"{seconds} s" if (seconds := text(certificate, "seconds")) else "",
        text(certificate, "strategy"),
    ]
    shown = ", ".join(one for one in numbers if one)
    said += f" ({shown})" if shown and status != "NothingToDo" else ""
    return f"{said}; {note}" if (note := text(certificate, "note")) else said


def gpu_hours(job: Job) -> str:
    """GPU time used by all attempts; empty where none is known."""
    seconds = number(job.status, "gpuSeconds")
    return words.gpu_time(seconds) if seconds else ""
