"""What a node's free room is worth to each policy, for many nodes at once.

The same measures as ``fragmentation`` and ``room_value``, over arrays. Both look at a request by its class (number
of GPUs, milli of each) and its CPU alone, so a table of weights by kind of node, step of CPU and class turns the
expectation over all requests into one product of rows. What must stay true: for every room a policy gives what the
plain functions give; a test compares them.

``fgd`` is the published policy: its score is a whole number from 0 to 100, so that many nodes tie, and the rule for
ties decides a lot. ``stow`` is ours. ``bestfit`` fills nodes up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from stowplan_allocator import fragmentation, room_value
from stowplan_allocator.bench.openb_devices import DeviceStates, Floats, Ints
from stowplan_allocator.bench.openb_workload import Workload
from stowplan_allocator.fragmentation import WHOLE, Want

# The published experiments look at the most frequent requests that make up so much of all.
USUAL_SHARE = 0.95
# Equal but for rounding.
DIGITS = 6


class Policy(Protocol):
    """How much a node's room is worth, and how a change of that is graded; the best grade gets the pod.

    ``first_device`` says that of a node's equally good devices the first is taken, else the one with the least free.
    """

    first_device: bool

    def worth(self, kinds: Ints, cpu: Ints, memory: Ints, states: Ints) -> Floats:
        """Of each node, given the number of its kind, its amounts and the state of its devices."""

    def grade(self, before: Floats, after: Floats) -> Floats:
        """Of each choice: what the node is worth before and after."""


class Rows:
    """What all policies of one workload share: kinds of nodes, classes of requests and states of devices."""

    def __init__(self, workload: Workload) -> None:
        self.kinds = sorted({machine.model for machine in workload.machines})
        self.classes = list(dict.fromkeys((want.num_gpus, want.milli) for want in workload.wants))
        self.usual = fragmentation.usual(workload.wants, share=USUAL_SHARE)
        self.prices = room_value.prices(workload.wants)
        most = max(machine.num_gpus for machine in workload.machines)
        self.states = DeviceStates(self.classes, most=most, price=self.prices.of_device)


class Fragments:
    """Fragmentation by number of kind, CPU and state of devices."""

    def __init__(self, rows: Rows, *, wants: Sequence[Want]) -> None:
        self._states = rows.states
        self._cuts = np.array(sorted({want.others[0] for want in wants}), dtype=np.int64)
        self._weights = np.zeros((len(rows.kinds), len(self._cuts) + 1, len(rows.classes)))
        for want in wants:
            if want.num_gpus:
                step = int(np.searchsorted(self._cuts, want.others[0])) + 1
                column = rows.classes.index((want.num_gpus, want.milli))
                for row, kind in enumerate(rows.kinds):
                    if want.kinds is None or kind in want.kinds:
                        self._weights[row, step:, column] += want.weight

    def __call__(self, kinds: Ints, cpu: Ints, states: Ints) -> Floats:
        """What the usual requests could not use, on average."""
        steps = np.searchsorted(self._cuts, cpu, side="right")
        used: Floats = np.einsum("...k,...k->...", self._weights[kinds, steps], self._states.usable[states])
        return self._states.left[states] - used


def by_cpu(wants: Sequence[Want]) -> list[Want]:
    """Requests that differ by memory alone as one, as the published policy counts them."""
    found: dict[Want, float] = {}
    for want in wants:
        key = replace(want, others=want.others[:1], weight=0.0)
        found[key] = found.get(key, 0.0) + want.weight
    return [replace(want, weight=weight) for want, weight in found.items()]


class Fgd:
    """Fragmentation gradient descent as published. It looks at CPU and GPUs, not at memory."""

    first_device = True

    def __init__(self, rows: Rows, workload: Workload) -> None:
        self._fragments = Fragments(rows, wants=fragmentation.usual(by_cpu(workload.wants), share=USUAL_SHARE))

    def worth(self, kinds: Ints, cpu: Ints, memory: Ints, states: Ints) -> Floats:
        """The less fragmented, the better."""
        return -self._fragments(kinds, cpu, states)

    def grade(self, before: Floats, after: Floats) -> Floats:
        """The growth of fragmentation, in GPUs, squeezed into 0 to 100."""
        grade: Floats = np.floor(100.0 / (1.0 + np.exp(np.round(before - after, DIGITS) / WHOLE)))
        return grade


class BestFit:
    """The node with the least left over, CPU and GPUs as parts of the largest node's."""

    first_device = False

    def __init__(self, rows: Rows, workload: Workload) -> None:
        self._states = rows.states
        self._cpu = max(machine.cpu_milli for machine in workload.machines)
        self._gpu = WHOLE * max(machine.num_gpus for machine in workload.machines)

    def worth(self, kinds: Ints, cpu: Ints, memory: Ints, states: Ints) -> Floats:
        """The less is left, the better."""
        worth: Floats = -(cpu / self._cpu + self._states.left[states] / self._gpu)
        return worth

    def grade(self, before: Floats, after: Floats) -> Floats:
        """What counts is what is left, not what was there."""
        grade: Floats = np.round(after, DIGITS)
        return grade


class Stow:
    """``room_value.Worth`` over arrays."""

    first_device = False

    def __init__(self, rows: Rows, workload: Workload) -> None:
        self._states = rows.states
        self._fragments = Fragments(rows, wants=rows.usual)
        self._cpu, self._memory = rows.prices.per_device
        plain = fragmentation.weighted(want for want in workload.wants if not want.total_milli)
        self._cuts = np.array(sorted({want.others[0] for want in plain}), dtype=np.int64)
        steps = [sum(want.weight * want.others[0] for want in plain if want.others[0] <= cut) for cut in self._cuts]
        self._plain = np.array([0.0, *steps]) * room_value.PLAIN * WHOLE / (self._cpu or 1.0)

    def worth(self, kinds: Ints, cpu: Ints, memory: Ints, states: Ints) -> Floats:
        """See ``room_value``."""
        value = self._states.value[states]
        for have, need in ((cpu, self._cpu), (memory, self._memory)):
            if need > 0:
                value = np.minimum(value, have * (WHOLE / need))
        fragments = self._fragments(kinds, cpu, states)
        plain = self._plain[np.searchsorted(self._cuts, cpu, side="right")]
        worth: Floats = value - room_value.FRAGMENTS * fragments + plain
        return worth

    def grade(self, before: Floats, after: Floats) -> Floats:
        """The loss, rounded so that equals tie."""
        grade: Floats = np.round(after - before, DIGITS)
        return grade


def make(name: str, *, rows: Rows, workload: Workload) -> Policy:
    """The policy of that name."""
    if name == "fgd":
        return Fgd(rows, workload)
    return BestFit(rows, workload) if name == "bestfit" else Stow(rows, workload)
