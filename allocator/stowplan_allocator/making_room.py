"""Who moves elsewhere so that a waiting job fits, and room for those who are on their way: decided before the rest.

Moving costs nobody his place, so it comes before evictions. What is decided here stands in the
snapshot in which everything else is then planned: jobs that move, jobs for which they move and
jobs that return are there at their new places, and what the moving ones still hold is free to
nobody. So nobody can take held room, whatever the rest of the plan is made of.

Who asks (``Job.make_room``) and finds no place is answered in queue order: the cheapest moves
(``moving``) within what it may cost, beside those ahead of it. Then the whole queue is planned once
more as it will stand when these have left, jobs that return being served first. Only if that plan
places the job and everybody who moved for it are they told to move: so the plans that follow come
to the same end. Whoever is ahead in the queue and can have a place by evictions goes first.

What must stay true: nobody loses his place; a job that moves keeps its size and gets no slower product;
the moves of one plan lose at most ``move_budget``, and those for one job at most its ``make_room``; an
interrupted round goes on where it was: who has left already is planned along and pays nothing again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from stowplan_allocator import (
    budgets,
    compiling,
    fairness,
    greedy,
    moving,
    preempting,
    reserving,
    starting,
    strategies,
    types,
    words,
)
from stowplan_allocator.problem import Problem
from stowplan_allocator.stopwatch import Stopwatch

# So many jobs at most get moves in one plan, and so much of its time goes there.
MAX_JOBS = 5
SHARE_OF_TIME = 0.5
TIER = "moves"


@dataclass(frozen=True, slots=True)
class Room:
    """What is decided, and the ``snapshot`` in which the rest is to be planned: without reservations of these jobs.

    ``placements`` are of returning jobs that start now; ``bound`` is the least that all moves could have lost.
    """

    snapshot: types.Snapshot
    placements: Mapping[str, types.Placement] = field(default_factory=dict)
    held: Mapping[str, types.Placement] = field(default_factory=dict)
    moves: tuple[types.Move, ...] = ()
    waiting: Mapping[str, types.Waiting] = field(default_factory=dict)
    bound: int = 0

    def judge(self, outcome: strategies.Outcome) -> strategies.Outcome:
        """The outcome of the rest, with what was decided here."""
        started = len(self.placements)
        outcome = replace(outcome, value=outcome.value + started, bound=outcome.bound + started)
        if not self.moves:
            return outcome
        value = sum(move.cost for move in self.moves)
        proven = value == self.bound
        status = types.SolveStatus.OPTIMAL if proven else types.SolveStatus.FEASIBLE
        gap = (value - self.bound) / value if value else 0.0
        tier = types.TierResult(TIER, float(value), float(self.bound), gap, status)
        notes = (outcome.note, "" if proven else f'tier "{TIER}" is not proven, gap {gap:.2%}')
        if outcome.status is types.SolveStatus.NOTHING_TO_DO or (
            outcome.status is types.SolveStatus.OPTIMAL and not proven
        ):
            outcome = replace(outcome, status=status)
        return replace(outcome, tiers=(*outcome.tiers, tier), note="; ".join(note for note in notes if note))


def decide(snapshot: types.Snapshot, *, settings: types.Settings, deadline: float, watch: Stopwatch) -> Room:
    """Moves for whoever asks, and places for those who return while others are still leaving."""
    waiting = [job for job in snapshot.jobs if job.placement is None]
    asks = snapshot.move_budget > 0 and any(job.make_room > 0 for job in waiting)
    is_leaving = any(job.leaving for job in snapshot.jobs)
    if not asks and not (is_leaving and any(job.returning for job in waiting)):
        return Room(snapshot)
    now = time.monotonic()
    scene = _Scene(snapshot, settings=settings, deadline=now + (deadline - now) * SHARE_OF_TIME, watch=watch)
    if asks:
        scene.ask()
    return scene.room(is_leaving=is_leaving)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job needs, in words, and the least that moves for it lose."""

    needs: str
    bound: int


class _Later:
    """The queue planned as if everybody who is leaving had left."""

    def __init__(self, world: types.Snapshot, *, settings: types.Settings, deadline: float, watch: Stopwatch) -> None:
        self.world = world
        self.problem = _compiled(reserving.with_reservations(world), settings=settings)
        self.spots = strategies.solve(self.problem, settings=settings, deadline=deadline, watch=watch).spots
        self.problem = fairness.in_turn(self.problem, spots=self.spots)

    def placement(self, job_id: str) -> types.Placement:
        """Where the job stands then."""
        request = self.problem.shape_of[job_id].request
        return greedy.to_placement(self.spots[job_id], problem=self.problem, request=request)


class _Scene:
    """The cluster as it will stand, and who has been given a place there."""

    def __init__(
        self, snapshot: types.Snapshot, *, settings: types.Settings, deadline: float, watch: Stopwatch
    ) -> None:
        self._snapshot = snapshot
        self._settings = settings
        self._deadline = deadline
        self._watch = watch
        self._jobs = {job.id: job for job in snapshot.jobs}
        self._fixed: dict[str, types.Placement] = {}
        self._moves: dict[str, types.Move] = {}
        self._asked: dict[str, _Asked] = {}
        self._preemptors: frozenset[str] | None = None
        there = [job for job in snapshot.jobs if job.placement is None or not job.leaving]
        there += snapshot.coming_back
        self._later = self._planned(
            replace(snapshot, jobs=tuple(replace(job, leaving=False) for job in there), coming_back=())
        )

    def _planned(self, world: types.Snapshot) -> _Later:
        return _Later(world, settings=self._settings, deadline=self._deadline, watch=self._watch)

    def ask(self) -> None:
        """Moves for those who ask and have no place, in queue order."""
        asking = [job.id for job in self._later.problem.queue if job.make_room > 0]
        tried = 0
        for job_id in asking:
            left = self._snapshot.move_budget - sum(move.cost for move in self._moves.values())
            # The first one is always answered, if only quickly.
            if len(self._asked) == MAX_JOBS or left <= 0 or (tried and time.monotonic() > self._deadline):
                return
            # Planned anew, a job differs where reservations came to an end; and it may have a place already.
            job = next((one for one in self._later.problem.queue if one.id == job_id), None)
            if job is not None and job_id not in self._later.spots:
                tried += 1
                if not self._is_evicting(job):
                    self._make_room(job, budget=min(job.make_room, left))

    def _is_evicting(self, job: types.Job) -> bool:
        """Whether somebody ahead gets a place by evictions: moves must not take his victims from him."""
        line = self._later.problem.queue
        ahead = {one.id for one in line[: line.index(job)]}
        if self._settings.preemption is types.Preemption.NEVER or ahead <= self._later.spots.keys():
            return False
        if self._preemptors is None:
            self._preemptors = self._evict()
        return not ahead.isdisjoint(self._preemptors)

    def _evict(self) -> frozenset[str]:
        """Who gets a place by evictions if nobody moves."""
        reserved = reserving.with_reservations(self._snapshot)
        problem = _compiled(reserved, settings=self._settings)
        outcome = strategies.solve(problem, settings=self._settings, deadline=self._deadline, watch=self._watch)
        decided = preempting.decide(
            self._snapshot,
            reserved=reserved,
            problem=fairness.in_turn(problem, spots=outcome.spots),
            outcome=outcome,
            settings=self._settings,
            deadline=self._deadline,
            watch=self._watch,
        )
        return frozenset(eviction.for_job for eviction in decided.evictions())

    def _make_room(self, job: types.Job, *, budget: int) -> None:
        """The cheapest moves for this job, if it pays for them and they hold in a plan of everybody."""
        later = self._later
        line = later.problem.queue
        ahead = [one for one in line[: line.index(job)] if one.id in later.spots]
        along = {one.id for one in line if one.returning and one.id in later.spots}
        beside = {one.id: later.placement(one.id) for one in ahead if one.id not in along}
        seconds = max(self._deadline - time.monotonic(), moving.MIN_SECONDS)
        found = moving.moves(
            later.world,
            job.id,
            settings=replace(self._settings, time_limit_seconds=seconds),
            beside=beside,
            along=along,
        )
        if found is None or not found.moves or found.cost > budget:
            return
        movers = {move.job_id: move.cost for move in found.moves}
        trial = self._planned(_asking_alone(_standing(_returning(later.world, movers), beside), job.id))
        if not trial.spots.keys() >= {job.id, *movers, *along}:
            return
        places = {name: trial.placement(name) for name in (job.id, *movers, *along)}
        if not all(self._may_go(name, places[name]) for name in movers):
            return
        self._moves |= {
            name: types.Move(name, job.id, cost, places[name])
            for name, cost in movers.items()
            if not _is_same(places[name], self._jobs[name].placement)
        }
        needs = words.needs(later.problem.shape_of[job.id].request, dims=later.problem.dims)
        self._asked[job.id] = _Asked(needs, found.bound)
        self._fixed |= places
        self._later = self._planned(budgets.spent(_standing(later.world, places), stopped=movers))

    def _may_go(self, name: str, place: types.Placement) -> bool:
        """Whether the place costs the job, and its queue, no more than the move."""
        job = self._jobs[name]
        assert job.placement is not None, "only running jobs move"
        if place.product == job.placement.product:
            return True
        speed = {choice.product: choice.relative_throughput_milli for choice in job.products}
        return not self._snapshot.queues and speed.get(place.product, 0) >= speed.get(job.placement.product, 0)

    def room(self, *, is_leaving: bool) -> Room:
        """All of it. Who returns while others leave is told where; else the rest of the plan does that."""
        back = [job for job in self._snapshot.jobs if job.placement is None and job.returning]
        if is_leaving:
            spots = self._later.spots
            self._fixed |= {job.id: self._later.placement(job.id) for job in back if job.id in spots}
        lost = [job for job in back if job.leaving and job.id not in self._fixed]
        # Whose answer is here needs no reservation: his room is held, or he cannot start yet.
        answered = self._fixed.keys() | {job.id for job in lost}
        kept = tuple(one for one in self._snapshot.reservations if one.job_id not in answered)
        now = starting.Now(replace(self._snapshot, reservations=kept))
        placements, held, waiting = {}, {}, {}
        for job_id, place in self._fixed.items():
            job = self._jobs[job_id]
            if job.placement is not None:
                continue
            if job.returning and not job.leaving and now.starts(job_id, place):
                placements[job_id] = place
                continue
            held[job_id] = place
            waiting[job_id] = self._wait(job, place)
        waiting |= {job.id: self._wait(job, None) for job in lost}
        without = {job.id for job in lost}
        there = tuple(job for job in self._snapshot.jobs if job.id not in without)
        coming = (*self._snapshot.coming_back, *(replace(job, leaving=False) for job in lost))
        rest = replace(self._snapshot, jobs=there, reservations=kept, coming_back=coming)
        return Room(
            budgets.spent(self._kept(_standing(rest, self._fixed)), stopped=self._moves),
            placements,
            held,
            tuple(self._moves.values()),
            waiting,
            min(sum(one.bound for one in self._asked.values()), sum(move.cost for move in self._moves.values())),
        )

    def _kept(self, world: types.Snapshot) -> types.Snapshot:
        """Room that those who move still hold, and that nobody will hold then, is free to nobody."""
        more: dict[str, types.Resources] = {}
        for name, move in self._moves.items():
            _add(more, self._jobs[name], self._jobs[name].placement, factor=1)
            _add(more, self._jobs[name], move.placement, factor=-1)
        for name in self._asked:
            _add(more, self._jobs[name], self._fixed[name], factor=-1)
        nodes = (
            replace(node, available=node.available - _positive(more[node.name])) if node.name in more else node
            for node in world.nodes
        )
        return replace(world, nodes=tuple(nodes))

    def _wait(self, job: types.Job, place: types.Placement | None) -> types.Waiting:
        """The answer to a job for which others move, or that is on its way back."""
        asked = self._asked.get(job.id)
        if asked is None:
            near = {share.node for share in place.shares} if place is not None else set()
            names = tuple(
                dict.fromkeys(
                    one.name
                    for one in self._snapshot.jobs
                    if one.leaving and one.placement is not None
                    if one.name == job.name or any(share.node in near for share in one.placement.shares)
                )
            )
            until = f"until {words.names(names)} {'has' if len(names) == 1 else 'have'} left"
            message = f"was stopped to start again; waits {until if names else 'until its own pods are gone'}"
            if place is not None:
                message += ", and its room is kept"
            return types.Waiting(types.Reason.WAITING_FOR_PREEMPTION, message, (), names)
        moves = [move for move in self._moves.values() if move.for_job == job.id]
        names = tuple(self._jobs[move.job_id].name for move in moves)
        cost = sum(move.cost for move in moves)
        num_pods = place.num_pods if place is not None else job.num_pods
        numbers = {
            "pods_needed": str(num_pods),
            "accelerators_needed": str(num_pods * job.pod.accelerators),
            "moves": str(len(moves)),
            "disruption_cost": str(cost),
            "disruption_bound": str(min(asked.bound, cost)),
        }
        one = len(moves) == 1
        message = (
            f"needs {asked.needs}; {words.names(names)} {'moves' if one else 'move'} elsewhere for it and "
            f"lose{'s' if one else ''} {cost} accelerator-seconds of work; its room is kept until then"
        )
        return types.Waiting(types.Reason.WAITING_FOR_PREEMPTION, message, tuple(numbers.items()), names)


def _compiled(reserved: types.Snapshot, *, settings: types.Settings) -> Problem:
    return compiling.compile_problem(reserved, seed=settings.seed, order=settings.order)


def _standing(world: types.Snapshot, places: Mapping[str, types.Placement]) -> types.Snapshot:
    """The world with these jobs at these places, where they stay."""
    jobs = (
        replace(
            job,
            placement=places[job.id],
            disruption_cost=None,
            resize_cost=None,
            leaving=False,
            returning=False,
        )
        if job.id in places
        else job
        for job in world.jobs
    )
    return replace(world, jobs=tuple(jobs))


def _returning(world: types.Snapshot, names: Collection[str]) -> types.Snapshot:
    """The world in which these running jobs have left, and return at the size that they have."""
    jobs = (
        replace(job, placement=None, num_pods=job.placement.num_pods, allowed_num_pods=(), returning=True)
        if job.id in names and job.placement is not None
        else job
        for job in world.jobs
    )
    return replace(world, jobs=tuple(jobs))


def _asking_alone(world: types.Snapshot, job_id: str) -> types.Snapshot:
    """The world in which nobody else asks: so who moves for the job keeps off the room of all others."""
    jobs = (replace(job, make_room=0) if job.make_room and job.id != job_id else job for job in world.jobs)
    return replace(world, jobs=tuple(jobs))


def _is_same(one: types.Placement, other: types.Placement | None) -> bool:
    """Whether two places have so many pods on the same nodes."""
    return other is not None and sorted((s.node, s.num_pods) for s in one.shares) == sorted(
        (s.node, s.num_pods) for s in other.shares
    )


def _add(sums: dict[str, types.Resources], job: types.Job, place: types.Placement | None, *, factor: int) -> None:
    for share in place.shares if place is not None else ():
        amount = job.pod * (share.num_pods * factor)
        sums[share.node] = sums.get(share.node, types.Resources()) + amount


def _positive(amounts: types.Resources) -> types.Resources:
    return types.Resources(
        max(amounts.accelerators, 0),
        max(amounts.cpu_milli, 0),
        max(amounts.memory_mib, 0),
        tuple((name, max(amount, 0)) for name, amount in amounts.other),
    )
