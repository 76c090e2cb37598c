"""Variants of the operator: a later version of it, and ones that are broken on purpose to see the oracle go red.

A variant is a few lines that replace functions in the new process before the operator starts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

from stowplan_allocator import types
from stowplan_operator import app, kube, lifecycle, podspec, status

Json = dict[str, Any]
_VARIANTS: dict[str, Callable[[], None]] = {}


def apply(name: str) -> None:
    """Make this process that variant."""
    _VARIANTS[name]()


def _variant(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(change: Callable[[], None]) -> Callable[[], None]:
        _VARIANTS[name] = change
        return change

    return register


@_variant("later")
def _later_version() -> None:
    """An operator whose pods have another label, another variable and another grace period."""
    build = podspec.build_pods

    def build_later(*args: Any, **named: Any) -> dict[str, Json]:
        pods = build(*args, **named)
        for pod in pods.values():
            pod["metadata"]["labels"]["faults.example/version"] = "later"
            pod["spec"]["containers"][0].setdefault("env", []).append({"name": "LATER", "value": "1"})
            pod["spec"]["terminationGracePeriodSeconds"] = 7
        return pods

    podspec.build_pods = build_later


@_variant("places twice")
def _places_twice() -> None:
    """The allocator does not hear of what is taken already."""
    solve = app.PlannerWorker.plan

    async def plan(self: Any, snapshot: types.Snapshot, settings: types.Settings) -> types.Plan:
        empty = tuple(dataclasses.replace(node, available=node.allocatable) for node in snapshot.nodes)
        waiting = tuple(job for job in snapshot.jobs if job.placement is None)
        return await solve(self, dataclasses.replace(snapshot, nodes=empty, jobs=waiting), settings)

    app.PlannerWorker.plan = plan


@_variant("forgets leaving pods")
def _forgets_leaving_pods() -> None:
    """The next attempt is planned while pods of the last one still live."""
    is_plannable = lifecycle.is_plannable

    def plannable(job: Any, spec: Any, pods: Any, **named: Any) -> bool:
        return is_plannable(job, spec, (), **named)

    lifecycle.is_plannable = plannable


@_variant("creates before it writes")
def _creates_before_it_writes() -> None:
    """The status is written a little after the pods of its placement are created."""
    patch_status = kube.Kube.patch_status
    late: set[asyncio.Task[Any]] = set()

    async def patch(self: kube.Kube, kind: str, namespace: str, name: str, **named: Any) -> Json:
        if (named["patch"].get("placement") or {}).get("startedAt") or "placement" not in named["patch"]:
            return await patch_status(self, kind, namespace, name, **named)
        path = f"/apis/stowplan.dev/v1alpha1/namespaces/{namespace}/trainingjobs/{name}"
        job: Json = json.loads(await self.request("GET", path))
        job["status"] = {**(job.get("status") or {}), **named["patch"]}

        async def write() -> None:
            await asyncio.sleep(0.5)
            await patch_status(self, kind, namespace, name, **named)

        late.add(asyncio.create_task(write()))
        return job

    kube.Kube.patch_status = patch  # broken on purpose


@_variant("leaves pods behind")
def _leaves_pods_behind() -> None:
    """Pods that no status asks for are not deleted."""
    lifecycle.pods_to_delete = lambda *args, **named: []


@_variant("says Running too early")
def _says_running_too_early() -> None:
    """A gang counts as running as soon as it is placed."""
    derive = status.derive

    def too_early(*args: Any, **named: Any) -> Json:
        new = derive(*args, **named)
        return {**new, "phase": "Running"} if new["phase"] == "Starting" else new

    status.derive = too_early


@_variant("waits without a reason")
def _waits_without_a_reason() -> None:
    derive = status.derive

    def silent(*args: Any, **named: Any) -> Json:
        new = derive(*args, **named)
        return {**new, "reason": ""} if new["phase"] == "Pending" else new

    status.derive = silent


@_variant("forgets checkpoints")
def _forgets_checkpoints() -> None:
    """What a job has reached is dropped when it is suspended."""
    derive = status.derive

    def forgetful(*args: Any, **named: Any) -> Json:
        new = derive(*args, **named)
        if new["phase"] == "Suspended":
            new.pop("progress", None)
        return new

    status.derive = forgetful
