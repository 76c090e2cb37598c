"""The trial cluster as tests see it: kubectl, helm and waiting, with errors that say what the cluster showed.

What must stay true: every wait has a limit and its error carries the object's last state; nothing outside the
test's own namespace is changed, except where a test says so (cordon, faults of the GPU mock) and takes it back.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
VALUES = pathlib.Path(__file__).with_name("values.yaml")
SYSTEM = "stowplan-system"
H100 = "NVIDIA-H100-80GB-HBM3"
A100 = "NVIDIA-A100-SXM4-80GB"
TRAINER = "docker.io/stowplan/trainer:dev"
Json = dict[str, Any]


def environment() -> dict[str, str]:
    """The process environment plus what `make cluster` wrote: KUBECONFIG, DOCKER_HOST, PATH."""
    cache = os.environ.get("STOWPLAN_CACHE") or str(
        pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "stowplan"
    )
    file = pathlib.Path(cache) / "cluster" / "env"
    if not file.exists():
        raise LookupError("there is no trial cluster; run `make cluster images`")
    script = f"set -a; source {file}; env -0"
    text = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


class CommandError(AssertionError):
    """A command failed; the text has what it printed."""


class Cluster:
    """The trial cluster."""

    def __init__(self) -> None:
        self.env = environment()

    def run(self, *command: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Run a command in the cluster's environment; its standard output."""
        done = subprocess.run(
            command, input=stdin, env=self.env, capture_output=True, text=True, timeout=timeout, cwd=ROOT
        )
        if check and done.returncode:
            raise CommandError(f"{' '.join(command)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl."""
        return self.run("kubectl", *args, stdin=stdin, check=check)

    def get(self, *args: str) -> Json:
        """`kubectl get … -o json`."""
        answer: Json = json.loads(self.kubectl("get", *args, "-o", "json"))
        return answer

    def apply(self, manifest: Json | list[Json], namespace: str) -> None:
        """Apply manifests."""
        documents = manifest if isinstance(manifest, list) else [manifest]
        self.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(documents))

    def helm_install(self, *args: str) -> None:
        """Install or upgrade the chart from this checkout, and wait until the operator is ready."""
        self.run(str(ROOT / "hack/install.sh"), *args, timeout=240)

    def stowplan(self, *args: str, check: bool = True) -> str:
        """Run the command line interface as users do."""
        return self.run(str(ROOT / ".venv/bin/kubectl-stowplan"), *args, check=check)


def wait_for[T](what: str, probe: Callable[[], T | None], *, seconds: float, show: Callable[[], object] = str) -> T:
    """Poll until the probe gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}\nlast state: {show()}")
        time.sleep(0.3)


class Workspace:
    """One namespace, at Pod Security level `restricted`, in which one test works."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def apply(self, manifest: Json | list[Json]) -> None:
        """Apply manifests here."""
        self.cluster.apply(manifest, self.namespace)

    def kubectl(self, *args: str, check: bool = True) -> str:
        """Run kubectl here."""
        return self.cluster.kubectl("-n", self.namespace, *args, check=check)

    def job(self, name: str) -> Json:
        """The TrainingJob."""
        return self.cluster.get("-n", self.namespace, "tj", name)

    def status(self, name: str) -> Json:
        """The TrainingJob's status."""
        status: Json = self.job(name).get("status") or {}
        return status

    def pods(self, job: str) -> list[Json]:
        """The job's pods, by name."""
        items: list[Json] = self.cluster.get("-n", self.namespace, "pods", "-l", f"stowplan.dev/job={job}")["items"]
        return sorted(items, key=lambda pod: pod["metadata"]["name"])

    def wait_status(self, name: str, what: str, test: Callable[[Json], object], *, seconds: float = 60) -> Json:
        """Wait until the status passes the test; the status."""

        def probe() -> Json | None:
            status = self.status(name)
            return status if test(status) else None

        return wait_for(f"{name}: {what}", probe, seconds=seconds, show=lambda: self.describe(name))

    def wait_phase(self, name: str, phase: str, *, seconds: float = 60) -> Json:
        """Wait for a phase; fails at once when the job ends in another one."""

        def test(status: Json) -> bool:
            actual = status.get("phase")
            if actual in ("Succeeded", "Failed") and actual != phase:
                raise AssertionError(f"{name} is {actual}, not {phase}\n{self.describe(name)}")
            return bool(actual == phase)

        return self.wait_status(name, f"phase {phase}", test, seconds=seconds)

    def describe(self, name: str) -> str:
        """Status and pods, for errors."""
        pods = self.kubectl("get", "pods", "-o", "wide", check=False)
        return yaml.safe_dump(self.status(name)) + pods

    def delete(self, name: str) -> None:
        """Delete the job and wait until its pods have left."""
        self.kubectl("delete", "tj", name, "--ignore-not-found", "--wait=true")
        wait_for(f"pods of {name} gone", lambda: not self.pods(name), seconds=60)


def training_job(name: str, **spec: Any) -> Json:
    """A TrainingJob; by default two pods of two GPUs that sleep, and end on SIGTERM (sleep as process 1 ignores it)."""
    defaults: Json = {
        "image": TRAINER,
        "command": ["timeout", "900", "sleep", "600"],
        "numNodes": 2,
        "resourcesPerNode": {"nvidia.com/gpu": 2},
    }
    return {
        "apiVersion": "stowplan.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {**defaults, **spec},
    }


CHECKPOINT_CLAIM: Json = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "checkpoints"},
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "stowplan-shared",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


def digits(name: str, *, step_seconds: float = 0.0, **spec: Any) -> Json:
    """The digits example on two whole H100 nodes with two processes each, checkpointed to the shared volume."""
    command = ["torchrun", "-m", "stowplan_trainer.examples.digits", "--checkpoint-every", "10"]
    if step_seconds:
        command += ["--step-seconds", str(step_seconds)]
    defaults: Json = {
        "command": command,
        "numProcPerNode": 2,
        "resourcesPerNode": {"nvidia.com/gpu": 4},
        "accelerators": [{"product": H100}],
        "checkpoint": {"persistentVolumeClaim": CHECKPOINT_CLAIM["metadata"]["name"], "path": "/ckpt"},
    }
    return training_job(name, **{**defaults, **spec})


def placed_nodes(status: Mapping[str, Any]) -> dict[str, str]:
    """Node → ranks of the status' placement."""
    return {share["name"]: share["ranks"] for share in status["placement"]["nodes"]}
