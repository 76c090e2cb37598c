"""Which domains a gang takes, and the order of its ranks.

A domain at a level is named by the path down to that level; a node without the label is in
no domain of it. What must stay true: a required level is never crossed; a gang that fits
into one domain of some level is never spread over two; and ranks that are neighbours stand
in the same narrowest domain wherever the placement allows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Cell, Path, Problem, Request

Share = tuple[int, int]  # cell index, pods


def path_key(path: Path) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """A sort key of paths; None, a missing label, comes first."""
    return tuple(() if name is None else problems.natural(name) for name in path)


def choose_cells(
    num_pods: int, *, cells: Sequence[Cell], slots: Mapping[int, int], num_levels: int, required: int | None
) -> list[Share] | None:
    """Split the pods over cells, inside the narrowest domain that holds all of them.

    Of several such domains the fullest is taken, so that large ones stay whole. None when
    the pods do not fit, or not inside one domain of the ``required`` level.
    """
    widest = -1 if required is None else required
    for level in range(num_levels - 1, widest - 1, -1):
        inside: dict[Path, int] = defaultdict(int)
        for cell in cells:
            if level < 0 or cell.path[level] is not None:
                inside[cell.path[: level + 1]] += slots[cell.index]
        fitting = [(total, path) for path, total in inside.items() if total >= num_pods]
        if fitting:
            smallest = min(total for total, _ in fitting)
            chosen = min((path for total, path in fitting if total == smallest), key=path_key)
            members = [cell for cell in cells if cell.path[: level + 1] == chosen]
            return spread_over(num_pods, cells=members, slots=slots, level=level, num_levels=num_levels)
    return None


def spread_over(
    num_pods: int, *, cells: Sequence[Cell], slots: Mapping[int, int], level: int, num_levels: int
) -> list[Share]:
    """Use few children of a domain that holds the pods: the largest first, the last one as full as possible."""
    if level >= num_levels - 1:
        shares = []
        left = num_pods
        for cell in sorted(cells, key=lambda cell: (slots[cell.index], cell.index)):
            here = min(left, slots[cell.index])
            if here:
                shares.append((cell.index, here))
                left -= here
        return shares
    children: dict[Path, list[Cell]] = defaultdict(list)
    for cell in cells:
        children[cell.path[: level + 2]].append(cell)
    totals = {path: sum(slots[cell.index] for cell in members) for path, members in children.items()}
    ranked = sorted(totals, key=lambda path: (-totals[path], path_key(path)))
    shares = []
    left = num_pods
    while left:
        fitting = [path for path in ranked if totals[path] >= left]
        path = fitting[-1] if fitting else ranked[0]
        ranked.remove(path)
        here = min(left, totals[path])
        shares += spread_over(here, cells=children[path], slots=slots, level=level + 1, num_levels=num_levels)
        left -= here
    return shares


def rank_order(shares: Mapping[int, int], *, problem: Problem, request: Request | None = None) -> list[tuple[int, int]]:
    """The shares (node to pods) in the order of their ranks: by domain, widest first, then by node name.

    Where the request has slices, domains of their level that hold whole slices only come first,
    so that a slice is cut no more often than it must be.
    """
    domains: dict[object, int] = {}
    of_node: dict[int, object] = {}
    size = request.slice_size if request is not None else 0
    if size and request is not None and request.level is not None:
        for node, count in shares.items():
            path = problem.paths[node]
            domain = of_node[node] = path[: request.level + 1] if request.level < len(path) else node
            domains[domain] = domains.get(domain, 0) + count
    return sorted(
        ((node, count) for node, count in shares.items() if count),
        key=lambda share: (
            size and domains[of_node[share[0]]] % size > 0,
            path_key(problem.paths[share[0]]),
            problems.natural(problem.nodes[share[0]].name),
        ),
    )
