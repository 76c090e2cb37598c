"""One way to decide who leaves for whom, in queue order; the next round knows who would leave in vain.

What must stay true: nobody leaves for those who are barred; those who were told to leave for a job that asked leave
for it, or for nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from stowplan_allocator import greedy, strategies, types
from stowplan_allocator.choosing import Solution
from stowplan_allocator.decisions import Decision, Hold, with_note, with_tier
from stowplan_allocator.problem import Problem
from stowplan_allocator.scene import Scene

# Beyond so many the rest waits for the next plan.
MAX_PREEMPTORS = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """Who leaves for a job, and who ahead of it has the room that they free, if more leave so that it fits as well.

    ``is_last``: nothing else is asked for it.
    """

    told: Solution
    come: Mapping[str, greedy.Spot]
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """One way to decide about all whom the ``outcome`` leaves out, on the scene without anybody told.

    ``promised`` are places that cost nobody his own; no second job is decided after ``until`` (monotonic seconds).
    """

    scene: Scene
    outcome: strategies.Outcome
    promised: Mapping[str, greedy.Spot]
    until: float
    asked: Mapping[str, Asked] = field(default_factory=dict)
    barred: frozenset[str] = frozenset()

    def asking(self, job_id: str, *, told: Solution, come: Mapping[str, greedy.Spot], until: float) -> Round:
        """The round in which these leave for the job, and these come before it; it may be asked for twice."""
        asked = Asked(told, come, is_last=job_id in self.asked)
        return replace(self, asked={**self.asked, job_id: asked}, until=until)

    def barring(self, job_ids: Iterable[str], *, until: float) -> Round:
        """The round in which nobody leaves for these, too."""
        barred = self.barred.union(job_ids)
        asked = {job_id: one for job_id, one in self.asked.items() if job_id not in barred}
        return replace(self, asked=asked, barred=barred, until=until)

    def is_in_vain(self, job_id: str, *, decision: Decision, later: Mapping[str, greedy.Spot]) -> bool:
        """Whether somebody leaves for the job, or was told to, and it has no place later."""
        hold = decision.holds.get(job_id)
        if hold is None or not hold.solution.leaving:
            return job_id in self.asked
        return job_id not in later

    def decide(self, problem: Problem) -> Decision:
        """Room for each job in queue order."""
        decision = Decision(self.outcome)
        promised = {**self.promised}
        for one in self.asked.values():
            promised |= one.come
        told = {job_id: one.told for job_id, one in self.asked.items()}
        refused: set[int] = set()
        is_first = True
        for position, job in enumerate(problem.queue):
            request = problem.shape_of[job.id].request.index
            if job.id in decision.outcome.spots or request in refused:
                continue
            preempts = job.preempts and job.id not in self.barred
            if not preempts and not decision.holds and job.id not in promised:
                continue  # Nobody leaves whose room it could have.
            if len(decision.holds) == MAX_PREEMPTORS or (not is_first and time.monotonic() > self.until):
                # The first one is always decided, if only quickly: its place in the queue comes before all others.
                decision.outcome = with_note(decision.outcome, "not all preempting jobs were decided in this plan")
                break
            is_first = False
            asking = replace(job, preempts=preempts)
            held = self._hold(asking, position=position, decision=decision, promised=promised, told=told)
            if not held and job.preempts and not job.returning:
                # Later jobs have no more rank, and no more room: their equal requests need not be asked.
                refused.add(request)
        decision.resizes = self.scene.resizes(decision.holds)
        for tier in decision.tiers(status=types.SolveStatus.FEASIBLE):
            decision.outcome = with_tier(decision.outcome, tier=tier)
        return decision

    def _hold(
        self,
        job: types.Job,
        *,
        position: int,
        decision: Decision,
        promised: Mapping[str, greedy.Spot],
        told: dict[str, Solution],
    ) -> bool:
        """Hold room for the job, if it has any. Whoever was ``told`` for it is from then on among its victims."""
        scene = self.scene.told(victim for one in told.values() for victim in one.leaving)
        hold: Hold | None = scene.hold(job, position=position, decision=decision, promised=promised.get(job.id))
        if hold is None:
            return False
        planned = scene.plan_beside(job, hold=hold, decision=decision)
        if planned is None:
            return False
        if job.id in told:
            hold = replace(hold, solution=hold.solution.after(told[job.id]))
            others = (victim for job_id, one in told.items() if job_id != job.id for victim in one.leaving)
            if not self.scene.told(others).may_take(job, solution=hold.solution, position=position, decision=decision):
                return False
            del told[job.id]
        decision.holds[job.id] = hold
        decision.outcome = planned
        return True
