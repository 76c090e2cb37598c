"""What a status says of what the pods show, and the one write that follows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from fakes.builders import NOW, JobBuilder, PodBuilder, a_gang, a_job, a_pod, an_attempt, time_text
from fakes.server import apply_merge_patch
from stowplan_allocator.types import Certificate, Reason, SolveStatus, Waiting
from stowplan_operator import api, status
from stowplan_operator.progress import Progress

Json = dict[str, Any]
PLACED = a_job("a").placed_on("n1", "n2", at=NOW)
RUNNING = PLACED.started(NOW)
FIRST, SECOND = a_gang(PLACED, "n1", "n2")
BOTH_RUN = (FIRST.running(), SECOND.running())
WAITING = Waiting(Reason.WAITING_FOR_CAPACITY, "needs 8, 4 are free", (("free", "4"),), ("team/b",))
CERTIFICATE = Certificate(SolveStatus.OPTIMAL, "exact", value=1, bound=1, gap=0.00014, seconds=0.0123)


def facts(at: float = NOW, **known: Any) -> status.Facts:
    if reading := known.get("progress"):
        known["progress"] = dataclasses.replace(reading, read_at_seconds=at)
    return status.Facts(**{"now_seconds": at, "accelerators": 8, **known})


def derive(job: JobBuilder, pods: Sequence[PodBuilder] = (), known: status.Facts | None = None) -> Json:
    view = job.view()
    return status.derive(view, view.status, [pod.view() for pod in pods], known or facts())


def again(job: JobBuilder, derived: Json) -> JobBuilder:
    """The job as it stands after the derived status was written."""
    return JobBuilder({**job.body(), "status": derived})


def conditions(derived: Json) -> dict[str, str]:
    return {one["type"]: one["status"] for one in derived["conditions"]}


@dataclass(frozen=True)
class Case:
    """A job, its pods and what else is known, and what its status must say."""

    job: JobBuilder
    pods: tuple[PodBuilder, ...] = ()
    known: status.Facts = dataclasses.field(default_factory=facts)
    want_phase: api.Phase = api.Phase.PENDING
    want_reason: str = ""
    want_message: str = ""
    want_ready: str = "0/2"
    want_true: frozenset[str] = frozenset()
    want_false: frozenset[str] = frozenset({"Admitted", "PodsReady"})


ADMITTED: Json = {"want_true": frozenset({"Admitted"}), "want_false": frozenset({"PodsReady"})}

SAID: dict[str, Case] = {
    "a job that no plan has looked at": Case(a_job(), want_reason="Planning", want_message="waiting for the next plan"),
    "a job that waits": Case(
        a_job(),
        known=facts(waiting=WAITING, certificate=CERTIFICATE),
        want_reason="WaitingForCapacity",
        want_message="needs 8, 4 are free",
    ),
    "a misconfigured job says so, whatever the plan says": Case(
        a_job(),
        known=facts(waiting=WAITING, misconfigured="spec.topology.level: no"),
        want_reason="Misconfigured",
        want_message="spec.topology.level: no",
    ),
    "a placed job without pods": Case(
        PLACED, want_phase=api.Phase.STARTING, want_reason="PodsStarting", want_message="placed", **ADMITTED
    ),
    "a gang that starts counts its pods": Case(
        PLACED,
        (FIRST.running(), SECOND),
        want_phase=api.Phase.STARTING,
        want_reason="PodsStarting",
        want_message="placed",
        want_ready="1/2",
        **ADMITTED,
    ),
    "creating containers is no news": Case(
        PLACED,
        (FIRST.waiting("ContainerCreating"), SECOND.waiting("PodInitializing")),
        want_phase=api.Phase.STARTING,
        want_reason="PodsStarting",
        want_message="placed",
        **ADMITTED,
    ),
    "an image that cannot be pulled is": Case(
        PLACED,
        (FIRST.running(), SECOND.waiting("ImagePullBackOff", "not found")),
        want_phase=api.Phase.STARTING,
        want_reason="ImagePullBackOff",
        want_message="pod a-1-1 on n2: not found",
        want_ready="1/2",
        **ADMITTED,
    ),
    "a pod that does not bind is": Case(
        PLACED,
        (a_pod().of(PLACED).unschedulable("no room"),),
        want_phase=api.Phase.STARTING,
        want_reason="Unschedulable",
        want_message="pod a-1-0 on no node: no room",
        **ADMITTED,
    ),
    "a refusal by the API server comes first": Case(
        PLACED,
        (FIRST.waiting("ImagePullBackOff"),),
        facts(problem="cannot create pods: quota"),
        want_phase=api.Phase.STARTING,
        want_reason="ApiError",
        want_message="cannot create pods: quota",
        **ADMITTED,
    ),
    "a gang that runs": Case(
        RUNNING,
        BOTH_RUN,
        want_phase=api.Phase.RUNNING,
        want_reason="AllPodsRunning",
        want_ready="2/2",
        want_true=frozenset({"Admitted", "PodsReady"}),
        want_false=frozenset(),
    ),
    "a rank that is done counts as ready": Case(
        RUNNING,
        (FIRST.running(), SECOND.succeeded()),
        want_phase=api.Phase.RUNNING,
        want_reason="AllPodsRunning",
        want_ready="2/2",
        want_true=frozenset({"Admitted", "PodsReady"}),
        want_false=frozenset(),
    ),
    "pods of another attempt do not count as ready": Case(
        PLACED,
        [pod.running() for pod in a_gang(PLACED, "n1", "n2", attempt=9)],
        want_phase=api.Phase.STARTING,
        want_reason="PodsStarting",
        want_message="placed",
        **ADMITTED,
    ),
    "a suspended job": Case(
        a_job().suspended().phase(api.Phase.SUSPENDED),
        want_phase=api.Phase.SUSPENDED,
        want_reason="Suspended",
        want_message="spec.suspend is true",
        want_true=frozenset({"Suspended"}),
    ),
    "a suspended job whose pods have not left": Case(
        a_job().suspended().phase(api.Phase.SUSPENDED),
        known=facts(cleaning_up=True),
        want_phase=api.Phase.SUSPENDED,
        want_reason="WaitingForOldPods",
        want_message="have not left yet",
        want_true=frozenset({"Suspended"}),
    ),
    "a job after a failed attempt": Case(
        a_job().ended(an_attempt()).status(lastFailure={"reason": "ContainerFailed", "message": "exit 1"}),
        known=facts(waiting=WAITING),
        want_phase=api.Phase.RESTARTING,
        want_reason="WaitingForCapacity",
        want_message="needs 8",
        want_true=frozenset({"Restarting"}),
    ),
    "a job that backs off": Case(
        a_job().ended(an_attempt()).status(retryAfter=time_text(NOW + 5), lastFailure={"message": "exit 1"}),
        want_phase=api.Phase.RESTARTING,
        want_reason="BackOff",
        want_message="next attempt at 2026-11-02T10:00:05Z; last failure: exit 1",
        want_true=frozenset({"Restarting"}),
    ),
    "a job after a suspension": Case(
        a_job().ended(an_attempt(outcome="Suspended")), want_reason="Planning", want_message="waiting"
    ),
    "a job that succeeded": Case(
        RUNNING.phase(api.Phase.SUCCEEDED),
        (FIRST.succeeded(), SECOND.succeeded()),
        want_phase=api.Phase.SUCCEEDED,
        want_reason="Completed",
        want_message="all pods exited 0",
        want_ready="2/2",
        want_true=frozenset({"Admitted", "Complete"}),
        want_false=frozenset({"PodsReady"}),
    ),
    "a job that failed": Case(
        RUNNING.phase(api.Phase.FAILED).status(lastFailure={"reason": "OOMKilled", "message": "rank 0"}),
        (FIRST.failed(), SECOND.succeeded()),
        want_phase=api.Phase.FAILED,
        want_reason="OOMKilled",
        want_message="rank 0",
        want_ready="1/2",
        want_true=frozenset({"Admitted", "Failed"}),
        want_false=frozenset({"PodsReady"}),
    ),
}


@pytest.mark.parametrize("case", SAID.values(), ids=SAID)
def test_what_a_status_says(case: Case) -> None:
    derived = derive(case.job, case.pods, case.known)
    assert (derived["phase"], derived["reason"], derived["ready"]) == (
        case.want_phase,
        case.want_reason,
        case.want_ready,
    )
    assert case.want_message in derived["message"]
    assert derived["readyNodes"] == int(case.want_ready.split("/")[0])
    found = conditions(derived)
    assert {name for name, state in found.items() if state == "True"} == case.want_true
    assert {name for name, state in found.items() if state == "False"} == case.want_false
    assert all(one["observedGeneration"] == 1 for one in derived["conditions"])


@pytest.mark.parametrize("case", SAID.values(), ids=SAID)
def test_nothing_is_written_when_nothing_changed(case: Case) -> None:
    derived = derive(case.job, case.pods, case.known)
    later = dataclasses.replace(case.known, now_seconds=NOW + 3)
    assert status.merge_patch(derived, derive(again(case.job, derived), case.pods, later)) == {}


@pytest.mark.parametrize("case", SAID.values(), ids=SAID)
def test_the_old_status_is_not_changed_in_place(case: Case) -> None:
    before = json.dumps(case.job.body())
    derive(case.job, case.pods, case.known)
    assert json.dumps(case.job.body()) == before


def test_a_transition_time_moves_only_with_its_condition() -> None:
    starting = derive(PLACED, (FIRST.running(), SECOND), facts(NOW))
    started = again(PLACED, starting).started(NOW + 10)
    running = derive(started, BOTH_RUN, facts(NOW + 10))
    before, after = ({one["type"]: one for one in each["conditions"]} for each in (starting, running))
    assert (before["PodsReady"]["status"], after["PodsReady"]["status"]) == ("False", "True")
    assert after["PodsReady"]["lastTransitionTime"] == time_text(NOW + 10)
    assert after["Admitted"]["lastTransitionTime"] == time_text(NOW)


def test_conditions_that_were_true_are_said_to_be_over() -> None:
    suspended = derive(a_job().suspended().phase(api.Phase.SUSPENDED), known=facts())
    resumed = derive(again(a_job(), suspended).phase(api.Phase.PENDING))
    assert conditions(resumed)["Suspended"] == "False"


@pytest.mark.parametrize(
    ("stale", "want"),
    [
        pytest.param(None, None, id="telemetry is off"),
        pytest.param("", None, id="fresh telemetry was never stale"),
        pytest.param("Prometheus is away", "True", id="stale telemetry"),
    ],
)
def test_telemetry(stale: str | None, want: str | None) -> None:
    assert conditions(derive(a_job(), known=facts(telemetry_stale=stale))).get("TelemetryStale") == want


def test_telemetry_that_came_back_is_said() -> None:
    stale = derive(a_job(), known=facts(telemetry_stale="away"))
    assert conditions(derive(again(a_job(), stale), known=facts(telemetry_stale="")))["TelemetryStale"] == "False"


# Decisions.


def decided(at: float, *, waiting: Waiting = WAITING, job: JobBuilder | None = None) -> Json:
    old = job or again(a_job(), derive(a_job(), known=facts(NOW, waiting=WAITING, certificate=CERTIFICATE)))
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


def test_ranks_that_exited_0_are_remembered_when_their_pods_go() -> None:
    seen = derive(RUNNING, (FIRST.running(), SECOND.succeeded()))
    assert seen["placement"]["finishedRanks"] == "1"
    after = derive(again(RUNNING, seen), (FIRST.running(),))
    assert (after["ready"], conditions(after)["PodsReady"]) == ("2/2", "True")
    assert "finishedRanks" not in derive(RUNNING, BOTH_RUN)["placement"]


# Progress.

READING = Progress(step=50, steps_total=200, loss=0.12345, samples_per_second=812.456, checkpoint_step=40)
LATER = dataclasses.replace(READING, step=60)


def reported(reading: Progress = READING, at: float = NOW) -> Json:
    return derive(RUNNING, BOTH_RUN, facts(at, progress=reading, eta="about 3m"))


@pytest.mark.parametrize(
    ("took", "grace", "told"), [(61.2, 60, True), (60.0, 60, False), (61.2, None, False), (None, 1, False)]
)
def test_a_checkpoint_that_takes_longer_than_a_stop_leaves_is_told(
    took: float | None, grace: int | None, told: bool
) -> None:
    reading = dataclasses.replace(READING, checkpoint_save_seconds=took)
    message = derive(RUNNING, BOTH_RUN, facts(progress=reading, grace_seconds=grace))["progress"].get("message", "")
    want = "a checkpoint takes 61 s; raise spec.checkpoint.gracePeriodSeconds (60), or a stop loses it"
    assert message == (want if told else "")


def test_progress_is_told_in_words_and_numbers() -> None:
    derived = reported()
    assert derived["progress"] == {
        "attempt": 1,
        "step": 50,
        "firstStep": 50,
        "stepTime": time_text(NOW),
        "totalSteps": 200,
        "percent": "25%",
        "loss": "0.1235",
        "samplesPerSecond": "812.5",
        "checkpointStep": 40,
        "lastReportTime": time_text(NOW),
    }
    assert derived["eta"] == "about 3m"
    assert conditions(derived)["Progressing"] == "True"


@pytest.mark.parametrize(
    ("after", "reading", "want_step", "want_time"),
    [
        pytest.param(9, LATER, 50, 0, id="sooner than the interval it is not told"),
        pytest.param(10, LATER, 60, 10, id="after the interval it is"),
        pytest.param(500, READING, 50, 0, id="the same reading is not told again"),
    ],
)
def test_when_progress_is_renewed(after: float, reading: Progress, want_step: int, want_time: float) -> None:
    old = again(RUNNING, reported())
    told = derive(old, BOTH_RUN, facts(NOW + after, progress=reading))["progress"]
    assert (told["step"], told["lastReportTime"]) == (want_step, time_text(NOW + want_time))


def test_a_finished_rank_zero_has_the_last_word() -> None:
    summary = json.dumps({"stowplan": {"step": 200, "stepsTotal": 200, "evalAccuracy": 0.9712}})
    ended = (FIRST.succeeded(message=f"done\n{summary}\n"), SECOND.succeeded())
    told = derive(again(RUNNING, reported()).phase(api.Phase.SUCCEEDED), ended, facts(NOW + 1))["progress"]
    assert told["step"] == 200


def test_a_gang_that_has_lost_its_place_still_has_its_last_word() -> None:
    summary = json.dumps({"stowplan": {"step": 66, "checkpointStep": 60}})
    ended = (FIRST.failed(message=summary), SECOND.failed())
    released = again(RUNNING, reported()).status(placement=None).phase(api.Phase.RESTARTING)
    assert derive(released, ended, facts(NOW + 1))["progress"]["checkpointStep"] == 60


def test_what_a_reading_lacks_stays() -> None:
    told = derive(again(RUNNING, reported()), BOTH_RUN, facts(NOW + 60, progress=Progress(step=70)))["progress"]
    assert (told["step"], told["totalSteps"], told["checkpointStep"]) == (70, 200, 40)


def test_when_a_step_was_last_seen_to_move() -> None:
    still = derive(again(RUNNING, reported()), BOTH_RUN, facts(NOW + 60, progress=READING))
    assert still["progress"]["stepTime"] == time_text(NOW)
    moved = derive(again(RUNNING, still), BOTH_RUN, facts(NOW + 90, progress=LATER))
    assert (moved["progress"]["stepTime"], moved["progress"]["firstStep"]) == (time_text(NOW + 90), 50)
    saved = dataclasses.replace(LATER, checkpoint_step=60)
    after = derive(again(RUNNING, moved), BOTH_RUN, facts(NOW + 120, progress=saved))
    assert after["progress"]["stepTime"] == time_text(NOW + 120), "a checkpoint is movement too"


def test_the_next_attempt_begins_its_own_account() -> None:
    second = a_job("a").placed_on("n1", "n2", attempt=2, at=NOW + 100).started(NOW + 100)
    before = second.status(progress=reported()["progress"])
    pods = tuple(pod.running() for pod in a_gang(second, "n1", "n2", attempt=2))
    old = derive(before, pods, facts(NOW + 99, progress=LATER))
    assert old["progress"]["attempt"] == 1, "a reading from before its start is not its own"
    told = derive(before, pods, facts(NOW + 110, progress=dataclasses.replace(READING, loss=None)))["progress"]
    assert (told["attempt"], told["firstStep"], told["stepTime"]) == (2, 50, time_text(NOW + 110))
    assert "loss" not in told, "what the first attempt reported is not said of the second"
    assert told["checkpointStep"] == 40


def test_an_eta_is_for_gangs_that_run() -> None:
    assert "eta" not in derive(PLACED, (), facts(eta="about 3m"))


def test_progress_of_a_gang_that_starts_again_is_not_said_to_move() -> None:
    derived = derive(again(PLACED, {**PLACED.body()["status"], "progress": {"step": 50}}), ())
    assert conditions(derived)["Progressing"] == "False"


# The patch.

values = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text("abc", max_size=2), values, max_size=5)


@hypothesis.settings(derandomize=True, deadline=None, max_examples=300, database=None)
@hypothesis.given(objects, objects)
def test_the_merge_patch_makes_new_of_old(old: Json, new: Json) -> None:
    assert apply_merge_patch(old, status.merge_patch(old, new)) == new


@hypothesis.settings(derandomize=True, deadline=None, max_examples=100, database=None)
@hypothesis.given(objects, objects)
def test_the_merge_patch_is_empty_only_when_nothing_differs(old: Json, new: Json) -> None:
    assert (status.merge_patch(old, new) == {}) is (old == new)


def test_a_list_is_replaced_whole_and_a_field_that_is_gone_is_removed() -> None:
    patch = status.merge_patch({"a": [1, 2], "b": 1, "c": {"d": 1, "e": 2}}, {"a": [1], "c": {"d": 1, "e": 3}})
    assert patch == {"b": None, "a": [1], "c": {"e": 3}}


@pytest.mark.parametrize("name", ["gpu-{:04}", "ip-10-212-{:03}-104.eu-west-1"])
def test_a_status_at_a_thousand_nodes_stays_under_64_kib(name: str) -> None:
    nodes = [name.format(number) for number in range(1000)]
    ended = [an_attempt(number, begin=NOW - 1000) for number in range(5)]
    failure = {"attempt": 1, "rank": 999, "reason": "ContainerFailed", "message": "m" * 500, "logTail": "x" * 2048}
    job = a_job("a" * 40).ended(*ended).placed_on(*nodes, attempt=6).status(lastFailure=failure)
    derived = derive(job, (), facts(waiting=WAITING, progress=READING, telemetry_stale="t" * 300, accelerators=8000))
    size = len(json.dumps(derived, separators=(",", ":")))
    assert size < 64 * 1024
    assert len(derived["placement"]["nodes"]) == 1000
