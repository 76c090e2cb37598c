"""The published experiment's input: pods drawn from one list of the openb trace until they ask for enough.

As in the published experiment, the list is shuffled; then pods drawn from it again, with replacement, come after
them until the demand for GPUs is 130 % of the cluster, or, where it is more, pods are taken out at random until it
is not. What must stay true: the same list and seed give the same pods in the same order, whatever the strategy.
"""

from __future__ import annotations

import pathlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stowplan_allocator.fragmentation import WHOLE, Want
from stowplan_allocator.simulate.traces import openb

PRESSURE = 1.3


@dataclass(frozen=True, slots=True)
class Workload:
    """A cluster and a list of pods. ``wants`` are the different requests, ``pods`` the request of each pod.

    A request's weight is how many pods of the list have it; its other amounts are CPU and memory.
    """

    machines: tuple[openb.Machine, ...]
    wants: tuple[Want, ...]
    pods: tuple[int, ...]

    @property
    def capacity_milli(self) -> int:
        """Thousandths of GPUs in the cluster."""
        return WHOLE * sum(machine.num_gpus for machine in self.machines)


def load(folder: pathlib.Path, *, trace: str) -> Workload:
    """Read the node list and one list of pods."""
    return workload_of(openb.read_nodes(folder), openb.read_pods(folder, name=trace))


def workload_of(machines: Sequence[openb.Machine], pods: Sequence[openb.Pod]) -> Workload:
    """Group equal requests."""
    keys = [_key(pod) for pod in pods]
    counts = Counter(keys)
    index = {key: i for i, key in enumerate(counts)}
    wants = tuple(
        Want(num_gpus, milli, (cpu, memory), float(count), frozenset(models) if models else None)
        for (num_gpus, milli, cpu, memory, models), count in counts.items()
    )
    return Workload(tuple(machines), wants, tuple(index[key] for key in keys))


def _key(pod: openb.Pod) -> tuple[int, int, int, int, tuple[str, ...]]:
    """What the pod asks for. Only a pod of one GPU can ask for a share of it."""
    milli = 0 if not pod.num_gpus else pod.gpu_milli if pod.num_gpus == 1 else WHOLE
    return pod.num_gpus, milli, pod.cpu_milli, pod.memory_mib, tuple(sorted(pod.models))


def sample(workload: Workload, *, seed: int, pressure: float = PRESSURE) -> list[int]:
    """The requests in the order of their arrival."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    arriving = list(workload.pods)
    rng.shuffle(arriving)
    size = [want.total_milli for want in workload.wants]
    target = pressure * workload.capacity_milli
    demand = sum(size[want] for want in arriving)
    if not demand:
        raise ValueError("no pod of the list asks for a GPU; take a list with some that do")
    if demand > target:
        while demand > target:
            demand -= size[arriving.pop(rng.randrange(len(arriving)))]
        return arriving
    while True:
        want = rng.choice(workload.pods)
        if demand + size[want] > target:
            return arriving
        demand += size[want]
        arriving.append(want)
