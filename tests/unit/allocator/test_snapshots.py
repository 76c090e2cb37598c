"""Snapshots as JSON documents: exact both ways, and strict about what they do not know."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stowplan_allocator as sa
from stowplan_allocator import inputs, snapshots
from unit.allocator import worlds


@given(st.from_type(sa.Snapshot))
@settings(max_examples=25, deadline=None)
def test_any_snapshot_comes_back_as_it_was(snapshot: sa.Snapshot) -> None:
    text = snapshots.write(snapshot)
    assert snapshots.read(text) == snapshot
    assert snapshots.write(snapshots.read(text)) == text


@given(worlds.snapshots())
@settings(max_examples=8, deadline=None)
def test_a_snapshot_that_was_kept_gives_the_same_plan(snapshot: sa.Snapshot) -> None:
    assert sa.plan(snapshots.read(snapshots.write(snapshot))) == sa.plan(snapshot)


def _rich() -> dict[str, Any]:
    node = worlds.node("n1", taints=(sa.Taint("team", sa.TaintEffect.NO_SCHEDULE),), labels={"pool": "a"})
    expression = sa.LabelExpression("pool", sa.LabelOperator.IN, ("a",))
    job = worlds.job("j1", level="rack", products=[worlds.H100], node_affinity=((expression,),))
    placement = sa.Placement(worlds.H100, (sa.NodeShare("n1", 1),))
    snapshot = dataclasses.replace(
        worlds.snapshot([node], [job]), reservations=(sa.Reservation("j1", placement, starts_at_seconds=7),)
    )
    document: dict[str, Any] = json.loads(snapshots.write(snapshot))
    return document


def test_every_field_stands_in_the_document_by_its_own_name() -> None:
    document = _rich()
    assert document.pop("schema") == snapshots.SCHEMA
    assert set(document) == {field.name for field in dataclasses.fields(sa.Snapshot)}
    assert set(document["nodes"][0]) == {field.name for field in dataclasses.fields(sa.Node)}
    assert set(document["jobs"][0]) == {field.name for field in dataclasses.fields(sa.Job)}


def test_a_field_that_the_document_lacks_takes_its_default() -> None:
    document = _rich()
    for name in ("labels", "taints", "spot"):
        del document["nodes"][0][name]
    assert snapshots.from_document(document).nodes[0].labels == {}


# A sentence → where in the document, what is put there, and what the answer must say.
WRONG: dict[str, tuple[list[str | int], Any, list[str]]] = {
    "an unknown field is refused with the one that was meant": (
        ["nodes", 0, "prodct"],
        "x",
        ["nodes[0].prodct: there is no such field", 'did you mean "product"?'],
    ),
    "a number is no text": (["nodes", 0, "name"], 3, ["nodes[0].name: 3 is not a text"]),
    "a text is no number": (["jobs", 0, "num_pods"], "3", ["jobs[0].num_pods: '3' is not a whole number"]),
    "half a pod is no number of pods": (["jobs", 0, "num_pods"], 1.5, ["jobs[0].num_pods: 1.5 is not a whole"]),
    "a flag is no number": (["now_seconds"], True, ["now_seconds: True is not a whole number"]),
    "a number is no flag": (["nodes", 0, "spot"], 1, ["nodes[0].spot: 1 is not true or false"]),
    "an enum has its own words": (
        ["jobs", 0, "topology", "mode"],
        "Maybe",
        ["jobs[0].topology.mode: 'Maybe' is not one of Required, Preferred"],
    ),
    "a list is a list": (["levels"], "rack", ["levels: 'rack' is not a list"]),
    "a pair has two": (["jobs", 0, "node_selector"], [["a"]], ["jobs[0].node_selector[0]: ['a'] is not a list of 2"]),
    "an object is an object": (
        ["jobs", 0, "pod"],
        8,
        ["jobs[0].pod: 8 is not an object with the fields of a Resources"],
    ),
    "labels are an object": (["nodes", 0, "labels"], [], ["nodes[0].labels: [] is not an object"]),
    "null where something must be": (["jobs", 0, "name"], None, ["jobs[0].name: None is not a text"]),
    "another schema is another form": (["schema"], "stowplan-snapshot/9", ["snapshot/9", snapshots.SCHEMA]),
}


@pytest.mark.parametrize(("path", "value", "want"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named_by_its_path(path: list[str | int], value: Any, want: list[str]) -> None:
    document: Any = _rich()
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(inputs.InputError) as caught:
        snapshots.from_document(document, where="kept.json")
    assert len(caught.value.faults) == 1
    assert str(caught.value).startswith("kept.json: ")
    assert all(part in str(caught.value) for part in want), str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    document = _rich()
    document["nodes"][0]["spot"] = "no"
    document["extra"] = 1
    del document["jobs"][0]["pod"]
    with pytest.raises(inputs.InputError) as caught:
        snapshots.from_document(document)
    assert sorted(fault.where for fault in caught.value.faults) == ["extra", "jobs[0].pod", "nodes[0].spot"]


UNREADABLE = {
    "no JSON at all": ("{", "line 1, column 2: this is no JSON"),
    "a key that stands twice": ('{"nodes": [], "nodes": []}', 'the field "nodes" stands twice'),
    "not a number": ('{"now_seconds": NaN}', "NaN is no JSON number"),
    "a list instead of an object": ("[]", "this is no snapshot"),
    "an object that is no snapshot": ("{}", "names no schema"),
    "far too deep": ("[" * 100_000, "cannot be read"),
}


@pytest.mark.parametrize(("text", "want"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_text_that_is_no_document_is_refused(text: str, want: str) -> None:
    with pytest.raises(inputs.InputError) as caught:
        snapshots.read(text, where="kept.json")
    assert "kept.json" in str(caught.value)
    assert want in str(caught.value)


def test_a_long_list_of_faults_is_cut_with_its_number() -> None:
    document = _rich()
    document["nodes"] = [{} for _ in range(30)]
    with pytest.raises(inputs.InputError) as caught:
        snapshots.from_document(document)
    assert len(caught.value.faults) == 120
    assert str(caught.value).splitlines()[-1] == "and 100 more"
