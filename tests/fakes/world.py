"""A cluster in memory with the real planner in it, for scenarios. Time passes only when the scenario says so."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Sequence
from typing import Any

import stowplan_allocator
from fakes import builders, invariants, quotas
from fakes.builders import NAMESPACE, JobBuilder, NodeBuilder, PodBuilder, QueueBuilder
from fakes.machinery import Machinery, Watch
from fakes.server import Connection, Crash, Json, Server, Write, owner_uid
from stowplan_allocator import advising, types
from stowplan_operator import advisor, api, views
from stowplan_operator.answers import Desk
from stowplan_operator.metrics import Metrics
from stowplan_operator.moments import Readings
from stowplan_operator.planner import Planner
from stowplan_operator.settings import Settings, parse

# So many without rest, and something goes round in circles.
_MOST_CYCLES = 60


class InlineSolver:
    """The real ``plan``, without the worker process."""

    async def plan(self, snapshot: types.Snapshot, settings: types.Settings) -> types.Plan:
        return stowplan_allocator.plan(snapshot, settings)


class Process:
    """One operator process: its connection, its watches, its planner."""

    def __init__(self, world: World, *, crash_at: int | None, crash_before: bool) -> None:
        self.connection = Connection(world.server, crash_at=crash_at, crash_before=crash_before)
        self.watch = Watch(world.server)
        self.marks: list[int] = []
        self.metrics = Metrics(version="test")
        self.desk = Desk()
        self.desk.lead(True)
        self.planner = Planner(
            api_server=self.connection,
            store=self.watch.store,
            solver=InlineSolver(),
            metrics=self.metrics,
            get_settings=lambda: world.settings,
            get_readings=lambda: world.readings,
            namespace="stowplan-system",
            guard=lambda: world.guard(),
            clock=lambda: world.now,
            desk=self.desk,
        )


def _without_resync(settings: Settings) -> Settings:
    """No cycle comes by itself within a day: what the clock alone changes has to be in ``World.pause``."""
    return settings.model_copy(update={"planner": settings.planner.model_copy(update={"resync_seconds": 86_400.0})})


class World:
    """The cluster, its users and its time."""

    def __init__(self, *nodes: NodeBuilder, settings: Settings | None = None, **switches: bool) -> None:
        self.now = builders.NOW
        self.settings = _without_resync(settings or Settings())
        self.readings = Readings(telemetry=views.Telemetry(), progress={}, eta={})
        self.guard: Callable[[], None] = lambda: None
        self.lag_cycles = 0
        self.crowded: set[str] = set()
        self.lost: set[str] = set()
        self.pause = 0.0
        self.server = Server(lambda: self.now)
        self.machinery = Machinery(self.server, **switches)
        for node in nodes:
            self.server.create("nodes", node.body())
        self.process = Process(self, crash_at=None, crash_before=False)

    # The operator.

    def restart(self, *, crash_at: int | None = None, crash_before: bool = False) -> None:
        """A new process, which crashes at its ``crash_at``-th write, where that is given."""
        self.process = Process(self, crash_at=crash_at, crash_before=crash_before)

    async def cycle(self) -> list[Write]:
        """Show the watches what is due, run one cycle, check the invariants; the writes that it made."""
        process = self.process
        process.marks.append(len(self.server.events))
        if self.lag_cycles < len(process.marks):
            process.watch.deliver(until=process.marks[-1 - self.lag_cycles])
        before = len(self.server.writes)
        is_lagging = self.lag_cycles > 0
        try:
            self.pause = await process.planner.cycle()
        except Crash:
            self.restart()
            is_lagging = True
        if self.machinery.collects:
            self.machinery.collect_garbage()
        invariants.check(
            self.server,
            crowded=frozenset(self.crowded),
            lost=frozenset(self.lost),
            is_lagging=is_lagging,
            has_garbage=not self.machinery.collects,
            is_open=not self.settings.network_policy,
        )
        return self.server.writes[before:]

    async def step(self, seconds: float = 1.0) -> bool:
        """One cycle, then one stage of the machinery, then time passes; whether anything happened."""
        process = self.process
        writes = await self.cycle()
        moved = self.machinery.step()
        self.now += seconds
        return bool(writes) or moved or self.process is not process

    async def settle(self, *, seconds: float = 1.0) -> None:
        """Go on until nothing moves any more; then one more cycle must write nothing."""
        for _ in range(_MOST_CYCLES):
            if not await self.step(0) and not self._watch_is_behind():
                assert not await self.cycle(), "a cycle over an unchanged world wrote"
                return
            self.now += seconds
        raise AssertionError(
            f"no rest after {_MOST_CYCLES} cycles; last writes: {[*map(str, self.server.writes[-8:])]}"
        )

    def _watch_is_behind(self) -> bool:
        return self.process.watch.is_behind

    async def wait(self, seconds: float) -> None:
        """Let time pass, then settle."""
        self.now += seconds
        await self.settle()

    # Users.

    def submit(self, job: JobBuilder) -> None:
        body = job.body()
        body.pop("status", None)
        for name in ("uid", "resourceVersion", "creationTimestamp"):
            body["metadata"].pop(name, None)
        self.server.create(api.PLURAL, body)

    def edit(self, name: str, **fields: Any) -> None:
        self.server.change(api.PLURAL, NAMESPACE, name, lambda body: body["spec"].update(fields))

    def delete(self, name: str) -> None:
        self.server.remove(api.PLURAL, NAMESPACE, name)

    def add_priority_class(self, name: str, value: int, *, policy: str = "PreemptLowerPriority") -> None:
        body = {"metadata": {"name": name}, "value": value, "preemptionPolicy": policy}
        self.server.create("priorityclasses", body)

    def add_queue(self, queue: QueueBuilder) -> None:
        body = queue.body()
        for name in ("uid", "resourceVersion"):
            body["metadata"].pop(name, None)
        self.server.create(api.QUEUES, body)

    def edit_queue(self, name: str, **fields: Any) -> None:
        self.server.change(api.QUEUES, "", name, lambda body: body["spec"].update(fields))

    def set_quota(self, name: str = "quota", *, namespace: str = NAMESPACE, **hard: int) -> None:
        """A quota, new or changed, as its controller has taken it up; ``gpus`` are requests of ``builders.GPU``."""
        amounts = {f"requests.{builders.GPU}" if key == "gpus" else key: str(value) for key, value in hard.items()}
        body = {"metadata": {"name": name, "namespace": namespace}, "spec": {"hard": amounts}, "status": {}}
        if self.server.get("resourcequotas", namespace, name) is None:
            self.server.create("resourcequotas", body)
        else:
            self.server.change("resourcequotas", namespace, name, lambda one: one.update(spec={"hard": amounts}))
        quotas.count(self.server)

    def add_pod(self, pod: PodBuilder) -> None:
        """Somebody else's pod, bound and running."""
        body = pod.running().body()
        self.server.create("pods", body)
        self.crowded.add(body["spec"]["nodeName"])

    def remove_pod(self, name: str, *, grace_seconds: int = 30) -> None:
        self.server.delete_pod(NAMESPACE, name, grace_seconds=grace_seconds)

    # Nodes.

    def change_node(self, name: str, change: Callable[[NodeBuilder], NodeBuilder]) -> None:
        def apply(body: Json) -> None:
            changed = change(NodeBuilder(body)).body()
            body.clear()
            body.update(changed)

        self.server.change("nodes", "", name, apply)

    def cordon(self, name: str, cordoned: bool = True) -> None:
        self.change_node(name, lambda node: node._with(spec__unschedulable=cordoned))

    def lose_node(self, name: str) -> None:
        """The kubelet stops answering."""
        self.lost.add(name)
        self.change_node(name, lambda node: node.not_ready(self.now))

    def restore_node(self, name: str) -> None:
        self.change_node(name, lambda node: node.ready(self.now))

    def remove_node(self, name: str) -> None:
        self.lost.add(name)
        self.server.remove("nodes", "", name)

    # Containers.

    def succeed(self, job: str, *ranks: int) -> None:
        """Containers of the current attempt exit with 0: those of ``ranks``, or all."""
        self._end(job, ranks, "Succeeded", {"exitCode": 0, "reason": "Completed"})

    def fail(self, job: str, *ranks: int, exit_code: int = 1, message: str = "", reason: str = "Error") -> None:
        self._end(job, ranks, "Failed", {"exitCode": exit_code, "reason": reason, "message": message})

    def _end(self, job: str, ranks: tuple[int, ...], phase: str, ended: Json) -> None:
        state = {"terminated": {**ended, "finishedAt": views.format_time(self.now)}}

        def end(body: Json) -> None:
            body["status"] |= {"phase": phase, "containerStatuses": [{"name": api.CONTAINER_NAME, "state": state}]}

        for rank, pod in self.gang(job).items():
            if (not ranks or rank in ranks) and pod["status"]["phase"] == "Running":
                self.server.change("pods", NAMESPACE, pod["metadata"]["name"], end)

    # Questions.

    def job(self, name: str) -> Json:
        body = self.server.get(api.PLURAL, NAMESPACE, name)
        assert body is not None, f"there is no job {name}"
        return body

    def queue(self, name: str) -> Json:
        """The status of a Queue."""
        body = self.server.get(api.QUEUES, "", name)
        assert body is not None, f"there is no queue {name}"
        status: Json = body.get("status", {})
        return status

    def exists(self, name: str) -> bool:
        return self.server.get(api.PLURAL, NAMESPACE, name) is not None

    def advise(self, *, order: Sequence[str] | None = None) -> None:
        """What the operator's advisor does in the background; without ``order`` all who wait are asked about."""
        seen = self.process.desk.seen
        assert seen is not None
        asked = seen.plan.waiting if order is None else order
        question = advisor.question_of(seen, order=asked, budget_seconds=60, now_seconds=self.now)
        self.readings = dataclasses.replace(
            self.readings, advice=advising.answer(question), advised_on=advisor.answers_of(seen)
        )

    def document(self) -> str:
        """The snapshot that the operator hands out to the command line."""
        return gzip.decompress(self.process.desk.document()).decode()

    def status(self, name: str) -> Json:
        status: Json = self.job(name).get("status", {})
        return status

    def phase(self, name: str) -> str:
        return str(self.status(name).get("phase"))

    def reason(self, name: str) -> str:
        return str(self.status(name).get("reason"))

    def condition(self, name: str, condition: str) -> str:
        found = [one["status"] for one in self.status(name).get("conditions", ()) if one["type"] == condition]
        return str(found[0]) if found else ""

    def gang(self, name: str) -> dict[int, Json]:
        """Pods of the current attempt by rank."""
        return invariants.current_pods(self.server, self.job(name))

    def pod_names(self, job: str) -> list[str]:
        """All pods that belong to the job, of whatever attempt."""
        uid = self.job(job)["metadata"]["uid"]
        return sorted(pod["metadata"]["name"] for pod in self.server.all("pods") if owner_uid(pod) == uid)

    def nodes_of(self, job: str) -> list[str]:
        return [share["name"] for share in (invariants.placement_of(self.job(job)) or {"nodes": ()})["nodes"]]

    def writes(self, verb: str = "", kind: str = "", status: int = 200) -> list[Write]:
        return [
            one
            for one in self.server.writes
            if one.verb.startswith(verb) and one.kind.startswith(kind) and one.status == status
        ]

    def told(self, job: str) -> list[str]:
        """Reasons of the Events about a job, in order."""
        events = [one for one in self.server.all("events") if one["involvedObject"]["name"] == job]
        return [str(one["reason"]) for one in events]


def a_world(*, nodes: int = 2, **planner: Any) -> World:
    """Nodes of four GPUs each, and these settings of the planner."""
    names = [f"n{number}" for number in range(1, nodes + 1)]
    return World(*map(builders.a_node, names), settings=parse({"planner": planner}))


def two_nodes() -> World:
    """Room for one gang of two pods that fill their nodes."""
    return a_world(nodes=2)
