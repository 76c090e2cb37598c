"""Says how queues stand, at the end of a cycle: their statuses, and the metrics.

A status is written only where ``queue_status`` has something new, and only if the Queue is still as it was read; one
that cannot be written stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from stowplan_allocator import types
from stowplan_operator import api, kube, queue_status, queueing, states, status
from stowplan_operator.metrics import Metrics
from stowplan_operator.store import Store

logger = logging.getLogger(__name__)


class QueueReporter:
    """Reports on behalf of one planner. ``guard`` raises, before any write, in a process that may no longer act."""

    def __init__(self, *, api_server: kube.KubeApi, store: Store, metrics: Metrics, guard: Callable[[], None]) -> None:
        self._kube = api_server
        self._store = store
        self._metrics = metrics
        self._guard = guard
        self._due: float | None = None

    @property
    def due_at(self) -> float | None:
        """When (Unix seconds) numbers that were held back may be written; None where there are none."""
        return self._due

    async def report(
        self,
        jobs: Sequence[states.JobState],
        plan: types.Plan,
        queues: queueing.Queues,
        *,
        product_label: str,
        now_seconds: float,
    ) -> None:
        """How the queues stand now. Without any Queue there is nothing to say."""
        self._due = None
        if not queues.doors:
            self._metrics.set_queues({})
            return
        capacity: dict[str, int] = {}
        for node in self._store.nodes:
            product = node.labels.get(product_label, "")
            capacity[product] = capacity.get(product, 0) + node.allocatable.accelerators
        found = queue_status.stand(jobs, plan, queues, capacity=capacity)
        self._metrics.set_queues(found)
        classes = self._store.priorities().keys()
        for view in list(self._store.queues):  # watches go on while a status is written
            if view.name not in queues.doors:
                continue  # made during this cycle: the next one knows it
            new, is_held = queue_status.derive(view, queues, found[view.name], classes=classes, now_seconds=now_seconds)
            await self._write(view, status.merge_patch(view.status, new))
            if is_held:
                due = queue_status.due_at(view)
                self._due = due if self._due is None else min(self._due, due)

    async def _write(self, view: queueing.QueueView, patch: queue_status.Json) -> None:
        if not patch:
            return
        self._guard()
        try:
            answer = await self._kube.patch_status(
                api.QUEUES, "", view.name, patch=patch, uid=view.uid, resource_version=view.resource_version
            )
        except kube.ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                logger.warning("queue %s: cannot write the status: %s", view.name, error)
            return
        self._metrics.count_api_write("patch", "queues/status")
        self._store.queues.put(queueing.QueueView.from_body(answer))
