"""``plan`` and ``explain --deep`` on what a real planner left behind: proof, chart, files, changes that start a job."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib

import pytest
from click.testing import Result

import stowplan_allocator
from fakes.builders import a_job
from stowplan_allocator import alternatives, snapshots, types
from stowplan_allocator.simulate import pictures
from stowplan_operator import observation
from stowplan_operator.cli import plan_report, schedule
from unit.operator.cli import observed, samples
from unit.operator.cli.conftest import Run
from unit.operator.cli.fake_api import State
from unit.operator.cli.test_asking import Operators, a_leading_desk, operators

__all__ = ["operators"]


@pytest.fixture
def day(tmp_path: pathlib.Path) -> str:
    """The file of a busy day's snapshot."""
    path = tmp_path / "day.json"
    path.write_text(observed.a_document())
    return str(path)


def the_chart(text: str) -> dict[str, str]:
    lines = text.partition("Planned starts, if nothing new comes\n")[2].splitlines()
    return {line.split()[0]: line for line in lines if line.startswith("  team/")}


def test_the_plan_says_what_is_proven_and_who_starts_when(run: Run, day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("plan", "--snapshot", day)
    assert (result.exit_code, result.stderr) == (0, "")
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "2 jobs running, 1 waiting" in result.stdout
    assert "Optimal: the solver proved that no other plan" in result.stdout
    assert "exact with HiGHS" in result.stdout
    chart = the_chart(result.stdout)
    assert list(chart) == ["team/digits", "team/llama", "team/giant"]
    # The large job starts when the longer of the two has ended, and is drawn there.
    assert "in 109m" in chart["team/giant"]
    assert chart["team/giant"].index("▒") >= chart["team/llama"].rindex("█")
    assert len(chart["team/digits"]) < len(chart["team/llama"])


def test_the_plan_for_programs(run: Run, day: str) -> None:
    answer = json.loads(run("plan", "--snapshot", day, "-o", "json").stdout)
    assert answer["certificate"]["status"] == "Optimal"
    jobs = {job["name"]: job for job in answer["jobs"]}
    assert jobs["team/llama"]["running"]
    assert jobs["team/llama"]["startsAt"] is None
    assert jobs["team/giant"]["startsAt"] == jobs["team/llama"]["endsAt"]
    assert [node["name"] for node in jobs["team/giant"]["nodes"]] == ["gpu-1", "gpu-2"]
    assert jobs["team/giant"]["waitsFor"] == ["team/llama"]


def test_without_known_ends_no_start_is_told_and_bars_go_on() -> None:
    async def nobody_knows(world: observed.World) -> None:
        world.submit(a_job("llama").nodes(3).gpus(3))
        await world.settle()
        world.submit(a_job("next").nodes(1).gpus(4))
        await world.settle()

    future = schedule.of(observed.an_observation(nobody_knows))
    (span,) = future.spans
    assert (span.job.name, span.ends_in, future.horizon) == ("team/llama", None, schedule.LEAST_HORIZON_SECONDS)
    (unknown,) = future.unknown
    assert unknown.basis == "depends on team/llama, whose end is unknown"


def test_where_many_jobs_run_those_that_start_next_are_still_shown(run: Run, tmp_path: pathlib.Path) -> None:
    room = types.Resources(accelerators=100)
    node = types.Node("n1", "H100", available=room, allocatable=room)
    place = types.Placement("H100", (types.NodeShare("n1", 1),))
    one = types.Resources(accelerators=1)
    running = [types.Job(f"r{i}", f"team/r{i:02}", 1, one, placement=place, expected_seconds=60) for i in range(60)]
    planned = [types.Job(f"w{i}", f"team/w{i:02}", 1, one, expected_seconds=60) for i in range(50)]
    (tmp_path / "bare").write_text(snapshots.write(types.Snapshot((node,), (*running, *planned))))
    chart = the_chart(run("plan", "--snapshot", str(tmp_path / "bare")).stdout)
    assert sum(name.startswith("team/r") for name in chart) == 10
    assert sum(name.startswith("team/w") for name in chart) == 30


def test_the_page_and_the_picture(run: Run, day: str, tmp_path: pathlib.Path) -> None:
    result = run("plan", "--snapshot", day, "--html", str(tmp_path / "p.html"), "--png", str(tmp_path / "p.png"))
    assert result.exit_code == 0
    assert f"Wrote {tmp_path}/p.html" in result.stderr
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "p.html").read_text()
    for word in ("<svg", "team/giant", "starts once team/llama has ended", "Content-Security-Policy"):
        assert word in page


def a_mixed_plan() -> observation.Observation:
    """Two that run, one without a known end; two that start now, one of them for seconds; one without a start."""
    room = types.Resources(accelerators=4)
    nodes = tuple(types.Node(name, "H100", available=room, allocatable=room) for name in ("n1", "n2"))
    two, place = types.Resources(accelerators=2), types.Placement("H100", (types.NodeShare("n1", 1),))
    jobs = (
        types.Job("a", "team/vision", 1, two, placement=place, expected_seconds=1800),
        types.Job("b", "team/speech", 1, two, placement=place),
        types.Job("c", "team/short", 1, two, expected_seconds=60),
        types.Job("d", "team/next", 1, two, expected_seconds=3000),
        types.Job("e", "team/later", 2, room, expected_seconds=3000),
    )
    return observation.Observation(snapshot=types.Snapshot(nodes, jobs), settings=types.Settings())


def test_the_picture_tells_who_runs_who_is_planned_and_whose_end_is_not_known() -> None:
    from matplotlib.figure import Figure

    seen = a_mixed_plan()
    drawn = plan_report.view(seen, schedule.of(seen))
    axes = Figure(figsize=(10, 4)).add_subplot()
    (picture,) = (one for one in pictures.all_pictures(drawn) if one.name == pictures.NODES)
    picture.draw(axes, drawn, "#24292f")
    assert axes.get_legend_handles_labels()[1] == ["runs", "planned", "goes on, end not known"]
    assert len(axes.collections[-1].get_offsets()) == 1, "only of team/speech"
    # The bar of a minute is too short for its name, which stands beside it.
    named = {text.get_text().strip(): text.get_position()[0] for text in axes.texts}
    assert named == {"team/vision": 0, "team/speech": 0, "team/short": 1, "team/next": 0}


def test_the_picture_names_who_waits_without_a_start() -> None:
    seen = a_mixed_plan()
    future = schedule.of(seen)
    assert plan_report.below(future) == [
        "Waiting, and no start can be told",
        "  team/later: depends on team/speech, whose end is unknown",
    ]
    many = dataclasses.replace(future, unknown=future.unknown * 20)
    assert (len(plan_report.below(many)), plan_report.below(many)[-1]) == (14, "  … and 8 more jobs")
    assert plan_report.below(dataclasses.replace(future, unknown=())) == []


def test_without_matplotlib_pictures_name_what_to_install(
    run: Run, day: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    result = run("plan", "--snapshot", day, "--png", str(tmp_path / "p.png"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "matplotlib, which is not installed\n  pip install 'stowplan[report]'" in result.stderr
    assert not (tmp_path / "p.png").exists()
    assert run("plan", "--snapshot", day).exit_code == 0


def test_a_file_that_cannot_be_written_is_wrong_use(run: Run, day: str, tmp_path: pathlib.Path) -> None:
    result = run("plan", "--snapshot", day, "--html", str(tmp_path / "missing" / "p.html"))
    assert result.exit_code == 2
    assert "cannot be written: No such file or directory" in result.stderr


def test_a_bare_snapshot_is_planned_here(run: Run, tmp_path: pathlib.Path) -> None:
    room = types.Resources(accelerators=8)
    node = types.Node("n1", "H100", available=room, allocatable=room)
    jobs = tuple(types.Job(name, f"team/{name}", 1, types.Resources(accelerators=8)) for name in "ab")
    text = snapshots.write(types.Snapshot((node,), jobs))
    (tmp_path / "bare").write_text(text)
    answer = json.loads(run("plan", "--snapshot", str(tmp_path / "bare"), "-o", "json").stdout)
    assert answer["certificate"]["value"] == 1
    assert [job["name"] for job in answer["jobs"]] == ["team/a", "team/b"]


def alternatives_of(result: Result) -> dict[str, str]:
    return {one["kind"]: one["sentence"] for one in json.loads(result.stdout)["alternatives"]}


def test_a_saved_snapshot_explains_a_job_with_what_would_start_it(run: Run, day: str) -> None:
    result = run("explain", "giant", "--snapshot", day, "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"] == "NodesUnhealthy"
    assert alternatives_of(result)["NodesBack"] == "bring back gpu-4 (cordoned)"
    assert "end team/llama, which loses" in alternatives_of(result)["JobEnded"]
    text = run("explain", "giant", "--snapshot", day).stdout
    assert "team/giant waits: NodesUnhealthy" in text
    assert "What would start it now\n  •  " in text
    assert "bring back gpu-4 (cordoned)" in text


def test_every_change_that_is_named_does_start_the_job() -> None:
    seen = observed.an_observation()
    (giant,) = (job for job in seen.snapshot.jobs if job.name == "team/giant")
    found = alternatives.explore(seen.snapshot, giant.id, settings=seen.settings)
    assert len(found.alternatives) >= 4
    for one in found.alternatives:
        assert giant.id in stowplan_allocator.plan(one.apply(seen.snapshot), seen.settings).placements, one.sentence


def test_explain_deep_asks_status_and_the_operator(run: Run, cluster: State, operators: Operators) -> None:
    seen = observed.an_observation()
    (giant,) = (job for job in seen.snapshot.jobs if job.name == "team/giant")
    body = samples.named("giant", samples.pending("NodesUnhealthy"), namespace="team")
    body["metadata"]["uid"] = giant.id
    cluster.jobs = [body]
    operators.add("stowplan-a", a_leading_desk())
    plain = run("explain", "giant", "-n", "team")
    assert "kubectl stowplan explain giant --deep -n team" in plain.stdout
    assert "What would start it now" not in plain.stdout
    result = run("explain", "giant", "-n", "team", "--deep")
    assert result.exit_code == 1
    assert result.stdout.startswith(plain.stdout[:200])
    assert "bring back gpu-4 (cordoned)" in result.stdout
    assert "--deep" not in result.stdout
    told = json.loads(run("explain", "giant", "-n", "team", "--deep", "-o", "json").stdout)
    assert {one["kind"] for one in told["alternatives"]} >= {"NodesBack", "JobEnded"}
    assert json.loads(run("explain", "giant", "-n", "team", "-o", "json").stdout)["alternatives"] is None


def test_explain_deep_of_a_job_that_the_operator_does_not_plan(run: Run, cluster: State, operators: Operators) -> None:
    cluster.jobs = [samples.named("lost", samples.pending("Misconfigured"), namespace="team")]
    operators.add("stowplan-a", a_leading_desk())
    result = run("explain", "lost", "-n", "team", "--deep")
    assert "The operator does not plan it now, so no change was tried." in result.stdout


def test_plain_explain_needs_no_operator(run: Run, cluster: State) -> None:
    cluster.jobs = [samples.pending("WaitingForCapacity")]
    name = cluster.jobs[0]["metadata"]["name"]
    assert run("explain", name).exit_code == 1
    result = run("explain", name, "--deep")
    assert result.exit_code == 3
    assert "no operator runs in namespace stowplan-system" in result.stderr


def test_the_examples_in_the_documentation_are_what_is_printed(
    run: Run, day: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    documentation = (pathlib.Path(__file__).parents[4] / "docs" / "cli.md").read_text()
    assert run("top", "--snapshot", day).stdout in documentation
    plan = run("plan", "--snapshot", day).stdout
    assert plan.partition("Planned starts")[2] in documentation
    deep = run("explain", "giant", "--snapshot", day).stdout
    assert deep.partition("What would start it now")[2] in documentation
