"""The cluster while pods arrive: what is free where, and which node a policy takes.

Room only changes on the node that a pod goes to, so grades are kept by request and node and computed anew only
where the node has changed since. What must stay true: a pod goes only where its CPU, memory and devices fit and its
models allow it; a request that fits somewhere always gets a node; ties go to the first node by name, or to one
drawn from the given generator.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from stowplan_allocator.bench.openb_devices import NONE, Floats, Ints
from stowplan_allocator.bench.openb_policies import Policy, Rows
from stowplan_allocator.bench.openb_workload import Workload


@dataclass(frozen=True, slots=True)
class Stand:
    """Where one pod stands: the node's number and those of the devices that it has a share of, or all of."""

    want: int
    node: int
    devices: tuple[int, ...]


class Cluster:
    """The nodes in the order of their names, and what is free on them."""

    def __init__(self, workload: Workload, *, rows: Rows, policy: Policy, rng: random.Random | None) -> None:
        self.workload = workload
        self._rows = rows
        self._policy = policy
        self._rng = rng
        machines = sorted(workload.machines, key=lambda machine: machine.name)
        self.names = [machine.name for machine in machines]
        self.cpu: Ints = np.array([machine.cpu_milli for machine in machines], dtype=np.int64)
        self.memory: Ints = np.array([machine.memory_mib for machine in machines], dtype=np.int64)
        self._kinds: Ints = np.array([rows.kinds.index(machine.model) for machine in machines], dtype=np.int64)
        self.devices = [[1000] * machine.num_gpus for machine in machines]
        self.states: Ints = np.array([rows.states.number(free) for free in self.devices], dtype=np.int64)
        self._worth: Floats = policy.worth(self._kinds, self.cpu, self.memory, self.states)
        shape = (len(workload.wants), len(machines))
        self._classes = [rows.classes.index((want.num_gpus, want.milli)) for want in workload.wants]
        allowed = [[want.kinds is None or kind in want.kinds for kind in rows.kinds] for want in workload.wants]
        self._allowed = np.array(allowed, dtype=bool)[:, self._kinds]
        # By request and node: the grade (-inf where it does not fit), what it would leave, and as of which change.
        self._grades = np.full(shape, -np.inf)
        self._leaves = np.full(shape, NONE, dtype=np.int64)
        self._seen = np.full(shape, -1, dtype=np.int64)
        self._changed = np.zeros(len(machines), dtype=np.int64)

    def fresh(self) -> Cluster:
        """The same cluster before anything was placed."""
        return Cluster(self.workload, rows=self._rows, policy=self._policy, rng=self._rng)

    def grades(self, want: int) -> Floats:
        """The grade of every node for one request; -inf where it does not fit."""
        stale = np.flatnonzero(self._seen[want] != self._changed)
        if stale.size:
            self._refresh(want, stale)
        row: Floats = self._grades[want]
        return row

    def choose(self, want: int) -> int | None:
        """The node that the policy takes, or None where the request fits nowhere."""
        grades = self.grades(want)
        if self._rng is None:
            node = int(grades.argmax())
            return node if grades[node] > -np.inf else None
        best = grades.max()
        if best == -np.inf:
            return None
        tied = np.flatnonzero(grades == best)
        return int(tied[self._rng.randrange(len(tied))])

    def place(self, want: int, node: int) -> Stand:
        """Put a pod on a node that ``grades`` has just graded."""
        request = self.workload.wants[want]
        taken = self._devices_for(want, node) if request.num_gpus else []
        for device in taken:
            self.devices[node][device] -= request.milli
        self._move(node, cpu=-request.others[0], memory=-request.others[1])
        return Stand(want, node, tuple(taken))

    def allows(self, want: int, node: int) -> bool:
        """Whether the request accepts the node's model."""
        return bool(self._allowed[want, node])

    def device_value(self, free_milli: int) -> float:
        """What so much on one device is worth."""
        return self._rows.prices.of_device(free_milli)

    def put_back(self, stand: Stand) -> None:
        """Undo a ``remove``."""
        request = self.workload.wants[stand.want]
        for device in stand.devices:
            self.devices[stand.node][device] -= request.milli
        self._move(stand.node, cpu=-request.others[0], memory=-request.others[1])

    def remove(self, stand: Stand) -> None:
        """Take a pod off its node."""
        request = self.workload.wants[stand.want]
        for device in stand.devices:
            self.devices[stand.node][device] += request.milli
        self._move(stand.node, cpu=request.others[0], memory=request.others[1])

    @property
    def free_milli(self) -> int:
        """Thousandths of GPUs that nobody has."""
        return sum(sum(free) for free in self.devices)

    def _move(self, node: int, *, cpu: int, memory: int) -> None:
        self.cpu[node] += cpu
        self.memory[node] += memory
        self.states[node] = self._rows.states.number(self.devices[node])
        self._changed[node] += 1
        at = slice(node, node + 1)
        self._worth[at] = self._policy.worth(self._kinds[at], self.cpu[at], self.memory[at], self.states[at])

    def _devices_for(self, want: int, node: int) -> list[int]:
        """The devices to take from; of equally good ones the first, where the policy says so."""
        if not self._policy.first_device:
            return self._difference(node, int(self._leaves[want, node]))
        grades, leaves = self._choices(want, np.array([node]))
        tied = leaves[0][grades[0] == grades[0].max()]
        return min(self._difference(node, int(leaf)) for leaf in tied)

    def _difference(self, node: int, leaf: int) -> list[int]:
        """The devices that must change for the node's devices to become that state."""
        gone = list(self.devices[node])
        for amount in self._rows.states.devices[leaf]:
            if amount in gone:
                gone.remove(amount)
        return _devices_with(gone, self.devices[node])

    def _refresh(self, want: int, nodes: Ints) -> None:
        request = self.workload.wants[want]
        self._seen[want, nodes] = self._changed[nodes]
        self._grades[want, nodes] = -np.inf
        fitting = self._allowed[want, nodes]
        fitting &= self.cpu[nodes] >= request.others[0]
        fitting &= self.memory[nodes] >= request.others[1]
        if request.num_gpus:
            fitting &= self._rows.states.usable[self.states[nodes], self._classes[want]] > 0
        nodes = nodes[fitting]
        if not nodes.size:
            return
        grades, leaves = self._choices(want, nodes)
        best = grades.argmax(axis=1)
        rows = np.arange(len(nodes))
        self._grades[want, nodes] = grades[rows, best]
        self._leaves[want, nodes] = leaves[rows, best]

    def _choices(self, want: int, nodes: Ints) -> tuple[Floats, Ints]:
        """For nodes where the request fits: what it may leave on the devices, and the grade of that."""
        request = self.workload.wants[want]
        leaves = self._rows.states.after(self._classes[want], self.states[nodes]).astype(np.int64)
        width = int((leaves != NONE).sum(axis=1).max())
        leaves = leaves[:, :width]
        kinds = np.broadcast_to(self._kinds[nodes, None], leaves.shape)
        cpu = np.broadcast_to((self.cpu[nodes] - request.others[0])[:, None], leaves.shape)
        memory = np.broadcast_to((self.memory[nodes] - request.others[1])[:, None], leaves.shape)
        worth = self._policy.worth(kinds, cpu, memory, leaves)
        return np.where(leaves == NONE, -np.inf, self._policy.grade(self._worth[nodes, None], worth)), leaves


def _devices_with(amounts: list[int], free: list[int]) -> list[int]:
    """The first devices that have these amounts free."""
    found: list[int] = []
    for amount in amounts:
        found.append(next(i for i, have in enumerate(free) if have == amount and i not in found))
    return found
