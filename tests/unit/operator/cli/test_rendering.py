"""What the command line prints of a job: all that is known, in lines that fit the terminal, whatever the job lacks."""

import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from rich.console import Console, RenderableType

from stowplan_operator.cli import details, documents, explaining, listing, output
from stowplan_operator.cli.exits import Exit
from stowplan_operator.cli.model import Job
from stowplan_operator.cli.words import Speaker
from unit.operator.cli import samples

SPEAKER = Speaker(now=samples.NOW)


def render(shown: RenderableType, *, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)
    console.print(shown)
    printed: str = console.file.getvalue()
    return "\n".join(line.rstrip() for line in printed.splitlines())


def explained(body: Mapping[str, Any], *, width: int = 100) -> str:
    job = Job(body).printable
    said = explaining.explain(job, SPEAKER)
    return render(explaining.show(job, said, SPEAKER), width=width) + "\n" + explaining.show_next(said).plain


def detailed(body: Mapping[str, Any], events: list[dict[str, Any]] | None = None, *, width: int = 100) -> str:
    return render(details.show(Job(body).printable, events or [], SPEAKER), width=width)


EXPLAIN = {
    "a job that is seconds old": (
        samples.unseen(created=3),
        ["digits has not been seen by the operator yet", "created 3s ago; the operator needs a moment", "get pods -A"],
        Exit.NO,
    ),
    "a job that nobody looked at for minutes": (
        samples.unseen(created=300),
        ["created 5m ago, but has no status", "operator is not running", "watch the namespace default."],
        Exit.NO,
    ),
    "a waiting job": (
        samples.pending("WaitingForCapacity"),
        [
            "digits has been waiting for 3m24s: WaitingForCapacity",
            "Why       needs 2 pods x 2 accelerators; 3 are free",
            "other jobs or pods hold it now",
            "2 pods × (nvidia.com/gpu 2, cpu 4, memory 8Gi) = 4 GPUs; NVIDIA-H100-80GB-HBM3; all in",
            "accelerators needed    4",
            "Proof     Optimal: the solver proved",
            "(gap 0%,",
            "WaitingForCapacity for 3m12s, numbers last changed 12s ago",
            "kubectl stowplan wait digits --for Running",
        ],
        Exit.NO,
    ),
    "a job whose pods are not up": (
        samples.starting(),
        ["digits is starting: 1 of 2 pods are ready", "cannot pull the image", "stowplan-worker2  rank 1", "-o wide"],
        Exit.YES,
    ),
    "a running job": (
        samples.running(),
        [
            "digits has been running for 3m5s, 42% done",
            "State       2 of 2 pods run",
            "Why there   placed on 2 nodes of the best product",
            "2 nodes with NVIDIA-H100-80GB-HBM3 in z1/r1, z1/r2",
            "stowplan-worker   rank 0",
            "step 420 of 1000, loss 0.1234, 812.5 samples/s, about 4m",
            "step 400, 12s ago",
            "GPU telemetry is stale, so sick GPUs are not seen: last reading 5m ago",
            "kubectl stowplan logs digits -f",
        ],
        Exit.YES,
    ),
    "a waiting job of which the operator knows more": (
        samples.outlook(),
        [
            "Position      2 in the line of its queue",
            "Starts        in about 2h (reserved): starts once team/x has ended, if that is when it is",
            "Runs          60m once it has started (history of 3 runs)",
            "To start now  •  ask for 1 pod instead of 2",
            "•  end team/x",
        ],
        Exit.NO,
    ),
    "a running job that is expected to end": (
        samples.running(estimate={"basis": "history of 3 runs", "endTime": samples.ago(-3600)}),
        ["Ends        in 60m (history of 3 runs)"],
        Exit.YES,
    ),
    "a job that will miss its deadline": (
        samples.running(
            conditions=[samples.condition("DeadlineAtRisk", "True", "EndsLate", "2h after spec.deadline", since=9)]
        ),
        ["Its deadline is at risk: 2h after spec.deadline."],
        Exit.YES,
    ),
    "a job that waits for its next attempt": (
        samples.restarting(),
        [
            "digits is restarting: NodesUnhealthy",
            "1 of 2 nodes with the product is NotReady",
            "Restarts      1 of 10 allowed",
            "rank 1 on stowplan-worker2, attempt 1, 90s ago: OOMKilled, exit code 137 (SIGKILL)",
            "│ Killed",
            "kubectl stowplan logs digits --rank 1 --attempt 1",
        ],
        Exit.NO,
    ),
    "a suspended job": (
        samples.suspended(),
        ["digits has been suspended for 5m", "not planned until it is resumed", "kubectl stowplan resume digits"],
        Exit.NO,
    ),
    "a job that succeeded": (
        samples.succeeded(),
        ["digits succeeded 2m10s ago, 31m after its start", "accuracy 0.981", "2.0 GPU hours", "stowplan logs digits"],
        Exit.YES,
    ),
    "a job that failed": (
        samples.failed(),
        [
            "digits failed 85s ago: OOMKilled",
            "was killed for exceeding its memory limit",
            "0 of 10 allowed",
            "│ step 400 loss 0.12",
            "kubectl stowplan logs digits --rank 1 --attempt 1",
        ],
        Exit.NO,
    ),
}


@pytest.mark.parametrize("case", EXPLAIN)
def test_explain_says_of(case: str) -> None:
    body, want, want_exit = EXPLAIN[case]
    printed = explained(body)
    for words in want:
        assert words in printed
    assert explaining.explain(Job(body), SPEAKER).answer.exit is want_exit
    assert printed.splitlines()[-1].strip().removeprefix("Next").strip().startswith("kubectl ")


def _changed(body: dict[str, Any], **status: Any) -> dict[str, Any]:
    body["status"].update(status)
    return body


COLUMNS = (
    output.Column("JOB", shrinks_to=16, wraps=True),
    output.Column("GPUS"),
    output.Column("NOW", shrinks_to=8, wraps=True),
)
# The width → the lines of a table with a long name and a long sentence.
TABLES: dict[str, tuple[int, list[str]]] = {
    "room for all": (
        60,
        ["JOB                         GPUS   NOW", "t-review/t-review-vision-1  8      waits for room"],
    ),
    "the sentence wraps before the name does": (
        43,
        ["JOB                         GPUS  NOW", "t-review/t-review-vision-1  8     waits for", "room"],
    ),
    "a name that does not fit goes on below": (
        32,
        ["JOB               GPUS  NOW", "t-review/t-revie  8     waits", "w-vision-1              for room"],
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_no_name_is_cut_in_a_table(case: str) -> None:
    width, want = TABLES[case]
    rows = [("t-review/t-review-vision-1", "8", "waits for room")]
    printed = output.plain_table(COLUMNS, rows, width=width).plain.splitlines()
    assert all(len(line) <= width for line in printed)
    assert "".join("".join(printed).split()).replace("…", "") == "".join("".join(printed).split())
    assert [" ".join(line.split()) for line in printed] == [" ".join(line.split()) for line in want]


def test_the_example_in_the_documentation_is_what_is_printed() -> None:
    documentation = (pathlib.Path(__file__).parents[4] / "docs" / "cli.md").read_text()
    printed = explained(samples.named("llama", samples.pending("WaitingForCapacity")))
    assert f"$ kubectl stowplan explain llama\n{printed}\n```" in documentation


NOTES = {
    "suspension that has not happened yet": (
        {**samples.running(), "spec": {**samples.running()["spec"], "suspend": True}},
        "its pods get up to 60s to write a checkpoint",
    ),
    "a resume that has not happened yet": (
        {**samples.suspended(), "spec": {**samples.suspended()["spec"], "suspend": False}},
        "has not planned it again yet",
    ),
    "a spec that is newer than the status": (
        _changed(samples.pending("Fragmented"), observedGeneration=0),
        "The spec has changed since the operator last looked",
    ),
    "why progress is unknown": (
        samples.running(progress={"message": "progress is unknown: rank 0 does not serve metrics"}),
        "Progress is unknown: rank 0 does not serve metrics",
    ),
    "restarts that nobody is charged for": (
        _changed(samples.restarting(), infrastructureRestarts=2),
        "1 of 10 allowed, 2 more for faults of the infrastructure",
    ),
    "what the solver gave up": (
        _changed(
            samples.pending("SolverTimeLimit"),
            decision={
                "reason": "SolverTimeLimit",
                "certificate": {"status": "Feasible", "gap": "3.2%", "note": "tier 3 was cut"},
            },
        ),
        "the best plan can be at most 3.2% better (gap 3.2%); tier 3 was cut",
    ),
    "who is in the way": (
        _changed(samples.pending("QueuedBehind"), decision={"reason": "QueuedBehind", "blockers": ["team-a/llama"]}),
        "Blocked by  team-a/llama",
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_explain_mentions(case: str) -> None:
    body, want = NOTES[case]
    assert want in " ".join(explained(body, width=300).split(" ")), explained(body, width=300)


def test_a_queue_that_is_wrong_is_not_blamed_on_the_job() -> None:
    numbers = {"queue_to_mend": "org"}
    printed = explained(
        _changed(samples.pending("Misconfigured"), decision={"reason": "Misconfigured", "numbers": numbers})
    )
    assert "kubectl edit q org" in printed
    assert "Nothing is wrong with the job" in printed
    assert "edit tj" not in printed
    assert "kubectl edit tj digits" in explained(samples.pending("Misconfigured"))


def test_explain_leaves_out_numbers_of_a_decision_that_no_longer_holds() -> None:
    body = _changed(samples.restarting(), reason="BackOff", message="next attempt at 12:00:10")
    printed = explained(body)
    assert "digits is restarting: BackOff" in printed
    assert "accelerators needed" not in printed
    assert "Proof" not in printed


def test_get_shows_every_section() -> None:
    events = [
        samples.event(samples.running(), "Placed", "Attempt 1: 2 pods", seconds=200),
        samples.event(samples.running(), "GangRestart", "rank 1 \x1b[31mfailed", seconds=90, kind="Warning", count=3),
    ]
    printed = detailed(samples.running(), events)
    for words in (
        "digits  in namespace default",
        "Phase       Running  attempt 1",
        "━━━━━━━━━━────────────── 42%  step 420 of 1000",
        "2 nodes with NVIDIA-H100-80GB-HBM3 in z1/r1, z1/r2, planned 3m20s ago",
        "stowplan-worker2  1",
        "TelemetryStale  True    60s    PrometheusNotAnswering  last reading 5m ago",
        "90s    Warning  GangRestart  rank 1 failed (×3)",
    ):
        assert words in printed
    printed = detailed(samples.failed())
    assert "rank 1 on stowplan-worker2, attempt 1, 90s ago: OOMKilled, exit code 137 (SIGKILL)" in printed
    assert "OOMKilled, exit code 137 (SIGKILL), last reported step 400" in " ".join(printed.split())
    (row,) = [line for line in detailed(samples.failed(), width=140).splitlines() if "8m30s" in line]
    assert row.split()[:3] == ["1", "Failed", "90s"]
    assert row.endswith("2     2040         200 to 400  OOMKilled, rank 1 on stowplan-worker2, exit code 137 (SIGKILL)")


def test_a_long_placement_shows_its_first_nodes_and_how_many_more() -> None:
    body = samples.running()
    body["status"]["placement"]["nodes"] = [{"name": f"node-{number}", "ranks": str(number)} for number in range(1000)]
    printed = detailed(body)
    assert "1000 nodes with" in printed
    assert "… 988 more" in printed
    assert "node-12" not in printed


def test_a_log_tail_cannot_write_on_the_terminal() -> None:
    body = samples.failed()
    body["status"]["lastFailure"]["logTail"] = "ok\x1b]0;title\x07\x1b[2J\rstep\x00 9\n\x9bK[link](x)\n"
    for printed in (explained(body), detailed(body)):
        assert "│ ok\n" in printed
        assert "│ step 9" in printed
        assert not {"\x1b", "\x07", "\x00", "\x9b"} & set(printed)
        assert "[link](x)" in printed


def test_the_columns_of_list_are_those_of_kubectl_get_tj() -> None:
    jobs = [Job({**body, "metadata": {**body["metadata"], "name": name}}) for name, body in samples.EVERY_STATE.items()]
    lines = listing.show(jobs, SPEAKER, namespaces=False, wide=False, width=200).plain.splitlines()
    assert lines[0].split() == ["NAME", "PHASE", "REASON", "READY", "GPUS", "PROGRESS", "ETA", "RESTARTS", "AGE"]
    assert lines[1].split() == ["unseen", "-", "-", "-", "-", "-", "-", "-", "3s"]
    assert lines[4].split() == ["running", "Running", "AllPodsRunning", "2/2", "4", "42%", "about", "4m", "0", "3m25s"]
    wide = listing.show(jobs, SPEAKER, namespaces=True, wide=True, width=200).plain.splitlines()
    assert wide[0].split()[0] == "NAMESPACE"
    assert wide[0].split()[-4:] == ["ATTEMPT", "LOSS", "ADMITTED", "MESSAGE"]


def test_on_a_narrow_terminal_only_the_reason_of_a_list_is_cut() -> None:
    long_name = "a-name-of-forty-characters-is-the-longes"
    body = samples.pending("ExceedsClusterCapacity")
    body["metadata"]["name"] = long_name
    lines = listing.show([Job(body)], SPEAKER, namespaces=False, wide=False, width=80).plain.splitlines()
    assert f"{long_name}  Pending  ExceedsClus…  0/2" in lines[1]


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize("case", samples.EVERY_STATE)
def test_no_answer_is_wider_than_the_terminal(case: str, width: int) -> None:
    body = Job(samples.EVERY_STATE[case])
    said = explaining.explain(body, SPEAKER)
    for printed in (render(explaining.show(body, said, SPEAKER), width=width), detailed(body.body, width=width)):
        assert max(len(line) for line in printed.splitlines()) <= width


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def _with(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = _with(value[path[0]], path[1:], junk)
    return copied


@pytest.mark.parametrize("case", ["running", "restarting"])
@pytest.mark.parametrize("junk", [None, ["junk", 7], {"junk": {}}, "junk", 7], ids=repr)
def test_nothing_in_a_job_that_is_missing_or_odd_ends_in_a_traceback(case: str, junk: Any) -> None:
    whole = samples.EVERY_STATE[case]
    for path in _paths({"spec": whole["spec"], "status": whole["status"]}):
        job = Job(_with(whole, path, junk)).printable
        said = explaining.explain(job, SPEAKER)
        explaining.show(job, said, SPEAKER)
        details.show(job, [], SPEAKER)
        listing.show([job], SPEAKER, namespaces=True, wide=True, width=80)
        output.serialise(documents.explanation(job, said), "json")
        output.serialise(documents.job_details(job, None), "json")


def test_a_job_without_any_status_part_is_shown() -> None:
    for status in ({}, {"phase": "Pending"}, {"phase": "Running"}, {"phase": "Failed"}, {"phase": "Preempting"}):
        body = {**samples.unseen(), "status": status}
        assert "digits" in explained(body)
        assert "digits" in detailed(body)
