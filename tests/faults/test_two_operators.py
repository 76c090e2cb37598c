"""A frozen operator that is thawed after another took over: one writer, whatever was on its way."""

from __future__ import annotations

import concurrent.futures
import pathlib
from collections.abc import Callable, Iterator

import pytest

import apiserver
from faults import injected
from faults.flows import FLOWS, Flow
from faults.operators import Operator
from faults.runner import Runner
from faults.sampling import some
from world.cluster import World

pytestmark = pytest.mark.faults


@pytest.fixture
def second(world: World, tmp_path: pathlib.Path) -> Iterator[Operator]:
    operator = Operator(world.server, tmp_path, name="second")
    yield operator
    operator.close()


CASES = [(flow, number) for flow in FLOWS for number in (1, 3, 6)]


@pytest.mark.parametrize(("flow", "number"), some(CASES, every=34, start=7), ids=str)
def test_frozen_with_a_write_on_its_way_and_thawed(runner: Runner, second: Operator, flow: Flow, number: int) -> None:
    if len(runner.undisturbed(flow).writes) < number or flow.name.startswith("upgrade"):
        pytest.skip("the flow has no such write, or replaces the operator itself")
    first = runner.operator
    hold = injected.HoldAndFreeze(first.freeze, number)
    late: list[str] = []

    def take_over() -> None:
        assert hold.frozen.wait(30)
        second.start()
        _wait(lambda: bool(second.proxy.writes), "the second operator never took over")
        before = len(first.proxy.writes)
        hold.over.set()
        first.thaw()
        _wait(lambda: not first.is_alive, "the thawed operator goes on without the Lease")
        # Pods of a gang are sent together: those that were on their way arrive, which the oracle judges (I3).
        made = [call for call in first.proxy.writes[before:] if call.status < 300]
        late.extend(f"the thawed operator wrote {call}" for call in made if call.method != "POST")

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        taking = pool.submit(take_over)
        run = runner.run(flow, hold)
        hold.over.set()
        taking.result(60)
    broken = [*late, *runner.judge(flow, run, kind="two operators", fault=hold)]
    first.kill()
    assert not broken, "\n".join(broken)


def _wait(condition: Callable[[], bool], what: str) -> None:
    apiserver.wait_until(condition, what=what, timeout_seconds=40)
