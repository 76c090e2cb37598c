"""What one cycle observes: every TrainingJob with its pods, nodes that are lost, accelerators by state. No I/O."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

from stowplan_allocator import types
from stowplan_operator import api, elastic, health, podspec, queueing, snapshot, views
from stowplan_operator.metrics import GpuCounts
from stowplan_operator.settings import Settings
from stowplan_operator.store import Store


@dataclasses.dataclass(slots=True)
class JobState:
    """One TrainingJob in the course of one cycle."""

    job: views.JobView
    pods: list[views.PodView]
    spec: api.TrainingJobSpec | None = None
    # What a pod asks for, which can often be read where the whole request cannot.
    pod: types.Resources | None = None
    request: types.Job | None = None
    misconfigured: str = ""
    # Why it is misconfigured, where the job is right and the queue in which it would wait is not.
    queue_fault: queueing.QueueFaultError | None = None
    # What it asks for there. It is not planned.
    barred: types.Job | None = None
    problem: str = ""
    skip: bool = False
    # Where it stands, or stood when it got its place; empty for the default queue.
    queue: str = ""
    # The queue in which it stood is there and cannot be planned with: it counts in none, and is not disturbed.
    is_adrift: bool = False
    run_limit: queueing.RunLimit | None = None
    # The last write of its status had no answer, and may have been made.
    in_doubt: bool = False
    # Pods of an earlier job of the same name are still there: their names are taken.
    has_predecessors: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the job has ended for good."""
        return api.phase_of(self.job.status).is_terminal

    @property
    def wants_place(self) -> bool:
        """Whether the job holds a place, or waits for one."""
        is_suspended = self.spec is not None and self.spec.suspend
        return not (self.is_over or self.job.deleting or is_suspended)

    @property
    def accelerators_per_pod(self) -> int:
        """Accelerators of each pod; 0 while the spec cannot be read."""
        return self.pod.accelerators if self.pod else 0

    @property
    def num_pods(self) -> int:
        """Pods of the gang, at the size that it has; 0 while the spec cannot be read."""
        return elastic.num_pods(self.spec, self.job.status) if self.spec else 0

    @property
    def accelerators(self) -> int:
        """Accelerators of the whole gang, at the size that it has."""
        return self.accelerators_per_pod * self.num_pods


def observe(store: Store, settings: Settings, *, queues: queueing.Queues = queueing.NONE) -> list[JobState]:
    """Every TrainingJob with its pods, its spec read, and what it asks of the allocator; by age."""
    # A pod of another namespace that names a job as its owner is not the job's, whatever its labels say.
    pods: dict[tuple[str, str], list[views.PodView]] = {}
    owners: dict[tuple[str, str], set[str]] = {}
    for pod in store.pods:
        if pod.managed:
            pods.setdefault((pod.namespace, pod.owner_uid), []).append(pod)
            owners.setdefault((pod.namespace, pod.job), set()).add(pod.owner_uid)
    states = [
        JobState(
            job=job,
            pods=pods.get((job.namespace, job.uid), []),
            has_predecessors=bool(owners.get((job.namespace, job.name), set()) - {job.uid}),
        )
        for job in sorted(store.jobs, key=lambda one: (one.created_at, one.uid))
    ]
    _recall_finished(store, states)
    priorities, default = store.priorities(), store.default_priority()
    for state in states:
        interpret(state, priorities=priorities, default_priority=default, settings=settings, queues=queues)
    return states


def _recall_finished(store: Store, states: Iterable[JobState]) -> None:
    """Give jobs the pods back that had exited 0 and were deleted since, until their statuses have noted them."""
    by_job = {(state.job.namespace, state.job.uid): state for state in states}
    superfluous = []
    for pod in store.finished:
        state = by_job.get((pod.namespace, pod.owner_uid))
        status = state.job.status if state else {}
        placement = status.get("placement") or {}
        noted = pod.rank in podspec.finished_ranks(placement) and placement.get("attempt") == pod.attempt
        if state is None or noted or pod.attempt < int(status.get("attempt", 0)):
            superfluous.append(pod.uid)
        elif placement.get("attempt") == pod.attempt:
            state.pods.append(pod)
    store.forget_finished(superfluous)


def interpret(
    state: JobState,
    *,
    priorities: Mapping[str, views.PriorityClass],
    default_priority: views.PriorityClass,
    settings: Settings,
    queues: queueing.Queues = queueing.NONE,
) -> None:
    """Read the job's spec, and what it asks of the allocator as its status stands; anew when its place has gone."""
    state.misconfigured, state.queue_fault, state.pod, state.request, state.barred = "", None, None, None, None
    state.queue, state.is_adrift, state.run_limit = _stood_in(state.job), False, None
    read = functools.partial(
        snapshot.build_job,
        state.job,
        priorities=priorities,
        default_priority=default_priority,
        settings=settings,
        pods=state.pods,
    )
    try:
        state.spec = api.parse_spec(dict(state.job.spec))
        state.pod = snapshot.pod_resources(state.spec, settings=settings)
        state.request = read(state.spec, queues=queues)
        _stand(state, state.request, queues)
    except queueing.QueueFaultError as error:
        state.misconfigured, state.queue_fault = str(error), error
    except ValueError as error:
        state.misconfigured = str(error)
    except Exception as error:  # one object that nobody foresaw must not stop the others
        state.misconfigured = f"the job cannot be read ({type(error).__name__}: {error})"
    if state.queue_fault is not None:
        assert state.spec is not None, "a queue is looked for once the spec is read"
        with contextlib.suppress(Exception):  # nor does one that cannot be read in any queue
            elsewhere = read(state.spec.model_copy(update={"queue": None}), queues=queueing.NONE)
            state.barred = dataclasses.replace(elsewhere, queue=state.queue_fault.queue)


def comes_back(
    state: JobState,
    *,
    priorities: Mapping[str, views.PriorityClass],
    default_priority: views.PriorityClass,
    settings: Settings,
    queues: queueing.Queues,
) -> bool:
    """Whether the job with a place would be planned with again, in the same queue, if it left its place now.

    A placed job is read leniently, whatever has become of queues, PriorityClasses and levels; a waiting one strictly.
    """
    assert state.spec is not None
    assert state.request is not None
    left = {key: value for key, value in state.job.status.items() if key != "placement"}
    try:
        anew = snapshot.build_job(
            dataclasses.replace(state.job, status=left),
            state.spec,
            priorities=priorities,
            default_priority=default_priority,
            settings=settings,
            queues=queues,
        )
    except ValueError:
        return False
    return anew.queue == state.request.queue


def _stand(state: JobState, request: types.Job, queues: queueing.Queues) -> None:
    """Note where the job stands, and what that means for it."""
    stood_in = _stood_in(state.job)
    state.queue = request.queue or stood_in
    state.is_adrift = not request.queue and queues.is_adrift(stood_in)
    state.run_limit = queues.run_limit(request.queue)


def _stood_in(job: views.JobView) -> str:
    """The queue in which a job with a place was last said to stand, be it there or not.

    Without it the job would count as one that started before there were queues, and stand in another one from then on.
    """
    return str(job.status.get("queue") or "") if job.status.get("placement") is not None else ""


def lost_nodes(
    store: Store, nodes: Sequence[views.NodeView], settings: Settings, *, now_seconds: float
) -> frozenset[str]:
    """Nodes that hold placed pods but are gone, or NotReady: for longer than the limit, or declared out of service."""
    present = {node.name for node in nodes}
    limit = settings.health.node_lost_after_seconds
    late = {
        node.name
        for node in nodes
        if not node.ready
        and (health.TAINT_OUT_OF_SERVICE in node.condition_taints or now_seconds - node.ready_since >= limit)
    }
    placed = {
        share["name"]
        for job in store.jobs
        if not api.phase_of(job.status).is_terminal
        for share in (job.status.get("placement") or {}).get("nodes", ())
    }
    orphaned = {pod.node for pod in store.pods if pod.managed and pod.node}
    return frozenset(late | ((placed | orphaned) - present))


def gpu_counts(
    nodes: Iterable[views.NodeView],
    assessments: Mapping[str, health.NodeHealth],
    pods: Iterable[views.PodView],
    *,
    settings: Settings,
) -> dict[str, GpuCounts]:
    """Accelerators by product and state: capacity, allocated, free, unhealthy."""
    counts: dict[str, GpuCounts] = {}
    built = snapshot.build_nodes(nodes, pods, {}, assessments=assessments, settings=settings)
    for node in built:
        if not node.product:
            continue
        withheld = assessments[node.name].withheld_accelerators
        row = counts.get(node.product, GpuCounts())
        counts[node.product] = GpuCounts(
            capacity=row.capacity + node.allocatable.accelerators,
            allocated=row.allocated + node.allocatable.accelerators - withheld - node.available.accelerators,
            free=row.free + (0 if node.blocked else max(0, node.available.accelerators)),
            unhealthy=row.unhealthy + node.unhealthy_accelerators,
        )
    return counts
