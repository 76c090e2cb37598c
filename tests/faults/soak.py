"""A soak: many short jobs while everything that can go wrong goes wrong at random, from a seed.

What is drawn follows from the seed alone; when it happens follows from how fast the cluster is. The oracle looks at the
whole history afterwards, so nothing that was wrong for a moment is missed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import time
from collections.abc import Callable

from faults import injected
from faults.injected import REASONS
from faults.oracle import OVER
from faults.proxy import Answer, Call, CutConnection, Forward
from faults.runner import Runner
from world.client import RefusedError
from world.cluster import NUM_NODES, training_job
from world.history import Json

NUM_SOAK_NODES = 2 * NUM_NODES
_AT_ONCE = 40
_SHARE_OF_BAD_WRITES = 0.06
_QUIET_SECONDS = (0.5, 2.5)
_LAST_JOB_SECONDS = 300.0


class BadWrites:
    """A share of the operator's writes is refused, cut, made without an answer, or late."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self.tally: collections.Counter[str] = collections.Counter()

    def wants(self, call: Call) -> bool:
        """Each write has the same chance."""
        return call.number > 0 and self._random.random() < _SHARE_OF_BAD_WRITES

    async def handle(self, call: Call, forward: Forward) -> Answer:
        """One of them."""
        kind = self._random.choice([*(str(status) for status in REASONS), "cut before", "cut after", "late"])
        self.tally[kind] += 1
        if kind.startswith("cut"):
            if kind == "cut after":
                await forward()
            raise CutConnection("injected")
        if kind == "late":
            await asyncio.sleep(self._random.uniform(0.1, 1.0))
            return await forward()
        return Answer.refusal(int(kind), REASONS[int(kind)], f"injected: {call}")

    def __str__(self) -> str:
        return f"{_SHARE_OF_BAD_WRITES:.0%} bad writes"


class Soak:
    """``num_jobs`` jobs in one namespace; ``run`` returns when every one of them has ended."""

    def __init__(self, runner: Runner, *, seed: int, num_jobs: int) -> None:
        self.namespace = runner.world.new_namespace()
        self.tally: collections.Counter[str] = collections.Counter()
        self.deleted: set[str] = set()
        self._runner = runner
        self._world = runner.world
        self._num_jobs = num_jobs
        self._random = random.Random(seed)
        self._bad_writes = BadWrites(random.Random(seed + 1))
        self._submitted = 0
        self._undo: list[tuple[float, Callable[[], None]]] = []

    def run(self) -> None:
        """Submit and harm, until all jobs are submitted; then let them end."""
        proxy = self._runner.operator.proxy
        self._world.ensure_nodes(NUM_SOAK_NODES)
        self._runner.start()
        proxy.faults[:] = [self._bad_writes]
        try:
            next_harm = 0.0
            while self._submitted < self._num_jobs:
                self._submit()
                self._undo_what_is_due()
                if time.monotonic() >= next_harm:
                    self._harm()
                    next_harm = time.monotonic() + self._random.uniform(*_QUIET_SECONDS)
                time.sleep(0.05)
        finally:
            for _, undo in self._undo:
                self._try(undo)
            proxy.faults.clear()
            self._runner.start()
            self._world.ensure_nodes(NUM_SOAK_NODES)
        self.tally += self._bad_writes.tally
        self._world.wait("every job ends", lambda: not self._unfinished(), seconds=_LAST_JOB_SECONDS)
        self._world.wait("finished jobs expire", lambda: not self._jobs(), seconds=_LAST_JOB_SECONDS)
        pods = "pods", self.namespace
        self._world.wait("their pods go", lambda: not self._world.history.now(*pods), seconds=_LAST_JOB_SECONDS)

    def never_ended(self) -> list[str]:
        """Jobs that neither ended nor were deleted by a user, by the history."""
        ended, seen = set(), set()
        for event in self._world.history.events(self.namespace):
            if event.resource == "trainingjobs":
                seen.add(event.object["metadata"]["name"])
                if (event.object.get("status") or {}).get("phase") in OVER:
                    ended.add(event.object["metadata"]["name"])
        return sorted(seen - ended - self.deleted)

    def standing(self) -> dict[str, list[object]]:
        """How the jobs stand that have not ended."""
        jobs = {name: self._jobs()[name].get("status") or {} for name in self._unfinished()}
        return {
            name: [told.get(key) for key in ("phase", "attempt", "reason", "message")] for name, told in jobs.items()
        }

    def _jobs(self) -> dict[str, Json]:
        return self._world.history.now("trainingjobs", self.namespace)

    def _unfinished(self) -> list[str]:
        return [name for name, job in self._jobs().items() if (job.get("status") or {}).get("phase") not in OVER]

    def _submit(self) -> None:
        while self._submitted < self._num_jobs and len(self._jobs()) < _AT_ONCE:
            draw = self._random
            name = f"job-{self._submitted}"
            job = training_job(
                name,
                pods=draw.choice((1, 1, 2, 3)),
                gpus=draw.choice((1, 2, 4)),
                run_seconds=round(draw.uniform(0.2, 1.0), 2),
                lingers=draw.random() < 0.1,
                priority_class="urgent" if draw.random() < 0.1 else "",
                spec={"ttlSecondsAfterFinished": 1, "failurePolicy": {"maxRestarts": 100}},
            )
            self._world.create(self.namespace, job)
            self._world.wait(f"{name} is seen", lambda name=name: name in self._jobs())
            self._submitted += 1

    def _undo_what_is_due(self) -> None:
        now = time.monotonic()
        due = [undo for at, undo in self._undo if at <= now]
        self._undo = [(at, undo) for at, undo in self._undo if at > now]
        for undo in due:
            self._try(undo)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except RefusedError:
            self.tally["came too late"] += 1  # its object had gone

    def _harm(self) -> None:
        harms = (
            *(self._kill, self._freeze, self._cut_off, self._silence),
            *(self._lose_node, self._stop_kubelet, self._fail_pod, self._fail_pod),
            *(self._delete_pod, self._delete_job, self._suspend),
        )
        harm = self._random.choice(harms)
        self.tally[harm.__name__.removeprefix("_").replace("_", " ")] += 1
        self._try(harm)

    def _later(self, least: float, most: float, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + self._random.uniform(least, most), undo))

    def _kill(self) -> None:
        self._runner.operator.kill()
        self._runner.start()

    def _freeze(self) -> None:
        """Shorter than the Lease, or longer; a process that has lost its Lease ends, and is started again."""
        operator, seconds = self._runner.operator, self._random.choice((0.5, 2.0, 6.0))
        self._runner.start()
        with contextlib.suppress(ProcessLookupError):  # it may just have ended, without its Lease
            operator.freeze()
            time.sleep(seconds)
            operator.thaw()
        self._later(2, 3, self._runner.start)

    def _cut_off(self) -> None:
        self._inject(injected.CutOff())

    def _silence(self) -> None:
        self._inject(injected.SilentWatch(frozenset({self._random.choice(("pods", "trainingjobs", "nodes"))})))

    def _inject(self, fault: injected.CutOff | injected.SilentWatch) -> None:
        faults = self._runner.operator.proxy.faults
        faults.insert(0, fault)

        def undo() -> None:
            fault.over.set()
            faults.remove(fault)
            self._runner.start()  # cut off for long enough it has ended

        self._later(0.5, 2.5, undo)

    def _lose_node(self) -> None:
        self._world.remove_node(f"node-{self._random.randrange(NUM_SOAK_NODES)}")
        self._later(0.5, 3, lambda: self._world.ensure_nodes(NUM_SOAK_NODES, wait=False))

    def _stop_kubelet(self) -> None:
        self._world.set_ready(f"node-{self._random.randrange(NUM_SOAK_NODES)}", wanted=False)
        self._later(1, 6, lambda: self._world.ensure_nodes(NUM_SOAK_NODES, wait=False))

    def _a_pod(self) -> str:
        pods = self._world.pods(self.namespace)
        running = sorted(name for name, pod in pods.items() if pod["status"].get("phase") == "Running")
        if not running:
            raise RefusedError("no pod runs")
        return self._random.choice(running)

    def _fail_pod(self) -> None:
        self._world.end_pod(self.namespace, self._a_pod(), exit_code=self._random.choice((1, 42, 137)))

    def _delete_pod(self) -> None:
        self._world.delete_pod(self.namespace, self._a_pod())

    def _a_job(self) -> str:
        names = sorted(self._unfinished())
        if not names:
            raise RefusedError("no job is unfinished")
        return self._random.choice(names)

    def _delete_job(self) -> None:
        name = self._a_job()
        self._world.delete(self.namespace, name)
        self.deleted.add(name)

    def _suspend(self) -> None:
        name = self._a_job()
        self._world.edit(self.namespace, name, suspend=True)
        self._later(0.5, 3, lambda: self._world.edit(self.namespace, name, suspend=False))
