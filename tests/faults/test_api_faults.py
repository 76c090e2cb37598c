"""What the API server and the network do wrong: refusals, lost answers, delays, stale LISTs, silent watches."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import pytest

from faults import injected
from faults.flows import FLOWS, Flow
from faults.proxy import Fault
from faults.runner import Runner
from faults.sampling import points, some

pytestmark = pytest.mark.faults
SILENT_SECONDS = 3.0


def at_write(number: int) -> Iterator[tuple[str, Fault]]:
    """All faults of single writes at this one, each with the name of its class."""
    yield "cut before", injected.Lose(number, before=True)
    yield "cut after", injected.Lose(number, before=False)
    yield "409", injected.Refuse(409, number, number)
    yield "429", injected.Refuse(429, number, number + 1)
    yield "500", injected.Refuse(500, number, number + 1)
    yield "503", injected.Refuse(503, number, number + 1)
    yield "late", injected.Delay(2.0, number, number)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_refused_lost_and_late_writes(runner: Runner, flow: Flow) -> None:
    numbers = points(len(runner.undisturbed(flow).writes), of=flow.name, every=30)
    broken = []
    for number in numbers:
        for kind, fault in some(list(at_write(number)), every=7, start=len(flow.name) % 7):
            broken += runner.judge(flow, runner.run(flow, fault), kind=kind, fault=fault)
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("flow", some(FLOWS, every=8, start=0), ids=lambda flow: flow.name)
def test_every_write_is_late(runner: Runner, flow: Flow) -> None:
    fault = injected.Delay(0.4)
    broken = runner.judge(flow, runner.run(flow, fault), kind="late", fault=fault)
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("flow", some(FLOWS, every=8, start=1), ids=lambda flow: flow.name)
def test_killed_and_started_on_stale_lists(runner: Runner, flow: Flow) -> None:
    """The new process lists what the old one saw at its start, before the flow, and catches up by its watches."""
    runner.undisturbed(flow)
    stale = injected.StaleLists(frozenset({"pods", "trainingjobs"}))
    runner.restart(stale)
    stale.recording = False
    broken = []
    for number in points(len(runner.undisturbed(flow).writes), of=flow.name, every=30):
        run = runner.killed(flow, number, before=False, also=[dataclasses.replace(stale, _given={})])
        broken += runner.judge(flow, run, kind="stale LIST", fault=f"killed after write {number}, then {stale}")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("resource", ["pods", "trainingjobs", "nodes"])
@pytest.mark.parametrize("flow", some(FLOWS, every=16, start=5), ids=lambda flow: flow.name)
def test_a_watch_that_tells_nothing_for_a_while(runner: Runner, flow: Flow, resource: str) -> None:
    """It is silent from the flow's beginning; then it breaks, at the latest when kopf misses bookmarks."""
    runner.undisturbed(flow)
    silent = injected.SilentWatch(frozenset({resource}))
    timer = threading.Timer(SILENT_SECONDS, silent.over.set)
    timer.start()
    run = runner.run(flow, silent)
    timer.cancel()
    silent.over.set()
    broken = runner.judge(flow, run, kind="silent watch", fault=silent)
    assert not broken, "\n".join(broken)
