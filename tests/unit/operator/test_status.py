"""What a status says of what the pods show, and that nothing more is written than what changed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest

from fakes.builders import NOW, JobBuilder, PodBuilder, a_gang, a_job, a_pod, an_attempt, time_text
from stowplan_operator import api, findings, status
from unit.operator.deriving import CERTIFICATE, READING, WAITING, Json, again, conditions, derive, facts
from unit.operator.gang import BOTH_RUN, FIRST, PLACED, RUNNING, SECOND


@dataclass(frozen=True)
class Case:
    """A job, its pods and what else is known, and what its status must say."""

    job: JobBuilder
    pods: tuple[PodBuilder, ...] = ()
    known: findings.Facts = dataclasses.field(default_factory=facts)
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


def test_ranks_that_exited_0_are_remembered_when_their_pods_go() -> None:
    seen = derive(RUNNING, (FIRST.running(), SECOND.succeeded()))
    assert seen["placement"]["finishedRanks"] == "1"
    after = derive(again(RUNNING, seen), (FIRST.running(),))
    assert (after["ready"], conditions(after)["PodsReady"]) == ("2/2", "True")
    assert "finishedRanks" not in derive(RUNNING, BOTH_RUN)["placement"]


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
