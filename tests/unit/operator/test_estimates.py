"""How long jobs still run: whose word counts, which runs are alike, and how seldom a status says something new."""

from __future__ import annotations

import dataclasses

import pytest

from fakes.builders import GPU, H100, NOW, JobBuilder, a_job, an_attempt, time_text
from stowplan_operator import api, estimates
from stowplan_operator.estimates import Estimate, History

LATER = NOW + 1000
RUNNING = a_job("run-9").placed_on("n1", "n2").started(NOW).status(gpus=8)
WAITING = a_job("run-9").status(gpus=8, phase="Pending")
STEPS = {**an_attempt(1, begin=NOW - 500, seconds=400, outcome="Preempted"), "firstStep": 0, "lastStep": 200}


def succeeded(
    name: str, seconds: float, *, at: float = NOW, gpus: int = 8, like: JobBuilder | None = None
) -> JobBuilder:
    done = (like or a_job(name)).meta(name=name, uid=f"uid-{name}")
    return done.status(
        phase="Succeeded",
        gpus=gpus,
        gpuSeconds=int(seconds * gpus),
        completionTime=time_text(at),
        history=[an_attempt(1, begin=at - seconds, seconds=seconds, outcome="Succeeded")],
    )


def estimate(job: JobBuilder, *past: JobBuilder, left: float | None = None) -> Estimate | None:
    history = History()
    history.look([one.view() for one in (*past, job)])
    found = estimates.of_all(
        [(job.view(), job.parsed())],
        history=history,
        seconds_left={} if left is None else {job.view().uid: left},
        now_seconds=LATER,
    )
    return found.get(job.view().uid)


def by_progress(seconds: float) -> Estimate:
    return Estimate(seconds, "progress", seconds * 1.1)


PAST = [succeeded(f"run-{n}", seconds) for n, seconds in enumerate((2000, 3000, 4000, 5000, 500))]
AN_END = {"basis": "progress", "endTime": time_text(LATER + 500)}
TOLD = {"progress": {"attempt": 1, "step": 5, "totalSteps": 100}, "estimate": AN_END}
CASES: dict[str, tuple[JobBuilder, list[JobBuilder], float | None, Estimate | None]] = {
    "nothing is known": (RUNNING, [], None, None),
    "its progress goes before everything": (
        RUNNING.spec(activeDeadlineSeconds=9999),
        PAST,
        77.0,
        by_progress(77.0),
    ),
    "more than a hundred years of steps are no estimate": (RUNNING, [], 1e12, None),
    "nor is a bound of that length": (RUNNING.spec(activeDeadlineSeconds=10**10), [], None, None),
    "nor is what a tiny throughput makes of the past": (
        RUNNING.spec(accelerators=[{"product": H100, "relativeThroughput": "1e-300"}]),
        PAST,
        None,
        None,
    ),
    "others like it are asked where its own steps make no sense": (
        WAITING,
        PAST[:1],
        1e12,
        Estimate(2000.0, "history of 1 run", 2000.0),
    ),
    "the end that its status states counts until its pace is known again": (
        RUNNING.status(**TOLD),
        PAST,
        None,
        by_progress(500.0),
    ),
    "but not when it has passed": (
        RUNNING.status(**{**TOLD, "estimate": AN_END | {"endTime": time_text(NOW)}}),
        [],
        None,
        None,
    ),
    "nor that of another attempt": (RUNNING.status(**{**TOLD, "progress": {"attempt": 7}}), [], None, None),
    "nor one that rests on something else": (
        RUNNING.status(**{**TOLD, "estimate": AN_END | {"basis": "history of 1 run"}}),
        [],
        None,
        None,
    ),
    "what it is ended by bounds its progress": (
        RUNNING.spec(activeDeadlineSeconds=1050),
        [],
        77.0,
        Estimate(50.0, "activeDeadlineSeconds", 50.0),
    ),
    "only the bound is known": (
        RUNNING.spec(activeDeadlineSeconds=7200),
        [],
        None,
        Estimate(6200.0, "activeDeadlineSeconds", 6200.0, is_bound=True),
    ),
    "the median of the runs that it has not outlasted": (
        RUNNING,
        PAST,
        None,
        Estimate(2500.0, "history of 4 runs", 4000.0),
    ),
    "it has outlasted all others": (RUNNING, [succeeded("run-1", 900)], None, None),
    "a waiting job needs the median": (WAITING, PAST[:3], None, Estimate(3000.0, "history of 3 runs", 4000.0)),
    "one run will do": (WAITING, PAST[:1], None, Estimate(2000.0, "history of 1 run", 2000.0)),
    "a job that was preempted needs what is left": (
        WAITING.status(gpuSeconds=8 * 1200, history=[an_attempt(1, outcome="Preempted")]),
        PAST[:3],
        None,
        Estimate(1800.0, "history of 3 runs", 2800.0),
    ),
    "steps since its last checkpoint, at the pace of its last run": (
        WAITING.status(history=[STEPS], progress={"attempt": 1, "totalSteps": 1000, "checkpointStep": 180}),
        PAST,
        None,
        by_progress(820 * 2.0),
    ),
    "without a reported checkpoint it begins anew": (
        WAITING.status(history=[STEPS], progress={"attempt": 1, "totalSteps": 1000, "step": 200}),
        [],
        None,
        by_progress(1000 * 2.0),
    ),
    "an attempt that has said nothing yet goes on from there": (
        RUNNING.status(
            history=[STEPS], progress={"attempt": 0, "totalSteps": 1000, "checkpointStep": 180}, gpuSeconds=0
        ),
        [],
        None,
        by_progress(820 * 2.0 - 1000),
    ),
    "jobs of another size are not alike": (WAITING, [succeeded("run-1", 9, like=a_job().nodes(4))], None, None),
    "nor those of another namespace": (WAITING, [succeeded("run-1", 9, like=a_job().meta(namespace="x"))], None, None),
    "nor those that failed": (WAITING, [succeeded("run-1", 9).phase(api.Phase.FAILED)], None, None),
    "nor other commands under other names": (
        WAITING,
        [succeeded("walk-1", 9, like=a_job().spec(args=["--other"]))],
        None,
        None,
    ),
    "the same command under another name and tag is": (
        WAITING,
        [succeeded("walk-1", 90, like=a_job().spec(image="registry.example/train:2"))],
        None,
        Estimate(90.0, "history of 1 run", 90.0),
    ),
    "the same command goes before the same name": (
        WAITING,
        [succeeded("walk-1", 90), succeeded("run-1", 9, like=a_job().spec(args=["--other"]))],
        None,
        Estimate(90.0, "history of 1 run", 90.0),
    ),
    "of many runs the latest": (
        WAITING,
        [succeeded(f"run-{n}", 100 + n, at=NOW + n) for n in range(520)],
        None,
        Estimate(369.5, "history of 500 runs", 596.0),
    ),
    "jobs without accelerators by the clock": (
        WAITING.gpus(0).status(gpus=0),
        [succeeded("run-1", 70, gpus=0, like=a_job().gpus(0))],
        None,
        Estimate(70.0, "history of 1 run", 70.0),
    ),
}


@pytest.mark.parametrize(("job", "past", "left", "want"), CASES.values(), ids=CASES)
def test_what_is_known_of_a_job(
    job: JobBuilder, past: list[JobBuilder], left: float | None, want: Estimate | None
) -> None:
    found = estimate(job, *past, left=left)
    assert (found and dataclasses.replace(found, spread=())) == want


def test_how_run_times_are_spread() -> None:
    """What those still needed that ran longer; a limit cuts them."""
    found = estimate(RUNNING, *PAST)
    assert found is not None
    assert found.spread == (1000, 2000, 3000, 4000)
    cut = estimate(RUNNING.spec(activeDeadlineSeconds=3500), *PAST)
    assert cut is not None
    assert cut.spread == (1000, 2000, 2500, 2500)


def test_run_times_are_of_the_best_product() -> None:
    choices = [{"product": "fast"}, {"product": "slow", "relativeThroughput": "0.5"}]
    either = a_job().spec(accelerators=choices)
    past = succeeded("run-1", 4000, like=either.placed_on("n1", "n2", product="slow"))
    waiting = either.meta(name="run-9", uid="uid-run-9").status(gpus=8)
    assert estimate(waiting, past) == Estimate(2000.0, "history of 1 run", 2000.0, spread=(int(2000.0),))
    slowly = waiting.placed_on("n1", "n2", product="slow").started(NOW).status(gpus=8)
    assert estimate(slowly, past) == Estimate(3000.0, "history of 1 run", 3000.0, spread=(int(3000.0),))


def test_run_times_are_of_the_preferred_size() -> None:
    """Half the pods, twice the time."""
    elastic = a_job().spec(elastic={"minNodes": 1})
    past = succeeded("run-1", 4000, like=elastic.placed_on("n1").nodes(2), gpus=4)
    waiting = elastic.meta(name="run-9", uid="uid-run-9").status(gpus=8)
    assert estimate(waiting, past) == Estimate(2000.0, "history of 1 run", 2000.0, spread=(int(2000.0),))
    small = waiting.placed_on("n1").nodes(2).started(NOW).status(gpus=4)
    assert estimate(small, past) == Estimate(3000.0, "history of 1 run", 3000.0, spread=(int(3000.0),))


def test_jobs_that_have_ended_are_not_estimated() -> None:
    assert estimate(succeeded("run-9", 10).spec(activeDeadlineSeconds=7200), *PAST) is None


def test_history_follows_what_is_there() -> None:
    history, waiting = History(), WAITING.view()
    history.look([waiting])
    assert history.runs_like(waiting) == ()
    history.look([waiting, PAST[0].view()])
    assert history.runs_like(waiting) == (2000.0,)
    history.look([waiting, PAST[0].view(), PAST[1].view()])
    assert sorted(history.runs_like(waiting)) == [2000.0, 3000.0]
    history.look([waiting])
    assert history.runs_like(waiting) == ()


STEMS = {
    "run-17": "run",
    "nightly-2026-11-22": "nightly",
    "llama-sft-x7k2p": "llama-sft",
    "eval-3f9a2c1": "eval",
    "bert-v2": "bert",
    "run12": "run",
    "llama-small": "llama-small",
    "a": "a",
    "x86": "x",
}


@pytest.mark.parametrize(("name", "want"), STEMS.items())
def test_the_part_of_a_name_that_runs_share(name: str, want: str) -> None:
    assert estimates.stem(name) == want


SAID = {"basis": "progress", "endTime": time_text(NOW + 10_000)}
WRITTEN: dict[str, tuple[Estimate | None, dict[str, object], bool, float | None, dict[str, object] | None]] = {
    "nothing is known": (None, SAID, True, NOW, None),
    "a running job's end": (
        Estimate(600, "progress", 600),
        {},
        True,
        NOW,
        {"basis": "progress", "endTime": time_text(NOW + 600)},
    ),
    "an end that moved by less than a tenth stays": (Estimate(10_900, "progress", 10_900), SAID, True, NOW, SAID),
    "one that moved by more does not": (
        Estimate(11_100, "progress", 11_100),
        SAID,
        True,
        NOW,
        {"basis": "progress", "endTime": time_text(NOW + 11_100)},
    ),
    "another basis is news": (
        Estimate(10_000, "history of 2 runs", 10_000),
        SAID,
        True,
        NOW,
        {"basis": "history of 2 runs", "endTime": time_text(NOW + 10_000)},
    ),
    "a waiting job's run time": (Estimate(600, "x", 600), {}, False, None, {"basis": "x", "runSeconds": 600}),
    "and its end, where its start is predicted": (
        Estimate(600, "x", 600),
        {"basis": "x", "runSeconds": 610},
        False,
        NOW + 60,
        {"basis": "x", "runSeconds": 600, "endTime": time_text(NOW + 660)},
    ),
    "a run time that is hardly another stays": (
        Estimate(640, "x", 640),
        {"basis": "x", "runSeconds": 600},
        False,
        None,
        {"basis": "x", "runSeconds": 600},
    ),
}


@pytest.mark.parametrize(("found", "old", "placed", "start", "want"), WRITTEN.values(), ids=WRITTEN)
def test_what_the_status_says(
    found: Estimate | None,
    old: dict[str, object],
    placed: bool,
    start: float | None,
    want: dict[str, object] | None,
) -> None:
    said = estimates.to_status(found, old, starts_at=start, is_placed=placed, now_seconds=NOW)
    assert said == want


def test_resources_that_are_written_in_another_order_are_the_same() -> None:
    one = a_job("x").spec(resourcesPerNode={GPU: 4, "cpu": "8"})
    other = a_job("y").spec(resourcesPerNode={"cpu": "8", GPU: 4})
    assert estimate(one, succeeded("y", 60, like=other)) == Estimate(
        60.0, "history of 1 run", 60.0, spread=(int(60.0),)
    )
