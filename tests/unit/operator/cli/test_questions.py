"""``what-if`` and ``top`` on what a real planner left behind: who starts, who waits, who gives way, and the figures."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import Result

from fakes.builders import JobBuilder, a_job
from stowplan_allocator import types
from stowplan_operator import observation
from stowplan_operator.cli import answering, asking, figures, refusals
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.words import Speaker
from unit.operator.cli import observed
from unit.operator.cli.conftest import Run

Ask = Callable[..., Result]


@pytest.fixture
def ask(run: Run, tmp_path: pathlib.Path) -> Ask:
    """A command line on the snapshot of a busy day; ``{a}`` is the path of a file with job ``a``."""
    (tmp_path / "day.json").write_text(observed.a_document())
    jobs: dict[str, JobBuilder] = {
        "small": a_job("small").nodes(1).gpus(2),
        "urgent": a_job("urgent").nodes(1).gpus(4).spec(priorityClassName="high"),
        "whole": a_job("whole").nodes(2).gpus(4).spec(priorityClassName="high"),
        "huge": a_job("huge").nodes(9).gpus(4),
        "llama": a_job("llama").gpus(4),
        "giant": a_job("giant").nodes(1).gpus(4),
        "nobody": a_job("nobody").spec(priorityClassName="nope"),
        "wrong": a_job("wrong").spec(resourcesPerNode={observed.GPU: "many"}),
        "nowhere": a_job("nowhere").spec(topology={"level": "planet", "mode": "Required"}),
    }
    files = {}
    for name, job in jobs.items():
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(job.body()))

    def invoke(line: str, *more: str) -> Result:
        return run(*line.format(**files).split(), "--snapshot", str(tmp_path / "day.json"), *more)

    return invoke


# What is changed → the exit code, and the lot of each job that differs.
CHANGES: dict[str, tuple[str, int, dict[str, str]]] = {
    "a job that fits starts": ("submit {small}", 0, {"team/small": "starts"}),
    "a job that can never run waits": ("submit {huge}", 1, {"team/huge": "waits"}),
    "a gang that loses its node starts anew elsewhere": ("drain gpu-1", 0, {"team/llama": "starts"}),
    "a gang that loses its node and finds no other waits": (
        "drain gpu-1 gpu-2",
        1,
        {"team/llama": "waits"},
    ),
    "a drained node without jobs costs nobody his place": ("drain node/gpu-2", 0, {}),
    "one more node starts the large job": ("add 1 node like gpu-1", 0, {"team/giant": "starts"}),
    "new nodes like a cordoned one are not cordoned": ("add 1 gpu-4", 0, {"team/giant": "starts"}),
    "the end of a job starts the large one": ("remove llama", 0, {"team/giant": "starts", "team/llama": "absent"}),
    "a waiting job is removed by its full name": ("remove tj/team/giant", 0, {"team/giant": "absent"}),
    "an urgent job starts where there is room": ("submit {urgent}", 0, {"team/urgent": "starts"}),
    "an urgent job takes the place of a running one": (
        "submit {whole}",
        1,
        {"team/whole": "preempts", "team/llama": "givesWay"},
    ),
    "a waiting job is changed": ("submit {giant}", 0, {"team/giant": "starts"}),
    "changes are made one after the other": (
        "remove llama drain gpu-1 add 1 gpu-1",
        0,
        {"team/giant": "starts", "team/llama": "absent"},
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_if(ask: Ask, case: str) -> None:
    line, want_exit, want = CHANGES[case]
    result = ask(f"what-if {line}", "-o", "json", "-n", "team")
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    found = {job["name"]: job["after"]["lot"] for job in answer["jobs"] if job["differs"] or job["name"] in want}
    assert {name: lot for name, lot in found.items() if name in want or lot != "waits"} == want
    assert (result.exit_code, answer["yes"]) == (want_exit, want_exit == 0)


REFUSALS = {
    "an unknown node": ("drain gpu-11", "no node gpu-11\n  did you mean gpu-1"),
    "an unknown job": ("remove lama", "no job lama runs or waits\n  did you mean team/llama?"),
    "a job of another namespace": (
        "remove giant -n prod",
        "no job giant in namespace prod runs or waits\n  there is team/giant",
    ),
    "no keyword": ("gpu-1", "'gpu-1' is no change\n  changes are: submit FILE…, drain NODE…"),
    "a misspelt keyword": ("drian gpu-1", "did you mean drain?"),
    "a keyword without words": ("drain gpu-1 remove", "remove needs JOB…"),
    "no number of nodes": ("add gpu-1", "add gpu-1 cannot be read"),
    "a file that is not there": ("submit nothing.yaml", "nothing.yaml cannot be read: No such file or directory"),
    "a job that runs": ("submit {llama}", "team/llama runs already\n  to see what a changed one does, remove it first"),
    "an unknown PriorityClass": ("submit {nobody}", "there is no PriorityClass 'nope'; existing: high"),
    "an amount that is none": ("submit {wrong}", "spec.resourcesPerNode.nvidia.com/gpu: 'many' is not a quantity"),
    "an unknown level": ("submit {nowhere}", "the levels of this cluster are zone, rack, node"),
    "no queues": ("quota team-a H100 8", "there are no queues in the snapshot"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_changed_is_refused_with_its_fix(ask: Ask, case: str) -> None:
    line, want = REFUSALS[case]
    result = ask(f"what-if {line}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert want in result.stderr


def test_a_file_of_other_kinds_says_what_it_holds(ask: Ask, tmp_path: pathlib.Path) -> None:
    (tmp_path / "pod.yaml").write_text("kind: Pod\n---\nkind: ConfigMap\n")
    assert "holds no TrainingJob; it holds ConfigMap, Pod" in ask(f"what-if submit {tmp_path}/pod.yaml").stderr


def test_both_sides_stand_beside_each_other_in_80_columns(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = ask("what-if submit {whole}").stdout
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "gives way to team/whole, loses" in text
    assert "GPUs free" in text
    assert "Optimal, gap 0%" in text
    assert "\x1b" not in text


def test_a_changed_quota_lets_a_job_wait_or_start(run: Run, tmp_path: pathlib.Path) -> None:
    room = types.Resources(accelerators=8)
    node = types.Node("n1", "H100", available=room, allocatable=room)
    pod = types.Resources(accelerators=4)
    queue = types.Queue("team", quotas=(types.Quota("H100", nominal=0, borrowing_limit=0),))
    snapshot = types.Snapshot((node,), (types.Job("a", "team/a", 1, pod, queue="team"),), queues=(queue,))
    document = observation.write(observation.Observation(snapshot=snapshot, settings=types.Settings()))
    (tmp_path / "file").write_text(document)
    result = run("what-if", "quota", "team", "H100", "4", "--snapshot", str(tmp_path / "file"), "-o", "json")
    (job,) = json.loads(result.stdout)["jobs"]
    assert (job["before"]["lot"], job["after"]["lot"]) == ("waits", "starts")
    refused = run("what-if", "quota", "tem", "H100", "4", "--snapshot", str(tmp_path / "file"))
    assert "no queue tem\n  did you mean team?" in refused.stderr


def test_top_tells_what_every_gpu_does(ask: Ask) -> None:
    lines = ask("top").stdout.splitlines()
    assert lines[0] == (
        "6 of 16 GPUs used on 4 nodes, 5 free (20% fragmented), 4 blocked, 1 broken, utilisation 49% on 2 nodes"
    )
    columns = "NODE PRODUCT GPUS USED FREE BROKEN UTIL FRAG STATE"
    assert lines[2].split() == columns.split()
    rows = {line.split()[0]: line.split(maxsplit=8)[2:] for line in lines[3:]}
    assert rows == {
        "gpu-1": ["4", "4", "0", "0", "92%", "-", "ok"],
        "gpu-2": ["4", "0", "4", "0", "7%", "0%", "ok"],
        "gpu-3": ["4", "2", "1", "1", "-", "100%", "the device plugin reports 1 device as unhealthy"],
        "gpu-4": ["4", "0", "0", "0", "-", "-", "cordoned"],
    }


def test_every_gpu_is_counted_once(ask: Ask) -> None:
    answer = json.loads(ask("top nodes -o json").stdout)
    for gpus in [answer["gpus"], *(item["gpus"] for item in answer["items"])]:
        assert sum(gpus[key] for key in ("used", "others", "free", "blocked", "broken")) == gpus["total"]


def test_other_peoples_pods_have_a_column_where_there_are_any() -> None:
    room = types.Resources(accelerators=8)
    node = types.Node("n1", "H100", available=types.Resources(accelerators=5), allocatable=room)
    place = types.Placement("H100", (types.NodeShare("n1", 1),))
    job = types.Job("a", "a", 1, types.Resources(accelerators=4), placement=place)
    (row,) = figures.of_nodes(types.Snapshot((node,), (job,)))
    assert (row.used, row.others, row.free, row.fragmented) == (4, 3, 1, 1.0)


def test_queues_add_up_to_their_parents() -> None:
    def a_running(name: str, queue: str, gpus: int) -> types.Job:
        place = types.Placement("H100", (types.NodeShare("n1", 1),))
        return types.Job(name, name, 1, types.Resources(accelerators=gpus), placement=place, queue=queue)

    queues = (
        types.Queue("org", quotas=(types.Quota("H100", 8),)),
        types.Queue("team", parent="org", quotas=(types.Quota("H100", 2),)),
    )
    waiting = types.Job("w", "w", 2, types.Resources(accelerators=2), queue="team")
    jobs = (a_running("a", "org", 1), a_running("b", "team", 4), a_running("c", "", 3), waiting)
    room = types.Resources(accelerators=20)
    node = types.Node("n1", "H100", available=room, allocatable=room)
    seen = observation.Observation(snapshot=types.Snapshot((node,), jobs, queues=queues), settings=types.Settings())
    rows = {row.name: row for row in figures.of_queues(seen)}
    found: dict[str, Any] = {
        name: (row.nominal, row.used, row.borrowed, row.lent, row.pending, row.running, row.waiting, row.share)
        for name, row in rows.items()
    }
    assert found == {
        "": (None, 3, 0, 0, 0, 1, 0, 0.15),
        "org": (10, 5, 0, 0, 4, 2, 1, 0.25),
        "team": (2, 4, 2, 0, 4, 1, 1, 0.2),
    }


def test_watching_a_file_makes_no_sense(ask: Ask) -> None:
    result = ask("top --watch")
    assert result.exit_code == 2
    assert "--watch asks the cluster and shows tables: leave out --snapshot" in result.stderr


async def test_a_live_table_outlasts_an_operator_that_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(answering, "WATCH_SECONDS", 0)
    answers: list[Exception | None] = [
        None,
        refusals.TransientError("no operator answers", code=Exit.UNREACHABLE),
        None,
        CliError("you may not any more", code=Exit.UNREACHABLE),
    ]

    async def ask() -> observation.Observation:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return observed.an_observation()

    seen = await asyncio.to_thread(observed.an_observation)
    assert seen.snapshot.nodes
    asker = asking.Asker(ask, None, None, Speaker(now=0), "stowplan-system")
    with pytest.raises(CliError, match="you may not any more"):
        await answering.top(asker, what="nodes", form=None, watch=True)
    assert answers == []
    assert "gpu-4" in capsys.readouterr().out


RESIZES: dict[str, tuple[str, dict[str, str], str]] = {
    "a new job gets what an elastic one gives up": (
        "submit {file}",
        {"team/next": "preempts", "team/wide": "resizes"},
        "restarts with 1 pod, for team/next",
    ),
    "an elastic job grows where nobody waits": (
        "add 1 node like gpu-1",
        {"team/wide": "resizes"},
        "restarts with 3 pods, as nobody waits",
    ),
}


@pytest.mark.parametrize(("question", "want_lots", "want_words"), RESIZES.values(), ids=RESIZES)
def test_elastic_jobs_are_resized_by_what_changes(
    run: Run, tmp_path: pathlib.Path, question: str, want_lots: dict[str, str], want_words: str
) -> None:
    saved, file = tmp_path / "wide.json", tmp_path / "next.yaml"
    saved.write_text(observed.a_document(observed.a_wide_job, observed.two_nodes))
    file.write_text(yaml.safe_dump(a_job("next").nodes(1).body()))
    line = ("what-if", *question.format(file=file).split(), "--snapshot", str(saved))
    assert want_words in " ".join(run(*line).output.split())
    answer = json.loads(run(*line, "-o", "json").output)
    assert {job["name"]: job["after"]["lot"] for job in answer["jobs"] if job["differs"]} == want_lots
    assert answer["after"]["resizes"] == 1


def test_a_plan_names_who_is_resized(run: Run, tmp_path: pathlib.Path) -> None:
    saved = tmp_path / "wide.json"
    saved.write_text(observed.a_document(observed.a_wide_job, observed.two_nodes))
    seen = observation.read(saved.read_text())
    (wide,) = seen.snapshot.jobs
    resizes = (types.Resize(wide.id, 3, "", 480, 5000),)
    planned = dataclasses.replace(seen, plan=dataclasses.replace(seen.plan, resizes=resizes))
    saved.write_text(observation.write(planned))
    assert "team/wide from 2 to 3 pods as nobody waits for the GPUs" in " ".join(
        run("plan", "--snapshot", str(saved)).output.split()
    )
    answer = json.loads(run("plan", "--snapshot", str(saved), "-o", "json").output)
    assert answer["resizes"] == [{"name": "team/wide", "pods": 3, "for": None, "loses": 480, "gains": 5000}]
