"""Whether a job ends by its deadline: what is said, what would help, and that neither flaps."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.builders import NOW, JobBuilder, a_job, time_text
from stowplan_operator import api, deadlines
from stowplan_operator.deadlines import Goal
from stowplan_operator.estimates import Estimate

DUE = Goal(deadline=NOW + 36_000)
ELASTIC = dataclasses.replace(DUE, goodput=((2, 1000), (4, 1900), (8, 3500)), preferred_pods=2, restart_seconds=600)
RUNNING = a_job("a").placed_on("n1", "n2").started(NOW - 100)
WAITING = a_job("a").phase(api.Phase.PENDING)
AT_RISK = [{"type": "DeadlineAtRisk", "status": "True"}]


def by(seconds: float, *, basis: str = "progress", is_bound: bool = False) -> Estimate:
    return Estimate(seconds, basis, seconds, is_bound)


def starting(at: float, *alternatives: tuple[str, str]) -> JobBuilder:
    changes = [{"kind": kind, "message": message} for kind, message in alternatives]
    return WAITING.status(decision={"predictedStart": time_text(at), "alternatives": changes})


def look(job: JobBuilder, goal: Goal, found: Estimate | None, *, now: float = NOW) -> deadlines.Outlook:
    status = job.view().status
    return deadlines.look(status, api.phase_of(status), goal, found, num_pods=2, now_seconds=now)


def said(
    job: JobBuilder, goal: Goal, found: Estimate | None, *, now: float = NOW
) -> tuple[bool | None, str, str] | None:
    verdict = look(job, goal, found, now=now).verdict
    return verdict and verdict[1:]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A job with its deadline in ten hours, and what its condition says."""

    job: JobBuilder = RUNNING
    goal: Goal = DUE
    found: Estimate | None
    now: float = NOW
    want: tuple[bool | None, str] | None
    says: tuple[str, ...] = ()
    says_not: tuple[str, ...] = ()


CASES: dict[str, Case] = {
    "a job without a deadline": Case(goal=deadlines.NONE, found=by(1e6), want=None),
    "a running job that ends in time": Case(
        found=by(28_800),
        want=(False, "EndsInTime"),
        says=(f"expected to end at {time_text(NOW + 28_800)} (progress), about 2h before spec.deadline",),
    ),
    "one that ends late, and nothing helps": Case(
        found=by(43_200),
        want=(True, "EndsLate"),
        says=("about 2h after spec.deadline", "nothing that Stowplan can do makes it faster: move spec.deadline"),
    ),
    "one that would end in time with more pods": Case(
        goal=ELASTIC,
        found=by(60_000),
        want=(True, "EndsLate"),
        says=("with 4 pods instead of 2 it would end in time: raise spec.elastic.minNodes to 4",),
    ),
    "the restart counts, so that it takes still more": Case(
        goal=dataclasses.replace(ELASTIC, restart_seconds=6000),
        found=by(60_000),
        want=(True, "EndsLate"),
        says=("with 8 pods instead of 2",),
    ),
    "one for which no size is large enough": Case(
        goal=ELASTIC, found=by(200_000), want=(True, "EndsLate"), says=("no size that spec.elastic allows",)
    ),
    "one of which nothing is known": Case(found=None, want=(None, "RunTimeUnknown"), says=("it reports no steps",)),
    "one that is only known to be ended then": Case(
        found=by(43_200, basis="activeDeadlineSeconds", is_bound=True), want=(True, "EndsLate"), says=("at the latest",)
    ),
    "a waiting job that starts in time": Case(
        job=starting(NOW + 3600), found=by(7200), want=(False, "EndsInTime"), says=(time_text(NOW + 10_800),)
    ),
    "one that starts too late, and what would start it now": Case(
        job=starting(NOW + 32_400, ("FewerPods", "ask for 1 pod instead of 2"), ("JobEnded", "end team/x")),
        found=by(7200, basis="history of 3 runs"),
        want=(True, "EndsLate"),
        says=(
            f"it has to start by {time_text(NOW + 28_800)}; what would start it now: end team/x",
            "about 60m after",
        ),
        says_not=("FewerPods", "1 pod"),
    ),
    "one that only changes would start which make it slower": Case(
        job=starting(NOW + 32_400, ("FewerPods", "ask for 1 pod instead of 2")),
        found=by(7200),
        want=(True, "EndsLate"),
        says=("no change is known that would start it now without making it slower",),
    ),
    "one that would end late even if it started now": Case(
        job=starting(NOW + 3600, ("JobEnded", "end team/x")),
        found=by(40_000),
        want=(True, "EndsLate"),
        says=("started now it would end late as well; nothing that Stowplan can do makes it faster",),
        says_not=("team/x",),
    ),
    "one of which nobody knows when it starts": Case(
        job=WAITING,
        found=by(7200),
        want=(None, "StartUnknown"),
        says=(f"it has to start by {time_text(NOW + 28_800)}", "no start can be predicted"),
    ),
    "one that is suspended": Case(
        job=WAITING.phase(api.Phase.SUSPENDED), found=by(7200), want=(None, "StartUnknown"), says=("suspended",)
    ),
    "nobody knows when it starts, and it is too late already": Case(
        job=WAITING,
        found=by(40_000),
        want=(True, "EndsLate"),
        says=(f"it would have had to start by {time_text(NOW - 4000)}",),
    ),
    "a deadline that has passed": Case(
        found=by(7200),
        now=NOW + 36_000,
        want=(True, "DeadlinePassed"),
        says=("has passed; the job goes on and is expected to end at", "about 2h after it"),
    ),
    "one that has passed for a job of which nothing is known": Case(
        found=None, now=NOW + 36_000, want=(True, "DeadlinePassed"), says=("the job goes on",)
    ),
    "a job that ended in time": Case(
        job=RUNNING.phase(api.Phase.SUCCEEDED).status(completionTime=time_text(NOW + 35_000)),
        found=None,
        want=(False, "EndedInTime"),
        says=("about 17m before spec.deadline",),
    ),
    "a job that ended late": Case(
        job=RUNNING.phase(api.Phase.SUCCEEDED).status(completionTime=time_text(NOW + 37_200)),
        found=None,
        want=(True, "EndedLate"),
        says=("about 20m after spec.deadline",),
    ),
    "a job that failed": Case(job=RUNNING.phase(api.Phase.FAILED), found=None, want=None),
    "a risk is not over before there is a margin": Case(
        job=RUNNING.status(conditions=AT_RISK), found=by(35_000), want=(True, "EndsLate")
    ),
    "and then it is": Case(
        job=RUNNING.status(conditions=AT_RISK), found=by(34_000), want=(False, "EndsInTime"), says=("before",)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_outlook(case: Case) -> None:
    found = said(case.job, case.goal, case.found, now=case.now)
    assert (found and found[:2]) == case.want
    text = found[2] if found else ""
    assert [one for one in case.says if one not in text] == [], text
    assert [one for one in case.says_not if one in text] == [], text


@given(wavers=st.lists(st.floats(-0.02, 0.02), min_size=2, max_size=30))
def test_an_end_that_wavers_about_the_deadline_changes_the_answer_at_most_once(wavers: list[float]) -> None:
    """By two per cent either way, read every ten seconds."""
    status: dict[str, Any] = {**RUNNING.view().status, "conditions": []}
    answers = []
    for number, waver in enumerate(wavers):
        now = NOW + 10 * number
        left = (DUE.deadline - now) * (1 + waver)
        outlook = deadlines.look(status, api.Phase.RUNNING, DUE, by(left), num_pods=2, now_seconds=now)
        assert outlook.verdict is not None
        answers.append(outlook.verdict[1])
        state = {"type": "DeadlineAtRisk", "status": str(outlook.verdict[1]), "message": outlook.verdict[3]}
        status = {**status, "estimate": outlook.estimate, "conditions": [state]}
    assert sum(one != other for one, other in itertools.pairwise(answers)) <= 1


def test_time_that_passes_changes_no_word() -> None:
    """The estimate stays where it was, until it is off by a tenth of the time left."""
    status: dict[str, Any] = dict(RUNNING.view().status)
    seen = set()
    for passed in range(0, 3000, 10):
        found = by(43_200 - passed + (passed % 7) * 100)
        outlook = deadlines.look(status, api.Phase.RUNNING, DUE, found, num_pods=2, now_seconds=NOW + passed)
        status = {**status, "estimate": outlook.estimate, "conditions": AT_RISK}
        seen.add(outlook.verdict)
    assert len(seen) == 1


RAISED: dict[str, tuple[str, str, str]] = {
    "when it begins": ("False", "True", "late"),
    "of a job that was just created": ("", "True", "late"),
    "not again": ("True", "True", ""),
    "not when it ends": ("True", "False", ""),
    "not where nothing is known": ("", "Unknown", ""),
}


@pytest.mark.parametrize(("before", "after", "want"), RAISED.values(), ids=RAISED)
def test_the_user_is_told(before: str, after: str, want: str) -> None:
    def status(state: str) -> dict[str, Any]:
        return {"conditions": [{"type": "DeadlineAtRisk", "status": state, "message": "late"}] if state else []}

    assert deadlines.raised(status(before), status(after)) == want


def test_a_time_without_a_zone_is_refused_with_its_field() -> None:
    with pytest.raises(ValueError, match=r"spec\.deadline"):
        a_job("a").spec(deadline="2027-01-10T08:00:00").parsed()
    assert a_job("a").spec(deadline="2027-01-10T09:00:00+01:00").parsed().deadline is not None
