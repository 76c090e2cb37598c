"""Alternatives that others must agree to: jobs that move or end, room given back, nodes repaired or added, patience.

What must stay true: who loses what is named with its price; nodes and jobs are named; an
alternative is called the smallest only where every smaller one of its kind was refused, by a
plan or by a count.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import (
    choosing,
    gangs,
    limit_reasons,
    moving,
    namespaces,
    quotas,
    replay,
    terms,
    types,
    words,
)
from stowplan_allocator import problem as problems
from stowplan_allocator.oracle import Oracle, OutOfTime
from stowplan_allocator.problem import Vector
from stowplan_allocator.reclaiming import Claim
from stowplan_allocator.relaxing import Alternative, ChangeKind, Patch, copies, is_broken, restored
from stowplan_allocator.victims import Victim

# How many candidates of a kind are planned before it is given up.
MAX_TRIES = 10
MAX_NEW_NODES = 1024
# Kinds of nodes, or domains of a required level, of one product that are planned.
MAX_MODELS = 3
SHARE_OF_TIME = 0.5  # of what is left, for one long question
ALMOST = 0.9  # of its time: an answer that took longer was cut
# Who reads what moves lose may ask for them so much later.
ASKED_WITHIN_SECONDS = 1200


def jobs_moved(oracle: Oracle) -> Iterator[Alternative]:
    """The running jobs that move elsewhere if the job asks for it, within what moves may lose."""
    budget = oracle.snapshot.move_budget
    if not budget:
        return
    beside = oracle.placed_ahead()
    limit = min(oracle.settings.time_limit_seconds, oracle.left() * SHARE_OF_TIME)
    started = time.monotonic()
    found = moving.moves(
        oracle.ahead, oracle.job.id, settings=replace(oracle.settings, time_limit_seconds=limit), beside=beside
    )
    if found is None and time.monotonic() - started > limit * ALMOST:
        raise OutOfTime
    if found is None or not found.moves or found.cost > budget:
        return
    jobs = {job.id: job for job in oracle.snapshot.jobs}
    # Work is lost by the second until somebody asks.
    allowed = found.cost + ASKED_WITHIN_SECONDS * sum(_accelerators(jobs[move.job_id]) for move in found.moves)
    asking = replace(oracle.job, make_room=max(allowed, 1))
    moves = [one for one in oracle.plan(Patch(jobs=(asking,)).apply(oracle.snapshot)).moves if one.for_job == asking.id]
    moved = tuple(replace(jobs[move.job_id], placement=move.placement) for move in moves)
    patch = Patch(jobs=moved)
    if moves and oracle.starts(patch):
        names, cost = [job.name for job in moved], sum(move.cost for move in moves)
        sentence = (
            f"move {words.names(names)} to other nodes, which loses {cost} accelerator-seconds of work "
            f"(annotation {types.ANNOTATION_MAKE_ROOM}={asking.make_room})"
        )
        numbers = (("jobs", ",".join(names)), ("cost", str(cost)), ("make_room", str(asking.make_room)))
        yield Alternative(ChangeKind.JOBS_MOVED, sentence, numbers, patch, smallest=found.bound >= cost)


def _accelerators(job: types.Job) -> int:
    assert job.placement is not None, "only running jobs move"
    return job.placement.num_pods * job.pod.accelerators


def reservation_released(oracle: Oracle) -> Iterator[Alternative]:
    """Each other waiting job for which room is kept, where the job would start without it and its room."""
    names = {job.id: job.name for job in oracle.snapshot.jobs}
    for one in oracle.snapshot.reservations:
        if one.job_id == oracle.job.id or one.job_id not in names:
            continue
        patch = Patch(ended=(one.job_id,), released=(one.job_id,))
        if oracle.starts(patch):
            name = names[one.job_id]
            sentence = f"suspend {name}, for which room is kept (suspend: true)"
            yield Alternative(ChangeKind.RESERVATION_RELEASED, sentence, (("job", name),), patch)


def more_quota(oracle: Oracle) -> Iterator[Alternative]:
    """The least more that the job's queue must own, of each product that would do."""
    queue = next((one for one in oracle.snapshot.queues if one.name == oracle.job.queue), None)
    shared = quotas.compile_quotas(oracle.snapshot)
    if queue is None or shared is None or not shared.branches[shared.leaf(oracle.job)].is_limited:
        return
    leaf = shared.leaf(oracle.job)
    products = [choice.product for choice in oracle.job.products] or sorted({n.product for n in oracle.snapshot.nodes})
    # What everybody in the cluster has and wants: with so much more nobody's quota binds.
    most = sum(max((job.num_pods, *job.allowed_num_pods)) * job.pod.accelerators for job in oracle.ahead.jobs)
    for kind in dict.fromkeys(shared.kind(leaf, product) for product in products):
        patch = functools.partial(_with_quota, queue, kind)
        more = oracle.easiest(range(most, 0, -1), patch)
        if more is not None:
            owned = next((quota.nominal for quota in queue.quotas if quota.product == kind), 0)
            sentence = f'give queue "{queue.name}" {more} more of {kind}: {owned + more} instead of {owned}'
            numbers = (("queue", queue.name), ("product", kind), ("more", str(more)), ("instead_of", str(owned)))
            yield Alternative(ChangeKind.MORE_QUOTA, sentence, numbers, patch(more))


def _with_quota(queue: types.Queue, kind: str, more: int) -> Patch:
    before = next((quota for quota in queue.quotas if quota.product == kind), types.Quota(kind))
    others = tuple(quota for quota in queue.quotas if quota.product != kind)
    after = replace(before, nominal=before.nominal + more)
    return Patch(queues=(replace(queue, quotas=(*others, after)),))


def more_resource_quota(oracle: Oracle) -> Iterator[Alternative]:
    """The least more that each ResourceQuota of the job's namespace must allow, where that alone would do."""
    spaces = namespaces.compile_limits(oracle.snapshot)
    for _, limit in () if spaces is None else spaces.of(oracle.job):
        # What everybody has and wants: with so much more it does not bind.
        most = limit.used_by_others + sum(
            max((job.num_pods, *job.allowed_num_pods)) * namespaces.amount_of(limit, job)
            for job in oracle.ahead.jobs
            if namespaces.namespace_of(job) == limit.namespace
        )
        patch = functools.partial(_with_limit, limit)
        more = oracle.easiest(range(most, 0, -1), patch)
        if more is not None:
            was, now = (limit_reasons.quantity(amount, limit.counts) for amount in (limit.hard, limit.hard + more))
            sentence = (
                f'raise {limit.resource} of ResourceQuota "{limit.name}" in namespace "{limit.namespace}" from {was} '
                f"to {now}"
            )
            numbers = (
                ("resource_quota", limit.name),
                ("resource", limit.resource),
                ("hard", now),
                ("instead_of", was),
            )
            yield Alternative(ChangeKind.MORE_RESOURCE_QUOTA, sentence, numbers, patch(more))


def _with_limit(limit: types.NamespaceLimit, more: int) -> Patch:
    return Patch(limits=(replace(limit, hard=limit.hard + more),))


def job_ended(oracle: Oracle) -> Iterator[Alternative]:
    """The one running job whose end loses the least; those that must not be disturbed come last."""
    alone = oracle.alone(oracle.ahead, within_quotas=False)
    if alone is None:
        return
    problem, gang = alone
    num_pods = gang.num_blocks * gang.block_pods
    claim, bill = None, None
    if problem.quotas is not None:
        used = quotas.usage_of(problem.quotas, oracle.ahead.jobs)
        claim = Claim(quotas.Allowance(problem.quotas, [used]), oracle.job, num_pods * oracle.job.pod.accelerators)
    if problem.namespaces is not None:
        bill = terms.bill_of(oracle.job, num_pods=num_pods, namespaces=problem.namespaces, left=problem.left)
    index = {node.name: i for i, node in enumerate(problem.nodes)}
    running = [job for job in oracle.ahead.jobs if job.placement is not None]
    victims = [choosing.victim_of(job, problem=problem, index=index) for job in running]
    rooms = [problem.balance[node.name] for node in problem.nodes]
    enough = choosing.each_enough(gang, problem=problem, rooms=rooms, victims=victims, terms=terms.Terms(claim, bill))
    for victim in sorted(enough, key=_dearness)[:MAX_TRIES]:
        patch = Patch(ended=(victim.job.id,))
        if oracle.starts(patch):
            job = victim.job
            cost = job.disruption_cost
            loss = (
                "which must not be disturbed, so what it would lose is not known"
                if cost is None
                else f"which loses {cost} accelerator-seconds of work"
            )
            numbers = (("job", job.name), ("cost", "unknown" if cost is None else str(cost)))
            yield Alternative(ChangeKind.JOB_ENDED, f"end {job.name}, {loss}", numbers, patch)
            return


def _dearness(victim: Victim) -> tuple[object, ...]:
    cost = victim.job.disruption_cost
    return cost is None, victim.cost, victim.job.id


def nodes_back(oracle: Oracle) -> Iterator[Alternative]:
    """The fewest broken nodes whose return starts the job."""
    broken = {node.name: node for node in oracle.snapshot.nodes if is_broken(node)}
    everything = Patch(nodes=tuple(restored(node) for node in broken.values()))
    if not broken or not oracle.could(everything):
        return
    best: tuple[int, bool, list[str]] | None = None
    for repair in sorted(_repairs(oracle, broken=broken, patch=everything), key=lambda one: one.least)[:MAX_TRIES]:
        if best is not None and best[0] <= repair.least:
            break
        most = len(repair.names) if best is None else best[0] - 1
        first_back = functools.partial(_first_back, broken, repair.names)
        number = oracle.easiest(range(most, repair.least - 1, -1), first_back)
        if number is not None:
            best = number, repair.exact and number == repair.least, repair.names[:number]
    if best is None:
        return
    number, smallest, names = best
    back = [broken[name] for name in names]
    why = [f"{node.name} ({node.blocked or f'{node.unhealthy_accelerators} unhealthy'})" for node in back]
    numbers = (("nodes", str(number)), ("names", ",".join(sorted(names, key=problems.natural))))
    patch = _first_back(broken, names, number)
    yield Alternative(ChangeKind.NODES_BACK, f"bring back {words.names(why)}", numbers, patch, smallest=smallest)


def _first_back(broken: Mapping[str, types.Node], names: Sequence[str], count: int) -> Patch:
    return Patch(nodes=tuple(restored(broken[name]) for name in names[:count]))


@dataclass(frozen=True, slots=True)
class _Repair:
    """Broken nodes of one group, the most useful first; the job alone needs at least so many of them."""

    least: int
    names: list[str]
    exact: bool


def _repairs(oracle: Oracle, *, broken: dict[str, types.Node], patch: Patch) -> Iterator[_Repair]:
    alone = oracle.alone(patch.apply(oracle.ahead))
    if alone is None:
        return
    problem, gang = alone
    for group in gang.groups:
        slots = {node: gangs.slots(gang, problem.free[node]) for node in group.nodes}
        before = dict(slots)
        for node in group.nodes:
            name = problem.nodes[node].name
            if name in broken:
                before[node] = _slots_of_broken(gang, node=broken[name], room=problem.balance[name])
        gains = [node for node in group.nodes if slots[node] > before[node]]
        gains.sort(key=lambda node: (before[node] - slots[node], problems.natural(problem.nodes[node].name)))
        for count in range(len(gains) + 1):
            now = before | {node: slots[node] for node in gains[:count]}
            if gangs.capacity(gang, slots=now, problem=problem) >= gang.num_blocks:
                useful = [problem.nodes[node].name for node in gains]
                # The others may serve the jobs ahead, which then leave room to this one.
                others = sorted(broken.keys() - set(useful), key=problems.natural)
                yield _Repair(count, useful + others, not gang.limits)
                break


def _slots_of_broken(gang: gangs.Gang, *, node: types.Node, room: Vector) -> int:
    if node.blocked:
        return 0
    return gangs.slots(gang, (room[0] - node.unhealthy_accelerators, *room[1:]))


def more_nodes(oracle: Oracle) -> Iterator[Alternative]:
    """The fewest new nodes like one that is there, for each product."""
    taken = frozenset(node.name for node in oracle.snapshot.nodes)
    best: dict[str, tuple[int, types.Node]] = {}
    tried: dict[str, int] = {}
    for least, node in _models(oracle, taken=taken):
        tried[node.product] = tried.get(node.product, 0) + 1
        most = best[node.product][0] - 1 if node.product in best else MAX_NEW_NODES
        if least <= most and tried[node.product] <= MAX_MODELS:
            count = _fewest(oracle, functools.partial(_added, node, taken), least=least, most=most)
            if count is not None:
                best[node.product] = count, node
    for product in sorted(best, key=lambda name: (best[name][0], name)):
        count, node = best[product]
        more = "1 more node" if count == 1 else f"{count} more nodes"
        numbers = (("nodes", str(count)), ("like", node.name))
        yield Alternative(ChangeKind.MORE_NODES, f"add {more} like {node.name}", numbers, _added(node, taken, count))


def _added(node: types.Node, taken: frozenset[str], count: int) -> Patch:
    return Patch(nodes=copies(node, count, taken=taken))


def _models(oracle: Oracle, *, taken: frozenset[str]) -> list[tuple[int, types.Node]]:
    """One node of each kind, in each domain of a required level, and how many copies the job alone needs at least."""
    asked = oracle.job.topology
    deep = 0
    if asked is not None and asked.mode is types.TopologyMode.REQUIRED and asked.level in oracle.snapshot.levels:
        deep = oracle.snapshot.levels.index(asked.level) + 1
    kinds: dict[tuple[object, ...], types.Node] = {}
    for node in sorted(oracle.snapshot.nodes, key=lambda node: problems.natural(node.name)):
        labels = tuple(sorted(node.labels.items()))
        kinds.setdefault((node.product, node.allocatable, labels, node.taints, node.spot, node.topology[:deep]), node)
    like = {copies(node, 1, taken=taken)[0]: node for node in kinds.values()}
    alone = oracle.alone(Patch(nodes=tuple(like)).apply(oracle.ahead))
    if alone is None:
        return []
    problem, gang = alone
    models = {new.name: node for new, node in like.items()}
    found: list[tuple[int, types.Node]] = []
    for group in gang.groups:
        slots = {i: gangs.slots(gang, problem.free[i]) for i in group.nodes}
        fresh = {problem.nodes[i].name: slots.pop(i) for i in group.nodes if problem.nodes[i].name in models}
        lacking = gang.num_blocks - gangs.capacity(gang, slots=slots, problem=problem)
        for name, here in fresh.items():
            if here:
                # Under slices and spread one node may do more than it holds, or less: nothing is known beforehand.
                found.append((1 if gang.limits else max(-(-lacking // here), 1), models[name]))
    return sorted(found, key=lambda one: (one[0], problems.natural(one[1].name)))


def _fewest(oracle: Oracle, patch: Callable[[int], Patch], *, least: int, most: int) -> int | None:
    """The fewest copies that start the job, doubling first: where others are ahead it may take many."""
    low, high = least - 1, least
    while not oracle.starts(patch(high)):
        if high >= most:
            return None
        low, high = high, min(high * 2, most)
    return oracle.easiest(range(high, low, -1), patch)


def later(oracle: Oracle) -> Iterator[Alternative]:
    """Patience: the forecast's start."""
    future = replay.Replay(oracle.ahead, settings=oracle.settings, budget_seconds=oracle.left() * SHARE_OF_TIME)
    moment = next((moment for moment in future.moments() if oracle.job.id in moment.started), None)
    if moment is None and future.cut:
        raise OutOfTime
    if moment is None or moment.snapshot.now_seconds <= oracle.snapshot.now_seconds:
        return
    then = moment.snapshot
    there = {job.id for job in then.jobs}
    before = {job.id: job for job in oracle.ahead.jobs}
    patch = Patch(
        jobs=tuple(job for job in then.jobs if job != before.get(job.id)),
        ended=tuple(job_id for job_id in before if job_id not in there),
        now_seconds=then.now_seconds,
    )
    if oracle.starts(patch):
        seconds = then.now_seconds - oracle.snapshot.now_seconds
        ended = [before[job_id].name for job_id in patch.ended]
        ran = {job_id for job_id, job in before.items() if job.placement is not None}
        left = [one.name for one in patch.jobs if one.placement is None and one.id in ran]
        clauses = [
            f"{words.names(names)} {'has' if len(names) == 1 else 'have'} {verb}"
            for names, verb in ((ended, "ended"), (left, "left"))
            if names
        ]
        sentence = f"wait {seconds} s, until {' and '.join(clauses)}"
        yield Alternative(ChangeKind.LATER, sentence, (("seconds", str(seconds)), ("ends", str(len(ended)))), patch)
