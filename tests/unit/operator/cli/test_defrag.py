"""``defrag`` on what a real planner left behind: who would move, at what price, and the command that asks for it."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import Callable

import pytest
from click.testing import Result

from fakes.builders import a_job, a_node
from fakes.world import World
from stowplan_operator import observation
from stowplan_operator.cli import defrag
from unit.operator.cli.conftest import Run

Ask = Callable[..., Result]


async def a_scattered_day(world: World) -> None:
    """Two nodes of four GPUs with one job of two GPUs each, of which one may move; a job of four waits."""
    for name in ("left", "gone-1", "gone-2", "right"):
        fixed = {"preemption": {"preemptible": False}} if name == "left" else {}
        world.submit(a_job(name).nodes(1).gpus(2).spec(**fixed))
        await world.settle()
    world.now += 600
    world.submit(a_job("whole").nodes(1).gpus(4))
    world.submit(a_job("huge").nodes(2).gpus(4))
    await world.settle()
    for name in ("gone-1", "gone-2"):
        world.delete(name)
    await world.settle()


@pytest.fixture(scope="module")
def document() -> str:
    async def play() -> str:
        world = World(a_node("n1"), a_node("n2"))
        await a_scattered_day(world)
        return world.document()

    return asyncio.run(play())


@pytest.fixture
def ask(run: Run, tmp_path: pathlib.Path, document: str) -> Ask:
    (tmp_path / "day.json").write_text(document)

    def invoke(line: str, *more: str) -> Result:
        return run(*line.split(), "--snapshot", str(tmp_path / "day.json"), *more)

    return invoke


def test_who_would_move_and_at_what_price(ask: Ask) -> None:
    result = ask("defrag whole -n team", "-o", "json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["yes"], answer["job"], answer["starts"]) == (0, True, "team/whole", ["team/whole"])
    [move] = answer["moves"]
    assert (move["name"], move["from"][0]["name"], move["to"][0]["name"]) == ("team/right", "n2", "n1")
    assert answer["loses"] == answer["bound"] == move["loses"] > 0
    assert (answer["before"]["wholeNodesFree"], answer["after"]["wholeNodesFree"]) == (0, 0)
    asked = move["loses"] + move["loses"] // 4
    assert answer["command"] == f"kubectl annotate tj whole -n team stowplan.dev/make-room={asked}"


def test_for_people_in_80_columns(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = ask("defrag whole").stdout
    assert "1 job would move so that team/whole (4 GPUs) starts" in text
    assert "no moves that do it lose less" in text
    assert "kubectl annotate tj whole -n team stowplan.dev/make-room=" in text
    assert all(len(line) <= 80 for line in text.splitlines())


NOT: dict[str, tuple[str, str]] = {
    "a budget that is too small": ("defrag whole --budget 0.01", "more than the budget"),
    "a job that is larger than all that is free": ("defrag huge", "No moves make room for team/huge (8 GPUs)"),
    "a job that runs": ("defrag left", "it has its place"),
}


@pytest.mark.parametrize("case", NOT)
def test_no_moves(ask: Ask, case: str) -> None:
    line, want = NOT[case]
    result = ask(line)
    assert result.exit_code == 1
    assert want in result.stdout
    assert "annotate" not in result.stdout


def test_an_unknown_job_is_refused(ask: Ask) -> None:
    assert "did you mean team/whole?" in ask("defrag wole").stderr


def test_whole_nodes_without_a_job(ask: Ask) -> None:
    result = ask("defrag")
    assert result.exit_code == 0
    assert "0 nodes of 4 GPUs wholly free; all free GPUs would make 1" in result.stdout
    assert "1 more for" in result.stdout
    products = json.loads(ask("defrag", "-o", "json").stdout)["products"]
    assert [(one["wholeNodesFree"], one["atMost"], len(one["steps"])) for one in products] == [(0, 1, 1)]


def test_the_moves_are_those_of_the_plan(document: str) -> None:
    seen = observation.read(document)
    job = next(one for one in seen.snapshot.jobs if one.name == "team/whole")
    answer = defrag.for_job(seen, job, budget=10**6)
    assert [move.for_job for move in answer.moves] == [job.id]
    assert answer.after != answer.snapshot
