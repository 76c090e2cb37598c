"""Spare accelerators go to running elastic jobs, where nobody waits who could use them.

A job that grows stops, saves, and comes back larger; that pays where what it then gets done more over the horizon (or
over what is left of it) exceeds its ``resize_cost``. Sought is the most that all of them gain, less what they lose
(marginal goodput per accelerator as in Pollux, OSDI '21, and Sia, SOSP '23). First by greed: again and again the step
that gains most for each further accelerator, and once more after other first steps; then, where sizes times nodes are
not too many and neither quotas nor limits count, exactly by the programme of ``expansion``.

What must stay true: every job that grows has room at its new size beside all others at theirs, on the product that it
has; each is resized once, and gains more than it loses; after a growth the same snapshot has no further one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import sub

from stowplan_allocator import (
    budgets,
    choosing,
    compiling,
    decisions,
    gangs,
    greedy,
    namespaces,
    reserving,
    surplus,
    types,
)
from stowplan_allocator import problem as problems
from stowplan_allocator.gangs import Gang
from stowplan_allocator.namespaces import Spare
from stowplan_allocator.problem import Request, Vector
from stowplan_allocator.quotas import Allowance
from stowplan_allocator.stock import Take
from stowplan_allocator.victims import Victim

# Whoever waits for one of these reasons could not use free room.
HOPELESS = (
    types.Reason.MISCONFIGURED,
    types.Reason.NO_MATCHING_ACCELERATOR,
    types.Reason.EXCEEDS_CLUSTER_CAPACITY,
    types.Reason.EXCEEDS_QUOTA,
    types.Reason.EXCEEDS_RESOURCE_QUOTA,
)
# Places in one programme, counted as nodes times sizes.
MAX_PLACES = 20_000
MAX_SWAPS = 50


@dataclass(frozen=True, slots=True)
class Growth:
    """Who grows, and what is known of the most that all of them could gain."""

    resizes: tuple[types.Resize, ...]
    tier: types.TierResult


@dataclass(frozen=True, slots=True)
class _Size:
    """A larger size of a job: the gang that it would be, the nodes of each of its groups, and what it gains."""

    gang: Gang
    nodes: tuple[frozenset[int], ...]
    gain: int


@dataclass(frozen=True, slots=True)
class _Grower:
    """A job that could grow: where it stands, and its larger sizes."""

    job: types.Job
    request: Request
    product: str
    takes: list[Take]
    now: int
    sizes: Mapping[int, _Size]

    @property
    def cost(self) -> int:
        """What its restart loses."""
        return self.job.resize_cost or 0

    def net(self, size: int) -> int:
        """What it gains at a size, less what the restart loses; nothing at the size that it has."""
        return self.sizes[size].gain - self.cost if size != self.now else 0


@dataclass(slots=True)
class _State:
    """What is free beside everybody, where those stand who have grown, and nodes that they have left."""

    rooms: list[Vector]
    allowance: Allowance | None
    spare: Spare | None
    takes: dict[str, list[Take]] = field(default_factory=dict)
    left: frozenset[int] = frozenset()

    def size_of(self, grower: _Grower) -> int:
        """How many pods the job has by now."""
        takes = self.takes.get(grower.job.id)
        return grower.now if takes is None else _pods(takes)


def decide(
    snapshot: types.Snapshot,
    *,
    placements: Mapping[str, types.Placement],
    waiting: Mapping[str, types.Waiting],
    settings: types.Settings,
    deadline: float,
) -> Growth | None:
    """Who grows beside those who run and those who start now; None where nobody does, or somebody waits or leaves.

    Room that is still kept for whoever starts now is not given away either.
    """
    if not settings.resize or any(job.leaving for job in snapshot.jobs) or reserving.limits(snapshot):
        return None
    if any(answer.reason not in HOPELESS for answer in waiting.values()):
        return None
    candidates = sorted(
        (job for job in snapshot.jobs if surplus.is_resizable(job)),
        key=lambda job: problems.queue_key(job, order=settings.order),
    )
    guard = budgets.guard_of(snapshot)
    if guard is not None:
        # Those that may all be stopped: the first in the line, as far as the budgets go.
        together = guard.together(job.id for job in candidates)
        candidates = [job for job in candidates if job.id in together]
    if not candidates:
        return None
    standing = (replace(job, placement=placements.get(job.id, job.placement)) for job in snapshot.jobs)
    here = replace(snapshot, jobs=tuple(job for job in standing if job.placement is not None), reservations=())
    # As for all that decides only how much somebody gets: worth a little waiting, not the whole limit in every cycle.
    deadline = min(deadline, time.monotonic() + settings.late_tiers_seconds)
    return _Scene(here, candidates=candidates, settings=settings, deadline=deadline).growth()


class _Scene:
    """Those who could grow, on the cluster on which all stand."""

    def __init__(
        self, snapshot: types.Snapshot, *, candidates: list[types.Job], settings: types.Settings, deadline: float
    ) -> None:
        self._settings = settings
        self._deadline = deadline
        names = {job.id for job in candidates}
        up = tuple(replace(job, placement=None) if job.id in names else job for job in snapshot.jobs)
        self._problem = problem = compiling.compile_problem(replace(snapshot, jobs=up), seed=settings.seed)
        amounts = problems.free_vectors(snapshot, dims=problem.dims)
        self._index = {node.name: i for i, node in enumerate(problem.nodes)}
        shared, limits = problem.quotas, namespaces.compile_limits(snapshot)
        self._start = _State(
            [amounts[node.name] for node in problem.nodes],
            None if shared is None else compiling.allowance_of(snapshot, shared=shared),
            None if limits is None else Spare(limits.left()),
        )
        self._gangs: dict[tuple[int, int, str], tuple[Gang, tuple[frozenset[int], ...]]] = {}
        self._open: dict[Vector, frozenset[int]] = {}
        self._growers = [grower for job in candidates if (grower := self._grower(job)) is not None]

    def _grower(self, job: types.Job) -> _Grower | None:
        """The job, if it could grow where nobody else does."""
        placement = job.placement
        if job.id not in self._problem.shape_of or placement is None or time.monotonic() > self._deadline:
            return None
        request = self._problem.shape_of[job.id].request
        horizon, now = self._settings.resize_horizon_seconds, placement.num_pods
        done = surplus.done(job, num_pods=now, horizon_seconds=horizon)
        gains = {size: surplus.done(job, num_pods=size, horizon_seconds=horizon) - done for size in request.sizes}
        worth_it = tuple(size for size in request.sizes if size > now and gains[size] > (job.resize_cost or 0))
        takes = [(self._index[share.node], share.num_pods) for share in placement.shares if share.node in self._index]
        sizes = {}
        for size in surplus.few(worth_it):
            gang, nodes = self._gang(job, request=request, size=size, product=placement.product)
            sizes[size] = _Size(gang, nodes, gains[size])
        grower = _Grower(job, request, placement.product, takes, now, sizes)
        fitting = {size: one for size, one in sizes.items() if self._grown(self._start, grower, size=size) is not None}
        return replace(grower, sizes=fitting) if fitting else None

    def _gang(
        self, job: types.Job, *, request: Request, size: int, product: str
    ) -> tuple[Gang, tuple[frozenset[int], ...]]:
        """The job at a size, on the product that it has; equal jobs share it."""
        key = (request.index, size, product)
        if key not in self._gangs:
            gang = gangs.gang_of(job, problem=self._problem, num_pods=size)
            gang = replace(gang, groups=tuple(group for group in gang.groups if group.product in ("", product)))
            self._gangs[key] = gang, tuple(frozenset(group.nodes) for group in gang.groups)
        return self._gangs[key]

    def _with_room(self, vector: Vector) -> frozenset[int]:
        """The nodes that hold a pod of this kind beside everybody as they stand."""
        if vector not in self._open:
            rooms = self._start.rooms
            self._open[vector] = frozenset(i for i, room in enumerate(rooms) if problems.slots(room, vector))
        return self._open[vector]

    def _grown(self, state: _State, grower: _Grower, *, size: int) -> _State | None:
        """The state once the job has grown so far, in the best place for it; None where it has none."""
        takes = state.takes.get(grower.job.id, grower.takes)
        vector, one = grower.request.vector, grower.sizes[size]
        rooms = _given(state.rooms, takes=takes, pod=vector, factor=1)
        near = self._with_room(vector) | state.left | {node for node, _ in takes}
        for nodes in one.nodes:
            slots = {node: gangs.slots(one.gang, rooms[node]) for node in sorted(near & nodes)}
            found = gangs.fill(one.gang, slots=slots, problem=self._problem)
            if found is not None:
                break
        else:
            return None
        allowance, spare = self._paid(state, grower, size=size)
        if (allowance is None) is not (state.allowance is None) or (spare is None) is not (state.spare is None):
            return None
        return _State(
            _given(rooms, takes=found, pod=vector, factor=-1),
            allowance,
            spare,
            {**state.takes, grower.job.id: found},
            state.left | {node for node, _ in takes},
        )

    def _paid(self, state: _State, grower: _Grower, *, size: int) -> tuple[Allowance | None, Spare | None]:
        """Quotas and limits with the job at that size; None for what does not allow it."""
        before, request, allowance, spare = state.size_of(grower), grower.request, state.allowance, state.spare
        if allowance is not None:
            allowance, each = allowance.copy(), request.vector[0]
            allowance.add(request.leaf, grower.product, -before * each, jobs=-1)
            fits = allowance.fits(request.leaf, grower.product, size * each) and not allowance.is_full(request.leaf)
            allowance.add(request.leaf, grower.product, size * each, jobs=1)
            allowance = allowance if fits else None
        if spare is not None:
            spare = spare.copy()
            spare.add(request.charges, -before)
            spare = spare if spare.take(request.charges, size) else None
        return allowance, spare

    def growth(self) -> Growth | None:
        """The best that is found, and what is proven of it; None where nobody grows."""
        if not self._growers:
            return None
        best = self._by_greed(self._start)
        most = self._bound()
        if self._value(best) < most:
            best = self._swapped(best)
        if self._value(best) < most and (exact := self._exact()) is not None:
            stands, bound = exact
            most = min(most, bound)
            found = replace(best, takes=stands)
            best = found if self._value(found) > self._value(best) else best
        value = self._value(best)
        gap = (most - value) / most
        proven = gap <= self._settings.gap_tolerance
        status = types.SolveStatus.OPTIMAL if proven else types.SolveStatus.FEASIBLE
        resizes = tuple(
            self._resize(grower, takes=best.takes[grower.job.id])
            for grower in self._growers
            if grower.job.id in best.takes
        )
        return Growth(resizes, types.TierResult(decisions.RESIZES, float(value), float(most), gap, status))

    def _bound(self) -> int:
        """No more than that can be gained: free accelerators in parts, each to the step that gains most with it."""
        steps: list[tuple[float, int, int]] = []
        free = sum(max(room[0], 0) for room in self._start.rooms)
        most = 0
        for grower in self._growers:
            each = grower.request.vector[0]
            points = [(0, 0), *(((size - grower.now) * each, grower.net(size)) for size in grower.sizes)]
            if not each:
                most += max(net for _, net in points)
                continue
            while len(points) > 1:
                # The next corner of the hull: what gains most for each accelerator from here on.
                taken, gained = points[0]
                corner = max(points[1:], key=lambda at: ((at[1] - gained) / (at[0] - taken), at[0]))
                if corner[1] <= gained:
                    break
                steps.append(((corner[1] - gained) / (corner[0] - taken), corner[0] - taken, corner[1] - gained))
                points = points[points.index(corner) :]
        part = 0.0
        for _, amount, gain in sorted(steps, reverse=True):
            here = min(amount, free)
            part += gain * here / amount
            free -= here
        return most + math.floor(part + 1e-6)

    def _resize(self, grower: _Grower, *, takes: list[Take]) -> types.Resize:
        spot = greedy.Spot(grower.product, takes)
        place = greedy.to_placement(spot, problem=self._problem, request=grower.request)
        size = _pods(takes)
        return types.Resize(grower.job.id, size, "", grower.cost, gain=grower.sizes[size].gain, placement=place)

    def _value(self, state: _State) -> int:
        """What all gain who have grown, less what they lose."""
        return sum(grower.net(state.size_of(grower)) for grower in self._growers)

    def _steps(self, state: _State) -> list[tuple[_Grower, int]]:
        """Every next step that gains anything, the most for each further accelerator first."""
        found = []
        for rank, grower in enumerate(self._growers):
            now = state.size_of(grower)
            for size in grower.sizes:
                gain = grower.net(size) - grower.net(now)
                if size > now and gain > 0:
                    found.append((-gain / ((size - now) * max(grower.request.vector[0], 1)), rank, size))
        return [(self._growers[rank], size) for _, rank, size in sorted(found)]

    def _by_greed(self, state: _State) -> _State:
        """One best step after the other, as long as any is left that has room."""
        failed: set[tuple[str, int]] = set()
        after: _State | None = state
        while after is not None:
            state, after = after, None
            for grower, size in self._steps(state):
                if time.monotonic() > self._deadline:
                    return state
                if (grower.job.id, size) in failed:
                    continue
                after = self._grown(state, grower, size=size)
                if after is not None:
                    break
                failed.add((grower.job.id, size))
            if after is not None and any(
                max(map(sub, new, old)) > 0 for old, new in zip(state.rooms, after.rooms, strict=True) if new is not old
            ):
                # Where somebody has left a node, others may have room now.
                failed.clear()
        return state

    def _swapped(self, best: _State) -> _State:
        """Greed once more after another first step: whoever did not grow so far comes first."""
        first = [step for step in self._steps(self._start) if best.size_of(step[0]) != step[1]]
        for grower, size in first[:MAX_SWAPS]:
            after = self._grown(self._start, grower, size=size)
            if after is not None:
                best = max(best, self._by_greed(after), key=self._value)
        return best

    def _exact(self) -> tuple[dict[str, list[Take]], int] | None:
        """Where those stand who grow in the best choice, and its bound; None where it is too large, or none in time."""
        left = self._deadline - time.monotonic()
        places = sum(len(nodes) for grower in self._growers for one in grower.sizes.values() for nodes in one.nodes)
        is_greedy = self._settings.strategy is types.Strategy.GREEDY
        if is_greedy or places > MAX_PLACES or left <= 0 or self._start.allowance or self._start.spare:
            return None
        # PuLP and HiGHS take a second and 50 MB: only a process that solves loads them.
        from stowplan_allocator import expansion

        victims = [
            Victim(
                grower.job,
                0,
                {node: tuple(pods * amount for amount in grower.request.vector) for node, pods in grower.takes},
            )
            for grower in self._growers
        ]
        everywhere = range(len(self._problem.nodes))
        programme = expansion.Programme(self._problem, rooms=self._start.rooms, victims=victims, single=everywhere)
        gains = []
        for i, grower in enumerate(self._growers):
            sized = [(replace(one.gang, job=grower.job), grower.net(size)) for size, one in grower.sizes.items()]
            gains += programme.offer(i, sized)
        programme.start_from(())
        found = programme.most(gains, settings=self._settings, limit_seconds=left * choosing.SHARE_OF_TIME)
        return None if found is None else (found.stands, found.bound)


def _pods(takes: list[Take]) -> int:
    return sum(pods for _, pods in takes)


def _given(rooms: list[Vector], *, takes: list[Take], pod: Vector, factor: int) -> list[Vector]:
    """The rooms with these pods given back, or taken."""
    found = list(rooms)
    for node, pods in takes:
        found[node] = tuple(have + factor * pods * need for have, need in zip(found[node], pod, strict=True))
    return found
