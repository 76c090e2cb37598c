"""Where stories are played: one after the other, in namespaces and on nodes of their own.

What must stay true: nothing of one story is left when the next begins; jobs stand in the queue in the order in which a
story submits them, though the API server tells their age in whole seconds; an expectation that holds is looked at again
after the operator has planned once more with all that was done before it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policies.operator_process import OperatorProcess
from world.client import MERGE, jobs_path, queues_path
from world.cluster import World, training_job
from world.history import Event

Json = dict[str, Any]
TEAM = "team"
# Only a failure waits so long. At a load of ten on two cores 30 seconds are too few for answers that take CPU.
PATIENCE_SECONDS = 120.0
# A cycle that is due when the operator is frozen runs as it is thawed, and would see some of the jobs only.
REST_SECONDS = 0.12
_HOLD = {"key": "world.example/hold", "effect": "NoSchedule"}
_PRIORITIES = {"high": (100, "PreemptLowerPriority"), "low": (-100, "PreemptLowerPriority"), "polite": (1000, "Never")}


class Stage:
    """The world of one story at a time. Names of jobs, nodes and queues are the story's own."""

    def __init__(self, world: World, operator: OperatorProcess) -> None:
        self.world = world
        self.operator = operator
        self._numbers = itertools.count(1)
        self._number = 0
        self._namespaces: dict[str, str] = {}
        self._home: dict[str, str] = {}
        self._nodes: dict[str, Json] = {}
        self._last = ("", 0)
        self._jobs_to_come = 0
        for name, (value, policy) in _PRIORITIES.items():
            body = {"metadata": {"name": name}, "value": value, "preemptionPolicy": policy}
            world.client.must("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body)
        self._canary_namespace = world.new_namespace()
        world.create(self._canary_namespace, training_job("canary", pods=1, gpus=1, spec={"suspend": True}))

    def begin(self, *, nodes: Mapping[str, Json], num_jobs: int, settings: Mapping[str, Json]) -> None:
        """An empty cluster with these nodes, and a clean queue."""
        self._clear()
        self._number = next(self._numbers)
        self._jobs_to_come = num_jobs
        self._fit_nodes(nodes)
        self.operator.ensure(**settings)

    # What happens.

    def submit_together(self, *jobs: tuple[str, Json], in_order: bool = True) -> None:
        """Create jobs, of which none can start before the operator has planned with all of them."""
        self._hold_nodes(wanted=True)
        self.submit(*jobs, in_order=in_order)
        names = [job["metadata"]["name"] for _, job in jobs]
        self.world.wait("all jobs are planned", lambda: all(self.status(name).get("decision") for name in names))
        with self.operator.frozen():
            self._hold_nodes(wanted=False)

    def submit(self, *jobs: tuple[str, Json], in_order: bool = True) -> None:
        """Create jobs, each given with its team, in one moment of the operator's."""
        if len(jobs) > 1:
            self.world.history.wait_for_rest(REST_SECONDS)
        with self.operator.frozen():
            for team, job in jobs:
                self._home[job["metadata"]["name"]] = self.namespace(team)
                path = jobs_path(self.namespace(team))
                if in_order:
                    self._create_behind_all(path, job)
                else:
                    self.world.client.must("POST", path, job)
                    self._jobs_to_come -= 1

    def end(self, *names: str) -> None:
        """All pods of these jobs exit 0."""
        with self.operator.frozen():
            for name in names:
                for pod in self.pods_of(name):
                    self.world.end_pod(self._home[name], pod, exit_code=0)
        for name in names:
            self.world.wait(f"{name} has succeeded", lambda name=name: self.status(name)["phase"] == "Succeeded")

    def edit(self, name: str, **spec: object) -> None:
        """`kubectl patch` of a job's spec."""
        self.world.edit(self._home[name], name, **spec)

    def evict(self, name: str) -> None:
        """What `kubectl drain` does to a job's pods."""
        for pod in self.pods_of(name):
            self.world.evict(self._home[name], pod)

    def let_go(self, name: str) -> None:
        """The job's pods that stay though they are deleted go now."""
        namespace = self._home[name]
        for key, pod in self.world.pods(namespace).items():
            is_its_own = pod["metadata"]["labels"].get("stowplan.dev/job") == name
            if is_its_own and pod["metadata"].get("deletionTimestamp"):
                self.world.let_go(namespace, key)

    def delete(self, name: str) -> None:
        """`kubectl delete` of a job."""
        self.world.delete(self._home[name], name)

    def rewrite_status(self, name: str, change: Callable[[Json], Json]) -> None:
        """Put into the status what would stand there later: nobody waits for the clock."""
        with self.operator.frozen():
            patch = change(self.status(name))
            path = jobs_path(self._home[name], name)
            self.world.client.must("PATCH", f"{path}/status", {"status": patch}, kind=MERGE)

    def add_node(self, body: Json) -> None:
        """A node that the story has from here on."""
        name = body["metadata"]["name"]
        self.world.client.must("POST", "/api/v1/nodes", body)
        self._nodes[name] = body
        self.world.wait(f"{name} is ready", lambda: self.world.is_ready(name))

    def set_budget(self, name: str, jobs: Sequence[str], limit: Mapping[str, int | str]) -> None:
        """A PodDisruptionBudget on these jobs' pods, or a new limit of one; until its controller has taken it up."""
        path = f"/apis/policy/v1/namespaces/{self._home[jobs[0]]}/poddisruptionbudgets"
        selector = {"matchExpressions": [{"key": "stowplan.dev/job", "operator": "In", "values": list(jobs)}]}
        spec = {**limit, "selector": selector}
        if self.world.client.ask("GET", f"{path}/{name}")[0] == 200:
            self.world.client.must("PATCH", f"{path}/{name}", {"spec": spec}, kind=MERGE)
        else:
            self.world.client.must("POST", path, {"metadata": {"name": name}, "spec": spec})

        def is_taken_up() -> bool:
            found = self.world.client.must("GET", f"{path}/{name}")
            status = found.get("status", {})
            number = sum(len(self.pods_of(job)) for job in jobs)
            return (status.get("observedGeneration"), status.get("currentHealthy")) == (
                found["metadata"]["generation"],
                number,
            )

        self.world.wait(f"budget {name} is taken up", is_taken_up)

    def annotate(self, name: str, **annotations: str) -> None:
        """`kubectl annotate` of a job."""
        patch = {"metadata": {"annotations": annotations}}
        self.world.client.must("PATCH", jobs_path(self._home[name], name), patch, kind=MERGE)

    def create_queue(self, name: str, spec: Json) -> None:
        """`kubectl create` of a Queue."""
        body = {"apiVersion": "stowplan.dev/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": spec}
        self.world.client.must("POST", queues_path(), body)
        self.world.wait(f"queue {name} is there", lambda: self.queue(name))

    def edit_queue(self, name: str, **spec: object) -> None:
        """`kubectl patch` of a Queue's spec."""
        self.world.client.must("PATCH", queues_path(name), {"spec": spec}, kind=MERGE)

    def queue(self, name: str) -> Json:
        """The Queue, or an empty object."""
        return self.world.history.now("queues").get(name, {})

    def add_copy_of_node(self, like: str, name: str) -> None:
        """A new node like one that is there."""
        old = self._nodes[like]
        labels = {**old["metadata"]["labels"], "kubernetes.io/hostname": name}
        self.add_node({**old, "metadata": {**old["metadata"], "name": name, "labels": labels}})

    def wait_until_it_runs(self, name: str) -> None:
        """A TimeoutError where it does not."""
        self.world.wait(f"{name} runs", lambda: self.status(name).get("phase") == "Running", seconds=PATIENCE_SECONDS)

    # What can be seen.

    def namespace(self, team: str) -> str:
        """The namespace of a team in this story; made when it is first asked for."""
        if team not in self._namespaces:
            self._namespaces[team] = self.world.new_namespace(f"{team}-{self._number}")
        return self._namespaces[team]

    def job(self, name: str) -> Json:
        """The TrainingJob as it is."""
        return self.world.job(self._home[name], name)

    def status(self, name: str) -> Json:
        """Its status."""
        return self.world.status(self._home[name], name)

    def history_of(self, name: str) -> list[Event]:
        """All that happened to the job."""
        events = self.world.history.events(self._home[name])
        return [one for one in events if one.resource == "trainingjobs" and one.object["metadata"]["name"] == name]

    def pods_of(self, name: str) -> tuple[str, ...]:
        """The pods of its attempt, by rank."""
        attempt = str((self.status(name).get("placement") or {}).get("attempt"))
        pods = self.world.pods(self._home[name])
        of_job = {key: pod["metadata"]["labels"] for key, pod in pods.items()}
        return tuple(
            sorted(
                key
                for key, labels in of_job.items()
                if labels.get("stowplan.dev/job") == name and labels.get("stowplan.dev/attempt") == attempt
            )
        )

    def short(self, key: str) -> str:
        """A job's name in the story, of its namespace and name."""
        return key.split("/", 1)[-1]

    def wait_for_another_plan(self) -> None:
        """Until the operator has gone through a cycle that has seen all that is there now."""
        spec = {"ttlSecondsAfterFinished": int(time.time()) % 100_000 + next(self._numbers)}
        self.world.edit(self._canary_namespace, "canary", **spec)

        def is_seen() -> bool:
            job = self.world.job(self._canary_namespace, "canary")
            generation = job["metadata"]["generation"]
            return (
                job["spec"].get("ttlSecondsAfterFinished") == spec["ttlSecondsAfterFinished"]
                and job.get("status", {}).get("observedGeneration") == generation
            )

        self.world.wait("the operator has planned again", is_seen, seconds=PATIENCE_SECONDS)

    def picture(self) -> str:
        """How every job stands, for people."""
        lines = []
        for name in self._home:
            status = self.status(name)
            decision = status.get("decision") or {}
            nodes = [share["name"] for share in (status.get("placement") or {}).get("nodes", ())]
            what = f"{status.get('phase')} {status.get('reason', '')}"
            if nodes:
                what += f" on {' '.join(nodes)}"
            elif decision:
                what += f": {decision.get('message')} {decision.get('numbers', {})} {decision.get('blockers', [])}"
            ended = [f"{one['outcome']} ({one.get('reason', '')})" for one in status.get("history", ())]
            lines.append(f"{name}: {what}{'; before: ' + ', '.join(ended) if ended else ''}")
        return "\n".join(lines)

    # How it is done.

    def _clear(self) -> None:
        with_jobs = {self._home[name] for name in self._home}
        for namespace in with_jobs:
            self.world.empty(namespace)
        if self.world.history.now("queues"):
            self.world.client.must("DELETE", queues_path())
            self.world.wait("queues are gone", lambda: not self.world.history.now("queues"))
        self._namespaces.clear()
        self._home.clear()
        self._last = ("", 0)

    def _fit_nodes(self, wanted: Mapping[str, Json]) -> None:
        """Nodes that are there are changed, not made anew: a kubelet's successor of the same name takes seconds."""
        there = self.world.history.now("nodes")
        unwanted = there.keys() - wanted.keys()
        for name in unwanted:
            self.world.remove_node(name)
        self.world.wait("old nodes are gone", lambda: not unwanted & self.world.history.now("nodes").keys())
        for name, body in wanted.items():
            if name not in there:
                self.world.client.must("POST", "/api/v1/nodes", body)
                continue
            if body != self._nodes[name] or there[name]["spec"].get("unschedulable"):
                self._change_node(self._nodes[name], body)
        self._nodes = dict(wanted)
        self._wait_for_nodes()

    def _hold_nodes(self, *, wanted: bool) -> None:
        """A taint that no job tolerates. One that Kubernetes adds, as for a cordoned node, goes with a delay."""
        for name, body in self._nodes.items():
            taints = [*body["spec"].get("taints", ()), *([_HOLD] if wanted else ())]
            self.world.client.must("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": taints}}, kind=MERGE)
        if wanted:
            self.wait_for_another_plan()

    def _change_node(self, old: Json, new: Json) -> None:
        path = f"/api/v1/nodes/{new['metadata']['name']}"
        labels = _merged(old["metadata"]["labels"], new["metadata"]["labels"])
        spec = {"unschedulable": None, "taints": new["spec"].get("taints")}
        self.world.client.must("PATCH", path, {"metadata": {"labels": labels}, "spec": spec}, kind=MERGE)
        status = {key: _merged(old["status"][key], new["status"][key]) for key in ("capacity", "allocatable")}
        self.world.client.must("PATCH", f"{path}/status", {"status": status}, kind=MERGE)

    def _wait_for_nodes(self) -> None:
        self.world.wait("all nodes are ready", lambda: all(self.world.is_ready(name) for name in self._nodes))

    def _create_behind_all(self, path: str, job: Json) -> None:
        """Jobs of one second stand by UID: one that would not stand last is taken back, before anybody saw it."""
        while True:
            made = self.world.client.must("POST", path, job)["metadata"]
            second, number = made["creationTimestamp"], int(made["uid"][:8], 16)
            lowest = self._last[1] if second == self._last[0] else 0
            if lowest < number <= lowest + (16**8 - lowest) / max(1, self._jobs_to_come):
                self._last = (second, number)
                self._jobs_to_come -= 1
                return
            self.world.client.must("DELETE", f"{path}/{made['name']}")


def _merged(old: Json, new: Json) -> Json:
    """A merge patch that makes one map of another."""
    return {**dict.fromkeys(old), **new}
