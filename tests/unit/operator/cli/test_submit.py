"""``what-if submit``: a job that is only imagined is told to the plan as the operator would tell it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
from typing import Any

import pytest
import yaml

from fakes.builders import H100, JobBuilder, QueueBuilder, a_job, a_node, a_queue
from fakes.world import World
from stowplan_allocator import types
from stowplan_operator import observation
from stowplan_operator.cli import changes
from unit.operator.cli.conftest import Run

QUEUES: dict[str, tuple[QueueBuilder, ...]] = {
    "limited": (a_queue("top").limits(runSeconds=900), a_queue("low", "*").under("top").limits(runSeconds=7200)),
    "equals": (a_queue("fair", "*").spec(preemption=["LeastAttained"]),),
}


def a_world(*, queues: str = "", runs: tuple[float, ...] = (), held: float = 300) -> World:
    """A node of four GPUs on which jobs ``nightly-N`` have run so long, and on which ``holder`` now runs."""
    world = World(a_node("n1"))
    for queue in QUEUES.get(queues, ()):
        world.add_queue(queue)

    async def play() -> None:
        for number, seconds in enumerate(runs):
            job = a_job(f"nightly-{number}").nodes(1)
            world.submit(job)
            await world.settle()
            world.now += seconds
            world.succeed(job.name)
            await world.settle()
        world.submit(a_job("holder").nodes(1).spec(command=["hold"]))
        await world.settle()
        world.now += held
        await world.settle()

    asyncio.run(play())
    return world


def observed(world: World) -> observation.Observation:
    return observation.read(world.document())


# What was there, and what is submitted → the seconds that it is taken to run, at most, and what that rests on.
TOLD: dict[str, tuple[dict[str, Any], JobBuilder, tuple[int | None, int | None, str | None]]] = {
    "as long as jobs like it ran": (
        {"runs": (1000, 2000, 9000)},
        a_job("other").nodes(1),
        (2040, 9120, "history of 3 runs"),
    ),
    "as long as jobs of its name ran": (
        {"runs": (1000, 2000, 9000)},
        a_job("nightly-7").nodes(1).spec(command=["new"]),
        (2040, 9120, "history of 3 runs"),
    ),
    "no longer than it may": (
        {"runs": (1000, 2000, 9000)},
        a_job("nightly-7").nodes(1).spec(activeDeadlineSeconds=1800),
        (1800, 1800, "activeDeadlineSeconds"),
    ),
    "no longer than a queue above allows": (
        {"runs": (1000, 2000, 9000), "queues": "limited"},
        a_job("nightly-7").nodes(1),
        (900, 900, 'limits.runSeconds of queue "top"'),
    ),
    "nobody knows": ({"runs": (1000,)}, a_job("new").nodes(1).spec(command=["new"]), (None, None, None)),
    "in the order of a queue whose equals take turns": (
        {"queues": "equals", "held": 7200},
        a_job("new").nodes(1).spec(command=["new"]),
        (None, None, None),
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_submitted_job_is_told_as_the_operator_tells_it(tmp_path: pathlib.Path, case: str) -> None:
    scene, job, want = TOLD[case]
    world = a_world(**scene)
    seen = observed(world)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.body()))
    changed = changes.apply(seen, changes.parse(["submit", str(tmp_path / "job.yaml")]), namespace=None)
    (new,) = changed.submitted
    imagined = next(one for one in changed.snapshot.jobs if one.id == new)
    assert (imagined.expected_seconds, changed.longest.get(new), changed.bases.get(new)) == want

    async def submit() -> None:
        world.submit(job)
        await world.cycle()

    if case.startswith("in the order"):  # it is given its place at once, and is told otherwise then
        assert imagined.order is types.QueueOrder.LEAST_ATTAINED
        return
    asyncio.run(submit())
    there = observed(world)
    real = next(one for one in there.snapshot.jobs if one.name == f"team/{job.name}")
    assert (there.longest.get(real.id, real.expected_seconds), there.bases.get(real.id)) == want[1:]
    assert dataclasses.replace(imagined, id=real.id, created_at_seconds=real.created_at_seconds) == real


def test_an_equal_that_has_had_much_less_takes_its_turn(run: Run, tmp_path: pathlib.Path) -> None:
    world = a_world(queues="equals", held=7200)
    job = a_job("new").nodes(1).spec(command=["new"])
    text, found = asked(run, tmp_path, observation.write(observed(world)), job)
    assert found == {"team/new": "preempts", "team/holder": "givesWay"}
    assert "starts when team/holder has left" in text
    assert "team/new starts once team/holder has left" in text

    async def submit() -> None:
        world.submit(job)
        await world.settle()

    asyncio.run(submit())
    assert (world.phase("new"), world.phase("holder")) == ("Running", "Pending"), "so does the operator"


def asked(run: Run, folder: pathlib.Path, document: str, job: JobBuilder) -> tuple[str, dict[str, str]]:
    """What is printed where the job is submitted to a saved snapshot, and the lots of those whose lot differs then."""
    (folder / "day.json").write_text(document)
    (folder / "job.yaml").write_text(yaml.safe_dump(job.body()))
    line = ("what-if", "submit", str(folder / "job.yaml"), "--snapshot", str(folder / "day.json"))
    (folder / "answer.json").write_text(run(*line, "-o", "json").stdout)
    answer = json.loads((folder / "answer.json").read_text())
    found = {one["name"]: one["after"]["lot"] for one in answer["jobs"] if one["differs"]}
    return " ".join(run(*line).stdout.split()), found


# What runs like it took, and what else the document tells → its lot beside room that is kept from in an hour on.
BESIDE_KEPT_ROOM: dict[str, tuple[tuple[float, ...], dict[str, Any], str, str]] = {
    "all runs like it end in time": ((600, 1200, 2400), {}, "starts", "21m, at most 42m (history of 3 runs)"),
    "most runs like it end in time": ((600, 1200, 9000), {}, "waits", "at most 152m (history of 3 runs)"),
    "no run is like it": ((), {}, "waits", "not known: no job like it has succeeded"),
    "a queue ends it in time": ((600, 1200, 9000), {"queues": "limited"}, "starts", 'limits.runSeconds of queue "top"'),
    "an older document knows no runs": ((600, 1200), {"runs": None}, "waits", "snapshot does not tell how long jobs"),
}


@pytest.mark.parametrize("case", BESIDE_KEPT_ROOM)
def test_it_starts_beside_room_that_is_kept_for_others_where_the_operator_would_start_it(
    run: Run, tmp_path: pathlib.Path, case: str
) -> None:
    runs, more, want_lot, want_words = BESIDE_KEPT_ROOM[case]
    world = a_world(runs=runs, queues=more.get("queues", ""))
    world.server.create("nodes", a_node("n2").body())

    async def play() -> None:
        world.submit(a_job("wide").nodes(2).spec(command=["wide"]))
        await world.cycle()

    asyncio.run(play())
    document = json.loads(world.document())
    if "runs" in more:
        del document["reading"]["runs"]
    seen = observation.read(json.dumps(document))
    wide = next(job for job in seen.snapshot.jobs if job.name == "team/wide")
    place = types.Placement(H100, (types.NodeShare("n1", 1), types.NodeShare("n2", 1)))
    kept = types.Reservation(wide.id, place, seen.snapshot.now_seconds + 3600)
    seen = dataclasses.replace(seen, snapshot=dataclasses.replace(seen.snapshot, reservations=(kept,)))
    result, found = asked(run, tmp_path, observation.write(seen), a_job("nightly-9").nodes(1))
    assert found == {"team/nightly-9": want_lot}
    assert want_words in result


def test_its_start_is_foretold_as_it_is_once_it_is_there(run: Run, tmp_path: pathlib.Path) -> None:
    world = a_world(runs=(600, 1200, 2400), queues="limited")
    job = a_job("nightly-9").nodes(1)
    text, found = asked(run, tmp_path, observation.write(observed(world)), job)
    assert found == {"team/nightly-9": "waits"}
    answer = json.loads((tmp_path / "answer.json").read_text())["submitted"]
    assert "When they would start, if nothing new comes team/nightly-9 in " in text
    world.submit(job)
    asyncio.run(world.cycle())
    (tmp_path / "later.json").write_text(observation.write(observed(world)))
    planned = json.loads(run("plan", "--snapshot", str(tmp_path / "later.json"), "-o", "json").stdout)["jobs"]
    (then,) = (one for one in planned if one["name"] == "team/nightly-9")
    assert then["startsAt"] is not None
    assert (answer[0]["startsAt"], answer[0]["startBasis"]) == (then["startsAt"], then["basis"])


def test_who_waits_and_is_changed_keeps_its_place_in_the_line_and_the_steps_that_it_has_left(
    tmp_path: pathlib.Path,
) -> None:
    seen = observed(a_world(runs=(600,)))
    holder = seen.snapshot.jobs[0]
    waits = dataclasses.replace(
        holder, placement=None, expected_seconds=777, attained_accelerator_seconds=3600, avoided_nodes=frozenset({"n7"})
    )
    kept = types.Reservation(holder.id, holder.placement or types.Placement("", ()), 10**9)
    snapshot = dataclasses.replace(seen.snapshot, jobs=(waits,), reservations=(kept,))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(a_job("holder").nodes(2).body()))

    def change(**bases: str) -> changes.Changed:
        there = dataclasses.replace(seen, snapshot=snapshot, bases={holder.id: bases["basis"]})
        return changes.apply(there, changes.parse(["submit", str(tmp_path / "job.yaml")]), namespace=None)

    for basis, want_seconds, want_basis in (
        ("progress", 777, "progress"),
        ("history of 9 runs", None, None),  # no job like the changed one has run
    ):
        changed = change(basis=basis)
        (job,) = changed.snapshot.jobs
        assert (job.expected_seconds, changed.bases.get(job.id)) == (want_seconds, want_basis)
        assert (job.id, job.num_pods, job.avoided_nodes) == (holder.id, 2, {"n7"})
        assert job.created_at_seconds == holder.created_at_seconds
        assert job.attained_accelerator_seconds == 3600
        assert changed.snapshot.reservations == (), "room was kept for a job of another size"


def test_a_document_tells_of_commands_and_environments_digests_only() -> None:
    world = World(a_node("n1"))

    async def play() -> None:
        world.submit(a_job("a").nodes(1).spec(command=["train", "--word=hush"], env=[{"name": "A", "value": "hush"}]))
        await world.settle()
        world.now += 600
        world.succeed("a")
        await world.settle()

    asyncio.run(play())
    text = world.document()
    assert "hush" not in text
    seen = observation.read(text)
    assert seen.reading is not None
    assert [len(runs) for runs in (seen.reading.runs or {}).values()] == [1, 1]
    assert observation.read(observation.write(seen)) == seen
