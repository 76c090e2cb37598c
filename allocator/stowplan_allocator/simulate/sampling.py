"""The cluster's books, and samples of them at even distances in time.

What must stay true: used + free + broken accelerators are the total at every moment, and a
sample shows the cluster after all events up to its time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from stowplan_allocator import types
from stowplan_allocator.simulate import records
from stowplan_allocator.simulate.lives import Life


class Books:
    """Who waits, and what is free on each node, kept up with every change."""

    def __init__(self, nodes: Sequence[types.Node], jobs: Iterable[types.Job]) -> None:
        self.free = {node.name: node.available.accelerators for node in nodes}
        self.waiting: dict[int, Life] = {}
        self.jobs_running = 0
        self.accelerators_used = 0
        self._broken = {node.name: node.allocatable.accelerators - node.available.accelerators for node in nodes}
        self._total = sum(node.allocatable.accelerators for node in nodes)
        self._down: set[str] = {node.name for node in nodes if node.blocked}
        sizes: Counter[int] = Counter()
        for job in jobs:
            sizes[job.pod.accelerators] += job.num_pods
        del sizes[0]
        self._sizes = sorted(sizes.items())

    def wait(self, life: Life) -> None:
        """A job has come into the queue."""
        self.waiting[life.number] = life

    def start(self, life: Life, *, placement: types.Placement) -> None:
        """A job has left the queue for its place."""
        del self.waiting[life.number]
        self.jobs_running += 1
        self._move(life, placement=placement, sign=1)

    def stop(self, life: Life, *, placement: types.Placement) -> None:
        """A job has given its place back."""
        self.jobs_running -= 1
        self._move(life, placement=placement, sign=-1)

    def node(self, name: str, *, down: bool) -> None:
        """A node has failed or come back."""
        (self._down.add if down else self._down.discard)(name)

    def _move(self, life: Life, *, placement: types.Placement, sign: int) -> None:
        pod = life.job.pod.accelerators * sign
        for share in placement.shares:
            self.free[share.node] -= pod * share.num_pods
            self.accelerators_used += pod * share.num_pods

    def sample(self, now: int) -> records.Sample:
        """The books as a sample."""
        broken = sum(self._broken.values()) + sum(self.free[name] for name in self._down)
        free = [amount for name, amount in self.free.items() if amount > 0 and name not in self._down]
        waiting = self.waiting.values()
        reasons = Counter(life.last_reason.reason for life in waiting if life.last_reason is not None)
        return records.Sample(
            now,
            self._total,
            self.accelerators_used,
            self._total - self.accelerators_used - broken,
            broken,
            self.jobs_running,
            len(waiting),
            sum(life.job.num_pods * life.job.pod.accelerators for life in waiting),
            fragmented_share(free, sizes=self._sizes),
            tuple(sorted(reasons.items(), key=lambda item: item[0].value)),
        )


def fragmented_share(free: Sequence[int], *, sizes: Sequence[tuple[int, int]]) -> float:
    """The share of free accelerators that a pod drawn from the workload finds on nodes too full for it.

    ``free`` has them by node, ``sizes`` how many pods there are of each number of accelerators.
    """
    total = sum(free) * sum(pods for _, pods in sizes)
    lost = sum(pods * sum(room for room in free if room < size) for size, pods in sizes)
    return lost / total if total else 0.0
