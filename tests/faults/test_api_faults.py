"""What the API server and the network do wrong: refusals, lost answers, delays, stale LISTs, silent watches."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator

import pytest

from faults import injected
from faults.flows import FLOWS, Flow
from faults.proxy import Fault
from faults.runner import Run, Runner
from faults.sampling import points

pytestmark = pytest.mark.faults


def at_write(number: int) -> Iterator[Fault]:
    """All faults of single writes at this one."""
    yield injected.Lose(number, before=True)
    yield injected.Lose(number, before=False)
    yield injected.Refuse(409, number, number)
    yield injected.Refuse(429, number, number + 1)
    yield injected.Refuse(500, number, number + 1)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_refused_and_lost_writes(runner: Runner, flow: Flow) -> None:
    numbers = points(len(runner.undisturbed(flow).writes), of=flow.name, every=9)
    broken, runs = [], 0
    for number in numbers:
        for fault in at_write(number):
            run = runner.run(flow, fault)
            runs += 1
            broken += [f"{fault}: {line}" for line in runner.differences(flow, run)]
    print(f"{flow.name}: {runs} faults")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_slow_writes(runner: Runner, flow: Flow) -> None:
    run = runner.run(flow, injected.Delay(0.7))
    assert not runner.differences(flow, run)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_killed_and_started_on_stale_lists(runner: Runner, flow: Flow) -> None:
    """The new process lists what the old one saw at its start, before the flow, and catches up by its watches."""
    stale = injected.StaleLists(frozenset({"pods", "trainingjobs"}))
    runner.restart(stale)
    stale.recording = False
    numbers = points(len(runner.undisturbed(flow).writes), of=flow.name, every=12)
    broken = []
    for number in numbers:
        run = runner.killed(flow, number, before=False, also=[dataclasses.replace(stale, _given={})])
        broken += [f"killed after write {number}: {line}" for line in runner.differences(flow, run)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("resource", ["pods", "trainingjobs", "nodes"])
@pytest.mark.parametrize("flow", FLOWS[:7], ids=lambda flow: flow.name)
def test_a_watch_that_tells_nothing_for_a_while(runner: Runner, flow: Flow, resource: str) -> None:
    silent = injected.SilentWatch(frozenset({resource}))
    done: list[Run] = []
    flowing = threading.Thread(target=lambda: done.append(runner.run(flow, silent)), daemon=True)
    flowing.start()
    time.sleep(3)
    silent.over.set()
    flowing.join(120)
    assert done, "the flow did not end"
    assert not runner.differences(flow, done[0])
