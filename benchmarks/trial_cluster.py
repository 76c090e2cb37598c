"""Figures of the trial cluster for docs/benchmarks.md (needs `make cluster images`).

Runs examples/digits.yaml several times, reads the operator's own metrics through the API server, and prints one
table and one JSON line. Wall times on shared machines are noisy: quote them with the load that is printed.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

import click
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kind.cluster import SYSTEM, Cluster, Workspace  # noqa: E402 - found through the path above

NAMESPACE = "benchmark"


def operator_metrics(cluster: Cluster) -> dict[str, float]:
    """The operator's metrics without labels, by name."""
    pod = cluster.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=stowplan")["items"][0]["metadata"]["name"]
    text = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics")
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.name: sample.value for sample in samples if not sample.labels}


def run_digits(workspace: Workspace) -> dict[str, float]:
    """Seconds from apply to placement, to all pods running, to the first reported step, and to the end."""
    marks: dict[str, float] = {}
    workspace.delete("digits")
    began = time.monotonic()
    workspace.apply(yaml.safe_load((ROOT / "examples" / "digits.yaml").read_text()))

    def mark(name: str, is_there: object) -> None:
        if is_there and name not in marks:
            marks[name] = time.monotonic() - began

    def look(status: dict[str, Any]) -> bool:
        mark("placed_s", status.get("placement"))
        mark("running_s", (status.get("placement") or {}).get("startedAt"))
        mark("first_step_s", (status.get("progress") or {}).get("step"))
        mark("succeeded_s", status.get("phase") == "Succeeded")
        return "succeeded_s" in marks

    workspace.wait_status("digits", "the end", look, seconds=300)
    return marks


def image_sizes(cluster: Cluster) -> dict[str, float]:
    """Uncompressed sizes in MB."""
    sizes = {}
    for name in ("operator", "trainer"):
        raw = cluster.run("docker", "image", "inspect", "--format", "{{.Size}}", f"stowplan/{name}:dev")
        sizes[f"{name}_image_mb"] = int(raw) / 1e6
    return sizes


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True, help="How often digits is run.")
def main(runs: int) -> None:
    """Measure and print."""
    cluster = Cluster()
    cluster.helm_install()
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    workspace = Workspace(cluster, NAMESPACE)
    try:
        marks = [run_digits(workspace) for _ in range(runs)]
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false", check=False)
    metrics = operator_metrics(cluster)
    count = metrics["stowplan_planner_cycle_seconds_count"]
    results: dict[str, float] = {
        **{name: statistics.median(run[name] for run in marks) for name in marks[0]},
        "operator_rss_mib": metrics["process_resident_memory_bytes"] / 2**20,
        "planner_cycles": count,
        "planner_cycle_mean_ms": 1000 * metrics["stowplan_planner_cycle_seconds_sum"] / count,
        **image_sizes(cluster),
        "load_1m": os.getloadavg()[0],
    }
    for name, value in results.items():
        print(f"{name:24}{value:10.1f}")
    print(json.dumps({"runs": runs, "results": [results]}))


if __name__ == "__main__":
    main()
