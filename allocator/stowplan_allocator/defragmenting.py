"""Which running jobs to move so that whole nodes become free, though nobody waits for them yet, and what that loses.

The measure is the number of slots: places of ``size`` accelerators on one node of a product, usually of a whole
node. Each step asks for one slot more than before: the cheapest moves after which a job of so many pods of that
size would fit (``moving``), so what is told of a step is proven as moves are. What must stay true: a step never
loses less than the one before it, as more slots contain fewer; steps that would lose more than the budget are
left out; nobody is moved by this module, and jobs that wait are not counted upon.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from stowplan_allocator import moving, types

# So many slots more are looked for at most.
MAX_STEPS = 4
_ID = "stowplan.dev/slots"


@dataclass(frozen=True, slots=True)
class Step:
    """So many slots ``more`` for these moves; ``bound``: no set of moves gives as many and loses less than that."""

    more: int
    moves: tuple[types.Move, ...]
    bound: int

    @property
    def cost(self) -> int:
        """What is lost, in accelerator-seconds."""
        return sum(move.cost for move in self.moves)


@dataclass(frozen=True, slots=True)
class Defragmentation:
    """Slots of one product: those free now, how many all free accelerators would make, and what moves give.

    ``cut`` says why no more steps were looked for; empty where moves cannot give more.
    """

    product: str
    size: int
    slots: int
    most: int
    steps: tuple[Step, ...]
    cut: str = ""

    @property
    def best(self) -> Step | None:
        """The step with the most slots per lost work, of equal ones the larger; None where moves give nothing."""
        return max(self.steps, key=lambda step: (step.more / max(step.cost, 1), step.more), default=None)


def defragment(
    snapshot: types.Snapshot, *, budget: int, settings: types.Settings | None = None, budget_seconds: float = 10.0
) -> tuple[Defragmentation, ...]:
    """For each product with accelerators what moves that lose at most ``budget`` accelerator-seconds make free."""
    settings = settings or types.Settings()
    deadline = time.monotonic() + budget_seconds
    nodes = [node for node in snapshot.nodes if not node.blocked and node.allocatable.accelerators > 0]
    products = sorted({node.product for node in nodes})
    free = _free(snapshot)
    found = []
    for number, product in enumerate(products):
        own = [node for node in nodes if node.product == product]
        size = max(node.allocatable.accelerators for node in own)
        room = [max(free[node.name], 0) for node in own]
        slots, most = sum(one // size for one in room), sum(room) // size
        until = time.monotonic() + (deadline - time.monotonic()) / (len(products) - number)
        steps, cut = [], ""
        search = _Search(snapshot, product=product, size=size, settings=settings, until=until)
        for step in search.steps(slots, most=most):
            if step.cost > budget:
                cut = f"the next one loses {step.cost} accelerator-seconds, more than {budget}"
                break
            steps.append(step)
        found.append(Defragmentation(product, size, slots, most, tuple(steps), cut or search.cut))
    return tuple(found)


class _Search:
    """Steps of one product, until the time (on the monotonic clock) is over; ``cut`` says if it was."""

    def __init__(
        self, snapshot: types.Snapshot, *, product: str, size: int, settings: types.Settings, until: float
    ) -> None:
        jobs = tuple(job for job in snapshot.jobs if job.placement is not None)
        # A slot is room and no job of a queue; what is reserved for others stays reserved.
        self._snapshot = replace(snapshot, jobs=tuple(replace(job, queue="") for job in jobs), queues=())
        self._product = product
        self._size = size
        self._settings = settings
        self._until = until
        self.cut = ""

    def steps(self, slots: int, *, most: int) -> Iterator[Step]:
        """One slot more each time."""
        for more in range(1, min(most - slots, MAX_STEPS) + 1):
            left = self._until - time.monotonic()
            if left <= 0:
                self.cut = "the time was over"
                return
            job = types.Job(
                _ID,
                _ID,
                slots + more,
                types.Resources(accelerators=self._size),
                products=(types.ProductChoice(self._product),),
                tolerations=tuple(
                    types.Toleration(taint.key, "Exists") for node in self._snapshot.nodes for taint in node.taints
                ),
            )
            asked = replace(self._snapshot, jobs=(*self._snapshot.jobs, job))
            found = moving.moves(asked, _ID, settings=replace(self._settings, time_limit_seconds=left))
            if found is None:
                return
            yield Step(more, found.moves, found.bound)
        if most - slots > MAX_STEPS:
            self.cut = f"no more than {MAX_STEPS} were looked for"


def _free(snapshot: types.Snapshot) -> dict[str, int]:
    free = {node.name: node.available.accelerators for node in snapshot.nodes}
    for job in snapshot.jobs:
        for share in job.placement.shares if job.placement is not None else ():
            if share.node in free:
                free[share.node] -= job.pod.accelerators * share.num_pods
    return free
