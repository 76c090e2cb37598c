"""SIGKILL before and after every write of every flow: the same end, nothing twice, nothing left."""

from __future__ import annotations

import pytest

from faults.flows import FLOWS, Flow
from faults.runner import Runner
from faults.sampling import points

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_undisturbed(runner: Runner, flow: Flow) -> None:
    run = runner.undisturbed(flow)
    print(f"{flow.name}: {len(run.writes)} writes, {run.seconds:.1f} s")
    assert run.writes


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_killed_at_every_write(runner: Runner, flow: Flow) -> None:
    numbers = points(len(runner.undisturbed(flow).writes), of=flow.name, every=6)
    broken = []
    slowest = 0.0
    for number in numbers:
        for before in (True, False):
            run = runner.killed(flow, number, before=before)
            slowest = max(slowest, run.converged_seconds)
            when = "before" if before else "after"
            broken += [f"killed {when} write {number}: {line}" for line in runner.differences(flow, run)]
    print(f"{flow.name}: killed at {2 * len(numbers)} points, slowest end {slowest:.1f} s after the restart")
    assert not broken, "\n".join(broken)
