"""Solvers by the name in the settings: HiGHS, CBC, or any other by PuLP's name.

What must stay true: a solver that is not there is refused with what would bring it; every
solver runs on one thread, quietly, within the time given, and from a fixed seed where it takes
one; and a solver that does not tell its bound is not asked to stop before it has the optimum,
or "optimal" would be a claim and not a proof.
"""

from __future__ import annotations

import pulp

from stowplan_allocator import types

HIGHS, CBC = "HiGHS", "CBC"
# CBC in this process, from the Python package; or as a program on the PATH. PuLP 4 bundles neither.
CYLP, COIN = "CyLP", "COIN_CMD"
FEASIBILITY_TOLERANCE = 1e-6


def make(settings: types.Settings, *, limit_seconds: float, relaxed: bool = False) -> pulp.LpSolver:
    """The solver of the settings; ``relaxed`` leaves integrality aside. Raises ValueError where it is not available."""
    name = resolve(settings.solver)
    options: dict[str, object] = {"msg": False, "timeLimit": limit_seconds}
    if relaxed:
        options["mip"] = False
    if name == HIGHS:
        options |= {"threads": 1, "random_seed": 0, "parallel": "off", "warmStart": True}
    if name == COIN:
        options |= {"threads": 1, "randomSeed": 1, "warmStart": True}
    else:
        options["gapRel"] = settings.gap_tolerance
    if name in (HIGHS, CYLP, COIN):
        # All objectives have integer coefficients: less than 1 away is the optimum.
        options["gapAbs"] = 0.99
    if name == CYLP:
        return Cbc(**options)  # type: ignore[no-untyped-call]  # PuLP's constructor has no types
    return pulp.getSolver(name, **options)


class Cbc(pulp.CYLP):
    """PuLP's CyLP, which takes a programme that Cbc solves at the root for one without a solution.

    It asks how many solutions the search has found, and there was no search. An optimum that
    satisfies all constraints is a solution.
    """

    def findSolutionValues(self, lp: pulp.LpProblem, column_names: list[str]) -> tuple[int, bool]:  # noqa: N802 - PuLP's
        """The status, and whether the variables hold a solution."""
        status, has_solution = super().findSolutionValues(lp, column_names)
        optimal = status == pulp.constants.LpSolveStatus.Optimal
        return status, has_solution or (optimal and lp.valid(FEASIBILITY_TOLERANCE))


def resolve(name: str) -> str:
    """PuLP's name of a solver that is available."""
    if name == HIGHS:
        return HIGHS  # always installed with us, and asking PuLP what else there is takes time
    available = pulp.listSolvers(onlyAvailable=True)
    if name == CBC:
        name = CYLP if CYLP in available else COIN
    if name in available:
        return name
    if name in (COIN, CYLP):
        advice = 'install the Python package "stowplan[cbc]", or the program cbc (Debian: coinor-cbc)'
        raise ValueError(f'planner.solver "{CBC}" is not available here; {advice}, or use {HIGHS}')
    others = [CBC] if {CYLP, COIN} & set(available) else []
    listed = ", ".join([HIGHS, *others, *(one for one in available if one != HIGHS)])
    raise ValueError(f'planner.solver "{name}" is not available here; use one of {listed}')
