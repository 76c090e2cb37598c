"""The node history: which changes of the XID gauge it takes for news, and what it keeps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from fakes.builders import NOW, JobBuilder, a_job, a_node, time_text
from stowplan_operator import node_history
from stowplan_operator.node_history import MAX_BYTES, NodeFailure, NodeHistory
from stowplan_operator.views import GpuReading, NodeView, Telemetry, XidSeen

T0 = int(NOW)
N1 = a_node("n1").view()
WATCHING = NodeHistory(watched_since=T0 - 5000)
OURS = {"team/a-1-0"}


def gpu(index: int, xid: int = 0, *, pod: str = "", at: float = NOW) -> GpuReading:
    return GpuReading(index=str(index), uuid=f"GPU-{index}", xid=xid, pod=pod, sampled_at=at)


def observe(history: NodeHistory, *gpus: GpuReading, at: float = NOW, node: NodeView = N1) -> NodeHistory:
    telemetry = Telemetry(configured=True, read_at=at, gpus={"n1": gpus} if gpus else {})
    return node_history.observe(history, [node], telemetry, our_pods=OURS)


def seen(index: int, code: int, at: int, pod: str = "") -> XidSeen:
    return XidSeen(gpu=f"GPU-{index}", index=str(index), code=code, at=at, pod=pod)


def with_xids(*entries: XidSeen, **fields: Any) -> NodeHistory:
    return dataclasses.replace(WATCHING, xids={"n1": entries} if entries else {}, **fields)


OLD = seen(3, 79, T0 - 1000)
NEWS: dict[str, tuple[NodeHistory, tuple[GpuReading, ...], tuple[XidSeen, ...]]] = {
    "a healthy GPU": (WATCHING, (gpu(3),), ()),
    "a code appears": (WATCHING, (gpu(2), gpu(3, 79)), (seen(3, 79, T0),)),
    "a code that was there before anybody watched has no time": (NodeHistory(), (gpu(3, 79),), (seen(3, 79, 0),)),
    "a code stays": (with_xids(OLD), (gpu(3, 79),), (OLD,)),
    "a code goes": (with_xids(OLD), (gpu(3),), ()),
    "another code comes: the first is not forgotten": (with_xids(OLD), (gpu(3, 31),), (OLD, seen(3, 31, T0))),
    "a code comes back after another": (
        with_xids(OLD, seen(3, 31, T0 - 500)),
        (gpu(3, 79),),
        (seen(3, 31, T0 - 500), seen(3, 79, T0)),
    ),
    "another code after one without a time is news": (
        with_xids(seen(3, 79, 0)),
        (gpu(3, 31),),
        (seen(3, 79, 0), seen(3, 31, T0)),
    ),
    "one of our pods has the GPU": (WATCHING, (gpu(3, 13, pod="team/a-1-0"),), (seen(3, 13, T0, "team/a-1-0"),)),
    "a pod that is not ours, perhaps the exporter's own": (WATCHING, (gpu(3, 13, pod="x/dcgm"),), (seen(3, 13, T0),)),
    "the pod of the time at which it was seen stays": (
        with_xids(seen(3, 13, T0 - 9)),
        (gpu(3, 13, pod="team/a-1-0"),),
        (seen(3, 13, T0 - 9),),
    ),
    "a GPU that reports nothing any more": (with_xids(OLD), (gpu(2),), (OLD,)),
    "a node that reports nothing any more": (with_xids(OLD), (), (OLD,)),
    "nothing for a day": (with_xids(seen(3, 79, T0 - 86_400)), (gpu(2),), ()),
    "where entries were dropped for want of room nobody can tell what is new": (
        with_xids(is_whole=False),
        (gpu(3, 79),),
        (seen(3, 79, 0),),
    ),
}


@pytest.mark.parametrize(("history", "gpus", "want"), NEWS.values(), ids=NEWS)
def test_news(history: NodeHistory, gpus: tuple[GpuReading, ...], want: tuple[XidSeen, ...]) -> None:
    new = observe(history, *gpus)
    assert new.xids.get("n1", ()) == want
    assert observe(new, *gpus, at=NOW + 15).xids == new.xids, "seen again, it is no news"
    assert new.watched_since == (history.watched_since or T0)


def test_without_telemetry_nothing_changes() -> None:
    history = with_xids(OLD)
    for telemetry in (Telemetry(), Telemetry(configured=True, error="away")):
        assert node_history.observe(history, [N1], telemetry, our_pods=()) is history


def test_a_node_that_came_back_or_went_takes_its_codes_along() -> None:
    history = with_xids(OLD)
    back = a_node("n1").ready(NOW - 100).view()
    assert observe(history, gpu(2), node=back).xids == {}
    assert observe(history, gpu(3, 79, at=NOW - 200), node=back).xids == {"n1": (OLD,)}, "read before it came back"
    telemetry = Telemetry(configured=True, read_at=NOW, gpus={})
    assert node_history.observe(history, [a_node("n2").view()], telemetry, our_pods=()).xids == {}


def a_failed_job(
    name: str = "a", *, at: float = NOW, reason: str = "NodeLost", node: str = "n1", **more: Any
) -> JobBuilder:
    return a_job(name).status(lastFailure={"reason": reason, "time": time_text(at), "node": node, **more})


def absorb(history: NodeHistory, *jobs: JobBuilder, at: float = NOW) -> NodeHistory:
    return node_history.absorb(history, [job.view() for job in jobs], reasons={"NodeLost"}, now_seconds=at)


def test_failures_are_taken_over_once() -> None:
    history = absorb(WATCHING, a_failed_job("a"), a_failed_job("b", reason="ContainerFailed", xid=31), a_job("c"))
    assert history.failures == {
        "n1": (NodeFailure(T0, "uid-a", "NodeLost"), NodeFailure(T0, "uid-b", "ContainerFailed", 31))
    }
    assert absorb(history, a_failed_job("a")) == history
    assert absorb(WATCHING, a_failed_job("a", reason="ContainerFailed")).failures == {}, "no fault of the node"
    assert absorb(WATCHING, a_failed_job("a", node="")).failures == {}


def test_an_explanation_that_came_later_replaces_what_was_known() -> None:
    history = absorb(WATCHING, a_failed_job("a"))
    assert absorb(history, a_failed_job("a", xid=79)).failures == {"n1": (NodeFailure(T0, "uid-a", "NodeLost", 79),)}


def test_failures_end_after_a_week_and_the_last_eight_of_a_node_stay() -> None:
    history = absorb(WATCHING, a_failed_job("a"))
    week = node_history.KEEP_SECONDS
    assert absorb(history, at=NOW + week - 1).failures
    assert absorb(history, a_failed_job("a"), at=NOW + week).failures == {}, "a status that still says it is no news"
    jobs = [a_failed_job(f"j{number}", at=NOW + number) for number in range(12)]
    full = absorb(WATCHING, *jobs, at=NOW + 20)
    assert [one.at - T0 for one in full.failures["n1"]] == list(range(4, 12))
    assert absorb(full, *jobs, at=NOW + 20) == full, "those that had no room do not come back"


def failed(job: str, code: int, *, hours_ago: float, node: str = "n1") -> NodeHistory:
    return NodeHistory(failures={node: (NodeFailure(int(NOW - hours_ago * 3600), job, "XidError", code),)})


def together(*parts: NodeHistory) -> NodeHistory:
    nodes = {node for part in parts for node in part.failures}
    return NodeHistory(
        failures={node: tuple(one for part in parts for one in part.failures.get(node, ())) for node in nodes}
    )


REPEATED: dict[str, tuple[NodeHistory, set[str]]] = {
    "once": (failed("a", 13, hours_ago=1), set()),
    "twice": (together(failed("a", 13, hours_ago=1), failed("a", 31, hours_ago=2)), {"n1"}),
    "on two nodes": (together(failed("a", 13, hours_ago=1), failed("a", 13, hours_ago=2, node="n2")), set()),
    "once this job, once another": (together(failed("a", 13, hours_ago=1), failed("b", 13, hours_ago=2)), {"n1"}),
    "others only: their programs may be wrong": (
        together(failed("b", 13, hours_ago=1), failed("c", 13, hours_ago=2)),
        set(),
    ),
    "the first more than a day ago": (together(failed("a", 13, hours_ago=1), failed("a", 13, hours_ago=24)), set()),
    "of which one is no error of an application": (
        together(failed("a", 13, hours_ago=1), failed("a", 79, hours_ago=2)),
        set(),
    ),
}


@pytest.mark.parametrize(("history", "want"), REPEATED.values(), ids=REPEATED)
def test_repeated(history: NodeHistory, want: set[str]) -> None:
    assert node_history.repeated(history, {}, now_seconds=NOW).get("a", set()) == want


def many(num_nodes: int, *, num_failures: int = 0) -> NodeHistory:
    nodes = [f"ip-10-0-{number // 256}-{number % 256}.eu-central-1.compute.internal" for number in range(num_nodes)]
    return NodeHistory(
        watched_since=T0,
        xids={node: (XidSeen(f"GPU-{node}", "0", 31, T0 + n, "team/job-1-0"),) for n, node in enumerate(nodes)},
        failures={node: (NodeFailure(T0, "uid", "NodeLost"),) * num_failures for node in nodes if num_failures},
    )


def test_what_is_written_is_read_again() -> None:
    history = absorb(with_xids(OLD, seen(3, 31, T0, "team/a-1-0")), a_failed_job("a", xid=79))
    assert node_history.load(node_history.dump(history)) == history


def test_the_oldest_goes_first_and_failures_before_codes() -> None:
    text = node_history.dump(many(1000, num_failures=8))
    assert len(text) <= MAX_BYTES
    kept = node_history.load(text)
    assert len(kept.xids) == 1000
    assert kept.is_whole
    assert len(kept.failures) < 1000
    text = node_history.dump(many(5000))
    assert MAX_BYTES * 3 // 4 < len(text) <= MAX_BYTES
    kept = node_history.load(text)
    assert not kept.is_whole
    assert min(one.at for entries in kept.xids.values() for one in entries) > T0
    assert max(one.at for entries in kept.xids.values() for one in entries) == T0 + 4999


def test_it_is_whole_again_when_everything_has_room() -> None:
    assert node_history.load(node_history.dump(with_xids(OLD, is_whole=False))).is_whole


WRONG: Sequence[str] = (
    "",
    "[]",
    "null",
    "{}",
    "not JSON",
    '{"version": 2}',
    json.dumps({"version": 1, "watchedSince": 1, "whole": True}),
    node_history.dump(with_xids(OLD)).replace("79", '"x"'),
    node_history.dump(with_xids(OLD)).replace(",79", ""),
    "[" * 100_000,
)


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_makes_no_sense_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        node_history.load(text)
