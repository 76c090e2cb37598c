"""Limits that Kubernetes imposes whatever is planned: ResourceQuotas and PodDisruptionBudgets, as data.

``namespaces`` and ``budgets`` say what they mean for a plan. What must stay true: a limit speaks of pods
outside the snapshot only in its numbers; who counts under it is found from the snapshot's jobs.
"""

from __future__ import annotations

from dataclasses import dataclass

# What a ``NamespaceLimit`` counts where it counts pods.
COUNTS_PODS = "pods"


@dataclass(frozen=True, slots=True)
class DisruptionBudget:
    """A PodDisruptionBudget (``namespace/name``): so many of its pods may be stopped now, by whomever they are stopped.

    ``pods`` are those that it selects of running jobs, as (job id, number).
    """

    name: str
    allowed: int
    pods: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class NamespaceLimit:
    """What the jobs of a namespace may take together of one resource: ``name`` is the ResourceQuota that says so.

    ``resource`` is what the quota calls it (``requests.nvidia.com/gpu``); ``counts`` what of a pod counts, as
    ``Resources.items`` names it, or ``pods``. A pod that asks for nothing of it takes ``default``. ``hard`` is the
    limit, and ``used_by_others`` what is used of it by pods that belong to no placed job of the snapshot. Where it is
    ``mandatory``, a pod that takes nothing of it is refused. ``best_effort``: it counts pods only that ask for neither
    CPU nor memory, or only others; None: all.
    """

    name: str
    namespace: str
    resource: str
    counts: str
    hard: int
    used_by_others: int = 0
    default: int = 0
    mandatory: bool = False
    best_effort: bool | None = None
