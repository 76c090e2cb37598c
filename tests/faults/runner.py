"""Runs a flow, undisturbed or with a fault, and asks the oracle."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Sequence

from faults import injected, oracle
from faults.flows import Flow
from faults.operators import NAMESPACE, SETTINGS, Operator
from faults.proxy import Fault
from faults.world import World


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What became of one flow: numbered writes, creations and deletions by object, broken invariants."""

    writes: tuple[str, ...]
    counts: dict[str, tuple[int, int]]
    violations: tuple[str, ...]
    seconds: float
    converged_seconds: float = 0.0


class Runner:
    """One operator that lives from run to run, and what an undisturbed run of each flow looks like."""

    def __init__(self, world: World, operator: Operator) -> None:
        self.world = world
        self.operator = operator
        self._number = 0
        self._undisturbed: dict[str, Run] = {}

    def undisturbed(self, flow: Flow) -> Run:
        """The run that all others are compared with; it must be sound itself."""
        if flow.name not in self._undisturbed:
            run = self.run(flow)
            assert not run.violations, f"undisturbed: {run.violations}"
            self._undisturbed[flow.name] = run
        return self._undisturbed[flow.name]

    def restart(self, *faults: Fault) -> None:
        """A new process, with these faults from its first request until it leads."""
        self.operator.kill()
        self.free_lease()
        self.operator.proxy.faults[:] = faults
        self.operator.start()
        self.world.wait("the operator leads", lambda: self.operator.leads, seconds=60)
        self.operator.proxy.faults.clear()

    def killed(self, flow: Flow, number: int, *, before: bool, also: Sequence[Fault] = ()) -> Run:
        """The flow with the operator killed at one write and started again; ``also`` are faults beside that."""
        kill = injected.Kill(self.operator.proxy, number, before)
        restarted = threading.Event()
        restarted_at = 0.0

        def restart() -> None:
            nonlocal restarted_at
            kill.fired.wait()
            if kill.number:
                self.operator.reap()
                self.free_lease()
                self.operator.start()
                restarted_at = time.monotonic()
            restarted.set()

        supervisor = threading.Thread(target=restart, daemon=True)
        supervisor.start()
        run = self.run(flow, kill, *also)
        if not kill.fired.is_set():
            kill.number = 0  # it was never reached: the flow needed fewer writes this time
            kill.fired.set()
        restarted.wait(30)
        return dataclasses.replace(run, converged_seconds=time.monotonic() - restarted_at if restarted_at else 0.0)

    def run(self, flow: Flow, *faults: Fault) -> Run:
        """The flow in a namespace of its own, with these faults."""
        if not self.operator.is_alive:
            self.operator.start()
        self._number += 1
        namespace = f"run-{self._number}"
        self.world.server.kubectl("create", "namespace", namespace, check=True)
        self.world.wait(
            "the namespace's account",
            lambda: self.world.server.kubectl("-n", namespace, "get", "serviceaccount", "default").code == 0,
        )
        proxy = self.operator.proxy
        proxy.writes.clear()
        proxy.faults[:] = faults
        began = time.monotonic()
        try:
            flow.steps(self.world, namespace)
        finally:
            seconds = time.monotonic() - began
            writes = tuple(str(call).replace(namespace, "N") for call in proxy.writes)
            proxy.faults.clear()
        events = self._settled(namespace)
        run = Run(
            writes=writes,
            counts=oracle.counts(events),
            violations=tuple(oracle.violations(events, lost_nodes=flow.lost_nodes)),
            seconds=seconds,
        )
        self.world.server.kubectl("delete", "namespace", namespace, "--wait=false", check=True)
        self.world.wait("the namespace is empty", lambda: not self.world.pods(namespace))
        return run

    def _settled(self, namespace: str) -> list[oracle.Event]:
        """The history, once nothing was added to it for a moment."""
        events = self.world.history.events(namespace)
        for _ in range(50):
            time.sleep(0.3)
            later = self.world.history.events(namespace)
            if len(later) == len(events):
                return later
            events = later
        raise TimeoutError(f"the objects in {namespace} never come to rest")

    def free_lease(self) -> None:
        """What time would do: the dead holder's Lease has run out."""
        patch = json.dumps({"spec": {"holderIdentity": ""}})
        self.world.server.kubectl(
            *("-n", NAMESPACE, "patch", "lease", SETTINGS["lease"]["name"], "--type=merge", "-p", patch)
        )

    def differences(self, flow: Flow, run: Run) -> list[str]:
        """How creations and deletions differ from the undisturbed run's (I4), and what else is broken."""
        want = self.undisturbed(flow).counts
        found = list(run.violations)
        for name in sorted(want.keys() | run.counts.keys()):
            if want.get(name, (0, 0)) != run.counts.get(name, (0, 0)):
                made, wanted = run.counts.get(name, (0, 0)), want.get(name, (0, 0))
                found.append(f"I4: {name} created and deleted {made} times, undisturbed {wanted}")
        return found
