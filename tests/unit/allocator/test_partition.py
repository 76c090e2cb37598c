"""Cutting dataset tasks: every item once, within limits, evenly, in order; and errors that name the field."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator.partition import MIB, After, Limits, Partition, Stage, Task, partition
from unit.allocator import worlds

POD = sa.Resources(accelerators=1, memory_mib=8)
LIMITS = Limits(10, POD, 4)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    stages: list[Stage] = []
    for i in range(draw(st.integers(1, 4))):
        items = draw(st.integers(0, 25))
        sizes = tuple(draw(st.lists(st.integers(0, 8 * MIB), min_size=items, max_size=items)))
        after = []
        for other in stages:
            kind = draw(st.sampled_from(["no", "all", "items"]))
            if kind != "no":
                after.append(After(other.name, by_item=kind == "items" and other.items == items))
        stages.append(
            Stage(
                f"s{i}",
                items,
                item_bytes=draw(st.sampled_from([0, MIB, 3 * MIB, 8 * MIB])),
                item_micros=draw(st.integers(0, 5)),
                sizes=draw(st.sampled_from([(), sizes])),
                after=tuple(after),
            )
        )
    return Task("t", tuple(draw(st.permutations(stages))))


def limits() -> st.SearchStrategy[Limits]:
    return st.builds(Limits, st.integers(1, 12), st.just(POD), st.integers(1, 5))


@given(tasks(), limits())
@settings(max_examples=150, deadline=None)
def test_every_item_is_in_one_subtask_within_the_limits_and_runs_are_even(task: Task, limits: Limits) -> None:
    found = partition(task, limits=limits)
    assert found == partition(task, limits=limits)
    for stage in task.stages:
        runs = [one for one in found.subtasks if one.stage == stage.name]
        assert [i for one in runs for i in range(one.first, one.first + one.count)] == list(range(stage.items))
        assert all(1 <= one.count <= limits.items_per_subtask for one in runs)
        assert all(stage.num_bytes(one.first, one.first + one.count) <= 8 * MIB for one in runs)
        assert max((one.count for one in runs), default=0) - min((one.count for one in runs), default=0) <= 1
    assert len({one.job.id for one in found.subtasks}) == len(found.subtasks)


@given(tasks(), limits())
@settings(max_examples=150, deadline=None)
def test_subtasks_wait_for_exactly_what_they_need(task: Task, limits: Limits) -> None:
    found = partition(task, limits=limits)
    place = {one.job.id: i for i, one in enumerate(found.subtasks)}
    stages = {stage.name: stage for stage in task.stages}
    for i, one in enumerate(found.subtasks):
        assert all(place[name] < i for name in one.after)
        assert one.job.created_at_seconds == i
        want = set()
        for after in stages[one.stage].after:
            for other in found.subtasks:
                overlaps = other.first < one.first + one.count and one.first < other.first + other.count
                if other.stage == after.stage and (overlaps or not after.by_item):
                    want.add(other.job.id)
        assert set(one.after) == want


def finish(found: Partition, *, pods: int) -> int:
    """List scheduling on so many pods: a plan that exists, so no bound may exceed it."""
    ends: dict[str, int] = {}
    free = [0] * pods
    for one in found.subtasks:
        start = max(min(free), max((ends[name] for name in one.after), default=0))
        ends[one.job.id] = free[free.index(min(free))] = start + one.micros
    return max(ends.values(), default=0)


@given(tasks(), limits())
@settings(max_examples=150, deadline=None)
def test_no_plan_is_faster_than_the_bounds_and_the_critical_path_is_a_chain(task: Task, limits: Limits) -> None:
    found = partition(task, limits=limits)
    by_id = {one.job.id: one for one in found.subtasks}
    assert found.critical_micros <= found.least_micros <= finish(found, pods=limits.accelerators)
    assert sum(by_id[name].micros for name in found.critical_path) == found.critical_micros
    for before, after in itertools.pairwise(found.critical_path):
        assert before in by_id[after].after
    assert finish(found, pods=max(len(found.subtasks), 1)) == found.critical_micros


CRITICAL = {
    "one stage, one subtask": ((Stage("a", 5, item_micros=2),), ["t/a-0"], 10),
    "two stages in a row": (
        (Stage("b", 20, item_micros=1, after=(After("a"),)), Stage("a", 5, item_micros=2)),
        ["t/a-0", "t/b-0"],
        20,
    ),
    "the longer of two ways": (
        (
            Stage("a", 1, item_micros=1),
            Stage("short", 1, item_micros=1, after=(After("a"),)),
            Stage("long", 1, item_micros=7, after=(After("a"),)),
            Stage("end", 1, item_micros=1, after=(After("short"), After("long"))),
        ),
        ["t/a-0", "t/long-0", "t/end-0"],
        9,
    ),
}


@pytest.mark.parametrize(("stages", "want_path", "want_micros"), CRITICAL.values(), ids=CRITICAL)
def test_critical_path(stages: tuple[Stage, ...], want_path: list[str], want_micros: int) -> None:
    found = partition(Task("t", stages), limits=LIMITS)
    assert (list(found.critical_path), found.critical_micros) == (want_path, want_micros)


def test_rounds_bound_the_time_where_work_alone_does_not() -> None:
    found = partition(Task("t", (Stage("a", 50, item_micros=1),)), limits=Limits(10, POD, 4))
    assert found.least_micros == 20  # 5 subtasks of 10 on 4 pods; the work alone gives 13


WRONG: dict[str, tuple[Task, Limits, str]] = {
    "no stages": (Task("t", ()), LIMITS, r"^task\.stages: there must be at least one"),
    "a limit of no items": (
        Task("t", (Stage("a", 1),)),
        dataclasses.replace(LIMITS, items_per_subtask=0),
        r"^limits\.items_per_subtask: 0 must be at least 1",
    ),
    "a pod that takes more than all accelerators": (
        Task("t", (Stage("a", 1),)),
        Limits(1, sa.Resources(accelerators=8), 4),
        r"^limits\.accelerators: 4 are too few, one pod takes 8",
    ),
    "a name twice": (Task("t", (Stage("a", 1), Stage("a", 2))), LIMITS, r'^task\.stages\[0\]\.name: "a" is used twice'),
    "a negative number": (Task("t", (Stage("a", -1),)), LIMITS, r"^task\.stages\[0\]\.items: -1 must not be negative"),
    "sizes that are too few": (Task("t", (Stage("a", 3, sizes=(1,)),)), LIMITS, r"^task\.stages\[0\]\.sizes: 1 sizes"),
    "a negative size": (Task("t", (Stage("a", 1, sizes=(-1,)),)), LIMITS, r"sizes: item 0 has -1 bytes"),
    "an item larger than a pod": (
        Task("t", (Stage("x", 1), Stage("a", 2, sizes=(1, 9 * MIB)))),
        LIMITS,
        r"^task\.stages\[1\]\.sizes: item 1 has 9437184 bytes, more than the 8388608 of one pod; raise limits\.pod",
    ),
    "items that are all larger": (
        Task("t", (Stage("a", 2, item_bytes=9 * MIB),)),
        LIMITS,
        r"^task\.stages\[0\]\.item_bytes: every item has 9437184 bytes",
    ),
    "an unknown stage": (
        Task("t", (Stage("a", 1, after=(After("b"),)),)),
        LIMITS,
        r'^task\.stages\[0\]\.after: "b" is no stage; there are a$',
    ),
    "by item, but not as many": (
        Task("t", (Stage("a", 1), Stage("b", 2, after=(After("a", by_item=True),)))),
        LIMITS,
        r'^task\.stages\[1\]\.after: by item, but "a" has 1 items and "b" has 2',
    ),
    "a cycle": (
        Task(
            "t",
            (
                Stage("x", 1, after=(After("a"),)),
                Stage("a", 1, after=(After("b"),)),
                Stage("b", 1, after=(After("a"),)),
            ),
        ),
        LIMITS,
        r"^task\.stages: a → b → a is a cycle; remove one of its dependencies",
    ),
    "a stage that waits for itself": (
        Task("t", (Stage("a", 1, after=(After("a"),)),)),
        LIMITS,
        r"^task\.stages: a → a is a cycle",
    ),
}


@pytest.mark.parametrize(("task", "limits", "want"), WRONG.values(), ids=WRONG)
def test_a_wrong_task_is_named(task: Task, limits: Limits, want: str) -> None:
    with pytest.raises(ValueError, match=want):
        partition(task, limits=limits)


def test_the_allocator_works_a_task_off_in_its_order() -> None:
    stages = (Stage("a", 35), Stage("b", 35, after=(After("a", by_item=True),)), Stage("c", 5, after=(After("b"),)))
    found = partition(Task("t", stages, priority=3), limits=LIMITS)
    done: list[str] = []
    while ready := found.ready(done):
        plan = sa.plan(sa.Snapshot((worlds.node("n", 2),), ready))
        assert plan.placements
        done += plan.placements
    assert sorted(done) == sorted(one.job.id for one in found.subtasks)
    place = {name: i for i, name in enumerate(done)}
    assert all(place[name] < place[one.job.id] for one in found.subtasks for name in one.after)
