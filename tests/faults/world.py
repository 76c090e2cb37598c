"""A real API server with its controllers, kube-scheduler, and kwok nodes with GPUs, for the fault tests."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

import apiserver
from faults.history import History

Json = dict[str, Any]
STAGES = apiserver.ROOT / "tests" / "faults" / "stages.yaml"
NUM_NODES = 4
GPUS_PER_NODE = 4
RUN_SECONDS = "faults.example/run-seconds"
CONVERGE_SECONDS = 30.0


class World:
    """The cluster as the tests see it: past every proxy."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        self.server = server
        self.history = History(server)

    def add_node(self, index: int) -> None:
        """A kwok node with four GPUs; two nodes share a rack."""
        size = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(GPUS_PER_NODE)}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": f"node-{index}",
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {
                        "kubernetes.io/hostname": f"node-{index}",
                        "topology.kubernetes.io/zone": "z1",
                        "topology.stowplan.dev/rack": f"r{index // 2}",
                        "nvidia.com/gpu.present": "true",
                        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                        "nvidia.com/gpu.count": str(GPUS_PER_NODE),
                    },
                },
                "status": {"capacity": size, "allocatable": size},
            }
        )

    def apply(self, *objects: Json) -> None:
        """`kubectl apply`; a refusal is an error of the test."""
        answer = self.server.apply(*objects)
        assert answer.code == 0, answer.text

    def job(self, namespace: str, name: str) -> Json:
        """The TrainingJob, or an empty object."""
        answer = self.server.kubectl("-n", namespace, "get", "tj", name, "-o", "json", "--ignore-not-found")
        return json.loads(answer.stdout) if answer.stdout.strip() else {}

    def status(self, namespace: str, name: str) -> Json:
        """The job's status."""
        status: Json = self.job(namespace, name).get("status") or {}
        return status

    def pods(self, namespace: str) -> list[Json]:
        """All pods of a namespace."""
        found: list[Json] = self.server.get("-n", namespace, "pods")["items"]
        return found

    def end_pod(self, namespace: str, name: str, *, exit_code: int) -> None:
        """What a kubelet writes when a container has ended."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        terminated = {
            "exitCode": exit_code,
            "reason": "Error" if exit_code else "Completed",
            "startedAt": now,
            "finishedAt": now,
            "message": "the end of its log",
        }
        container = {"name": "trainer", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        patch = {
            "status": {
                "phase": "Failed" if exit_code else "Succeeded",
                "containerStatuses": [{**container, "state": {"terminated": terminated}}],
            }
        }
        self.server.kubectl(
            *("-n", namespace, "patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps(patch)),
            check=True,
        )

    def wait(self, what: str, condition: Callable[[], object], *, seconds: float = CONVERGE_SECONDS) -> None:
        """Poll until it holds; a TimeoutError says what was awaited."""
        apiserver.wait_until(condition, what=what, timeout_seconds=seconds, every_seconds=0.1)


def training_job(
    name: str,
    *,
    pods: int = 2,
    gpus: int = GPUS_PER_NODE,
    run_seconds: float | None = None,
    priority_class: str = "",
    spec: Mapping[str, Any] | None = None,
) -> Json:
    """A TrainingJob whose pods end by themselves after ``run_seconds``, or never."""
    annotations = {} if run_seconds is None else {RUN_SECONDS: f"{run_seconds}s"}
    return {
        "apiVersion": "stowplan.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
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
def run() -> Iterator[World]:
    """Start everything and end it again."""
    kwok = apiserver.find_program("kwok")
    with apiserver.run(controller_manager=True, scheduler=True) as server, contextlib.ExitStack() as stack:
        server.install_crd()
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
        stack.callback(_stop, process)
        classes = [("stowplan-gang", 0, "Never"), ("urgent", 1000, "PreemptLowerPriority")]
        for name, value, policy in classes:
            server.apply(
                yaml.safe_dump(
                    {
                        "apiVersion": "scheduling.k8s.io/v1",
                        "kind": "PriorityClass",
                        "metadata": {"name": name},
                        "value": value,
                        "preemptionPolicy": policy,
                    }
                )
            )
        server.kubectl("create", "namespace", "stowplan-system", check=True)
        world = World(server)
        stack.callback(world.history.close)
        for index in range(NUM_NODES):
            world.add_node(index)
        apiserver.wait_until(lambda: _are_ready(world), what="kwok nodes ready", timeout_seconds=60)
        yield world


def _are_ready(world: World) -> bool:
    nodes = world.server.get("nodes")["items"]
    return len(nodes) == NUM_NODES and all(
        any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
        and node["status"]["allocatable"].get("nvidia.com/gpu")
        for node in nodes
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
