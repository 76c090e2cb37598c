"""Nodes into cells, cells into smaller ones, cells into pools.

What must stay true: every usable node is in exactly one cell; the nodes of a cell differ by
what is free and by nothing else that planning looks at; cutting cells changes no answer,
and pooling them can only make more possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from stowplan_allocator import eligibility, types
from stowplan_allocator.problem import Cell, Path, Problem, Request, path_of


def usable(request: Request, *, product: str, path: Path, has_accelerators: bool) -> bool:
    """Whether a node of this product at this path can serve the request, labels and taints aside."""
    if request.products:
        if all(choice.product != product for choice in request.products):
            return False
    elif request.vector[0] and not has_accelerators:
        return False
    levels = (request.level if request.required else None, request.spread[0] if request.spread is not None else None)
    return all(level is None or level >= len(path) or path[level] is not None for level in levels)


def build_cells(
    nodes: tuple[types.Node, ...],
    *,
    alike: Iterable[list[int]],
    requests: tuple[Request, ...],
    profiles: tuple[eligibility.Profile, ...],
    num_levels: int,
) -> tuple[Cell, ...]:
    """The cells of the usable nodes, in the order of their first nodes; ``alike`` are nodes that look the same."""
    admission = eligibility.Admission(profiles)
    by_profile = [0] * len(profiles)
    avoiders: dict[str, int] = defaultdict(int)
    for request in requests:
        by_profile[request.profile] |= 1 << request.index
        for name in request.avoided:
            avoiders[name] |= 1 << request.index
    twins: dict[int, list[int]] = defaultdict(list)
    for request in requests:
        twins[request.first].append(request.index)
    expanded: dict[int, int] = {}
    groups: dict[tuple[int, str, Path, bool, int], list[int]] = defaultdict(list)
    for members in alike:
        node = nodes[members[0]]
        mask = admission.mask(node)
        if mask not in expanded:
            expanded[mask] = sum(bits for p, bits in enumerate(by_profile) if mask >> p & 1)
        path = path_of(node, num_levels=num_levels)
        has_accelerators = node.allocatable.has_devices
        looks = (node.product, path, has_accelerators, node.price_per_hour_micros)
        if not avoiders:
            groups[(expanded[mask], *looks)] += members
            continue
        for i in members:
            groups[(expanded[mask] & ~avoiders.get(nodes[i].name, 0), *looks)].append(i)
    for members in groups.values():
        members.sort()
    cells = []
    ordered = sorted(groups.items(), key=lambda group: group[1][0])
    for index, ((mask, product, path, has_accelerators, price), members) in enumerate(ordered):
        eligible = frozenset(
            index
            for first, same in twins.items()
            if mask >> first & 1
            and usable(requests[first], product=product, path=path, has_accelerators=has_accelerators)
            for index in same
        )
        cells.append(Cell(index, product, path, tuple(members), eligible, has_accelerators, price))
    return tuple(cells)


def cells_of(requests: tuple[Request, ...], *, cells: tuple[Cell, ...]) -> tuple[tuple[int, ...], ...]:
    """The cells that may serve each request, by request index."""
    return tuple(tuple(cell.index for cell in cells if request.index in cell.requests) for request in requests)


def split_cells(problem: Problem, *, cells: dict[int, list[tuple[int, ...]]]) -> Problem:
    """The same problem with some cells cut into parts (lists of nodes): finer, and otherwise equal."""
    parts: list[Cell] = []
    for cell in problem.cells:
        for nodes in cells.get(cell.index, [cell.nodes]):
            parts.append(replace(cell, index=len(parts), nodes=nodes))
    return replace(problem, cells=tuple(parts), cells_of=cells_of(problem.requests, cells=tuple(parts)))


def coarsen(problem: Problem) -> Problem:
    """The same problem with topology left aside where it is only a wish, and spread: large pools of cells, and few.

    Cells of equal eligibility form a pool. Jobs that require a level keep their cells, which
    take from their pool; all others see pools only. Whatever can be placed in the problem can
    be placed here, so what is impossible here is impossible there, and this tells at once.
    """
    node_level = len(problem.levels)
    keeps = {request.index for request in problem.requests if request.required and request.level != node_level}
    requests = tuple(
        replace(request, spread=None)
        if request.required
        else replace(request, level=None, required=False, slice_size=0, spread=None)
        for request in problem.requests
    )
    merged: dict[tuple[str, frozenset[int], bool, int], list[Cell]] = defaultdict(list)
    for cell in problem.cells:
        merged[cell.product, cell.requests, cell.has_accelerators, cell.price_per_hour_micros].append(cell)
    cells: list[Cell] = []
    for members in merged.values():
        pool = len(cells)
        nodes = tuple(sorted(node for cell in members for node in cell.nodes))
        cells.append(
            replace(
                members[0], index=pool, path=(None,) * node_level, nodes=nodes, requests=members[0].requests - keeps
            )
        )
        if members[0].requests & keeps:
            for cell in members:
                cells.append(replace(cell, index=len(cells), requests=cell.requests & keeps, pool=pool))
    shapes = tuple(replace(shape, request=requests[shape.request.index]) for shape in problem.shapes)
    return replace(
        problem,
        requests=requests,
        shapes=shapes,
        cells=tuple(cells),
        shape_of={job.id: shape for shape in shapes for job in shape.jobs},
        cells_of=cells_of(requests, cells=tuple(cells)),
    )
