"""What a status says of the plan's decision on a waiting job, and how often it says it anew."""

from __future__ import annotations

import dataclasses

import pytest

from fakes.builders import NOW, JobBuilder, a_job, time_text
from stowplan_allocator.advising import Advice, Change
from stowplan_allocator.relaxing import ChangeKind
from stowplan_allocator.types import Reason, Waiting
from stowplan_operator import answered
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


CAPPED = {"queue": "red", "max_running_jobs": "2"}
OWNED = {"queue": "red", "quota_product": "*", "quota_nominal": "8", "quota_binds_at": "red", "quota_limit": "8"}
ABOVE = OWNED | {"quota_binds_at": "org", "quota_limit": "16"}
OF_PODS = {"resource_quota": "cap", "resource_quota_resource": "pods", "resource_quota_hard": "4"}
OF_GPUS = {"resource_quota": "cap", "resource_quota_resource": "requests.nvidia.com/gpu", "resource_quota_hard": "8"}
LIMITS: dict[str, tuple[dict[str, str], dict[str, str], int]] = {
    "a quota that was raised": (OWNED, OWNED | {"quota_nominal": "12", "quota_limit": "12"}, 1),
    "the quota of the queue above": (ABOVE, ABOVE | {"quota_limit": "4"}, 1),
    "a limit of running jobs": (CAPPED, CAPPED | {"max_running_jobs": "3"}, 1),
    "a ResourceQuota": (OF_PODS, OF_PODS | {"resource_quota_hard": "5"}, 1),
    "a queue's other limit, which binds as others run": (CAPPED, OWNED, 60),
    "another queue of the tree, which binds as others run": (OWNED, ABOVE, 60),
    "another resource of the ResourceQuota, which others use": (OF_PODS, OF_GPUS, 60),
}


@pytest.mark.parametrize(("old", "new", "want_seconds"), LIMITS.values(), ids=LIMITS)
def test_a_limit_that_a_user_changed_is_told_at_once_to_all_and_one_that_others_bring_within_the_minute(
    old: dict[str, str], new: dict[str, str], want_seconds: int
) -> None:
    before, after = (dataclasses.replace(WAITING, numbers=tuple(numbers.items())) for numbers in (old, new))
    job = again(a_job(), derive(a_job(), known=facts(NOW, waiting=before, num_waiting=4000)))
    told = (derive(job, known=facts(NOW + at, waiting=after, num_waiting=4000))["decision"] for at in range(1, 70))
    first = next(at for at, decision in enumerate(told, start=1) if decision["numbers"] == new)
    assert first == want_seconds


def test_an_answer_to_a_changed_spec_does_not_wait() -> None:
    old = again(a_job(), derive(a_job(), known=facts(misconfigured="spec.a: no")))
    new = derive(old.meta(generation=2), known=facts(NOW + 1, misconfigured="spec.b: no"))
    assert (new["message"], new["observedGeneration"]) == ("spec.b: no", 2)


def renewals(*, num_waiting: int, cycles: range) -> int:
    """How often one of so many waiting jobs is written while in every cycle others have come in its way, and gone."""
    job = again(a_job(), derive(a_job(), known=facts(NOW, waiting=WAITING)))
    count = 0
    for seconds in cycles:
        waiting = dataclasses.replace(OTHER_NUMBERS, message=f"{seconds}", blockers=(f"team/other-{seconds}",))
        known = facts(NOW + seconds, waiting=waiting, num_waiting=num_waiting, is_there=lambda name: False)
        status = derive(job, known=known)
        count += status["decision"] != job.body()["status"]["decision"]
        job = again(a_job(), status)
    return count


@pytest.mark.parametrize(
    ("num_waiting", "want_each"),
    [(1, 600), (100, 100), (300, 33), (1000, 10), (10_000, 10)],
    ids=["one job at once", "100 jobs", "300 jobs", "1,000 jobs every minute", "and ten times as many"],
)
def test_blockers_that_have_gone_are_told_sooner_the_fewer_wait(num_waiting: int, want_each: int) -> None:
    each = renewals(num_waiting=num_waiting, cycles=range(1, 601))
    assert each == want_each
    assert each <= max(10, 10_000 / num_waiting), "1,000 a minute over all jobs, or each every minute"


def test_what_others_free_is_told_every_minute_while_somebody_of_those_named_is_still_there() -> None:
    job = again(a_job(), derive(a_job(), known=facts(NOW, waiting=WAITING)))
    waiting = dataclasses.replace(OTHER_NUMBERS, blockers=("team/c",))
    known = [facts(NOW + after, waiting=waiting, num_waiting=1) for after in (59, 60)]
    assert [derive(job, known=one)["decision"]["blockers"] for one in known] == [["team/b"], ["team/c"]]


def offering(job: JobBuilder, at: float, *sentences: str) -> Json:
    """The decision on a waiting job for which these changes were found."""
    changes = tuple(Change(ChangeKind.JOB_ENDED, one) for one in sentences)
    known = facts(
        at,
        waiting=WAITING,
        advice=Advice(changes=changes),
        advised_on=answered.of_plan(WAITING, generation=job.view().generation),
    )
    return derive(job, known=known)


OFFERS: dict[str, tuple[float, str, bool]] = {
    "a price that is higher by a fifth stays": (61, "end team/a-240, which loses 288 accelerator-seconds", False),
    "one that is higher by more is told anew": (61, "end team/a-240, which loses 289 accelerator-seconds", True),
    "and one that is lower": (61, "end team/a-240, which loses 100 accelerator-seconds", True),
    "but not within a minute": (59, "end team/a-240, which loses 1400 accelerator-seconds", False),
    "after ten minutes a smaller difference is": (600, "end team/a-240, which loses 241 accelerator-seconds", True),
    "another job is another change": (61, "end team/a-241, which loses 240 accelerator-seconds", True),
    "another number that is no price is another change": (61, "raise it from 10 to 11", True),
}


@pytest.mark.parametrize(("after", "sentence", "want"), OFFERS.values(), ids=OFFERS)
def test_when_what_would_start_a_job_is_told_anew(after: float, sentence: str, want: bool) -> None:
    first = "raise it from 10 to 12" if "raise" in sentence else "end team/a-240, which loses 240 accelerator-seconds"
    job = again(a_job(), offering(a_job(), NOW, first))
    told = offering(job, NOW + after, sentence)["decision"]["alternatives"][0]["message"]
    assert told == (sentence if want else first)


def test_a_price_that_grows_by_the_second_is_written_ever_more_seldom() -> None:
    job, written = a_job(), []
    for minute in range(120):
        status = offering(job, NOW + 60 * minute, f"end team/a, which loses {240 + 240 * minute} accelerator-seconds")
        if status["decision"] != job.body().get("status", {}).get("decision"):
            written.append(minute)
        job = again(job, status)
    assert written[:8] == [0, 1, 2, 3, 4, 6, 8, 10]
    assert len(written) < 24, "in the end every ten minutes"
