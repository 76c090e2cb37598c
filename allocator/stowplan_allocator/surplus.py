"""What running elastic jobs could do without, and what that would lose.

A job that shrinks stops, saves, and comes back with fewer pods on a part of its nodes. It loses its ``resize_cost``,
and what it gets done less over the horizon, or over what is left of it. What must stay true: only such jobs are asked
as could stand anew where they stand; one of higher priority is asked only for what it has beyond its preferred size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stowplan_allocator import compiling, gangs, goodput, reserving, rights, topology, types
from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Path, Problem, Request, Vector
from stowplan_allocator.reclaiming import Claim
from stowplan_allocator.stock import Take
from stowplan_allocator.victims import Shrink, Victim

# Sizes of one job that are looked at: of more the smallest, the largest, and some between.
MAX_SIZES = 8


@dataclass(frozen=True, slots=True)
class _Standing:
    """An elastic job where it stands; ``unit`` and ``domains`` as ``Shrink`` has them."""

    job: types.Job
    takes: dict[int, int]
    request: Request
    unit: int
    domains: dict[int, Path | int]


def lifted(job: types.Job) -> types.Job:
    """The running job as one that waits for a place at its present size."""
    assert job.placement is not None, "only running jobs are lifted"
    return replace(
        job, placement=None, num_pods=job.placement.num_pods, allowed_num_pods=(), goodput_milli=(), leaving=False
    )


def is_resizable(job: types.Job) -> bool:
    """Whether a running job may be stopped to start again at another size."""
    return job.placement is not None and job.resize_cost is not None and not job.leaving and bool(job.allowed_num_pods)


def done(job: types.Job, *, num_pods: int, horizon_seconds: int) -> int:
    """What the job gets done at a size over the horizon, in accelerator-seconds at its preferred size."""
    seconds = horizon_seconds if job.expected_seconds is None else min(horizon_seconds, max(job.expected_seconds, 0))
    return goodput.worth(job, num_pods=num_pods) * job.pod.accelerators * seconds // goodput.UNIT


class Surplus:
    """The elastic jobs of a snapshot, as ``problem`` numbers the nodes."""

    def __init__(self, snapshot: types.Snapshot, *, problem: Problem, settings: types.Settings) -> None:
        self._settings = settings
        self._problem = problem
        candidates = [job for job in snapshot.jobs if is_resizable(job)] if settings.resize else []
        standing = _standing(snapshot, candidates, settings=settings) if candidates else {}
        self._standing = {job_id: one for job_id, one in standing.items() if self._is_within(one)}

    def ways(self, job: types.Job, *, claim: Claim | None) -> list[Shrink]:
        """How running jobs could shrink for this one."""
        return [
            self._shrink(one, size=size)
            for one in self._standing.values()
            for size in few(rights.surplus(one.job, job=job, settings=self._settings, claim=claim))
        ]

    def _is_within(self, one: _Standing) -> bool:
        """Whether quotas and limits would let the job start again."""
        allowance, spaces, spare, placement = (
            self._problem.allowance,
            self._problem.namespaces,
            self._problem.spare(),
            one.job.placement,
        )
        assert placement is not None, "only running jobs are asked"
        bound = reserving.binding(name for name, _ in one.job.pod.other)
        if spaces is not None and spare is not None:
            charges = spaces.charges(one.job)
            spare.add(charges, -placement.num_pods)
            if not spare.fits(charges, placement.num_pods):
                return False
        if allowance is None:
            return True
        leaf, amount = allowance.quotas.leaf(one.job), placement.num_pods * one.job.pod.accelerators
        without = allowance.copy()
        without.add(leaf, placement.product, -amount, jobs=-1, bound=bound)
        return not without.is_full(leaf, bound=bound) and without.fits(leaf, placement.product, amount, bound=bound)

    def _shrink(self, one: _Standing, *, size: int) -> Shrink:
        horizon = self._settings.resize_horizon_seconds
        now, then = (done(one.job, num_pods=pods, horizon_seconds=horizon) for pods in (sum(one.takes.values()), size))
        cost = (one.job.resize_cost or 0) + max(now - then, 0)
        pod = self._problem.vector(one.job.pod)
        return Shrink(one.job, cost, size, one.takes, pod, one.unit, one.domains)

    def placement(self, victim: Victim) -> types.Placement:
        """Where the job stands with what it keeps."""
        assert victim.job.placement is not None, "only running jobs shrink"
        request = self._standing[victim.job.id].request
        order = topology.rank_order(dict(victim.kept), problem=self._problem, request=request)
        shares = tuple(types.NodeShare(self._problem.nodes[node].name, pods) for node, pods in order)
        return types.Placement(victim.job.placement.product, shares)


def few(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes that are looked at."""
    if len(sizes) <= MAX_SIZES:
        return sizes
    last = len(sizes) - 1
    return tuple(sizes[i * last // (MAX_SIZES - 1)] for i in range(MAX_SIZES))


def _standing(
    snapshot: types.Snapshot, candidates: list[types.Job], *, settings: types.Settings
) -> dict[str, _Standing]:
    """Those of the jobs that could stand anew exactly where they stand."""
    names = {job.id for job in candidates}
    up = tuple(lifted(job) if job.id in names else job for job in snapshot.jobs if job.placement is not None)
    problem = compiling.compile_problem(replace(snapshot, jobs=up, reservations=()), seed=settings.seed)
    running = problems.free_vectors(snapshot, dims=problem.dims)
    index = {node.name: i for i, node in enumerate(problem.nodes)}
    found = {}
    for job in sorted(candidates, key=problems.queue_key):
        placement = job.placement
        assert placement is not None, "candidates run"
        if job.id not in problem.shape_of or any(share.node not in index for share in placement.shares):
            continue
        takes = [(index[share.node], share.num_pods) for share in placement.shares]
        gang = gangs.gang_of(lifted(job), problem=problem)
        pod = problem.vector(job.pod)
        rooms = {node: running[problem.nodes[node].name] for node, _ in takes}
        if _holds(gang, placement=placement, takes=takes, problem=problem) and not _lacks(rooms, pod=pod):
            unit, domains = _slices(gang, job=job, takes=takes, problem=problem)
            found[job.id] = _Standing(job, dict(takes), problem.shape_of[job.id].request, unit, domains)
    return found


def _lacks(rooms: Mapping[int, Vector], *, pod: Vector) -> bool:
    """Whether more is used on a node than is there, of what a pod takes."""
    return any(have < 0 for room in rooms.values() for have, need in zip(room, pod, strict=True) if need)


def _holds(gang: gangs.Gang, *, placement: types.Placement, takes: list[Take], problem: Problem) -> bool:
    """Whether the gang may stand there, room aside."""
    groups = [set(group.nodes) for group in gang.groups if group.product in ("", placement.product)]
    if not any(all(node in group for node, _ in takes) for group in groups) or len(dict(takes)) < len(takes):
        return False
    if any(pods % gang.block_pods or pods // gang.block_pods > gang.per_node for _, pods in takes):
        return False
    for limit in gang.limits:
        blocks: dict[Path, int] = {}
        for node, pods in takes:
            path = problem.paths[node][: limit.level + 1]
            blocks[path] = blocks.get(path, 0) + pods // gang.block_pods
        if any(count > limit.at_most or count % limit.multiple for count in blocks.values()):
            return False
    return True


def _slices(
    gang: gangs.Gang, *, job: types.Job, takes: list[Take], problem: Problem
) -> tuple[int, dict[int, Path | int]]:
    """How many pods stay together, and in which domains; pods that need not stay in slices have one domain."""
    size = job.topology.slice_size if job.topology and job.topology.mode is types.TopologyMode.REQUIRED else None
    if size is None:
        return 1, dict.fromkeys((node for node, _ in takes), 0)
    for limit in gang.limits:
        if limit.multiple > 1:
            return size, {node: problem.paths[node][: limit.level + 1] for node, _ in takes}
    return size, {node: node for node, _ in takes}
