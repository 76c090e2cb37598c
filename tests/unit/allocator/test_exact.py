"""The exact strategy's ways to a proof, each forced on its own; and what a certificate may claim."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import bounds, cells, compiling, exact, greedy, search, spans, squeezing
from unit.allocator import brute, worlds
from unit.allocator.worlds import H100, job, node

OPTIMAL = sa.SolveStatus.OPTIMAL


@contextlib.contextmanager
def without(*parts: str) -> Iterator[None]:
    """Switch off cheap ways, so that the dearer ones have to find the answer."""
    with contextlib.ExitStack() as stack:
        if "bounds" in parts:
            stack.enter_context(mock.patch.object(bounds.Bounds, "cannot_fit", return_value=False))
        if "repacking" in parts:
            stack.enter_context(mock.patch.object(search.Search, "repack", return_value=False))
        if "the whole model" in parts:
            stack.enter_context(mock.patch.object(exact, "_exact_length", return_value=(0, False)))
        if "refining" in parts:
            stack.enter_context(mock.patch.object(search, "MAX_REFINED", 0))
        if "long chains" in parts:
            stack.enter_context(mock.patch.object(exact, "CHAIN_LENGTH", 1))
        yield


WAYS = [
    ("bounds",),
    ("repacking",),
    ("bounds", "repacking"),
    ("bounds", "repacking", "refining"),
    ("bounds", "repacking", "long chains"),
    ("repacking", "the whole model"),
]


@pytest.mark.parametrize("parts", WAYS, ids=" and ".join)
@given(snapshot=worlds.snapshots(max_nodes=3, max_jobs=4, max_pods=3))
@settings(max_examples=40, deadline=None)
def test_what_is_proven_is_true_whichever_way_it_was_proven(parts: tuple[str, ...], snapshot: sa.Snapshot) -> None:
    with without(*parts):
        plan = sa.plan(snapshot)
    got, want = brute.rank(snapshot, dict(plan.placements)), brute.best_rank(snapshot)
    assert got <= want
    if plan.certificate.status is OPTIMAL:
        assert got == want
    first = plan.certificate.tiers[0] if plan.certificate.tiers else None
    if first is not None and first.status is OPTIMAL:
        queue = brute.queue(snapshot)
        num_first = sum(job.priority == queue[0].priority for job in queue)
        assert got[:num_first] == want[:num_first]


@given(worlds.snapshots(max_nodes=3, max_jobs=4, max_pods=3))
@settings(max_examples=40, deadline=None)
def test_the_coarsened_problem_is_never_harder(snapshot: sa.Snapshot) -> None:
    problem = compiling.compile_problem(snapshot)
    coarse = cells.coarsen(problem)
    for request in problem.requests:
        nodes = {node for cell in problem.cells_of[request.index] for node in problem.cells[cell].nodes}
        pools = [coarse.cells[cell] for cell in coarse.cells_of[request.index]]
        assert nodes == {node for pool in pools for node in pool.nodes}
        assert len(nodes) == sum(len(pool.nodes) for pool in pools)
    for cell in coarse.cells:
        if cell.pool is not None:
            assert set(cell.nodes) <= set(coarse.cells[cell.pool].nodes)


def scattered(num_jobs: int) -> sa.Snapshot:
    """Rack-bound gangs that greed places badly: each rack holds either two of the large or four of the small."""
    nodes = [node(f"n{i}", rack=f"r{i // 2}") for i in range(8)]
    small = [job(f"s{i}", 2, 4, level="rack", created_at_seconds=i) for i in range(num_jobs)]
    large = [job(f"l{i}", 2, 8, level="rack", created_at_seconds=100 + i) for i in range(4)]
    return worlds.snapshot(nodes, small + large)


def crossed() -> sa.Snapshot:
    """Greed puts 3 beside 3, and then no 5 finds a place; each 3 beside a 5 fits."""
    nodes = [node(f"n{i}") for i in range(4)]
    small = [job(f"s{i}", 1, 3, created_at_seconds=i) for i in range(4)]
    return worlds.snapshot(nodes, small + [job(f"l{i}", 1, 5, created_at_seconds=9) for i in range(4)])


def test_who_finds_no_place_is_served_first_where_nothing_else_gives_an_answer() -> None:
    with without("repacking", "the whole model"):
        assert len(sa.plan(crossed()).placements) == 8
        with mock.patch.object(squeezing, "MAX_ATTEMPTS", 0):
            cut = sa.plan(crossed())
    assert len(cut.placements) < 8
    assert "is not proven" in cut.certificate.note


def test_squeezing_keeps_the_values_of_earlier_tiers() -> None:
    with without("repacking", "the whole model"), mock.patch.object(search.Search, "keeps", return_value=False):
        assert len(sa.plan(crossed()).placements) < 8


def test_a_certificate_names_its_tiers_in_order() -> None:
    certificate = sa.plan(scattered(4)).certificate
    assert certificate.status is OPTIMAL
    assert [tier.name for tier in certificate.tiers] == ["admit at priority 0", "domains spanned", "whole slots"]
    assert certificate.value == certificate.bound == 6
    assert certificate.note == ""
    assert certificate.strategy == "exact"


def test_every_priority_has_its_own_tiers() -> None:
    both = [sa.ProductChoice(H100), sa.ProductChoice(worlds.A100, 450)]
    snapshot = worlds.snapshot(
        [node("a"), node("b", product=worlds.A100)],
        [job("x", products=both, priority=7), job("y", products=both)],
    )
    names = [tier.name for tier in sa.plan(snapshot).certificate.tiers]
    assert names[:4] == ["admit at priority 7", "goodput at priority 7", "admit at priority 0", "goodput at priority 0"]


@pytest.mark.parametrize("limit", [0.0, 1e-6, 0.01])
def test_a_plan_cut_short_is_whole_and_honest(limit: float) -> None:
    snapshot = scattered(6)
    plan = sa.plan(snapshot, sa.Settings(time_limit_seconds=limit))
    full = sa.plan(snapshot)
    assert plan.placements.keys() | plan.waiting.keys() == full.placements.keys() | full.waiting.keys()
    if plan.certificate.status is OPTIMAL:
        assert plan.placements.keys() == full.placements.keys()
    else:
        assert "is not proven" in plan.certificate.note
    assert plan.certificate.value <= full.certificate.value <= plan.certificate.bound


def test_greedy_claims_nothing() -> None:
    certificate = sa.plan(scattered(4), sa.Settings(strategy=sa.Strategy.GREEDY)).certificate
    assert certificate.status is sa.SolveStatus.GREEDY
    assert certificate.value <= certificate.bound == 8
    assert not certificate.tiers


@given(st.lists(st.sampled_from([1, 2, 3, 5, 6, 8]), min_size=1, max_size=12), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_odd_sizes_are_admitted_as_if_every_packing_had_been_tried(sizes: list[int], num_nodes: int) -> None:
    jobs = [job(f"j{i:02}", 1, size, created_at_seconds=i) for i, size in enumerate(sizes)]
    plan = sa.plan(worlds.snapshot([node(f"n{i}") for i in range(num_nodes)], jobs))
    reachable = {tuple([8] * num_nodes)}
    want = []
    for i, size in enumerate(sizes):
        more = {
            tuple(sorted((*rooms[:k], rooms[k] - size, *rooms[k + 1 :])))
            for rooms in reachable
            for k in range(num_nodes)
            if rooms[k] >= size
        }
        if more:
            reachable = more
            want.append(f"j{i:02}")
    assert sorted(plan.placements) == want
    assert plan.certificate.bound == plan.certificate.value == len(want)


def test_equal_jobs_share_a_shape_and_go_by_age() -> None:
    jobs = [job(f"j{i}", 1, 1, created_at_seconds=100 - i) for i in range(20)]
    problem = compiling.compile_problem(worlds.snapshot([node("a")], jobs))
    assert len(problem.shapes) == 1
    plan = sa.plan(worlds.snapshot([node("a")], jobs))
    assert sorted(plan.placements) == sorted(f"j{i}" for i in range(12, 20))


def test_a_plan_does_not_depend_on_what_running_jobs_are_called() -> None:
    holder = job("r", 1, 4, placement=sa.Placement(H100, (sa.NodeShare("a", 1),)))
    renamed = dataclasses.replace(holder, id="zzz", name="zzz")
    waiting = [job("x", 1, 8), job("y", 1, 4)]
    nodes = [node("a"), node("b")]
    assert sa.plan(worlds.snapshot(nodes, [holder, *waiting])) == sa.plan(worlds.snapshot(nodes, [*waiting, renamed]))


def test_a_domain_without_room_is_not_counted_into_the_bound_on_a_span() -> None:
    # Two pods fit into rack z2/r1, one on a node without a label; z1/r1 is full. That is two domains, not three.
    nodes = [
        node("full", 0, cpu_free=0),
        node("unlabelled", 0, rack=None, cpu_free=8),
        node("roomy", 0, zone="z2", cpu_free=16),
    ]
    plan = sa.plan(worlds.snapshot(nodes, [job("x", 3, 0, cpu=7)]))
    [spanned] = [tier for tier in plan.certificate.tiers if tier.name == "domains spanned"]
    assert spanned.value == spanned.bound == 4  # two zones and two racks


@given(worlds.snapshots(max_nodes=4, max_jobs=3, max_pods=3))
@settings(max_examples=100, deadline=None)
def test_no_placement_of_a_job_spans_fewer_domains_than_its_bound(snapshot: sa.Snapshot) -> None:
    problem = compiling.compile_problem(snapshot)
    rooms = greedy.new_stock(problem)
    index_of = {node.name: i for i, node in enumerate(problem.nodes)}
    for one in problem.queue:
        request = problem.shape_of[one.id].request
        for way in brute.ways(one, snapshot):
            spot = greedy.Spot(way.product, [(index_of[share.node], share.num_pods) for share in way.shares])
            for level in range(len(problem.levels)):
                least = spans.least_span(problem, rooms=rooms, request=request, level=level)
                assert least <= spans.span(problem, takes=spot.takes, level=level)
