"""The bound for one job, against every way to place it in one domain."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import compiling, greedy, lone
from unit.allocator import worlds


def worth(free: int) -> int:
    return free - free // 8 - (free % 8).bit_count()


def brute(frees: list[int], *, num_pods: int, size: int) -> int | None:
    """The least loss over all ways to put so many pods on these nodes."""
    best = None
    for counts in itertools.product(*(range(free // size + 1) for free in frees)):
        if sum(counts) == num_pods:
            loss = sum(worth(free) - worth(free - size * n) for free, n in zip(frees, counts, strict=True))
            best = loss if best is None else min(best, loss)
    return best


@given(
    st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=3), min_size=1, max_size=3),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3, 4]),
)
def test_no_place_in_one_domain_loses_less_than_the_bound(racks: list[list[int]], num_pods: int, size: int) -> None:
    nodes = [
        worlds.node(f"n{r}-{i}", free, rack=f"r{r}") for r, frees in enumerate(racks) for i, free in enumerate(frees)
    ]
    problem = compiling.compile_problem(worlds.snapshot(nodes, [worlds.job("j", num_pods, size)]))
    best = [loss for frees in racks if (loss := brute(frees, num_pods=num_pods, size=size)) is not None]
    if not best:
        return
    spot = greedy.Spot(worlds.H100, [(0, num_pods)])
    bound = lone.least_loss(problem, shape=problem.shapes[0], spot=spot, worth=worth)
    assert bound is not None
    assert bound <= min(best)


def test_one_job_that_arrives_is_placed_with_proof_and_without_a_solver() -> None:
    nodes = [worlds.node(f"n{r}-{i}", free, rack=f"r{r}") for r in range(4) for i, free in enumerate([8, 7, 3, 1])]
    certificate = sa.plan(worlds.snapshot(nodes, [worlds.job("j", 2, 1)])).certificate
    assert certificate.status is sa.SolveStatus.OPTIMAL
    assert "solve" not in dict(certificate.phases)
