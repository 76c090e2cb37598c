"""The oracle against operators that are broken on purpose: each must turn it red on a flow that is green without.

An oracle that cannot go red proves nothing; `tests/unit/faults` has its tests on histories made by hand.
"""

from __future__ import annotations

import pytest

from faults import flows
from faults.flows import Flow
from faults.runner import Runner
from faults.sampling import some
from faults.steps import Steps

pytestmark = pytest.mark.faults


def _too_much(s: Steps) -> None:
    s.create("first", pods=4)
    s.sees("first", "Running")
    s.create("second", pods=3)
    s.world.wait("the second was looked at", lambda: s.world.status(s.namespace, "second"))


def _suspend(s: Steps) -> None:
    s.create("one")
    s.sees("one", "Running")
    s.edit("one", suspend=True)
    s.sees("one", "Suspended")


def _start_late(s: Steps) -> None:
    s.create("one", held=True)
    s.sees_pods("one-1-0", "one-1-1")


# Variant: what the oracle says of it, and the flow that shows it.
CASES = {
    "places twice": ("I2", Flow("more than fits", _too_much)),
    "forgets leaving pods": ("I3", Flow("peers are slow to leave", flows.peers_are_slow_to_leave)),
    "creates before it writes": ("I3", Flow("submit, run, succeed", flows.submit_run_succeed)),
    "leaves pods behind": ("I3", Flow("suspend", _suspend)),
    "forgets checkpoints": ("I5", Flow("checkpoints are told", flows.checkpoints_are_told)),
    "waits without a reason": ("I6", Flow("more than fits", _too_much)),
    "says Running too early": ("I7", Flow("start late", _start_late)),
}


@pytest.mark.parametrize("variant", some(list(CASES), every=4, start=0))
def test_turns_the_oracle_red(runner: Runner, variant: str) -> None:
    want, flow = CASES[variant]
    sound = runner.run(flow)
    assert not sound.violations, f"the flow is green with the operator as it is: {sound.violations}"
    broken = runner.run(flow, variant=variant)
    assert any(line.startswith(want) for line in broken.violations), broken.violations
