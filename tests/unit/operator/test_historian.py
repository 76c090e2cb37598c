"""The node history in its ConfigMap: what is read, when it is written, and what is made of refusals."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from fakes.builders import NOW
from fakes.server import Connection, Server
from stowplan_operator import historian, kube, node_history
from stowplan_operator.historian import KEY, NAME, Historian
from stowplan_operator.metrics import Metrics
from stowplan_operator.node_history import NodeHistory

WHERE = "stowplan-system"
NEW = NodeHistory(watched_since=int(NOW))
NEWER = NodeHistory(watched_since=int(NOW) + 1)


class Rig:
    """A server, and historians of processes that follow each other."""

    def __init__(self) -> None:
        self.server = Server(lambda: NOW)
        self.connection = Connection(self.server)
        self.metrics = Metrics(version="test")
        self.may_act = True
        self.historian = self.next_process()

    def next_process(self) -> Historian:
        return Historian(api_server=self.connection, namespace=WHERE, metrics=self.metrics, guard=self._guard)

    def _guard(self) -> None:
        if not self.may_act:
            raise RuntimeError("not the leader")

    def text(self) -> str:
        body = self.server.get("configmaps", WHERE, NAME)
        return str(body["data"][KEY]) if body else ""

    def errors(self) -> float:
        return self.metrics.registry.get_sample_value("stowplan_node_history_errors_total") or 0


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_it_is_created_replaced_and_read_by_the_next_process(rig: Rig) -> None:
    assert await rig.historian.read(now_seconds=NOW)
    assert rig.historian.current == NodeHistory(), "a missing one is an empty one"
    assert await rig.historian.record(NEW, now_seconds=NOW)
    assert await rig.historian.record(NEWER, now_seconds=NOW)
    assert rig.historian.current == node_history.load(rig.text()) == NEWER
    follower = rig.next_process()
    await follower.read(now_seconds=NOW)
    assert follower.current == NEWER
    assert rig.metrics.registry.get_sample_value("stowplan_node_history_bytes") == len(rig.text())
    assert rig.errors() == 0


async def test_what_has_not_changed_is_not_written(rig: Rig) -> None:
    await rig.historian.read(now_seconds=NOW)
    assert not await rig.historian.record(NodeHistory(), now_seconds=NOW)
    await rig.historian.record(NEW, now_seconds=NOW)
    assert not await rig.historian.record(NEW, now_seconds=NOW)
    assert len(rig.server.writes) == 1


async def test_what_has_no_room_is_not_written_again_and_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_history, "MAX_BYTES", 250)
    await rig.historian.read(now_seconds=NOW)
    entries = tuple(node_history.NodeFailure(int(NOW), f"job-{n}", "NodeLost") for n in range(8))
    large = dataclasses.replace(NEW, failures={"n1": entries})
    assert await rig.historian.record(large, now_seconds=NOW)
    assert rig.historian.current != large
    assert not await rig.historian.record(large, now_seconds=NOW)


async def test_one_that_makes_no_sense_begins_anew_and_says_so(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    meta = {"name": NAME, "namespace": WHERE}
    rig.server.create("configmaps", {"metadata": meta, "data": {KEY: "{"}})
    assert await rig.historian.read(now_seconds=NOW)
    assert rig.historian.current == NodeHistory()
    assert "begins anew" in caplog.text
    assert rig.errors() == 1
    assert await rig.historian.record(NEW, now_seconds=NOW)
    assert node_history.load(rig.text()) == NEW


async def test_nothing_is_written_over_what_was_not_read(rig: Rig) -> None:
    rig.connection.refuse = lambda verb, kind, name: kube.ApiError(500, "Error", "no") if verb == "read" else None
    assert not await rig.historian.read(now_seconds=NOW)
    assert not await rig.historian.record(NEW, now_seconds=NOW)
    assert rig.server.writes == []
    rig.connection.refuse = lambda verb, kind, name: None
    assert not await rig.historian.read(now_seconds=NOW + 1), "it is not asked for in every cycle"
    assert await rig.historian.read(now_seconds=NOW + 5)


async def test_of_two_writers_the_second_reads_again(rig: Rig) -> None:
    other = rig.next_process()
    await rig.historian.read(now_seconds=NOW)
    await other.read(now_seconds=NOW)
    await rig.historian.record(NEW, now_seconds=NOW)
    assert not await other.record(NEWER, now_seconds=NOW)
    assert other.current == NodeHistory(), "what is not written does not count"
    assert await other.read(now_seconds=NOW)
    assert other.current == NEW
    assert await other.record(NEWER, now_seconds=NOW)


async def test_a_write_without_an_answer_is_looked_up(rig: Rig) -> None:
    await rig.historian.read(now_seconds=NOW)
    rig.connection.refuse = lambda verb, kind, name: kube.ApiError(0, "Timeout", "") if verb == "create" else None
    assert not await rig.historian.record(NEW, now_seconds=NOW)
    rig.connection.refuse = lambda verb, kind, name: None
    assert await rig.historian.read(now_seconds=NOW + 5)
    assert await rig.historian.record(NEW, now_seconds=NOW + 5)


async def test_a_refusal_is_said_once_and_tried_again_later(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    await rig.historian.read(now_seconds=NOW)
    rig.connection.refuse = lambda verb, kind, name: kube.ApiError(403, "Forbidden", "no right")
    for at in (NOW, NOW + 1, NOW + 6):
        assert not await rig.historian.record(NEW, now_seconds=at)
    assert [record.getMessage().count("no right") for record in caplog.records] == [1]
    assert rig.errors() == 2
    rig.connection.refuse = lambda verb, kind, name: None
    assert await rig.historian.record(NEW, now_seconds=NOW + 12)


async def test_a_process_that_may_not_act_writes_nothing(rig: Rig) -> None:
    await rig.historian.read(now_seconds=NOW)
    rig.may_act = False
    with pytest.raises(RuntimeError):
        await rig.historian.record(NEW, now_seconds=NOW)
    assert historian.NAME not in rig.text()
