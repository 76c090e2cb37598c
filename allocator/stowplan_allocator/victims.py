"""The ways in which a running job gives room to another one: it leaves whole, or comes back with fewer pods.

What must stay true: a job that shrinks keeps a part of the nodes that it has, in whole slices, so that it stands
there as it must; it gives exactly what it does not keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from stowplan_allocator import types
from stowplan_allocator.problem import Path, Vector
from stowplan_allocator.stock import Take


@dataclass(frozen=True, slots=True)
class Victim:
    """A running job, what is lost, and what it gives back, by node index; it keeps ``size`` pods, ``kept``."""

    job: types.Job
    cost: int
    held: Mapping[int, Vector]
    size: int = 0
    kept: tuple[Take, ...] = ()


@dataclass(frozen=True, slots=True)
class Shrink:
    """A running job that keeps ``size`` of its pods, it is not said which.

    ``stands`` are its pods by node index, ``pod`` what one takes. It keeps whole slices of ``unit`` pods in every
    domain of ``domains``, which has that of each node.
    """

    job: types.Job
    cost: int
    size: int
    stands: Mapping[int, int]
    pod: Vector
    unit: int
    domains: Mapping[int, Path | int]

    @property
    def gives(self) -> int:
        """The pods that it gives up."""
        return sum(self.stands.values()) - self.size

    def by_domain(self) -> dict[Path | int, list[int]]:
        """Its nodes by domain."""
        found: dict[Path | int, list[int]] = {}
        for node in self.stands:
            found.setdefault(self.domains[node], []).append(node)
        return found

    def giving(self, given: Mapping[int, int]) -> Victim:
        """The way in which it gives up so many pods on these nodes."""
        held = {node: tuple(amount * pods for amount in self.pod) for node, pods in given.items() if pods}
        kept = tuple((node, pods - given.get(node, 0)) for node, pods in self.stands.items())
        return Victim(self.job, self.cost, held, self.size, tuple(take for take in kept if take[1]))

    def giving_first(self, rank: Callable[[int], tuple[float, ...]]) -> Victim:
        """The way in which the nodes that rank first are given up first, in whole slices."""
        left = self.gives
        given: dict[int, int] = {}
        parts = [sorted(nodes, key=rank) for nodes in self.by_domain().values()]
        for nodes in sorted(parts, key=lambda nodes: rank(nodes[0])):
            here = min(left, sum(self.stands[node] for node in nodes))
            here -= here % self.unit
            left -= here
            for node in nodes:
                given[node] = min(here, self.stands[node])
                here -= given[node]
        assert not left, "sizes differ by whole slices"
        return self.giving(given)


type Way = Victim | Shrink


def deepest[W: (Victim, Way)](ways: Iterable[W]) -> list[W]:
    """One way of each job, the one that keeps the least; in their order."""
    found: dict[str, W] = {}
    for way in ways:
        if way.job.id not in found or way.size < found[way.job.id].size:
            found[way.job.id] = way
    return list(found.values())
