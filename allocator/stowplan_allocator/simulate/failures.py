"""Nodes that fail and come back, and what a job loses by it.

What must stay true: the moments of failure depend on the seed and the node's name alone,
not on what runs there, so that two policies meet the same failures.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stowplan_allocator import types

# Why no pod may go to a node that is down.
BROKEN = "node failed"


@dataclass(frozen=True, slots=True)
class Failures:
    """How often a node fails (exponentially, on average) and how long it stays away; 0 means that none fails."""

    mean_seconds_between: int = 0
    repair_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class Restarts:
    """What stopping costs a job.

    Work is saved every ``checkpoint_seconds`` of work (0: all the time), so a lost node
    loses what came after; a preempted job saves before it leaves. Each start but the first
    takes ``restart_seconds`` on the accelerators before work goes on.
    """

    checkpoint_seconds: int = 1800
    restart_seconds: int = 60


def moments(node: str, *, failures: Failures, seed: int, from_seconds: int) -> Iterator[tuple[int, int]]:
    """When the node fails and is back, for ever; nothing where nodes do not fail."""
    if failures.mean_seconds_between <= 0:
        return
    chance = random.Random(f"{seed}/{node}")  # noqa: S311 - a simulation, not a secret
    now = from_seconds
    while True:
        down = now + max(1, round(chance.expovariate(1.0 / failures.mean_seconds_between)))
        now = down + max(1, failures.repair_seconds)
        yield down, now


class Faults:
    """The failures and repairs of all nodes in the order of time; ``down`` names the nodes that are away."""

    def __init__(self, nodes: Sequence[types.Node], *, failures: Failures, seed: int, from_seconds: int) -> None:
        self.down: set[str] = set()
        self._nodes = nodes
        self._moments = [moments(n.name, failures=failures, seed=seed, from_seconds=from_seconds) for n in nodes]
        # (moment, node's number, whether it is back, when it will be back)
        self._due: list[tuple[int, int, bool, int]] = []
        for i in range(len(nodes)):
            self._next_failure(i)

    @property
    def moment(self) -> int | None:
        """When the next node fails or comes back; None where none ever does."""
        return self._due[0][0] if self._due else None

    def take(self, now: int) -> Iterator[types.Node]:
        """The nodes that fail or come back now, as they are from now on."""
        while self._due and self._due[0][0] == now:
            _, i, back, until = heapq.heappop(self._due)
            node = self._nodes[i]
            if back:
                self.down.discard(node.name)
                self._next_failure(i)
                yield node
            else:
                self.down.add(node.name)
                heapq.heappush(self._due, (until, i, True, until))
                yield replace(node, blocked=BROKEN)

    def _next_failure(self, i: int) -> None:
        for down, back in itertools.islice(self._moments[i], 1):
            heapq.heappush(self._due, (down, i, False, back))


def saved(work: int, *, saved_before: int, restarts: Restarts) -> int:
    """How much of a job's work is left after its node was lost, in the unit of ``work`` (thousandths of seconds).

    A checkpoint is written after each interval of work since the last time that the job's work was saved.
    """
    step = restarts.checkpoint_seconds * 1000
    return work - (work - saved_before) % step if step else work
