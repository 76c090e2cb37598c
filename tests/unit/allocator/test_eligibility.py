"""Node affinity as core/v1 has it, kinds of capacity, and the order of equal nodes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import labels
from unit.allocator import worlds
from unit.allocator.worlds import EXISTS, GT, IN, LT, MISSING, NOT_IN, job, node

Op = sa.LabelOperator

MATCHES: dict[str, tuple[Op, tuple[str, ...], dict[str, str], bool]] = {
    "In holds for one of the values": (IN, ("a", "b"), {"k": "b"}, True),
    "In fails for another value": (IN, ("a", "b"), {"k": "c"}, False),
    "In fails without the label": (IN, ("a", ""), {}, False),
    "NotIn fails for one of the values": (NOT_IN, ("a", "b"), {"k": "b"}, False),
    "NotIn holds for another value": (NOT_IN, ("a",), {"k": "c"}, True),
    "NotIn holds without the label": (NOT_IN, ("a",), {}, True),
    "Exists holds for an empty value": (EXISTS, (), {"k": ""}, True),
    "Exists fails without the label": (EXISTS, (), {"j": "x"}, False),
    "DoesNotExist holds without the label": (MISSING, (), {"j": "x"}, True),
    "DoesNotExist fails with the label": (MISSING, (), {"k": ""}, False),
    "Gt compares numbers and not text": (GT, ("9",), {"k": "10"}, True),
    "Gt is strict": (GT, ("9",), {"k": "9"}, False),
    "Gt fails without the label": (GT, ("-1",), {}, False),
    "Gt fails for a word": (GT, ("1",), {"k": "ten"}, False),
    "Lt takes negative numbers": (LT, ("-1",), {"k": "-2"}, True),
    "Lt is strict": (LT, ("9",), {"k": "9"}, False),
}


@pytest.mark.parametrize(("operator", "values", "there", "want"), MATCHES.values(), ids=MATCHES.keys())
@pytest.mark.parametrize("strategy", list(sa.Strategy))
def test_an_affinity_expression(
    strategy: sa.Strategy, operator: Op, values: tuple[str, ...], there: dict[str, str], want: bool
) -> None:
    term = (sa.LabelExpression("k", operator, values),)
    snapshot = worlds.snapshot([node("a", labels=there)], [job("x", node_affinity=(term,))])
    assert ("x" in sa.plan(snapshot, sa.Settings(strategy=strategy)).placements) is want


@pytest.mark.parametrize("text", ["", "4.5", "0x4", " 4", "4" * 40, "٤"])
def test_what_is_no_integer(text: str) -> None:
    assert labels.integer_of(text) is None


def test_one_term_is_enough_and_all_its_expressions_must_hold() -> None:
    nodes = [node("both", labels={"a": "1", "b": "1"}), node("one", labels={"a": "1"}), node("c", labels={"c": "1"})]
    a, b, c = (sa.LabelExpression(key, EXISTS) for key in "abc")
    plan = sa.plan(worlds.snapshot(nodes, [job(f"x{i}", node_affinity=((a, b), (c,))) for i in range(3)]))
    assert {share.node for placement in plan.placements.values() for share in placement.shares} == {"both", "c"}


def test_spot_is_chosen_by_price_where_the_job_does_not_care() -> None:
    nodes = [node("a", price_per_hour_micros=9), node("b", spot=True, price_per_hour_micros=3)]
    kinds = {"any": sa.CapacityType.ANY, "safe": sa.CapacityType.ON_DEMAND, "cheap": sa.CapacityType.SPOT}
    for name, kind in kinds.items():
        plan = sa.plan(worlds.snapshot(nodes, [job(name, capacity_type=kind)]))
        assert plan.placements[name].shares[0].node == ("a" if name == "safe" else "b")


def test_seeds_permute_equal_nodes_only() -> None:
    nodes = [node(f"n{i}") for i in range(30)] + [node("full", 4)]
    snapshot = worlds.snapshot(nodes, [job("x", 2), job("small", 1, 4)])
    first = {}
    for seed in range(8):
        plan = sa.plan(snapshot, sa.Settings(seed=seed))
        assert plan == sa.plan(snapshot, sa.Settings(seed=seed))
        assert plan.placements["small"].shares[0].node == "full"
        first[seed] = frozenset(share.node for share in plan.placements["x"].shares)
    assert first[0] == {"n0", "n1"}
    assert len(set(first.values())) > 4


@given(worlds.snapshots(max_nodes=5, max_jobs=5, max_pods=3), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_seed_changes_no_proven_tier(snapshot: sa.Snapshot, seed: int) -> None:
    plain, other = sa.plan(snapshot), sa.plan(snapshot, sa.Settings(seed=seed))
    for ours, theirs in zip(plain.certificate.tiers, other.certificate.tiers, strict=True):
        if sa.SolveStatus.FEASIBLE in (ours.status, theirs.status):
            break
        assert ours.value == theirs.value, ours.name
