"""Children of jobs: create and delete them until they match the placements.

A job whose children the API server refuses (quota, Pod Security) is tried again ever later, and in small numbers: a
gang of thousands of pods must not be sent anew in every cycle.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from stowplan_operator import api, kube, lifecycle, podspec, states, views
from stowplan_operator.settings import Settings
from stowplan_operator.store import Store
from stowplan_operator.writer import Writer

_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 16.0
# So many pods of a job are created before it is looked whether one was refused.
_PODS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class _Refused:
    """Children of a job that the API server refused: not before ``until`` they are tried again."""

    until: float
    pause: float
    problem: str


class Children:
    """Matches pods, Services and NetworkPolicies with what statuses ask for."""

    def __init__(self, *, api_server: kube.KubeApi, store: Store, writer: Writer, clock: Callable[[], float]) -> None:
        self._kube = api_server
        self._store = store
        self._writer = writer
        self._clock = clock
        self._refused: dict[str, _Refused] = {}

    def forget_all_but(self, uids: Collection[str]) -> None:
        """Drop what is remembered of jobs that are gone."""
        self._refused = {uid: refused for uid, refused in self._refused.items() if uid in uids}

    def retry_at(self, uid: str) -> float | None:
        """When refused children of the job are tried again (Unix seconds); None where none were refused."""
        refused = self._refused.get(uid)
        return refused.until if refused else None

    async def match(self, state: states.JobState, settings: Settings) -> None:
        """Create and delete the job's pods until they are what its status asks for."""
        job, spec = state.job, state.spec
        if spec is None or job.deleting or state.skip:
            return
        for pod, grace in lifecycle.pods_to_delete(job, spec, state.pods):
            delete = functools.partial(self._kube.delete_pod, pod.namespace, pod.name, uid=pod.uid, grace_seconds=grace)
            await self._writer.write_child(state, "delete", "pods", delete)
        placement = job.status.get("placement")
        if placement is None or placement.get("startedAt") or api.phase_of(job.status).is_terminal:
            return
        existing = {pod.name for pod in state.pods}
        wanted = podspec.build_pods(job, spec, placement, settings=settings)
        finished = {str(rank) for rank in podspec.finished_ranks(placement)}
        missing = [
            body
            for name, body in wanted.items()
            if name not in existing and body["metadata"]["labels"][api.LABEL_RANK] not in finished
        ]
        if not missing:
            return
        refused = self._refused.get(job.uid)
        if refused and self._clock() < refused.until:
            state.problem = state.problem or refused.problem
            return
        await self._create_children(state, missing, settings, num_pods=len(wanted))
        if state.problem:
            pause = min(2 * refused.pause, _LONGEST_RETRY_SECONDS) if refused else _RETRY_SECONDS
            self._refused[job.uid] = _Refused(until=self._clock() + pause, pause=pause, problem=state.problem)
        else:
            self._refused.pop(job.uid, None)

    async def _create_children(
        self, state: states.JobState, pods: Sequence[dict[str, Any]], settings: Settings, *, num_pods: int
    ) -> None:
        if not await self._prepare(state, settings, num_pods=num_pods):
            return
        for some in itertools.batched(pods, _PODS_AT_ONCE):
            await gather(self._create_pod(state, body, settings) for body in some)
            if state.problem:
                return

    async def _prepare(self, state: states.JobState, settings: Settings, *, num_pods: int) -> bool:
        """Whether all is there that must be before any pod: torchrun's store listens from its first moment."""
        job = state.job
        children = [("networkpolicies", podspec.build_namespace_policy())] if settings.network_policy else []
        if num_pods > 1:
            children.append(("services", podspec.build_service(job)))
            if settings.network_policy:
                children.append(("networkpolicies", podspec.build_network_policy(job)))
        await gather(self._writer.ensure_child(state, kind, body) for kind, body in children)
        return not state.problem

    async def _create_pod(self, state: states.JobState, body: dict[str, Any], settings: Settings) -> None:
        answer = await self._writer.write_child(
            state, "create", "pods", lambda: self._kube.create("pods", state.job.namespace, body)
        )
        if answer is None:
            state.problem = state.problem or (
                f"pod {body['metadata']['name']} exists already and is not known to be of this job; if it is somebody "
                "else's, delete it or give the job another name"
            )
        else:
            pod = views.PodView.from_body(answer, accelerator=settings.accelerator_resource)
            self._store.pods.put(pod)
            state.pods.append(pod)


async def gather(writes: Iterable[Awaitable[object]]) -> None:
    """Run independent steps together and wait for all of them; then the first error, if there was one, goes up."""
    for outcome in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
