"""What has changed between two snapshots: far less to send than a snapshot.

What must stay true: a difference applied to the old snapshot gives the new one, and every node
and job that did not change stays the same object, so that what is remembered of it holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from stowplan_allocator import types


@dataclasses.dataclass(frozen=True, slots=True)
class Change[T]:
    """New and changed items, names of those that are gone, and all names where their order differs."""

    items: tuple[T, ...]
    gone: tuple[str, ...]
    order: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """From one snapshot to another."""

    nodes: Change[types.Node]
    jobs: Change[types.Job]
    rest: types.Snapshot


def between(old: types.Snapshot, new: types.Snapshot) -> Difference | None:
    """The difference; None where names are not unique, so that there is no telling what changed."""
    nodes = _between(old.nodes, new.nodes, name_of=_node_name)
    jobs = _between(old.jobs, new.jobs, name_of=_job_id)
    if nodes is None or jobs is None:
        return None
    return Difference(nodes, jobs, dataclasses.replace(new, nodes=(), jobs=()))


def apply(difference: Difference, *, to: types.Snapshot) -> types.Snapshot:
    """The new snapshot."""
    return dataclasses.replace(
        difference.rest,
        nodes=_applied(difference.nodes, old=to.nodes, name_of=_node_name),
        jobs=_applied(difference.jobs, old=to.jobs, name_of=_job_id),
    )


def _node_name(node: types.Node) -> str:
    return node.name


def _job_id(job: types.Job) -> str:
    return job.id


def _between[T](old: Sequence[T], new: Sequence[T], *, name_of: Callable[[T], str]) -> Change[T] | None:
    before = {name_of(item): item for item in old}
    after = {name_of(item): item for item in new}
    if len(before) != len(old) or len(after) != len(new):
        return None
    items = []
    for name, item in after.items():
        was = before.get(name)
        if was is not item and was != item:
            items.append(item)
    gone = tuple(name for name in before if name not in after)
    # Without more words, new items come last and the others stay in their order.
    expected = [name for name in before if name in after]
    expected += [name for name in map(name_of, items) if name not in before]
    order = None if expected == list(after) else tuple(after)
    return Change(tuple(items), gone, order)


def _applied[T](change: Change[T], *, old: Sequence[T], name_of: Callable[[T], str]) -> tuple[T, ...]:
    if not change.items and not change.gone and change.order is None:
        return tuple(old)
    found = {name_of(item): item for item in old}
    for name in change.gone:
        del found[name]
    found |= {name_of(item): item for item in change.items}
    return tuple(found.values()) if change.order is None else tuple(found[name] for name in change.order)
