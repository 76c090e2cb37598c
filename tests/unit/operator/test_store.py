"""Indexes that lag, overlaid with the answers to our own writes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fakes.builders import a_node
from stowplan_operator import store, views
from stowplan_operator.store import Store, Table


@dataclass(frozen=True)
class Thing:
    """An object at a version."""

    uid: str
    resource_version: str


def table(**indexed: str) -> tuple[Table[Thing], dict[str, tuple[Thing, ...]]]:
    index = {uid: (Thing(uid, version),) for uid, version in indexed.items()}
    return Table(index), index


def seen(found: Table[Thing]) -> dict[str, str]:
    return {thing.uid: thing.resource_version for thing in found}


@pytest.mark.parametrize(
    ("left", "right", "want"),
    [
        ("9", "10", True),
        ("10", "9", False),
        ("10", "10", False),
        ("99999999999999999999", "100000000000000000000", True),
        ("abc", "10", False),
        ("10", "abc", False),
        ("", "1", False),
    ],
)
def test_versions_compare_as_numbers(left: str, right: str, want: bool) -> None:
    assert store.is_older(left, right) is want


def test_without_answers_the_index_is_what_is_known() -> None:
    found, _ = table(a="1", b="2")
    assert seen(found) == {"a": "1", "b": "2"}


def test_an_answer_stands_in_until_the_watch_has_caught_up() -> None:
    found, index = table(a="9")
    found.put(Thing("a", "10"))
    assert seen(found) == {"a": "10"}
    index["a"] = (Thing("a", "9"),)
    found.observed("a", "9", deleted=False)
    assert seen(found) == {"a": "10"}, "an older event is no news"
    index["a"] = (Thing("a", "11"),)
    assert seen(found) == {"a": "11"}, "a newer index wins even before the handler is told"
    found.observed("a", "11", deleted=False)
    index["a"] = (Thing("a", "8"),)
    assert seen(found) == {"a": "8"}, "the answer is forgotten"


def test_an_object_that_the_watch_has_not_shown_is_there() -> None:
    found, index = table()
    found.put(Thing("a", "10"))
    assert seen(found) == {"a": "10"}
    assert found.indexed_versions() == {}, "the audit compares what the watch has shown"
    index["a"] = (Thing("a", "10"),)
    found.observed("a", "10", deleted=False)
    assert seen(found) == {"a": "10"}


@pytest.mark.parametrize("version", ["12", "10", "9", ""])
def test_a_deleted_object_is_gone_with_its_answer(version: str) -> None:
    found, index = table(a="9")
    found.put(Thing("a", "10"))
    del index["a"]
    found.observed("a", version, deleted=True)
    assert seen(found) == {}


def test_an_old_answer_never_hides_a_newer_index() -> None:
    found, _ = table(a="12")
    found.put(Thing("a", "10"))
    assert seen(found) == {"a": "12"}


def test_an_answer_that_no_watch_ever_confirms_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod was created and deleted before the answer to its creation arrived."""
    now = 1000.0
    monkeypatch.setattr(store.time, "monotonic", lambda: now)
    found, _ = table()
    found.put(Thing("a", "10"))
    now += 120
    assert seen(found) == {"a": "10"}
    now += 1
    assert seen(found) == {}


def test_priorities() -> None:
    low, high = views.PriorityClass(1), views.PriorityClass(1000)
    found = Store(nodes={}, pods={}, jobs={}, priorities={"low": [low], "high": [high]}, queues={}, imposed={})
    assert (found.priorities(), found.default_priority().value) == ({"low": low, "high": high}, 0)
    low = views.PriorityClass(5, is_default=True)
    found = Store(nodes={}, pods={}, jobs={}, priorities={"low": [low], "high": [high]}, queues={}, imposed={})
    assert found.default_priority() == low


def test_the_store_has_a_table_for_each_resource() -> None:
    node = a_node("n1").view()
    found = Store(nodes={node.uid: [node]}, pods={}, jobs={}, priorities={}, queues={}, imposed={})
    assert list(found.nodes) == [node]
    assert (list(found.pods), list(found.jobs)) == ([], [])
