"""A state comes back as it was: keys of every kind, containers, and what nn.Module notes on its own."""

import collections

import pytest
import torch
from torch import nn

from stowplan_trainer import tree

TENSOR = torch.arange(3.0)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"state": {0: {"m": TENSOR}, 1: {"m": TENSOR + 1}}}, id="whole-number keys, as an optimizer has"),
        pytest.param({"a": [TENSOR, {"b": (1, TENSOR)}], "c": []}, id="tensors in lists and tuples"),
        pytest.param({"a": {}, "b": None, "c": [1, "x", (2.5, True)]}, id="no tensors, and empty containers"),
        pytest.param(TENSOR, id="one tensor"),
        pytest.param(collections.OrderedDict(x=TENSOR), id="an ordered dict"),
    ],
)
def test_joined_it_is_what_was_split(state):
    structure, tensors = tree.split(state)
    joined = tree.join(structure, tensors)
    assert repr(joined) == repr(state)
    assert type(joined) is type(state)


def test_what_a_module_notes_on_its_state_stays():
    state = nn.BatchNorm1d(3).state_dict()
    assert tree.join(*tree.split(state))._metadata == state._metadata


def test_tensors_are_named_by_their_place():
    assert list(tree.split({"model": {"layers": [{"weight": TENSOR}]}})[1]) == ["model.layers.0.weight"]


def test_two_tensors_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two tensors of the state have the name a\.b"):
        tree.split({"a.b": TENSOR, "a": {"b": TENSOR}})
