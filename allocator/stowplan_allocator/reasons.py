"""Why each waiting job waits: one reason from the fixed list, with numbers, specific before general.

The order of the questions is the order of this module: can the spec be planned at all; is
there a node of its kind; could the empty cluster hold it; may its namespace and its queue use so
much, ever and now (``limit_reasons``, ``quota_reasons``, with numbers of their own); would it fit now
but for the jobs ahead; but for broken nodes; but for the topology; but for the way that free room is scattered; and
only then: there is not enough free. What must stay true: every waiting job gets an answer; its
numbers come from the same counts that chose the reason, so that they cannot contradict it;
equal requests are answered once.

Numbers, all as text: pods_needed, pods_fitting (now, in the best product and domain),
accelerators_needed, accelerators_free, product (the best one), nodes_matching,
nodes_blocked, capacity_pods (all matching nodes empty), binding_resource, best_domain,
best_domain_pods, largest_free (free accelerators of the emptiest nodes), jobs_ahead,
products_in_cluster, time_limit_seconds.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import census, eligibility, reserving, types, words
from stowplan_allocator import problem as problems
from stowplan_allocator.census import Census, Offer
from stowplan_allocator.limit_reasons import LimitCounts
from stowplan_allocator.problem import Problem, Request
from stowplan_allocator.quota_reasons import QuotaCounts
from stowplan_allocator.strategies import Outcome

MAX_BLOCKERS = 10
AHEAD = "<jobs>"  # stands in a finding for the names, which differ from job to job
# All that is known without counting: the least that can be said, so no reason is claimed that was not looked for.
UNEXPLAINED = types.Waiting(
    types.Reason.QUEUED_BEHIND,
    "found no place in this plan beside what runs and the jobs ahead of it; reasons are switched off",
)
Numbers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one request; ``names_running`` and ``names_ahead`` say whom to name as blockers.

    ``never``: an empty cluster could not hold it either.
    """

    reason: types.Reason
    message: str
    numbers: Numbers
    names_running: bool = False
    names_ahead: bool = False
    blockers: tuple[str, ...] = ()
    never: bool = False


def explain(
    snapshot: types.Snapshot, *, problem: Problem, outcome: Outcome, settings: types.Settings
) -> dict[str, types.Waiting]:
    """A reason for every waiting job that the outcome does not place."""
    waiting = {
        job_id: types.Waiting(types.Reason.MISCONFIGURED, message) for job_id, message in problem.misconfigured.items()
    }
    waiting |= problem.barred
    left_out = [job for job in problem.queue if job.id not in outcome.spots]
    if not left_out:
        return waiting
    if not settings.explain:
        return waiting | dict.fromkeys((job.id for job in left_out), UNEXPLAINED)
    counted = Census(snapshot, problem=problem, spots=outcome.spots)
    limited = None if problem.namespaces is None else LimitCounts(snapshot, problem=problem, spots=outcome.spots)
    quota = None
    if problem.quotas is not None:
        quota = QuotaCounts(snapshot, problem=problem, shared=problem.quotas, spots=outcome.spots)
    findings: dict[tuple[int, bool], Finding] = {}
    answers: dict[tuple[int, bool], Finding] = {}
    holders = Holders(snapshot, problem=problem, outcome=outcome)
    position = {job.id: i for i, job in enumerate(problem.queue)}
    for job in left_out:
        request = problem.shape_of[job.id].request
        undecided = job.id in outcome.undecided and outcome.status is not types.SolveStatus.GREEDY
        finding = answers.get((request.index, undecided))
        if finding is None:
            finding = _find_once(request, undecided=undecided, known=findings, counted=counted, settings=settings)
            refusal = None if limited is None or finding.never else limited.answer(request)
            if refusal is None and quota is not None and not finding.never:
                refusal = quota.answer(request)
            if refusal is not None:
                reason, message, numbers, blockers = refusal
                finding = Finding(reason, message, finding.numbers | numbers, blockers=blockers)
            answers[request.index, undecided] = finding
        waiting[job.id] = _answer(finding, request=request, position=position[job.id], holders=holders)
    return waiting


def _find_once(
    request: Request,
    *,
    undecided: bool,
    known: dict[tuple[int, bool], Finding],
    counted: Census,
    settings: types.Settings,
) -> Finding:
    """The reason that queues aside holds for equal requests of all queues: found for the first of them."""
    first = counted.problem.twins(request)[0]
    if (first, undecided) not in known:
        asked = counted.problem.requests[first]
        known[first, undecided] = find(asked, counted=counted, undecided=undecided, settings=settings)
    return known[first, undecided]


def _answer(finding: Finding, *, request: Request, position: int, holders: Holders) -> types.Waiting:
    message, numbers = finding.message, dict(finding.numbers)
    blockers = finding.blockers
    if finding.names_ahead:
        number, blockers = holders.ahead(request, position=position)
        numbers["jobs_ahead"] = str(number)
        message = message.replace(AHEAD, words.ahead(blockers, number=number))
    elif finding.names_running:
        blockers = holders.running(request)
    return types.Waiting(finding.reason, message, tuple(numbers.items()), blockers)


class Holders:
    """Who stands on the nodes that a request may use."""

    def __init__(self, snapshot: types.Snapshot, *, problem: Problem, outcome: Outcome) -> None:
        self._problem = problem
        self._cell_of = {node: cell.index for cell in problem.cells for node in cell.nodes}
        node_of = {node.name: i for i, node in enumerate(problem.nodes)}
        self._placed = [
            (i, job.name, frozenset(self._cell_of[node] for node, _ in outcome.spots[job.id].takes))
            for i, job in enumerate(problem.queue)
            if job.id in outcome.spots
        ]
        running = [job for job in snapshot.jobs if job.placement is not None]
        running.sort(key=lambda job: (-job.num_pods * job.pod.accelerators, *problems.queue_key(job)))
        self._running = [
            (job.name, frozenset(self._cell_of[node_of[s.node]] for s in job.placement.shares if s.node in node_of))
            for job in running
            if job.placement is not None
        ]
        self._ahead: dict[tuple[int, ...], tuple[list[int], tuple[str, ...]]] = {}
        self._largest: dict[tuple[int, ...], tuple[str, ...]] = {}

    def ahead(self, request: Request, *, position: int) -> tuple[int, tuple[str, ...]]:
        """How many jobs before ``position`` of the queue were placed on nodes that the request may use; some names."""
        indexes = self._problem.cells_of[request.index]
        found = self._ahead.get(indexes)
        if found is None:
            cells = frozenset(indexes)
            placed = [(i, name) for i, name, held in self._placed if not cells.isdisjoint(held)]
            found = [i for i, _ in placed], tuple(name for _, name in placed[:MAX_BLOCKERS])
            self._ahead[indexes] = found
        number = bisect.bisect_left(found[0], position)
        return number, found[1][:number]

    def running(self, request: Request) -> tuple[str, ...]:
        """Names of the largest running jobs on nodes that the request may use."""
        indexes = self._problem.cells_of[request.index]
        found = self._largest.get(indexes)
        if found is None:
            cells = frozenset(indexes)
            names = (name for name, held in self._running if not cells.isdisjoint(held))
            found = self._largest[indexes] = tuple(itertools.islice(names, MAX_BLOCKERS))
        return found


def find(
    request: Request,
    *,
    counted: Census,
    undecided: bool,
    settings: types.Settings,
) -> Finding:
    """The reason for one request. Each question is asked only if all before it were answered with no."""
    k = request.num_pods
    dims = counted.problem.dims
    asked = tuple(name for name, need in zip(dims, request.vector, strict=True) if need)
    needs = words.needs(request, dims=dims)
    numbers: Numbers = {"pods_needed": str(k), "accelerators_needed": str(k * request.vector[0])}
    if not any(True for _ in counted.matching(request)):
        return _no_match(request, counted=counted, needs=needs, numbers=numbers)
    domains = counted.offers(request)
    level = words.level(request, levels=counted.problem.levels)
    if not domains:
        message = f"needs {needs} in one {level}, but no matching node carries the label of that level"
        return Finding(types.Reason.TOPOLOGY_UNSATISFIED, message, numbers, never=True)
    plain = replace(request, slice_size=0, spread=None) if request.patterned else request
    wholes = counted.offers(plain, by_domain=False) if request.required or request.patterned else domains
    whole = max(wholes, key=lambda offer: (offer.pods_now, offer.pods_empty))
    best = max(domains, key=lambda offer: (offer.pods_now, offer.pods_empty))
    numbers |= {
        "pods_fitting": str(best.pods_now),
        "accelerators_free": str(whole.free_along(0)),
        "nodes_matching": str(sum(offer.nodes for offer in wholes)),
        "nodes_blocked": str(sum(offer.nodes_blocked for offer in wholes)),
        "capacity_pods": str(max(offer.pods_empty for offer in wholes)),
    }
    if best.product:
        numbers["product"] = best.product
    required = request.gang_level is not None
    arranged = words.arrangement(request, levels=counted.problem.levels)
    if required:
        numbers |= {"best_domain": words.domain(best.domain), "best_domain_pods": str(best.pods_now)}
    if all(offer.pods_empty < k for offer in domains):
        if request.patterned and any(offer.pods_empty >= k for offer in wholes):
            most = max(offer.pods_empty for offer in domains)
            message = f"needs {needs}{arranged}; matching nodes hold {most} of {k} pods that way even when empty"
            return Finding(types.Reason.TOPOLOGY_UNSATISFIED, message, numbers, never=True)
        if required and any(offer.pods_empty >= k for offer in wholes):
            top = max(domains, key=lambda offer: offer.pods_empty)
            numbers |= {"best_domain": words.domain(top.domain), "best_domain_pods": str(top.pods_empty)}
            message = (
                f"needs {needs} in one {level}; the largest, {words.domain(top.domain)}, holds "
                f"{top.pods_empty} of {k} pods even when empty"
            )
            return Finding(types.Reason.TOPOLOGY_UNSATISFIED, message, numbers, never=True)
        return _too_large(request, counted=counted, offers=wholes, needs=needs, numbers=numbers)
    if any(offer.pods_before >= k for offer in domains):
        if undecided:
            numbers["time_limit_seconds"] = f"{settings.time_limit_seconds:g}"
            message = (
                f"needs {needs}; whether that fits beside the jobs ahead could not be decided within the "
                f"solver's time limit of {settings.time_limit_seconds:g} s"
            )
            return Finding(types.Reason.SOLVER_TIME_LIMIT, message, numbers)
        message = f"needs {needs}; it would fit now but for {AHEAD}"
        return Finding(types.Reason.QUEUED_BEHIND, message, numbers, names_ahead=True)
    if reserving.binding(asked):
        # From here on room is counted as if nothing were kept for others: what still binds is not the reservations.
        unkept = tuple(0 if reserving.MARK in name else need for name, need in zip(dims, request.vector, strict=True))
        request = replace(request, vector=unkept)
        plain = replace(plain, vector=unkept)
        domains = counted.offers(request)
        wholes = counted.offers(plain, by_domain=False) if request.required or request.patterned else domains
        whole = max(wholes, key=lambda offer: (offer.pods_now, offer.pods_empty))
        free = max(domains, key=lambda offer: (offer.pods_now, offer.pods_empty))
        if free.pods_now >= k:
            return _reserved(counted, asked=asked, pods=free.pods_now, needs=needs, numbers=numbers)
        best = free
        numbers["pods_fitting"] = str(best.pods_now)
        if required:
            numbers |= {"best_domain": words.domain(best.domain), "best_domain_pods": str(best.pods_now)}
    if any(offer.pods_restored >= k for offer in domains):
        back = max(domains, key=lambda offer: (offer.pods_restored >= k, offer.pods_now))
        lost = back.lost()
        numbers |= {"pods_fitting": str(back.pods_now), "nodes_unusable": str(len(lost))}
        if required:
            numbers |= {"best_domain": words.domain(back.domain), "best_domain_pods": str(back.pods_now)}
        message = (
            f"needs {needs}; {words.fitting(back.pods_now, k)} now{words.where(back, request=request)}; "
            f"not usable: {words.names(lost)}"
        )
        return Finding(types.Reason.NODES_UNHEALTHY, message, numbers)
    if request.patterned and whole.pods_now >= k:
        message = f"needs {needs}{arranged}; {whole.pods_now} pods fit now in all, but {best.pods_now} of {k} that way"
        return Finding(types.Reason.TOPOLOGY_UNSATISFIED, message, numbers)
    if required and whole.pods_now >= k:
        message = (
            f"needs {needs} in one {level}; {whole.pods_now} pods fit now in all, but the best {level}, "
            f"{words.domain(best.domain)}, has room for {best.pods_now} of {k}"
        )
        return Finding(types.Reason.TOPOLOGY_UNSATISFIED, message, numbers)
    return _short(request, counted=counted, offer=best if required else whole, needs=needs, numbers=numbers)


def _reserved(counted: Census, *, asked: Sequence[str], pods: int, needs: str, numbers: Numbers) -> Finding:
    """It would fit now but for room that is kept for others."""
    limits = reserving.limits(counted.snapshot)
    kept = {one.job_id: one for i in sorted(reserving.binding(asked)) for one in limits[i].reservations}
    owners = {job.id: job for job in counted.snapshot.jobs if job.id in kept}
    names = tuple(owners[job_id].name for job_id in kept)
    room = sum(one.placement.num_pods * owners[one.job_id].pod.accelerators for one in kept.values())
    first = min(one.starts_at_seconds for one in kept.values())
    numbers = {
        **numbers,
        "pods_unreserved": str(pods),
        "accelerators_reserved": str(room),
        "reserved_from_seconds": str(first),
    }
    what = words.amount(room, "accelerators") if room else "the room"
    message = (
        f"needs {needs}; it would fit now but for {what} kept for {words.names(names)}, "
        "and this job is not known to end in time"
    )
    return Finding(types.Reason.RESERVED_FOR_LARGER_JOB, message, numbers, blockers=names[:MAX_BLOCKERS])


def _no_match(request: Request, *, counted: Census, needs: str, numbers: Numbers) -> Finding:
    there = ", ".join(counted.products) or "none"
    numbers = {**numbers, "products_in_cluster": there}
    of_product = [pool for pool in counted.pools if census.of_product(pool, request=request)]
    profile = counted.problem.profiles[request.profile]
    if not of_product:
        if request.products:
            message = f"needs {needs}, but no node has that product; products in the cluster: {there}"
        else:
            message = f"needs {needs}, but the cluster has no {'node with accelerators' if counted.pools else 'node'}"
        return Finding(types.Reason.NO_MATCHING_ACCELERATOR, message, numbers, never=True)
    kind = " or ".join(choice.product for choice in request.products) or ("GPU" if request.has_devices else "")
    names = {name for pool in of_product for row in pool.rows for name in row.names}
    nodes = [node for node in counted.nodes if node.name in names]
    numbers["nodes_of_product"] = str(len(nodes))
    labelled = nodes
    questions: tuple[tuple[Callable[[types.Node], bool], str], ...] = (
        (lambda node: not eligibility.missing_labels(node, profile=profile), words.selector(profile)),
        (lambda node: eligibility.has_affinity(node, profile=profile), words.affinity(profile)),
        (lambda node: eligibility.is_safe_enough(node, profile=profile), words.capacity_type(profile)),
    )
    for holds, complaint in questions:
        left = [node for node in labelled if holds(node)]
        if not left:
            message = f"needs {needs}; {words.each_of(len(labelled), kind)} {complaint}"
            return Finding(types.Reason.NO_MATCHING_ACCELERATOR, message, numbers, never=True)
        labelled = left
    taints = [taint for node in labelled for taint in eligibility.untolerated_taints(node, profile=profile)]
    found = words.names(list(dict.fromkeys(f"{t.key}={t.value}:{t.effect.value}" for t in taints)))
    message = f"needs {needs}; {words.each_of(len(labelled), kind)} has a taint that the job does not tolerate: {found}"
    return Finding(types.Reason.NO_MATCHING_ACCELERATOR, message, numbers, never=True)


def _too_large(request: Request, *, counted: Census, offers: list[Offer], needs: str, numbers: Numbers) -> Finding:
    """Not even all matching nodes, empty and healthy, hold the job."""
    k = request.num_pods
    top = max(offers, key=lambda offer: offer.pods_empty)
    dims = counted.problem.dims
    if top.pods_empty == 0:
        over = [d for d, need in enumerate(request.vector) if need > top.most_along(d)]
        if over:
            d = over[0]
            numbers = {**numbers, "binding_resource": dims[d]}
            message = (
                f"needs {needs}, but one pod asks for {words.amount(request.vector[d], dims[d])} and the largest "
                f"matching node has {words.amount(top.most_along(d), dims[d])}"
            )
            return Finding(types.Reason.EXCEEDS_CLUSTER_CAPACITY, message, numbers, never=True)
    if request.required and request.level == len(counted.problem.levels):
        message = f"needs {needs} on one node; the largest matching node holds {top.pods_empty} of {k} even when empty"
        return Finding(types.Reason.TOPOLOGY_UNSATISFIED, message, numbers, never=True)
    mixed = sum(offer.pods_empty for offer in offers)
    message = (
        f"needs {needs}; {words.holding(int(numbers['nodes_matching']))} {top.pods_empty} of {k} pods even when empty"
    )
    if mixed >= k and len(offers) > 1:
        message = (
            f"needs {needs} of one product; {top.product} alone holds {top.pods_empty} of {k} even when all its "
            "nodes are empty, and a job never mixes products"
        )
    return Finding(types.Reason.EXCEEDS_CLUSTER_CAPACITY, message, numbers, never=True)


def _short(request: Request, *, counted: Census, offer: Offer, needs: str, numbers: Numbers) -> Finding:
    """Too little is free, or it is free in the wrong places: along which resource?"""
    k = request.num_pods
    dims = counted.problem.dims
    fits = words.fitting(offer.pods_now, k)
    where = words.where(offer, request=request)
    asked = [d for d, need in enumerate(request.vector) if need]
    too_little = [d for d in asked if offer.free_along(d) < k * request.vector[d]]
    scattered = [d for d in asked if offer.whole_along(d) < k]
    largest = [str(size) for size, number in offer.holes() for _ in range(min(number, census.SAMPLE))][: census.SAMPLE]
    if request.vector[0]:
        numbers = {**numbers, "largest_free": ",".join(largest)}
    if too_little:
        d = too_little[0]
        numbers = {**numbers, "binding_resource": dims[d]}
        in_all = words.amount(k * request.vector[d], dims[d])
        message = (
            f"needs {needs}, {in_all} in all, of which {words.free(offer.free_along(d), dims[d])}; {fits} now{where}"
        )
        return Finding(types.Reason.WAITING_FOR_CAPACITY, message, numbers, names_running=True)
    if scattered:
        d = scattered[0]
        numbers = {**numbers, "binding_resource": dims[d]}
        if d == 0:
            message = (
                f"needs {needs}; {offer.free_along(0)} are free, but not in whole pods: the emptiest nodes have "
                f"{', '.join(largest)} free, and {fits}"
            )
            return Finding(types.Reason.FRAGMENTED, message, numbers, names_running=True)
        free = words.free(offer.free_along(d), dims[d])
        in_all = f"{words.amount(k * request.vector[d], dims[d])} in all, of which {free}"
        per_pod = words.amount(request.vector[d], dims[d])
        message = (
            f"needs {needs}, {in_all}, but only {offer.whole_along(d)} of {k} pods find {per_pod} on one node{where}"
        )
        return Finding(types.Reason.FRAGMENTED, message, numbers, names_running=True)
    pairs = " and ".join(words.resource(dims[d]) for d in asked)
    message = f"needs {needs}; {fits} now, because {pairs} are free on different nodes{where}"
    return Finding(types.Reason.FRAGMENTED, message, numbers, names_running=True)
