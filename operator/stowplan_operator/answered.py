"""Which answer a waiting job has been given: what must be the same for what was found beside it to hold. Pure.

Alternatives are found for one answer and shown beside no other, and an answer that a user's own change has made
another is told at once. What must stay true: numbers that other jobs move by coming and going make no other answer,
or a busy cluster would ask and write all the time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stowplan_allocator.types import Reason, Waiting

# What is asked for, and what queues and ResourceQuotas allow: the names that tell which limit it is, and its numbers,
# which only a user's own change moves.
_LIMITS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ("pods_needed", "accelerators_needed", "accelerators_per_job")),
    (("queue", "quota_product"), ("quota_wanted", "quota_nominal")),
    (("queue", "quota_product", "quota_binds_at"), ("quota_limit",)),
    (("queue",), ("max_running_jobs",)),
    (("resource_quota", "resource_quota_resource"), ("resource_quota_hard", "resource_quota_needed")),
)
_RULES = frozenset(name for named, limits in _LIMITS for name in (*named, *limits))
# What others leave: with less of the first, or more of the second, what was found before may do no longer.
_ROOM = ("pods_fitting", "accelerators_free")
_TAKEN = ("quota_used", "quota_used_there", "running_jobs", "resource_quota_used", "jobs_ahead")
# What is lost with a change, and what it takes to ask for it: these grow by the second.
_PRICE = re.compile(r"\d+(?= accelerator-seconds)|(?<=make-room=)\d+")
_ANOTHER_PRICE = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one generation of a job's spec."""

    reason: str
    rules: Mapping[str, str]
    blockers: frozenset[str]
    generation: int
    numbers: Mapping[str, str]

    def is_same(self, other: Answer) -> bool:
        """Whether what was found for the one holds for the other: some of those who are in the way still are."""
        return (self.reason, self.rules, self.generation) == (other.reason, other.rules, other.generation) and (
            self.blockers == other.blockers or not self.blockers.isdisjoint(other.blockers)
        )

    def has_room_of(self, other: Answer) -> bool:
        """Whether others leave at least what they left then."""
        now, then = self.numbers, other.numbers
        return all(_at_least(now[name], then[name]) for name in _ROOM if name in now and name in then) and all(
            _at_least(then[name], now[name]) for name in _TAKEN if name in now and name in then
        )


def of_plan(waiting: Waiting, *, generation: int) -> Answer:
    """What the plan answers."""
    numbers = dict(waiting.numbers)
    return Answer(waiting.reason.value, _rules(numbers), frozenset(waiting.blockers), generation, numbers)


def of_decision(decision: Mapping[str, Any], *, generation: int) -> Answer:
    """What ``status.decision`` says."""
    blockers, numbers = frozenset(decision.get("blockers", ())), decision.get("numbers", {})
    return Answer(decision.get("reason", ""), _rules(numbers), blockers, generation, numbers)


def is_by_user(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a user's own change made ``new`` of ``old``, two decisions of one reason: a limit is another than it was.

    That another limit is named does not tell: which one binds depends upon who runs.
    """
    if new["reason"] == Reason.MISCONFIGURED.value:
        return bool(old.get("message") != new["message"])
    before, after = old.get("numbers", {}), new.get("numbers", {})
    return any(
        all(before.get(name) == after.get(name) for name in named)
        and any(name in before and name in after and before[name] != after[name] for name in limits)
        for named, limits in _LIMITS
    )


def names_another_limit(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the limit that one decision names is another one's in the other."""
    before, after = old.get("numbers", {}), new.get("numbers", {})
    return any(before.get(name) != after.get(name) for named, _ in _LIMITS for name in named)


def costs_about_the_same(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether alternatives differ in nothing but prices, and in none of these by more than a fifth."""
    if [_PRICE.sub("", one) for one in old] != [_PRICE.sub("", one) for one in new]:
        return False
    pairs = zip(_PRICE.findall(" ".join(old)), _PRICE.findall(" ".join(new)), strict=True)
    return all(abs(int(after) - int(before)) <= _ANOTHER_PRICE * int(before) for before, after in pairs)


def _at_least(value: str, other: str) -> bool:
    """Whether a number is no less; amounts with a unit are compared as texts."""
    return int(value) >= int(other) if value.isdecimal() and other.isdecimal() else value == other


def _rules(numbers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in numbers.items() if name in _RULES}
