"""A frozen operator that is thawed after another took over: one writer, whatever was on its way."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Iterator

import pytest

from faults import injected
from faults.flows import FLOWS, Flow
from faults.operators import Operator
from faults.runner import Run, Runner
from faults.world import World

pytestmark = pytest.mark.faults


@pytest.fixture
def second(world: World, tmp_path: pathlib.Path) -> Iterator[Operator]:
    operator = Operator(world.server, tmp_path, name="second")
    yield operator
    operator.close()


@pytest.mark.parametrize("flow", [FLOWS[0], FLOWS[2], FLOWS[5]], ids=lambda flow: flow.name)
@pytest.mark.parametrize("number", [1, 3, 6])
def test_frozen_with_a_write_on_its_way_and_thawed(runner: Runner, second: Operator, flow: Flow, number: int) -> None:
    runner.undisturbed(flow)
    first = runner.operator
    fault = injected.HoldAndFreeze(first.freeze, number)
    done: list[Run] = []
    flowing = threading.Thread(target=lambda: done.append(runner.run(flow, fault)), daemon=True)
    flowing.start()
    assert fault.frozen.wait(30)
    second.start()
    deadline = time.monotonic() + 60
    while not second.proxy.writes and time.monotonic() < deadline:
        time.sleep(0.1)
    assert second.proxy.writes, "the second operator never took over"
    before = len(first.proxy.writes)
    fault.over.set()
    first.thaw()
    flowing.join(120)
    assert done, "the flow did not end"
    late = [call for call in first.proxy.writes[before:] if call.status < 300]
    assert not late, f"the thawed operator wrote: {[str(call) for call in late]}"
    deadline = time.monotonic() + 20
    while first.is_alive and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not first.is_alive, "the thawed operator goes on without the Lease"
    broken = [line for line in runner.differences(flow, done[0]) if "was created while" not in line]
    first.kill()
    assert not broken, "\n".join(broken)
