"""Queues as people see them: the examples of docs/queues.md are what is printed, from examples/queues.yaml."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import yaml

import crd_schema
from fakes.builders import H100, JobBuilder, a_job, a_node, a_queue
from fakes.world import World
from stowplan_operator import api
from stowplan_operator.cli import commands
from stowplan_operator.cli.words import Speaker
from unit.operator.cli.conftest import Run
from unit.operator.cli.fake_api import State

ROOT = pathlib.Path(__file__).parents[4]
DOCUMENTATION = (ROOT / "docs" / "queues.md").read_text()
EXAMPLE = ROOT / "examples" / "queues.yaml"
Json = dict[str, Any]
Story = Callable[[World], Awaitable[None]]


def job(name: str, namespace: str, *, nodes: int = 1, **spec: Any) -> JobBuilder:
    """Pods of four GPUs, one for each node."""
    return a_job(name).meta(namespace=namespace).nodes(nodes).spec(**spec)


async def go_on(world: World) -> None:
    """Until nothing moves, and the queues' numbers are written."""
    await world.settle()
    await world.wait(10)


async def vision_borrows(world: World) -> None:
    for name in ("cats", "dogs", "birds", "fish"):
        world.submit(job(name, "vision"))
        world.now += 1
    await go_on(world)
    world.now += 600


async def language_takes_back(world: World) -> None:
    await vision_borrows(world)
    world.submit(job("chat", "language", nodes=2))
    await go_on(world)


async def spare_gives_way(world: World) -> None:
    world.submit(job("sweep", "students", nodes=2))
    await go_on(world)
    world.now += 600
    world.submit(job("train", "vision", nodes=2))
    world.submit(job("chat", "language", nodes=2))
    await go_on(world)


async def too_much_and_elsewhere(world: World) -> None:
    world.submit(job("huge", "vision", nodes=3, queue="spare"))
    world.submit(job("lost", "vision", queue="language"))
    world.submit(job("typo", "vision", queue="vison"))
    await go_on(world)


class Scene:
    """The end of a story, for commands: kubectl's tables, and our own against the fake cluster or a saved snapshot."""

    def __init__(self, story: Story, folder: pathlib.Path) -> None:
        self.world = World(*(a_node(f"gpu-{number}") for number in range(1, 5)))
        for body in yaml.safe_load_all(EXAMPLE.read_text()):
            self.world.server.create(api.QUEUES, body)
        asyncio.run(story(self.world))
        self.file = folder / "snapshot"
        self.file.write_text(self.world.document())

    def get(self, plural: str, *, namespace: str = "") -> str:
        """What ``kubectl get`` prints."""
        version = crd_schema.load(plural)["spec"]["versions"][0]
        columns = [one for one in version["additionalPrinterColumns"] if not one.get("priority")]
        bodies = self.world.server.all(plural)
        if namespace:
            bodies = [body for body in bodies if body["metadata"]["namespace"] == namespace]
        rows = [["NAME", *(column["name"].upper() for column in columns)]]
        rows += [
            [body["metadata"]["name"], *(self._cell(column, body) for column in columns)]
            for body in sorted(bodies, key=lambda body: body["metadata"]["name"])
        ]
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _cell(self, column: Json, body: Json) -> str:
        path: str = column["jsonPath"]
        if column["type"] == "date":
            return "12m"
        at: Any = body
        if "conditions" in path:
            wanted = path.split('"')[1]
            found = [one for one in body["status"]["conditions"] if one["type"] == wanted]
            return str(found[0][path.rpartition(".")[2]]) if found else ""
        for part in path.strip(".").split("."):
            at = at.get(part, {}) if isinstance(at, dict) else {}
        return "" if at == {} else str(at)


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, cluster: State) -> Callable[[Story], Scene]:
    monkeypatch.setenv("COLUMNS", "100")

    def play(story: Story) -> Scene:
        made = Scene(story, tmp_path)
        cluster.jobs = made.world.server.all(api.PLURAL)
        now = made.world.now
        monkeypatch.setattr(
            commands,
            "speaker_of",
            lambda target: Speaker(now=now, cluster_flags=target.cluster_flags, namespace=target.namespace),
        )
        return made

    return play


def told(scene: Scene, name: str) -> str:
    """The job's message, in lines as the documentation has it."""
    (body,) = (one for one in scene.world.server.all(api.PLURAL) if one["metadata"]["name"] == name)
    return str(body["status"]["message"])


def events(scene: Scene, reason: str) -> list[str]:
    return [str(one["message"]) for one in scene.world.server.all("events") if one["reason"] == reason]


def said(text: str) -> bool:
    """Whether the documentation quotes the text, however its lines are broken."""
    lines = (line.removeprefix("> ") for line in DOCUMENTATION.splitlines())
    return text in " ".join(lines)


def test_a_team_uses_what_the_other_leaves(run: Run, scene: Callable[[Story], Scene]) -> None:
    made = scene(vision_borrows)
    assert made.get(api.QUEUES) in DOCUMENTATION
    assert made.get(api.PLURAL, namespace="vision") in DOCUMENTATION
    explained = run("explain", "fish", "-n", "vision").stdout
    assert explained.partition("  Numbers")[0] in DOCUMENTATION
    assert run("top", "queues", "--snapshot", str(made.file)).stdout in DOCUMENTATION
    answer = run("what-if", "quota", "vision", H100, "12", "--snapshot", str(made.file)).stdout
    assert answer.partition("                  NOW")[0].strip() in DOCUMENTATION


def test_the_other_takes_back_what_it_owns(scene: Callable[[Story], Scene]) -> None:
    made = scene(language_takes_back)
    assert made.get(api.QUEUES) in DOCUMENTATION
    (text,) = events(made, "Preempted")
    assert said(text)


def test_guests_give_way(scene: Callable[[Story], Scene]) -> None:
    made = scene(spare_gives_way)
    assert made.get(api.QUEUES) in DOCUMENTATION
    (text,) = events(made, "Preempted")
    assert said(text)
    assert said(told(made, "sweep"))


def test_what_a_queue_refuses(scene: Callable[[Story], Scene]) -> None:
    made = scene(too_much_and_elsewhere)
    for name in ("huge", "lost", "typo"):
        assert said(told(made, name)), told(made, name)


def test_a_submitted_job_stands_in_the_queue_of_its_namespace(
    run: Run, scene: Callable[[Story], Scene], tmp_path: pathlib.Path
) -> None:
    made = scene(vision_borrows)
    manifest = job("new", "vision").body()
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest))
    answer = run("what-if", "submit", str(tmp_path / "job.yaml"), "--snapshot", str(made.file))
    assert "waits: WaitingForQuota" in answer.stdout
    manifest["spec"]["queue"] = "spare"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest))
    answer = run("what-if", "submit", str(tmp_path / "job.yaml"), "--snapshot", str(made.file))
    assert "starts on gpu-4" in answer.stdout
    manifest["spec"]["queue"] = "language"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest))
    answer = run("what-if", "submit", str(tmp_path / "job.yaml"), "--snapshot", str(made.file))
    assert answer.exit_code == 2
    assert 'spec.queue: queue "language" does not admit namespace "vision"' in answer.stderr


def test_what_would_start_a_job_that_waits_for_quota(run: Run, scene: Callable[[Story], Scene]) -> None:
    made = scene(vision_borrows)
    answer = run("explain", "fish", "--snapshot", str(made.file)).stdout
    assert answer.partition("What would start it now")[2].rstrip() in DOCUMENTATION


@pytest.fixture
def circle(tmp_path: pathlib.Path) -> str:
    """A snapshot in which two queues became each other's parents while a job of one ran and one of the other came."""
    world = World(a_node("gpu-1"), a_node("gpu-2"))
    for name in ("art", "bio"):
        world.add_queue(a_queue(name, name).owns(4))

    async def play() -> None:
        world.submit(job("paint", "art"))
        await world.settle()
        world.edit_queue("art", parent="bio")
        world.edit_queue("bio", parent="art")
        world.submit(job("grow", "bio"))
        await go_on(world)

    asyncio.run(play())
    path = tmp_path / "circle.json"
    path.write_text(world.document())
    return str(path)


def test_queues_in_a_circle_are_shown_as_such_with_what_their_jobs_use(run: Run, circle: str) -> None:
    text = run("top", "queues", "--snapshot", circle).stdout
    rows = {line.split()[0]: line.split() for line in text.splitlines()[1:4]}
    assert rows["(default)"][3] == "0"
    assert rows["art"][1:4] == [H100, "-", "4"]
    assert rows["bio"][1:4] == ["-", "-", "0"]
    assert "art  spec.parent: art → bio → art is a circle; remove spec.parent of one of them" in text
    items = json.loads(run("top", "queues", "--snapshot", circle, "-o", "json").stdout)["items"]
    assert [(one["name"], one["used"], one["fault"] is None) for one in items] == [
        ("", 0, True),
        ("art", 4, False),
        ("bio", 0, False),
    ]


def test_a_quota_of_a_queue_in_a_circle_is_refused_with_what_is_wrong(run: Run, circle: str) -> None:
    refused = run("what-if", "quota", "art", H100, "8", "--snapshot", circle)
    assert refused.exit_code == 2
    assert "queue art cannot be planned with: spec.parent: art → bio → art is a circle" in refused.stderr


def test_who_waits_outside_the_plan_is_counted_and_named(run: Run, circle: str) -> None:
    text = run("plan", "--snapshot", circle).stdout
    assert text.startswith("1 job running, 0 waiting, 1 more waiting outside the plan, as of ")
    assert "Not in the plan\n  bio/grow  Misconfigured: " in text
    told = json.loads(run("plan", "--snapshot", circle, "-o", "json").stdout)
    assert [one["name"] for one in told["outside"]] == ["bio/grow"]
