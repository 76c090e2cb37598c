"""A solver that overruns is left behind in time: shown with HiGHS itself, on a model far too large for its limit."""

from __future__ import annotations

import random
import time

import pulp
import pytest

import stowplan_allocator as sa
from stowplan_allocator import model, overrun


def large_model(size: int) -> pulp.LpProblem:
    """A dense assignment with knapsacks: handing it over alone takes HiGHS longer than the test's limit."""
    rng = random.Random(1)
    lp = pulp.LpProblem("large", pulp.LpMaximize)
    x = [[lp.add_variable(f"x{i}_{j}", 0, 1, "Integer") for j in range(size)] for i in range(size)]
    for line in (*x, *zip(*x, strict=True)):
        weights = pulp.LpAffineExpression.from_list([(v, float(rng.randint(1, 97))) for v in line])
        lp.addConstraint(weights <= 400)
    lp.setObjective(pulp.LpAffineExpression.from_list([(v, float(rng.randint(1, 99))) for row in x for v in row]))
    x[0][0].varValue = 0.0
    return lp


def test_nobody_waits_for_a_solver_that_overruns_its_limit() -> None:
    lp = large_model(250)
    started = time.monotonic()
    with pytest.raises(pulp.PulpError, match="left behind"):
        model.run_solver(lp, settings=sa.Settings(), limit_seconds=0.02)
    assert time.monotonic() - started < 0.5
    assert overrun.is_still_at_work()
    while overrun.is_still_at_work():
        assert time.monotonic() - started < 60
        time.sleep(0.02)


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        overrun.run(lambda: 1 // 0, seconds=5)
    assert overrun.run(lambda: 7, seconds=5) == 7
    assert not overrun.is_still_at_work()
