"""One gang against single nodes: where it may stand, and how many of its pods these nodes hold.

The cells of the plan are too coarse for evictions and moves: two victims on one node may free
a slot only together. Here every node counts alone, for one gang at a time. What must stay
true: ``capacity`` is exact for one gang alone, whatever its topology, slices and spread;
``fill`` places so many pods wherever ``capacity`` says that they fit.

A block is what must stand on one node: one pod, or a slice, or the whole gang.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator import eligibility, topology, types
from stowplan_allocator import problem as problems
from stowplan_allocator.problem import Path, Problem, Vector
from stowplan_allocator.stock import Take


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of which the gang may use only one group: of a product, within a domain of the level that it requires."""

    product: str
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """In every domain of ``level`` the gang has a multiple of so many blocks, and at most so many."""

    level: int
    multiple: int = 1
    at_most: int = problems.UNLIMITED_SLOTS


@dataclass(frozen=True, slots=True)
class Gang:
    """A job at one size. ``limits`` are ordered from the widest level to the narrowest."""

    job: types.Job
    num_blocks: int
    block_pods: int
    block: Vector
    per_node: int
    groups: tuple[Group, ...]
    limits: tuple[Limit, ...]


def gang_of(job: types.Job, *, problem: Problem, num_pods: int | None = None) -> Gang:
    """The gang of a job in the problem's queue, on all nodes that it may use; of its usual size unless told."""
    num_pods = job.num_pods if num_pods is None else num_pods
    num_levels = len(problem.levels)
    wish = job.topology if job.topology and job.topology.mode is types.TopologyMode.REQUIRED else None
    level = None if wish is None else _level(wish.level, problem=problem)
    block_pods, limits, whole = 1, [], None
    if wish is not None and level == num_levels:
        block_pods = wish.slice_size or num_pods
    elif wish is not None and wish.slice_size:
        limits.append(Limit(_known(level), multiple=wish.slice_size))
    else:
        whole = level
    per_node = problems.UNLIMITED_SLOTS
    if job.spread is not None:
        at_most = job.spread.max_pods // block_pods
        spread = _level(job.spread.level, problem=problem)
        if spread == num_levels:
            per_node = at_most
        else:
            # Inside a wider domain stand whole slices only.
            unit = max((limit.multiple for limit in limits if limit.level > spread), default=1)
            limits.append(Limit(spread, at_most=at_most - at_most % unit))
    limits.sort(key=lambda limit: limit.level)
    return Gang(
        job=job,
        num_blocks=num_pods // block_pods,
        block_pods=block_pods,
        block=tuple(amount * block_pods for amount in problem.vector(job.pod)),
        per_node=per_node,
        groups=_groups(job, problem=problem, whole=whole, labelled=[limit.level for limit in limits]),
        limits=tuple(limits),
    )


def _level(name: str, *, problem: Problem) -> int:
    return len(problem.levels) if name == eligibility.NODE_LEVEL else problem.levels.index(name)


def _known(level: int | None) -> int:
    assert level is not None, "a required level has an index"
    return level


def _groups(job: types.Job, *, problem: Problem, whole: int | None, labelled: Iterable[int]) -> tuple[Group, ...]:
    """Nodes by product and by domain of the level ``whole``; a node without a label that matters is in none."""
    request = problem.shape_of[job.id].request
    needed = [*labelled, *([] if whole is None else [whole])]
    found: dict[tuple[str, Path], list[int]] = defaultdict(list)
    for index in problem.cells_of[request.index]:
        cell = problem.cells[index]
        if all(cell.path[level] is not None for level in needed):
            product = "" if request.any_product else cell.product
            found[product, () if whole is None else cell.path[: whole + 1]] += cell.nodes
    ordered = sorted(found.items(), key=lambda item: (item[0][0], topology.path_key(item[0][1])))
    return tuple(Group(product, tuple(sorted(nodes))) for (product, _), nodes in ordered)


def slots(gang: Gang, room: Vector) -> int:
    """How many blocks of the gang one node with this room takes; a room may be negative."""
    return min(problems.slots(room, gang.block), gang.per_node, gang.num_blocks)


def capacity(gang: Gang, *, slots: Mapping[int, int], problem: Problem) -> int:
    """How many blocks nodes with these slots hold together under the gang's limits."""
    return _capacity(slots, limits=gang.limits, problem=problem)


def _capacity(slots: Mapping[int, int], *, limits: Sequence[Limit], problem: Problem) -> int:
    if not limits:
        return sum(slots.values())
    here = limits[0]
    return sum(
        _limited(_capacity(part, limits=limits[1:], problem=problem), limit=here)
        for part in _domains(slots, limit=here, problem=problem).values()
    )


def _limited(blocks: int, *, limit: Limit) -> int:
    blocks = min(blocks, limit.at_most)
    return blocks - blocks % limit.multiple


def _domains(slots: Mapping[int, int], *, limit: Limit, problem: Problem) -> dict[Path, dict[int, int]]:
    found: dict[Path, dict[int, int]] = defaultdict(dict)
    for node, count in slots.items():
        found[problem.paths[node][: limit.level + 1]][node] = count
    return found


def fill(gang: Gang, *, slots: Mapping[int, int], problem: Problem) -> list[Take] | None:
    """Nodes for the whole gang, few of them and the fullest, as (node, pods); None where they do not hold it."""
    if capacity(gang, slots=slots, problem=problem) < gang.num_blocks:
        return None
    blocks = _fill(gang.num_blocks, slots=slots, limits=gang.limits, problem=problem)
    return [(node, count * gang.block_pods) for node, count in sorted(blocks.items())]


def fullest(want: int, *, slots: Mapping[int, int]) -> dict[int, int]:
    """Few nodes for so many blocks, and of those the fullest, so that empty ones stay whole for others."""
    by_count: dict[int, list[int]] = defaultdict(list)
    for node, count in slots.items():
        if count:
            by_count[count].append(node)
    taken: dict[int, int] = {}
    for count in sorted(by_count, reverse=True):
        # Whole nodes, as long as the next one would not hold all that is left.
        nodes = sorted(by_count[count])
        number = min((want - 1) // count, len(nodes))
        taken |= dict.fromkeys(nodes[:number], count)
        want -= number * count
        by_count[count] = nodes[number:]
        if by_count[count]:
            break
    enough = [count for count, nodes in by_count.items() if nodes and count >= want]
    if want and enough:
        taken[min(by_count[min(enough)])] = want
    return taken


def _fill(want: int, *, slots: Mapping[int, int], limits: Sequence[Limit], problem: Problem) -> dict[int, int]:
    if not limits:
        return fullest(want, slots=slots)
    taken: dict[int, int] = {}
    parts = _domains(slots, limit=limits[0], problem=problem)
    room = {
        path: _limited(_capacity(part, limits=limits[1:], problem=problem), limit=limits[0])
        for path, part in parts.items()
    }
    for path in sorted(parts, key=lambda path: (-room[path], topology.path_key(path))):
        here = _limited(min(room[path], want), limit=limits[0])
        if here:
            taken |= _fill(here, slots=parts[path], limits=limits[1:], problem=problem)
            want -= here
    return taken
