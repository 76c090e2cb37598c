"""From counts per cell to nodes, and from nodes to jobs.

The model says how many pods of each shape a cell holds; here they get nodes, the largest
first, and the pods of a shape are dealt out to its jobs. Where all pod sizes of a cell
divide each other and only accelerators bind, filling never fails (the constraints of the
model are exact then); otherwise it may, and the cell is reported so that the model can look
at it in finer parts. What must stay true: counts are met exactly or the cell is named; a
job is dealt pods of one product only; whole jobs stay in the narrowest domain that holds
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator import filling, greedy, patterns, topology
from stowplan_allocator.problem import Cell, Path, Problem, Request, Shape, Vector
from stowplan_allocator.stock import Stock, Take

# (shape, cell, multiplier): so many blocks of ``multiplier`` pods each, a block on one node.
Key = tuple[int, int, int]
Piece = list[Take]

# (resource, amount): what filling a cell got to, to be used as a limit by a model that asked for more.
Cut = tuple[int, int]

SEARCH_STEPS = 2_000


@dataclass(slots=True)
class Packed:
    """Nodes for all counts, or the cells where filling failed."""

    stock: Stock
    takes: dict[tuple[int, int], list[Take]]
    failed: dict[int, Cut]


def pack(problem: Problem, *, counts: Mapping[Key, int]) -> Packed:
    """Give nodes to the counted blocks, cell by cell."""
    stock = greedy.new_stock(problem)
    by_cell: dict[int, list[tuple[Vector, Key, int]]] = defaultdict(list)
    for key, count in sorted(counts.items()):
        if count:
            vector = problem.shapes[key[0]].request.vector
            by_cell[key[1]].append((tuple(amount * key[2] for amount in vector), key, count))
    packed = Packed(stock, defaultdict(list), {})
    for cell, items in by_cell.items():
        takes = _fill(problem.cells[cell], items=items, stock=stock, apart=_limits(problem, items=items))
        if not isinstance(takes, dict):
            packed.failed[cell] = takes
            continue
        for key, taken in takes.items():
            packed.takes[key[0], cell] += [(node, blocks * key[2]) for node, blocks in taken]
    return packed


def _limits(problem: Problem, *, items: Sequence[tuple[Vector, Key, int]]) -> dict[Key, int]:
    """How many blocks of one key may stand on one node, for shapes whose spread limits that."""
    limits = {}
    for _, key, _ in items:
        most = patterns.most_on_a_node(problem.shapes[key[0]].request, num_levels=len(problem.levels))
        if most is not None:
            limits[key] = most // key[2]
    return limits


def _fill(
    cell: Cell, *, items: Sequence[tuple[Vector, Key, int]], stock: Stock, apart: Mapping[Key, int]
) -> dict[Key, list[Take]] | Cut:
    total = [max(sum(stock.free[node][d] for node in cell.nodes), 1) for d in range(len(items[0][0]))]

    def share(pod: Vector) -> float:
        return max(amount / have for amount, have in zip(pod, total, strict=True))

    orders: list[Callable[[Vector], tuple[float, ...]]] = [
        lambda pod: pod,
        lambda pod: (share(pod),),
        lambda pod: (sum(amount / have for amount, have in zip(pod, total, strict=True)),),
        *((lambda pod, d=d: (pod[d], share(pod))) for d in range(1, len(total))),
    ]
    tried = set()
    reached = 0
    d = 0 if any(pod[0] for pod, _, _ in items) else 1
    for order in orders:
        ranked = tuple(sorted(items, key=lambda item: (order(item[0]), item[0], item[1]), reverse=True))
        if ranked in tried:
            continue
        tried.add(ranked)
        takes: dict[Key, list[Take]] = {}
        for pod, key, count in ranked:
            if key in apart:
                takes[key] = stock.take_apart(cell.index, pod, count, most=apart[key])
            else:
                takes[key] = stock.take(cell.index, pod, count)
        if all(sum(blocks for _, blocks in takes[key]) == count for _, key, count in ranked):
            return takes
        done = sum(pod[d] * blocks for pod, key, _ in ranked for _, blocks in takes.get(key, ()))
        reached = max(reached, done)
        for pod, key, _ in ranked:
            stock.give_back(cell.index, pod, takes.get(key, ()))
    blocks = [
        filling.Block(pod, count, apart.get(key, count), sum(a / have for a, have in zip(pod, total, strict=True)))
        for pod, key, count in items
    ]
    filled = filling.fill_nodes(cell.nodes, cell=cell.index, blocks=blocks, stock=stock)
    if filled is not None:
        return {key: taken for (_, key, _), taken in zip(items, filled, strict=True)}
    found = _search(cell, items=items, stock=stock, apart=apart)
    asked = sum(pod[d] * count for pod, _, count in items)
    return found if found is not None else (d, min(reached, asked - 1))


def _search(
    cell: Cell, *, items: Sequence[tuple[Vector, Key, int]], stock: Stock, apart: Mapping[Key, int]
) -> dict[Key, list[Take]] | None:
    """Depth-first over all ways, one block at a time, for so many steps; for small cells that fill badly."""
    blocks = [(pod, key) for pod, key, count in sorted(items, reverse=True) for _ in range(count)]
    if len(blocks) > 40:
        return None
    chosen: list[int] = []
    steps = 0

    def descend() -> bool:
        nonlocal steps
        if len(chosen) == len(blocks):
            return True
        pod, key = blocks[len(chosen)]
        # Equal blocks go to nodes in order, so that no way is tried under two names.
        floor = chosen[-1] if chosen and blocks[len(chosen) - 1][1] == key else -1
        seen = set()
        for node in cell.nodes:
            room = stock.free[node]
            if (node < floor) or (room in seen and node != floor) or not stock.slots_in(room, pod):
                continue
            if (
                key in apart
                and sum(n == node and k == key for n, (_, k) in zip(chosen, blocks, strict=False)) >= apart[key]
            ):
                continue
            seen.add(room)
            steps += 1
            if steps > SEARCH_STEPS:
                return False
            stock.take_on(cell.index, node, pod, 1)
            chosen.append(node)
            if descend():
                return True
            chosen.pop()
            stock.give_back(cell.index, pod, [(node, 1)])
        return False

    if not descend():
        return None
    takes: dict[Key, dict[int, int]] = defaultdict(dict)
    for (_, key), node in zip(blocks, chosen, strict=True):
        takes[key][node] = takes[key].get(node, 0) + 1
    return {key: list(taken.items()) for key, taken in takes.items()}


def deal(problem: Problem, *, packed: Packed, numbers: Mapping[int, int]) -> dict[str, greedy.Spot]:
    """Give every shape's pods to its first jobs, ``numbers[shape]`` of them, the oldest getting the best place."""
    by_shape: dict[int, dict[int, list[Take]]] = defaultdict(dict)
    for (number, cell), takes in packed.takes.items():
        by_shape[number][cell] = takes
    spots: dict[str, greedy.Spot] = {}
    for index, cells in sorted(by_shape.items()):
        shape = problem.shapes[index]
        places = _places(problem, shape=shape, cells=cells)
        assert len(places) == numbers[index], "the pods of a shape did not make up whole jobs"
        for job, spot in zip(shape.jobs, places, strict=False):
            spots[job.id] = spot
    return spots


def _places(problem: Problem, *, shape: Shape, cells: Mapping[int, list[Take]]) -> list[greedy.Spot]:
    request = shape.request
    spots = []
    for product, members in greedy.cells_by_option(request, problem=problem):
        groups: dict[Path, list[int]] = defaultdict(list)
        for cell in members:
            if cell.index in cells:
                deep = request.gang_level + 1 if request.gang_level is not None else 0
                groups[cell.path[:deep]].append(cell.index)
        for _, indexes in sorted(groups.items(), key=lambda group: topology.path_key(group[0])):
            for takes in _deal_tree(problem, request=request, cells={index: cells[index] for index in indexes}):
                spots.append(greedy.Spot(product, takes))
    return spots


def _deal_tree(problem: Problem, *, request: Request, cells: Mapping[int, list[Take]]) -> list[list[Take]]:
    """Whole jobs inside a node, then inside the narrowest domain, and so on outwards; what is left goes up."""
    jobs: list[list[Take]] = []
    pieces: dict[Path, list[Piece]] = defaultdict(list)
    merged: dict[int, int] = defaultdict(int)
    for cell in sorted(cells):
        for node, pods in cells[cell]:
            merged[node] += pods
    for node, pods in merged.items():
        whole, rest = divmod(pods, request.num_pods)
        jobs += [[(node, request.num_pods)]] * whole
        if rest:
            pieces[problem.paths[node]].append([(node, rest)])
    for level in range(len(problem.levels) - 1, -2, -1):
        upper: dict[Path, list[Piece]] = defaultdict(list)
        for path, group in sorted(pieces.items(), key=lambda item: topology.path_key(item[0])):
            made, rest_piece = _chop(group, size=request.num_pods)
            jobs += made
            if rest_piece:
                upper[path[:level] if level > 0 else ()].append(rest_piece)
        pieces = upper
    assert not any(pieces.values()), "pods were left over when a shape was dealt out"
    return jobs


def _size(piece: Piece) -> int:
    return sum(pods for _, pods in piece)


def _chop(pieces: list[Piece], *, size: int) -> tuple[list[Piece], Piece]:
    """Cut pieces into as many jobs of ``size`` pods as they give, few pieces to a job; the rest is one piece."""
    left = sorted(pieces, key=_size, reverse=True)
    total = sum(map(_size, left))
    jobs = []
    for _ in range(total // size):
        job: Piece = []
        missing = size
        while missing:
            fitting = [piece for piece in left if _size(piece) >= missing]
            piece = fitting[-1] if fitting else left[0]
            left.remove(piece)
            part, rest = _cut(piece, size=missing)
            job += part
            missing -= _size(part)
            if rest:
                left.append(rest)
                left.sort(key=_size, reverse=True)
        jobs.append(job)
    return jobs, [take for piece in left for take in piece]


def _cut(piece: Piece, *, size: int) -> tuple[Piece, Piece]:
    part: Piece = []
    rest: Piece = []
    for node, pods in piece:
        here = min(pods, size)
        if here:
            part.append((node, here))
            size -= here
        if pods > here:
            rest.append((node, pods - here))
    return part, rest
