"""A dataset task cut into subtasks that the allocator can place: by size, and by what must come first.

A task is a DAG of stages over items (images, samples, shards). Each stage is cut into the
fewest runs of neighbouring items that keep the limits, as even as whole items allow, and each
run becomes one allocator job of one pod. What must stay true: every item of every stage is in
exactly one subtask; the runs of one stage differ by at most one item; subtasks come in an order
in which everything that one needs stands before it; and equal tasks are cut equally.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stowplan_allocator import types

MIB = 1 << 20
MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class After:
    """A stage waits for another one: for all of it, or by item: item i for item i of a stage of as many items."""

    stage: str
    by_item: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """So many items of equal work. ``sizes`` gives every item's bytes; without it all have ``item_bytes``.

    ``item_micros`` is the time that one item takes on the accelerators of one pod, in millionths of a second.
    """

    name: str
    items: int
    item_bytes: int = 0
    item_micros: int = 0
    sizes: tuple[int, ...] = ()
    after: tuple[After, ...] = ()

    def num_bytes(self, first: int, end: int) -> int:
        """What the items from ``first`` up to before ``end`` take together."""
        return sum(self.sizes[first:end]) if self.sizes else (end - first) * self.item_bytes


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with a dataset."""

    name: str
    stages: tuple[Stage, ...]
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one subtask may be: items at most, and the pod that works on it, whose memory must hold its items.

    ``accelerators`` are those that the whole task may use at once, for the bounds on its time.
    """

    items_per_subtask: int
    pod: types.Resources
    accelerators: int


@dataclass(frozen=True, slots=True)
class Subtask:
    """Items ``first`` to ``first + count - 1`` of a stage, the job that works on them, and what it waits for."""

    job: types.Job
    stage: str
    first: int
    count: int
    micros: int
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """The subtasks, what comes first standing first, and how long the task takes at least.

    ``critical_path`` are the ids of one longest chain of subtasks. ``least_micros`` is the
    largest of three bounds: that chain; all work over all accelerators; and the rounds that so
    many subtasks need at the least.
    """

    subtasks: tuple[Subtask, ...]
    critical_path: tuple[str, ...]
    critical_micros: int
    least_micros: int

    def ready(self, done: Collection[str]) -> tuple[types.Job, ...]:
        """The jobs that wait for nothing any more and are not done, in order."""
        finished = set(done)
        return tuple(
            subtask.job
            for subtask in self.subtasks
            if subtask.job.id not in finished and finished.issuperset(subtask.after)
        )


def partition(task: Task, *, limits: Limits) -> Partition:
    """Cut a task. Raises ValueError that names the field, what is wrong with it and what would be right."""
    _check(task, limits=limits)
    stages = _in_order(task)
    cuts = {stage.name: _cuts(stage, limits=limits) for stage in stages}
    ids = {name: [f"{task.name}/{name}-{i:0{_digits(bounds)}}" for i in _runs(bounds)] for name, bounds in cuts.items()}
    subtasks: list[Subtask] = []
    for stage in stages:
        for i, (first, end) in enumerate(itertools.pairwise(cuts[stage.name])):
            micros = (end - first) * stage.item_micros
            job = types.Job(
                ids[stage.name][i],
                ids[stage.name][i],
                1,
                limits.pod,
                task.priority,
                # The queue serves the older first: a subtask is as old as its place in the order.
                created_at_seconds=len(subtasks),
                expected_seconds=-(-micros // MICROS),
            )
            after = tuple(
                name for one in stage.after for name in _waits_for(one, first=first, end=end, cuts=cuts, ids=ids)
            )
            subtasks.append(Subtask(job, stage.name, first, end - first, micros, tuple(dict.fromkeys(after))))
    path, critical = _critical_path(subtasks)
    return Partition(tuple(subtasks), path, critical, max(critical, _least_by_work(subtasks, limits=limits)))


def _runs(bounds: Sequence[int]) -> range:
    return range(len(bounds) - 1)


def _digits(bounds: Sequence[int]) -> int:
    return len(str(max(len(bounds) - 2, 0)))


def _check(task: Task, *, limits: Limits) -> None:
    if limits.items_per_subtask < 1:
        raise ValueError(f"limits.items_per_subtask: {limits.items_per_subtask} must be at least 1")
    if limits.accelerators < max(limits.pod.accelerators, 1):
        least = max(limits.pod.accelerators, 1)
        raise ValueError(f"limits.accelerators: {limits.accelerators} are too few, one pod takes {least}")
    if not task.stages:
        raise ValueError("task.stages: there must be at least one")
    known = {stage.name: stage for stage in task.stages}
    for i, stage in enumerate(task.stages):
        where = f"task.stages[{i}]"
        if known[stage.name] is not stage:
            raise ValueError(f'{where}.name: "{stage.name}" is used twice; give each stage its own')
        for name in ("items", "item_bytes", "item_micros"):
            if getattr(stage, name) < 0:
                raise ValueError(f"{where}.{name}: {getattr(stage, name)} must not be negative")
        if stage.sizes and len(stage.sizes) != stage.items:
            raise ValueError(f"{where}.sizes: {len(stage.sizes)} sizes for {stage.items} items; give one for each")
        _check_items(stage, where=where, memory_mib=limits.pod.memory_mib)
        for one in stage.after:
            if one.stage not in known:
                raise ValueError(f'{where}.after: "{one.stage}" is no stage; there are {", ".join(known)}')
            if one.by_item and known[one.stage].items != stage.items:
                raise ValueError(
                    f'{where}.after: by item, but "{one.stage}" has {known[one.stage].items} items and '
                    f'"{stage.name}" has {stage.items}'
                )


def _check_items(stage: Stage, *, where: str, memory_mib: int) -> None:
    sizes = stage.sizes or ((stage.item_bytes,) if stage.items else ())
    for index, size in enumerate(sizes):
        if size < 0:
            raise ValueError(f"{where}.sizes: item {index} has {size} bytes, which must not be negative")
        if size > memory_mib * MIB:
            field, what = ("sizes", f"item {index}") if stage.sizes else ("item_bytes", "every item")
            raise ValueError(
                f"{where}.{field}: {what} has {size} bytes, more than the {memory_mib * MIB} of one pod; "
                "raise limits.pod.memory_mib or make the items smaller"
            )


def _in_order(task: Task) -> list[Stage]:
    """The stages, each behind those that it waits for; of free ones the first as written."""
    ordered: list[Stage] = []
    done: set[str] = set()
    left = list(task.stages)
    while left:
        free = next((stage for stage in left if all(one.stage in done for one in stage.after)), None)
        if free is None:
            raise ValueError(f"task.stages: {' → '.join(_cycle(left))} is a cycle; remove one of its dependencies")
        left.remove(free)
        done.add(free.name)
        ordered.append(free)
    return ordered


def _cycle(stages: Sequence[Stage]) -> list[str]:
    """One cycle among stages of which each waits for another one of them, from its first stage back to it."""
    names = {stage.name: stage for stage in stages}
    seen: list[str] = []
    here = stages[0].name
    while here not in seen:
        seen.append(here)
        here = next(one.stage for one in names[here].after if one.stage in names)
    return [*seen[seen.index(here) :], here]


def _cuts(stage: Stage, *, limits: Limits) -> list[int]:
    """Where the runs of a stage begin, and its end: the fewest even runs that keep the limits."""
    room = limits.pod.memory_mib * MIB
    total = stage.num_bytes(0, stage.items)
    number = max(-(-stage.items // limits.items_per_subtask), -(-total // room) if room else 0)
    upto = list(itertools.accumulate(stage.sizes, initial=0))
    while number < stage.items:
        bounds = _even(stage.items, number=number)
        if not stage.sizes:
            largest = stage.num_bytes(0, -(-stage.items // number))
        else:
            largest = max(upto[end] - upto[first] for first, end in itertools.pairwise(bounds))
        if largest <= room:
            return bounds
        number += 1
    return _even(stage.items, number=stage.items)


def _even(items: int, *, number: int) -> list[int]:
    return [items * i // number for i in range(number + 1)] if number else [0]


def _waits_for(
    one: After, *, first: int, end: int, cuts: Mapping[str, list[int]], ids: Mapping[str, list[str]]
) -> list[str]:
    if not one.by_item:
        return ids[one.stage]
    runs = itertools.pairwise(cuts[one.stage])
    return [name for name, (start, stop) in zip(ids[one.stage], runs, strict=True) if start < end and first < stop]


def _critical_path(subtasks: Sequence[Subtask]) -> tuple[tuple[str, ...], int]:
    """One longest chain of subtasks, and its time."""
    ends: dict[str, int] = {}
    before: dict[str, str | None] = {}
    for subtask in subtasks:
        last = max(subtask.after, key=lambda name: ends[name], default=None)
        before[subtask.job.id] = last
        ends[subtask.job.id] = subtask.micros + (ends[last] if last is not None else 0)
    path: list[str] = []
    here = max(ends, key=lambda name: ends[name], default=None)
    length = ends[here] if here is not None else 0
    while here is not None:
        path.append(here)
        here = before[here]
    return tuple(reversed(path)), length


def _least_by_work(subtasks: Sequence[Subtask], *, limits: Limits) -> int:
    """All work over all pods that run at once; and as many of the shortest subtasks as one of these pods must do."""
    if not subtasks:
        return 0
    at_once = limits.accelerators // max(limits.pod.accelerators, 1)
    rounds = -(-len(subtasks) // at_once)
    return max(-(-sum(one.micros for one in subtasks) // at_once), rounds * min(one.micros for one in subtasks))
