"""What a plan is asked: the jobs of one cycle and the room of all nodes as one snapshot. Pure.

A job with a place is in it with its placement, whether its pods exist yet or not; a job that wants one, with its
request; gangs that have given their place up, until their pods are gone. Everything else that takes room is subtracted
from its node. A job that was stopped to start again at another size or place is in it from then on, so that nobody
takes the room that it was promised; it starts when the last of its old pods has gone: see ``may_start``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from stowplan_allocator import types
from stowplan_operator import (
    defragmentation,
    estimates,
    headroom,
    health,
    lifecycle,
    preemption,
    resizing,
    retries,
    snapshot,
    states,
    views,
)
from stowplan_operator.imposed import Imposed
from stowplan_operator.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Nodes, what is thought of them, and all pods, at one moment (Unix seconds).

    ``expected`` is what is known of the ends of jobs, by UID; ``avoid`` says which nodes a job keeps away from, beside
    the one that it last failed on; ``imposed`` has what Kubernetes limits; ``comes_back`` says whether a running job
    would be planned with again if it left its place.
    """

    nodes: Mapping[str, views.NodeView]
    assessments: Mapping[str, health.NodeHealth]
    lost_nodes: frozenset[str]
    pods: Iterable[views.PodView]
    now_seconds: float
    expected: Mapping[str, estimates.Estimate] = dataclasses.field(default_factory=dict)
    avoid: Callable[[states.JobState], frozenset[str]] = lambda state: frozenset()
    imposed: Imposed = dataclasses.field(default_factory=Imposed)
    comes_back: Callable[[states.JobState], bool] = lambda state: True


def gather(
    jobs: Sequence[states.JobState],
    scene: Scene,
    *,
    in_doubt: Mapping[str, types.Placement],
    settings: Settings,
    queues: Sequence[types.Queue] = (),
    for_questions: bool = False,
) -> types.Snapshot | None:
    """The snapshot of this moment; None where no job wants a place, and no elastic one could grow.

    ``in_doubt`` are placements, by job UID, that were written without an answer: nobody knows whether they hold.
    Running jobs are told with what they would lose where a waiting job could take their places, or has others moved;
    for questions always, as anybody may yet come, and then there is a snapshot also while nobody waits. That proposes
    nothing that the planner would not do: whose place a job may take is for the allocator's own rights to say, of which
    a threat is only the rough outline that keeps losses, which grow with time, out of snapshots where nobody asks.
    """
    placed: list[types.Job] = []
    waiting: list[types.Job] = []
    running: list[states.JobState] = []
    between: list[states.JobState] = []
    for state in jobs:
        if state.request is None or state.spec is None:
            continue
        if state.job.uid in in_doubt:
            placed.append(dataclasses.replace(state.request, placement=in_doubt[state.job.uid]))
        elif state.job.status.get("placement") is not None:
            if state.request.placement is not None and state.request.placement.shares and not state.is_over:
                running.append(state)
        elif may_start(state, scene) or _is_returning(state, scene):
            waiting.append(_waiting(state, scene))
        elif not (state.is_over or state.spec.suspend or state.job.deleting):
            between.append(state)
    asked = defragmentation.asked(
        [state.job for state in jobs],
        [request.id for request in waiting if not request.returning],
        settings=settings.defragmentation,
        now_seconds=scene.now_seconds,
    )
    waiting = asked.told(waiting)
    threat = (
        preemption.ANYBODY
        if for_questions
        else preemption.Threat.of(waiting, queues=queues, equals=settings.preemption.policy == "LeastAttained")
    )
    moving = bool(asked.by_job) or (for_questions and settings.defragmentation.policy != "Never")
    standing = [
        _standing(state, threat, scene, settings, moving=moving, for_questions=for_questions) for state in running
    ]
    if between:
        standing = [
            resizing.without_growth(request, state.job) for request, state in zip(standing, running, strict=True)
        ]
    placed += standing
    growing = [request for request in standing if resizing.wants_more(request)]
    is_needed = for_questions or bool(waiting)
    if not is_needed and not growing:
        return None
    leaving = preemption.leaving(
        [state.job for state in jobs],
        scene.pods,
        lost_nodes=scene.lost_nodes,
        queues={state.job.uid: state.queue for state in jobs},
        products={name: node.labels.get(settings.product_label, "") for name, node in scene.nodes.items()},
        only_victims=all(request.disruption_cost is None for request in placed),
    )
    current = {state.job.uid: state.job for state in running}
    nodes = snapshot.build_nodes(
        scene.nodes.values(),
        scene.pods,
        current,
        assessments=scene.assessments,
        settings=settings,
        leaving=leaving.pods,
    )
    if not is_needed and not resizing.is_room_for_one(growing, nodes):
        return None
    return types.Snapshot(
        nodes=nodes,
        jobs=tuple(in_order((*placed, *leaving.gangs, *waiting), queues)),
        coming_back=tuple(
            in_order(
                (
                    _waiting(state, scene)
                    for state in between
                    if state.job.uid in leaving.owners and _comes_back(state, scene)
                ),
                queues,
            )
        ),
        levels=settings.level_names,
        now_seconds=int(scene.now_seconds),
        queues=tuple(queues),
        # Anybody may yet ask for moves, too.
        move_budget=defragmentation.budget_left(
            (state.job for state in jobs), settings=settings.defragmentation, now_seconds=scene.now_seconds
        )
        if for_questions
        else asked.budget,
        namespace_limits=_limits(
            jobs,
            scene,
            is_counted=lambda pod: pod.uid in leaving.pods or snapshot.is_current(pod, current),
            # Who only runs is stopped by no limit.
            asking=None if for_questions else [*waiting, *growing],
            settings=settings,
        ),
        disruption_budgets=headroom.disruption_budgets(
            scene.imposed,
            scene.pods,
            placed={uid: int(job.status["placement"]["attempt"]) for uid, job in current.items()},
        ),
    )


def in_order(jobs: Iterable[types.Job], queues: Iterable[types.Queue]) -> Iterator[types.Job]:
    """The jobs; those of a queue whose equals take each other's places stand in the order that says who does."""
    lines = {queue.name for queue in queues if types.QueuePreemption.LEAST_ATTAINED in queue.preemption}
    for job in jobs:
        yield dataclasses.replace(job, order=types.QueueOrder.LEAST_ATTAINED) if job.queue in lines else job


def _limits(
    jobs: Iterable[states.JobState],
    scene: Scene,
    *,
    is_counted: Callable[[views.PodView], bool],
    asking: Iterable[types.Job] | None,
    settings: Settings,
) -> tuple[types.NamespaceLimit, ...]:
    """What Kubernetes limits of those who ask, or of all."""
    if not scene.imposed.quotas:
        return ()
    asked = (
        (one.job.namespace, max((one.request.num_pods, *one.request.allowed_num_pods)), one.spec.resources_per_node)
        for one in jobs
        if one.request is not None and one.spec is not None
    )
    return headroom.namespace_limits(
        scene.imposed,
        scene.pods,
        is_counted=is_counted,
        namespaces=None if asking is None else {request.name.partition("/")[0] for request in asking},
        rounded=headroom.rounding((name, pods, amounts.get("memory")) for name, pods, amounts in asked),
        settings=settings,
    )


def may_start(state: states.JobState, scene: Scene) -> bool:
    """Whether the job may get a place in this cycle."""
    return _may_start(state, scene, beside=state.pods)


def _comes_back(state: states.JobState, scene: Scene) -> bool:
    """Whether the job may get a place once its old pods are gone."""
    return _may_start(state, scene, beside=())


def _may_start(state: states.JobState, scene: Scene, *, beside: Sequence[views.PodView]) -> bool:
    return (
        state.spec is not None
        and not (state.skip or state.has_predecessors)
        and lifecycle.is_plannable(
            state.job, state.spec, beside, lost_nodes=scene.lost_nodes, now_seconds=scene.now_seconds
        )
    )


def _is_returning(state: states.JobState, scene: Scene) -> bool:
    """Whether the job starts again as soon as its old pods are gone."""
    assert state.spec is not None
    return (
        not (state.skip or state.has_predecessors or state.is_over or state.spec.suspend or state.job.deleting)
    ) and resizing.is_returning(state.job.status, state.spec, now_seconds=scene.now_seconds)


def _waiting(state: states.JobState, scene: Scene) -> types.Job:
    """A job that wants a place, or comes back to one."""
    assert state.request is not None
    assert state.spec is not None
    request = dataclasses.replace(
        state.request,
        avoided_nodes=_avoided(state, scene),
        avoided_anyway=retries.avoided_by_rule(state.job.status, now_seconds=scene.now_seconds),
    )
    if not resizing.is_returning(state.job.status, state.spec, now_seconds=scene.now_seconds):
        return request
    request = dataclasses.replace(request, returning=True, leaving=not may_start(state, scene))
    return defragmentation.at_its_size(request, state.job.status)


def _avoided(state: states.JobState, scene: Scene) -> frozenset[str]:
    assert state.spec is not None
    avoided = retries.avoided_nodes(state.job.status, state.spec, now_seconds=scene.now_seconds)
    return avoided | scene.avoid(state)


def _standing(
    state: states.JobState,
    threat: preemption.Threat,
    scene: Scene,
    settings: Settings,
    *,
    moving: bool,
    for_questions: bool,
) -> types.Job:
    """A running job, with what it would lose: if it were resized; and if it left, where somebody may take its place.

    Where jobs are ``moving`` for others, all are told what they would lose, but for those that cannot come back as they
    are, or would not be planned with again: these are neither resized nor moved, and leave only where they are evicted.
    When a protection ends is told to questions only: no plan of now depends on it.
    """
    assert state.request is not None
    assert state.spec is not None
    if state.skip or state.job.deleting or state.is_adrift:
        return state.request
    request = resizing.resizable(
        state.request,
        state.job,
        state.spec,
        settings=settings.elastic,
        expected=scene.expected.get(state.job.uid),
        avoided=_avoided(state, scene),
        now_seconds=scene.now_seconds,
    )
    if request.resize_cost is not None and not scene.comes_back(state):
        request = state.request
    rules = settings.preemption
    is_threatened = rules.policy != "Never" and threat.hangs_over(request)
    moves = (
        moving
        and defragmentation.can_come_back(request, state.spec, num_pods=state.num_pods)
        and scene.comes_back(state)
    )
    if not is_threatened and not moves:
        return request
    cost = preemption.disruption_cost(
        state.job, state.spec, num_accelerators=state.accelerators, settings=rules, now_seconds=scene.now_seconds
    )
    if cost is None and for_questions:
        kept = preemption.protection(state.job, state.spec, num_accelerators=state.accelerators, settings=rules)
        request = dataclasses.replace(request, protection=kept)
    return dataclasses.replace(request, disruption_cost=cost, stays=not moves)
