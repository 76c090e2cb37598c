"""What Kubernetes imposes on a namespace's pods: ResourceQuotas, LimitRanges, PodDisruptionBudgets, as watched. Pure.

Small frozen pictures like those of ``views``. What must stay true: a quantity that cannot be read limits nothing, and
is left to the API server; nothing here decides anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stowplan_operator import views

Amounts = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ResourceQuotaView:
    """A core/v1 ResourceQuota: limits as the quota controller has taken them up, what is used, and of which pods.

    ``scopes`` are (scope, operator, values), those without an operator as ``Exists``.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    spec: Amounts
    hard: Amounts
    used: Amounts
    scopes: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> ResourceQuotaView:
        """Read a core/v1 ResourceQuota."""
        meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        chosen = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
        scopes = [(scope, "Exists", ()) for scope in spec.get("scopes") or ()]
        scopes += [(one["scopeName"], one["operator"], tuple(one.get("values") or ())) for one in chosen]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta.get("resourceVersion", ""),
            spec=_amounts(spec.get("hard")),
            hard=_amounts(status.get("hard")),
            used=_amounts(status.get("used")),
            scopes=tuple(scopes),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class LimitRangeView:
    """A core/v1 LimitRange: what containers get that ask for nothing, as requests and as limits."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    requests: Amounts = ()
    limits: Amounts = ()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> LimitRangeView:
        """Read a core/v1 LimitRange. The API server has filled in what one of its defaults says for the others."""
        meta = body["metadata"]
        items = [one for one in (body.get("spec") or {}).get("limits") or () if one.get("type") == "Container"]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta.get("resourceVersion", ""),
            requests=_amounts({name: of for one in items for name, of in (one.get("defaultRequest") or {}).items()}),
            limits=_amounts({name: of for one in items for name, of in (one.get("default") or {}).items()}),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement of a label selector, as meta/v1 has it."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy it."""
        if self.operator in ("Exists", "DoesNotExist"):
            return (self.key in labels) is (self.operator == "Exists")
        is_named = labels.get(self.key) in self.values
        return is_named if self.operator == "In" else not is_named


@dataclasses.dataclass(frozen=True, slots=True)
class DisruptionBudgetView:
    """A policy/v1 PodDisruptionBudget: the pods that it selects, and how many of them may be stopped now.

    ``selector`` is None where it selects none, and empty where it selects all pods of its namespace.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    selector: tuple[Requirement, ...] | None
    allowed: int

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> DisruptionBudgetView:
        """Read a policy/v1 PodDisruptionBudget. Until its controller has taken it up nothing may be stopped."""
        meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        is_seen = int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0)
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta.get("resourceVersion", ""),
            selector=_selector(spec.get("selector")),
            allowed=int(status.get("disruptionsAllowed") or 0) if is_seen else 0,
        )

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod of its namespace with these labels is one of its own."""
        return self.selector is not None and all(one.holds(labels) for one in self.selector)


def _selector(selector: Mapping[str, Any] | None) -> tuple[Requirement, ...] | None:
    if selector is None:
        return None
    wanted = (selector.get("matchLabels") or {}).items()
    found = [Requirement(key, "In", (value,)) for key, value in wanted]
    for one in selector.get("matchExpressions") or ():
        found.append(Requirement(one["key"], one["operator"], tuple(one.get("values") or ())))
    return tuple(found)


def _amounts(amounts: Mapping[str, Any] | None) -> Amounts:
    return tuple(sorted((name, str(amount)) for name, amount in (amounts or {}).items()))


View = ResourceQuotaView | LimitRangeView | DisruptionBudgetView


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind that is watched: its API group and version, and how one is read."""

    group: str
    version: str
    read: Callable[[Mapping[str, Any]], View]


# By plural, as the API server and kopf name them.
KINDS = {
    "resourcequotas": Kind("", "v1", ResourceQuotaView.from_body),
    "limitranges": Kind("", "v1", LimitRangeView.from_body),
    "poddisruptionbudgets": Kind("policy", "v1", DisruptionBudgetView.from_body),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Imposed:
    """All of it at one moment."""

    quotas: tuple[ResourceQuotaView, ...] = ()
    ranges: tuple[LimitRangeView, ...] = ()
    budgets: tuple[DisruptionBudgetView, ...] = ()

    @classmethod
    def of(cls, found: Iterable[View]) -> Imposed:
        """These, in the order of their names."""
        ranked = sorted(found, key=lambda one: (one.namespace, one.name))
        return cls(
            quotas=tuple(one for one in ranked if isinstance(one, ResourceQuotaView)),
            ranges=tuple(one for one in ranked if isinstance(one, LimitRangeView)),
            budgets=tuple(one for one in ranked if isinstance(one, DisruptionBudgetView)),
        )


def default_of(ranges: Iterable[LimitRangeView], *, namespace: str, resource: str, limits: bool) -> str:
    """What a container gets that asks for nothing of a resource; empty where it gets nothing."""
    for one in ranges:
        found = dict(one.limits if limits else one.requests).get(resource, "")
        if one.namespace == namespace and found:
            return found
    return ""


def amount_of(text: str, resource: str, *, round_up: bool) -> int | None:
    """A quantity in thousandths of a CPU, MiB of memory or pieces; None where it cannot be read."""
    kind = resource if resource in ("cpu", "memory") else "pieces"
    try:
        parsed = views.parse_resources({kind: text}, accelerator="pieces", round_up=round_up)
    except ValueError:
        return None
    return {"cpu": parsed.cpu_milli, "memory": parsed.memory_mib}.get(kind, parsed.accelerators)
