"""Solvers by name: CBC gives what HiGHS gives, and what is not there is refused with what would help."""

from __future__ import annotations

import pulp
import pytest
from hypothesis import given, settings

import stowplan_allocator as sa
from stowplan_allocator import solvers
from unit.allocator import brute, worlds

CBC = sa.Settings(solver="CBC")


def contested() -> sa.Snapshot:
    """More pods of 3, 5 and 6 than fit, in two racks: bounds alone do not decide it."""
    nodes = [worlds.node(f"n{i}", rack=f"r{i // 3}") for i in range(6)]
    jobs = [worlds.job(f"j{i:02}", 1 + i % 2, (3, 5, 6)[i % 3], created_at_seconds=i) for i in range(14)]
    return worlds.snapshot(nodes, jobs)


def test_cbc_is_asked_and_admits_what_highs_admits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    make = solvers.make
    monkeypatch.setattr(solvers, "make", lambda *args, **named: asked.append(make(*args, **named)) or asked[-1])
    highs, cbc = sa.plan(contested()), sa.plan(contested(), CBC)
    assert {"HiGHS", solvers.resolve("CBC")} == {solver.name for solver in asked}
    assert highs.placements.keys() == cbc.placements.keys()
    assert highs.certificate.tiers[0] == cbc.certificate.tiers[0]
    assert cbc.certificate.tiers[0].status is sa.SolveStatus.OPTIMAL


PROGRAMMES = {
    "solved at the root, without a search": (3.0, 0.0, (True, 3.0, 3.0)),
    "a value of nothing": (0.0, 0.0, (True, 0.0, 0.0)),
    "infeasible": (3.0, 4.0, (False, None, None)),
}


@pytest.mark.parametrize("name", ["HiGHS", "CBC"])
@pytest.mark.parametrize(("most", "least", "want"), PROGRAMMES.values(), ids=PROGRAMMES)
def test_a_solution_is_known_for_one(
    name: str, most: float, least: float, want: tuple[bool, float | None, float | None]
) -> None:
    lp = pulp.LpProblem("small", pulp.LpMaximize)
    x = lp.add_variable("x", 0, 9, "Integer")
    x.varValue = 0.0
    lp.addConstraint(x + 0 <= most)
    lp.addConstraint(x + 0 >= least)
    lp.setObjective(x + 0)
    stats = lp.solve(solvers.make(sa.Settings(solver=name), limit_seconds=5))
    assert (stats.has_solution, stats.objective, stats.best_bound) == want
    assert (stats.status == pulp.constants.LpSolveStatus.Infeasible) is not stats.has_solution


@given(worlds.snapshots(max_nodes=3, max_jobs=4, max_pods=3))
@settings(max_examples=40, deadline=None)
def test_what_cbc_proves_is_true(snapshot: sa.Snapshot) -> None:
    plan = sa.plan(snapshot, CBC)
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    assert got <= want
    if plan.certificate.status is sa.SolveStatus.OPTIMAL:
        assert got == want


def test_cbc_solves_linear_relaxations_too() -> None:
    plan = sa.plan(contested(), sa.Settings(solver="CBC", strategy=sa.Strategy.LP_ROUNDING))
    assert plan.placements.keys() == sa.plan(contested()).placements.keys()


AVAILABLE = {
    "CBC as a Python package": ("CBC", ["CyLP", "COIN_CMD", "HiGHS"], "CyLP"),
    "CBC as a program": ("CBC", ["COIN_CMD", "HiGHS"], "COIN_CMD"),
    "a solver by PuLP's name": ("SCIP_PY", ["HiGHS", "SCIP_PY"], "SCIP_PY"),
    "HiGHS, for which nobody is asked": ("HiGHS", [], "HiGHS"),
}


@pytest.mark.parametrize(("name", "available", "want"), AVAILABLE.values(), ids=AVAILABLE)
def test_names(name: str, available: list[str], want: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulp, "listSolvers", lambda **_: available)
    assert solvers.resolve(name) == want


MISSING = {
    "no CBC": ("CBC", ["HiGHS"], r'"CBC" is not available here; install the Python package "stowplan\[cbc\]", or the'),
    "a name of nobody": ("Best", ["HiGHS"], r'planner\.solver "Best" is not available here; use one of HiGHS$'),
    "a name of nobody, CBC is there": ("Best", ["CyLP", "HiGHS"], r"use one of HiGHS, CBC, CyLP$"),
}


@pytest.mark.parametrize(("name", "available", "want"), MISSING.values(), ids=MISSING)
def test_a_solver_that_is_not_there_is_refused(
    name: str, available: list[str], want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulp, "listSolvers", lambda **_: available)
    with pytest.raises(ValueError, match=want):
        sa.plan(contested(), sa.Settings(solver=name))


def test_a_program_that_tells_no_bound_is_not_asked_to_stop_early() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulp, "listSolvers", lambda **_: ["COIN_CMD"])
        solver = solvers.make(CBC, limit_seconds=5)
    assert "gapRel" not in {name for name, value in solver.optionsDict.items() if value is not None}
    assert solver.optionsDict["gapAbs"] < 1
