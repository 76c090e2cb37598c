"""Slices and spread: gangs of which parts must stay together, or must stand apart.

A slice is so many consecutive ranks that stand in one domain of a level (pipeline stages,
tensor-parallel groups); spread allows at most so many pods of one job in a domain. Jobs with
either have shapes of their own, so that a plan never has to deal pods of one shape to several
such jobs. What must stay true: what one gang may take is told by the room of cells cut down to
whole slices and to the spread's limit, here and nowhere else; and gangs with neither pay
nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stowplan_allocator import eligibility, topology, types
from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Cell, Path, Request, Vector
from stowplan_allocator.stock import Stock, Take


def misconfiguration(job: types.Job, *, levels: Sequence[str]) -> str:
    """Why slices or spread of a job can never hold, naming the field and the fix; empty when they can."""
    names = (*levels, eligibility.NODE_LEVEL)
    sizes = job.allowed_num_pods or (job.num_pods,)
    size = job.topology.slice_size if job.topology is not None else None
    if size is not None:
        wrong = [k for k in sizes if size < 1 or k % size]
        if wrong:
            return f"topology.sliceSize {size} does not divide {wrong[0]} pods; slices must make up the whole job"
    if job.spread is None:
        return ""
    if job.spread.level not in names:
        return f'spread.level "{job.spread.level}" is not a level of this cluster; use one of {", ".join(names)}'
    if job.spread.max_pods < 1:
        return f"spread.maxPods is {job.spread.max_pods}; it must be at least 1"
    if job.topology is None or job.topology.mode is not types.TopologyMode.REQUIRED:
        return ""
    together = size or sizes[0]
    if names.index(job.topology.level) >= names.index(job.spread.level) and together > job.spread.max_pods:
        return (
            f"topology keeps {together} pods in one {job.topology.level}, and spread allows only "
            f"{job.spread.max_pods} in one {job.spread.level}; raise spread.maxPods"
        )
    return ""


def slice_size_of(job: types.Job, *, level: int | None) -> int:
    """The slices of a request, 0 for none: one slice of the whole job is no slice."""
    size = job.topology.slice_size if job.topology is not None and level is not None else None
    return 0 if size is None or set(job.allowed_num_pods or (job.num_pods,)) == {size} else size


def spread_of(job: types.Job, *, levels: Sequence[str]) -> tuple[int, int] | None:
    """The level's index and how many pods may stand in one of its domains."""
    if job.spread is None:
        return None
    level = len(levels) if job.spread.level == eligibility.NODE_LEVEL else levels.index(job.spread.level)
    return level, job.spread.max_pods


def most_on_a_node(request: Request, *, num_levels: int) -> int | None:
    """How many pods of one job may stand on one node, where spread limits that."""
    if request.spread is not None and request.spread[0] == num_levels:
        return request.spread[1]
    return None


def place(request: Request, *, cells: Sequence[Cell], stock: Stock, num_levels: int) -> list[Take] | None:
    """Place one gang under its slices and spread and take its room, or return None; wished slices may be given up."""
    for size in dict.fromkeys((request.slice_size, request.slice_size if request.required else 0)):
        takes = _place(request, size=size, cells=cells, stock=stock, num_levels=num_levels)
        if takes is not None:
            return takes
    return None


def _place(request: Request, *, size: int, cells: Sequence[Cell], stock: Stock, num_levels: int) -> list[Take] | None:
    unit = size if size and request.level == num_levels else 1
    pod = tuple(amount * unit for amount in request.vector)
    most = most_on_a_node(request, num_levels=num_levels)
    if most is not None and most < unit:
        return None
    blocks = None if most is None else most // unit
    room = limited(
        [
            stock.slots(cell.index, pod) if blocks is None else stock.slots_apart(cell.index, pod, blocks)
            for cell in cells
        ],
        paths=[cell.path for cell in cells],
        request=request,
        size=size,
        num_levels=num_levels,
    )
    shares = topology.choose_cells(
        request.num_pods // unit,
        cells=cells,
        slots={cell.index: held for cell, held in zip(cells, room, strict=True)},
        num_levels=num_levels,
        required=request.gang_level,
    )
    if shares is None:
        return None
    takes: list[Take] = []
    for cell, count in shares:
        if blocks is None:
            taken = stock.take(cell, pod, count)
        else:
            taken = stock.take_apart(cell, pod, count, most=blocks)
        assert sum(number for _, number in taken) == count, "a cell held fewer pods than it had slots"
        takes += [(node, number * unit) for node, number in taken]
    return takes


def capacity(request: Request, *, rooms: Sequence[tuple[Path, Vector, int]]) -> int:
    """Pods of one gang that so many nodes with such room hold, each given by its path and what is free."""
    if not rooms:
        return 0
    num_levels = len(rooms[0][0])
    size = request.slice_size if request.required else 0
    unit = size if size and request.level == num_levels else 1
    pod = tuple(amount * unit for amount in request.vector)
    most = most_on_a_node(request, num_levels=num_levels)
    blocks = problems.UNLIMITED_SLOTS if most is None else most // unit
    held: dict[Path, int] = {}
    for path, room, number in rooms:
        held[path] = held.get(path, 0) + number * min(problems.slots(room, pod), blocks)
    left = limited(list(held.values()), paths=list(held), request=request, size=size, num_levels=num_levels)
    return sum(left) * unit


def limited(slots: Sequence[int], *, paths: Sequence[Path], request: Request, size: int, num_levels: int) -> list[int]:
    """What one gang may take of cells that hold so many blocks: whole slices of ``size``, within its spread.

    A block is a whole slice where slices stand on one node, and one pod otherwise. What spread
    over nodes allows is in ``slots`` already.
    """
    left = list(slots)
    on_nodes = request.level == num_levels
    unit = size if size and on_nodes else 1
    sliced = request.level if size and not on_nodes else None
    level, most = request.spread if request.spread is not None else (num_levels, 0)
    # A gang that must stand in one domain of this or a narrower level is within its spread, or can never be.
    spread = level < num_levels and (request.gang_level is None or request.gang_level < level)
    labelled = [one for one in (level, sliced) if one is not None and one < num_levels]
    left = [0 if any(path[one] is None for one in labelled) else held for held, path in zip(left, paths, strict=True)]
    if request.spread is not None and request.gang_level is not None and request.gang_level >= level:
        return left if request.num_pods <= most else [0] * len(left)
    if spread and (sliced is None or level > sliced):
        for members in _domains(paths, level=level).values():
            _cut(left, parts=[[i] for i in members], most=most // unit)
    if sliced is not None:
        inside = _domains(paths, level=sliced)
        for members in inside.values():
            _cut(left, parts=[members], most=sum(left[i] for i in members) // size * size)
        if spread and level <= sliced:
            wider: dict[Path, list[list[int]]] = {}
            for path, members in inside.items():
                wider.setdefault(path[: level + 1], []).append(members)
            for parts in wider.values():
                _cut(left, parts=parts, most=most // size * size)
    return left


def _domains(paths: Sequence[Path], *, level: int) -> dict[Path, list[int]]:
    """Positions by domain of a level; those without the label are left out."""
    found: dict[Path, list[int]] = {}
    for i, path in enumerate(paths):
        if path[level] is not None:
            found.setdefault(path[: level + 1], []).append(i)
    return found


def _cut(left: list[int], *, parts: Sequence[Sequence[int]], most: int) -> None:
    """Leave at most so much in all, in as few parts and, within a part, in as few positions as can be."""
    for part in sorted(parts, key=lambda part: -sum(left[i] for i in part)):
        here = min(most, sum(left[i] for i in part))
        most -= here
        for i in sorted(part, key=lambda i: -left[i]):
            left[i] = min(left[i], here)
            here -= left[i]
