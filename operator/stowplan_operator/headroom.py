"""What ResourceQuotas leave to jobs, and PodDisruptionBudgets let be stopped, for the allocator. Pure.

The API server lets a pod in while ``status.used`` and what it takes stay within ``status.hard``. ``used`` counts every
pod from the moment in which it was let in until it has ended or is gone, so Terminating pods count. What others use is
``used`` less our own pods, which count through their jobs' placements, whether they exist yet or not. It lags behind
the pods that are seen when some were created just now, so it is never less than what is seen of others.

Counted are cpu, memory, pods, huge pages and extended resources, with ``requests.…``, ``limits.…`` and ``count/pods``.
Pods of TrainingJobs carry no CPU limit, no activeDeadlineSeconds, and the chart's PriorityClass: a quota whose scopes
do not match such pods is none of theirs. What must stay true: a quota that is not understood is left to the API server,
which refuses the pods; memory is counted in whole MiB, and rounding refuses no job that the API server would let in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from stowplan_allocator import types
from stowplan_operator import imposed, views
from stowplan_operator.imposed import Imposed, ResourceQuotaView
from stowplan_operator.settings import Settings

# Of these a pod must ask for some where a quota limits them, or it is refused.
_MANDATORY = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_BASE = {"cpu": "cpu_milli", "memory": "memory_mib"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Meter:
    """What a quota's resource counts: of a pod's amounts ``counts``; ``base`` is the resource without its prefix."""

    counts: str
    base: str
    is_limit: bool = False

    def of(self, pod: views.PodView, *, default: int) -> int:
        """What one pod that is seen takes; of a limit, at least."""
        if self.counts == types.COUNTS_PODS:
            return 1
        return dict(pod.requests.items()).get(self.counts, 0) or default


def namespace_limits(
    found: Imposed,
    pods: Iterable[views.PodView],
    *,
    is_counted: Callable[[views.PodView], bool],
    namespaces: Collection[str] | None,
    rounded: Mapping[str, int],
    settings: Settings,
) -> tuple[types.NamespaceLimit, ...]:
    """The limits on the jobs of these namespaces, or of all.

    ``is_counted`` says of a pod whether it counts through a placed job, ``rounded`` how many MiB more than they ask for
    the jobs of a namespace are given (``rounding``).
    """
    quotas = [one for one in found.quotas if namespaces is None or one.namespace in namespaces]
    if not quotas:
        return ()
    there: dict[str, list[tuple[views.PodView, bool]]] = {quota.namespace: [] for quota in quotas}
    for pod in pods:
        if pod.namespace in there:
            there[pod.namespace].append((pod, is_counted(pod)))
    return tuple(
        limit
        for quota in quotas
        for limit in _limits(
            quota, found, there[quota.namespace], rounded=rounded.get(quota.namespace, 0), settings=settings
        )
    )


def disruption_budgets(
    found: Imposed, pods: Iterable[views.PodView], *, placed: Mapping[str, int]
) -> tuple[types.DisruptionBudget, ...]:
    """The budgets on pods of placed jobs, given with their attempts by UID.

    Our pods that are on their way out are taken off what is allowed for as long as they are there, whether the budget's
    status knows of them or not: it may lag behind.
    """
    if not found.budgets:
        return ()
    ours: dict[str, list[views.PodView]] = {}
    for pod in pods:
        if pod.managed and not pod.is_terminal:
            ours.setdefault(pod.namespace, []).append(pod)
    limits = []
    for budget in found.budgets:
        selected: dict[str, int] = {}
        on_their_way = 0
        for pod in ours.get(budget.namespace, ()):
            if not budget.selects(pod.labels):
                continue
            if placed.get(pod.owner_uid) == pod.attempt and not pod.deleting_since:
                selected[pod.owner_uid] = selected.get(pod.owner_uid, 0) + 1
            else:
                on_their_way += 1
        if selected:
            name = f"{budget.namespace}/{budget.name}"
            left = max(budget.allowed - on_their_way, 0)
            limits.append(types.DisruptionBudget(name, left, tuple(sorted(selected.items()))))
    return tuple(limits)


def rounding(asked: Iterable[tuple[str, int, object]]) -> dict[str, int]:
    """MiB by namespace by which jobs' memory was rounded up at most: of each its namespace, pods and memory per pod."""
    found: dict[str, int] = {}
    for namespace, num_pods, memory in asked:
        less, more = (imposed.amount_of(str(memory or 0), "memory", round_up=up) for up in (False, True))
        if less != more:
            found[namespace] = found.get(namespace, 0) + num_pods
    return found


def _limits(
    quota: ResourceQuotaView,
    found: Imposed,
    pods: Sequence[tuple[views.PodView, bool]],
    *,
    rounded: int,
    settings: Settings,
) -> Iterator[types.NamespaceLimit]:
    covers, best_effort = _covers(quota, found, settings=settings)
    if not covers:
        return
    used, status = dict(quota.used), dict(quota.hard)
    for resource, text in quota.spec:
        meter = _meter(resource, settings=settings)
        if meter is None:
            continue
        hard = _least(meter.base, text, status.get(resource))
        if hard is None:
            continue
        given = imposed.default_of(found.ranges, namespace=quota.namespace, resource=meter.base, limits=meter.is_limit)
        default = (imposed.amount_of(given, meter.base, round_up=True) or 0) if given else 0
        ours = others = 0
        for pod, is_ours in pods:
            if is_ours and not pod.is_terminal:
                if best_effort is None or best_effort is not bool(pod.requests.cpu_milli or pod.requests.memory_mib):
                    ours += meter.of(pod, default=default)
            elif not quota.scopes and (not pod.is_terminal or resource == "count/pods"):
                others += meter.of(pod, default=0)
        total = imposed.amount_of(used.get(resource, "0"), meter.base, round_up=True) or 0
        yield types.NamespaceLimit(
            name=quota.name,
            namespace=quota.namespace,
            resource=resource,
            counts=meter.counts,
            hard=hard + (rounded if meter.base == "memory" else 0),
            used_by_others=max(total - ours, others),
            default=default,
            mandatory=resource in _MANDATORY,
            best_effort=best_effort,
        )


def _least(base: str, spec: str, status: str | None) -> int | None:
    """The limit that the API server goes by is the one in the status; a new one in the spec counts where it is less."""
    amounts = [imposed.amount_of(text, base, round_up=False) for text in (spec, status) if text is not None]
    known = [amount for amount in amounts if amount is not None]
    return min(known) if known else None


def _meter(resource: str, *, settings: Settings) -> _Meter | None:
    """How a quota's resource is counted; None where pods of TrainingJobs take nothing of it, or nobody knows."""
    if resource in ("pods", "count/pods"):
        return _Meter(types.COUNTS_PODS, resource)
    prefix, _, base = resource.rpartition(".") if resource.count(".") == 1 and "/" not in resource else ("", "", "")
    if resource in _BASE:
        prefix, base = "requests", resource
    if prefix in ("requests", "limits") and base in _BASE:
        # Our pods' memory limit is their request; CPU is not limited.
        counts = "" if prefix == "limits" and base == "cpu" else _BASE[base]
        return _Meter(counts, base, is_limit=prefix == "limits")
    if resource.startswith("requests.") and "/" in resource:
        name = resource.removeprefix("requests.")
        return _Meter("accelerators" if name == settings.accelerator_resource else name, name)
    if resource.removeprefix("requests.").startswith("hugepages-"):
        name = resource.removeprefix("requests.")
        return _Meter(name, name)
    return None


def _covers(quota: ResourceQuotaView, found: Imposed, *, settings: Settings) -> tuple[bool, bool | None]:
    """Whether pods of TrainingJobs are in the quota's scopes; then whether only those that ask for no CPU and memory.

    The latter is None where all are.
    """
    best_effort: bool | None = None
    for scope, operator, values in quota.scopes:
        if scope == "NotTerminating":
            continue
        if scope == "PriorityClass":
            if not _selects(operator, values, name=settings.priority_class_name):
                return False, None
        elif scope in ("BestEffort", "NotBestEffort"):
            wanted = scope == "BestEffort"
            has_defaults = any(
                one.namespace == quota.namespace and (one.requests or one.limits) for one in found.ranges
            )
            if has_defaults and wanted:
                return False, None
            best_effort = None if has_defaults else wanted
        else:  # Terminating, CrossNamespacePodAffinity: not ours; others do not select pods.
            return False, None
    return True, best_effort


def _selects(operator: str, values: Sequence[str], *, name: str) -> bool:
    if operator == "In":
        return name in values
    if operator == "NotIn":
        return name not in values
    return bool(name) is (operator == "Exists")
