"""The fallback and the first incumbent: jobs in queue order, each where it destroys least.

For each job in turn: products by throughput, then the narrowest and fullest domain that
holds the whole gang, then nodes by what would be lost. What must stay true: it always
ends, in time that grows with jobs times cells; a job is placed whole or not at all; and it
never looks at a younger or lower job before an older or higher one, so that nobody is
overtaken by someone who takes away his place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from stowplan_allocator import patterns, scarce, topology, types
from stowplan_allocator.problem import Cell, Path, Problem, Request, Vector
from stowplan_allocator.stock import Stock, Take

# A product, and the path of a domain or ().
Choice = tuple[str, Path]


@dataclass(slots=True)
class Spot:
    """Where one job stands: its product, and pods by node as (node, pods)."""

    product: str
    takes: list[Take]

    @property
    def num_pods(self) -> int:
        """Pods in all."""
        return sum(pods for _, pods in self.takes)


def to_placement(spot: Spot, *, problem: Problem, request: Request | None = None) -> types.Placement:
    """A spot in the words of the outside, shares in rank order; the request tells which slices should stay whole."""
    pods: dict[int, int] = {}
    for node, count in spot.takes:
        pods[node] = pods.get(node, 0) + count
    return types.Placement(
        product=spot.product,
        shares=tuple(
            types.NodeShare(problem.nodes[node].name, count)
            for node, count in topology.rank_order(pods, problem=problem, request=request)
        ),
    )


def whole_gang(request: Request) -> Vector:
    """All pods of the gang as one pod, for a gang that must or would like to share a node."""
    return tuple(amount * request.num_pods for amount in request.vector)


def wants_one_node(request: Request, *, num_levels: int) -> bool:
    """Whether the whole gang asks for level ``node``, and its spread allows that."""
    if request.spread is not None and request.spread[1] < request.num_pods:
        return False
    return request.level == num_levels and not request.slice_size


def block_of(request: Request, *, num_levels: int) -> tuple[int, Vector]:
    """How many blocks the gang is and what one takes: the whole gang, or a slice, where one node is required."""
    if request.required and request.level == num_levels:
        size = request.slice_size or request.num_pods
        return request.num_pods // size, tuple(amount * size for amount in request.vector)
    return request.num_pods, request.vector


def cells_by_option(request: Request, *, problem: Problem) -> list[tuple[str, list[Cell]]]:
    """The cells that may serve the request, split by product, best product first. Not to be changed."""
    # Requests that look at the same cells share one list, and so one ledger.
    key = (problem.cells_of[request.index], request.products, request.any_product)
    known = problem.options.get(key)
    if known is None:
        known = problem.options[key] = _cells_by_option(request, problem=problem)
    return known


def _cells_by_option(request: Request, *, problem: Problem) -> list[tuple[str, list[Cell]]]:
    cells = [problem.cells[index] for index in problem.cells_of[request.index]]
    if request.any_product:
        return [("", cells)] if cells else []
    by_product: dict[str, list[Cell]] = {}
    for cell in cells:
        by_product.setdefault(cell.product, []).append(cell)
    if request.products:
        ranked = sorted(enumerate(request.products), key=lambda item: (-item[1].relative_throughput_milli, item[0]))
        return [(choice.product, by_product[choice.product]) for _, choice in ranked if choice.product in by_product]
    return sorted(by_product.items())


def place(request: Request, *, problem: Problem, stock: Stock, first: Choice | None = None) -> Spot | None:
    """Place one gang and take its room from the stock, or leave the stock alone and return None.

    Products are tried best first, but ``first``, a product and a domain, before all others.
    """
    num_levels = len(problem.levels)
    options = list(cells_by_option(request, problem=problem))
    options = within_quotas(request, options=options, stock=stock)
    if not request.products and len(options) > 1:
        room = {product: _room(request, cells=cells, stock=stock) for product, cells in options}
        options.sort(key=lambda option: (room[option[0]], option[0]))
    if first is not None:
        options[:0] = [
            (product, [cell for cell in cells if cell.path[: len(first[1])] == first[1]])
            for product, cells in options
            if product == first[0]
        ]
    one_node = wants_one_node(request, num_levels=num_levels)
    may_divide = request.gang_level != num_levels
    for product, cells in options:
        takes = _on_one_node(request, cells=cells, stock=stock) if one_node else None
        if takes is None and may_divide:
            over = patterns.place if request.patterned else _over_cells
            takes = over(request, cells=cells, stock=stock, num_levels=num_levels)
        if takes is not None:
            spot = Spot(product, takes)
            count(request, spot=spot, stock=stock)
            return spot
    return None


def within_quotas(
    request: Request, *, options: list[tuple[str, list[Cell]]], stock: Stock
) -> list[tuple[str, list[Cell]]]:
    """The options for which the job's queue has quota left; none where its queue or namespace lets no more start."""
    if stock.spare is not None and not stock.spare.fits(request.charges, request.num_pods):
        return []
    allowance = stock.allowance
    if allowance is None:
        return options
    if allowance.is_full(request.leaf, bound=request.bound):
        return []
    amount = request.num_pods * request.vector[0]
    return [option for option in options if allowance.fits(request.leaf, option[0], amount, bound=request.bound)]


def count(request: Request, *, spot: Spot, stock: Stock, sign: int = 1) -> None:
    """Let a job that came, or with sign -1 one that went, count against quotas and limits."""
    if stock.spare is not None:
        stock.spare.add(request.charges, sign * spot.num_pods)
    if stock.allowance is not None:
        amount = sign * spot.num_pods * request.vector[0]
        stock.allowance.add(request.leaf, spot.product, amount, jobs=sign, bound=request.bound)


def recount(stock: Stock, *, spots: Mapping[str, Spot], problem: Problem) -> None:
    """Let exactly these jobs, and what runs, count against quotas and limits."""
    if problem.allowance is not None or problem.namespaces is not None:
        stock.allowance = None if problem.allowance is None else problem.allowance.copy()
        stock.spare = problem.spare()
        for job_id, spot in spots.items():
            count(problem.shape_of[job_id].request, spot=spot, stock=stock)


def _room(request: Request, *, cells: Sequence[Cell], stock: Stock) -> int:
    return sum(stock.slots(cell.index, request.vector) for cell in cells)


def _on_one_node(request: Request, *, cells: Sequence[Cell], stock: Stock) -> list[Take] | None:
    gang = whole_gang(request)
    fitting = [cell for cell in cells if stock.slots(cell.index, gang)]
    if not fitting:
        return None
    cell = min(fitting, key=lambda cell: (stock.slots(cell.index, gang), cell.index))
    [(node, _)] = stock.take(cell.index, gang, 1)
    return [(node, request.num_pods)]


def _over_cells(request: Request, *, cells: Sequence[Cell], stock: Stock, num_levels: int) -> list[Take] | None:
    required = request.level if request.required else None
    ledger = stock.ledger(cells, pod=request.vector, num_levels=num_levels)
    shares = None
    if request.any_product and required is None and ledger.total >= request.num_pods:
        # A pod without accelerators keeps away from nodes that have some, if it can.
        plain = [cell for cell in cells if not cell.has_accelerators]
        shares = topology.choose_cells(
            request.num_pods, cells=plain, slots=ledger.slots, num_levels=num_levels, required=None
        )
    if shares is None:
        shares = ledger.choose(request.num_pods, required=required)
    if shares is None:
        return None
    takes: list[Take] = []
    for cell, count in shares:
        taken = stock.take(cell, request.vector, count)
        assert sum(pods for _, pods in taken) == count, "a cell held fewer pods than it had slots"
        takes += taken
    return takes


def new_stock(problem: Problem) -> Stock:
    """The stock before anything is placed."""
    members = [cell.nodes for cell in problem.cells]
    least = _least_needs(problem)
    allowance = None if problem.allowance is None else problem.allowance.copy()
    return Stock(
        members,
        free=problem.free,
        sizes=problem.sizes,
        least=least,
        scarce=scarce.find(problem),
        allowance=allowance,
        spare=problem.spare(),
    )


def _least_needs(problem: Problem) -> list[tuple[int, int]]:
    """What any waiting pod takes at least of each resource for its accelerators, as (amount, accelerators)."""
    pods = [request.vector for request in problem.requests if request.vector[0]]
    if not pods:
        return []
    found = []
    for d in range(1, len(problem.dims)):
        need = min(Fraction(pod[d], pod[0]) for pod in pods)
        found.append((need.numerator, need.denominator))
    return found
