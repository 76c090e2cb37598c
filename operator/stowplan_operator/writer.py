"""All writes of a cycle: statuses, children, Events; each refusal is said where the user looks.

A status is written only when it differs, and only if the job is still as it was read; the answer goes into the
store, so that the next cycle sees it before the watch does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stowplan_operator import api, deadlines, events, kube, status, views
from stowplan_operator.metrics import Metrics
from stowplan_operator.states import JobState
from stowplan_operator.store import Store

logger = logging.getLogger(__name__)


class Writer:
    """Writes on behalf of one planner. ``guard`` raises, before any write, in a process that may no longer act."""

    def __init__(
        self,
        *,
        api_server: kube.KubeApi,
        store: Store,
        metrics: Metrics,
        guard: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._kube = api_server
        self._guard = guard
        self._store = store
        self._metrics = metrics
        self._clock = clock

    async def write_status(self, state: JobState, new: Mapping[str, Any]) -> bool:
        """Write the difference, if there is any, on the condition that the job is still as it was read."""
        job = state.job
        patch = status.merge_patch(job.status, new)
        if not patch:
            return False
        self._guard()
        try:
            answer = await self._kube.patch_status(
                api.PLURAL, job.namespace, job.name, patch=patch, uid=job.uid, resource_version=job.resource_version
            )
        except kube.ApiError as error:
            state.skip, state.in_doubt = True, error.is_in_doubt
            if not (error.is_conflict or error.is_not_found):
                logger.warning("%s: cannot write the status: %s", job.key, error)
            return False
        self._metrics.count_api_write("patch", "trainingjobs/status")
        state.job = views.JobView.from_body(answer)
        self._store.jobs.put(state.job)
        if text := deadlines.raised(job.status, new):
            await self.tell(state.job, api.Condition.DEADLINE_AT_RISK.value, text, warning=True)
        return True

    async def tell(self, job: views.JobView, reason: str, message: str, *, warning: bool = False) -> None:
        """Write an Event about the job; one that cannot be written stops nothing."""
        body = events.build_event(job, reason, message, warning=warning, now_seconds=self._clock())
        self._guard()
        try:
            await self._kube.create("events", job.namespace, body)
        except kube.ApiError as error:
            logger.info("%s: no Event written: %s", job.key, error)

    async def ensure_child(self, state: JobState, kind: str, body: dict[str, Any]) -> None:
        """Create a Service or NetworkPolicy that the job needs unless it is there; one of another owner is a problem.

        That may be a deleted job of the same name: its child goes with it, and would leave the gang without. A body
        without owners is for all jobs of the namespace.
        """
        job, name = state.job, body["metadata"]["name"]
        try:
            there = await self._kube.read_child(kind, job.namespace, name)
        except kube.ApiError as error:
            state.problem = f"cannot read {kind}: {error.message or error.reason}"
            return
        if there is None:
            await self.write_child(state, "create", kind, lambda: self._kube.create(kind, job.namespace, body))
        elif "ownerReferences" in body["metadata"] and not any(
            owner.get("uid") == job.uid for owner in there["metadata"].get("ownerReferences") or ()
        ):
            state.problem = (
                f"{body['kind']} {name} exists already and does not belong to this job; it leaves by itself if a "
                "deleted job of the same name owned it, else delete it or give the job another name"
            )

    async def delete_job(self, job: views.JobView) -> None:
        """Delete a job whose time to live is over, if it is still as it was read."""
        self._guard()
        try:
            await self._kube.delete_job(job.namespace, job.name, uid=job.uid, resource_version=job.resource_version)
        except kube.ApiError as error:
            logger.warning("%s: cannot delete the finished job: %s", job.key, error)
            return
        self._metrics.count_api_write("delete", "trainingjobs")

    async def write_child(
        self, state: JobState, verb: str, resource: str, write: Callable[[], Awaitable[dict[str, Any] | None]]
    ) -> dict[str, Any] | None:
        """One write of a child; what exists already is fine, any other refusal is told in the job's status."""
        self._guard()
        try:
            answer = await write()
        except kube.ApiError as error:
            if error.is_conflict:
                return None
            logger.warning("%s: cannot %s %s: %s", state.job.key, verb, resource, error)
            state.problem = f"cannot {verb} {resource}: {error.message or error.reason}"
            return None
        self._metrics.count_api_write(verb, resource)
        return answer
