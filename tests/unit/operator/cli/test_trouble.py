"""When there is no answer: no cluster, no rights, no CRD, no such job. Each error names its cause and its fix."""

import pathlib

import pytest

from stowplan_operator import kube
from unit.operator.cli import samples
from unit.operator.cli.conftest import Run, write_kubeconfig
from unit.operator.cli.fake_api import State

TROUBLES = {
    "the CRD is missing": (
        {"installed": False},
        "does not know TrainingJobs (trainingjobs.stowplan.dev): Stowplan is not installed there\n  helm install",
    ),
    "the user may not list": (
        {"forbidden": {"list trainingjobs"}},
        'you may not list trainingjobs in namespace default: trainingjobs is forbidden: User "jane"',
    ),
    "the credentials are refused": ({"fails_with": 401}, "does not accept your credentials"),
    "the API server is broken": ({"fails_with": 503}, "failed to list trainingjobs in namespace default: 503 Broken"),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_a_cluster_that_does_not_answer_is_exit_code_3_with_the_cause(run: Run, cluster: State, case: str) -> None:
    changes, want = TROUBLES[case]
    for name, value in changes.items():
        setattr(cluster, name, value)
    result = run("list")
    assert result.exit_code == 3
    assert want in result.stderr


def test_an_unreachable_cluster_is_named_with_the_cause(run: Run, kubeconfig: pathlib.Path) -> None:
    write_kubeconfig(kubeconfig, "http://127.0.0.1:1")
    result = run("get", "digits", "--context", "fake")
    assert result.exit_code == 3
    assert "cannot reach the cluster at http://127.0.0.1:1: Connection refused" in result.stderr
    assert "kubectl --context fake cluster-info" in result.stderr


def test_without_a_kubeconfig_the_error_says_where_it_was_looked_for(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path)
    monkeypatch.setattr(kube, "in_cluster", lambda: False)
    result = run("list")
    assert result.exit_code == 3
    assert "KUBECONFIG is not set and ~/.kube/config does not exist" in result.stderr


@pytest.mark.parametrize("text", ["", "[]", "a: [", "contexts: 3", "current-context: x"])
def test_a_kubeconfig_that_cannot_be_used_is_wrong_use(run: Run, kubeconfig: pathlib.Path, text: str) -> None:
    kubeconfig.write_text(text)
    result = run("list")
    assert result.exit_code == 2
    assert f"kubeconfig {kubeconfig} cannot be used" in result.stderr


UNKNOWN = {
    "a close name": ("digit", "default", "did you mean digits?"),
    "another namespace": ("llama", "default", "there is one in namespace team-a: add -n team-a"),
    "no close name": ("zebra", "default", "jobs there: digits"),
    "an empty namespace": ("zebra", "empty", "there are no TrainingJobs in that namespace"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_job_ends_with_a_hint(run: Run, cluster: State, case: str) -> None:
    name, namespace, want = UNKNOWN[case]
    cluster.jobs = [samples.running(), samples.named("llama", samples.running(), namespace="team-a")]
    result = run("explain", name, "-n", namespace)
    assert result.exit_code == 2
    assert f"no TrainingJob {name} in namespace {namespace}\n  {want}" in result.stderr


def test_who_may_not_list_still_learns_that_the_job_is_unknown(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.running()]
    cluster.forbidden = {"list trainingjobs everywhere"}
    assert "did you mean digits?" in run("get", "digit").stderr
    cluster.forbidden |= {"list trainingjobs"}
    result = run("get", "digit")
    assert (result.exit_code, result.stderr) == (2, "Error: no TrainingJob digit in namespace default\n")


def test_a_missing_crd_is_told_apart_from_an_unknown_job(run: Run, cluster: State) -> None:
    cluster.installed = False
    result = run("explain", "digits")
    assert result.exit_code == 3
    assert "Stowplan is not installed there" in result.stderr
