"""What a planner may remember from one plan to the next.

From one cycle to the next a cluster changes little: some jobs start or end, a few nodes
change, and thousands stay the very same objects. A ``Memory`` that is given to each plan keeps
what follows from those, so that a plan costs what has changed. What must stay true: a plan
with a memory equals the plan without one, whatever was planned before; what is remembered of
an object is used only for that same object, and it is held on to, so that no other one can get
its identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from stowplan_allocator import problem as problems
from stowplan_allocator import types
from stowplan_allocator.problem import Vector

# What planning looks at in a node besides what is free; the last part are values of labels.
Kind = tuple[object, ...]


class Memory:
    """The usable nodes in order and by kind, and what is free. Not for two plans at a time."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all: an error may have come half-way."""
        self._nodes = _Nodes()
        self._free = _Free()

    def nodes(self, nodes: Sequence[types.Node], *, seed: int) -> tuple[types.Node, ...]:
        """The usable nodes, each at its turn among equal ones."""
        return self._nodes.usable(nodes, seed=seed)

    def alike(self, *, keys: tuple[str, ...], num_levels: int) -> Iterable[list[int]]:
        """The nodes of the last ``nodes`` that look alike, where of labels only those with these keys count."""
        return self._nodes.alike(keys=keys, num_levels=num_levels)

    def balance(self, snapshot: types.Snapshot, *, dims: tuple[str, ...]) -> Mapping[str, Vector]:
        """See ``problem.free_vectors``."""
        return self._free.balance(snapshot, dims=dims)


class _Nodes:
    def __init__(self) -> None:
        self._seen: tuple[types.Node, ...] = ()
        self._seed = 0
        self._usable: tuple[types.Node, ...] = ()
        self._asked: tuple[tuple[str, ...], int] | None = None
        self._known: dict[int, tuple[types.Node, Kind]] = {}
        self._kinds: list[Kind] = []
        self._groups: dict[Kind, list[int]] = {}

    def usable(self, nodes: Sequence[types.Node], *, seed: int) -> tuple[types.Node, ...]:
        same_places = len(nodes) == len(self._seen) and seed == self._seed
        changes = []
        if same_places:
            changes = [(old, new) for old, new in zip(self._seen, nodes, strict=True) if new is not old]
            same_places = all(old.name == new.name and bool(old.blocked) is bool(new.blocked) for old, new in changes)
        if not same_places:
            usable = (node for node in nodes if not node.blocked)
            self._usable = tuple(sorted(usable, key=lambda node: _turn(node, seed=seed)))
        elif changes:
            changed = {id(old): new for old, new in changes}
            self._usable = tuple(changed.get(id(node), node) for node in self._usable)
        self._seen, self._seed = tuple(nodes), seed
        return self._usable

    def alike(self, *, keys: tuple[str, ...], num_levels: int) -> Iterable[list[int]]:
        if self._asked != (keys, num_levels):
            self._asked = (keys, num_levels)
            self._known = {}
        known: dict[int, tuple[types.Node, Kind]] = {}
        kinds = []
        for node in self._usable:
            found = self._known.get(id(node))
            if found is None:
                found = (node, _kind(node, keys=keys, num_levels=num_levels))
            known[id(node)] = found
            kinds.append(found[1])
        self._known = known
        if kinds != self._kinds:
            self._kinds = kinds
            self._groups = {}
            for index, kind in enumerate(kinds):
                self._groups.setdefault(kind, []).append(index)
        return self._groups.values()


def _kind(node: types.Node, *, keys: tuple[str, ...], num_levels: int) -> Kind:
    path = problems.path_of(node, num_levels=num_levels)
    has_accelerators = node.allocatable.has_devices
    labels = tuple(node.labels.get(key) for key in keys)
    return (node.product, path, has_accelerators, node.price_per_hour_micros, node.taints, node.spot, labels)


def _turn(node: types.Node, *, seed: int) -> tuple[object, ...]:
    """When it is the node's turn among equal ones: a digest, since Python's hashes differ between processes."""
    if not seed:
        return problems.natural(node.name)
    return hashlib.blake2b(f"{seed}/{node.name}".encode(), digest_size=8).digest(), node.name


class _Free:
    def __init__(self) -> None:
        self._dims: tuple[str, ...] = ()
        self._nodes: dict[str, types.Node] = {}
        self._running: dict[str, types.Job] = {}
        self._used: dict[str, list[int]] = {}
        self._balance: dict[str, Vector] = {}

    def balance(self, snapshot: types.Snapshot, *, dims: tuple[str, ...]) -> Mapping[str, Vector]:
        if dims != self._dims:
            self._dims = dims
            self._nodes, self._running, self._used, self._balance = {}, {}, {}, {}
        touched: dict[str, None] = {}
        running = {job.id: job for job in snapshot.jobs if job.placement is not None}
        for job_id, job in self._running.items():
            if running.get(job_id) is not job:
                self._hold(job, sign=-1, touched=touched)
        for job_id, job in running.items():
            if self._running.get(job_id) is not job:
                self._hold(job, sign=1, touched=touched)
        nodes = {node.name: node for node in snapshot.nodes}
        for name in self._nodes.keys() - nodes.keys():
            del self._balance[name]
        for name, node in nodes.items():
            if self._nodes.get(name) is not node:
                touched[name] = None
        for name in touched:
            if name in nodes:
                there = problems.to_vector(nodes[name].available, dims=dims)
                used = self._used.get(name)
                self._balance[name] = (
                    there if used is None else tuple(have - less for have, less in zip(there, used, strict=True))
                )
        self._nodes, self._running = nodes, running
        return dict(self._balance)

    def _hold(self, job: types.Job, *, sign: int, touched: dict[str, None]) -> None:
        pod = problems.to_vector(job.pod, dims=self._dims)
        for share in job.placement.shares if job.placement is not None else ():
            used = self._used.setdefault(share.node, [0] * len(pod))
            for d, amount in enumerate(pod):
                used[d] += sign * amount * share.num_pods
            touched[share.node] = None
