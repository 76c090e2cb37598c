"""Which running jobs lose their place to which waiting ones, so that the least work is lost.

After the plan of what can start now, the jobs that found no place are asked once more in queue
order: which running jobs of lower rank would have to leave, whole gangs, and what is lost then?
The cheapest set is found by the programme of ``disruption``. The waiting job's room is then
held: nobody younger takes it in this plan, and what younger jobs had taken of it is planned
again without it. It starts in a later plan, once its victims are gone.

What the operator does with the answer, so that nothing is decided twice:
- it tells each victim once to save and leave, and from then on gives it to the next snapshots
  with ``leaving=True`` and its placement, until its last pod is gone;
- a victim that has left comes back as a waiting job with its old ``created_at_seconds``.
A leaving job is in no further eviction. Its room is promised to the first jobs in the queue that
fit there, which is the preemptor or whoever has come before it; they are answered with
``WaitingForPreemption`` and hold that room, and no second victim is taken for it.

What must stay true: a victim may be disturbed at all (``disruption_cost``) and ranks below the
job that takes its place, which may preempt; at most one eviction for each victim; no job ahead in the queue loses
what this plan gave it; with ``Preemption.NEVER`` nobody is told to leave; room is held where some already leave.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from stowplan_allocator import strategies, types, words
from stowplan_allocator.decisions import Decision
from stowplan_allocator.problem import Problem
from stowplan_allocator.scene import Scene
from stowplan_allocator.stopwatch import Stopwatch
from stowplan_allocator.victims import Victim

# Beyond so many the rest waits for the next plan.
MAX_PREEMPTORS = 100


def decide(
    snapshot: types.Snapshot,
    *,
    problem: Problem,
    outcome: strategies.Outcome,
    settings: types.Settings,
    deadline: float,
    watch: Stopwatch,
) -> Decision:
    """Hold room, and name victims, for the jobs that the outcome leaves out."""
    decision = Decision(outcome)
    may_leave = settings.preemption is not types.Preemption.NEVER or settings.resize
    if len(outcome.spots) == len(problem.queue) or not (may_leave or any(job.leaving for job in snapshot.jobs)):
        return decision
    scene = Scene(snapshot, problem=problem, settings=settings, deadline=deadline, watch=watch)
    promised = scene.promised(outcome)
    refused: set[int] = set()
    is_first = True
    for position, job in enumerate(problem.queue):
        request = problem.shape_of[job.id].request.index
        if job.id in decision.outcome.spots or request in refused:
            continue
        if not job.preempts and not decision.holds and job.id not in promised:
            continue  # Nobody leaves whose room it could have.
        if len(decision.holds) == MAX_PREEMPTORS or (not is_first and time.monotonic() > deadline):
            # The first one is always decided, if only quickly: its place in the queue comes before all others.
            decision.outcome = _with_note(decision.outcome, "not all preempting jobs were decided in this plan")
            break
        is_first = False
        hold = scene.hold(job, position=position, decision=decision, promised=promised.get(job.id))
        planned = None if hold is None else scene.plan_beside(job, hold=hold, decision=decision)
        if hold is None or planned is None:
            # Later jobs have no more rank, and no more room: their equal requests need not be asked.
            if job.preempts and not job.returning:
                refused.add(request)
            continue
        decision.holds[job.id] = hold
        decision.outcome = planned
    decision.resizes = scene.resizes(decision.holds)
    for tier in decision.tiers(status=types.SolveStatus.FEASIBLE):
        decision.outcome = with_tier(decision.outcome, tier=tier)
    return decision


def _with_note(outcome: strategies.Outcome, note: str) -> strategies.Outcome:
    return replace(outcome, note="; ".join(part for part in (outcome.note, note) if part))


def with_tier(outcome: strategies.Outcome, *, tier: types.TierResult) -> strategies.Outcome:
    """The outcome with one more tier, and what that says of its status."""
    proven = tier.status is types.SolveStatus.OPTIMAL
    note = "" if proven else f'tier "{tier.name}" is not proven, gap {tier.gap:.2%}'
    status = outcome.status
    if status is types.SolveStatus.NOTHING_TO_DO or (status is types.SolveStatus.OPTIMAL and not proven):
        status = types.SolveStatus.OPTIMAL if proven else types.SolveStatus.FEASIBLE
    return _with_note(replace(outcome, status=status, tiers=(*outcome.tiers, tier)), note)


def _gives(victim: Victim) -> str:
    before = 0 if victim.job.placement is None else victim.job.placement.num_pods
    return f"{victim.job.name} shrinks from {before} to {victim.size} {'pod' if victim.size == 1 else 'pods'}"


def explain(decision: Decision, *, problem: Problem) -> dict[str, types.Waiting]:
    """The answer to each job whose room is held."""
    jobs = {job.id: job for job in problem.queue}
    found = {}
    for job_id, hold in decision.holds.items():
        needs = words.needs(problem.shape_of[job_id].request, dims=problem.dims)
        leaving = [victim.job.name for victim in hold.solution.leaving if not victim.size]
        shrinking = [_gives(victim) for victim in hold.solution.leaving if victim.size]
        numbers = {
            "pods_needed": str(hold.spot.num_pods),
            "accelerators_needed": str(hold.spot.num_pods * jobs[job_id].pod.accelerators),
            "evictions": str(len(leaving)),
            "shrinks": str(len(shrinking)),
            "disruption_cost": str(hold.solution.cost),
            "disruption_bound": str(hold.solution.bound),
        }
        if not shrinking:
            del numbers["shrinks"]
        lost = f"{hold.solution.cost} accelerator-seconds of work"
        if shrinking:
            parts = [f"{words.names(leaving)} must leave"] if leaving else []
            message = (
                f"needs {needs}; {' and '.join([*parts, words.names(shrinking)])} for it, which loses {lost}; "
                "its room is kept until then"
            )
        elif leaving:
            message = (
                f"needs {needs}; {words.names(leaving)} must leave for it and lose{'s' if len(leaving) == 1 else ''} "
                f"{lost}; its room is kept until then"
            )
        else:
            have = "has" if len(hold.waits_for) == 1 else "have"
            message = f"needs {needs}; its room is kept until {words.names(hold.waits_for)} {have} left"
        found[job_id] = types.Waiting(
            types.Reason.WAITING_FOR_PREEMPTION, message, tuple(numbers.items()), hold.waits_for
        )
    return found


def protections(
    decision: Decision, *, problem: Problem, waiting: Mapping[str, types.Waiting]
) -> dict[str, types.Waiting]:
    """The answers to jobs for which others would leave but for a PodDisruptionBudget, with what that says."""
    found = {}
    for job in problem.queue:
        by = decision.protected.get((problem.shape_of[job.id].request.index, job.priority))
        answer = waiting.get(job.id)
        if by is None or answer is None or job.id in decision.holds:
            continue
        message = (
            f"{answer.message}; it may take the place of {words.names(by.victims)}, but PodDisruptionBudget "
            f'"{by.budget}" lets {by.allowed} of {by.needed} pods be stopped'
        )
        numbers = (
            ("disruption_budget", by.budget),
            ("disruptions_needed", str(by.needed)),
            ("disruptions_allowed", str(by.allowed)),
        )
        found[job.id] = replace(answer, message=message, numbers=(*answer.numbers, *numbers))
    return found
