"""Which nodes a job may use at all, before any question of room.

A node is eligible when it is not blocked, not avoided by the job, carries every label of
the job's selector, has no taint that the job does not tolerate, and is of an acceptable
product. What must stay true: these are the only reasons for which a node is left out, the
same functions serve the plan and its explanation, and ``checks`` does not use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stowplan_allocator import types

NODE_LEVEL = "node"


@dataclass(frozen=True, slots=True)
class Profile:
    """The part of a job's wishes that looks at a node's labels and taints; equal profiles share all work."""

    selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[types.Toleration, ...] = ()

    @staticmethod
    def of(job: types.Job) -> Profile:
        """The profile of a job, in one normal form."""
        return Profile(tuple(sorted(set(job.node_selector))), tuple(dict.fromkeys(job.tolerations)))


def missing_labels(node: types.Node, *, profile: Profile) -> tuple[tuple[str, str], ...]:
    """The selector's labels that the node does not carry."""
    return tuple((key, value) for key, value in profile.selector if node.labels.get(key) != value)


def untolerated_taints(node: types.Node, *, profile: Profile) -> tuple[types.Taint, ...]:
    """The node's taints that keep the job away."""
    return tuple(
        taint for taint in node.taints if not any(toleration.tolerates(taint) for toleration in profile.tolerations)
    )


def admits(node: types.Node, *, profile: Profile) -> bool:
    """Whether labels and taints let the profile's pods onto the node."""
    if not profile.selector and not node.taints:
        return True
    return not missing_labels(node, profile=profile) and not untolerated_taints(node, profile=profile)


class Admission:
    """``admits`` for many nodes and profiles, each distinct pair of labels-and-taints and profile asked once."""

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self.profiles = tuple(profiles)
        self._keys = sorted({key for profile in self.profiles for key, _ in profile.selector})
        self._known: dict[tuple[object, ...], int] = {}

    def mask(self, node: types.Node) -> int:
        """The profiles that the node admits, as bits by position in ``profiles``."""
        kind = (node.taints, *(node.labels.get(key) for key in self._keys))
        mask = self._known.get(kind)
        if mask is None:
            mask = sum(1 << i for i, profile in enumerate(self.profiles) if admits(node, profile=profile))
            self._known[kind] = mask
        return mask


def misconfiguration(job: types.Job, *, levels: Sequence[str]) -> str:
    """Why the job can never be planned, naming the field and the fix; empty when it can."""
    if job.num_pods < 1:
        return f"numNodes is {job.num_pods}; it must be at least 1"
    negative = [name for name, amount in job.pod.items() if amount < 0]
    if negative:
        return f"resourcesPerNode asks for a negative amount of {negative[0]}; it must be zero or more"
    if job.topology is not None and job.topology.level not in (*levels, NODE_LEVEL):
        known = ", ".join((*levels, NODE_LEVEL))
        return f'topology.level "{job.topology.level}" is not a level of this cluster; use one of {known}'
    seen: set[str] = set()
    for choice in job.products:
        if choice.product in seen:
            return f'accelerators names product "{choice.product}" twice; name it once'
        if choice.relative_throughput_milli <= 0:
            return f'accelerators: relativeThroughput of "{choice.product}" must be greater than zero'
        seen.add(choice.product)
    return ""
