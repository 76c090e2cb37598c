"""The integer programme, in PuLP.

Sets
    p ∈ P            shapes: equal jobs of one priority, k_p pods each
    k ∈ K_p          sizes that the jobs of an elastic shape may choose from where goodput is decided; else {k_p}
    c ∈ C            cells; C_p those eligible for p
    m ∈ M_p          block sizes in pods: {1}; K_p where level ``node`` is required; {1, k_p} where it is preferred
                     (and k_p is the only size); for slices of s_p pods, {s_p} or {1, s_p}
    g ∈ G_p          groups of C_p, of which one job may use only one: a product, or a product and a domain of
                     the required level
    d ∈ D_{p,l}      domains of level l among C_p, one product each
    P_s, P_a ⊆ P     shapes with slices of a required level, and with spread; one job each
    r ∈ R            resources: amounts of pods, and for each reservation what is left beside it (``reserving``)
    s ∈ S_{c,r}      sizes worth counting in cell c along resource r
Data
    a_{p,m,r}        what a block takes of resource r: m times a pod
    u_{c,r,s}        Σ over nodes of c of floor(free_r / s): whole slots of size s
    s_p              pods of a slice of p, for shapes with slices
    t_p              pods of one job of p that its spread lets into one domain
    N_p              jobs to place (fixed), or already placed where a chain decides on more
Variables (integers ≥ 0)
    x_{p,c,m}        blocks of p in c
    z_{p,g,k}        jobs of p in group g with k pods
    y_j ∈ {0, 1}     the j-th job of the chain is placed: the next jobs in queue order
    w_{p,d}, h_{p,d} jobs wholly inside d; pieces of jobs inside d that reach beyond it
    v_{p,d}          slices of p in domain d
    e_{c,s}          phantom pods of s accelerators: slots left whole
Constraints
    (1) gang         Σ_{c∈g,m} m·x_{p,c,m} = Σ_k k·z_{p,g,k}                  for p, g; where level ``node`` is
                     required, Σ_{c∈g} x_{p,c,k} = z_{p,g,k} for each k
    (2) numbers      Σ_{g,k} z_{p,g,k} = N_p + Σ_{j of p} y_j                 for p
    (3) slots        Σ_{p,m} floor(a_{p,m,r}/s)·x_{p,c,m} + Σ_t floor(t/s)·e_{c,t} ≤ u_{c,r,s}   for c, r, s
    (4) order        y_{j+1} ≤ y_j for j; or Σ_j y_j ≤ 1 where the first that fits is asked for
    (5) spans        Σ_{c∈d,m} m·x_{p,c,m} − k_p·w_{p,d} ≤ b_{p,d}·h_{p,d}    for p, d;  b = min(k_p − 1, slots of d)
                     where the level is one of slices, s_p in place of k_p
    (6) slices       Σ_{c∈d} x_{p,c,1} = s_p·v_{p,d}                          for p ∈ P_s, d of its level
    (7) spread       Σ_{c∈d,m} m·x_{p,c,m} ≤ t_p                              for p ∈ P_a, d of its spread's level;
                     where that is ``node``, x_{p,c,m} ≤ Σ over nodes of c of min(slots, floor(t_p / m))
    (8) earlier tiers keep their values
    (9) limits       (1) of ``namespaces`` with a_p·m·x_{p,c,m} over all cells, for each limit and moment; quotas:
                     (1) and (2) of ``quotas`` with a_p·m·x_{p,c,m} as what the jobs of a queue use of the product of c
Objectives, one tier at a time
    admit            max Σ_j y_j; or Σ_j (n − j)·y_j for the first that fits
    goodput          max Σ a_p·goodput_{p,g,k}·z_{p,g,k}; by pods and relative throughput: k·throughput_{p,g}
    domains          min Σ w + h (and pods on nodes without the label, each a domain of its own)
    whole slots      max Σ (s − 1)·e_{c,s}: what is free, in few pieces; less pods without accelerators on
                     nodes that have some
    price            min Σ price of what is taken

With s = 1 (3) is the plain sum. Where sizes do not divide each other, or another resource can
run out, (3) is also written with other weights than slots, and every right-hand side is what
the nodes hold of pods that fit together (``capacity``, ``holding``). For sizes that divide each
other and accelerators alone, (3) is exact: largest-first filling of a cell never fails. Otherwise
it is a relaxation, so a bound or an infeasibility proven here holds for the real problem as well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pulp

from stowplan_allocator import capacity, greedy, overrun, patterns, quota_rows, solvers, types
from stowplan_allocator import problem as problems
from stowplan_allocator.packing import Key
from stowplan_allocator.problem import Cell, Problem, Request, Shape
from stowplan_allocator.stock import Stock

Term = capacity.Term
INTEGRAL_TOLERANCE = 1e-4
# How much longer than its limit a solver may take; limits are a share of what is left, so that this is within it.
PATIENCE = 1.6


@dataclass(frozen=True, slots=True)
class Solved:
    """One solve. ``value`` is None without a solution; ``bound`` is proven; ``seconds`` of wall time."""

    value: int | None
    bound: int | None
    infeasible: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Group:
    """Cells of which one job may use only one group: g in the model."""

    product: str
    domain: problems.Path
    cells: tuple[Cell, ...]
    z: Mapping[int, pulp.LpVariable]


def block_sizes(request: Request, *, num_levels: int, offered: Sequence[int] = ()) -> tuple[int, ...]:
    """M_p of the model; ``offered`` are the sizes that jobs may choose from, where there is a choice."""
    if request.level != num_levels:
        return (1,)
    whole = request.slice_size or request.num_pods
    if request.required:
        return (whole,) if request.slice_size else tuple(offered) or (whole,)
    if request.spread is not None or whole == 1 or (offered and not request.slice_size):
        return (1,)
    return (1, whole)


class Model:
    """The programme for given numbers of jobs, and optionally a chain of further ones."""

    def __init__(
        self,
        problem: Problem,
        *,
        rooms: Stock,
        numbers: Mapping[int, int],
        chain: Sequence[int] = (),
        only_one: bool = False,
        phantoms: bool = False,
        sizes: Mapping[int, tuple[int, ...]] | None = None,
        limits: capacity.Capacity | None = None,
    ) -> None:
        """``limits`` remembers what nodes hold from one model to the next."""
        self.problem = problem
        self.rooms = rooms
        self.lp = pulp.LpProblem("stowplan", pulp.LpMaximize)
        self.x: dict[Key, pulp.LpVariable] = {}
        self.y: list[pulp.LpVariable] = []
        self.e: dict[int, dict[int, pulp.LpVariable]] = {}
        self.groups: dict[int, list[Group]] = {}
        self._sizes = sizes or {}
        self._names = 0
        self._capacity = capacity.Capacity() if limits is None else limits
        self._in_cell: list[list[capacity.Block]] = [[] for _ in problem.cells]
        self.y = [self.add_integer("y", 1) for _ in chain]
        if only_one:
            self.require([(y, 1.0) for y in self.y], "<=", 1.0)  # (4)
        else:
            for before, after in zip(self.y, self.y[1:], strict=False):
                self.require([(after, 1.0), (before, -1.0)], "<=", 0.0)  # (4)
        more: dict[int, list[Term]] = {}
        for index, y in zip(chain, self.y, strict=True):
            more.setdefault(index, []).append((y, -1.0))
        for index in sorted({*(i for i, number in numbers.items() if number), *chain}):
            self._add_shape(problem.shapes[index], number=numbers.get(index, 0), more=more.get(index, []))
        if phantoms:
            self._add_phantoms()
        for cell in problem.cells:
            self._add_capacity(cell)
        for left, right in quota_rows.limits(problem, blocks=self.x, variable=self.add_integer):
            self.require(left, "<=", right)  # (9)

    def add_integer(self, kind: str, upper: float) -> pulp.LpVariable:
        """A fresh integer variable from 0 to ``upper``."""
        self._names += 1
        return self.lp.add_variable(f"{kind}{self._names}", 0, upper, "Integer")

    def require(self, terms: Sequence[Term], sense: str, right: float) -> None:
        """Add a constraint: the terms' sum is at most, at least or equal to ``right``."""
        left = pulp.LpAffineExpression.from_list(list(terms))
        if sense == "<=":
            self.lp.addConstraint(left <= right)
        elif sense == ">=":
            self.lp.addConstraint(left >= right)
        else:
            self.lp.addConstraint(left == right)

    def require_at_most(self, cell: int, *, d: int, amount: int) -> None:
        """Limit what a cell gives of a resource: not a true constraint, so nothing is proven with it."""
        terms = [(x, float(vector[d])) for vector, x, _ in self._in_cell[cell] if vector[d]]
        if terms:
            self.require(terms, "<=", float(amount))

    def _add_shape(self, shape: Shape, *, number: int, more: list[Term]) -> None:
        request = shape.request
        most = number + len(more)
        num_levels = len(self.problem.levels)
        deep = request.gang_level if request.gang_level is not None and request.gang_level < num_levels else None
        most_on_a_node = patterns.most_on_a_node(request, num_levels=num_levels)
        offered = self._sizes.get(shape.index, ())
        ks = offered or (request.num_pods,)
        sizes = block_sizes(request, num_levels=num_levels, offered=offered)
        vectors = {size: tuple(amount * size for amount in request.vector) for size in sizes}
        members: dict[greedy.Choice, list[Cell]] = {}
        for product, cells in greedy.cells_by_option(request, problem=self.problem):
            for cell in cells:
                members.setdefault((product, () if deep is None else cell.path[: deep + 1]), []).append(cell)
        groups = []
        pods_of: list[list[Term]] = []
        for choice, cells in members.items():
            pods: list[Term] = []
            used = []
            room = 0
            for cell in cells:
                for size in sizes:
                    vector = vectors[size]
                    if most_on_a_node is None:
                        here = self.rooms.slots(cell.index, vector)
                    else:
                        here = self.rooms.slots_apart(cell.index, vector, most_on_a_node // size)  # (7)
                    if here:
                        x = self.add_integer("x", min(here, most * ks[-1] // size))
                        self.x[shape.index, cell.index, size] = x
                        self._in_cell[cell.index].append((vector, x, size))
                        if cell.pool is not None:
                            self._in_cell[cell.pool].append((vector, x, size))
                        pods.append((x, float(size)))
                        used.append(cell)
                        room += here * size
            if pods and room >= ks[0]:
                groups.append((choice, tuple(dict.fromkeys(used)), room))
                pods_of.append(pods)
            else:
                for x, _ in pods:
                    x.upBound = 0
        several = len(members) > 1 or bool(offered)
        self.groups[shape.index] = []
        for (choice, group_cells, room), pods in zip(groups, pods_of, strict=True):
            z = {k: self.add_integer("z", min(most, room // k)) for k in ks} if several else {}
            self.groups[shape.index].append(Group(*choice, group_cells, z))
            if request.patterned:
                self._add_patterns(shape, cells=group_cells, sizes=sizes)
            if offered and sizes == offered:
                for k, jobs in z.items():
                    blocks = [(x, 1.0) for x, size in pods if size == k]
                    self.require([*blocks, (jobs, -1.0)], "==", 0.0)  # (1)
            elif several:
                self.require([*pods, *((jobs, -float(k)) for k, jobs in z.items())], "==", 0.0)  # (1)
            else:
                scaled = [(y, factor * request.num_pods) for y, factor in more]
                self.require([*pods, *scaled], "==", float(number * request.num_pods))  # (1) with (2)
        if several:
            zs = [(jobs, 1.0) for group in self.groups[shape.index] for jobs in group.z.values()]
            self.require([*zs, *more], "==", float(number))  # (2)
        if not groups:
            for y, _ in more:
                y.upBound = 0
            assert not number, "a placed shape has no cell"

    def _add_patterns(self, shape: Shape, *, cells: Sequence[Cell], sizes: Sequence[int]) -> None:
        """(6) and (7) for one group of a shape, which has only one job."""
        request = shape.request
        num_levels = len(self.problem.levels)

        def pods_by_domain(level: int) -> Iterable[list[Term]]:
            inside: dict[problems.Path, list[Term]] = {}
            for cell in cells:
                blocks = [(self.x.get((shape.index, cell.index, size)), float(size)) for size in sizes]
                terms = [(x, size) for x, size in blocks if x is not None]
                inside.setdefault(cell.path[: level + 1], []).extend(terms)
            return inside.values()

        if request.required and request.slice_size and request.level is not None and request.level < num_levels:
            for pods in pods_by_domain(request.level):
                most = sum(int(x.upBound or 0) for x, _ in pods) // request.slice_size
                v = self.add_integer("v", most)
                self.require([*pods, (v, -float(request.slice_size))], "==", 0.0)  # (6)
        if request.spread is not None and request.spread[0] < num_levels:
            for pods in pods_by_domain(request.spread[0]):
                self.require(pods, "<=", float(request.spread[1]))  # (7)

    def _request(self, shape: int) -> Request:
        return self.problem.shapes[shape].request

    def _add_phantoms(self) -> None:
        powers = [size for size in self.problem.sizes if size & (size - 1) == 0]
        asked = {index for shape in self.groups for index in self.problem.cells_of[self._request(shape).index]}
        for cell in (self.problem.cells[index] for index in sorted(asked)):
            for size in powers:
                if size > 1:
                    upper = sum(self.problem.free[node][0] // size for node in cell.nodes)
                    if upper:
                        self.e.setdefault(cell.index, {})[size] = self.add_integer("e", upper)

    def _add_capacity(self, cell: Cell) -> None:
        blocks, phantoms = self._in_cell[cell.index], self.e.get(cell.index, {})
        if blocks or phantoms:
            rooms = Counter(self.problem.free[node] for node in cell.nodes)
            for terms, right in self._capacity.rows(blocks, phantoms=phantoms, rooms=rooms):
                self.require(terms, "<=", right)  # (3)

    def start_from(self, counts: Mapping[Key, int]) -> None:
        """Offer counts as the solver's first solution; w, h and e are left to the solver."""
        for key, x in self.x.items():
            x.varValue = float(counts.get(key, 0))
        pods: dict[tuple[int, int], int] = {}
        for (p, c, size), count in counts.items():
            pods[p, c] = pods.get((p, c), 0) + count * size
        for index, groups in self.groups.items():
            num_pods = self.problem.shapes[index].request.num_pods
            for group in groups:
                inside = sum(pods.get((index, cell.index), 0) for cell in group.cells)
                for k, z in group.z.items():
                    z.varValue = float(inside // k if k == num_pods else 0)
        for y in self.y:
            y.varValue = 0.0

    def solve(
        self,
        objective: Iterable[Term],
        *,
        maximise: bool,
        settings: types.Settings,
        limit_seconds: float,
        relaxed: bool = False,
    ) -> Solved:
        """Solve one tier. All objectives have integer coefficients, so that a bound less than 1 away is a proof.

        ``relaxed`` leaves integrality aside: the value is then the bound, and the variables may be fractions.
        """
        terms = list(objective)
        unit = math.gcd(*(int(factor) for _, factor in terms)) or 1
        self.lp.sense = pulp.LpMaximize if maximise else pulp.LpMinimize
        self.lp.setObjective(pulp.LpAffineExpression.from_list([(v, factor / unit) for v, factor in terms]))
        stats = run_solver(self.lp, settings=settings, limit_seconds=limit_seconds, relaxed=relaxed)
        infeasible = stats.status == pulp.constants.LpSolveStatus.Infeasible
        if not stats.has_solution or stats.objective is None:
            return Solved(None, None, infeasible, stats.time)
        value = round(stats.objective)
        bound = stats.best_bound
        if stats.status == pulp.constants.LpSolveStatus.Optimal and bound is None:
            bound = stats.objective
        if bound is not None:
            bound = math.floor(bound + 1e-6) if maximise else math.ceil(bound - 1e-6)
            if relaxed:
                value = bound
            bound = max(bound, value) if maximise else min(bound, value)
        return Solved(value * unit, None if bound is None else bound * unit, infeasible, stats.time)

    def counts(self) -> dict[Key, int]:
        """The blocks of the last solution, rounded. Raises ArithmeticError where a value is not near an integer."""
        found = {}
        for key, x in self.x.items():
            value = x.varValue or 0.0
            count = round(value)
            if abs(value - count) > INTEGRAL_TOLERANCE:
                raise ArithmeticError(f"the solver returned {value} for an integer variable")
            if count:
                found[key] = count
        return found

    def whole_slots(self) -> dict[int, int]:
        """What the last solution says each cell keeps whole: Σ (s − 1)·e."""
        return {
            cell: sum((size - 1) * round(e.varValue or 0.0) for size, e in phantoms.items())
            for cell, phantoms in self.e.items()
        }

    def choices(self) -> dict[int, list[greedy.Choice]]:
        """For each shape the product and domain of each of its jobs in the last solution, best product first."""
        return {index: [choice for choice, _ in chosen] for index, chosen in self.chosen().items()}

    def chosen(self) -> dict[int, list[tuple[greedy.Choice, int]]]:
        """The choices with the size of each job, for the shapes that have a choice."""
        return {
            index: [
                ((group.product, group.domain), k)
                for group in groups
                for k, z in group.z.items()
                for _ in range(round(z.varValue or 0.0))
            ]
            for index, groups in self.groups.items()
            if groups and all(group.z for group in groups)
        }

    def chain_length(self) -> int:
        """How many jobs of the chain the last solution places."""
        return sum(round(y.varValue or 0.0) for y in self.y)


def run_solver(
    lp: pulp.LpProblem, *, settings: types.Settings, limit_seconds: float, relaxed: bool = False
) -> pulp.LpSolveStats:
    """Solve within the limit. Raises PulpError for a solver that overran it; ``lp`` is its own from then on."""
    solver = make_solver(settings, limit_seconds=max(limit_seconds, 0.01), relaxed=relaxed)
    try:
        return overrun.run(lambda: lp.solve(solver), seconds=limit_seconds * PATIENCE)
    except overrun.Overrun as error:
        raise pulp.PulpError(str(error)) from None


def make_solver(settings: types.Settings, *, limit_seconds: float, relaxed: bool = False) -> pulp.LpSolver:
    """The solver of the settings, as ``solvers`` makes it."""
    return solvers.make(settings, limit_seconds=limit_seconds, relaxed=relaxed)
