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

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stowplan_allocator import aftermath, greedy, rounds, strategies, types, words
from stowplan_allocator.decisions import Decision, Hold, InVain, with_note
from stowplan_allocator.problem import Problem
from stowplan_allocator.scene import Scene, smallest_size
from stowplan_allocator.stopwatch import Stopwatch
from stowplan_allocator.victims import Victim

# So often it is decided anew because somebody would leave in vain; the first time takes so much of the time at most.
MAX_ROUNDS = 24
SHARE_OF_TIME = 0.7
NOT_PLAYED = "some evictions may be in vain: they were not played through"


def decide(
    snapshot: types.Snapshot,
    *,
    reserved: types.Snapshot,
    problem: Problem,
    outcome: strategies.Outcome,
    settings: types.Settings,
    deadline: float,
    watch: Stopwatch,
) -> Decision:
    """Hold room, and name victims, for the jobs that the outcome leaves out.

    ``snapshot`` has reservations as such, ``reserved`` is the same with reservations turned into resources.
    """
    may_leave = settings.preemption is not types.Preemption.NEVER or settings.resize
    if len(outcome.spots) == len(problem.queue) or not (may_leave or any(job.leaving for job in snapshot.jobs)):
        return Decision(outcome)
    scene = Scene(reserved, problem=problem, settings=settings, deadline=deadline, watch=watch)
    promised = scene.promised(outcome)
    begun = time.monotonic()
    # What is left of the time is for deciding anew where somebody would leave in vain.
    round_ = rounds.Round(scene, outcome, promised, until=begun + (deadline - begun) * SHARE_OF_TIME)
    in_vain: dict[str, InVain] = {}
    vain: list[str] = []
    for number in range(MAX_ROUNDS + 1):
        decision = round_.decide(problem)
        whom = decision.for_whom()
        if not whom and not round_.asked:
            break
        if number == MAX_ROUNDS or time.monotonic() > deadline:
            if number == MAX_ROUNDS or not round_.asked.keys() <= set(whom):
                # Nobody may leave for a job that has found no place by it.
                round_ = round_.barring([*vain, *round_.asked], until=deadline)
                decision = round_.decide(problem)
            decision.outcome = with_note(decision.outcome, NOT_PLAYED)
            break
        play = functools.partial(
            aftermath.play,
            snapshot,
            decision=decision,
            problem=problem,
            settings=settings,
            deadline=deadline,
            watch=watch,
        )
        later = play()
        vain = [job.id for job in problem.queue if round_.is_in_vain(job.id, decision=decision, later=later)]
        if not vain:
            break
        takers = {
            job_id: aftermath.takers(
                job_id, snapshot=snapshot, decision=decision, later=later, problem=problem, order=settings.order
            )
            for job_id in vain
            if job_id in whom
        }
        in_vain |= {job_id: _in_vain(decision.holds[job_id], takers=found) for job_id, found in takers.items() if found}
        first = vain[0]
        come = _come(round_.asked.get(first), ahead=takers.get(first, ()), later=later, play=play, problem=problem)
        if come is None:
            round_ = round_.barring([first], until=deadline)
        else:
            # Whoever ahead would take the freed room has it, if more can leave so that the job fits as well.
            told = decision.holds[first].solution if first not in round_.asked else round_.asked[first].told
            round_ = round_.asking(first, told=told, come=come, until=deadline)
    decision.in_vain = {job_id: why for job_id, why in in_vain.items() if job_id in round_.barred}
    return decision


def _come(
    asked: rounds.Asked | None,
    *,
    ahead: Sequence[types.Job],
    later: Mapping[str, greedy.Spot],
    play: Callable[..., Mapping[str, greedy.Spot]],
    problem: Problem,
) -> dict[str, greedy.Spot] | None:
    """Where those ahead of a job stand who would take the room that is freed for it; None where that is no help.

    They have their smallest sizes, as nobody leaves for more than they need. If the job has still no place, as they
    grow before its priority is looked at, they have their preferred sizes.
    """
    if asked is not None:
        ahead = [job for job in problem.queue if job.id in asked.come]
        most = {job.id: job.num_pods for job in ahead if job.num_pods > asked.come[job.id].num_pods}
        if not most or asked.is_last:
            return None
    else:
        come = {job.id for job in problem.queue}
        if ahead and not any(job.id in come for job in ahead):
            return None  # Whoever is still on his way out is held no room.
        ahead = [job for job in ahead if job.id in come]
        most = {job.id: smallest_size(job) for job in ahead}
    if any(len(job.allowed_num_pods) > 1 for job in ahead):
        later = play(most=most)
    return {job.id: later[job.id] for job in ahead} if all(job.id in later for job in ahead) else None


def _in_vain(hold: Hold, *, takers: Sequence[types.Job]) -> InVain:
    victims = tuple(victim.job.name for victim in hold.solution.leaving)
    return InVain(victims, tuple(job.name for job in takers))


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
