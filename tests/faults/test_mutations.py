"""Every mutation of a TrainingJob is refused in words or converges; the operator never falls over.

Mutations are submitted as new jobs, and as changes of jobs that run or are suspended.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml

import apiserver
from faults import records
from faults.mutations import Mutation, mutations
from faults.runner import Runner
from faults.sampling import some
from world.client import jobs_path
from world.cluster import World

pytestmark = pytest.mark.faults
BATCH = 100
BASES = ("everything", "minimal", "cpu-only", "digits")
JSON_PATCH = "application/json-patch+json"
PHASES = ("Running", "Succeeded", "Failed", "Suspended", "Pending", "Starting", "Restarting")

Json = dict[str, Any]


def _base(name: str) -> Json:
    manifest: Json = yaml.safe_load((apiserver.ROOT / f"tests/manifests/valid/{name}.yaml").read_text())
    return manifest


def _cases(*, every: int, start: int) -> list[tuple[str, Mutation]]:
    found = [(base, mutation) for base in BASES for mutation in mutations(_base(base))]
    return list(some(found, every=every, start=start))


def _batches(cases: Sequence[tuple[str, Mutation]]) -> Iterator[Sequence[tuple[str, Mutation]]]:
    for start in range(0, len(cases), BATCH):
        yield cases[start : start + BATCH]


def test_every_mutation_is_refused_or_converges(runner: Runner) -> None:
    cases = _cases(every=60, start=3)
    with _never_falling(runner):
        for batch in _batches(cases):
            Batch(runner.world, "mutated when created").run(
                {f"m{at}": (base, mutation.what, mutation.object) for at, (base, mutation) in enumerate(batch)}
            )


@pytest.mark.parametrize("suspended", [False, True], ids=["placed", "suspended"])
def test_every_change_is_refused_or_converges(runner: Runner, suspended: bool) -> None:
    """A quarter of the mutations, as changes of jobs that the operator knows already."""
    cases = _cases(every=120, start=40)[int(suspended) :: 4]
    with _never_falling(runner):
        for batch in _batches(cases):
            changing = Batch(runner.world, f"mutated while {'suspended' if suspended else 'placed'}")
            changing.change(batch, suspended=suspended)


class Batch:
    """Some jobs in a namespace of their own."""

    def __init__(self, world: World, kind: str) -> None:
        self._world = world
        self._kind = kind
        self._namespace = world.new_namespace()
        self._what: dict[str, tuple[str, str]] = {}
        self._broken: dict[str, str] = {}
        self._refused: set[str] = set()

    def run(self, jobs: dict[str, tuple[str, str, Json]]) -> None:
        """Submit them, wait for an answer to each, delete them."""
        for name, (base, what, job) in jobs.items():
            self._submit(name, base, what, job)
        self._end()

    def change(self, cases: Sequence[tuple[str, Mutation]], *, suspended: bool) -> None:
        """Submit the bases as they are, and change each by one mutation once the operator has said how it stands."""
        for at, (base, mutation) in enumerate(cases):
            job = _base(base)
            job["spec"]["suspend"] = suspended
            self._submit(f"m{at}", base, mutation.what, job)
        self._wait_for_answers()
        for at, (_, mutation) in enumerate(cases):
            spec = mutation.object.get("spec")
            if isinstance(spec, dict) and "suspend" not in mutation.what:
                spec = {**spec, "suspend": suspended}
            patch = [{"op": "replace", "path": "/spec", "value": spec}]
            status, answer = self._world.client.ask("PATCH", self._path(f"m{at}"), patch, kind=JSON_PATCH)
            self._judge(f"m{at}", status, answer)
        self._end()

    def _submit(self, name: str, base: str, what: str, job: Json) -> None:
        self._what[name] = (base, what)
        metadata = {**job["metadata"], "name": name, "namespace": self._namespace}
        status, answer = self._world.client.ask("POST", self._path(), {**job, "metadata": metadata})
        self._judge(name, status, answer)

    def _judge(self, name: str, status: int, answer: Json) -> None:
        if status in (400, 422):
            self._refused.add(name)
            if not answer.get("message"):
                self._broken[name] = "refused without a word"
        elif status >= 300:
            self._broken[name] = f"answered with {status}: {answer.get('message')}"

    def _end(self) -> None:
        self._wait_for_answers()
        jobs = self._world.history.now("trainingjobs", self._namespace)
        phases = collections.Counter(job.get("status", {}).get("phase") for job in jobs.values())
        for name, job in jobs.items():
            if (phase := job.get("status", {}).get("phase")) not in PHASES:
                self._broken[name] = f"phase {phase}"
        print(f"{self._kind}: {len(self._what)}, {len(self._refused)} of them refused, phases {dict(phases)}")
        for name, (base, what) in self._what.items():
            broken = [self._broken[name]] if name in self._broken else []
            outcome = "refused" if name in self._refused else "converged"
            records.note(kind=self._kind, flow=f"mutations of {base}", fault=f"{what}: {outcome}", broken=broken)
        self._world.client.must("DELETE", self._path())
        self._world.wait("nothing is left of the jobs", self._is_empty, seconds=60)
        self._world.history.forget(self._namespace)
        assert not self._broken, [f"{self._what[name]}: {why}" for name, why in self._broken.items()]

    def _path(self, name: str = "") -> str:
        return jobs_path(self._namespace, name)

    def _is_empty(self) -> bool:
        return not self._world.pods(self._namespace) and not self._world.history.now("trainingjobs", self._namespace)

    def _wait_for_answers(self) -> None:
        """Within 30 s the operator has said of each job how it stands."""
        try:
            self._world.wait("every job is answered", lambda: not self._open_questions())
        except TimeoutError:
            self._broken |= self._open_questions()

    def _open_questions(self) -> dict[str, str]:
        found = {}
        for name, job in self._world.history.now("trainingjobs", self._namespace).items():
            status = job.get("status") or {}
            if status.get("observedGeneration") != job["metadata"]["generation"]:
                found[name] = "its status is not current"
            elif status.get("phase") in ("Pending", "Restarting") and not status.get("reason"):
                found[name] = "waits without a reason"
        return found


class _never_falling:  # noqa: N801 - reads as a word
    """The operator lives from the beginning to the end, and none of its cycles fails."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __enter__(self) -> None:
        self._runner.restart()
        self._starts = self._runner.operator.starts

    def __exit__(self, *error: object) -> None:
        operator = self._runner.operator
        assert operator.is_alive
        assert operator.starts == self._starts
        assert "cycle failed" not in operator.log_of_this_process
        assert "other jobs go on" not in operator.log_of_this_process
