"""The running jobs on the problem's nodes, and what is free between them: one waiting job after the other.

What must stay true: a job is held room only beside all ahead of it and all room held before; whoever is planned anew
beside held room loses nothing to a job behind him.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace

from stowplan_allocator import choosing, compiling, gangs, goodput, greedy, rights, strategies, types
from stowplan_allocator import problem as problems
from stowplan_allocator.accounts import Accounts
from stowplan_allocator.budgets import Guard
from stowplan_allocator.choosing import Solution
from stowplan_allocator.decisions import Decision, Hold, Protected
from stowplan_allocator.namespaces import Key
from stowplan_allocator.problem import Problem, Vector
from stowplan_allocator.quotas import Allowance
from stowplan_allocator.stock import Take
from stowplan_allocator.stopwatch import Stopwatch
from stowplan_allocator.surplus import Surplus
from stowplan_allocator.terms import Terms
from stowplan_allocator.victims import Victim


class Scene:
    """The running jobs on the problem's nodes, and what is free between them."""

    def __init__(
        self,
        snapshot: types.Snapshot,
        *,
        problem: Problem,
        settings: types.Settings,
        deadline: float,
        watch: Stopwatch,
    ) -> None:
        self._snapshot = snapshot
        self._problem = problem
        self._settings = settings
        self._deadline = deadline
        self._watch = watch
        self._accounts = Accounts(snapshot, problem)
        self._jobs = {job.id: job for job in problem.queue}
        self._index = {node.name: i for i, node in enumerate(problem.nodes)}
        # Below zero where a device was lost under a running pod; less where room is reserved.
        self._rooms = [
            tuple(min(a, b) for a, b in zip(problem.balance[node.name], problem.free[i], strict=True))
            for i, node in enumerate(problem.nodes)
        ]
        running = sorted((job for job in snapshot.jobs if job.placement is not None), key=problems.queue_key)
        everyone = [choosing.victim_of(job, problem=problem, index=self._index) for job in running]
        self._leaving = [victim for victim in everyone if victim.job.leaving]
        # Of equal losses the first are taken: whoever stands last in the queue.
        self._victims = [v for v in reversed(everyone) if v.job.disruption_cost is not None and not v.job.leaving]
        self._surplus = Surplus(snapshot, problem=problem, settings=settings)

    def told(self, more: Iterable[Victim]) -> Scene:
        """The scene in which these have been told to leave, too."""
        found = copy.copy(self)
        found._leaving = [*self._leaving, *more]
        return found

    def promised(self, outcome: strategies.Outcome) -> dict[str, greedy.Spot]:
        """Who stands where once all that leave already are gone: planned for all who wait together.

        One after the other they could take the room from each other, and need more victims than were told to leave.
        They have their smallest sizes, or others would leave for more than they need.
        """
        if not self._leaving:
            return {}
        waiting = [job for job in self._problem.queue if job.id not in outcome.spots]
        first = self._problem.queue.index(waiting[0])
        # Who has grown may have to stand smaller beside those who come.
        fixed = [job.id for job in self._problem.queue[:first] if not self._has_surplus(job, outcome=outcome)]
        gone = {victim.job.id for victim in self._leaving}
        jobs = [
            replace(job, placement=self._placement(outcome.spots[job.id])) if job.id in fixed else _at_smallest(job)
            for job in self._snapshot.jobs
            if job.id not in gone
        ]
        spots = {job_id: outcome.spots[job_id] for job_id in fixed}
        allowance = self._accounts.allowance(gone=self._leaving, spots=spots)
        left = self._accounts.left(gone=self._leaving, spots=spots)
        return self._solve(replace(self._snapshot, jobs=tuple(jobs)), allowance=allowance, left=left).spots

    def _has_surplus(self, job: types.Job, *, outcome: strategies.Outcome) -> bool:
        return outcome.spots[job.id].num_pods > self._problem.shape_of[job.id].request.num_pods

    def _placement(self, spot: greedy.Spot) -> types.Placement:
        shares = tuple(types.NodeShare(self._problem.nodes[node].name, pods) for node, pods in spot.takes)
        return types.Placement(spot.product, shares)

    def _solve(
        self, snapshot: types.Snapshot, *, allowance: Allowance | None, left: Mapping[Key, int]
    ) -> strategies.Outcome:
        problem = compiling.compile_problem(
            snapshot, seed=self._settings.seed, order=self._settings.order, spaces=self._problem.namespaces
        )
        # Reservations keep their numbers, whoever is left out of the snapshot.
        problem = replace(problem, allowance=allowance, left=left)
        return strategies.solve(problem, settings=self._settings, deadline=self._deadline, watch=self._watch)

    def hold(self, job: types.Job, *, position: int, decision: Decision, promised: greedy.Spot | None) -> Hold | None:
        """Room for the job beside all ahead of it, with the cheapest victims; None where it gets none by preempting.

        A ``promised`` spot, which costs nobody his place, is taken if it is still there.
        """
        gone = [*self._leaving, *(v for hold in decision.holds.values() for v in hold.solution.leaving)]
        now = self._beside(position=position, decision=decision)
        rooms = _with_room(now, victims=gone)
        pod = self._problem.vector(job.pod)
        terms = self._terms(job, position=position, decision=decision, gone=gone)
        choose = functools.partial(self._cheapest, job, rooms=rooms, gone=gone)
        if promised is not None and _fits(promised.takes, pod=pod, rooms=rooms) and terms.enough(promised.product, ()):
            solution: Solution | None = Solution((), {job.id: (promised.product, promised.takes)}, bound=0)
        else:
            solution = choose(terms=terms, settings=self._settings)
        if solution is None:
            if terms.guard is not None:
                # Only for the answer to the job: a quick set will do.
                quick = replace(self._settings, strategy=types.Strategy.GREEDY)
                self._note_protected(
                    job, guard=terms.guard, found=choose(terms=replace(terms, guard=None), settings=quick), of=decision
                )
            return None
        product, takes = solution.stands[job.id]
        spot = greedy.Spot(product, takes)
        paid = self._terms(job, position=position, decision=decision, gone=[]).enough(product, ())
        if not solution.leaving and _fits(takes, pod=pod, rooms=now) and paid:
            return None  # It needs nobody to leave: whether it starts is for the plan to decide, and was not in time.
        nodes = {node for node, _ in takes}
        waits_for = [
            v.job.name
            for v in (*gone, *solution.leaving)
            if not nodes.isdisjoint(v.held) or (not paid and terms.frees(product, v))
        ]
        return Hold(spot, solution, tuple(waits_for))

    def _note_protected(self, job: types.Job, *, guard: Guard, found: Solution | None, of: Decision) -> None:
        """Note by which budget those are protected who would leave for the job."""
        stopped = [] if found is None else list(dict.fromkeys(victim.job.id for victim in found.leaving))
        over = guard.exceeded(stopped)
        if found is not None and over:
            budget = self._snapshot.disruption_budgets[over[0]]
            names = tuple(victim.job.name for victim in found.leaving)
            needed = sum(pods for name in stopped for i, pods in guard.pods.get(name, ()) if i == over[0])
            request = self._problem.shape_of[job.id].request.index
            of.protected[request, job.priority] = Protected(names, budget.name, needed, max(guard.left[over[0]], 0))

    def _terms(self, job: types.Job, *, position: int, decision: Decision, gone: Iterable[Victim]) -> Terms:
        """What the job may take of quotas and limits, and of whom, once these have left."""
        spots = decision.outcome.spots
        ahead = {
            one.id: self._without_surplus(one, spot=spots[one.id])
            for one in self._problem.queue[:position]
            if one.id in spots
        }
        held = {job_id: hold.spot for job_id, hold in decision.holds.items()}
        return self._accounts.terms(job, num_pods=smallest_size(job), gone=gone, spots=ahead | held)

    def _cheapest(
        self, job: types.Job, *, rooms: list[Vector], gone: list[Victim], terms: Terms, settings: types.Settings
    ) -> Solution | None:
        gang = gangs.gang_of(job, problem=self._problem, num_pods=smallest_size(job))
        taken = {victim.job.id for victim in gone}

        def is_open(name: str) -> bool:
            return name not in taken and (terms.guard is None or terms.guard.may_stop(name))

        victims = [
            v
            for v in self._victims
            if is_open(v.job.id) and rights.may_evict(v.job, job=job, settings=settings, claim=terms.claim)
        ]
        shrinks = [way for way in self._surplus.ways(job, claim=terms.claim) if is_open(way.job.id)]
        ways = terms.may_be_owned([*victims, *shrinks])
        victims = [way for way in ways if isinstance(way, Victim)]
        shrinks = [way for way in ways if not isinstance(way, Victim)]
        choose = functools.partial(
            choosing.cheapest,
            gang,
            problem=self._problem,
            rooms=rooms,
            settings=settings,
            deadline=self._deadline,
            terms=terms,
            shrinks=shrinks,
        )
        # Surplus comes first: nobody is evicted where enough of it is given up, and no queue loses of its own by it.
        found = choose(victims=()) if shrinks else None
        if found is not None and (not victims or not terms.excess(found.leaving)):
            return found
        either = choose(victims=victims) if victims or not shrinks else None
        if found is None or (either is not None and terms.excess(either.leaving) < terms.excess(found.leaving)):
            return either
        return found

    def may_take(self, job: types.Job, *, solution: Solution, position: int, decision: Decision) -> bool:
        """Whether all of these may leave for the job, beside all ahead of it."""
        gone = [*self._leaving, *(v for hold in decision.holds.values() for v in hold.solution.leaving)]
        terms = self._terms(job, position=position, decision=decision, gone=gone)
        ask = functools.partial(rights.surplus, job=job, settings=self._settings, claim=terms.claim)
        may_evict = functools.partial(rights.may_evict, job=job, settings=self._settings, claim=terms.claim)
        product, _ = solution.stands[job.id]
        return terms.allows(product, solution.leaving) and all(
            victim.size in ask(victim.job) if victim.size else may_evict(victim.job) for victim in solution.leaving
        )

    def resizes(self, holds: Mapping[str, Hold]) -> tuple[types.Resize, ...]:
        """Who shrinks, in the order of the queue of those who come."""
        return tuple(
            types.Resize(v.job.id, v.size, job_id, v.cost, placement=self._surplus.placement(v))
            for job_id, hold in holds.items()
            for v in hold.solution.leaving
            if v.size
        )

    def _beside(self, *, position: int, decision: Decision) -> list[Vector]:
        """What is left for the job at this place in the queue, all running jobs staying."""
        rooms = list(self._rooms)
        for job in self._problem.queue[:position]:
            spot = decision.outcome.spots.get(job.id)
            if spot is not None:
                self._take(rooms, job=job, spot=self._without_surplus(job, spot=spot))
        for job_id, hold in decision.holds.items():
            self._take(rooms, job=self._jobs[job_id], spot=hold.spot)
        return rooms

    def _without_surplus(self, job: types.Job, *, spot: greedy.Spot) -> greedy.Spot:
        """The pods with which an elastic job must start: what it has grown by is given up before anybody leaves."""
        request = self._problem.shape_of[job.id].request
        left = request.num_pods
        if request.patterned or spot.num_pods <= left:
            return spot
        takes = []
        for node, pods in spot.takes:
            takes.append((node, min(pods, left)))
            left -= takes[-1][1]
        return greedy.Spot(spot.product, takes)

    def _take(self, rooms: list[Vector], *, job: types.Job, spot: greedy.Spot) -> None:
        pod = self._problem.vector(job.pod)
        for node, pods in spot.takes:
            rooms[node] = tuple(have - need * pods for have, need in zip(rooms[node], pod, strict=True))

    def plan_beside(self, job: types.Job, *, hold: Hold, decision: Decision) -> strategies.Outcome | None:
        """The outcome beside all holds: the one that stands, or a new one; None where a job ahead would lose by it."""
        holds = {**decision.holds, job.id: hold}
        kept = self._kept(holds)
        gone = [*self._leaving, *(v for hold in holds.values() for v in hold.solution.leaving)]
        come = {job_id: hold.spot for job_id, hold in holds.items()}
        later, left = self._accounts.allowance(gone=gone, spots=come), self._accounts.left(gone=gone, spots=come)
        spots = decision.outcome.spots
        if not self._clashes(kept, spots=spots) and self._accounts.allow(spots, beside=later, left=left):
            return decision.outcome
        rest = replace(
            self._snapshot,
            nodes=tuple(self._without(node, kept=kept) for node in self._snapshot.nodes),
            jobs=tuple(other for other in self._snapshot.jobs if other.id not in holds),
        )
        # What starts must be within quotas and limits now and once all victims have left; shares are those of then.
        now = self._problem.allowance
        both = None if later is None or now is None else later.beside(now)
        least = {key: min(amount, self._problem.left[key]) for key, amount in left.items()}
        planned = self._solve(rest, allowance=both, left=least)
        for other in self._problem.queue:
            if other.id == job.id:
                return planned
            if other.id in decision.outcome.spots and other.id not in planned.spots:
                return None
        raise AssertionError("the job is not in the queue")

    def _kept(self, holds: Mapping[str, Hold]) -> dict[int, Vector]:
        """What of the room that is free now must stay free: what the holds need beyond what their victims leave."""
        need: dict[int, list[int]] = {}
        for job_id, hold in holds.items():
            pod = self._problem.vector(self._jobs[job_id].pod)
            for node, pods in hold.spot.takes:
                here = need.setdefault(node, [0] * len(pod))
                need[node] = [have + amount * pods for have, amount in zip(here, pod, strict=True)]
        for victim in (*self._leaving, *(v for hold in holds.values() for v in hold.solution.leaving)):
            for node in victim.held.keys() & need.keys():
                need[node] = [have - less for have, less in zip(need[node], victim.held[node], strict=True)]
        return {node: tuple(max(amount, 0) for amount in amounts) for node, amounts in need.items()}

    def _clashes(self, kept: Mapping[int, Vector], *, spots: Mapping[str, greedy.Spot]) -> bool:
        rooms = list(self._rooms)
        for job_id, spot in spots.items():
            self._take(rooms, job=self._jobs[job_id], spot=spot)
        return any(
            amount > have
            for node, amounts in kept.items()
            for amount, have in zip(amounts, rooms[node], strict=True)
            if amount
        )

    def _without(self, node: types.Node, *, kept: Mapping[int, Vector]) -> types.Node:
        amounts = kept.get(self._index.get(node.name, -1))
        if amounts is None:
            return node
        other = tuple(zip(self._problem.dims[3:], amounts[3:], strict=True))
        return replace(node, available=node.available - types.Resources(amounts[0], amounts[1], amounts[2], other))


def smallest_size(job: types.Job) -> int:
    """The size that takes the fewest places from others."""
    return min(job.allowed_num_pods, default=job.num_pods)


def _at_smallest(job: types.Job) -> types.Job:
    """A waiting job that takes no more than that; a running one as it is."""
    return job if job.placement is not None else goodput.cut(job, most=smallest_size(job))


def _with_room(rooms: Iterable[Vector], *, victims: Iterable[Victim]) -> list[Vector]:
    """The rooms once these have left."""
    found = list(rooms)
    for victim in victims:
        for node, held in victim.held.items():
            found[node] = tuple(have + more for have, more in zip(found[node], held, strict=True))
    return found


def _fits(takes: Iterable[Take], *, pod: Vector, rooms: list[Vector]) -> bool:
    pods: dict[int, int] = {}
    for node, count in takes:
        pods[node] = pods.get(node, 0) + count
    return all(problems.slots(rooms[node], pod) >= count for node, count in pods.items())
