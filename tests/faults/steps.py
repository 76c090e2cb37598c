"""What flows are written in: one line for each thing that a user or the cluster does, or that a user would see.

Nothing here looks at the operator, so a flow is the same whatever happens to it meanwhile.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable
from typing import Any

from world.client import MERGE, RefusedError, jobs_path, pods_path, queues_path
from world.cluster import HELD, PRODUCT, World, training_job

_SECONDS = 60.0


def summary(checkpoint_step: int) -> str:
    """What our trainer leaves in the termination message: its last step, and the last step that it has committed."""
    return json.dumps({"stowplan": {"step": checkpoint_step + 3, "checkpointStep": checkpoint_step}})


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """One flow's hands and eyes in a namespace of its own; ``upgrade`` replaces the operator by a later version."""

    world: World
    namespace: str
    upgrade: Callable[[], None] = lambda: None

    def create(self, name: str, **job: Any) -> None:
        """Submit a job (see ``training_job``)."""
        self.world.create(self.namespace, training_job(name, **job))

    def queue(self, name: str, *, parent: str = "", owns: int | None = None) -> str:
        """Make a Queue for this namespace alone, owning so many accelerators; its name."""
        spec = {
            "namespaces": [self.namespace],
            **({"parent": parent} if parent else {}),
            **({} if owns is None else {"quotas": [{"product": PRODUCT, "nominal": owns}]}),
        }
        full = f"{self.namespace}-{name}"
        body = {"apiVersion": "stowplan.dev/v1alpha1", "kind": "Queue", "metadata": {"name": full}, "spec": spec}
        self.world.client.must("POST", queues_path(), body)
        return full

    def sees_queue(self, name: str, **status: object) -> None:
        """Wait until the Queue's status says so."""

        def holds() -> bool:
            told = self.world.history.now("queues").get(name, {}).get("status") or {}
            return status.items() <= told.items()

        self.world.wait(f"queue {name} says {status}", holds, seconds=_SECONDS)

    def delete_queues(self, *names: str) -> None:
        """Delete them, and wait until they are gone."""
        for name in names:
            self.world.client.must("DELETE", queues_path(name))
        self.world.wait("the queues are gone", lambda: not set(names) & set(self.world.history.now("queues")))

    def edit(self, name: str, **spec: object) -> None:
        """Change its spec."""
        self.world.edit(self.namespace, name, **spec)

    def is_refused(self, name: str, **spec: object) -> None:
        """A change of its spec that the API server must refuse."""
        try:
            self.edit(name, **spec)
        except RefusedError:
            return
        raise AssertionError(f"{spec} was not refused")

    def is_current(self, name: str) -> None:
        """Wait until the status speaks of the spec as it is."""

        def holds() -> bool:
            job = self.world.job(self.namespace, name)
            return bool(job["status"].get("observedGeneration") == job["metadata"]["generation"])

        self.world.wait(f"the status of {name} is current", holds, seconds=_SECONDS)

    def sees(self, name: str, phase: str, *, attempt: int | None = None, reason: str = "") -> None:
        """Wait until the job's status says so."""

        def holds() -> bool:
            status = self.world.status(self.namespace, name)
            return (
                status.get("phase") == phase
                and attempt in (None, status.get("attempt"))
                and reason in ("", status.get("reason"))
            )

        number = "" if attempt is None else f" in attempt {attempt}"
        because = f" because of {reason}" if reason else ""
        self.world.wait(f"{name} is {phase}{number}{because}", holds, seconds=_SECONDS)

    def sees_checkpoint(self, name: str, step: int) -> None:
        """Wait until the status knows of this checkpoint."""

        def holds() -> bool:
            progress = self.world.status(self.namespace, name).get("progress") or {}
            return bool(progress.get("checkpointStep") == step)

        self.world.wait(f"{name} has a checkpoint of step {step}", holds, seconds=_SECONDS)

    def tell_progress(self, name: str, *, attempt: int, step: int) -> None:
        """As if rank 0 had told of its steps, and of a checkpoint: kwok's pods serve no metrics."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = {"attempt": attempt, "firstStep": 1, "step": step, "checkpointStep": step, "checkpointTime": now}
        path = f"{jobs_path(self.namespace, name)}/status"
        self.world.client.must("PATCH", path, {"status": {"progress": told}}, kind=MERGE)

    def sees_no_pods(self, *, living: bool = False) -> None:
        """Wait until no pod is left; with ``living``, until none runs or may still run."""

        def holds() -> bool:
            pods = self.world.pods(self.namespace).values()
            return not [pod for pod in pods if not living or pod["status"].get("phase") not in ("Succeeded", "Failed")]

        self.world.wait("no pod lives" if living else "its pods are gone", holds, seconds=_SECONDS)

    def sees_pods(self, *names: str) -> None:
        """Wait until exactly these pods are there."""
        self.world.wait(f"pods {names}", lambda: set(self.world.pods(self.namespace)) == set(names), seconds=_SECONDS)

    def end_pod(self, name: str, *, exit_code: int = 0, message: str = "the end of its log") -> None:
        """Its container ends."""
        self.world.end_pod(self.namespace, name, exit_code=exit_code, message=message)

    def succeed(self, name: str, *, attempt: int = 1, pods: int = 2, checkpoint: int = 0) -> None:
        """All its pods exit 0, and the job has succeeded."""
        for rank in range(pods):
            message = summary(checkpoint) if checkpoint and rank == 0 else ""
            self.end_pod(f"{name}-{attempt}-{rank}", message=message)
        self.sees(name, "Succeeded")

    def delete_pod(self, name: str) -> None:
        """A user deletes it."""
        self.world.delete_pod(self.namespace, name)

    def release(self, *names: str) -> None:
        """Pods that were held start."""
        for name in names:
            patch = {"metadata": {"annotations": {HELD: None}}}
            self.world.client.must("PATCH", pods_path(self.namespace, name), patch, kind=MERGE)

    def delete(self, name: str) -> None:
        """Delete the job, and wait until nothing is left of it."""
        self.world.delete(self.namespace, name)
        self.world.wait(f"{name} is gone", lambda: not self.world.job(self.namespace, name))
        self.sees_no_pods()

    def uids(self) -> dict[str, str]:
        """Which pods there are."""
        return {name: pod["metadata"]["uid"] for name, pod in self.world.pods(self.namespace).items()}
