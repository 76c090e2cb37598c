"""Dynamic programming over sizes: room is made by repacking whole cells and domains exactly.

Jobs are served in queue order and placed greedily. Where that fails, the question is asked
of ever wider units: every leaf domain by itself, then the domains of each level above, at
last all nodes of the product: how many pods of this job does the unit hold beside what stands
there, if everything in it may move within it (``profiles``)? If the units of one product, or
of one domain of a required level, hold the gang together, they are repacked that way. Moving
inside a unit never breaks a required level that is as wide as the unit or wider; gangs that
require a narrower one, and those with slices or spread, stay where they are, until at last
everything is packed anew by greed, what is hard to place first.

What must stay true: ``search.spots`` and ``search.stock`` hold one feasible placement before
and after each step; a refusal counts as proven only where one unit holds all that the job and
everything in it could ever use, and nothing in it had to stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stowplan_allocator import greedy, strategies, types
from stowplan_allocator.heuristics import profiles, walking
from stowplan_allocator.problem import Cell, Path, Problem, Request, Shape
from stowplan_allocator.search import Search
from stowplan_allocator.stock import Take
from stowplan_allocator.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Piece:
    """What one placed job has in a unit: so many blocks of its kind."""

    job: str
    request: int
    blocks: int


@dataclass(slots=True)
class Unit:
    """Some cells of one product, what may move in them, and the answer to the question."""

    cells: tuple[Cell, ...]
    pieces: list[Piece]
    kinds: list[profiles.Kind]
    kind_of: dict[int, int]
    asked: int
    filling: profiles.Filling
    is_whole: bool

    @property
    def slots(self) -> int:
        """Further blocks of the job that the unit holds."""
        already = sum(piece.blocks for piece in self.pieces if self.kind_of[piece.request] == self.asked)
        return self.filling.most - already


def solve(problem: Problem, *, settings: types.Settings, deadline: float) -> strategies.Outcome:
    """Admit in queue order, making room by repacking; the rest is left as it then stands."""
    search = Search(problem, settings, deadline, Stopwatch())
    walking.admit_all(search, make_room=_make_room)
    return walking.verdict(search, problem=problem)


def _make_room(search: Search, chain: Sequence[Shape]) -> tuple[int, int | None]:
    """Place the first job of the chain by repacking the narrowest units that hold it, at last everything."""
    shape = chain[0]
    request = shape.request
    job = next(job.id for job in shape.jobs if job.id not in search.spots)
    num_levels = len(search.problem.levels)
    widest = request.level if request.required and request.level is not None and request.level < num_levels else -1
    refusals = []
    for level in range(num_levels - 1, widest - 1, -1) if not request.patterned else ():
        options = greedy.cells_by_option(request, problem=search.problem)
        allowed = greedy.within_quotas(request, options=options, stock=search.stock)
        for product, cells in allowed:
            groups: dict[Path, list[Cell]] = {}
            for cell in cells:
                groups.setdefault(cell.path[: widest + 1], []).append(cell)
            for group in groups.values():
                units = _units(search, request=request, cells=group, level=level)
                if sum(unit.slots for unit in units) >= greedy.block_of(request, num_levels=num_levels)[0]:
                    spot = greedy.Spot(product, _repack(search, request=request, units=units))
                    greedy.count(request, spot=spot, stock=search.stock)
                    search.spots[job] = spot
                    return 1, None
                refusals.append(len(units) == 1 and units[0].is_whole)
    if any(refusals):
        return 0, request.index
    # Gangs that require a narrow domain stay in all of that; packing everything anew moves them, too.
    return int(search.repack([shape], choices={})), None


def _units(search: Search, *, request: Request, cells: Sequence[Cell], level: int) -> list[Unit]:
    """The domains of the level that the cells are in; those whose table would be too large are left out."""
    problem = search.problem
    found = []
    for product, path in dict.fromkeys((cell.product, cell.path[: level + 1]) for cell in cells):
        members = tuple(cell for cell in problem.cells if cell.product == product and cell.path[: level + 1] == path)
        if search.left() <= 0:
            break
        try:
            unit = _unit(search, request=request, cells=members, level=level)
        except profiles.TooMany:
            note = "some cells were not repacked: too many kinds of pods for a table"
            if note not in search.notes:
                search.notes.append(note)
            continue
        if unit is not None:
            found.append(unit)
    return found


def _unit(search: Search, *, request: Request, cells: tuple[Cell, ...], level: int) -> Unit | None:
    problem = search.problem
    num_levels = len(problem.levels)
    cell_of = {node: cell.index for cell in cells for node in cell.nodes}
    free = {node: search.stock.free[node] for node in cell_of}
    pieces: list[Piece] = []
    is_whole = set(problem.cells_of[request.index]) <= {cell.index for cell in cells}
    for job, spot in search.spots.items():
        other = problem.shape_of[job].request
        here = [(node, pods) for node, pods in spot.takes if node in cell_of]
        if not here:
            continue
        stays = other.patterned or (other.required and other.level is not None and level < other.level < num_levels)
        is_whole = is_whole and not stays and set(problem.cells_of[other.index]) <= {cell.index for cell in cells}
        if stays:
            continue
        per_block = _pods_of_block(problem, request=other)
        pieces.append(Piece(job, other.index, sum(pods for _, pods in here) // per_block))
        for node, pods in here:
            free[node] = tuple(have + need * pods for have, need in zip(free[node], other.vector, strict=True))
    kinds: list[profiles.Kind] = []
    kind_of: dict[int, int] = {}
    for index in dict.fromkeys([request.index, *(piece.request for piece in pieces)]):
        kind = _kind(problem, request=problem.requests[index], cells=cells)
        if kind not in kinds:
            kinds.append(kind)
        kind_of[index] = kinds.index(kind)
    beside = [0] * len(kinds)
    for piece in pieces:
        beside[kind_of[piece.request]] += piece.blocks
    rooms = [profiles.Room(node, cell_of[node], free[node]) for node in sorted(cell_of)]
    filling = profiles.fill(rooms, kinds=kinds, beside=tuple(beside), asked=kind_of[request.index])
    if filling is None:
        return None
    return Unit(cells, pieces, kinds, kind_of, kind_of[request.index], filling, is_whole)


def _kind(problem: Problem, *, request: Request, cells: Sequence[Cell]) -> profiles.Kind:
    _, block = greedy.block_of(request, num_levels=len(problem.levels))
    return profiles.Kind(block, frozenset(cell.index for cell in cells if request.index in cell.requests))


def _pods_of_block(problem: Problem, *, request: Request) -> int:
    num_blocks, _ = greedy.block_of(request, num_levels=len(problem.levels))
    return request.num_pods // num_blocks


def _repack(search: Search, *, request: Request, units: Sequence[Unit]) -> list[Take]:
    """Move what the units hold and take the room of one more gang: in one unit if one holds it, else in few."""
    num_levels = len(search.problem.levels)
    missing, block = greedy.block_of(request, num_levels=num_levels)
    takes: list[Take] = []
    left = list(units)
    while missing:
        fitting = [unit for unit in left if unit.slots >= missing]
        unit = min(fitting, key=lambda unit: unit.slots) if fitting else max(left, key=lambda unit: unit.slots)
        left.remove(unit)
        here = min(unit.slots, missing)
        nodes = _move(search, unit=unit)
        per_block = _pods_of_block(search.problem, request=request)
        cell_of = {node: cell.index for cell in unit.cells for node in cell.nodes}
        for node in nodes[:here]:
            search.stock.take_on(cell_of[node], node, block, 1)
            takes.append((node, per_block))
        missing -= here
    return takes


def _move(search: Search, *, unit: Unit) -> list[int]:
    """Put every piece where the filling has blocks of its kind; returns the nodes of those that stay unused."""
    problem = search.problem
    cell_of = {node: cell.index for cell in unit.cells for node in cell.nodes}
    slots: list[list[int]] = [[] for _ in unit.kinds]
    for node, mix in unit.filling.nodes:
        for kind, count in enumerate(mix):
            slots[kind] += [node] * count
    for piece in unit.pieces:
        vector = problem.requests[piece.request].vector
        for node, pods in search.spots[piece.job].takes:
            if node in cell_of:
                search.stock.give_back(cell_of[node], vector, [(node, pods)])
    # Large pieces first, so that they get nodes that stand together.
    for piece in sorted(unit.pieces, key=lambda piece: -piece.blocks):
        request = problem.requests[piece.request]
        per_block = _pods_of_block(search.problem, request=request)
        kind = unit.kind_of[piece.request]
        nodes, slots[kind] = slots[kind][: piece.blocks], slots[kind][piece.blocks :]
        spot = search.spots[piece.job]
        kept = [take for take in spot.takes if take[0] not in cell_of]
        for node in nodes:
            search.stock.take_on(cell_of[node], node, request.vector, per_block)
            kept.append((node, per_block))
        search.spots[piece.job] = greedy.Spot(spot.product, kept)
    return slots[unit.asked]
