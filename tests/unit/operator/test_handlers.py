"""What is watched, and what of it is kept."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from fakes.builders import GPU, NAMESPACE, NodeBuilder, PodBuilder, a_job, a_node, a_pod
from fakes.machinery import Watch
from fakes.server import Connection, Server
from stowplan_operator import audit
from stowplan_operator.handlers import Watcher
from stowplan_operator.store import Store


def a_watcher(namespaces: tuple[str, ...]) -> Watcher:
    return Watcher(
        accelerator_resource=GPU,
        namespaces=namespaces,
        connection=lambda: kopf.ConnectionInfo(server="https://example"),
        on_change=lambda: None,
    )


MODES: dict[str, tuple[tuple[str, ...], bool]] = {
    "all namespaces": ((), True),
    "its namespace is listed": (("x", NAMESPACE), True),
    "its namespace is not listed": (("x",), False),
}


@pytest.mark.parametrize(("namespaces", "want"), MODES.values(), ids=MODES)
async def test_jobs_are_those_of_the_listed_namespaces(namespaces: tuple[str, ...], want: bool) -> None:
    assert bool(await a_watcher(namespaces)._index_job(body=a_job().body())) is want


CHANGES: dict[str, tuple[NodeBuilder | PodBuilder, str | None, bool]] = {
    "a heartbeat": (a_node().meta(resourceVersion="2"), "MODIFIED", False),
    "a cordon": (a_node().meta(resourceVersion="2").cordoned(), "MODIFIED", True),
    "lost devices": (a_node().meta(resourceVersion="2").gpus(3), "MODIFIED", True),
    "a node that is gone": (a_node(), "DELETED", True),
    "an annotation of a pod": (a_pod().meta(resourceVersion="2", annotations={"a": "b"}), "MODIFIED", False),
    "a pod that is bound": (a_pod().meta(resourceVersion="2").on("n1"), "MODIFIED", True),
    "a pod that leaves": (a_pod().meta(resourceVersion="2").deleting(), "MODIFIED", True),
    "a pod that is gone": (a_pod(), "DELETED", True),
}


@pytest.mark.parametrize(("later", "type", "want"), CHANGES.values(), ids=CHANGES)
async def test_only_what_a_cycle_sees_wakes_the_planner(
    later: NodeBuilder | PodBuilder, type: str | None, want: bool
) -> None:
    woken: list[None] = []
    watcher = Watcher(
        accelerator_resource=GPU,
        connection=lambda: kopf.ConnectionInfo(server="https://example"),
        on_change=lambda: woken.append(None),
    )
    tables: dict[str, dict[str, list[Any]]] = {"nodes": {}, "pods": {}, "jobs": {}, "priorities": {}, "queues": {}}
    watcher.store = Store(**tables, imposed={})
    is_node = isinstance(later, NodeBuilder)
    index = watcher._index_node if is_node else watcher._index_pod
    changed = watcher._node_changed if is_node else watcher._pod_changed
    for builder, kind in ((a_node() if is_node else a_pod(), None), (later, type)):
        woken.clear()
        if kind != "DELETED":
            found = await index(body=builder.body())
            tables["nodes" if is_node else "pods"] |= {uid: [view] for uid, view in found.items()}
        await changed(type=kind, body=builder.body())
        assert kind is not None or woken, "what is new is seen"
    assert bool(woken) is want


async def test_a_node_that_cannot_be_read_is_left_out_and_not_waited_for() -> None:
    watcher = a_watcher(())
    odd = a_node().allocatable(cpu="many").body()
    server = Server(lambda: 0.0)
    watcher.store = Watch(server).store
    server.create("nodes", odd)
    (body,) = server.all("nodes")
    assert await watcher._index_node(body=body) == {}
    await audit.wait_until_indexed(watcher.store, Connection(server), ())


@pytest.mark.parametrize("namespaces", [(), ("x",)], ids=["all namespaces", "listed namespaces"])
async def test_pods_of_all_namespaces_are_watched_since_they_take_room(
    namespaces: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    async def run(**options: Any) -> None:
        asked.update(options)

    monkeypatch.setattr(kopf, "operator", run)
    await a_watcher(namespaces).run()
    assert asked["clusterwide"] is True
    assert not asked.get("namespaces")


GONE: dict[str, tuple[PodBuilder, list[str]]] = {
    "a pod that had exited 0": (a_pod().of(a_job()).succeeded(), ["a-1-0"]),
    "a pod that ran": (a_pod().of(a_job()).running(), []),
    "a pod that had failed": (a_pod().of(a_job()).failed(), []),
    "somebody else's": (a_pod().succeeded(), []),
}


@pytest.mark.parametrize(("pod", "want"), GONE.values(), ids=GONE)
async def test_the_last_sight_of_a_finished_pod_is_kept(pod: PodBuilder, want: list[str]) -> None:
    watcher = a_watcher(())
    watcher.store = Watch(Server(lambda: 0.0)).store
    await watcher._pod_changed(type="DELETED", body=pod.body())
    assert [one.name for one in watcher.store.finished] == want
