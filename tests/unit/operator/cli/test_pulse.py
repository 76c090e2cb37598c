"""``explain`` tells a dead operator from one whose decision does not change, where its Lease may be read."""

from __future__ import annotations

import json

import pytest

from unit.operator.cli import samples
from unit.operator.cli.conftest import Run
from unit.operator.cli.fake_api import State

LEASE = "stowplan-system/stowplan-operator"
SILENT = "The operator has not answered for 3m:"

# The job, the seconds since the Lease was renewed (None: there is none), whether it may be read → what is said, or not.
CASES = {
    "renewed lately": (samples.pending("WaitingForCapacity"), 9, True, "", SILENT),
    "not renewed for minutes": (samples.pending("WaitingForCapacity"), 180, True, SILENT, ""),
    "for a running job too": (samples.running(), 180, True, SILENT, ""),
    "of no matter for a job that has ended": (samples.succeeded(), 180, True, "", SILENT),
    "not for us to read": (samples.pending("WaitingForCapacity"), 180, False, "", "operator has not answered"),
    "under another name": (samples.pending("WaitingForCapacity"), None, True, "", "operator has not answered"),
    "a new job without an operator": (
        samples.unseen(created=300),
        180,
        True,
        "no status. The operator is not",
        "Either",
    ),
    "a new job that it does not see": (
        samples.unseen(created=300),
        9,
        True,
        "The operator runs, but does not",
        "Either",
    ),
    "a new job, and nobody knows": (
        samples.unseen(created=300),
        None,
        True,
        "Either the operator is not running",
        SILENT,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_silent_operator_is_told(run: Run, cluster: State, case: str) -> None:
    body, age, may_read, want, never = CASES[case]
    cluster.jobs = [body]
    cluster.leases = {} if age is None else {LEASE: samples.ago(age)}
    cluster.forbidden = set() if may_read else {"get leases"}
    name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    line = ("explain", name, "-n", namespace)
    result = run(*line)
    assert result.stderr == ""
    text = " ".join(result.stdout.split())
    assert want in text
    assert not never or never not in text
    known = samples.ago(age) if age is not None and may_read else None
    assert json.loads(run(*line, "-o", "json").stdout)["operatorSeenAt"] == known


def test_the_operator_is_looked_for_where_it_is_said_to_be(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.pending("WaitingForCapacity")]
    cluster.leases = {"ops/stowplan-operator": samples.ago(180)}
    line = ("explain", "digits", "-n", "default")
    assert "has not answered" not in run(*line).stdout
    assert "has not answered" in run(*line, "--operator-namespace", "ops").stdout


@pytest.mark.parametrize("form", ["", "json"])
def test_without_the_operators_answer_the_statuss_comes_first_and_then_the_error(
    run: Run, cluster: State, form: str
) -> None:
    cluster.jobs = [samples.pending("WaitingForCapacity")]
    result = run("explain", "digits", "-n", "default", "--deep", *(("-o", form) if form else ()))
    assert result.exit_code == 3
    assert "needs 2 pods x 2 accelerators; 3 are free" in result.stdout
    assert "no operator runs in namespace stowplan-system" in result.stderr
    assert "does it want replicas? kubectl get deployments -n stowplan-system" in result.stderr


def test_programs_see_what_people_see(run: Run, cluster: State) -> None:
    body = samples.outlook()
    cluster.jobs = [body]
    told = json.loads(run("explain", "digits", "-n", "default", "-o", "json").stdout)
    decision = body["status"]["decision"]
    assert told["position"] == decision["position"]
    assert told["predictedStart"] == decision["predictedStart"]
    assert told["predictedStartBasis"] == decision["predictedStartBasis"]
    assert told["estimate"] == body["status"]["estimate"]
    sentences = [one["message"] for one in decision["alternatives"]]
    assert sentences
    assert [one["sentence"] for one in told["alternatives"]] == sentences
    assert all(set(one) == {"kind", "sentence", "numbers", "smallest"} for one in told["alternatives"])
