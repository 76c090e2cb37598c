"""Which nodes a job may use at all, before any question of room.

A node is eligible when it is not blocked, not avoided by the job, carries every label of
the job's selector, satisfies a term of its node affinity, is as safe (spot or not) as the
job asks, has no taint that the job does not tolerate, and is of an acceptable product.
What must stay true: these are the only reasons for which a node is left out, the same
functions serve the plan and its explanation, and ``checks`` does not use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stowplan_allocator import labels, types

NODE_LEVEL = "node"


@dataclass(frozen=True, slots=True)
class Profile:
    """The part of a job's wishes that looks at a node's labels, taints and safety; equal profiles share all work."""

    selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[types.Toleration, ...] = ()
    affinity: tuple[types.AffinityTerm, ...] = ()
    capacity_type: types.CapacityType = types.CapacityType.ANY

    @staticmethod
    def of(job: types.Job) -> Profile:
        """The profile of a job, in one normal form."""
        return Profile(
            tuple(sorted(set(job.node_selector))),
            tuple(dict.fromkeys(job.tolerations)),
            tuple(dict.fromkeys(job.node_affinity)),
            job.capacity_type,
        )

    @property
    def is_plain(self) -> bool:
        """Whether only taints can keep the profile's pods away from a node."""
        return not self.selector and not self.affinity and self.capacity_type is types.CapacityType.ANY

    def label_keys(self) -> set[str]:
        """The labels that the profile looks at."""
        return {key for key, _ in self.selector} | {one.key for term in self.affinity for one in term}


def missing_labels(node: types.Node, *, profile: Profile) -> tuple[tuple[str, str], ...]:
    """The selector's labels that the node does not carry."""
    return tuple((key, value) for key, value in profile.selector if node.labels.get(key) != value)


def has_affinity(node: types.Node, *, profile: Profile) -> bool:
    """Whether the node satisfies a term of the affinity; as in core/v1, a term without expressions matches no node."""
    if not profile.affinity:
        return True
    return any(term and all(one.matches(node.labels) for one in term) for term in profile.affinity)


def is_safe_enough(node: types.Node, *, profile: Profile) -> bool:
    """Whether the node is spot or on-demand as the job asks."""
    if profile.capacity_type is types.CapacityType.ANY:
        return True
    return node.spot is (profile.capacity_type is types.CapacityType.SPOT)


def untolerated_taints(node: types.Node, *, profile: Profile) -> tuple[types.Taint, ...]:
    """The node's taints that keep the job away."""
    return tuple(
        taint for taint in node.taints if not any(toleration.tolerates(taint) for toleration in profile.tolerations)
    )


def admits(node: types.Node, *, profile: Profile) -> bool:
    """Whether labels, taints and the kind of capacity let the profile's pods onto the node."""
    if profile.is_plain and not node.taints:
        return True
    return (
        not missing_labels(node, profile=profile)
        and has_affinity(node, profile=profile)
        and is_safe_enough(node, profile=profile)
        and not untolerated_taints(node, profile=profile)
    )


class Admission:
    """``admits`` for many nodes and profiles, each distinct pair of labels-and-taints and profile asked once."""

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self.profiles = tuple(profiles)
        self._keys = sorted({key for profile in self.profiles for key in profile.label_keys()})
        self._known: dict[tuple[object, ...], int] = {}

    def mask(self, node: types.Node) -> int:
        """The profiles that the node admits, as bits by position in ``profiles``."""
        kind = (node.taints, node.spot, *(node.labels.get(key) for key in self._keys))
        mask = self._known.get(kind)
        if mask is None:
            mask = sum(1 << i for i, profile in enumerate(self.profiles) if admits(node, profile=profile))
            self._known[kind] = mask
        return mask


def misconfiguration(job: types.Job, *, levels: Sequence[str]) -> str:
    """Why the job can never be planned, naming the field and the fix; empty when it can."""
    if job.num_pods < 1:
        return f"numNodes is {job.num_pods}; it must be at least 1"
    sizes = job.allowed_num_pods
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or job.num_pods not in sizes):
        listed = ", ".join(map(str, sizes))
        return f"the allowed sizes {listed} must ascend from at least 1 and contain numNodes, which is {job.num_pods}"
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
    return next((text for term in job.node_affinity for one in term if (text := _wrong_expression(one))), "")


def _wrong_expression(one: types.LabelExpression) -> str:
    """What is wrong with an affinity expression, by the rules of core/v1; empty where nothing is."""
    operators = types.LabelOperator
    if not one.key:
        return "nodeAffinity has an expression without a key; name a label"
    if one.operator in (operators.IN, operators.NOT_IN) and not one.values:
        return f'nodeAffinity "{one}" needs at least one value'
    if one.operator in (operators.EXISTS, operators.DOES_NOT_EXIST) and one.values:
        return f'nodeAffinity "{one}" takes no values; remove them'
    if one.operator in (operators.GT, operators.LT) and (
        len(one.values) != 1 or labels.integer_of(one.values[0]) is None
    ):
        return f'nodeAffinity "{one}" needs exactly one value, an integer'
    return ""
