"""The textbook's assignment model, small and readable, and its example; docs/textbook.md derives both.

It plans nothing in production: ``model`` does. It is here because it is the model that most
texts on the matter begin with, and because it shows what that model leaves open.

Sets
    i ∈ I            kinds of subtasks, n_i of each
    j ∈ J            groups of nodes
Data
    r_i              what one subtask of kind i takes, in node-seconds
    a_j              what group j can give until the deadline, in node-seconds
Variables (integers ≥ 0)
    x_ij             subtasks of kind i in group j
Objective
    min Σ_ij x_ij·r_i
Constraints
    (1) capacity     Σ_i x_ij·r_i ≤ a_j        for j
    (2) all work     Σ_j x_ij = n_i            for i

Printed without (2), as it often is, the best plan does nothing. With (2) the objective is the
constant Σ n_i·r_i: any plan that keeps the deadline is as good as any other. The question that
has an answer is how soon everything can be done: min T with Σ_i x_ij·r_i ≤ T, where each j
is one node (``shortest``). What must stay true: every figure of the example is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import pulp

from stowplan_allocator import partition, types

HOUR = 3_600
TERA = 10**12


@dataclass(frozen=True, slots=True)
class Example:
    """A dataset on groups of equal nodes, and the time that the text gives for it."""

    images: int = 100_000
    images_per_subtask: int = 1_000
    groups: tuple[int, ...] = (4, 3, 3)
    teraflops_per_node: int = 100
    hours: int = 10

    @property
    def nodes(self) -> int:
        """Nodes of all groups."""
        return sum(self.groups)

    @property
    def subtasks(self) -> int:
        """How many subtasks the dataset makes, cut by ``partition``."""
        task = partition.Task("images", (partition.Stage("train", self.images),))
        limits = partition.Limits(self.images_per_subtask, types.Resources(accelerators=1), self.nodes)
        return len(partition.partition(task, limits=limits).subtasks)

    @property
    def flop(self) -> int:
        """The work that keeps all nodes busy for the time given: what the text leaves to be derived."""
        return self.nodes * self.teraflops_per_node * TERA * self.hours * HOUR

    @property
    def seconds_per_subtask(self) -> Fraction:
        """What one subtask takes one node."""
        return Fraction(self.flop, self.subtasks) / (self.teraflops_per_node * TERA)

    def shares(self) -> list[int]:
        """Subtasks by group, in proportion to nodes; what does not divide goes to the largest remainders."""
        return proportional(self.subtasks, weights=self.groups)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The value of the objective, and x by kind and group; value None where no plan keeps the constraints."""

    value: float | None
    x: tuple[tuple[int, ...], ...] = ()


def assign(numbers: Sequence[int], *, seconds: Sequence[float], capacity: Sequence[float]) -> Assignment:
    """The model as printed, with (2)."""
    lp = pulp.LpProblem("textbook", pulp.LpMinimize)
    x = [
        [lp.add_variable(f"x_{i}_{j}", 0, number, "Integer") for j in range(len(capacity))]
        for i, number in enumerate(numbers)
    ]
    for j, most in enumerate(capacity):
        lp.addConstraint(_sum([(row[j], seconds[i]) for i, row in enumerate(x)]) <= most)  # (1)
    for i, number in enumerate(numbers):
        lp.addConstraint(_sum([(one, 1.0) for one in x[i]]) == number)  # (2)
    lp.setObjective(_sum([(one, seconds[i]) for i, row in enumerate(x) for one in row]))
    stats = lp.solve(pulp.getSolver("HiGHS", msg=False))
    if not stats.has_solution or stats.objective is None:
        return Assignment(None)
    return Assignment(stats.objective, tuple(tuple(round(one.varValue or 0.0) for one in row) for row in x))


def shortest(number: int, *, seconds: float, nodes: int) -> float:
    """The least time in which ``nodes`` equal nodes do so many equal subtasks, each whole on one node."""
    lp = pulp.LpProblem("makespan", pulp.LpMinimize)
    makespan = lp.add_variable("T", 0)
    x = [lp.add_variable(f"x_{j}", 0, number, "Integer") for j in range(nodes)]
    for one in x:
        lp.addConstraint(_sum([(one, seconds), (makespan, -1.0)]) <= 0)
    lp.addConstraint(_sum([(one, 1.0) for one in x]) == number)
    lp.setObjective(_sum([(makespan, 1.0)]))
    stats = lp.solve(pulp.getSolver("HiGHS", msg=False))
    assert stats.objective is not None, "so many subtasks can always be done, only later"
    return stats.objective


def in_groups(shares: Sequence[int], *, groups: Sequence[int], seconds: float) -> list[float]:
    """When each group is done, if it does its share alone and as soon as it can."""
    return [shortest(share, seconds=seconds, nodes=nodes) for share, nodes in zip(shares, groups, strict=True)]


def proportional(number: int, *, weights: Sequence[int]) -> list[int]:
    """``number`` split in proportion to the weights, in whole parts, by the largest remainders."""
    exact = [Fraction(number * weight, sum(weights)) for weight in weights]
    whole = [int(part) for part in exact]
    ranked = sorted(range(len(weights)), key=lambda i: (whole[i] - exact[i], i))
    for i in ranked[: number - sum(whole)]:
        whole[i] += 1
    return whole


def _sum(terms: Sequence[tuple[pulp.LpVariable, float]]) -> pulp.LpAffineExpression:
    return pulp.LpAffineExpression.from_list(list(terms))
