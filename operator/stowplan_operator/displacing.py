"""Running gangs that the plan stops, to make room or to start again at another size or place: their statuses. Pure.

What must stay true: a gang is told once, by the write that takes its placement from its status, and has the grace of a
planned stop; no budget of its failure policy pays for it; it waits again at its place by age.
"""

from __future__ import annotations

from collections.abc import Mapping

from stowplan_allocator import types
from stowplan_operator import api, lifecycle, preemption, states, steps

Order = types.Eviction | types.Resize | types.Move


def orders(plan: types.Plan) -> dict[str, Order]:
    """Who must stop, by UID, and why."""
    found: list[Order] = [*plan.evictions, *plan.resizes, *plan.moves]
    return {order.job_id: order for order in found}


def stopped(
    state: states.JobState, order: Order, *, requests: Mapping[str, types.Job], horizon_seconds: int, now_seconds: float
) -> lifecycle.Transition | None:
    """The status in which the job has left its place; None where it has none. ``requests`` are all jobs' by UID."""
    if state.spec is None or state.request is None or state.job.deleting or state.job.status.get("placement") is None:
        return None
    if isinstance(order, types.Resize):
        return _resized(state, order, requests=requests, horizon_seconds=horizon_seconds, now_seconds=now_seconds)
    if isinstance(order, types.Move):
        return _moved(state, order, for_job=requests[order.for_job].name, now_seconds=now_seconds)
    return lifecycle.preempted(
        state.job,
        by=requests[order.for_job].name,
        reclaim=preemption.reclaim_text(state.request, requests[order.for_job]),
        cost=order.cost,
        accelerators_per_pod=state.accelerators_per_pod,
        grace_seconds=state.spec.grace_period_seconds,
        now_seconds=now_seconds,
    )


def _resized(
    state: states.JobState,
    order: types.Resize,
    *,
    requests: Mapping[str, types.Job],
    horizon_seconds: int,
    now_seconds: float,
) -> lifecycle.Transition:
    """The job stops with the time to save, and starts again with ``order.num_pods`` pods."""
    assert state.spec is not None
    status = state.job.status
    end = lifecycle.Ending(
        job=state.job,
        accelerators_per_pod=state.accelerators_per_pod,
        now_seconds=now_seconds,
        steps=steps.span(status, steps.Heard(), None),
    )
    attempt, before = status["placement"]["attempt"], state.num_pods
    change = f"from {before} to {order.num_pods} pods"
    if order.for_job:
        other = requests[order.for_job].name
        reason = f"{change}: {other} gets what it gives up"
        why = (
            f"so that {other} can start; by the restart and the smaller size it loses about {order.cost} GPU-seconds "
            f"within {_hours(horizon_seconds)}"
        )
    else:
        reason = f"{change}: nobody waits for the GPUs"
        why = (
            f"as nobody waits for the GPUs; it gains about {order.gain} GPU-seconds of its work within "
            f"{_hours(horizon_seconds)}, and the restart costs {order.cost}"
        )
    new = end.released(api.Outcome.RESIZED, reason)
    new["phase"] = api.Phase.RESTARTING.value
    new.pop("retryAfter", None)
    grace = f"Its pods get {state.spec.grace_period_seconds} s to write a checkpoint."
    text = f"Attempt {attempt} stops and starts again {change}, {why}. {grace}"
    return lifecycle.Transition(new, ("Resizing", text))


def _moved(state: states.JobState, order: types.Move, *, for_job: str, now_seconds: float) -> lifecycle.Transition:
    """The job stops with the time to save, and starts again elsewhere, so that another one has room."""
    assert state.spec is not None
    end = lifecycle.Ending(
        job=state.job,
        accelerators_per_pod=state.accelerators_per_pod,
        now_seconds=now_seconds,
        steps=steps.span(state.job.status, steps.Heard(), None),
    )
    attempt = state.job.status["placement"]["attempt"]
    new = end.released(api.Outcome.DEFRAGMENTED, f"{for_job} gets room in one piece")
    new["history"][-1]["gpuSecondsLost"] = order.cost
    new["phase"] = api.Phase.RESTARTING.value
    new.pop("retryAfter", None)
    text = (
        f"Attempt {attempt} stops and starts again elsewhere, so that {for_job} has room in one piece; it loses about "
        f"{order.cost} GPU-seconds by that. Its pods get {state.spec.grace_period_seconds} s to write a checkpoint."
    )
    return lifecycle.Transition(new, ("Moving", text))


def _hours(seconds: int) -> str:
    hours = seconds / 3600
    return "an hour" if hours == 1 else f"{hours:g} hours"
