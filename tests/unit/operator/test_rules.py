"""Which rule of a failure policy speaks of a failure."""

from __future__ import annotations

from typing import Any

import pytest

import crd_schema
from stowplan_operator import api, failures, rules

POLICY = crd_schema.root_schema()["properties"]["spec"]["properties"]["failurePolicy"]["properties"]
RULE = POLICY["rules"]["items"]["properties"]


def match(*written: dict[str, Any], reason: str = "ContainerFailed", exit_code: int | None = 1, signal: int = 0) -> str:
    """The name of the rule that matches; every rule gets FailJob."""
    policy = api.FailurePolicy.model_validate({"rules": [{"action": "FailJob", **one} for one in written]})
    found = rules.first_match(policy.rules, reason=reason, exit_code=exit_code, signal=signal)
    return found[1] if found else ""


FIRST = "spec.failurePolicy.rules[0]"
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "no rules": ([], {}, ""),
    "a reason": ([{"reasons": ["Hang", "OOMKilled"]}], {"reason": "OOMKilled"}, FIRST),
    "another reason": ([{"reasons": ["OOMKilled"]}], {}, ""),
    "an exit code": ([{"exitCodes": [2, 3]}], {"exit_code": 3}, FIRST),
    "the first of a range": ([{"exitCodes": ["64-78"]}], {"exit_code": 64}, FIRST),
    "the last of a range": ([{"exitCodes": ["64-78"]}], {"exit_code": 78}, FIRST),
    "one after a range": ([{"exitCodes": ["64-78"]}], {"exit_code": 79}, ""),
    "a failure without an exit code": ([{"exitCodes": ["1-255"]}], {"exit_code": None}, ""),
    "a signal": ([{"signals": [9]}], {"exit_code": 137, "signal": 9}, FIRST),
    "no signal": ([{"signals": [9]}], {"exit_code": 9}, ""),
    "all lists that are given must hold": ([{"reasons": ["ContainerFailed"], "exitCodes": [2]}], {}, ""),
    "both do": ([{"reasons": ["ContainerFailed"], "exitCodes": [1]}], {}, FIRST),
    "the first that matches": (
        [{"exitCodes": [2]}, {"exitCodes": [1], "name": "mine"}, {"exitCodes": [1]}],
        {},
        "spec.failurePolicy.rules[1] (mine)",
    ),
}


@pytest.mark.parametrize(("written", "failure", "want"), CASES.values(), ids=CASES)
def test_first_match(written: list[dict[str, Any]], failure: dict[str, Any], want: str) -> None:
    assert match(*written, **failure) == want


def test_the_crd_knows_the_causes_and_the_actions() -> None:
    ends_the_job_anyway = {failures.Cause.DEADLINE_EXCEEDED}
    assert set(RULE["reasons"]["items"]["enum"]) == set(failures.Cause) - ends_the_job_anyway
    assert RULE["action"]["enum"] == list(api.FailureAction)
