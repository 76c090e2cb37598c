"""What is said of queues to people: used, borrowed, lent, and the fair part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import standings
from stowplan_allocator.standings import Standing

A, B = "A100", "B200"
CAPACITY = {A: 32, B: 8}


def queue(name: str, nominal: int | None = None, *, parent: str = "org", **fields: int) -> sa.Queue:
    quotas = () if nominal is None else (sa.Quota(A, nominal, fields.get("borrow"), fields.get("lend")),)
    return sa.Queue(name, parent=parent, quotas=quotas, weight_milli=fields.get("weight", 1000))


def uses(name: str, amount: int, product: str = A) -> sa.Job:
    place = sa.Placement(product, (sa.NodeShare("n", 1),))
    return sa.Job(f"{name} runs {amount}", "r", 1, sa.Resources(accelerators=amount), queue=name, placement=place)


def wants(name: str, amount: int, *products: str) -> sa.Job:
    choices = tuple(sa.ProductChoice(product) for product in products)
    return sa.Job(f"{name} wants {amount}", "w", 1, sa.Resources(accelerators=amount), queue=name, products=choices)


def stand(queues: list[sa.Queue], jobs: list[sa.Job]) -> dict[str, Standing]:
    return standings.standings(queues, jobs, capacity=CAPACITY)


def line(found: Standing) -> tuple[int | None, int, int, int, int, int]:
    """Of product A: nominal, owned, used, pending, borrowed, lent."""
    one = next(one for one in found.lines if one.product == A)
    return one.nominal, one.owned, one.used, one.pending, one.borrowed, one.lent


ORG = queue("org", parent="")
LINES: dict[str, tuple[list[sa.Queue], list[sa.Job], dict[str, tuple[int | None, int, int, int, int, int]]]] = {
    "one borrows what the other lends": (
        [ORG, queue("x", 8), queue("y", 8)],
        [uses("x", 12), wants("y", 8)],
        {"x": (8, 8, 12, 0, 4, 0), "y": (8, 8, 0, 8, 0, 4), "org": (None, 16, 12, 8, 0, 0)},
    ),
    "what is kept from lending is never lent, and its queue's above count it": (
        [ORG, queue("x", 8), queue("y", 8, lend=2)],
        [uses("x", 10), uses("y", 6)],
        {"x": (8, 8, 10, 0, 2, 0), "y": (8, 8, 6, 0, 0, 2), "org": (None, 16, 16, 0, 0, 0)},
    ),
    "a queue with jobs of its own borrows from those below it": (
        [queue("org", 4, parent=""), queue("x", 8)],
        [uses("org", 6), uses("x", 2)],
        {"org": (4, 12, 8, 0, 0, 0), "x": (8, 8, 2, 0, 0, 2)},
    ),
    "nobody owns: guests borrow from nobody": (
        [ORG, queue("x")],
        [uses("x", 6)],
        {"x": (None, 0, 6, 0, 0, 0), "org": (None, 0, 6, 0, 0, 0)},
    ),
    "what guests use of all that is owned is lent to them": (
        [ORG, queue("x", 16), queue("y", 16), queue("z", parent="")],
        [uses("z", 20), uses("", 12)],
        {"x": (16, 16, 0, 0, 0, 16), "y": (16, 16, 0, 0, 0, 16), "org": (None, 32, 0, 0, 0, 32)},
    ),
    "as long as enough is free beside guests nothing is lent to them": (
        [ORG, queue("x", 16), queue("y", 16), queue("z", parent="")],
        [uses("z", 16)],
        {"x": (16, 16, 0, 0, 0, 0), "y": (16, 16, 0, 0, 0, 0), "org": (None, 32, 0, 0, 0, 16)},
    ),
    "what one borrows and what guests use are lent together": (
        [ORG, queue("x", 16), queue("y", 16)],
        [uses("x", 24), uses("", 8)],
        {"x": (16, 16, 24, 0, 8, 0), "y": (16, 16, 0, 0, 0, 16), "org": (None, 32, 24, 0, 0, 8)},
    ),
    "what the cluster does not have is lent to nobody": (
        [ORG, queue("x", 40)],
        [uses("", 4)],
        {"x": (40, 40, 0, 0, 0, 4)},
    ),
    "one that owns nothing of what another names borrows all of it": (
        [ORG, queue("x", 8), queue("y")],
        [uses("y", 4)],
        {"y": (None, 0, 4, 0, 4, 0), "x": (8, 8, 0, 0, 0, 4)},
    ),
}


@pytest.mark.parametrize(("queues", "jobs", "want"), LINES.values(), ids=LINES)
def test_lines(
    queues: list[sa.Queue], jobs: list[sa.Job], want: dict[str, tuple[int | None, int, int, int, int, int]]
) -> None:
    found = stand(queues, jobs)
    assert {name: line(found[name]) for name in want} == want


def test_what_guests_use_is_lent_by_who_owns_of_any_product() -> None:
    found = stand([sa.Queue("x", quotas=(sa.Quota(B, 8), sa.Quota("*", 32)))], [uses("", 24), uses("", 2, B)])
    assert {one.product: one.lent for one in found["x"].lines} == {"*": 24, B: 2}


def test_jobs_and_accelerators_are_counted_up_the_tree() -> None:
    jobs = [uses("x", 4), uses("y", 2, B), wants("y", 8), wants("y", 1, B), uses("", 3), uses("gone", 1)]
    found = stand([ORG, queue("x", 8), queue("y", 8)], jobs)
    assert {name: (one.running, one.waiting, one.pending) for name, one in found.items()} == {
        "org": (2, 2, 9),
        "x": (1, 0, 0),
        "y": (1, 2, 9),
        "": (2, 0, 0),
    }
    assert found["y"].share == 2 / 8, "of the product of which it has the largest part"


PARTS: dict[str, tuple[list[sa.Queue], list[sa.Job], dict[str, float]]] = {
    "equal weights, both want more than there is": (
        [queue("x", parent=""), queue("y", parent="")],
        [uses("x", 24), wants("y", 40)],
        {"x": 16 / 32, "y": 16 / 32},
    ),
    "by weight": (
        [queue("x", parent="", weight=3000), queue("y", parent="")],
        [wants("x", 40), wants("y", 40)],
        {"x": 24 / 32, "y": 8 / 32},
    ),
    "who wants less leaves the rest": (
        [queue("x", parent="", weight=3000), queue("y", parent="")],
        [wants("x", 4), wants("y", 40)],
        {"x": 4 / 32, "y": 28 / 32},
    ),
    "what is owned goes first": (
        [ORG, queue("x", 24), queue("y", 8)],
        [wants("x", 40), uses("y", 32)],
        {"x": 24 / 32, "y": 8 / 32},
    ),
    "what one does not use the other may have": (
        [ORG, queue("x", 24), queue("y", 8)],
        [wants("x", 4), uses("y", 32)],
        {"x": 4 / 32, "y": 28 / 32},
    ),
    "up to its borrowing limit": (
        [ORG, queue("x", 24), queue("y", 8, borrow=2)],
        [uses("y", 32)],
        {"x": 0.0, "y": 10 / 32},
    ),
    "what is kept from lending is owned all the same": (
        [ORG, queue("x", 16), queue("y", 16, lend=0)],
        [wants("x", 40), wants("y", 16)],
        {"x": 16 / 32, "y": 16 / 32, "org": 1.0},
    ),
    "what another keeps for itself is nobody else's": (
        [ORG, queue("x", 16), queue("y", 16, lend=4)],
        [wants("x", 40), wants("y", 2)],
        {"x": 20 / 32, "y": 2 / 32, "org": 22 / 32},
    ),
    "more owned than there is": (
        [ORG, queue("x", 48), queue("y", 16)],
        [wants("x", 48), wants("y", 16)],
        {"x": 24 / 32, "y": 8 / 32},
    ),
}


@pytest.mark.parametrize(("queues", "jobs", "want"), PARTS.values(), ids=PARTS)
def test_the_fair_part(queues: list[sa.Queue], jobs: list[sa.Job], want: dict[str, float]) -> None:
    found = stand(queues, jobs)
    assert {name: round(found[name].ideal, 6) for name in want} == want


NAMES = ("", "org", "x", "y", "z")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[sa.Queue], list[sa.Job]]:
    quota = st.none() | st.integers(0, 40)
    weights = st.integers(1, 5000)
    queues = [
        queue(name, draw(quota), parent=parent, weight=draw(weights))
        for name, parent in (("org", ""), ("x", "org"), ("y", "org"), ("z", ""))
    ]
    jobs = [
        draw(st.sampled_from((uses, wants)))(draw(st.sampled_from(NAMES)), draw(st.integers(1, 16)))
        for _ in range(draw(st.integers(0, 8)))
    ]
    return queues, jobs


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_the_fair_part_is_wanted_and_fits(world: tuple[list[sa.Queue], list[sa.Job]]) -> None:
    queues, jobs = world
    found = stand(queues, jobs)
    for one in found.values():
        (amounts,) = [(each.used, each.pending) for each in one.lines if each.product == A] or [(0, 0)]
        assert one.ideal <= sum(amounts) / CAPACITY[A] + 1e-9
    assert found["x"].ideal + found["y"].ideal <= found["org"].ideal + 1e-9
    assert sum(found[name].ideal for name in ("", "org", "z")) <= 1 + 1e-9
