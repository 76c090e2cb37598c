"""Runs a flow, undisturbed or with a fault, and asks the oracle."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence

from faults import injected, oracle, records
from faults.flows import Flow
from faults.operators import NAMESPACE, SETTINGS, Operator
from faults.proxy import Fault
from faults.steps import Steps
from world.client import MERGE
from world.cluster import CONVERGE_SECONDS, GPUS_PER_NODE, World

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{SETTINGS['lease']['name']}"
_REST_SECONDS = 0.3


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What became of one flow.

    ``counts`` are creations and deletions by object. ``converged_seconds`` is the time from the operator's restart to
    the last change of any object, with all that the flow itself waits for in it; 0 where it was not restarted.
    """

    writes: tuple[str, ...]
    counts: dict[str, tuple[int, int]]
    violations: tuple[str, ...]
    seconds: float
    ended_at: float
    converged_seconds: float = 0.0


class Runner:
    """One operator that lives from run to run, and what an undisturbed run of each flow looks like."""

    def __init__(self, world: World, operator: Operator) -> None:
        self.world = world
        self.operator = operator
        self._undisturbed: dict[str, Run] = {}
        self._starting = threading.Lock()

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
        self.operator.proxy.faults[:] = faults
        self.start()
        self.world.wait("the operator leads", lambda: self.operator.leads, seconds=60)
        self.operator.proxy.faults.clear()

    def start(self, variant: str = "") -> None:
        """Start the operator where none runs, as time would let it: the dead holder's Lease has run out."""
        with self._starting:
            if not self.operator.is_alive:
                self.world.client.ask("PATCH", LEASE, {"spec": {"holderIdentity": ""}}, kind=MERGE)
                self.operator.start(variant)

    def upgrade(self) -> None:
        """The operator is told to end, and a later version takes over."""
        with self._starting:
            self.operator.stop()
            self.world.client.ask("PATCH", LEASE, {"spec": {"holderIdentity": ""}}, kind=MERGE)
            self.operator.start("later")

    def killed(self, flow: Flow, number: int, *, before: bool, also: Sequence[Fault] = ()) -> Run:
        """The flow with the operator killed at one write and started again; ``also`` are faults beside that."""
        kill = injected.Kill(self.operator.proxy, number, before)
        over = threading.Event()
        restarted_at: list[float] = []

        def restart() -> None:
            kill.fired.wait()
            if not over.is_set():
                self.start(self.operator.variant)
                restarted_at.append(time.monotonic())

        supervisor = threading.Thread(target=restart, daemon=True)
        supervisor.start()
        try:
            run = self.run(flow, kill, *also)
        finally:
            over.set()
            kill.fired.set()  # it may never have been reached: flows differ in their writes a little
            supervisor.join(30)
        return dataclasses.replace(run, converged_seconds=run.ended_at - restarted_at[0] if restarted_at else 0.0)

    def run(self, flow: Flow, *faults: Fault, variant: str = "") -> Run:
        """The flow in a namespace of its own, with these faults."""
        if self.operator.variant != variant:
            self.operator.kill()
        self.start(variant)
        self.world.ensure_nodes()
        namespace = self.world.new_namespace()
        proxy = self.operator.proxy
        proxy.writes.clear()
        proxy.faults[:] = faults
        began = time.monotonic()
        stuck: list[str] = []
        try:
            flow.steps(Steps(self.world, namespace, self.upgrade))
            self._rest(namespace)
        except (TimeoutError, AssertionError) as error:
            stuck.append(f"the flow did not end: {error}{self._standing(namespace)}")
        finally:
            proxy.faults.clear()
        events = self.world.history.events(namespace)
        run = Run(
            writes=tuple(str(call).replace(namespace, "N") for call in proxy.writes),
            counts=oracle.counts(events),
            violations=(*stuck, *oracle.violations(events, gpus_per_node=GPUS_PER_NODE)),
            seconds=time.monotonic() - began,
            ended_at=max((event.at for event in events if event.resource in oracle.NAMESPACED), default=began),
        )
        self.world.empty(namespace)
        return run

    def _rest(self, namespace: str) -> None:
        """Wait until nothing was added to the history for a moment."""
        deadline = time.monotonic() + CONVERGE_SECONDS
        while time.monotonic() < deadline:
            events = self.world.history.events(namespace)
            last = max(event.at for event in events if event.resource in oracle.NAMESPACED)
            if time.monotonic() - last >= _REST_SECONDS:
                return
            time.sleep(_REST_SECONDS - (time.monotonic() - last))
        raise TimeoutError("its objects never come to rest")

    def _standing(self, namespace: str) -> str:
        jobs = self.world.history.now("trainingjobs", namespace)
        told = {
            name: {key: job.get("status", {}).get(key) for key in ("phase", "attempt", "reason", "message")}
            for name, job in jobs.items()
        }
        pods = {name: pod["status"].get("phase") for name, pod in self.world.pods(namespace).items()}
        return f"; jobs {told}; pods {pods}; last writes {[str(call) for call in self.operator.proxy.writes][-4:]}"

    def judge(self, flow: Flow, run: Run, *, kind: str, fault: object, compare: bool = True) -> list[str]:
        """What is broken, for people; the run goes into the records, where they are kept.

        Without ``compare``, creations and deletions may differ from the undisturbed run's.
        """
        found = self.differences(flow, run) if compare else list(run.violations)
        records.note(
            kind=kind,
            flow=flow.name,
            fault=str(fault),
            broken=found,
            seconds=run.seconds,
            converged_seconds=run.converged_seconds,
        )
        return [f"{flow.name}, {fault}: {line}" for line in found]

    def differences(self, flow: Flow, run: Run) -> list[str]:
        """How creations and deletions differ from the undisturbed run's (I4), and what else is broken."""
        want = self.undisturbed(flow).counts
        found = list(run.violations)
        for name in sorted(want.keys() | run.counts.keys()):
            if want.get(name, (0, 0)) != run.counts.get(name, (0, 0)):
                made, wanted = run.counts.get(name, (0, 0)), want.get(name, (0, 0))
                found.append(f"I4: {name} created and deleted {made} times, undisturbed {wanted}")
        if run.converged_seconds > CONVERGE_SECONDS:
            found.append(f"converged {run.converged_seconds:.1f} s after the restart, over {CONVERGE_SECONDS:.0f} s")
        return found
