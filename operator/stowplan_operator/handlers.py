"""kopf's part: watch and index. Handlers only note what changed and wake the planner.

No finalizers, timers, daemons or annotations: nothing here keeps an object from being deleted while the
operator is down. kopf fills all indexes before it calls the first handler. Watches are cluster-wide in the mode for
listed namespaces too, since pods of all namespaces take room on nodes; only jobs of other namespaces are left out.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kopf

from stowplan_operator import api, imposed, queueing, views
from stowplan_operator.store import Store, Table

logger = logging.getLogger(__name__)

# Bookmarks come about every 60 s; a watch that is silent for longer is dead (kopf keeps bookmarks to itself).
_INACTIVITY_TIMEOUT_SECONDS = 70.0


def connection_info(configuration: Any) -> kopf.ConnectionInfo:
    """The client library's address and credentials in kopf's form."""
    scheme, _, token = configuration.api_key.get("BearerToken", "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme.capitalize() or "Bearer" if token else None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


def _read[View: (views.NodeView, views.PodView, views.JobView, queueing.QueueView, imposed.View)](
    table: Table[View] | None, body: Mapping[str, Any], read: Callable[[], View]
) -> dict[str, View]:
    """The object for the index; nothing for one that cannot be read, which must not keep the operator from the rest."""
    meta = body["metadata"]
    try:
        return {meta["uid"]: read()}
    except Exception:
        logger.exception("%s %s cannot be read and is left out", body.get("kind"), meta.get("name"))
        if table is not None:
            table.leave_out(meta["uid"], meta["resourceVersion"])
        return {}


class Watcher:
    """Registers kopf's handlers on a registry of its own, and holds the store that they fill."""

    def __init__(
        self,
        *,
        accelerator_resource: str,
        namespaces: Iterable[str] = (),
        connection: Callable[[], kopf.ConnectionInfo],
        on_change: Callable[[], None],
        on_event: Callable[[str], None] = lambda resource: None,
    ) -> None:
        self.registry = kopf.OperatorRegistry()
        self.store: Store | None = None
        self.started = asyncio.Event()
        self._accelerator = accelerator_resource
        self._namespaces = frozenset(namespaces)
        self._connection = connection
        self._on_change = on_change
        self._on_event = on_event
        self._unchanged: set[str] = set()
        self._register()

    def _register(self) -> None:
        registry = self.registry
        jobs = (api.GROUP, api.VERSION, api.PLURAL)
        queues = (api.GROUP, api.VERSION, api.QUEUES)
        classes = ("scheduling.k8s.io", "v1", "priorityclasses")
        # kopf's type of a handler does not know of the indexes that it passes by name.
        kopf.on.startup(registry=registry, id="startup")(self._start)  # type: ignore[arg-type]
        kopf.on.login(registry=registry, id="login")(self._login)
        kopf.index("v1", "nodes", registry=registry, id="nodes")(self._index_node)
        kopf.index("v1", "pods", registry=registry, id="pods")(self._index_pod)
        kopf.index(*jobs, registry=registry, id="jobs")(self._index_job)
        kopf.index(*queues, registry=registry, id="queues")(self._index_queue)
        kopf.index(*classes, registry=registry, id="priorities")(self._index_priority)
        kopf.on.event("v1", "nodes", registry=registry, id="node")(self._node_changed)
        kopf.on.event("v1", "pods", registry=registry, id="pod")(self._pod_changed)
        kopf.on.event(*jobs, registry=registry, id="job")(self._job_changed)
        kopf.on.event(*queues, registry=registry, id="queue")(self._queue_changed)
        kopf.on.event(*classes, registry=registry, id="priority")(self._priority_changed)
        for plural, kind in imposed.KINDS.items():
            resource = (*([kind.group] if kind.group else []), kind.version, plural)
            kopf.index(*resource, registry=registry, id=plural)(functools.partial(self._index_limit, plural, kind))
            kopf.on.event(*resource, registry=registry, id=f"{plural}-event")(
                functools.partial(self._limit_changed, plural)
            )

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        return self._connection()

    async def _start(
        self,
        *,
        settings: kopf.OperatorSettings,
        nodes: Mapping[str, Iterable[views.NodeView]],
        pods: Mapping[str, Iterable[views.PodView]],
        jobs: Mapping[str, Iterable[views.JobView]],
        priorities: Mapping[str, Iterable[views.PriorityClass]],
        queues: Mapping[str, Iterable[queueing.QueueView]],
        **indexes: Any,
    ) -> None:
        settings.posting.enabled = False
        settings.watching.inactivity_timeout = _INACTIVITY_TIMEOUT_SECONDS
        limits = {plural: indexes[plural] for plural in imposed.KINDS}
        self.store = Store(nodes=nodes, pods=pods, jobs=jobs, priorities=priorities, queues=queues, imposed=limits)
        self.started.set()

    async def _index_node(self, *, body: Mapping[str, Any], **_: Any) -> dict[str, views.NodeView]:
        table = self.store.nodes if self.store else None
        found = _read(table, body, lambda: views.NodeView.from_body(body, accelerator=self._accelerator))
        self._note_whether_new(table, found)
        return found

    async def _index_pod(self, *, body: Mapping[str, Any], **_: Any) -> dict[str, views.PodView]:
        table = self.store.pods if self.store else None
        found = _read(table, body, lambda: views.PodView.from_body(body, accelerator=self._accelerator))
        self._note_whether_new(table, found)
        return found

    def _note_whether_new[View: (views.NodeView, views.PodView)](
        self, table: Table[View] | None, found: Mapping[str, View]
    ) -> None:
        """A node's heartbeat, or a pod's change that nobody here looks at, is no reason for a cycle."""
        for uid, view in found.items():
            if table is not None and table.shows(view):
                self._unchanged.add(uid)
            else:
                self._unchanged.discard(uid)

    def _is_news(self, type: str | None, body: Mapping[str, Any]) -> bool:
        """Whether the event that was just indexed changes what a cycle sees. Each answer is given once."""
        uid = body["metadata"]["uid"]
        unchanged = uid in self._unchanged
        self._unchanged.discard(uid)
        return type == "DELETED" or not unchanged

    async def _index_job(self, *, body: Mapping[str, Any], **_: Any) -> dict[str, views.JobView]:
        if not self._is_ours(body):
            return {}
        table = self.store.jobs if self.store else None
        return _read(table, body, lambda: views.JobView.from_body(body))

    def _is_ours(self, job: Mapping[str, Any]) -> bool:
        return not self._namespaces or job["metadata"]["namespace"] in self._namespaces

    async def _index_queue(self, *, body: Mapping[str, Any], **_: Any) -> dict[str, queueing.QueueView]:
        table = self.store.queues if self.store else None
        return _read(table, body, lambda: queueing.QueueView.from_body(body))

    async def _index_limit(
        self, plural: str, kind: imposed.Kind, *, body: Mapping[str, Any], **_: Any
    ) -> dict[str, imposed.View]:
        table = self.store.limits[plural] if self.store else None
        return _read(table, body, lambda: kind.read(body))

    async def _limit_changed(self, plural: str, **_: Any) -> None:
        self._on_event(plural)
        self._on_change()

    async def _index_priority(self, *, body: Mapping[str, Any], **_: Any) -> dict[str, views.PriorityClass]:
        return {body["metadata"]["name"]: views.PriorityClass.from_body(body)}

    async def _node_changed(self, *, type: str | None, body: Mapping[str, Any], **_: Any) -> None:
        self._on_event("nodes")
        if self._is_news(type, body):
            self._on_change()

    async def _pod_changed(self, *, type: str | None, body: Mapping[str, Any], **_: Any) -> None:
        if self.store is not None:
            meta = body["metadata"]
            self.store.pods.observed(meta["uid"], meta["resourceVersion"], deleted=type == "DELETED")
            if type == "DELETED":
                for view in _read(
                    None, body, lambda: views.PodView.from_body(body, accelerator=self._accelerator)
                ).values():
                    self.store.pod_deleted(view)
        self._on_event("pods")
        if self._is_news(type, body):
            self._on_change()

    async def _job_changed(self, *, type: str | None, body: Mapping[str, Any], **_: Any) -> None:
        if not self._is_ours(body):
            return
        if self.store is not None:
            meta = body["metadata"]
            self.store.jobs.observed(meta["uid"], meta["resourceVersion"], deleted=type == "DELETED")
        self._on_event(api.PLURAL)
        self._on_change()

    async def _queue_changed(self, *, type: str | None, body: Mapping[str, Any], **_: Any) -> None:
        if self.store is not None:
            meta = body["metadata"]
            self.store.queues.observed(meta["uid"], meta["resourceVersion"], deleted=type == "DELETED")
        self._on_event(api.QUEUES)
        self._on_change()

    async def _priority_changed(self, **_: Any) -> None:
        self._on_event("priorityclasses")
        self._on_change()

    async def run(self) -> None:
        """Watch until cancelled."""
        logging.getLogger("kopf").setLevel(logging.WARNING)
        await kopf.operator(registry=self.registry, clusterwide=True, standalone=True, settings=kopf.OperatorSettings())
