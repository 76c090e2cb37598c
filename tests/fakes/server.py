"""An API server in memory with the semantics that the operator relies on, and a connection to it that can crash.

Kept as the real one has them: resourceVersions that grow with every change, 409 for a stale one, for a wrong UID and
for a name that is taken; merge patches; no new version for a write that changes nothing; fields that the CRD lacks are
dropped (and noted, for a test to fail on); pods that are bound go away in two steps. Bodies are replaced, never
changed in place, so that a watch may keep them.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

import crd_schema
from fakes import quotas
from stowplan_operator import api, imposed, kube, views

Json = dict[str, Any]
Key = tuple[str, str]

KINDS = (
    *("nodes", "pods", api.PLURAL, api.QUEUES, "priorityclasses"),
    *("services", "networkpolicies", "events", "configmaps", *imposed.KINDS),
)
OPERATOR = "operator"


class Crash(BaseException):
    """The operator's process ends here, as by SIGKILL."""


@dataclass(frozen=True)
class Write:
    """A request to change something, by the operator; ``status`` is the HTTP status of the answer."""

    verb: str
    kind: str
    name: str
    status: int = 200

    def __str__(self) -> str:
        return f"{self.verb} {self.kind}/{self.name} -> {self.status}"


@dataclass(frozen=True)
class Event:
    """What a watch would show."""

    kind: str
    type: str
    body: Json


def apply_merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386, written from its text (the operator's ``merge_patch`` is tested against it)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply_merge_patch(result.get(name), value)
    return result


@functools.cache
def _status_validator(kind: str) -> Any:
    return jsonschema.Draft202012Validator(crd_schema.root_schema(kind)["properties"]["status"])


class Server:
    """The state of the cluster, and what ``kubectl`` and controllers do to it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.objects: dict[str, dict[Key, Json]] = {kind: {} for kind in KINDS}
        self.events: list[Event] = []
        self.writes: list[Write] = []
        self.complaints: list[str] = []
        self._version = 100

    # What everybody may do.

    def get(self, kind: str, namespace: str, name: str) -> Json | None:
        return self.objects[kind].get((namespace, name))

    def all(self, kind: str) -> list[Json]:
        return list(self.objects[kind].values())

    def create(self, kind: str, body: Json) -> Json:
        meta = body["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if key in self.objects[kind]:
            raise kube.ApiError(409, "AlreadyExists", f"{kind} {key[1]!r} already exists")
        new = copy.deepcopy(body)
        version = self._next_version()
        new["metadata"] |= {
            "uid": f"{kind}-{key[1]}-{version}",
            "creationTimestamp": views.format_time(self.clock()),
            "generation": 1,
        }
        if kind == "pods":
            new.setdefault("status", {}).setdefault("phase", "Pending")
            quotas.charge(self, new)
        return self._store(kind, key, new, "ADDED")

    def change(self, kind: str, namespace: str, name: str, change: Callable[[Json], None]) -> Json:
        """Change a copy of the object and put it in its place; a changed spec raises the generation."""
        old = self.objects[kind][namespace, name]
        new = copy.deepcopy(old)
        change(new)
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        return self._store(kind, (namespace, name), new, "MODIFIED")

    def remove(self, kind: str, namespace: str, name: str) -> None:
        body = self.objects[kind].pop((namespace, name))
        gone = copy.deepcopy(body)
        gone["metadata"]["resourceVersion"] = str(self._next_version())
        self.events.append(Event(kind, "DELETED", gone))

    def delete_pod(self, namespace: str, name: str, *, grace_seconds: int = 30) -> None:
        """At once where no kubelet has a say; else the kubelet removes it later."""
        pod = self.objects["pods"][namespace, name]
        if not pod["spec"].get("nodeName") or pod["status"]["phase"] in ("Succeeded", "Failed") or not grace_seconds:
            self.remove("pods", namespace, name)
            return

        def mark(body: Json) -> None:
            at = views.format_time(self.clock() + grace_seconds)
            if at < body["metadata"].get("deletionTimestamp", "9"):
                body["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace_seconds}

        self.change("pods", namespace, name, mark)

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    def _store(self, kind: str, key: Key, body: Json, event: str) -> Json:
        body["metadata"]["resourceVersion"] = str(self._next_version())
        self.objects[kind][key] = body
        self.events.append(Event(kind, event, body))
        return body

    # What the operator's requests do.

    def patch_status(self, kind: str, namespace: str, name: str, *, patch: Json, uid: str, version: str) -> Json:
        old = self.get(kind, namespace, name)
        if old is None:
            raise kube.ApiError(404, "NotFound", f"{kind} {name!r} not found")
        if (old["metadata"]["uid"], old["metadata"]["resourceVersion"]) != (uid, version):
            raise kube.ApiError(409, "Conflict", "the object has been modified")
        if not patch:
            self.complaints.append(f"an empty patch of the status of {name}")
        status = apply_merge_patch(old.get("status", {}), patch)
        for path in crd_schema.unknown_fields({"status": status}, crd_schema.root_schema(kind)):
            self.complaints.append(f"the CRD has no field {path}, which the operator wrote on {name}")
        for error in _status_validator(kind).iter_errors(status):
            self.complaints.append(f"{name}: {error.json_path}: {error.message}"[:300])
        if status == old.get("status", {}):
            self.complaints.append(f"a patch of the status of {name} that changes nothing")
        return self.change(kind, namespace, name, lambda body: body.update(status=status))


class Connection:
    """``kube.KubeApi`` for one operator process, which may crash before or after its k-th write.

    ``refuse`` may answer a request with an error; ``drop_answer`` says for which requests the answer is lost.
    """

    def __init__(self, server: Server, *, crash_at: int | None = None, crash_before: bool = False) -> None:
        self.server = server
        self.num_writes = 0
        self.is_dead = False
        self.refuse: Callable[[str, str, str], kube.ApiError | None] = lambda verb, kind, name: None
        self.on_write: Callable[[], None] = lambda: None
        self._crash_at = crash_at
        self._crash_before = crash_before

    async def _write(self, verb: str, kind: str, name: str, apply: Callable[[], Json | None]) -> Json | None:
        await asyncio.sleep(0)
        if self.is_dead:
            raise Crash
        self.num_writes += 1
        crashes = self.num_writes == self._crash_at
        if crashes and self._crash_before:
            self.is_dead = True
            raise Crash
        try:
            if error := self.refuse(verb, kind, name):
                raise error
            answer = apply()
        except kube.ApiError as error:
            self.server.writes.append(Write(verb, kind, name, error.status))
            raise
        self.server.writes.append(Write(verb, kind, name))
        self.on_write()
        if crashes:
            self.is_dead = True
            raise Crash
        return copy.deepcopy(answer)

    async def list_keys(self, resource: str, namespace: str | None = None) -> dict[str, str]:
        return {
            body["metadata"]["uid"]: body["metadata"]["resourceVersion"]
            for (where, _), body in self.server.objects[resource].items()
            if namespace in (None, where)
        }

    async def patch_status(
        self, kind: str, namespace: str, name: str, *, patch: Json, uid: str, resource_version: str
    ) -> Json:
        answer = await self._write(
            "patch",
            kind,
            name,
            lambda: self.server.patch_status(kind, namespace, name, patch=patch, uid=uid, version=resource_version),
        )
        assert answer is not None
        return answer

    async def delete_job(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        def apply() -> None:
            job = self.server.get(api.PLURAL, namespace, name)
            if job is None:
                return
            if (job["metadata"]["uid"], job["metadata"]["resourceVersion"]) != (uid, resource_version):
                raise kube.ApiError(409, "Conflict", "the precondition failed")
            self.server.remove(api.PLURAL, namespace, name)

        await self._write("delete", api.PLURAL, name, apply)

    async def create(self, kind: str, namespace: str, body: Json) -> Json:
        def apply() -> Json:
            meta = {**body["metadata"], "namespace": namespace}
            return self.server.create(kind, {**body, "metadata": meta})

        answer = await self._write("create", kind, body["metadata"]["name"], apply)
        assert answer is not None
        return answer

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int) -> None:
        def apply() -> None:
            pod = self.server.get("pods", namespace, name)
            if pod is None:
                return
            if pod["metadata"]["uid"] != uid:
                raise kube.ApiError(409, "Conflict", "the UID in the precondition is not the pod's")
            self.server.delete_pod(namespace, name, grace_seconds=grace_seconds)

        await self._write("delete", "pods", name, apply)

    async def read_child(self, kind: str, namespace: str, name: str) -> Json | None:
        await asyncio.sleep(0)
        return copy.deepcopy(self.server.get(kind, namespace, name))

    async def read_config_map(self, namespace: str, name: str) -> Json | None:
        await asyncio.sleep(0)
        if error := self.refuse("read", "configmaps", name):
            raise error
        return copy.deepcopy(self.server.get("configmaps", namespace, name))

    async def write_config_map(self, namespace: str, body: Json) -> Json:
        meta = body["metadata"]
        version = meta.get("resourceVersion")

        def apply() -> Json:
            if version is None:
                return self.server.create("configmaps", body)
            old = self.server.get("configmaps", namespace, meta["name"])
            if old is None:
                raise kube.ApiError(404, "NotFound", f"configmaps {meta['name']!r} not found")
            if old["metadata"]["resourceVersion"] != version:
                raise kube.ApiError(409, "Conflict", "the object has been modified")
            return self.server.change("configmaps", namespace, meta["name"], lambda one: one.update(data=body["data"]))

        answer = await self._write("update" if version else "create", "configmaps", meta["name"], apply)
        assert answer is not None
        return answer

    async def read_pod_metrics(self, namespace: str, name: str, *, port: int, timeout_seconds: float) -> str:
        raise kube.ApiError(404, "NotFound", "no metrics in this fake")


def owner_uid(body: Mapping[str, Any]) -> str:
    """The UID of the controlling owner, or nothing."""
    owners = body["metadata"].get("ownerReferences", ())
    return str(next((one["uid"] for one in owners if one.get("controller")), ""))
