"""The table of XIDs: exactly the codes that were agreed on, under the action that each asks for."""

from __future__ import annotations

import pytest

from stowplan_operator import xids
from stowplan_operator.xids import Action

WANT: dict[Action, set[int]] = {
    Action.RESTART_APP: {8, 13, 31, 32, 68, 69, 94},
    Action.RESET_GPU: {46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158},
    Action.RESTART_NODE: {79},
    Action.EXCLUDE: {48, 74, *range(144, 151)},
    Action.RECORD: {43, 44, 63, 92, 121, 137, 160, 161},
}


@pytest.mark.parametrize("action", Action)
def test_codes_by_action(action: Action) -> None:
    assert {code for code, xid in xids.TABLE.items() if xid.action is action} == WANT[action]


def test_an_unknown_code_is_only_recorded_and_a_setting_comes_before_the_table() -> None:
    assert xids.action_of(999, {}) is Action.RECORD
    assert xids.action_of(0, {}) is Action.RECORD
    assert xids.action_of(79, {}) is Action.RESTART_NODE
    assert xids.action_of(79, {79: Action.RECORD}) is Action.RECORD
    assert xids.action_of(999, {999: Action.EXCLUDE}) is Action.EXCLUDE


def test_which_actions_keep_new_pods_away() -> None:
    assert {action for action in Action if action.excludes} == {Action.RESET_GPU, Action.RESTART_NODE, Action.EXCLUDE}


def test_every_name_says_what_it_is_in_few_words() -> None:
    assert xids.describe(79) == "XID 79 (GPU has fallen off the bus)"
    assert xids.describe(999) == "XID 999"
    assert all(0 < len(xid.name) <= 50 for xid in xids.TABLE.values())
