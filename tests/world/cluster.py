"""A real API server with its controllers, kube-scheduler, and kwok nodes with GPUs, for faults and policies."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apiserver
from world.client import MERGE, STRATEGIC, Client, jobs_path, pods_path
from world.history import History

Json = dict[str, Any]
STAGES = apiserver.ROOT / "tests" / "world" / "stages.yaml"
NUM_NODES = 4
GPUS_PER_NODE = 4
PRODUCT = "NVIDIA-H100-80GB-HBM3"
RUN_SECONDS = "world.example/run-seconds"
HELD = "world.example/held"
LINGERS = "world.example/lingers"
STAYS = "world.example/stays"
NOT_READY = "world.example/not-ready"
CONVERGE_SECONDS = 30.0


class World:
    """The cluster as the tests see it: past every proxy."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        self.server = server
        self.client = Client(server)
        self.history = History(server)
        self._numbers = itertools.count(1)

    def new_namespace(self, name: str = "") -> str:
        """A namespace in which pods can be created."""
        name = name or f"run-{next(self._numbers)}"
        self.client.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        apiserver.wait_until(
            lambda: self.client.ask("GET", account)[0] == 200, what="the namespace's account", every_seconds=0.02
        )
        return name

    def empty(self, namespace: str) -> None:
        """Delete all jobs and pods, and forget what happened."""
        self.client.must("DELETE", jobs_path(namespace))
        self.client.must("DELETE", pods_path(namespace) + "?gracePeriodSeconds=0")

        def is_empty() -> bool:
            return not self.history.now("pods", namespace) and not self.history.now("trainingjobs", namespace)

        try:
            self.history.wait_for(is_empty, seconds=2, what="empty")
        except TimeoutError:  # a pod was created meanwhile
            self.client.must("DELETE", pods_path(namespace) + "?gracePeriodSeconds=0")
            self.wait(f"{namespace} is empty", is_empty)
        self.history.forget(namespace)

    def add_node(self, index: int, *, wait: bool = True) -> None:
        """A kwok node with four GPUs; two nodes share a rack."""
        name = f"node-{index}"
        status, answer = self.client.ask("POST", "/api/v1/nodes", gpu_node(name, rack=f"r{index // 2}"))
        assert status in (201, 409), answer  # the history may not show yet that it is there
        if wait:
            self.wait(f"{name} is ready", lambda: self.is_ready(name), seconds=60)

    def ensure_nodes(self, number: int = NUM_NODES, *, wait: bool = True) -> None:
        """Every node is there, ready and without taints, whatever became of the run before."""
        for index in range(number):
            node = self.history.now("nodes").get(f"node-{index}")
            if node is None:
                self.add_node(index, wait=wait)
                continue
            if node["spec"].get("unschedulable"):
                self.cordon(f"node-{index}", wanted=False)
            if NOT_READY in node["metadata"].get("annotations", {}):
                self.set_ready(f"node-{index}", wanted=True, wait=wait)
        if not wait:
            return
        names = [f"node-{index}" for index in range(number)]
        self.wait("all nodes are ready", lambda: all(self.is_ready(name) for name in names), seconds=60)

    def is_ready(self, name: str) -> bool:
        """Whether pods can be bound to the node, as far as its status and taints say."""
        node = self.history.now("nodes").get(name, {"spec": {}, "status": {}})
        conditions = node["status"].get("conditions", ())
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        is_kept = any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", ()))
        return is_ready and not is_kept and "pods" in node["status"]["allocatable"]

    def remove_node(self, name: str) -> None:
        """The machine is gone, and its Node with it."""
        self.client.must("DELETE", f"/api/v1/nodes/{name}")

    def cordon(self, name: str, *, wanted: bool = True) -> None:
        """`kubectl cordon` and `uncordon`."""
        self.client.must("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": wanted or None}}, kind=MERGE)

    def set_ready(self, name: str, *, wanted: bool, wait: bool = True) -> None:
        """Its kubelet stops to answer, or does so again."""
        mark = {"metadata": {"annotations": {NOT_READY: None if wanted else "true"}}}
        self.client.must("PATCH", f"/api/v1/nodes/{name}", mark, kind=MERGE)
        if wanted:
            if wait:
                self.wait(f"{name} is ready", lambda: self.is_ready(name))
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "injected"}
        status = {"conditions": [{**condition, "lastTransitionTime": now, "lastHeartbeatTime": now}]}
        self.client.must("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, kind=STRATEGIC)

    def evict(self, namespace: str, pod: str) -> None:
        """What `kubectl drain` does to a pod."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        self.client.must("POST", pods_path(namespace, pod) + "/eviction", eviction)

    def create(self, namespace: str, job: Json) -> None:
        """`kubectl create` of a TrainingJob."""
        self.client.must("POST", jobs_path(namespace), job)

    def edit(self, namespace: str, name: str, **spec: object) -> None:
        """`kubectl patch` of a TrainingJob's spec."""
        self.client.must("PATCH", jobs_path(namespace, name), {"spec": spec}, kind=MERGE)

    def delete(self, namespace: str, name: str) -> None:
        """`kubectl delete --wait=false` of a TrainingJob."""
        self.client.must("DELETE", jobs_path(namespace, name))

    def delete_pod(self, namespace: str, name: str) -> None:
        """`kubectl delete --wait=false` of a pod."""
        self.client.must("DELETE", pods_path(namespace, name))

    def job(self, namespace: str, name: str) -> Json:
        """The TrainingJob, or an empty object."""
        return self.history.now("trainingjobs", namespace).get(name, {})

    def status(self, namespace: str, name: str) -> Json:
        """The job's status."""
        status: Json = self.job(namespace, name).get("status") or {}
        return status

    def pods(self, namespace: str) -> dict[str, Json]:
        """All pods of a namespace by name."""
        return self.history.now("pods", namespace)

    def let_go(self, namespace: str, pod: str) -> None:
        """A pod that stays when it is deleted does not any more."""
        mark = {"metadata": {"annotations": {STAYS: None}}}
        self.client.must("PATCH", pods_path(namespace, pod), mark, kind=MERGE)

    def end_pod(self, namespace: str, name: str, *, exit_code: int, message: str = "the end of its log") -> None:
        """What a kubelet writes when a container has ended."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        terminated = {
            "exitCode": exit_code,
            "reason": "Error" if exit_code else "Completed",
            "startedAt": now,
            "finishedAt": now,
            "message": message,
        }
        container = {"name": "trainer", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        status = {
            "phase": "Failed" if exit_code else "Succeeded",
            "containerStatuses": [{**container, "state": {"terminated": terminated}}],
        }
        self.client.must("PATCH", pods_path(namespace, name) + "/status", {"status": status}, kind=MERGE)

    def wait(self, what: str, condition: Callable[[], object], *, seconds: float = CONVERGE_SECONDS) -> None:
        """Until it holds; a TimeoutError says what was awaited."""
        self.history.wait_for(condition, seconds=seconds, what=what)


def gpu_node(
    name: str,
    *,
    gpus: int = GPUS_PER_NODE,
    product: str = PRODUCT,
    rack: str = "",
    zone: str = "z1",
    cpu: int = 64,
    memory_gib: int = 512,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Json] = (),
) -> Json:
    """A kwok node as its device plugin and GPU feature discovery would describe it."""
    size = {"cpu": str(cpu), "memory": f"{memory_gib}Gi", "pods": "110"}
    told = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": zone,
        **({"topology.stowplan.dev/rack": rack} if rack else {}),
    }
    if gpus:
        size["nvidia.com/gpu"] = str(gpus)
        told |= {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": product,
            "nvidia.com/gpu.count": str(gpus),
        }
    return {
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {**told, **(labels or {})},
        },
        "spec": {"taints": list(taints)} if taints else {},
        "status": {"capacity": size, "allocatable": size},
    }


def training_job(
    name: str,
    *,
    pods: int = 2,
    gpus: int = GPUS_PER_NODE,
    run_seconds: float | None = None,
    held: bool = False,
    lingers: bool = False,
    stays: bool = False,
    priority_class: str = "",
    makes_room: bool = False,
    spec: Mapping[str, Any] | None = None,
) -> Json:
    """A TrainingJob whose pods end by themselves after ``run_seconds``, or never.

    ``held`` ones do not start; those that linger take a while to go when they are deleted, and those that stay do not
    go before they are let go. Others are moved for one that ``makes_room``.
    """
    asks = {"annotations": {"stowplan.dev/make-room": "100000"}} if makes_room else {}
    annotations = {} if run_seconds is None else {RUN_SECONDS: f"{run_seconds}s"}
    if held:
        annotations[HELD] = "true"
    if lingers:
        annotations[LINGERS] = "true"
    if stays:
        annotations[STAYS] = "true"
    return {
        "apiVersion": "stowplan.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, **asks},
        "spec": {
            "image": "i",
            "command": ["torchrun", "train.py"],
            "numNodes": pods,
            "resourcesPerNode": {"nvidia.com/gpu": gpus},
            "startupTimeoutSeconds": 60,
            "podTemplate": {"metadata": {"annotations": annotations}},
            **({"priorityClassName": priority_class} if priority_class else {}),
            **(spec or {}),
        },
    }


@contextlib.contextmanager
def run(*, num_nodes: int = NUM_NODES) -> Iterator[World]:
    """Start everything and end it again."""
    kwok = apiserver.find_program("kwok")
    with (
        apiserver.run(controller_manager=True, scheduler=True, with_crds=True) as server,
        contextlib.ExitStack() as stack,
    ):
        apiserver.wait_until(lambda: server.kubectl("get", "serviceaccount", "default").code == 0, what="accounts")
        log = stack.enter_context((server.directory / "kwok.log").open("wb"))
        process = subprocess.Popen(
            [
                kwok,
                f"--kubeconfig={server.kubeconfig()}",
                f"--config={STAGES}",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                "--cidr=10.240.0.0/16",
                "--node-ip=127.0.0.1",
                "--node-port=0",
                "--node-lease-duration-seconds=40",
                "--server-address=",
            ],
            stdout=log,
            stderr=log,
        )
        stack.callback(apiserver.stop, process)
        world = World(server)
        stack.callback(world.client.close)
        stack.callback(world.history.close)
        classes = [("stowplan-gang", 0, "Never"), ("urgent", 1000, "PreemptLowerPriority")]
        for name, value, policy in classes:
            body = {"metadata": {"name": name}, "value": value, "preemptionPolicy": policy}
            world.client.must("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body)
        world.client.must("POST", "/api/v1/namespaces", {"metadata": {"name": "stowplan-system"}})
        world.ensure_nodes(num_nodes)
        yield world
