"""What is watched, and what of it is kept."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from fakes.builders import GPU, NAMESPACE, a_job, a_node
from fakes.machinery import Watch
from fakes.server import Connection, Server
from stowplan_operator import audit
from stowplan_operator.handlers import Watcher


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
