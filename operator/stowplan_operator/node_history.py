"""What has befallen nodes: XID changes seen, and failures of gangs. Pure; ``historian`` keeps it in a ConfigMap.

The XID metric is a gauge of the last code, so only changes tell when something happened. A change is written here
before anything is done about it, with the time at which it was seen; what is done follows from that time and the
start of the attempt, so that a crash in between neither loses the deed nor repeats it. Failures are taken over from
the jobs' own statuses, where they stand for certain, at any later time.

What must stay true: a code that was there before anybody watched, or of a GPU whose entry was dropped for want of
room, has no time (0) and moves nothing; the text stays below ``MAX_BYTES``, and the oldest goes first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from stowplan_operator import health, views, xids
from stowplan_operator.views import NodeView, Telemetry, XidSeen

# Of the 1 MiB that a ConfigMap may have; an entry takes about 90 bytes.
MAX_BYTES = 192 * 1024
KEEP_SECONDS = 7 * 86_400
FORGET_ABSENT_SECONDS = 86_400
REPEATED_WITHIN_SECONDS = 86_400
_CODES_PER_GPU = 4
_FAILURES_PER_NODE = 8
_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class NodeFailure:
    """A gang's failure that its node, or a GPU there, may have caused; ``at`` in Unix seconds, ``xid`` 0 for none."""

    at: int
    job: str
    reason: str
    xid: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class NodeHistory:
    """By node name. ``watched_since`` (Unix seconds) is 0 before the first reading; see the module for ``is_whole``."""

    watched_since: int = 0
    is_whole: bool = True
    xids: Mapping[str, tuple[XidSeen, ...]] = dataclasses.field(default_factory=dict)
    failures: Mapping[str, tuple[NodeFailure, ...]] = dataclasses.field(default_factory=dict)


def observe(
    history: NodeHistory, nodes: Iterable[NodeView], telemetry: Telemetry, *, our_pods: Collection[str]
) -> NodeHistory:
    """The history with what ``telemetry`` shows of XIDs; ``our_pods`` (namespace/name) are those that may be blamed."""
    if not telemetry.configured or not telemetry.read_at:
        return history
    read_at = int(telemetry.read_at)
    can_tell = bool(history.watched_since) and history.is_whole
    xids = {}
    for node in nodes:
        old = history.xids.get(node.name, ())
        readings = health.readings_of(node, telemetry)
        if not old and not any(reading.xid for reading in readings):
            continue
        entries = _of_absent(old, readings, node, read_at)
        for reading in readings:
            known = [entry for entry in old if entry.gpu == (reading.uuid or reading.index)]
            if not health.is_of_this_life(reading, node, telemetry):
                entries += known
            elif reading.xid:
                entries += _changed(known, reading, read_at if can_tell or known else 0, our_pods)
        if entries:
            xids[node.name] = tuple(entries)
    return dataclasses.replace(history, watched_since=history.watched_since or read_at, xids=xids)


def _of_absent(
    old: Iterable[XidSeen], readings: Iterable[views.GpuReading], node: NodeView, read_at: int
) -> list[XidSeen]:
    """Entries of GPUs that report nothing: kept for a day, or until the node has come back."""
    present = {reading.uuid or reading.index for reading in readings}
    return [
        entry
        for entry in old
        if entry.gpu not in present
        and read_at - entry.at < FORGET_ABSENT_SECONDS
        and not (node.ready and node.ready_since > entry.at)
    ]


def _changed(known: list[XidSeen], reading: views.GpuReading, at: int, our_pods: Collection[str]) -> list[XidSeen]:
    """The entries of one GPU, its current code last."""
    if known and known[-1].code == reading.xid:
        return known
    gpu = reading.uuid or reading.index
    pod = reading.pod if reading.pod in our_pods else ""
    new = XidSeen(gpu=gpu, index=reading.index, code=reading.xid, at=at, pod=pod)
    return [*(entry for entry in known if entry.code != reading.xid), new][-_CODES_PER_GPU:]


def absorb(
    history: NodeHistory, jobs: Iterable[views.JobView], *, reasons: Collection[str], now_seconds: float
) -> NodeHistory:
    """The history with the jobs' last failures: those with an XID, and those of ``reasons`` (the node's faults)."""
    oldest = now_seconds - KEEP_SECONDS
    failures = {
        node: recent
        for node, entries in history.failures.items()
        if (recent := tuple(entry for entry in entries if entry.at > oldest))
    }
    for job in jobs:
        last = job.status.get("lastFailure") or {}
        node, xid = last.get("node"), int(last.get("xid", 0))
        if not node or not (xid or last.get("reason") in reasons):
            continue
        new = NodeFailure(at=int(views.parse_time(last.get("time"))), job=job.uid, reason=last["reason"], xid=xid)
        others = tuple(one for one in failures.get(node, ()) if (one.at, one.job) != (new.at, new.job))
        is_old_news = len(others) == _FAILURES_PER_NODE and new.at < min(one.at for one in others)
        if new.at > oldest and not is_old_news:
            merged = sorted((*others, new), key=lambda one: (one.at, one.job))
            failures[node] = tuple(merged[-_FAILURES_PER_NODE:])
    return dataclasses.replace(history, failures=failures)


def repeated(
    history: NodeHistory, overrides: Mapping[int, xids.Action], *, now_seconds: float
) -> dict[str, frozenset[str]]:
    """By the UID of a job, nodes where applications failed on a GPU at least twice within a day, its own among them.

    Only jobs that it has hit keep away: a program with an error of its own must not take nodes from all others.
    """
    found: dict[str, frozenset[str]] = {}
    for node, entries in history.failures.items():
        recent = [
            one
            for one in entries
            if one.xid
            and xids.action_of(one.xid, overrides) is xids.Action.RESTART_APP
            and now_seconds - one.at < REPEATED_WITHIN_SECONDS
        ]
        for job in {one.job for one in recent} if len(recent) >= 2 else ():
            found[job] = found.get(job, frozenset()) | {node}
    return found


def dump(history: NodeHistory) -> str:
    """As text of at most ``MAX_BYTES``; what has no room is left out, the oldest first, and ``is_whole`` says so."""
    history = dataclasses.replace(history, is_whole=True)
    while len(text := json.dumps(_to_json(history), separators=(",", ":"))) > MAX_BYTES:
        history = _without_oldest(history)
    return text


def _without_oldest(history: NodeHistory) -> NodeHistory:
    """A tenth less: of failures while there are any, then of XIDs."""
    if history.failures:
        return dataclasses.replace(history, failures=_newest(history.failures))
    return dataclasses.replace(history, xids=_newest(history.xids), is_whole=False)


def _newest[Entry: (XidSeen, NodeFailure)](by_node: Mapping[str, tuple[Entry, ...]]) -> dict[str, tuple[Entry, ...]]:
    """All but the oldest tenth, at least one less; of equal age the last by name goes first."""
    order = sorted((-one.at, node, place) for node, entries in by_node.items() for place, one in enumerate(entries))
    kept = {(node, place) for _, node, place in order[: len(order) * 9 // 10]}
    newest = {
        node: tuple(one for place, one in enumerate(entries) if (node, place) in kept)
        for node, entries in by_node.items()
    }
    return {node: entries for node, entries in newest.items() if entries}


def _to_json(history: NodeHistory) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "watchedSince": history.watched_since,
        "whole": history.is_whole,
        "xids": {
            node: [[one.gpu, one.index, one.code, one.at, one.pod] for one in entries]
            for node, entries in sorted(history.xids.items())
        },
        "failures": {
            node: [[one.at, one.job, one.reason, one.xid] for one in entries]
            for node, entries in sorted(history.failures.items())
        },
    }


def load(text: str) -> NodeHistory:
    """Read what ``dump`` wrote; ValueError says what is wrong with it."""
    try:
        raw = json.loads(text)
        if raw["version"] != _VERSION:
            raise ValueError(f"version {raw['version']} is not {_VERSION}")
        return NodeHistory(
            watched_since=int(raw["watchedSince"]),
            is_whole=bool(raw["whole"]),
            xids={node: tuple(_read_xid(*row) for row in rows) for node, rows in raw["xids"].items()},
            failures={node: tuple(_read_failure(*row) for row in rows) for node, rows in raw["failures"].items()},
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is not a node history ({type(error).__name__}: {error})") from None


def _read_xid(gpu: Any, index: Any, code: Any, at: Any, pod: Any) -> XidSeen:
    return XidSeen(gpu=str(gpu), index=str(index), code=int(code), at=int(at), pod=str(pod))


def _read_failure(at: Any, job: Any, reason: Any, xid: Any) -> NodeFailure:
    return NodeFailure(at=int(at), job=str(job), reason=str(reason), xid=int(xid))
