"""What a status says of the plan's decision on a waiting job, and how often it says it anew."""

from __future__ import annotations

import dataclasses

import pytest

from fakes.builders import NOW, a_job, time_text
from stowplan_allocator.types import Reason, Waiting
from unit.operator.deriving import CERTIFICATE, WAITING, Json, again, derive, facts


def decided(at: float, *, waiting: Waiting = WAITING) -> Json:
    old = again(a_job(), derive(a_job(), known=facts(NOW, waiting=WAITING, certificate=CERTIFICATE)))
    decision: Json = derive(old, known=facts(at, waiting=waiting, certificate=CERTIFICATE))["decision"]
    return decision


def test_a_decision_holds_reason_numbers_blockers_and_certificate() -> None:
    assert decided(NOW) == {
        "reason": "WaitingForCapacity",
        "message": "needs 8, 4 are free",
        "numbers": {"free": "4"},
        "blockers": ["team/b"],
        "certificate": {"status": "Optimal", "strategy": "exact", "gap": "0.00014", "bound": "1", "seconds": "0.012"},
        "since": time_text(NOW),
        "lastUpdated": time_text(NOW),
    }


OTHER_NUMBERS = dataclasses.replace(WAITING, message="needs 8, 6 are free", numbers=(("free", "6"),))
OTHER_REASON = dataclasses.replace(WAITING, reason=Reason.FRAGMENTED, message="free, but in pieces")
REFRESHES: dict[str, tuple[float, Waiting, str, float, float]] = {
    "new numbers wait for a minute": (59, OTHER_NUMBERS, "4 are free", 0, 0),
    "after a minute they are told": (60, OTHER_NUMBERS, "6 are free", 0, 60),
    "the same numbers are not told again": (600, WAITING, "4 are free", 0, 0),
    "a new reason is told at once": (1, OTHER_REASON, "in pieces", 1, 1),
}


@pytest.mark.parametrize(
    ("after", "waiting", "want_message", "want_since", "want_updated"), REFRESHES.values(), ids=REFRESHES
)
def test_when_a_decision_is_renewed(
    after: float, waiting: Waiting, want_message: str, want_since: float, want_updated: float
) -> None:
    decision = decided(NOW + after, waiting=waiting)
    assert want_message in decision["message"]
    assert (decision["since"], decision["lastUpdated"]) == (time_text(NOW + want_since), time_text(NOW + want_updated))


def test_an_answer_to_a_changed_spec_does_not_wait() -> None:
    old = again(a_job(), derive(a_job(), known=facts(misconfigured="spec.a: no")))
    new = derive(old.meta(generation=2), known=facts(NOW + 1, misconfigured="spec.b: no"))
    assert (new["message"], new["observedGeneration"]) == ("spec.b: no", 2)
