"""The command line as a user runs it, against an API server that this folder plays."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from stowplan_operator.cli import command_line, commands, logs, waiting
from stowplan_operator.cli.words import Speaker
from unit.operator.cli import samples
from unit.operator.cli.fake_api import FakeApi, State

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def fake_api() -> Iterator[FakeApi]:
    server = FakeApi()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cluster(fake_api: FakeApi) -> State:
    """The fake cluster, empty."""
    fake_api.state = State()
    return fake_api.state


def write_kubeconfig(path: pathlib.Path, server: str, **context: Any) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": server}}],
        "users": [{"name": "jane", "user": {"token": "secret"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "jane", **context}}],
    }
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
def kubeconfig(fake_api: FakeApi, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A kubeconfig that names the fake cluster, in KUBECONFIG."""
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, f"http://127.0.0.1:{fake_api.port}")
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


@pytest.fixture
def run(cluster: State, kubeconfig: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line against the fake cluster, at the samples' moment, with quick polls."""
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(
        commands,
        "speaker_of",
        lambda target: Speaker(now=samples.NOW, cluster_flags=target.cluster_flags, namespace=target.namespace),
    )

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(command_line.cli, words, prog_name="kubectl stowplan")

    return invoke
