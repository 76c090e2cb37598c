"""SIGKILL before and after every write of every flow: the same end, nothing twice, nothing left, within 30 s."""

from __future__ import annotations

import pytest

from faults.flows import FLOWS, Flow
from faults.runner import Runner
from faults.sampling import points, some

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_killed_at_every_write(runner: Runner, flow: Flow) -> None:
    undisturbed = runner.undisturbed(flow)
    assert undisturbed.writes
    numbers = points(len(undisturbed.writes), of=flow.name, every=30)
    broken = []
    for number in numbers:
        for before in some((True, False), every=2, start=number % 2):
            run = runner.killed(flow, number, before=before)
            when = f"killed {'before' if before else 'after'} write {number}"
            broken += runner.judge(flow, run, kind="SIGKILL", fault=when)
    assert not broken, "\n".join(broken)
