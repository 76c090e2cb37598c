"""Random histories: whatever users, nodes and crashes do, the invariants hold and every feasible job ends.

``World.cycle`` checks the invariants after each cycle. Between two cycles any number of things may happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import strategies as st

from fakes import invariants
from fakes.builders import NAMESPACE, a_job, a_node
from fakes.server import owner_uid
from fakes.world import World
from stowplan_operator import api
from stowplan_operator.moments import Readings
from stowplan_operator.progress import Progress
from stowplan_operator.views import Telemetry

NODES = ("n1", "n2", "n3")
JOBS = ("a", "b", "c", "d")
MAX_LAG_CYCLES = 3

Action = tuple[str, Any]

jobs = st.sampled_from(JOBS)
nodes = st.sampled_from(NODES)
ranks = st.integers(0, 2)


def an(kind: str, what: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Action]:
    return st.tuples(st.just(kind), st.none() if what is None else what)


def a_submission(name: st.SearchStrategy[str]) -> st.SearchStrategy[Action]:
    """A job of so many nodes, GPUs each and restarts, perhaps in one rack, perhaps elastic."""
    sizes = st.sampled_from([1, 1, 2, 4])
    kinds = (st.booleans(), st.booleans())
    return an("submit", st.tuples(name, st.integers(1, 3), sizes, st.sampled_from([0, 1, 10]), *kinds))


actions: st.SearchStrategy[Action] = st.one_of(
    an("step"),
    an("step"),
    a_submission(jobs),
    an("train"),
    an("train"),
    an("succeed", st.tuples(jobs, ranks)),
    an("fail", st.tuples(jobs, ranks)),
    an("fail", st.tuples(jobs, ranks)),
    an("delete pod", st.tuples(jobs, ranks, st.booleans())),
    an("delete job", jobs),
    an("suspend", st.tuples(jobs, st.booleans())),
    an("cordon", st.tuples(nodes, st.booleans())),
    an("ready", st.tuples(nodes, st.booleans())),
    an("restart"),
    an("crash", st.tuples(st.integers(1, 6), st.booleans())),
    an("lag", st.integers(0, MAX_LAG_CYCLES)),
    an("hold", st.sampled_from(["binds", "starts", "terminates", "terminates", "collects"])),
    an("time", st.sampled_from([1, 10, 70, 400])),
)
beginnings = st.tuples(a_submission(st.just("a")), a_submission(st.just("b")))


class History:
    """Applies actions to a world; one that makes no sense at the moment does nothing."""

    def __init__(self) -> None:
        self.step = 0
        self.world = World(a_node("n1"), a_node("n2").in_rack("r2"), a_node("n3").in_rack("r2").gpus(2))

    async def apply(self, action: Action) -> None:
        kind, what = action
        step: Callable[[Any], None] | None = getattr(self, f"_{kind.replace(' ', '_')}", None)
        if step is None:
            await self.world.step()
        else:
            step(what)
            # The next cycle may come at once or later: every second action goes unobserved.
            if sum(map(ord, f"{action}")) % 2:
                await self.world.step()

    def _submit(self, what: tuple[str, int, int, int, bool, bool]) -> None:
        name, num_nodes, gpus, max_restarts, in_one_rack, is_elastic = what
        if not self.world.exists(name):
            job = a_job(name).nodes(num_nodes).gpus(gpus).max_restarts(max_restarts)
            job = job.spec(elastic={"maxNodes": num_nodes + 1}) if is_elastic else job
            self.world.submit(job.spec(topology={"level": "rack", "mode": "Preferred"}) if in_one_rack else job)

    def _train(self, _: None) -> None:
        """All jobs that run tell of a step more, and of a checkpoint."""
        self.step += 1
        told = Progress(
            step=self.step,
            checkpoint_step=self.step,
            checkpoint_timestamp_seconds=self.world.now,
            read_at_seconds=self.world.now,
        )
        running = [job for job in self.world.server.all(api.PLURAL) if job.get("status", {}).get("phase") == "Running"]
        self.world.readings = Readings(
            telemetry=Telemetry(), progress={job["metadata"]["uid"]: told for job in running}, eta={}
        )

    def _succeed(self, what: tuple[str, int]) -> None:
        if self.world.exists(what[0]):
            self.world.succeed(*what)

    def _fail(self, what: tuple[str, int]) -> None:
        if self.world.exists(what[0]):
            self.world.fail(*what)

    def _delete_pod(self, what: tuple[str, int, bool]) -> None:
        name, rank, by_force = what
        if self.world.exists(name) and rank in self.world.gang(name):
            pod = self.world.gang(name)[rank]
            self.world.remove_pod(pod["metadata"]["name"], grace_seconds=0 if by_force else 30)

    def _delete_job(self, name: str) -> None:
        if self.world.exists(name):
            self.world.delete(name)

    def _suspend(self, what: tuple[str, bool]) -> None:
        if self.world.exists(what[0]):
            self.world.edit(what[0], suspend=what[1])

    def _cordon(self, what: tuple[str, bool]) -> None:
        self.world.cordon(*what)

    def _ready(self, what: tuple[str, bool]) -> None:
        name, is_ready = what
        (self.world.restore_node if is_ready else self.world.lose_node)(name)

    def _restart(self, _: None) -> None:
        self.world.restart()

    def _crash(self, what: tuple[int, bool]) -> None:
        self.world.restart(crash_at=what[0], crash_before=what[1])

    def _lag(self, cycles: int) -> None:
        self.world.lag_cycles = cycles

    def _hold(self, part: str) -> None:
        setattr(self.world.machinery, part, not getattr(self.world.machinery, part))

    def _time(self, seconds: int) -> None:
        self.world.now += seconds

    async def heal(self) -> None:
        """All nodes return, all jobs may run, nothing is held back, containers succeed."""
        world = self.world
        world.lag_cycles = 0
        world.machinery.binds = world.machinery.starts = True
        world.machinery.terminates = world.machinery.collects = True
        for name in NODES:
            world.cordon(name, False)
            world.restore_node(name)
        for name in JOBS:
            self._suspend((name, False))
        for _ in range(12):
            await world.settle()
            for name in JOBS:
                self._succeed_all(name)
            await world.settle()
            if all(invariants.is_over(job) or not is_feasible(job) for job in world.server.all(api.PLURAL)):
                return
            world.now += 400

    def _succeed_all(self, name: str) -> None:
        if self.world.exists(name) and self.world.phase(name) == "Running":
            self.world.succeed(name)


def is_feasible(job: dict[str, Any]) -> bool:
    """Whether the job fits the empty cluster: nodes of 4, 4 and 2 GPUs."""
    each = int(job["spec"]["resourcesPerNode"]["nvidia.com/gpu"])
    smallest = 1 if "elastic" in job["spec"] else job["spec"]["numNodes"]
    return sum(size // each for size in (4, 4, 2)) >= smallest


async def run(history: list[Action]) -> None:
    story = History()
    for action in history:
        await story.apply(action)
    await story.heal()
    for job in story.world.server.all(api.PLURAL):
        status = job["status"]
        if not is_feasible(job):
            assert status["phase"] == "Pending", "a job that can never fit waits with a reason"
            continue
        allowed = job["spec"]["failurePolicy"]["maxRestarts"]
        is_exhausted = status["phase"] == "Failed" and status["restarts"] == allowed
        assert status["phase"] == "Succeeded" or is_exhausted, status
        pods = [pod for pod in story.world.server.all("pods") if owner_uid(pod) == job["metadata"]["uid"]]
        assert all(pod["status"]["phase"] in invariants.TERMINAL_PHASES for pod in pods), "a pod was left running"
        assert {pod["metadata"]["namespace"] for pod in pods} <= {NAMESPACE}


@hypothesis.given(beginnings, st.lists(actions, min_size=5, max_size=25))
def test_invariants_hold_and_every_feasible_job_ends(beginning: tuple[Action, ...], history: list[Action]) -> None:
    train: list[Action] = [("train", None), ("step", None)]
    steps: list[Action] = [("step", None)] * 3 + train * 2
    asyncio.run(run([*beginning, *steps, *history]))
