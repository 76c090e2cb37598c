"""The rest of the cluster: kube-scheduler, kubelets, garbage collection, a watch with a lag that the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakes import builders, quotas
from fakes.server import Event, Json, Server, owner_uid
from stowplan_allocator import types
from stowplan_operator import api, imposed, queueing, views
from stowplan_operator.store import Store


def pinned_node(pod: Mapping[str, Any]) -> str:
    """The node that required affinity on metadata.name names."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", ())
    names = [one["values"] for term in terms for one in term["matchFields"] if one["key"] == "metadata.name"]
    return str(names[0][0]) if names else ""


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether the node's kubelet is there."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])


class Machinery:
    """Moves pods along, one stage with each ``step``. The switches hold a part of it back.

    The scheduler binds a pinned pod whether there is room or not, so that an accelerator that Stowplan gives twice
    really is taken twice; ``is_strict`` makes it count, as the real one does.
    """

    def __init__(self, server: Server, *, is_strict: bool = False) -> None:
        self.server = server
        self.is_strict = is_strict
        self.binds = True
        self.starts = True
        self.terminates = True
        self.collects = True

    def step(self) -> bool:
        """Whether anything changed."""
        before = len(self.server.events)
        quotas.count(self.server)
        if self.collects:
            self.collect_garbage()
        if self.terminates:
            self.terminate()
        if self.starts:
            self.start()
        if self.binds:
            self.bind()
        return len(self.server.events) > before

    def collect_garbage(self) -> None:
        """Children whose owner is gone go too; pods whose node is gone are removed by force."""
        alive = {job["metadata"]["uid"] for job in self.server.all(api.PLURAL)}
        for kind in ("services", "networkpolicies", "pods"):
            for body in self.server.all(kind):
                owner, meta = owner_uid(body), body["metadata"]
                if not owner or owner in alive:
                    continue
                if kind != "pods":
                    self.server.remove(kind, meta["namespace"], meta["name"])
                elif "deletionTimestamp" not in meta:
                    self.server.delete_pod(meta["namespace"], meta["name"])
        for pod in self.server.all("pods"):
            node = pod["spec"].get("nodeName")
            if node and self.server.get("nodes", "", node) is None:
                self.server.remove("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _pods_on_ready_nodes(self) -> list[Json]:
        ready = {node["metadata"]["name"] for node in self.server.all("nodes") if is_ready(node)}
        return [pod for pod in self.server.all("pods") if pod["spec"].get("nodeName") in ready]

    def terminate(self) -> None:
        for pod in self._pods_on_ready_nodes():
            if "deletionTimestamp" in pod["metadata"]:
                self.server.remove("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def start(self) -> None:
        now = views.format_time(self.server.clock())
        for pod in self._pods_on_ready_nodes():
            if pod["status"]["phase"] != "Pending" or "deletionTimestamp" in pod["metadata"]:
                continue

            def run(body: Json) -> None:
                state = {"name": body["spec"]["containers"][0]["name"], "state": {"running": {"startedAt": now}}}
                body["status"] |= {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [state]}

            self.server.change("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], run)

    def bind(self) -> None:
        for pod in self.server.all("pods"):
            if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                continue
            why_not = self._why_not(pod)

            def schedule(body: Json, why_not: str = why_not) -> None:
                if why_not:
                    condition = {"type": "PodScheduled", "status": "False"}
                    condition |= {"reason": "Unschedulable", "message": why_not}
                else:
                    body["spec"]["nodeName"] = pinned_node(body)
                    condition = {"type": "PodScheduled", "status": "True"}
                body["status"]["conditions"] = [condition]

            self.server.change("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], schedule)

    def _why_not(self, pod: Json) -> str:
        node = self.server.get("nodes", "", pinned_node(pod))
        if node is None or not is_ready(node) or node["spec"].get("unschedulable"):
            return "0/1 nodes are available: 1 node(s) were unschedulable"
        if self.is_strict:
            view = views.NodeView.from_body(node, accelerator=builders.GPU)
            wants = views.pod_requests(pod["spec"], accelerator=builders.GPU)
            if not (used_on(self.server, view.name) + wants).fits_in(view.allocatable):
                return "0/1 nodes are available: 1 Insufficient nvidia.com/gpu"
        return ""


def used_on(server: Server, node: str) -> Any:
    """What bound pods that have not ended take of a node."""
    total = types.Resources()
    for pod in server.all("pods"):
        if pod["spec"].get("nodeName") == node and pod["status"]["phase"] not in ("Succeeded", "Failed"):
            total += views.pod_requests(pod["spec"], accelerator=builders.GPU)
    return total


class Watch:
    """What kopf does: fills the indexes from events and tells the store what it has seen. Starts from a LIST."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._position = len(server.events)
        self._tables: dict[str, dict[str, tuple[Any, ...]]] = {
            kind: {} for kind in ("nodes", "pods", api.PLURAL, api.QUEUES, "priorityclasses", *imposed.KINDS)
        }
        self.store = Store(
            nodes=self._tables["nodes"],
            pods=self._tables["pods"],
            jobs=self._tables[api.PLURAL],
            priorities=self._tables["priorityclasses"],
            queues=self._tables[api.QUEUES],
            imposed={kind: self._tables[kind] for kind in imposed.KINDS},
        )
        for kind in self._tables:
            for body in server.all(kind):
                self._show(Event(kind, "ADDED", body))

    def deliver(self, *, until: int | None = None) -> None:
        """Show all events, or those before position ``until`` in the server's list."""
        end = len(self._server.events) if until is None else max(until, self._position)
        for event in self._server.events[self._position : end]:
            self._show(event)
        self._position = end

    @property
    def is_behind(self) -> bool:
        return self._position < len(self._server.events)

    def _show(self, event: Event) -> None:
        table = self._tables.get(event.kind)
        if table is None:
            return
        meta = event.body["metadata"]
        if event.kind == "priorityclasses":
            row: Any = views.PriorityClass.from_body(event.body)
            key = meta["name"]
        elif event.kind == "nodes":
            row, key = views.NodeView.from_body(event.body, accelerator=builders.GPU), meta["uid"]
        elif event.kind == "pods":
            row, key = views.PodView.from_body(event.body, accelerator=builders.GPU), meta["uid"]
        elif event.kind in imposed.KINDS:
            row, key = imposed.KINDS[event.kind].read(event.body), meta["uid"]
        elif event.kind == api.QUEUES:
            row, key = queueing.QueueView.from_body(event.body), meta["uid"]
        else:
            row, key = views.JobView.from_body(event.body), meta["uid"]
        if event.type == "DELETED":
            table.pop(key, None)
        else:
            table[key] = (row,)
        own = {"pods": self.store.pods, api.PLURAL: self.store.jobs, api.QUEUES: self.store.queues}.get(event.kind)
        if own is not None:
            own.observed(meta["uid"], meta["resourceVersion"], deleted=event.type == "DELETED")
        if event.kind == "pods" and event.type == "DELETED":
            self.store.pod_deleted(row)
