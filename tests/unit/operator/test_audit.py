"""The indexes against a LIST."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from fakes.builders import NAMESPACE, a_job, a_node, a_pod
from fakes.machinery import Watch
from fakes.server import Connection, Server
from stowplan_operator import api, audit, imposed, kube


class Lists(Connection):
    """Notes what is listed; ``errors`` are raised first."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.asked: set[tuple[str, str | None]] = set()
        self.errors: list[Exception] = []

    async def list_keys(self, resource: str, namespace: str | None = None) -> dict[str, str]:
        if self.errors:
            raise self.errors.pop()
        self.asked.add((resource, namespace))
        return await super().list_keys(resource, namespace)


@pytest.fixture
def server() -> Server:
    server = Server(lambda: 0.0)
    server.create("nodes", a_node().body())
    server.create("pods", a_pod().meta(namespace="elsewhere").body())
    server.create(api.PLURAL, a_job().body())
    return server


def spy(monkeypatch: pytest.MonkeyPatch, watch: Watch) -> list[float]:
    """The watch catches up in the first pause."""
    pauses: list[float] = []

    async def sleep(seconds: float, *_: Any) -> None:
        pauses.append(seconds)
        if len(pauses) > 3:
            raise TimeoutError
        watch.deliver()

    monkeypatch.setattr(audit.asyncio, "sleep", sleep)
    return pauses


@pytest.mark.parametrize("namespaces", [(), (NAMESPACE,)], ids=["all namespaces", "listed namespaces"])
async def test_pods_of_all_namespaces_are_compared(namespaces: tuple[str, ...], server: Server) -> None:
    connection = Lists(server)
    await audit.wait_until_indexed(Watch(server).store, connection, namespaces)
    everywhere = {(kind, None) for kind in ("nodes", "pods", api.QUEUES, *imposed.KINDS)}
    assert connection.asked == {*everywhere, (api.PLURAL, namespaces[0] if namespaces else None)}


async def test_an_api_server_that_does_not_answer_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(server)
    pauses = spy(monkeypatch, watch)
    connection = Lists(server)
    connection.errors = [kube.ApiError(0, "Timeout", "no answer"), kube.ApiError(503, "ServiceUnavailable", "")]
    await audit.wait_until_indexed(watch.store, connection, ())
    assert len(pauses) == 2


async def test_what_it_may_not_list_is_an_error_at_once(server: Server) -> None:
    connection = Lists(server)
    connection.errors = [kube.ApiError(403, "Forbidden", "pods is forbidden")]
    with pytest.raises(kube.ApiError, match="pods is forbidden"):
        await audit.wait_until_indexed(Watch(server).store, connection, ())


async def test_without_the_crd_of_queues_there_are_none(server: Server) -> None:
    """Queues are optional: whoever applies CRDs himself may have an operator that knows more kinds than the cluster."""

    class Older(Lists):
        async def list_keys(self, resource: str, namespace: str | None = None) -> dict[str, str]:
            if resource == api.QUEUES:
                raise kube.ApiError(404, "NotFound", "the server could not find the requested resource")
            return await super().list_keys(resource, namespace)

    await audit.wait_until_indexed(Watch(server).store, Older(server), ())


async def test_objects_that_come_and_go_meanwhile_hold_up_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(server)
    pauses = spy(monkeypatch, watch)
    number = itertools.count()

    class Busy(Lists):
        async def list_keys(self, resource: str, namespace: str | None = None) -> dict[str, str]:
            """A new pod is in each LIST and not yet in the index."""
            if resource == "pods":
                server.create("pods", a_pod(f"new-{next(number)}").body())
            return await super().list_keys(resource, namespace)

    await audit.wait_until_indexed(watch.store, Busy(server), ())
    assert len(pauses) == 1


async def test_it_waits_for_the_watch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(server)
    server.change("nodes", "", "n1", lambda body: body["spec"].update(unschedulable=True))
    pauses = spy(monkeypatch, watch)
    await audit.wait_until_indexed(watch.store, Lists(server), ())
    assert len(pauses) == 1
