"""The cheapest running jobs to move elsewhere so that a waiting job fits: nobody loses his place for good.

Three questions, cheap ones first. Which victims would do if they need not stand anywhere
else? What they lose is a bound: moving never costs less than evicting. Do these find places
beside the waiting job? Then they are the answer, proven. Otherwise the programme of
``disruption`` chooses victims and all new places together. What must stay true: whatever is
returned has been checked as a plan is, all moved gangs and the waiting one standing whole on
the cluster at once; jobs that must not be disturbed, or not moved, stay; nobody goes to a slower product; None does
not mean that no moves exist unless ``settings`` gave time enough and the cluster is small.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import (
    budgets,
    checks,
    choosing,
    compiling,
    gangs,
    greedy,
    limits,
    namespaces,
    quotas,
    reserving,
    strategies,
    types,
)
from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Vector
from stowplan_allocator.stopwatch import Stopwatch
from stowplan_allocator.terms import Terms
from stowplan_allocator.victims import Victim

# Gangs times nodes in one programme. Beyond that only the cheapest candidates are looked at.
MAX_PLACES = 20_000
# For re-placing what moves, however late it is: a greedy plan at least.
MIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Moves:
    """Where the waiting job stands once all moves are done. ``bound``: no set of moves is cheaper than that."""

    job_id: str
    placement: types.Placement
    moves: tuple[types.Move, ...]
    bound: int

    @property
    def cost(self) -> int:
        """What is lost."""
        return sum(move.cost for move in self.moves)


def moves(
    snapshot: types.Snapshot,
    job_id: str,
    *,
    settings: types.Settings | None = None,
    beside: Mapping[str, types.Placement] | None = None,
    along: Collection[str] = (),
) -> Moves | None:
    """Moves after which the waiting job fits, beside all that runs and the given placements of other waiting jobs.

    Waiting jobs ``along`` must all get a place, too, wherever that is.
    """
    settings = settings or types.Settings()
    deadline = time.monotonic() + settings.time_limit_seconds
    if not any(job.id == job_id and job.placement is None for job in snapshot.jobs):
        raise ValueError(f'job "{job_id}" does not wait in the snapshot')
    free = _without_limits(snapshot, job_id, beside=beside or {})
    free = None if free is None else _without_queues(free, job_id, beside=beside or {})
    if free is None:
        return None
    # Who gets room by moves needs no other: what is kept for him keeps nobody from moving there.
    others = tuple(one for one in free.reservations if one.job_id != job_id)
    kept = reserving.with_reservations(replace(free, reservations=others))
    job = next(one for one in kept.jobs if one.id == job_id)
    scene = _Scene(kept, job=job, beside=beside or {}, along=along, settings=settings)
    if not scene.problem.shape_of.keys() >= {job_id, *along}:
        return None
    gang = gangs.gang_of(job, problem=scene.problem)
    found = choosing.cheapest(
        gang,
        problem=scene.problem,
        rooms=scene.rooms,
        victims=scene.victims,
        settings=settings,
        deadline=deadline,
        terms=scene.terms,
    )
    if found is None:
        return None
    placed = scene.replace_all(found.leaving, limit_seconds=max(deadline - time.monotonic(), MIN_SECONDS))
    if placed is None:
        left = deadline - time.monotonic()
        if settings.strategy is types.Strategy.GREEDY or left <= 0:
            return None
        answer = scene.choose(gang, likely=found.leaving, limit_seconds=left)
        if answer is None:
            return None
        placed, proven = answer
        return scene.answer(placed, bound=max(proven, found.bound))
    return scene.answer(placed, bound=found.bound)


def _without_limits(
    snapshot: types.Snapshot, job_id: str, *, beside: Mapping[str, types.Placement]
) -> types.Snapshot | None:
    """The same question without limits of namespaces, which no move changes; None where these refuse the job."""
    spaces = namespaces.compile_limits(snapshot)
    if spaces is None:
        return snapshot
    jobs = {one.id: one for one in snapshot.jobs}
    come = [(jobs[name], placement.num_pods) for name, placement in beside.items() if name in jobs]
    spare = namespaces.Spare(spaces.left(come=come))
    job = jobs[job_id]
    return replace(snapshot, namespace_limits=()) if spare.fits(spaces.charges(job), job.num_pods) else None


def _without_queues(
    snapshot: types.Snapshot, job_id: str, *, beside: Mapping[str, types.Placement]
) -> types.Snapshot | None:
    """The same question without queues: the job may use the products of which its queue has quota, the others stay
    on theirs. None where its queue has none.
    """
    shared = quotas.compile_quotas(snapshot)
    if shared is None:
        return snapshot
    standing = [replace(one, placement=beside.get(one.id, one.placement)) for one in snapshot.jobs]
    usage = quotas.usage_of(shared, standing)
    jobs = []
    for one in snapshot.jobs:
        if one.id == job_id:
            leaf, amount = shared.leaf(one), one.num_pods * one.pod.accelerators
            offered = one.products or tuple(map(types.ProductChoice, sorted({node.product for node in snapshot.nodes})))
            if usage.is_full(leaf) is not None or isinstance(limits.within(one, shared=shared), types.Waiting):
                return None
            if amount:
                fits = [c for c in offered if usage.fits(leaf, shared.kind(leaf, c.product), amount)]
                if not fits:
                    return None
                one = replace(one, products=tuple(fits))
        elif one.placement is not None and one.placement.product:
            # On another product it would count in another quota.
            one = replace(one, products=(types.ProductChoice(one.placement.product),))
        jobs.append(replace(one, queue=""))
    return replace(snapshot, jobs=tuple(jobs), queues=())


class _Scene:
    """The cluster with everybody who may be moved lifted off it, and what each holds."""

    def __init__(
        self,
        snapshot: types.Snapshot,
        *,
        job: types.Job,
        beside: Mapping[str, types.Placement],
        along: Collection[str],
        settings: types.Settings,
    ) -> None:
        self._job = job
        self._along = sorted((one for one in snapshot.jobs if one.id in along), key=problems.queue_key)
        self._settings = settings
        standing = [replace(one, placement=beside.get(one.id, one.placement)) for one in snapshot.jobs]
        running = [one for one in standing if one.placement is not None]
        fixed = {one.id for one in running if one.disruption_cost is None or one.stays or one.leaving} | {*beside}
        self._fixed = [one for one in running if one.id in fixed]
        movable = sorted((one for one in running if one.id not in fixed), key=problems.queue_key)
        self._lifted = {one.id: _lift(one) for one in movable}
        self._running = {one.id: one for one in movable}
        self.terms = Terms(guard=budgets.guard_of(snapshot))
        self._base = replace(snapshot, reservations=())
        self.problem = compiling.compile_problem(
            replace(self._base, jobs=(*self._fixed, *self._lifted.values(), *self._along, job)), seed=settings.seed
        )
        amounts = problems.free_vectors(replace(snapshot, jobs=tuple(running)), dims=self.problem.dims)
        index = {node.name: i for i, node in enumerate(self.problem.nodes)}
        self.rooms: list[Vector] = [amounts[node.name] for node in self.problem.nodes]
        self.victims = [
            choosing.victim_of(one, problem=self.problem, index=index)
            for one in movable
            if one.id in self.problem.shape_of
        ]

    def replace_all(self, leaving: Sequence[Victim], *, limit_seconds: float) -> dict[str, types.Placement] | None:
        """Places for the waiting job and all these together, found by planning; None where they do not all fit."""
        names = {victim.job.id for victim in leaving}
        first = max((one.priority for one in (*self._lifted.values(), *self._along)), default=0) + 1
        waiting = [replace(self._job, priority=first), *self._along, *(self._lifted[name] for name in sorted(names))]
        staying = [one for name, one in self._running.items() if name not in names]
        problem = compiling.compile_problem(
            replace(self._base, jobs=(*self._fixed, *staying, *waiting)), seed=self._settings.seed
        )
        outcome = strategies.solve(
            problem, settings=self._settings, deadline=time.monotonic() + limit_seconds, watch=Stopwatch()
        )
        if len(outcome.spots) < len(waiting):
            return None
        return {
            job_id: greedy.to_placement(spot, problem=problem, request=problem.shape_of[job_id].request)
            for job_id, spot in outcome.spots.items()
        }

    def choose(
        self, gang: gangs.Gang, *, likely: Sequence[Victim], limit_seconds: float
    ) -> tuple[dict[str, types.Placement], int] | None:
        """Victims and new places together by the programme, and a bound on the cost if all candidates are in it."""
        # PuLP and HiGHS take a second and 50 MB: only a process that solves loads them.
        from stowplan_allocator import disruption

        most = max(MAX_PLACES // max(len(self.problem.nodes), 1), len(likely), 1)
        wanted = {victim.job.id for victim in likely}
        ranked = sorted(self.victims, key=lambda victim: (victim.job.id not in wanted, victim.cost, victim.job.id))
        chosen = ranked[:most]
        everywhere = range(len(self.problem.nodes))
        programme = disruption.Programme(self.problem, rooms=self.rooms, victims=chosen, single=everywhere)
        programme.add_gang(gang)
        if not all(programme.add_gang(gangs.gang_of(one, problem=self.problem)) for one in self._along):
            return None
        for i, victim in enumerate(chosen):
            programme.add_gang(gangs.gang_of(self._lifted[victim.job.id], problem=self.problem), moves=i)
        programme.add_terms(self.terms)
        programme.start_from(())
        solution = programme.solve(settings=self._settings, limit_seconds=limit_seconds)
        if solution is None:
            return None
        placed = {
            job_id: greedy.to_placement(
                greedy.Spot(product, takes), problem=self.problem, request=self.problem.shape_of[job_id].request
            )
            for job_id, (product, takes) in solution.stands.items()
        }
        return placed, solution.bound if len(chosen) == len(self.victims) else 0

    def answer(self, placed: Mapping[str, types.Placement], *, bound: int) -> Moves:
        """The moves, checked as a plan is."""
        staying = [one for name, one in self._running.items() if name not in placed]
        moving = [self._lifted[name] for name in self._running if name in placed]
        final = replace(self._base, jobs=(*self._fixed, *staying, *moving, *self._along, self._job))
        certificate = types.Certificate(types.SolveStatus.FEASIBLE, self._settings.strategy.value)
        checks.verify(types.Plan(placed, {}, certificate), snapshot=final)
        done = tuple(
            types.Move(name, self._job.id, one.disruption_cost or 0, placed[name])
            for name, one in self._running.items()
            if name in placed
        )
        return Moves(self._job.id, placed[self._job.id], done, min(bound, sum(move.cost for move in done)))


def _lift(job: types.Job) -> types.Job:
    """The running job as one that waits for a new place at its present size, on no slower product."""
    assert job.placement is not None, "only running jobs are lifted"
    speed = {choice.product: choice.relative_throughput_milli for choice in job.products}
    least = speed.get(job.placement.product, 0)
    return replace(
        job,
        placement=None,
        num_pods=job.placement.num_pods,
        allowed_num_pods=(),
        products=tuple(choice for choice in job.products if choice.relative_throughput_milli >= least),
    )
