"""Every mutation of a TrainingJob is refused in words or converges; the operator never falls over."""

from __future__ import annotations

import collections
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml

import apiserver
from faults.mutations import Mutation, mutations
from faults.runner import Runner
from faults.world import World

pytestmark = pytest.mark.faults
BATCH = 100
BASES = ("everything", "minimal", "cpu-only", "digits")
SETTLED = ("Running", "Succeeded", "Failed", "Suspended", "Pending", "Starting", "Restarting")


class Client:
    """Plain requests: kubectl takes a tenth of a second for each."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        self._server = server
        self._trust = ssl.create_default_context(cafile=str(server.ca_file))
        self._trust.verify_flags &= ~ssl.VERIFY_X509_STRICT

    def ask(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> tuple[int, Any]:
        """Status and parsed answer."""
        request = urllib.request.Request(
            self._server.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._server.tokens[apiserver.ADMIN]}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, context=self._trust, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def client(world: World) -> Client:
    return Client(world.server)


def _jobs_path(namespace: str, name: str = "") -> str:
    return f"/apis/stowplan.dev/v1alpha1/namespaces/{namespace}/trainingjobs" + (f"/{name}" if name else "")


def _batches(all_of_them: Sequence[Mutation]) -> Iterator[Sequence[Mutation]]:
    for start in range(0, len(all_of_them), BATCH):
        yield all_of_them[start : start + BATCH]


@pytest.mark.parametrize("base", BASES)
def test_every_mutation_is_refused_or_converges(runner: Runner, client: Client, base: str) -> None:
    manifest = yaml.safe_load((apiserver.ROOT / f"tests/manifests/valid/{base}.yaml").read_text())
    tally: dict[str, int] = collections.Counter()
    broken: list[str] = []
    runner.restart()
    starts = runner.operator.starts
    for number, batch in enumerate(_batches(list(mutations(manifest)))):
        namespace = f"{base}-{number}"
        assert client.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})[0] == 201
        accepted: dict[str, str] = {}
        for at, mutation in enumerate(batch):
            metadata = {**manifest["metadata"], "name": f"m{at}", "namespace": namespace}
            status, answer = client.ask("POST", _jobs_path(namespace), {**mutation.object, "metadata": metadata})
            if status == 201:
                accepted[f"m{at}"] = mutation.what
            elif status in (400, 422):
                tally["refused"] += 1
                if not answer.get("message"):
                    broken.append(f"{mutation.what}: refused without a word")
            else:
                broken.append(f"{mutation.what}: answered with {status}: {answer.get('message')}")
        broken += _unsettled(runner, client, namespace, accepted)
        for name, what in accepted.items():
            phase = client.ask("GET", _jobs_path(namespace, name))[1].get("status", {}).get("phase")
            tally[str(phase)] += 1
            assert phase in SETTLED, f"{what}: phase {phase}"
        client.ask("DELETE", _jobs_path(namespace))
        client.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        runner.world.wait(
            "the jobs are gone", lambda namespace=namespace: not client.ask("GET", _jobs_path(namespace))[1]["items"]
        )
    print(f"{base}: {sum(tally.values())} mutations: {dict(tally)}")
    assert runner.operator.is_alive
    assert runner.operator.starts == starts
    assert "cycle failed" not in runner.operator.log.read_text()
    assert not broken, "\n".join(broken)


def _unsettled(runner: Runner, client: Client, namespace: str, accepted: dict[str, str]) -> list[str]:
    """Jobs about which the operator has not said, within 30 s, how they stand."""

    def open_questions() -> list[str]:
        found = []
        for job in client.ask("GET", _jobs_path(namespace))[1]["items"]:
            status = job.get("status") or {}
            what = accepted[job["metadata"]["name"]]
            if status.get("observedGeneration") != job["metadata"]["generation"]:
                found.append(f"{what}: its status is not current")
            elif status.get("phase") in ("Pending", "Restarting") and not status.get("reason"):
                found.append(f"{what}: waits without a reason")
        return found

    try:
        runner.world.wait("every job is answered", lambda: not open_questions())
    except TimeoutError:
        return open_questions()
    return []
