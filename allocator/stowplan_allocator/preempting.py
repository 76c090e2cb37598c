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
what this plan gave it; nobody leaves for a job that would find its room taken then; with ``Preemption.NEVER`` nobody is
told to leave; room is held where some already leave.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from stowplan_allocator import aftermath, greedy, reserving, strategies, types, words
from stowplan_allocator.choosing import Solution
from stowplan_allocator.decisions import Decision, InVain
from stowplan_allocator.problem import Problem
from stowplan_allocator.scene import Scene
from stowplan_allocator.stopwatch import Stopwatch
from stowplan_allocator.victims import Victim

# Beyond so many the rest waits for the next plan.
MAX_PREEMPTORS = 100
# So often evictions that turn out to be in vain are left out and the rest decided anew; then nobody leaves.
MAX_ROUNDS = 4


def decide(
    snapshot: types.Snapshot,
    *,
    problem: Problem,
    outcome: strategies.Outcome,
    settings: types.Settings,
    deadline: float,
    watch: Stopwatch,
) -> Decision:
    """Hold room, and name victims, for the jobs that the outcome leaves out. ``snapshot`` has reservations as such."""
    may_leave = settings.preemption is not types.Preemption.NEVER or settings.resize
    if len(outcome.spots) == len(problem.queue) or not (may_leave or any(job.leaving for job in snapshot.jobs)):
        return Decision(outcome)
    reserved = reserving.with_reservations(snapshot)
    scene = Scene(reserved, problem=problem, settings=settings, deadline=deadline, watch=watch)
    promised = scene.promised(outcome)
    names = {job.id: job.name for job in problem.queue}
    line = list(names)
    round_ = _Round(scene, promised)
    in_vain: dict[str, InVain] = {}
    tried: set[str] = set()
    for _ in range(MAX_ROUNDS):
        decision = round_.decide(problem=problem, outcome=outcome, until=deadline)
        later = aftermath.play(
            snapshot, decision=decision, problem=problem, settings=settings, deadline=deadline, watch=watch
        )
        takers = {
            job_id: [one for one in line[: line.index(job_id)] if one in later and one not in decision.holds]
            for job_id in decision.for_whom()
            if job_id not in later
        }
        in_vain |= {
            job_id: InVain(
                tuple(victim.job.name for victim in decision.holds[job_id].solution.leaving),
                tuple(names[one] for one in found),
            )
            for job_id, found in takers.items()
            if found
        }
        vain = [*([] if round_.asker in ("", *decision.for_whom()) else [round_.asker]), *takers]
        if not vain:
            break
        first, *others = vain
        if first in tried:
            round_ = _Round(scene, promised, round_.barred | {*vain})
        else:
            # Whoever ahead would take the freed room has it, if more can leave so that the job fits as well.
            tried.add(first)
            come = promised | {one: later[one] for one in takers[first]}
            round_ = _Round(scene, come, round_.barred | {*others}, first, decision.holds[first].solution)
    else:
        round_ = _Round(scene, promised, frozenset(line))
        decision = round_.decide(problem=problem, outcome=outcome, until=deadline)
    decision.in_vain = {job_id: why for job_id, why in in_vain.items() if job_id in round_.barred}
    return decision


@dataclass(frozen=True, slots=True)
class _Round:
    """One way to decide: nobody leaves for those who are ``barred``, and those ``told`` leave for the ``asker``."""

    scene: Scene
    promised: Mapping[str, greedy.Spot]
    barred: frozenset[str] = frozenset()
    asker: str = ""
    told: Solution | None = None

    def decide(self, *, problem: Problem, outcome: strategies.Outcome, until: float) -> Decision:
        """Room for each job in queue order."""
        scene, decision = self.scene, Decision(outcome)
        if self.told is not None:
            scene = scene.told(self.told.leaving)
        refused: set[int] = set()
        is_first = True
        for position, job in enumerate(problem.queue):
            request = problem.shape_of[job.id].request.index
            if job.id in decision.outcome.spots or request in refused:
                continue
            preempts = job.preempts and job.id not in self.barred
            if not preempts and not decision.holds and job.id not in self.promised:
                continue  # Nobody leaves whose room it could have.
            if len(decision.holds) == MAX_PREEMPTORS or (not is_first and time.monotonic() > until):
                # The first one is always decided, if only quickly: its place in the queue comes before all others.
                decision.outcome = _with_note(decision.outcome, "not all preempting jobs were decided in this plan")
                break
            is_first = False
            asking = replace(job, preempts=preempts)
            hold = scene.hold(asking, position=position, decision=decision, promised=self.promised.get(job.id))
            planned = None if hold is None else scene.plan_beside(job, hold=hold, decision=decision)
            if hold is not None and job.id == self.asker and self.told is not None:
                both = hold.solution.after(self.told)
                if not self.scene.may_take(job, solution=both, position=position, decision=decision):
                    planned = None
            if hold is None or planned is None:
                # Later jobs have no more rank, and no more room: their equal requests need not be asked.
                if job.preempts and not job.returning:
                    refused.add(request)
                continue
            decision.holds[job.id] = hold
            decision.outcome = planned
        if self.told is not None and self.asker in decision.holds:
            hold = decision.holds[self.asker]
            decision.holds[self.asker] = replace(hold, solution=hold.solution.after(self.told))
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
    """The answers to jobs for which others would leave but for a PodDisruptionBudget, or in vain, with what says so."""
    found = {}
    for job_id, vain in decision.in_vain.items():
        answer = waiting.get(job_id)
        if answer is not None and job_id not in decision.holds:
            message = (
                f"{answer.message}; it may take the place of {words.names(vain.victims)}, but "
                f"{words.names(vain.takers)}, ahead of it, would have that room"
            )
            found[job_id] = replace(answer, message=message)
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
