"""How the operator's snapshot reaches the CLI: through a forwarded port, from the one that leads, or from a file."""

from __future__ import annotations

import asyncio
import gzip
import json
import pathlib
from collections.abc import Iterator

import pytest

from fakes.builders import a_job
from stowplan_operator import observation
from stowplan_operator.answers import Desk
from stowplan_operator.http_server import HttpServer, Liveness
from stowplan_operator.metrics import Metrics
from unit.operator.cli import observed
from unit.operator.cli.conftest import Run
from unit.operator.cli.fake_api import State

LABELS = {"app.kubernetes.io/name": "stowplan", "app.kubernetes.io/component": "operator"}


class Operators:
    """Pods of the operator in the fake cluster, with real servers behind their forwarded ports."""

    def __init__(self, cluster: State) -> None:
        self._cluster = cluster
        self._loop = asyncio.new_event_loop()
        self._servers: list[HttpServer] = []

    def add(self, pod: str, desk: Desk | None, *, phase: str = "Running", namespace: str = "stowplan-system") -> None:
        meta = {"name": pod, "namespace": namespace, "labels": LABELS}
        self._cluster.pods.append({"metadata": meta, "status": {"phase": phase}})
        self._cluster.forwards[pod] = 1
        if desk is not None:
            ports = {"metrics_port": 0, "health_port": 0, "answers_port": 0}
            server = HttpServer(metrics=Metrics(version="1"), liveness=Liveness(), desk=desk, host="127.0.0.1", **ports)
            self._loop.run_until_complete(server.start())
            self._servers.append(server)
            self._cluster.forwards[pod] = server.answers_port

    def stop(self) -> None:
        for server in self._servers:
            self._loop.run_until_complete(server.stop())
        self._loop.close()


@pytest.fixture
def operators(cluster: State) -> Iterator[Operators]:
    made = Operators(cluster)
    yield made
    made.stop()


def a_leading_desk() -> Desk:
    """The desk of a planner that has run."""

    async def play() -> Desk:
        world = observed.a_small_cluster()
        await observed.a_busy_day(world)
        return world.process.desk

    return asyncio.run(play())


def a_following_desk(leader: str = "") -> Desk:
    return Desk(leader=lambda: leader)


def test_the_snapshot_comes_from_the_operator_that_leads(run: Run, operators: Operators) -> None:
    operators.add("stowplan-a", a_following_desk("stowplan-c_1_abc"))
    operators.add("stowplan-b", None)
    operators.add("stowplan-c", a_leading_desk())
    result = run("snapshot")
    assert (result.exit_code, result.stderr) == (0, "")
    assert observation.read(result.stdout) == observed.an_observation()


def test_a_saved_snapshot_is_read_without_a_cluster(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    (tmp_path / "plain").write_text(observed.a_document())
    (tmp_path / "zipped").write_bytes(gzip.compress(observed.a_document().encode()))
    for name in ("plain", "zipped"):
        result = run("snapshot", "--snapshot", str(tmp_path / name))
        assert (result.exit_code, result.stderr) == (0, ""), name
        assert observation.read(result.stdout) == observed.an_observation()


TROUBLES = {
    "no operator": (
        [],
        set(),
        "no operator runs in namespace stowplan-system\n  is it there, and does it want replicas? kubectl get ",
    ),
    "an operator that is not up": (
        [("stowplan-a", None, "Pending")],
        set(),
        "no operator runs in namespace stowplan-system: its pods are Pending",
    ),
    "only followers": (
        [("stowplan-a", "stowplan-x_1_abc", "Running")],
        set(),
        "stowplan-a: this operator does not lead, stowplan-x_1_abc does",
    ),
    "nobody listens": ([("stowplan-a", None, "Running")], set(), "error forwarding port: connection refused"),
    "no right to forward": (
        [("stowplan-a", None, "Running")],
        {"create pods/portforward"},
        "kubectl create rolebinding NAME --role=stowplan-user-answers --user=YOU -n stowplan-system",
    ),
    "no right to list pods": (
        [],
        {"list pods"},
        "kubectl create rolebinding NAME --role=stowplan-user-answers --user=YOU -n stowplan-system",
    ),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_without_an_answer_the_cause_and_its_fix_are_named(
    run: Run, cluster: State, operators: Operators, case: str
) -> None:
    pods, cluster.forbidden, want = TROUBLES[case]
    for name, leader, phase in pods:
        operators.add(name, None if leader is None else a_following_desk(leader), phase=phase)
    result = run("snapshot")
    assert (result.exit_code, result.stdout) == (3, "")
    assert want in result.stderr


def test_an_operator_elsewhere_is_named(run: Run, operators: Operators) -> None:
    operators.add("stowplan-a", a_following_desk(), namespace="ops")
    assert "no operator runs in namespace stowplan-system" in run("snapshot").stderr
    assert "this operator does not lead" in run("snapshot", "--operator-namespace", "ops").stderr


BAD_FILES = {
    "no JSON": ("{", "this is no JSON"),
    "another document": ('{"schema": "stowplan-simulation/1"}', "this is no snapshot that this version reads"),
    "a list": ("[]", "this is no snapshot that this version reads"),
    "a field too many": (
        json.dumps({**json.loads('{"schema": "stowplan-observation/1"}'), "colour": "red"}),
        "colour: there is no such field",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_snapshot_is_wrong_use(run: Run, tmp_path: pathlib.Path, case: str) -> None:
    text, want = BAD_FILES[case]
    (tmp_path / "file").write_text(text)
    result = run("snapshot", "--snapshot", str(tmp_path / "file"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert want in result.stderr


def test_a_file_that_is_not_there_is_wrong_use(run: Run, tmp_path: pathlib.Path) -> None:
    result = run("snapshot", "--snapshot", str(tmp_path / "nothing"))
    assert result.exit_code == 2
    assert "cannot be read: No such file or directory" in result.stderr


def test_running_jobs_are_told_with_wishes_and_losses_and_expected_ends() -> None:
    """A question may take their places away, so it must know where else they could go."""
    seen = observed.an_observation()
    jobs = {job.name: job for job in seen.snapshot.jobs}
    digits, giant = jobs["team/digits"], jobs["team/giant"]
    assert digits.placement is not None
    assert digits.tolerations
    assert digits.disruption_cost
    assert digits.expected_seconds is not None
    assert 2990 <= digits.expected_seconds <= 3000
    assert (giant.placement, giant.expected_seconds) == (None, 1800)
    assert seen.plan is not None
    assert giant.id in seen.plan.waiting
    assert seen.utilisation == {"gpu-1": 91.5, "gpu-2": 7.0}


def test_a_place_that_this_cycle_gave_is_in_the_snapshot() -> None:
    """The next cycle may be half a minute away."""

    async def one_cycle(world: observed.World) -> None:
        world.submit(a_job("fresh").gpus(1))
        await world.cycle()

    jobs = {job.name: job for job in observed.an_observation(one_cycle).snapshot.jobs}
    assert jobs["team/fresh"].placement is not None


def test_a_snapshot_while_nobody_waits() -> None:
    async def nothing(world: observed.World) -> None:
        await world.cycle()

    seen = observed.an_observation(nothing)
    assert [node.name for node in seen.snapshot.nodes] == ["gpu-1", "gpu-2", "gpu-3", "gpu-4"]
    assert seen.snapshot.jobs == ()
