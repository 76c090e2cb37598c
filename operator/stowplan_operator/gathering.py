"""What a plan is asked: the jobs of one cycle and the room of all nodes as one snapshot. Pure.

A job with a place is in it with its placement, whether its pods exist yet or not; a job that wants one, with its
request; gangs that have given their place up, until their pods are gone. Everything else that takes room is subtracted
from its node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from stowplan_allocator import types
from stowplan_operator import health, lifecycle, preemption, retries, snapshot, states, views
from stowplan_operator.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Nodes, what is thought of them, and all pods, at one moment (Unix seconds).

    ``avoid`` says which nodes a job keeps away from, beside the one that it last failed on.
    """

    nodes: Mapping[str, views.NodeView]
    assessments: Mapping[str, health.NodeHealth]
    lost_nodes: frozenset[str]
    pods: Iterable[views.PodView]
    now_seconds: float
    avoid: Callable[[states.JobState], frozenset[str]] = lambda state: frozenset()


def gather(
    jobs: Sequence[states.JobState],
    scene: Scene,
    *,
    in_doubt: Mapping[str, types.Placement],
    settings: Settings,
    queues: Sequence[types.Queue] = (),
    for_questions: bool = False,
) -> types.Snapshot | None:
    """The snapshot of this moment; None where no job wants a place.

    ``in_doubt`` are placements, by job UID, that were written without an answer: nobody knows whether they hold.
    Running jobs are told with what they would lose where a waiting job could take their places; for questions always,
    as anybody may yet come, and then there is a snapshot also while nobody waits.
    """
    placed: list[types.Job] = []
    waiting: list[types.Job] = []
    running: list[states.JobState] = []
    for state in jobs:
        if state.request is None or state.spec is None:
            continue
        if state.job.uid in in_doubt:
            placed.append(dataclasses.replace(state.request, placement=in_doubt[state.job.uid]))
        elif state.job.status.get("placement") is not None:
            if state.request.placement is not None and state.request.placement.shares and not state.is_over:
                running.append(state)
        elif not (state.skip or state.has_predecessors) and lifecycle.is_plannable(
            state.job, state.spec, state.pods, lost_nodes=scene.lost_nodes, now_seconds=scene.now_seconds
        ):
            avoided = retries.avoided_nodes(state.job.status, state.spec, now_seconds=scene.now_seconds)
            waiting.append(dataclasses.replace(state.request, avoided_nodes=avoided | scene.avoid(state)))
    if not waiting and not for_questions:
        return None
    threat = preemption.ANYBODY if for_questions else preemption.Threat.of(waiting, queues=queues)
    placed += [_standing(state, threat, settings, now_seconds=scene.now_seconds) for state in running]
    leaving = preemption.leaving(
        [state.job for state in jobs],
        scene.pods,
        lost_nodes=scene.lost_nodes,
        queues={state.job.uid: state.queue for state in jobs},
        products={name: node.labels.get(settings.product_label, "") for name, node in scene.nodes.items()},
        only_victims=all(request.disruption_cost is None for request in placed),
    )
    return types.Snapshot(
        nodes=snapshot.build_nodes(
            scene.nodes.values(),
            scene.pods,
            {state.job.uid: state.job for state in running},
            assessments=scene.assessments,
            settings=settings,
            leaving=leaving.pods,
        ),
        jobs=(*placed, *leaving.gangs, *waiting),
        levels=settings.level_names,
        now_seconds=int(scene.now_seconds),
        queues=tuple(queues),
    )


def _standing(
    state: states.JobState, threat: preemption.Threat, settings: Settings, *, now_seconds: float
) -> types.Job:
    """A running job, with what it would lose where somebody may take its place."""
    assert state.request is not None
    assert state.spec is not None
    rules = settings.preemption
    if rules.policy == "Never" or not threat.hangs_over(state.request):
        return state.request
    if state.skip or state.job.deleting or state.is_adrift:
        return state.request
    cost = preemption.disruption_cost(
        state.job, state.spec, num_accelerators=state.accelerators, settings=rules, now_seconds=now_seconds
    )
    return dataclasses.replace(state.request, disruption_cost=cost)
