"""``logs`` and ``wait``: the two commands that follow a job through time."""

from collections.abc import Iterator
from typing import Any

import pytest

from stowplan_operator.cli import waiting
from unit.operator.cli import samples
from unit.operator.cli.conftest import Run
from unit.operator.cli.fake_api import State


def test_logs_prints_rank_0_of_the_latest_attempt(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.running(attempt=2)]
    cluster.pods = [samples.pod(1, 0), samples.pod(2, 0), samples.pod(2, 1)]
    cluster.logs = {"digits-1-0": "old\n", "digits-2-0": "a\nb\nc\n", "digits-2-1": "peer\n"}
    for words, want in {
        (): "a\nb\nc\n",
        ("--tail", "1"): "c\n",
        ("--rank", "1"): "peer\n",
        ("--attempt", "1"): "old\n",
    }.items():
        result = run("logs", "digits", *words)
        assert (result.exit_code, result.stdout, result.stderr) == (0, want, ""), words
    assert all(query["container"] == "trainer" for query in cluster.log_queries)


def test_logs_of_a_pod_that_is_gone_are_the_kept_tail_and_stderr_says_so(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.failed()]
    for words in ((), ("--rank", "1"), ("--attempt", "1")):
        result = run("logs", "digits", *words)
        assert result.exit_code == 0
        assert result.stdout == samples.LAST_FAILURE["logTail"]
        assert "this is the tail that status keeps of rank 1, attempt 1" in result.stderr


LOG_TROUBLES: dict[str, tuple[dict[str, Any], tuple[str, ...], int, str]] = {
    "the tail is of another rank": (samples.failed(), ("--rank", "0"), 1, "stowplan logs digits --rank 1 --attempt 1"),
    "nothing was kept": (samples.succeeded(), (), 1, "the pod is gone, and status keeps no log tail"),
    "it waits": (samples.pending("Fragmented"), (), 1, "it is Pending\n  kubectl stowplan explain digits"),
    "nobody has seen it": (samples.unseen(), (), 1, "it is not planned yet"),
    "there is no such rank": (samples.running(), ("--rank", "2"), 2, "--rank 2: digits has ranks 0 to 1"),
}


@pytest.mark.parametrize("case", LOG_TROUBLES)
def test_logs_says_why_there_is_none(run: Run, cluster: State, case: str) -> None:
    body, words, want_exit, want = LOG_TROUBLES[case]
    cluster.jobs = [body]
    result = run("logs", "digits", *words)
    assert (result.exit_code, result.stdout) == (want_exit, "")
    assert want in result.stderr


def test_logs_of_a_container_that_has_not_started_names_the_reason(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.starting()]
    cluster.pods = [samples.pod(1, 0, state="waiting")]
    result = run("logs", "digits")
    assert result.exit_code == 1
    assert "rank 0 has not started: ContainerCreating" in result.stderr


def test_logs_between_two_attempts_says_whose_they_are(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.running(attempt=2)]
    cluster.pods = [samples.pod(1, 0, state="terminated")]
    cluster.logs = {"digits-1-0": "old\n"}
    result = run("logs", "digits")
    assert result.stdout == "old\n"
    assert "attempt 2 has no pod yet; this is attempt 1" in result.stderr


def test_logs_follows_over_a_restart_until_the_job_ends(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.pending("WaitingForCapacity")]
    cluster.logs = {"digits-1-0": "one\n", "digits-2-0": "two\n"}
    steps = iter(
        [
            lambda: None,
            lambda: cluster.jobs[0].update(samples.starting()),
            lambda: cluster.pods.append(samples.pod(1, 0, state="waiting")),
            lambda: cluster.pods.__setitem__(0, samples.pod(1, 0)),
            lambda: cluster.jobs[0].update(samples.restarting()),
            lambda: cluster.pods.append(samples.pod(2, 0)),
            lambda: cluster.jobs[0].update(samples.succeeded()),
        ]
    )
    cluster.moves = lambda _: next(steps, lambda: None)()
    result = run("logs", "digits", "-f")
    assert result.exit_code == 0
    assert result.stdout == "one\ntwo\n"
    for words in ("waiting for rank 0: digits is Pending", "waiting for rank 0: ContainerCreating", "attempt 2:"):
        assert words in result.stderr


def test_who_may_not_read_logs_is_told(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.running()]
    cluster.pods = [samples.pod(1, 0)]
    cluster.forbidden = {"get pods/log"}
    result = run("logs", "digits")
    assert result.exit_code == 3
    assert "you may not get pods/log in namespace default" in result.stderr


def _becomes(cluster: State, *bodies: dict[str, Any]) -> None:
    """The job is each of the bodies in turn, one per look at it; the last one stays."""
    queue: Iterator[dict[str, Any]] = iter(bodies)

    def move(job: dict[str, Any]) -> None:
        if (body := next(queue, None)) is not None:
            job.clear()
            job.update(body)

    cluster.jobs = [dict(bodies[0])]
    cluster.moves = move


WAITS: dict[str, tuple[str, list[dict[str, Any]], int, list[str]]] = {
    "it succeeds": (
        "",
        [samples.unseen(), samples.pending("Fragmented"), samples.running(), samples.succeeded()],
        0,
        ["not seen by the operator yet", "Pending  Fragmented", "Running  AllPodsRunning", "Succeeded  Completed"],
    ),
    "it fails": ("", [samples.running(), samples.failed()], 1, ["Running  AllPodsRunning", "Failed  OOMKilled"]),
    "it runs": (
        "--for Running",
        [samples.starting(), samples.running()],
        0,
        ["Starting  ImagePullBackOff", "Running  AllPodsRunning"],
    ),
    "it ran between two looks": (
        "--for Running",
        [samples.starting(), samples.succeeded()],
        0,
        ["Starting  ImagePullBackOff", "Succeeded  Completed"],
    ),
    "the reason changes": (
        "--for Suspended",
        [samples.pending("Fragmented"), samples.pending("QueuedBehind"), samples.suspended()],
        0,
        ["Pending  Fragmented", "Pending  QueuedBehind", "Suspended  Suspended"],
    ),
}


@pytest.mark.parametrize("case", WAITS)
def test_wait_prints_each_phase_once_and_answers_with_its_exit_code(run: Run, cluster: State, case: str) -> None:
    flags, bodies, want_exit, want = WAITS[case]
    _becomes(cluster, *[body for body in bodies for _ in range(2)])
    result = run("wait", "digits", *flags.split())
    assert result.exit_code == want_exit
    assert [line.split("  ", 2)[2] for line in result.stdout.splitlines()] == want


def test_wait_gives_up_when_the_time_is_over_and_says_why_it_waits(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.pending("WaitingForCapacity")]
    result = run("wait", "digits", "--timeout", "0s")
    assert result.exit_code == 1
    assert "digits is Pending after 0s: needs 2 pods x 2 accelerators; 3 are free" in result.stderr
    assert "kubectl stowplan explain digits" in result.stderr


def test_wait_ends_when_the_job_is_deleted_or_made_anew(run: Run, cluster: State) -> None:
    other = samples.running()
    other["metadata"]["uid"] = "another"
    _becomes(cluster, samples.running(), other)
    result = run("wait", "digits")
    assert (result.exit_code, result.stderr) == (1, "Error: digits was deleted and made anew\n")

    cluster.jobs, looks = [samples.running()], iter([lambda: None, cluster.jobs.clear])
    looks = iter([lambda: None, lambda: cluster.jobs.clear()])
    cluster.moves = lambda _: next(looks)()
    result = run("wait", "digits")
    assert (result.exit_code, result.stderr) == (1, "Error: digits was deleted\n")


def test_wait_outlasts_a_short_outage_but_not_a_long_one(
    run: Run, cluster: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_next(_: dict[str, Any]) -> None:
        cluster.fails_with = 503

    looks = 0
    original = waiting.Cluster.find_job

    async def find_job(self: waiting.Cluster, name: str) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            cluster.fails_with, cluster.moves = 0, None
            cluster.jobs = [samples.succeeded()]
        return await original(self, name)

    cluster.jobs, cluster.moves = [samples.running()], fail_next
    monkeypatch.setattr(waiting.Cluster, "find_job", find_job)
    assert run("wait", "digits").exit_code == 0
    assert looks == 3

    cluster.jobs, cluster.moves = [samples.running()], fail_next
    looks = 3
    monkeypatch.setattr(waiting, "TOLERATED_OUTAGE_SECONDS", 0.05)
    assert run("wait", "digits").exit_code == 3
