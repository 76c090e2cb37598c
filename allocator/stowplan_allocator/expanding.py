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

import heapq
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from stowplan_allocator.gangs import Gang, Group
from stowplan_allocator.growers import Grower, Size, State, bound, given, pods_of
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
# What it gains for each further accelerator, negative; whose step; to what size.
_Step = tuple[float, int, int]
# Places in one programme, counted as nodes times sizes.
MAX_PLACES = 20_000
MAX_SWAPS = 50
# So much of the time goes into finding out who could grow.
SHARE_OF_TIME = 0.5
# Of so many kinds of pods it is remembered which nodes have room for them.
MAX_KNOWN = 64


@dataclass(frozen=True, slots=True)
class Growth:
    """Who grows, and what is known of the most that all of them could gain."""

    resizes: tuple[types.Resize, ...]
    tier: types.TierResult


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
        now = time.monotonic()
        self._look_until = now + (deadline - now) * SHARE_OF_TIME
        names = {job.id for job in candidates}
        up = tuple(replace(job, placement=None) if job.id in names else job for job in snapshot.jobs)
        self._problem = problem = compiling.compile_problem(replace(snapshot, jobs=up), seed=settings.seed)
        amounts = problems.free_vectors(snapshot, dims=problem.dims)
        self._index = {node.name: i for i, node in enumerate(problem.nodes)}
        shared, limits = problem.quotas, namespaces.compile_limits(snapshot)
        self._start = State(
            [amounts[node.name] for node in problem.nodes],
            None if shared is None else compiling.allowance_of(snapshot, shared=shared),
            None if limits is None else Spare(limits.left()),
        )
        self._alike: dict[Vector, list[int]] = {}
        for i, room in enumerate(self._start.rooms):
            self._alike.setdefault(room, []).append(i)
        self._sizes: dict[tuple[Request, int, str], Size] = {}
        self._members: dict[Group, tuple[Group, frozenset[int]]] = {}
        self._slots: OrderedDict[int, tuple[dict[int, int], ...]] = OrderedDict()
        self._growers = [grower for job in candidates if (grower := self._grower(job)) is not None]

    def _grower(self, job: types.Job) -> Grower | None:
        """The job, if it could grow where nobody else does."""
        placement = job.placement
        if job.id not in self._problem.shape_of or placement is None or time.monotonic() > self._look_until:
            return None
        request = self._problem.shape_of[job.id].request
        horizon, now = self._settings.resize_horizon_seconds, placement.num_pods
        done = surplus.done(job, num_pods=now, horizon_seconds=horizon)
        gains = {size: surplus.done(job, num_pods=size, horizon_seconds=horizon) - done for size in request.sizes}
        worth_it = tuple(size for size in request.sizes if size > now and gains[size] > (job.resize_cost or 0))
        takes = [(self._index[share.node], share.num_pods) for share in placement.shares if share.node in self._index]
        sizes = {}
        for size in surplus.few(worth_it):
            one = self._size(job, request=request, size=size, product=placement.product)
            sizes[size] = replace(one, gain=gains[size])
        grower = Grower(job, request, placement.product, takes, now, sizes)
        fitting = {size: one for size, one in sizes.items() if self._fits(grower, size=size)}
        return replace(grower, sizes=fitting) if fitting else None

    def _size(self, job: types.Job, *, request: Request, size: int, product: str) -> Size:
        """The job at a size, on the product that it has; jobs whose pods are alike share it."""
        alike = replace(
            request,
            index=0,
            num_pods=0,
            sizes=(),
            preferred=0,
            leaf=problems.NO_LEAF,
            first=0,
            bound=frozenset(),
            worths=(),
            charges=(),
        )
        key = (alike, size, product)
        if key not in self._sizes:
            gang = gangs.gang_of(job, problem=self._problem, num_pods=size)
            groups = [group for group in gang.groups if group.product in ("", product)]
            # Sizes and kinds of pods differ more often than the nodes that they may use.
            shared = [self._members.setdefault(group, (group, frozenset(group.nodes)))[0] for group in groups]
            gang = replace(gang, groups=tuple(shared))
            has_room = any(
                gangs.capacity(gang, slots=some, problem=self._problem) >= gang.num_blocks
                for some in self._slots_of(gang)
            )
            self._sizes[key] = Size(gang, has_room)
        return self._sizes[key]

    def _slots_of(self, gang: Gang) -> tuple[dict[int, int], ...]:
        """Of each of its groups the nodes that hold blocks, and how many, while all stand as they do."""
        known = self._slots.get(id(gang))
        if known is None:
            each = [(gangs.slots(gang, room), nodes) for room, nodes in self._alike.items()]
            inside = [self._members[group][1] for group in gang.groups]
            known = tuple(
                {node: count for count, nodes in each if count for node in nodes if node in some} for some in inside
            )
            self._slots[id(gang)] = known
            if len(self._slots) > MAX_KNOWN:
                self._slots.popitem(last=False)
        return known

    def _fits(self, grower: Grower, *, size: int) -> bool:
        """Whether the job could have the size where nobody else grows."""
        if grower.sizes[size].has_room:
            return self._is_paid(self._start, *self._paid(self._start, grower, size=size))
        return self._grown(self._start, grower, size=size) is not None

    def _grown(self, state: State, grower: Grower, *, size: int) -> State | None:
        """The state once the job has grown so far, in the best place for it; None where it has none."""
        takes = state.takes.get(grower.job.id, grower.takes)
        vector, one = grower.request.vector, grower.sizes[size]
        allowance, spare = self._paid(state, grower, size=size)
        if not self._is_paid(state, allowance, spare):
            return None
        rooms = given(state.rooms, takes=takes, pod=vector, factor=1)
        changed = state.changed | {node for node, _ in takes}
        for group, before in zip(one.gang.groups, self._slots_of(one.gang), strict=True):
            slots = dict(before)
            slots |= {node: gangs.slots(one.gang, rooms[node]) for node in changed & self._members[group][1]}
            found = gangs.fill(one.gang, slots=slots, problem=self._problem)
            if found is not None:
                break
        else:
            return None
        return State(
            given(rooms, takes=found, pod=vector, factor=-1),
            allowance,
            spare,
            {**state.takes, grower.job.id: found},
            changed | {node for node, _ in found},
        )

    @staticmethod
    def _is_paid(state: State, allowance: Allowance | None, spare: Spare | None) -> bool:
        """Whether these are what is left of the state's quotas and limits, where it has any."""
        return (allowance is None) is (state.allowance is None) and (spare is None) is (state.spare is None)

    def _paid(self, state: State, grower: Grower, *, size: int) -> tuple[Allowance | None, Spare | None]:
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
        most = bound(self._growers, free=sum(max(room[0], 0) for room in self._start.rooms))
        if self._gap(best, most=most) > self._settings.gap_tolerance:
            best = self._swapped(best)
        if self._gap(best, most=most) > self._settings.gap_tolerance and (exact := self._exact()) is not None:
            stands, proven_most = exact
            most = min(most, proven_most)
            found = replace(best, takes=stands)
            best = found if self._value(found) > self._value(best) else best
        value, gap = self._value(best), self._gap(best, most=most)
        proven = gap <= self._settings.gap_tolerance
        status = types.SolveStatus.OPTIMAL if proven else types.SolveStatus.FEASIBLE
        resizes = tuple(
            self._resize(grower, takes=best.takes[grower.job.id])
            for grower in self._growers
            if grower.job.id in best.takes
        )
        return Growth(resizes, types.TierResult(decisions.RESIZES, float(value), float(most), gap, status))

    def _resize(self, grower: Grower, *, takes: list[Take]) -> types.Resize:
        spot = greedy.Spot(grower.product, takes)
        place = greedy.to_placement(spot, problem=self._problem, request=grower.request)
        size = pods_of(takes)
        return types.Resize(grower.job.id, size, "", grower.cost, gain=grower.sizes[size].gain, placement=place)

    def _value(self, state: State) -> int:
        """What all gain who have grown, less what they lose."""
        return sum(grower.net(state.size_of(grower)) for grower in self._growers)

    def _gap(self, state: State, *, most: int) -> float:
        return (most - self._value(state)) / most

    def _steps(self, state: State) -> list[_Step]:
        """Every next step that gains anything, the most for each further accelerator first."""
        return sorted(step for rank in range(len(self._growers)) for step in self._steps_of(rank, state))

    def _steps_of(self, rank: int, state: State) -> Iterator[_Step]:
        grower = self._growers[rank]
        now = state.size_of(grower)
        for size in grower.sizes:
            gain = grower.net(size) - grower.net(now)
            if size > now and gain > 0:
                yield -gain / ((size - now) * max(grower.request.vector[0], 1)), rank, size

    def _by_greed(self, state: State) -> State:
        """One best step after the other, as long as any is left that has room."""
        steps = self._steps(state)
        without_room: list[_Step] = []
        while steps and time.monotonic() <= self._deadline:
            step = heapq.heappop(steps)
            _, rank, size = step
            grower = self._growers[rank]
            if size <= state.size_of(grower):
                continue
            after = self._grown(state, grower, size=size)
            if after is None:
                without_room.append(step)
                continue
            before, state = state, after
            steps = [one for one in steps if one[1] != rank]
            without_room = [one for one in without_room if one[1] != rank]
            steps += self._steps_of(rank, state)
            left = before.takes.get(grower.job.id, grower.takes)
            if any(max(map(sub, state.rooms[node], before.rooms[node])) > 0 for node, _ in left):
                # Where somebody has left a node, others may have room now.
                steps += without_room
                without_room = []
            heapq.heapify(steps)
        return state

    def _swapped(self, best: State) -> State:
        """Greed once more after another first step: whoever did not grow so far comes first."""
        steps = self._steps(self._start)
        first = [(rank, size) for _, rank, size in steps if best.size_of(self._growers[rank]) != size]
        for rank, size in first[:MAX_SWAPS]:
            after = self._grown(self._start, self._growers[rank], size=size)
            if after is not None:
                best = max(best, self._by_greed(after), key=self._value)
        return best

    def _exact(self) -> tuple[dict[str, list[Take]], int] | None:
        """Where those stand who grow in the best choice, and its bound; None where it is too large, or none in time."""
        left = self._deadline - time.monotonic()
        places = sum(
            len(group.nodes) for grower in self._growers for one in grower.sizes.values() for group in one.gang.groups
        )
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
