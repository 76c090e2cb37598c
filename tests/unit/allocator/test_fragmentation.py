"""FGD's measure and the worth of a room, by hand."""

from __future__ import annotations

import dataclasses

import pytest

from stowplan_allocator import fragmentation, room_value
from stowplan_allocator.fragmentation import Room, Want

SHARE = Want(1, 400, (4,))
WHOLE = Want(1, 1000, (8,))
PAIR = Want(2, 1000, (8,))
PLAIN = Want(0, 0, (2,))


@dataclasses.dataclass(frozen=True)
class Case:
    want: Want
    devices: tuple[int, ...]
    cpu: int
    want_fragment: int


FRAGMENTS = {
    "a share uses every device with enough left": Case(SHARE, (1000, 400, 300), 8, 300),
    "a whole device leaves the opened ones": Case(WHOLE, (1000, 900, 300), 8, 1200),
    "two devices are not there": Case(PAIR, (1000, 900), 8, 1900),
    "two devices use whole ones only": Case(PAIR, (1000, 1000, 900), 8, 900),
    "without CPU all is a fragment": Case(SHARE, (1000, 400), 3, 1400),
    "a pod without devices uses none": Case(PLAIN, (1000, 400), 8, 1400),
    "nothing free is no fragment": Case(WHOLE, (0, 0), 8, 0),
    "the wrong kind of node": Case(dataclasses.replace(SHARE, kinds=frozenset({"B"})), (1000,), 8, 1000),
    "one of the right kinds": Case(dataclasses.replace(SHARE, kinds=frozenset({"A", "B"})), (1000,), 8, 0),
}


@pytest.mark.parametrize("case", FRAGMENTS.values(), ids=FRAGMENTS.keys())
def test_fragment(case: Case) -> None:
    assert fragmentation.fragment(case.want, Room("A", case.devices, (case.cpu,))) == case.want_fragment


def test_the_measure_is_the_expectation_over_requests() -> None:
    wants = fragmentation.weighted([dataclasses.replace(SHARE, weight=3.0), WHOLE])
    assert fragmentation.expected(Room("A", (1000, 500, 300), (8,)), wants=wants) == 0.75 * 300 + 0.25 * 800


def test_usual_requests_are_the_most_frequent_ones() -> None:
    wants = [dataclasses.replace(want, weight=weight) for want, weight in ((SHARE, 60), (WHOLE, 35), (PAIR, 5))]
    kept = fragmentation.usual(wants, share=0.95)
    assert [want.milli for want in kept] == [400, 1000]
    assert sum(want.weight for want in kept) == pytest.approx(1)
    assert kept[0].weight == pytest.approx(60 / 95)


def test_a_share_may_go_to_each_different_device() -> None:
    rooms = fragmentation.after(Room("A", (1000, 1000, 600, 300), (9,)), SHARE)
    assert [room.devices for room in rooms] == [(1000, 1000, 300, 200), (1000, 600, 600, 300)]
    assert {room.others for room in rooms} == {(5,)}


def test_whole_devices_are_taken_from_whole_ones() -> None:
    (room,) = fragmentation.after(Room("A", (1000, 1000, 1000, 300), (9,)), PAIR)
    assert room.devices == (1000, 300, 0, 0)
    assert fragmentation.after(Room("A", (1000, 900), (9,)), PAIR) == ()


def test_where_all_want_whole_devices_only_whole_ones_have_a_price() -> None:
    prices = room_value.prices([WHOLE])
    assert prices.of_device(1000) == pytest.approx(1000)
    assert prices.of_device(990) == 0
    assert prices.per_device == (8,)


def test_a_device_is_worth_less_where_large_shares_come_that_nothing_fits_beside() -> None:
    wants = [Want(1, 1000, (1,), weight=1.0), Want(1, 800, (1,), weight=1.0)]
    prices = room_value.prices(wants)
    assert prices.of_device(1000) == pytest.approx(900)
    assert prices.of_device(200) == 0


def test_what_can_be_filled_exactly_is_worth_more_than_what_is_free_suggests() -> None:
    prices = room_value.prices([Want(1, 500, (1,))])
    assert prices.of_device(500) == pytest.approx(prices.of_device(900)) == pytest.approx(500)
    assert prices.of_device(490) == 0


def test_prices_grow_with_what_is_free() -> None:
    wants = [Want(1, milli, (1,), weight=weight) for milli, weight in ((1000, 4.0), (470, 2.0), (320, 1.0), (810, 2.0))]
    device = room_value.prices(wants).device
    assert list(device) == sorted(device)
    assert device[-1] > 0


def test_devices_beside_too_little_of_something_are_worth_what_that_allows() -> None:
    prices = room_value.prices([WHOLE])
    assert prices.of_room(Room("A", (1000, 1000), (16,))) == pytest.approx(2000)
    assert prices.of_room(Room("A", (1000, 1000), (12,))) == pytest.approx(1500)


def test_worth_counts_fragments_and_pods_without_devices() -> None:
    wants = fragmentation.weighted([WHOLE, PLAIN])
    worth = room_value.Worth.under(wants, usual=wants)
    fragments = room_value.FRAGMENTS * (0.5 * 1300 + 0.5 * 300)
    plain = room_value.PLAIN * 1000 * 2 / 8
    assert worth.of_room(Room("A", (1000, 300), (8,))) == pytest.approx(1000 - fragments + plain)
    assert worth.of_room(Room("A", (0,), (1,))) == 0


def test_without_requests_for_devices_there_is_nothing_to_price() -> None:
    assert room_value.prices([PLAIN]).of_device(500) == 500
