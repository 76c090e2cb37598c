"""How long each job still runs, as far as anyone can say, and who says so. Pure.

In this order of trust: its own progress (steps that are left, at the pace so far), the run times of jobs like it that
succeeded, and ``activeDeadlineSeconds`` or its queue's limit, which bound the other two. Jobs are alike that are of one
namespace and size and run the same command of the same image, whatever its tag; where no such job has succeeded, those
of the same name but for numbers and random endings. Finished TrainingJobs are the history: what is deleted is
forgotten, and nothing is stored. A job that has outlasted some of them is compared with the others only.

What must stay true: where nobody knows, there is no estimate; every estimate names its basis; run times are of the
job's best product (``relativeThroughput``) and of the size that it prefers, and so is what a waiting job still needs;
of what jobs are compared by, namespaces, commands and environments, only digests are told to others.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stowplan_allocator import spread
from stowplan_operator import api, elastic, queueing, views

PROGRESS = "progress"
# One of so many runs alike may take longer than what is planned with: an outlier must not stop all backfilling.
EXCEEDED_BY = 21
# What a status says moves with the clock and the pace: it is written anew where it is off by so much of the time left.
TOLERANCE = 0.1
_LEAST_TOLERANCE_SECONDS = 60
# A hundred years: whoever seems to need longer has reported or asked for what cannot be, and nothing is known.
_LONGEST_SECONDS = 100 * 365 * 86_400
# Endings of names that tell one run from the next: numbers, dates, what generateName adds, hashes of commits.
_ENDING = re.compile(r"(-?v?[0-9]+|-[bcdfghjklmnpqrstvwxz2456789]{5}|-(?=[a-f]*[0-9])[a-f0-9]{7,40})$")
_Key = tuple[str, ...]
_Runs = Mapping[_Key, tuple[float, ...]]
_DIGEST_DIGITS = 16
_NO_LIMITS: Mapping[str, queueing.RunLimit] = {}
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that a job still has to run, from now or from its next start on; ``basis`` says what that rests on.

    ``most`` is what hardly a run like it exceeds: where another's room is kept, half of all runs would be too long.
    ``is_bound``: nothing is known but that it is ended by then. ``spread`` are quantiles of what runs like it still
    needed when they had run as long, ascending: the median is a poor guess for many jobs together.
    """

    seconds: float
    basis: str
    most: float
    is_bound: bool = False
    spread: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """What a job is compared by, the closer likeness first; ``run`` is when and how long it ran, if it succeeded."""

    version: str
    keys: tuple[_Key, _Key]
    run: tuple[float, float] | None


class History:
    """Run times of jobs that succeeded. A job is read anew only when it has changed."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._runs: _Runs = {}

    def look(self, jobs: Iterable[views.JobView]) -> None:
        """These are all jobs that there are now."""
        before, self._kinds = self._kinds, {}
        has_changed = False
        for job in jobs:
            kind = before.get(job.uid)
            is_over = api.phase_of(job.status) is api.Phase.SUCCEEDED
            version = f"over {job.resource_version}" if is_over else f"live {job.generation}"
            if kind is None or kind.version != version:
                kind = _Kind(version, _keys(job), (_ended_at(job), _ran(job)) if is_over else None)
                has_changed = has_changed or kind.run is not None
            self._kinds[job.uid] = kind
        if has_changed or any(kind.run and uid not in self._kinds for uid, kind in before.items()):
            self._runs = _by_key(kind for kind in self._kinds.values() if kind.run)

    def runs_like(self, job: views.JobView) -> tuple[float, ...]:
        """Seconds on the best product, ascending, of the latest runs that are most like the job."""
        kind = self._kinds.get(job.uid)
        keys = kind.keys if kind else _keys(job)
        return self._runs.get(keys[0]) or self._runs.get(keys[1], ())

    @property
    def runs(self) -> _Runs:
        """All runs by what jobs are compared by; never changed afterwards."""
        return self._runs


def digested(runs: _Runs) -> dict[str, tuple[float, ...]]:
    """The runs by digests of what jobs are compared by, for documents."""
    return {_digest(key): seconds for key, seconds in runs.items()}


def runs_among(runs: Mapping[str, tuple[float, ...]], job: views.JobView) -> tuple[float, ...]:
    """As ``History.runs_like``, of what a document tells."""
    closer, wider = map(_digest, _keys(job))
    return tuple(sorted(runs.get(closer) or runs.get(wider, ())))


def _digest(key: _Key) -> str:
    return hashlib.sha256(_text(key).encode()).hexdigest()[:_DIGEST_DIGITS]


def _by_key(kinds: Iterable[_Kind]) -> dict[_Key, tuple[float, ...]]:
    found: dict[_Key, list[tuple[float, float]]] = {}
    for kind in kinds:
        assert kind.run is not None, "only jobs that have succeeded are history"
        if kind.run[1] > 0:
            for key in kind.keys:
                found.setdefault(key, []).append(kind.run)
    return {key: tuple(sorted(run for _, run in sorted(runs)[-spread.RUNS_KEPT :])) for key, runs in found.items()}


def of_all(
    jobs: Iterable[tuple[views.JobView, api.TrainingJobSpec | None]],
    *,
    history: History,
    seconds_left: Mapping[str, float],
    now_seconds: float,
    queue_limits: Mapping[str, queueing.RunLimit] = _NO_LIMITS,
) -> dict[str, Estimate]:
    """Estimates by UID, of the jobs that have not ended and of which something is known.

    ``seconds_left`` is what the reported progress of running jobs says, ``queue_limits`` what queues allow, by UID.
    """
    found = {}
    for job, spec in jobs:
        if spec is not None and not api.phase_of(job.status).is_terminal:
            one = estimate(
                job,
                spec,
                runs=history.runs_like(job),
                seconds_left=seconds_left.get(job.uid),
                now_seconds=now_seconds,
                queue_limit=queue_limits.get(job.uid),
            )
            if one is not None:
                found[job.uid] = one
    return found


def estimate(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    *,
    runs: Sequence[float],
    seconds_left: float | None,
    now_seconds: float,
    queue_limit: queueing.RunLimit | None = None,
) -> Estimate | None:
    """What is known of one job; ``runs`` are the seconds that jobs like it ran, ascending; its report comes first."""
    by_steps = seconds_left
    if by_steps is None:
        by_steps = _steps_left(job.status, now_seconds=now_seconds)
    if by_steps is None:
        by_steps = _as_said(job.status, now_seconds=now_seconds)
    found = (
        Estimate(by_steps, PROGRESS, by_steps * (1 + TOLERANCE))
        if by_steps is not None and by_steps <= _LONGEST_SECONDS
        else _from_history(job, runs, now_seconds=now_seconds)
    )
    bound = _bound(job.status, spec, queue_limit, now_seconds=now_seconds)
    if bound is None:
        return found
    if found is None or bound.seconds < found.seconds:
        return dataclasses.replace(bound, is_bound=found is None)
    return dataclasses.replace(
        found,
        most=min(found.most, bound.seconds),
        spread=tuple(min(seconds, int(bound.seconds)) for seconds in found.spread),
    )


def to_status(
    found: Estimate | None,
    old: Mapping[str, Any],
    *,
    starts_at: float | None,
    is_placed: bool,
    now_seconds: float,
    is_news: bool = False,
) -> Json | None:
    """``status.estimate``; the ``old`` one where a user would see nothing new. ``starts_at`` is None where unknown."""
    if found is None:
        return None
    new: Json = {"basis": found.basis}
    if not is_placed:
        new["runSeconds"] = int(found.seconds)
    if starts_at is not None:
        new["endTime"] = views.format_time(starts_at + found.seconds)
    if is_news or new.keys() != old.keys() or new["basis"] != old["basis"]:
        return new
    is_off = "runSeconds" in new and abs(new["runSeconds"] - old["runSeconds"]) > _tolerance(old["runSeconds"])
    if "endTime" in new:
        was = views.parse_time(old["endTime"])
        is_off = is_off or abs(views.parse_time(new["endTime"]) - was) > _tolerance(was - now_seconds)
    return new if is_off else dict(old)


def _tolerance(seconds: float) -> float:
    return max(_LEAST_TOLERANCE_SECONDS, TOLERANCE * seconds)


def run_seconds(job: views.JobView, *, now_seconds: float) -> float:
    """Seconds that all attempts have run, the running one included; of an elastic job as if at its preferred size."""
    status, size = job.status, _size(job)
    accelerators = int(status.get("gpus", 0)) / size
    if accelerators:
        ran = int(status.get("gpuSeconds", 0)) / accelerators
    else:
        ended = status.get("history") or ()
        ran = sum(views.parse_time(entry["endTime"]) - views.parse_time(entry["startTime"]) for entry in ended)
    if api.phase_of(status).is_terminal:
        return ran
    started = views.parse_time((status.get("placement") or {}).get("startedAt"))
    return ran + (max(0.0, now_seconds - started) * size if started else 0.0)


def _from_history(job: views.JobView, runs: Sequence[float], *, now_seconds: float) -> Estimate | None:
    speed = _speed(job)
    ran = run_seconds(job, now_seconds=now_seconds) * speed
    first = bisect.bisect_right(runs, ran)
    number = len(runs) - first
    if not number:
        return None
    pace = speed * _size(job) if job.status.get("placement") else 1.0
    if runs[-1] - ran > _LONGEST_SECONDS * pace:
        return None
    median = (runs[first + (number - 1) // 2] + runs[first + number // 2]) / 2
    return Estimate(
        (median - ran) / pace,
        f"history of {number} run{'s' if number > 1 else ''}",
        (runs[-1 - number // EXCEEDED_BY] - ran) / pace,
        spread=tuple(int(rest / pace) for rest in spread.rest_quantiles(runs, ran_seconds=ran)),
    )


def _steps_left(status: Mapping[str, Any], *, now_seconds: float) -> float | None:
    """Of an attempt that has reported nothing yet: its steps from the last checkpoint on, at the pace of the last."""
    said, placement = status.get("progress") or {}, status.get("placement") or {}
    if not said.get("totalSteps") or said.get("attempt") == placement.get("attempt"):
        return None
    started = views.parse_time(placement.get("startedAt"))
    for entry in reversed(status.get("history") or ()):
        steps = entry.get("lastStep", 0) - entry.get("firstStep", 0)
        seconds = views.parse_time(entry["endTime"]) - views.parse_time(entry["startTime"])
        if steps > 0 and seconds > 0:
            left = int(said["totalSteps"]) - int(said.get("checkpointStep", 0))
            return max(0.0, left * seconds / float(steps) - (now_seconds - started if started else 0.0))
    return None


def _as_said(status: Mapping[str, Any], *, now_seconds: float) -> float | None:
    """Of an attempt that has reported, but not twice since this process runs: until the end that its status states."""
    said, attempt = status.get("estimate") or {}, (status.get("progress") or {}).get("attempt")
    if said.get("basis") != PROGRESS or attempt is None or attempt != (status.get("placement") or {}).get("attempt"):
        return None
    left = views.parse_time(said.get("endTime")) - now_seconds
    return left if left > 0 else None


def _bound(
    status: Mapping[str, Any],
    spec: api.TrainingJobSpec,
    queue_limit: queueing.RunLimit | None,
    *,
    now_seconds: float,
) -> Estimate | None:
    limit = queueing.shorter(spec.active_deadline_seconds, queue_limit)
    if limit is None:
        return None
    started = views.parse_time(status.get("startTime"))
    left = max(0.0, limit.seconds - (now_seconds - started if started else 0.0))
    if left > _LONGEST_SECONDS:
        return None
    return Estimate(left, limit.source.removeprefix("spec."), left)


def _ended_at(job: views.JobView) -> float:
    return views.parse_time(job.status.get("completionTime"))


def _ran(job: views.JobView) -> float:
    return run_seconds(job, now_seconds=0.0) * _speed(job)


def _size(job: views.JobView) -> float:
    """Pods of the placed attempt against those that the job would like to have."""
    pods = elastic.placed_pods(job.status) if job.spec.get("elastic") else 0
    return pods / int(job.spec.get("numNodes", 1)) if pods else 1.0


def _speed(job: views.JobView) -> float:
    """Of the product that the job last stood on, against its best one."""
    product = (job.status.get("placement") or {}).get("product")
    for choice in job.spec.get("accelerators") or ():
        if product and choice["product"] == product:
            try:
                speed = float(choice.get("relativeThroughput", "1"))
            except ValueError:
                return 1.0
            return speed if 0 < speed < float("inf") else 1.0
    return 1.0


def _keys(job: views.JobView) -> tuple[_Key, _Key]:
    spec = job.spec
    size = _text([spec.get("numNodes", 1), spec.get("numProcPerNode", "auto"), spec.get("resourcesPerNode")])
    what = _text([spec.get(name) for name in ("command", "args", "env")])
    image = re.sub(r"(:[^/:@]+)?(@.*)?$", "", str(spec.get("image", "")))
    return (job.namespace, size, image, what), (job.namespace, size, stem(job.name))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def stem(name: str) -> str:
    """The name without numbers and random parts at its end: ``nightly`` of ``nightly-2026-11-22``."""
    while (shorter := _ENDING.sub("", name)) and shorter != name:
        name = shorter
    return name
