"""How fast gangs recover on the trial cluster, for docs/reliability.md (needs `make cluster images`).

Worker death: the first worker process of rank 1 gets SIGKILL in mid-training. Measured from the kill: pods of the next
attempt seen, all of them running, and the first new step reported. Node loss: the node (a container) is paused, so that
its kubelet falls silent; measured from the pause. Times are of one machine's clock; what a watch shows is late by at
most its own delay, so the figures are upper bounds.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kind.cluster import CHECKPOINT_CLAIM, Cluster, Workspace, digits, wait_for  # noqa: E402 - found through the path above

NAMESPACE = "benchmark-recovery"
JOB = "digits"
KILL_A_WORKER = """
import os, pathlib, signal, time
workers = [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()
           and (p / "stat").read_text().rsplit(")", 1)[1].split()[1] == "1"]
os.kill(min(workers), signal.SIGKILL)
print(time.time())
"""


class PodWatch:
    """When each pod was first seen, and first seen running (Unix seconds)."""

    def __init__(self, workspace: Workspace) -> None:
        columns = "custom-columns=NAME:.metadata.name,PHASE:.status.phase"
        self._process = subprocess.Popen(
            ["kubectl", "-n", workspace.namespace, "get", "pods", "--watch", "--no-headers", "-o", columns],
            env=workspace.cluster.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.seen: dict[str, float] = {}
        self.running: dict[str, float] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now = time.time()
            name, phase = line.split()
            self.seen.setdefault(name, now)
            if phase == "Running":
                self.running.setdefault(name, now)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


def attempt_of(pods: dict[str, float], attempt: int) -> list[float]:
    """The times of the pods of an attempt."""
    return [at for name, at in pods.items() if name.startswith(f"{JOB}-{attempt}-")]


def start(workspace: Workspace, *, gpus: int) -> int:
    """A fresh gang of two pods in mid-training; the step of its last committed checkpoint."""
    workspace.kubectl("delete", "tj", JOB, "--ignore-not-found", "--wait=true")
    wait_for("the last gang is gone", lambda: not workspace.pods(JOB), seconds=180)
    workspace.kubectl("delete", "pvc", "--all", "--wait=true")
    workspace.apply(CHECKPOINT_CLAIM)
    workspace.apply(digits(JOB, step_seconds=0.3, resourcesPerNode={"nvidia.com/gpu": gpus}))
    status = workspace.wait_status(
        JOB, "a checkpoint", lambda one: (one.get("progress") or {}).get("checkpointStep", 0) >= 20, seconds=180
    )
    return int(status["progress"]["checkpointStep"])


def recovery(workspace: Workspace, watch: PodWatch, *, since: float, committed: int) -> dict[str, float]:
    """Seconds from ``since`` until attempt 2 has its pods, runs, and reports a step that it made itself."""

    def has_stepped(status: dict[str, Any]) -> bool:
        progress = status.get("progress") or {}
        return bool(progress.get("attempt") == 2 and progress.get("step", 0) > progress.get("firstStep", math.inf))

    status = workspace.wait_status(JOB, "a step of attempt 2", has_stepped, seconds=240)
    stepped = time.time()
    return {
        "pods_s": max(attempt_of(watch.seen, 2)) - since,
        "running_s": max(attempt_of(watch.running, 2)) - since,
        "step_s": stepped - since,
        # Of what was committed before the fault: must be none.
        "lost_steps": float(max(0, committed - int(status["progress"]["firstStep"]))),
    }


def worker_death(workspace: Workspace) -> dict[str, float]:
    """One trial."""
    committed = start(workspace, gpus=4)
    watch = PodWatch(workspace)
    try:
        killed = float(workspace.kubectl("exec", f"{JOB}-1-1", "--", "python3", "-c", KILL_A_WORKER))
        return recovery(workspace, watch, since=killed, committed=committed)
    finally:
        watch.close()


def node_loss(workspace: Workspace) -> dict[str, float]:
    """One trial; nodes with the operator, Prometheus or the volumes' server on them are not the ones that are lost."""
    cluster = workspace.cluster
    needed = {
        pod["spec"].get("nodeName")
        for pod in cluster.get("pods", "-A")["items"]
        if pod["metadata"]["namespace"] in ("stowplan-system", "monitoring", "shared-storage", "kube-system")
        and not any(owner["kind"] in ("DaemonSet", "Node") for owner in pod["metadata"].get("ownerReferences", ()))
    }
    for node in sorted(needed):
        cluster.kubectl("cordon", node)
    try:
        committed = start(workspace, gpus=2)
    finally:
        for node in sorted(needed):
            cluster.kubectl("uncordon", node)
    nodes = {pod["spec"]["nodeName"] for pod in workspace.pods(JOB)}
    victim = min(nodes)
    watch = PodWatch(workspace)
    cluster.run("docker", "pause", victim)
    try:
        return recovery(workspace, watch, since=time.time(), committed=committed)
    finally:
        cluster.run("docker", "unpause", victim)
        watch.close()
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{victim}", "--timeout=120s")
        wait_for("pods of attempt 1 gone", lambda: len(workspace.pods(JOB)) <= 2, seconds=120)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def table(name: str, trials: Sequence[dict[str, float]]) -> Iterator[str]:
    """Median, 95th percentile and maximum of each figure."""
    for key in trials[0] if trials else ():
        values = [trial[key] for trial in trials]
        yield (
            f"{name:14}{key:12}n {len(values):3}  p50 {quantile(values, 0.5):6.1f}  p95 {quantile(values, 0.95):6.1f}"
            f"  max {max(values):6.1f}"
        )


@click.command(help=__doc__)
@click.option("--workers", default=20, show_default=True, help="Deaths of a worker.")
@click.option("--nodes", default=3, show_default=True, help="Losses of a node.")
def main(workers: int, nodes: int) -> None:
    """Measure and print."""
    cluster = Cluster()
    cluster.helm_install()
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    workspace = Workspace(cluster, NAMESPACE)
    results: dict[str, list[dict[str, float]]] = {"worker death": [], "node loss": []}
    try:
        for _ in range(workers):
            results["worker death"].append(worker_death(workspace))
            print(results["worker death"][-1], flush=True)
        for _ in range(nodes):
            results["node loss"].append(node_loss(workspace))
            print(results["node loss"][-1], flush=True)
    finally:
        cluster.kubectl("delete", "tj", "--all", "-n", NAMESPACE, "--wait=true", check=False)
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false", check=False)
    for name, trials in results.items():
        for line in table(name, trials):
            print(line)
    print(json.dumps({"load_1m": os.getloadavg()[0], "results": results}))


if __name__ == "__main__":
    main()
