"""The integer programme of evictions and moves, in PuLP: slots per node, not per cell.

Sets
    j ∈ V            running jobs that may lose their place; each stands on its nodes with all of its pods
    i ∈ I            gangs that want a place: the waiting job, and in a plan of moves every j ∈ V
    g ∈ G_i          groups of nodes of which gang i may use only one: of a product, in a domain of its required level
    n ∈ N            single nodes: those of V, and all where several gangs choose
    b ∈ B            bins: all other nodes that are alike in group and in the domains of the gang's limits
    k ∈ S_j          fewer pods with which j could come back on a part of its nodes; it may leave whole, or not
    d ∈ D_{i,l}      domains of a level l that limits gang i: slices (multiples of m), spread (at most t)
Data
    c_j, c_{j,k}     what is lost when j leaves or moves, and when it comes back with k pods, in accelerator-seconds
    f_{n,r}          what is free of resource r while all of V stay: less than zero where a device was lost
    h_{j,n,r}        what j holds there
    a_{i,r}          what a block of gang i takes: a pod, or what must share a node; K_i blocks
    u_b, u_n         blocks that fit into bin b; into node n once all of V have left
Variables
    leave_j ∈ {0, 1} j leaves; otherwise its pods stay pinned to their nodes
    y_{j,k} ∈ {0, 1} j comes back with k pods; g_{j,n} of those that it has on node n are given up
    q_{i,n}, q_{i,b} blocks of gang i, integers from 0 to u
    z_{i,g} ∈ {0, 1} gang i stands in group g
    s_{i,d}          whole slices of gang i in d, integers ≥ 0
    o_n ∈ {0, 1}     somebody new uses node n, where the pinned pods hold more than there is
    e_v              what queue v loses of its own to another one, integers ≥ 0
    w_v ∈ {0, 1}     queue v, above the waiting job, must own what it uses
Objective
    min Σ_v e_v, exactly; then, of all that reach it, min Σ_j c_j leave_j + Σ_{j,k} c_{j,k} y_{j,k}; then, of all that
    reach that, min Σ leave_j + Σ y_{j,k}
Constraints
    (1) gang         Σ_{n,b ∈ g} q_i = K_i z_{i,g}                              for i, g
    (2) group        Σ_g z_{i,g} = 1 for the waiting job; = leave_i for a job that moves
    (3) room         Σ_i a_{i,r} q_{i,n} ≤ f_{n,r} + Σ_j h_{j,n,r} leave_j      for n, r
                     where f < 0:  … ≤ f_{n,r} + Σ_j h_{j,n,r} leave_j − f_{n,r} (1 − o_n),  q_{i,n} ≤ u_n o_n
    (4) slices       Σ_{n,b ∈ d} q_i = m s_{i,d}                                for d of a sliced level
    (5) spread       Σ_{n,b ∈ d} q_i ≤ t                                        for d of a spread level
    (6) quotas       (1) and (2) of ``quotas``: Σ_g size·z_g of the job's queue, −Σ_j size_j·leave_j of the victims'
    (7) lent only    Σ_{j ∈ v} size_j·leave_j ≤ beyond_v − 1 + size_i + M (1 − leave_i)   for each queue v that loses to
                     another one and each of its victims i: even without the others it uses more than it owns;
                     Σ_{j ∈ v} size_j·leave_j ≤ beyond_v + e_v; above a queue that keeps some for itself, size_j is
                     what of it reaches v
    (8) limits       Σ_j n_j·a_{j,l} leave_j ≥ what the job takes − c_{l,t}     for each l and t of ``namespaces`` that
                     has too little left
    (9) one way      leave_j + Σ_k y_{j,k} ≤ 1;  Σ_n g_{j,n} = Σ_k (size_j − k) y_{j,k}
    (10) whole slices Σ_{n ∈ d} g_{j,n} is a multiple of j's slice size        for d of the level of its slices
    (11) budgets     Σ_j p_{j,b} (leave_j + Σ_k y_{j,k}) ≤ what is left of d_b         for each b of ``budgets``
    (12) owned       u_v ≤ s_v + M (1 − w_v) of ``quotas``, with (6);  leave_i ≤ w_v   for each victim i of another
                     queue, v being the side of the job: what it then uses is its own
In (3) a pod of j for each g_{j,n}, in (6) to (8) and (12) size_j − k for y_{j,k}, is given back as by leave_j.

One gang alone fills a bin without loss, so bins cost no exactness; victims' nodes are never
in one. What must stay true: an answer fits by integer arithmetic and not by the solver's
word; it is called proven only if no cheaper set exists; equal questions get equal answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pulp

from stowplan_allocator import gangs, model, types
from stowplan_allocator.choosing import Solution
from stowplan_allocator.gangs import Gang
from stowplan_allocator.problem import Path, Problem, Vector
from stowplan_allocator.quota_rows import Term
from stowplan_allocator.stock import Take
from stowplan_allocator.term_rows import TermRows
from stowplan_allocator.terms import Terms
from stowplan_allocator.victims import Shrink, Victim, Way


@dataclass(slots=True)
class _Bin:
    """Nodes that one gang fills alike, or a single one; ``q`` is its variable."""

    nodes: list[int]
    blocks: int
    path: Path
    q: pulp.LpVariable


@dataclass(slots=True)
class _Candidate:
    """A gang with its groups that are large enough: product, variable z, bins."""

    gang: Gang
    groups: list[tuple[str, pulp.LpVariable, list[_Bin]]] = field(default_factory=list)


@dataclass(slots=True)
class _Giving:
    """How one job may shrink: y by its ways, g by node."""

    ways: list[tuple[Shrink, pulp.LpVariable]]
    g: dict[int, pulp.LpVariable]


class Programme:
    """The programme over the problem's nodes; ``rooms`` is what is free while all victims stay, by node index."""

    def __init__(
        self,
        problem: Problem,
        *,
        rooms: Sequence[Vector],
        victims: Sequence[Victim],
        shrinks: Sequence[Shrink] = (),
        single: Iterable[int] = (),
    ) -> None:
        """``single`` are further nodes that may be in no bin, because several gangs choose among them."""
        self._problem = problem
        self._rooms = rooms
        self._victims = victims
        self._lp = pulp.LpProblem("disruption", pulp.LpMinimize)
        self._names = 0
        self._leave = [self._add("leave", 1) for _ in victims]
        self._emptied = {node: list(room) for node, room in enumerate(rooms)}
        self._pinned: dict[int, list[tuple[pulp.LpVariable, Vector]]] = defaultdict(list)
        for leave, victim in zip(self._leave, victims, strict=True):
            for node, held in victim.held.items():
                self._pinned[node].append((leave, held))
                self._emptied[node] = [have + more for have, more in zip(self._emptied[node], held, strict=True)]
        self._giving = self._add_shrinks(shrinks)
        self._single = self._pinned.keys() | set(single)
        self._asked: dict[int, list[tuple[pulp.LpVariable, Vector]]] = defaultdict(list)
        self._gangs: list[_Candidate] = []
        self._terms: Terms | None = None
        self._excess: list[pulp.LpVariable] = []

    def _add(self, kind: str, upper: float) -> pulp.LpVariable:
        self._names += 1
        return self._lp.add_variable(f"{kind}{self._names}", 0, upper, "Integer")

    def _require(self, terms: Sequence[Term], sense: str, right: float) -> None:
        left = pulp.LpAffineExpression.from_list(list(terms))
        self._lp.addConstraint(left <= right if sense == "<=" else left == right)

    def _add_shrinks(self, shrinks: Sequence[Shrink]) -> list[_Giving]:
        """(9), (10), and what may be given up where."""
        leaves = {victim.job.id: leave for leave, victim in zip(self._leave, self._victims, strict=True)}
        by_job: dict[str, list[Shrink]] = defaultdict(list)
        for shrink in shrinks:
            by_job[shrink.job.id].append(shrink)
        found = []
        for job_id, ways in by_job.items():
            first, most = ways[0], max(way.gives for way in ways)
            y = [(way, self._add("y", 1)) for way in ways]
            g = {node: self._add("g", min(pods, most)) for node, pods in first.stands.items()}
            leave = [(leaves[job_id], 1.0)] if job_id in leaves else []
            self._require([*((one, 1.0) for _, one in y), *leave], "<=", 1.0)  # (9)
            given = [(one, 1.0) for one in g.values()]
            self._require([*given, *((one, -float(way.gives)) for way, one in y)], "==", 0.0)  # (9)
            for nodes in first.by_domain().values() if first.unit > 1 else ():
                slices = self._add("s", sum(first.stands[node] for node in nodes) // first.unit)
                self._require([*((g[node], 1.0) for node in nodes), (slices, -float(first.unit))], "==", 0.0)  # (10)
            for node, one in g.items():
                self._pinned[node].append((one, first.pod))
                if not leave:
                    least = [amount * min(first.stands[node], most) for amount in first.pod]
                    self._emptied[node] = [a + b for a, b in zip(self._emptied[node], least, strict=True)]
            found.append(_Giving(y, g))
        return found

    def _ways(self) -> list[tuple[Way, pulp.LpVariable]]:
        """Every way with its variable."""
        shrinks = [way for giving in self._giving for way in giving.ways]
        return [*zip(self._victims, self._leave, strict=True), *shrinks]

    def _slots(self, gang: Gang, node: int) -> int:
        """Blocks that fit into the node once all victims have left."""
        return gangs.slots(gang, tuple(self._emptied[node]))

    def add_gang(self, gang: Gang, *, moves: int | None = None) -> bool:
        """Add a gang that needs a place: always, or if the victim of index ``moves`` leaves. False: it has none."""
        chosen = self.places_of(gang)
        if moves is None and chosen:
            self._require(chosen, "==", 1.0)  # (2)
        elif moves is not None:
            self._require([*chosen, (self._leave[moves], -1.0)], "==", 0.0)  # (2)
        return bool(chosen)

    def places_of(self, gang: Gang) -> list[Term]:
        """Add the places of a gang; which of them it has, if any, is for the caller to require."""
        candidate = _Candidate(gang)
        for group in gang.groups:
            slots = {node: self._slots(gang, node) for node in group.nodes}
            if gangs.capacity(gang, slots=slots, problem=self._problem) < gang.num_blocks:
                continue
            z = self._add("z", 1)
            bins = self._bins(gang, slots=slots)
            terms = [(some.q, 1.0) for some in bins]
            self._require([*terms, (z, -float(gang.num_blocks))], "==", 0.0)  # (1)
            for limit in gang.limits:
                self._limit(limit, bins=bins)
            candidate.groups.append((group.product, z, bins))
        self._gangs.append(candidate)
        return [(z, 1.0) for _, z, _ in candidate.groups]

    def add_terms(self, terms: Terms, *, sparing: bool = False) -> None:
        """(6) to (8), (11) and (12) for the one gang that was added, which waits; ``sparing``: with no e_v above 0."""
        self._terms = terms
        products = [(product, z) for product, z, _ in self._gangs[0].groups]
        found = TermRows(terms, ways=self._ways(), products=products, variable=self._add, sparing=sparing)
        for left, sense, right in found.rows():
            self._require(left, sense, right)
        self._excess = found.excess

    def _bins(self, gang: Gang, *, slots: Mapping[int, int]) -> list[_Bin]:
        """Single nodes, and bins of all others by the domains of the gang's limits."""
        members: dict[tuple[Path, int], list[int]] = defaultdict(list)
        deepest = max((limit.level + 1 for limit in gang.limits), default=0)
        for node, blocks in slots.items():
            if blocks:
                members[self._problem.paths[node][:deepest], node if node in self._single else -1].append(node)
        found = []
        for (path, _), nodes in members.items():
            blocks = sum(slots[node] for node in nodes)
            q = self._add("q", min(blocks, gang.num_blocks))
            found.append(_Bin(nodes, blocks, path, q))
            if nodes[0] in self._single:
                self._asked[nodes[0]].append((q, gang.block))
        return found

    def _limit(self, limit: gangs.Limit, *, bins: Iterable[_Bin]) -> None:
        """(4) and (5)."""
        inside: dict[Path, list[_Bin]] = defaultdict(list)
        for some in bins:
            inside[some.path[: limit.level + 1]].append(some)
        for members in inside.values():
            most = sum(some.blocks for some in members)
            terms = [(some.q, 1.0) for some in members]
            if limit.multiple > 1:
                s = self._add("s", most // limit.multiple)
                self._require([*terms, (s, -float(limit.multiple))], "==", 0.0)
            if most > limit.at_most:
                self._require(terms, "<=", float(limit.at_most))

    def _add_rooms(self) -> None:
        """(3), for nodes that somebody may come to."""
        for node, asked in sorted(self._asked.items()):
            used: pulp.LpVariable | None = None
            if min(self._rooms[node]) < 0:
                used = self._add("o", 1)
                for q, _ in asked:
                    self._require([(q, 1.0), (used, -float(q.upBound or 0))], "<=", 0.0)
            for r, room in enumerate(self._rooms[node]):
                terms = [(q, float(block[r])) for q, block in asked if block[r]]
                if not terms:
                    continue
                terms += [(leave, -float(held[r])) for leave, held in self._pinned.get(node, ()) if held[r]]
                if room < 0 and used is not None:
                    terms.append((used, float(-room)))
                self._require(terms, "<=", float(max(room, 0)))

    def start_from(self, leaving: Iterable[Victim]) -> None:
        """Offer a set of victims as the solver's first; where the gangs then stand is left to the solver."""
        chosen = {(victim.job.id, victim.size) for victim in leaving}
        for way, variable in self._ways():
            variable.varValue = float((way.job.id, way.size) in chosen)

    def solve(self, *, settings: types.Settings, limit_seconds: float) -> Solution | None:
        """The cheapest set with the least excess, and of all such sets the smallest; None where none is, or in time."""
        self._add_rooms()
        exactly = replace(settings, gap_tolerance=0.0)
        if not self._excess:
            return self._solve_for_work(settings=exactly, limit_seconds=limit_seconds)
        least = [(e, 1) for e in self._excess]
        first = self._minimise(least, settings=exactly, limit_seconds=limit_seconds / 2)
        if first is None or self._terms is None:
            return None
        self._require([(e, float(one)) for e, one in least], "<=", float(self._terms.excess(first.leaving)))
        found = self._solve_for_work(settings=exactly, limit_seconds=limit_seconds / 2)
        return replace(first, bound=0) if found is None else found

    def _solve_for_work(self, *, settings: types.Settings, limit_seconds: float) -> Solution | None:
        """The least lost work, then the fewest victims."""
        each = [(variable, 1) for _, variable in self._ways()]
        costs = [(variable, way.cost) for way, variable in self._ways() if way.cost]
        if not costs:
            fewest = self._minimise(each, settings=settings, limit_seconds=limit_seconds)
            return None if fewest is None else replace(fewest, bound=0)
        answer = self._minimise(costs, settings=settings, limit_seconds=limit_seconds)
        if answer is None or not answer.leaving or (answer.cost and len(answer.leaving) == 1):
            return answer
        for leave, cost in costs:
            if cost > answer.cost:
                leave.upBound = 0
        self._require([(leave, float(cost)) for leave, cost in costs], "<=", float(answer.cost))
        fewest = self._minimise(each, settings=settings, limit_seconds=limit_seconds / 2)
        if fewest is None or fewest.cost > answer.cost or len(fewest.leaving) > len(answer.leaving):
            return answer
        return replace(fewest, bound=min(answer.bound, fewest.cost))

    def _minimise(
        self, terms: Sequence[tuple[pulp.LpVariable, int]], *, settings: types.Settings, limit_seconds: float
    ) -> Solution | None:
        """One solve; the bound is on this objective. All coefficients are integers, so less than 1 away is a proof."""
        unit = math.gcd(*(factor for _, factor in terms)) or 1
        self._lp.setObjective(pulp.LpAffineExpression.from_list([(v, float(f // unit)) for v, f in terms if f]))
        try:
            stats = model.run_solver(self._lp, settings=settings, limit_seconds=limit_seconds)
        except pulp.PulpError:
            return None
        if not stats.has_solution or stats.objective is None:
            return None
        bound = stats.best_bound
        if stats.status == pulp.constants.LpSolveStatus.Optimal and bound is None:
            bound = stats.objective
        answer = self._read()
        if answer is None or bound is None:
            return answer
        proven = math.ceil(bound - 1e-6) * unit
        return replace(answer, bound=max(min(proven, answer.cost), 0))

    def _read(self) -> Solution | None:
        """The last solution in integers; None where these do not fit."""
        leaving = tuple(self._left())
        if any(sum(pods for _, pods in victim.kept) != victim.size for victim in leaving):
            return None
        left = {node: list(self._rooms[node]) for node in self._asked}
        for victim in leaving:
            for node in victim.held.keys() & left.keys():
                left[node] = [have + more for have, more in zip(left[node], victim.held[node], strict=True)]
        stands: dict[str, tuple[str, list[Take]]] = {}
        for candidate in self._gangs:
            gang = candidate.gang
            for product, z, bins in candidate.groups:
                if round(z.varValue or 0.0):
                    takes = self._takes(gang, bins=bins)
                    if sum(pods for _, pods in takes) != gang.num_blocks * gang.block_pods:
                        return None
                    stands[gang.job.id] = (product, takes)
                    for node, pods in takes:
                        if node in left and not _take(left[node], block=gang.block, count=pods // gang.block_pods):
                            return None
                    if self._terms is not None and not self._terms.allows(product, leaving):
                        return None
        return Solution(leaving, stands, bound=0)

    def _left(self) -> Iterator[Victim]:
        """Who gives room in the last solution."""
        for victim, leave in zip(self._victims, self._leave, strict=True):
            if round(leave.varValue or 0.0):
                yield victim
        for giving in self._giving:
            for way, variable in giving.ways:
                if round(variable.varValue or 0.0):
                    yield way.giving({node: round(one.varValue or 0.0) for node, one in giving.g.items()})

    def _takes(self, gang: Gang, *, bins: Sequence[_Bin]) -> list[Take]:
        """Nodes for the counts; of a bin few and full ones."""
        takes: list[Take] = []
        for some in bins:
            count = round(some.q.varValue or 0.0)
            if count:
                slots = {node: self._slots(gang, node) for node in some.nodes}
                takes += [(node, here * gang.block_pods) for node, here in gangs.fullest(count, slots=slots).items()]
        return sorted(takes)


def _take(left: list[int], *, block: Vector, count: int) -> bool:
    """Take blocks from a node; False where they do not fit."""
    for r, need in enumerate(block):
        if need and count:
            left[r] -= need * count
            if left[r] < 0:
                return False
    return True
