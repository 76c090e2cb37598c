"""The topology tiers: gangs in few domains, those first that asked for it.

What must stay true: ``least_span`` and the model's terms never count more domains than a
placement touches, so that they bound it; pods on a node without the level's label count as
domains of their own, or leaving labels away would look like the best topology.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from stowplan_allocator import greedy, objectives, topology
from stowplan_allocator.model import Model, Term
from stowplan_allocator.objectives import Spots, Tier
from stowplan_allocator.problem import Cell, Path, Problem, Request, Shape
from stowplan_allocator.stock import Stock, Take

# A shape, a level, and of how many pods each group should be in few domains of it: a slice or the whole job.
Span = tuple[Shape, int, int]


def tiers(problem: Problem, *, rooms: Stock, spots: Spots) -> list[Tier]:
    """Preferred levels first, then few domains for every gang, wished for or not."""
    preferred: list[Span] = []
    others: list[Span] = []
    for shape in objectives.placed_shapes(problem, spots=spots):
        request = shape.request
        if request.num_pods == 1:
            continue
        if request.level is not None and not request.required:
            preferred.append((shape, request.level, request.slice_size or request.num_pods))
        for level in range(len(problem.levels)):
            if level != request.level or request.slice_size:
                others.append((shape, level, request.num_pods))
    return [
        _tier(name, problem=problem, rooms=rooms, spans=spans, spots=spots)
        for name, spans in (("preferred topology", preferred), ("domains spanned", others))
        if spans
    ]


def _tier(name: str, *, problem: Problem, rooms: Stock, spans: Sequence[Span], spots: Spots) -> Tier:
    node_level = len(problem.levels)

    def measure(spots: Spots) -> int:
        total = 0
        for shape, level, size in spans:
            for job in shape.jobs:
                if job.id in spots:
                    for takes in _parts(problem, spot=spots[job.id], request=shape.request, size=size):
                        count = span(problem, takes=takes, level=level)
                        total += min(count, 2) if level == node_level else count
        return total

    def terms(model: Model) -> list[Term]:
        found: list[Term] = []
        for shape, level, size in spans:
            if level == node_level:
                found += _node_terms(model, shape=shape, whole=size)
            else:
                found += _level_terms(model, shape=shape, level=level, k=size)
        return found

    easy = offset = 0
    # Equal requests of all queues and priorities have the same bound.
    least: dict[tuple[int, int, int], int] = {}
    for shape, level, size in spans:
        number = objectives.num_placed(shape, spots=spots) * (shape.request.num_pods // size)
        part = replace(shape.request, num_pods=size)
        asked = (shape.request.first, level, size)
        if asked not in least:
            least[asked] = least_span(problem, rooms=rooms, request=part, level=level)
        easy += number * least[asked]
        # At level node a job, or a slice, counts 1 on one node and 2 otherwise: 2·N less the whole blocks.
        offset += 2 * number if level == node_level else 0
    return Tier(name, False, measure, easy, terms, offset, growth=1 + 2 * node_level)


def _parts(problem: Problem, *, spot: greedy.Spot, request: Request, size: int) -> list[list[Take]]:
    """The job, or each of its slices, as it stands; slices are made of ranks in their order."""
    if size == request.num_pods:
        return [spot.takes]
    pods: dict[int, int] = {}
    for node, count in spot.takes:
        pods[node] = pods.get(node, 0) + count
    ranks = [node for node, count in topology.rank_order(pods, problem=problem, request=request) for _ in range(count)]
    return [[(node, 1) for node in ranks[i : i + size]] for i in range(0, len(ranks), size)]


def _node_terms(model: Model, *, shape: Shape, whole: int) -> list[Term]:
    return [(x, -1.0) for (p, _, size), x in model.x.items() if p == shape.index and size == whole]


def _level_terms(model: Model, *, shape: Shape, level: int, k: int) -> list[Term]:
    """Constraints (5) for one shape and level, and its share of the objective; ``k`` pods should stay together."""
    found: list[Term] = []
    sizes = sorted({1, k, shape.request.num_pods, shape.request.slice_size} - {0})
    for group in model.groups[shape.index]:
        for path, cells in _domains(group.cells, level=level).items():
            pods: list[Term] = []
            room = 0
            for cell in cells:
                room += model.rooms.slots(cell.index, shape.request.vector)
                for size in sizes:
                    x = model.x.get((shape.index, cell.index, size))
                    if x is not None:
                        pods.append((x, float(size)))
            if path[level] is None:
                found += pods
                continue
            h = model.add_integer("h", room)
            row = [*pods, (h, -float(min(k - 1, room)))]
            found.append((h, 1.0))
            if room >= k:
                w = model.add_integer("w", room // k)
                row.append((w, -float(k)))
                found.append((w, 1.0))
            model.require(row, "<=", 0.0)  # (5)
    return found


def span(problem: Problem, *, takes: Sequence[Take], level: int) -> int:
    """Domains of a level that a placement touches; each pod on a node without the label is one more."""
    if level == len(problem.levels):
        return len({node for node, _ in takes})
    domains = set()
    unlabelled = 0
    for node, pods in takes:
        path = problem.paths[node]
        if path[level] is None:
            unlabelled += pods
        else:
            domains.add(path[: level + 1])
    return len(domains) + unlabelled


def least_span(problem: Problem, *, rooms: Stock, request: Request, level: int) -> int:
    """A bound on the span of any placement of the request, from what domains hold before anything is placed."""
    if level == len(problem.levels):
        gang = greedy.whole_gang(request)
        return 1 if any(rooms.slots(index, gang) for index in problem.cells_of[request.index]) else 2
    best = request.num_pods
    for _, cells in greedy.cells_by_option(request, problem=problem):
        held = [
            sum(rooms.slots(cell.index, request.vector) for cell in members)
            for path, members in _domains(cells, level=level).items()
            if path[level] is not None
        ]
        left, count = request.num_pods, 0
        for room in sorted(held, reverse=True):
            if left <= 0 or room == 0:
                break
            left -= room
            count += 1
        best = min(best, count + max(left, 0))
    return best


def _domains(cells: Iterable[Cell], *, level: int) -> dict[Path, list[Cell]]:
    found: dict[Path, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.path[: level + 1], []).append(cell)
    return found
