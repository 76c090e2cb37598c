"""Which Queues there are, what is wrong with some of them, and in which one a job stands. Pure.

What must stay true: a queue that cannot be planned with is left out with those below it, says why, and changes nothing
for the others; a waiting job stands in one queue (the empty name is the default one, without quotas) or is told which
field to change; a job that holds a place keeps it, and counts where it stood for as long as that queue is there.
"""

from __future__ import annotations

import dataclasses
import decimal
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stowplan_allocator import queues, types
from stowplan_operator import api, wording

ALL_NAMESPACES = "*"
_MOST_LEVELS = 32
_NAMED = 8


@dataclasses.dataclass(frozen=True, slots=True)
class QueueView:
    """A Queue: identity, and spec and status as they stand in the API server."""

    name: str
    uid: str
    resource_version: str
    generation: int
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> QueueView:
        """Read a stowplan.dev/v1alpha1 Queue."""
        meta = body["metadata"]
        return cls(
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta.get("resourceVersion", ""),
            generation=int(meta.get("generation", 1)),
            spec=body.get("spec") or {},
            status=body.get("status") or {},
        )


class QueueFaultError(ValueError):
    """The job's ``queue`` cannot be planned with; nothing of the job is wrong. ``to_mend`` is the queue to correct."""

    def __init__(self, text: str, *, queue: str, to_mend: str) -> None:
        super().__init__(text)
        self.queue, self.to_mend = queue, to_mend


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """Who may use a queue, and the PriorityClass of those who name none; ``fault`` says why it is not planned with.

    ``to_mend`` is the queue whose spec that is, itself or one above it.
    ``shared`` has the namespaces that other queues name as well, each with the names of those.
    """

    namespaces: tuple[str, ...] = ()
    default_priority_class: str = ""
    fault: str = ""
    to_mend: str = ""
    shared: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class RunLimit:
    """The seconds from a job's first start to its end, and who says so."""

    seconds: int
    source: str


def shorter(active_deadline_seconds: int | None, queue_limit: RunLimit | None) -> RunLimit | None:
    """The smaller of a job's own limit and its queue's."""
    own = active_deadline_seconds
    if own and (queue_limit is None or own <= queue_limit.seconds):
        return RunLimit(own, "spec.activeDeadlineSeconds")
    return queue_limit


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The queue in which a waiting job stands, and the others that it could name."""

    queue: str = ""
    others: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Queues:
    """All queues: those that can be planned with, the others each by itself, and the doors of all, by name."""

    planned: tuple[types.Queue, ...] = ()
    unplanned: tuple[types.Queue, ...] = ()
    doors: Mapping[str, Door] = dataclasses.field(default_factory=dict)

    def choose(self, namespace: str, *, named: str | None) -> Choice:
        """Where a waiting job of the namespace stands that names this queue, or none. ValueError says what to change.

        A queue that names the namespace goes before one that admits all. QueueFaultError where the queue is wrong.
        """
        allowed = [name for name, door in self.doors.items() if _admits(door, namespace)]
        if named is None:
            own = [name for name in allowed if namespace in self.doors[name].namespaces] or allowed
            if len(own) > 1:
                these = f"{len(own)} queues, {wording.some(own, most=_NAMED)}"
                raise ValueError(f'spec.queue: namespace "{namespace}" may use {these}; name one of them')
            if not own:
                return Choice()
            (named,) = own
        elif named not in self.doors:
            raise ValueError(f'spec.queue: there is no queue "{named}"; {_may_use(namespace, allowed)}')
        elif named not in allowed:
            raise ValueError(
                f'spec.queue: queue "{named}" does not admit namespace "{namespace}" (its spec.namespaces); '
                f"{_may_use(namespace, allowed)}"
            )
        if fault := self.doors[named].fault:
            text = f'queue "{named}" cannot be planned with: {fault}'
            raise QueueFaultError(text, queue=named, to_mend=self.doors[named].to_mend)
        others = (name for name in allowed if name != named and not self.doors[name].fault)
        return Choice(named, tuple(others))

    def of_placed(self, namespace: str, *, named: str | None, stood_in: str) -> str:
        """Where a job with a place counts: where it stood, if that is left; else in the queue it names, or in none.

        Who started before there were queues counts in that of its namespace. Another name in ``spec.queue`` changes
        nothing before the next start: that queue has not been asked for its quota.
        """
        if stood_in in self.doors:
            return "" if self.is_adrift(stood_in) else stood_in
        try:
            return self.choose(namespace, named=named or stood_in or None).queue
        except ValueError:
            return ""

    def is_adrift(self, stood_in: str) -> bool:
        """Whether the queue in which a job with a place stood is there, and cannot be planned with."""
        return bool(stood_in in self.doors and self.doors[stood_in].fault)

    def default_class(self, queue: str) -> str:
        """The PriorityClass of the queue's jobs that name none; empty where it says none."""
        return self.doors[queue].default_priority_class if queue in self.doors else ""

    def run_limit(self, queue: str) -> RunLimit | None:
        """The smallest ``limits.runSeconds`` of the queue and of those above it."""
        by_name = {one.name: one for one in self.planned}
        found: RunLimit | None = None
        while (one := by_name.get(queue)) is not None:
            if one.max_run_seconds is not None and (found is None or one.max_run_seconds < found.seconds):
                found = RunLimit(one.max_run_seconds, f'limits.runSeconds of queue "{one.name}"')
            queue = one.parent
        return found


NONE = Queues()


def read(views: Iterable[QueueView]) -> Queues:
    """All Queues as the API server has them, by name."""
    specs: dict[str, api.QueueSpec] = {}
    found: dict[str, types.Queue] = {}
    faults: dict[str, str] = {}
    names = []
    for view in sorted(views, key=lambda one: one.name):
        names.append(view.name)
        try:
            specs[view.name] = api.parse_queue_spec(dict(view.spec))
            queue = _as_queue(view.name, specs[view.name])
            if fault := queues.faults([dataclasses.replace(queue, parent="")]):
                raise ValueError(f"spec: {fault[view.name]}")
            found[view.name] = queue
        except ValueError as error:
            faults[view.name] = str(error)
        except Exception as error:  # one object that nobody foresaw must not stop the others
            faults[view.name] = f"the queue cannot be read ({type(error).__name__}: {error})"
    to_mend = {name: name for name in faults}
    for name, culprit, text in list(_misplaced(found, unreadable=dict(faults))):
        faults[name], to_mend[name] = text, culprit
    named_by: dict[str, list[str]] = {}
    for name, spec in specs.items():
        for namespace in spec.namespaces:
            named_by.setdefault(namespace, []).append(name)
    return Queues(
        planned=tuple(queue for name, queue in found.items() if name not in faults),
        unplanned=tuple(dataclasses.replace(found.get(name, types.Queue(name)), parent="") for name in faults),
        doors={
            name: Door(
                namespaces=tuple(specs[name].namespaces) if name in specs else (),
                default_priority_class=(specs[name].default_priority_class_name or "") if name in specs else "",
                fault=faults.get(name, ""),
                to_mend=to_mend.get(name, ""),
                shared=tuple(
                    (namespace, tuple(other for other in named_by[namespace] if other != name))
                    for namespace in (specs[name].namespaces if name in specs else ())
                    if len(named_by[namespace]) > 1
                ),
            )
            for name in names
        },
    )


def _as_queue(name: str, spec: api.QueueSpec) -> types.Queue:
    try:
        weight = int(decimal.Decimal(spec.weight) * 1000)
    except (decimal.InvalidOperation, ValueError, OverflowError):
        weight = 0
    if weight < 1:
        raise ValueError(f'spec.weight: {spec.weight!r} is not a decimal above 0; write it as a text such as "1.5"')
    return types.Queue(
        name=name,
        parent=spec.parent or "",
        weight_milli=weight,
        quotas=tuple(
            types.Quota(one.product, one.nominal, one.borrowing_limit, one.lending_limit) for one in spec.quotas
        ),
        max_running_jobs=spec.limits.running_jobs,
        max_accelerators_per_job=spec.limits.accelerators_per_job,
        max_run_seconds=spec.limits.run_seconds,
        preemption=tuple(types.QueuePreemption(one) for one in spec.preemption),
    )


def _misplaced(found: Mapping[str, types.Queue], *, unreadable: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Queues that have no place in a tree, whose spec is wrong, and why: the first such thing on their way up."""
    for name in found:
        line = [name]
        while above := found[line[-1]].parent:
            fix = "create it, or name another"
            own = "" if len(line) == 1 else f' (of queue "{line[-1]}", above this one)'
            if above in line:
                circle = " → ".join([*line[line.index(above) :], above])
                yield name, line[-1], f"spec.parent: {circle} is a circle; remove spec.parent of one of them"
                break
            if above in unreadable:
                yield name, above, f'spec.parent{own}: queue "{above}" cannot be planned with: {unreadable[above]}'
                break
            if above not in found:
                yield name, line[-1], f'spec.parent{own}: there is no queue "{above}"; {fix}'
                break
            line.append(above)
            if len(line) > _MOST_LEVELS:
                yield name, name, f"spec.parent: more than {_MOST_LEVELS} levels; name a queue nearer to the top"
                break


def _admits(door: Door, namespace: str) -> bool:
    return namespace in door.namespaces or ALL_NAMESPACES in door.namespaces


def _may_use(namespace: str, allowed: list[str]) -> str:
    if not allowed:
        return f'no queue admits namespace "{namespace}": remove the field, or have a queue admit it'
    return f'namespace "{namespace}" may use {wording.some(allowed, most=_NAMED)}'
