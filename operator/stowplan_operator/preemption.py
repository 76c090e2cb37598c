"""What a running gang loses if it must give its place up, and which gangs are giving theirs up already. Pure.

The allocator chooses the victims that lose the least work; here is what each would lose. What must stay true: a loss
grows in whole minutes only, or every cycle would be a new plan; victims are told to the allocator as gangs that leave,
until their last pod is gone, so that no second victim is taken for the same room and nobody else gets it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from stowplan_allocator import types
from stowplan_operator import api, lifecycle, views
from stowplan_operator.settings import PreemptionSettings

# From the creation of a gang's pods to its first new step, until that has been measured.
RESTART_SECONDS = 60
_STEP_SECONDS = 60
_HOUR_SECONDS = 3600
_NOWHERE: Mapping[str, str] = {}


def disruption_cost(
    job: views.JobView,
    spec: api.TrainingJobSpec,
    *,
    num_accelerators: int,
    settings: PreemptionSettings,
    now_seconds: float,
) -> int | None:
    """Accelerator-seconds that the placed job loses if it leaves now; None where it must not be disturbed.

    Work since the last committed checkpoint of this attempt, or since its start, and the restart. A job that reports no
    checkpoints is charged at most ``settings.unreported_loss_seconds``: it must not pay to hide them.
    """
    if now_seconds < protected_until(job, spec, settings=settings):
        return None
    started = views.parse_time((job.status.get("placement") or {}).get("startedAt"))
    run_seconds = max(0.0, now_seconds - started) if started else 0.0
    lost = min(run_seconds, settings.unreported_loss_seconds)
    saved = views.parse_time((job.status.get("progress") or {}).get("checkpointTime"))
    if started and saved >= started:
        lost = max(0.0, now_seconds - saved)
    lost -= lost % _STEP_SECONDS
    return int(lost + restart_seconds(job.status)) * max(1, num_accelerators)


def restart_seconds(status: Mapping[str, Any]) -> int:
    """How long the job takes from the creation of its pods to its first new step, measured where that was possible."""
    return int(status.get("restartSeconds", RESTART_SECONDS))


def protected_until(job: views.JobView, spec: api.TrainingJobSpec, *, settings: PreemptionSettings) -> float:
    """From when (Unix seconds) on the placed job may be disturbed, if nothing else happens; infinity for never."""
    return _protected_until(job, spec, settings=settings)[0]


def protection(
    job: views.JobView, spec: api.TrainingJobSpec, *, num_accelerators: int, settings: PreemptionSettings
) -> types.Protection | None:
    """What keeps the placed job from being disturbed; None where that never ends."""
    until, why = _protected_until(job, spec, settings=settings)
    if until == math.inf:
        return None
    over = math.ceil(until)
    cost = disruption_cost(job, spec, num_accelerators=num_accelerators, settings=settings, now_seconds=over)
    assert cost is not None, "from then on it may be disturbed"
    return types.Protection(over, cost, why)


def _protected_until(
    job: views.JobView, spec: api.TrainingJobSpec, *, settings: PreemptionSettings
) -> tuple[float, str]:
    """See ``protected_until``, and why, in words.

    It keeps its place for its minimum runtime, and while the last hour has seen it preempted, or moved to make room, as
    often as ``settings.max_per_hour`` allows.
    """
    least = spec.preemption.min_runtime_seconds
    started = views.parse_time((job.status.get("placement") or {}).get("startedAt"))
    if not spec.preemption.preemptible or (least and not started):
        return math.inf, ""
    preemptions = sorted(
        views.parse_time(entry["endTime"])
        for entry in job.status.get("history") or ()
        if entry["outcome"] in (api.Outcome.PREEMPTED, api.Outcome.DEFRAGMENTED)
    )[-settings.max_per_hour :]
    is_often = len(preemptions) == settings.max_per_hour
    often = f"it gave way {settings.max_per_hour} times within an hour, settings.preemption.maxPerHour"
    return max(
        (started + least if least else 0.0, "preemption.minRuntimeSeconds"),
        (preemptions[0] + _HOUR_SECONDS if is_often else 0.0, often),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Threat:
    """Whose places waiting jobs could take.

    ``below`` has, by queue whose jobs may take each other's places, below which priority these are in danger; the jobs
    of a queue that is ``reclaiming`` may take those of any other.
    """

    below: Mapping[str, int] = dataclasses.field(default_factory=dict)
    reclaiming: frozenset[str] = frozenset()
    is_anybody: bool = False

    @classmethod
    def of(cls, waiting: Iterable[types.Job], *, queues: Iterable[types.Queue], equals: bool = False) -> Threat:
        """The threat that these jobs are; outside of queues to ``equals``, too."""
        policies = {queue.name: queue.preemption for queue in queues}
        below: dict[str, int] = {}
        default = (types.QueuePreemption.WITHIN_QUEUE, *([types.QueuePreemption.LEAST_ATTAINED] if equals else []))
        reclaiming = set()
        for job in waiting:
            if not job.preempts:
                continue
            policy = policies.get(job.queue, default)
            of_equals = types.QueuePreemption.LEAST_ATTAINED in policy
            if of_equals or types.QueuePreemption.WITHIN_QUEUE in policy:
                reach = job.priority + of_equals
                below[job.queue] = max(reach, below.get(job.queue, reach))
            if types.QueuePreemption.RECLAIM_LENT in policy:
                reclaiming.add(job.queue)
        return cls(below, frozenset(reclaiming))

    def hangs_over(self, job: types.Job) -> bool:
        """Whether the running job could lose its place; never said too seldom."""
        below = self.below.get(job.queue)
        return self.is_anybody or (below is not None and job.priority < below) or bool(self.reclaiming - {job.queue})


def reclaim_text(victim: types.Job, preemptor: types.Job) -> str:
    """Whose quota comes back when the victim leaves; in one queue why an equal leaves, and nothing for a higher one."""
    if victim.queue == preemptor.queue:
        return "" if victim.priority < preemptor.priority else f"it has the same priority and {lifecycle.HAS_HAD_LESS}"
    borrower = f'queue "{victim.queue}"' if victim.queue else "jobs without a queue"
    return f'queue "{preemptor.queue}" {lifecycle.RECLAIMS} that it lent to {borrower}'


ANYBODY = Threat(is_anybody=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Leaving:
    """Gangs whose pods are on their way out, as running jobs of the allocator, and the UIDs of their jobs and pods."""

    gangs: tuple[types.Job, ...] = ()
    owners: frozenset[str] = frozenset()
    pods: frozenset[str] = frozenset()


def leaving(
    jobs: Sequence[views.JobView],
    pods: Iterable[views.PodView],
    *,
    lost_nodes: Collection[str],
    only_victims: bool,
    queues: Mapping[str, str] = _NOWHERE,
    products: Mapping[str, str] = _NOWHERE,
) -> Leaving:
    """Gangs that no job's status asks for any more while some of their pods still hold their room.

    Their quota is still in use, too: ``queues`` says by job UID where they stand, ``products`` what each node has.

    With ``only_victims`` those that were preempted or resized. The others matter only where somebody can be preempted:
    most want their room back themselves, and whoever waits need not hear for two seconds that it is on its way to them.
    Pods on ``lost_nodes`` are not among them: nobody knows when these will be gone.
    """
    kept = {
        job.uid: (job.status.get("placement") or {}).get("attempt")
        for job in jobs
        if not api.phase_of(job.status).is_terminal
    }
    victims = {
        (job.uid, entry["attempt"])
        for job in jobs
        for entry in job.status.get("history") or ()
        if entry["outcome"] in (api.Outcome.PREEMPTED, *api.RETURNING_STOPS)
    }
    found: dict[tuple[str, int], list[views.PodView]] = {}
    for pod in pods:
        if pod.managed and pod.claimed_node and pod.node not in lost_nodes and kept.get(pod.owner_uid) != pod.attempt:
            found.setdefault((pod.owner_uid, pod.attempt), []).append(pod)
    gangs = {
        key: members
        for key, members in found.items()
        if len({pod.requests for pod in members}) == 1 and (key in victims or not only_victims)
    }
    return Leaving(
        gangs=tuple(_as_job(members, queues=queues, products=products) for _, members in sorted(gangs.items())),
        owners=frozenset(owner for owner, _ in gangs),
        pods=frozenset(pod.uid for members in gangs.values() for pod in members),
    )


def _as_job(members: Sequence[views.PodView], *, queues: Mapping[str, str], products: Mapping[str, str]) -> types.Job:
    first = members[0]
    counts: dict[str, int] = {}
    for pod in sorted(members, key=lambda pod: pod.rank):
        counts[pod.claimed_node] = counts.get(pod.claimed_node, 0) + 1
    shares = tuple(types.NodeShare(node=node, num_pods=number) for node, number in counts.items())
    return types.Job(
        id=f"{first.owner_uid}/{first.attempt}",
        name=f"{first.namespace}/{first.job}",
        num_pods=len(members),
        pod=dataclasses.replace(first.requests, other=(*first.requests.other, ("pods", 1))),
        placement=types.Placement(product=products.get(first.claimed_node, ""), shares=shares),
        leaving=True,
        queue=queues.get(first.owner_uid, ""),
    )
