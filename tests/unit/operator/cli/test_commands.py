"""Whole command lines against the fake API server: what is printed, what is changed, which exit code comes back."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import Result

from stowplan_operator.cli import documents
from unit.operator.cli import samples
from unit.operator.cli.conftest import Run, write_kubeconfig
from unit.operator.cli.fake_api import FakeApi, State


def every_state() -> list[dict[str, Any]]:
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "unseen": samples.unseen,
        "waiting": lambda: samples.pending("WaitingForCapacity"),
        "running": samples.running,
        "suspended": samples.suspended,
        "succeeded": samples.succeeded,
        "failed": samples.failed,
    }
    return [samples.named(name, make()) for name, make in makers.items()]


EXITS = {
    "list": 0,
    "ls -A -o json": 0,
    "list -n nothing-there": 0,
    "get waiting": 0,
    "get failed -o yaml": 0,
    "get tj/running": 0,
    "explain running": 0,
    "explain succeeded": 0,
    "explain waiting": 1,
    "explain waiting -o json": 1,
    "explain suspended": 1,
    "explain failed": 1,
    "explain unseen": 1,
    "logs running": 0,
    "logs failed": 0,
    "logs waiting": 1,
    "logs running --rank 5": 2,
    "suspend running": 0,
    "suspend suspended": 0,
    "suspend failed": 1,
    "resume suspended": 0,
    "resume running": 0,
    "resume succeeded": 1,
    "wait succeeded": 0,
    "wait succeeded --for Succeeded": 0,
    "wait succeeded --for running": 0,
    "wait succeeded --for Failed": 1,
    "wait failed": 1,
    "wait failed --for Failed": 0,
    "wait failed --for Running": 1,
    "wait waiting --for Pending": 0,
    "wait waiting --timeout 0": 1,
    "wait suspended --for Suspended": 0,
    "get nobody": 2,
    "explain nobody": 2,
    "wait nobody": 2,
    "suspend nobody": 2,
    "get": 2,
    "get Big_Name": 2,
    "list -o xml": 2,
    "wait waiting --timeout soon": 2,
    "wait waiting --for Lunch": 2,
    "logs running --rank -1": 2,
    "levitate": 2,
    "list --context nope": 2,
    "list --kubeconfig missing": 2,
    "--help": 0,
    "--version": 0,
}


@pytest.mark.parametrize("line", EXITS)
def test_exit_codes(run: Run, cluster: State, line: str) -> None:
    cluster.jobs = every_state()
    cluster.pods = [samples.pod(1, 0, job_name="running")]
    cluster.logs = {"running-1-0": "step 1\n"}
    result = run(*line.split())
    assert result.exit_code == EXITS[line], result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if result.exit_code > 1:
        assert result.stdout == ""
        assert "Error: " in result.stderr


def test_the_namespace_comes_from_the_flag_else_from_the_context(
    run: Run, cluster: State, fake_api: FakeApi, kubeconfig: pathlib.Path
) -> None:
    cluster.jobs = [samples.running(), samples.named("llama", samples.running(), namespace="team-a")]
    write_kubeconfig(kubeconfig, f"http://127.0.0.1:{fake_api.port}", namespace="team-a")
    for words, want in {
        ("list",): ["llama"],
        ("list", "-n", "default"): ["digits"],
        ("-n", "default", "list"): ["digits"],
        ("-n", "default", "list", "--namespace", "team-a"): ["llama"],
        ("list", "-A"): ["digits", "llama"],
    }.items():
        items = json.loads(run(*words, "-o", "json").stdout)["items"]
        assert [one["name"] for one in items] == want, words


def test_list_reads_all_pages_and_selects_by_label(run: Run, cluster: State) -> None:
    cluster.page = 2
    cluster.jobs = [samples.named(f"job-{number}", samples.running()) for number in range(5)]
    cluster.jobs[3]["metadata"]["labels"] = {"team": "a"}
    assert len(run("list").stdout.splitlines()) == 6
    assert run("list", "-l", "team=a").stdout.splitlines()[1].startswith("job-3 ")


def test_an_empty_list_says_so_on_stderr_only(run: Run) -> None:
    result = run("list")
    assert (result.stdout, result.stderr) == ("", "No TrainingJobs found in namespace default.\n")
    assert json.loads(run("list", "-o", "json").stdout)["items"] == []


def test_output_into_a_pipe_has_no_colour_and_no_blanks_at_line_ends(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.failed()]
    for words in (("list",), ("get", "digits"), ("explain", "digits")):
        printed = run(*words).stdout
        assert "\x1b" not in printed
        assert all(line == line.rstrip() for line in printed.splitlines())


def test_get_works_for_who_may_not_read_events(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.running()]
    cluster.forbidden = {"list events"}
    result = run("get", "digits")
    assert result.exit_code == 0
    assert "you may not list events in namespace default" in result.stdout
    assert json.loads(run("get", "digits", "-o", "json").stdout)["events"] is None


def parsed(result: Result, form: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.stdout) if form == "json" else yaml.safe_load(result.stdout)
    return value


# Frozen: scripts read these. Add keys; never rename or remove one without a new documents.SCHEMA.
SUMMARY_KEYS = [
    "name",
    "namespace",
    "phase",
    "reason",
    "message",
    "suspend",
    "queue",
    "ready",
    "readyNodes",
    "numNodes",
    "gpus",
    "progress",
    "eta",
    "attempt",
    "restarts",
    "infrastructureRestarts",
    "preemptions",
    "createdAt",
    "startTime",
    "completionTime",
]
DETAIL_KEYS = [
    "generation",
    "observedGeneration",
    "retryAfter",
    "gpuSeconds",
    "placement",
    "decision",
    "conditions",
    "lastFailure",
    "history",
    "events",
]
EXPLANATION_KEYS = [
    "schema",
    "kind",
    "name",
    "namespace",
    "answer",
    "phase",
    "reason",
    "message",
    "meaning",
    "since",
    "seconds",
    "notes",
    "numbers",
    "blockers",
    "certificate",
    "reasonSince",
    "decidedAt",
    "operatorSeenAt",
    "placement",
    "progress",
    "lastFailure",
    "position",
    "predictedStart",
    "predictedStartBasis",
    "estimate",
    "next",
    "alternatives",
    "notTried",
]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_have_all_keys_in_every_state(run: Run, cluster: State, form: str) -> None:
    cluster.jobs = every_state()
    cluster.events = [samples.event(cluster.jobs[2], "Placed", "2 pods", seconds=9)]
    listed = parsed(run("list", "-o", form), form)
    assert (listed["schema"], listed["kind"]) == (documents.SCHEMA, "JobList")
    for item in listed["items"]:
        assert list(item) == SUMMARY_KEYS
        got = parsed(run("get", item["name"], "-o", form), form)
        assert list(got) == ["schema", "kind", *SUMMARY_KEYS, *DETAIL_KEYS]
        assert list(parsed(run("explain", item["name"], "-o", form), form)) == EXPLANATION_KEYS
    running = parsed(run("get", "running", "-o", form), form)
    assert running["events"] == [
        {"time": samples.ago(9), "type": "Normal", "reason": "Placed", "message": "2 pods", "count": 1}
    ]
    assert running["placement"]["nodes"][1] == {"name": "stowplan-worker2", "ranks": "1"}


def test_explain_as_json_gives_the_numbers_and_the_commands(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.pending("WaitingForCapacity")]
    said = json.loads(run("explain", "digits", "-n", "default", "-o", "json").stdout)
    assert (said["answer"], said["reason"], said["seconds"]) == ("waits", "WaitingForCapacity", 204)
    assert said["numbers"]["accelerators_needed"] == "4"
    assert said["certificate"]["status"] == "Optimal"
    assert [one["command"] for one in said["next"]][-2:] == [
        "kubectl stowplan wait digits --for Running -n default",
        "kubectl stowplan explain digits --deep -n default",
    ]


SUSPENSIONS = {
    "a running job": ("suspend running", [True], "its pods get up to 60s to write a checkpoint"),
    "a waiting job": ("suspend waiting", [True], "it has no pods, so nothing is stopped"),
    "a suspended job, again": ("suspend suspended", [], "suspended is suspended already"),
    "a suspended job back": ("resume suspended", [False], "will be planned again: it starts when all its pods have"),
    "a running job back": ("resume running", [], "running is not suspended; it is Running"),
}


@pytest.mark.parametrize("case", SUSPENSIONS)
def test_suspend_and_resume_patch_only_what_differs_and_say_what_follows(run: Run, cluster: State, case: str) -> None:
    line, want_patches, want = SUSPENSIONS[case]
    cluster.jobs = every_state()
    result = run(*line.split())
    assert result.exit_code == 0
    assert [one["spec"]["suspend"] for one in cluster.patches] == want_patches
    assert want in result.stdout
    assert "  Next  kubectl stowplan " in result.stdout


def test_who_may_not_patch_is_told_which_right_is_missing(run: Run, cluster: State) -> None:
    cluster.jobs = every_state()
    cluster.forbidden = {"patch trainingjobs"}
    result = run("suspend", "running")
    assert result.exit_code == 3
    assert "you may not patch trainingjobs in namespace default" in result.stderr
    assert "kubectl auth can-i patch trainingjobs.stowplan.dev -n default" in result.stderr
