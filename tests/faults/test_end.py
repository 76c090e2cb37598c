"""SIGTERM, as every upgrade begins: the operator ends at once, without an error, and gives its Lease back."""

from __future__ import annotations

import time

import pytest

from faults.runner import LEASE, Runner

pytestmark = pytest.mark.faults


def test_sigterm_ends_the_operator_at_once(runner: Runner) -> None:
    runner.restart()
    holder = runner.world.client.must("GET", LEASE)["spec"]["holderIdentity"]
    assert holder
    runner.world.wait("the indexes are filled", lambda: _has_renewed(runner), seconds=10)
    began = time.monotonic()
    assert runner.operator.stop() == 0
    assert time.monotonic() - began < 3, "a pod that ends late delays its successor"
    assert runner.world.client.must("GET", LEASE)["spec"]["holderIdentity"] == ""


def _has_renewed(runner: Runner) -> bool:
    """Whether the Lease was renewed at least once: by then the operator has been at work for a while."""
    spec = runner.world.client.must("GET", LEASE)["spec"]
    return bool(spec["renewTime"] > spec["acquireTime"])
