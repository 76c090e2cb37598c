"""Queues: who shares the cluster, and what each owns, may borrow and must lend.

Data only; ``quotas`` says what the numbers mean for a plan and ``fairness`` who is served
first. What must stay true: a queue stands in one tree; every amount is a whole number of
accelerators; what a snapshot's queues get wrong is told by name before anything is planned.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ANY_PRODUCT = "*"


class QueuePreemption(enum.StrEnum):
    """Whose places the jobs of a queue may take: of borrowers of its quota, of its own jobs of lower priority.

    ``LEAST_ATTAINED``: also of its own jobs of equal priority that have had much more (``problem.has_had_more``), where
    the line of the queue is ordered by that (``Job.order``, or the settings').
    """

    RECLAIM_LENT = "ReclaimLent"
    WITHIN_QUEUE = "WithinQueue"
    LEAST_ATTAINED = "LeastAttained"


@dataclass(frozen=True, slots=True)
class Quota:
    """Accelerators of one product: what the queue owns, and how many it may borrow and must lend (None: all).

    Product ``*`` stands for all products, taken together, that no queue of the tree names.
    """

    product: str
    nominal: int = 0
    borrowing_limit: int | None = None
    lending_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, and by its ``parent`` its place in a tree; ``weight_milli`` is in thousandths.

    ``max_running_jobs`` counts the jobs of the queue and all below it. ``max_run_seconds`` and ``default_priority``
    are for whoever makes the jobs: planning does not look at them. Without any ``preemption`` its jobs evict nobody.
    """

    name: str
    parent: str = ""
    weight_milli: int = 1000
    quotas: tuple[Quota, ...] = ()
    max_running_jobs: int | None = None
    max_accelerators_per_job: int | None = None
    max_run_seconds: int | None = None
    default_priority: int | None = None
    preemption: tuple[QueuePreemption, ...] = (QueuePreemption.RECLAIM_LENT, QueuePreemption.WITHIN_QUEUE)


def faults(queues: Sequence[Queue]) -> dict[str, str]:
    """What is wrong, by the queue's name; nothing for queues that can be planned with."""
    found: dict[str, str] = {}
    parents = {queue.name: queue.parent for queue in queues}
    names = [queue.name for queue in queues]
    for queue in queues:
        wrong = _fault(queue, parents=parents)
        if not wrong and names.count(queue.name) > 1:
            wrong = "there are two queues of this name; every name must be unique"
        if wrong:
            found[queue.name] = wrong
    return found


def _fault(queue: Queue, *, parents: dict[str, str]) -> str:
    if not queue.name:
        return "name is empty; the empty name is the default queue"
    if queue.parent and queue.parent not in parents:
        return f'parent "{queue.parent}" does not exist; create it or name another'
    above = queue.parent
    for _ in parents:
        if above == queue.name:
            return "it is an ancestor of itself; parents must form a tree"
        if not above:
            break
        above = parents.get(above, "")
    if queue.weight_milli < 1:
        return f"weight_milli is {queue.weight_milli}; a weight is at least 1"
    products = [quota.product for quota in queue.quotas]
    twice = sorted({product for product in products if products.count(product) > 1})
    if twice:
        return f'quotas name "{twice[0]}" twice; keep one of them'
    amounts = [
        ("max_running_jobs", queue.max_running_jobs),
        ("max_accelerators_per_job", queue.max_accelerators_per_job),
    ]
    for quota in queue.quotas:
        amounts += [
            (f'nominal of "{quota.product}"', quota.nominal),
            (f'borrowing_limit of "{quota.product}"', quota.borrowing_limit),
            (f'lending_limit of "{quota.product}"', quota.lending_limit),
        ]
    return _negative(amounts)


def _negative(amounts: Iterable[tuple[str, int | None]]) -> str:
    for what, amount in amounts:
        if amount is not None and amount < 0:
            return f"{what} is {amount}; it cannot be less than zero"
    return ""
