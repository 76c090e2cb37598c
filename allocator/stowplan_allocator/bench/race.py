"""The gang race: how many accelerators of an empty cluster end up in whole gangs, without an API server.

The workload is written out too, so that another program can run the very same: ``nodes`` with
what each has and ``gangs`` with what one of their pods takes, in the order of the queue. What
must stay true: what is counted is read from the finished placements and the workload alone,
a gang with a pod too few counts as partial and not at all, and the bound leaves out everything
that could make it smaller than the truth: gangs may be cut anywhere, and nodes melt into one.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections import Counter

import click
import pulp

from stowplan_allocator import planner, types
from stowplan_allocator.bench import options, report, workloads

SCHEMA = "stowplan-race/1"


def to_document(snapshot: types.Snapshot) -> dict[str, object]:
    """The workload in plain JSON: amounts are integers, CPUs in thousandths, memory in MiB."""
    return {
        "schema": SCHEMA,
        "levels": list(snapshot.levels),
        "nodes": [
            {
                "name": node.name,
                "product": node.product,
                "accelerators": node.available.accelerators,
                "cpu_milli": node.available.cpu_milli,
                "memory_mib": node.available.memory_mib,
                "topology": list(node.topology),
            }
            for node in snapshot.nodes
        ],
        "gangs": [
            {
                "name": job.id,
                "pods": job.num_pods,
                "accelerators_per_pod": job.pod.accelerators,
                "cpu_milli_per_pod": job.pod.cpu_milli,
                "memory_mib_per_pod": job.pod.memory_mib,
                "products": [choice.product for choice in job.products],
                "required_level": None if job.topology is None else job.topology.level,
            }
            for job in snapshot.jobs
        ],
    }


def linear_bound(snapshot: types.Snapshot) -> float:
    """The most accelerators that gangs could hold if each product were one large node and gangs could be cut."""
    lp = pulp.LpProblem("bound", pulp.LpMaximize)
    room: dict[str, list[int]] = {}
    for node in snapshot.nodes:
        amounts = (node.available.accelerators, node.available.cpu_milli, node.available.memory_mib)
        room[node.product] = [
            have + more for have, more in zip(room.get(node.product, [0, 0, 0]), amounts, strict=True)
        ]
    alike: Counter[tuple[types.Resources, tuple[str, ...]]] = Counter()
    for job in snapshot.jobs:
        products = tuple(choice.product for choice in job.products if choice.product in room)
        if products or not job.products:
            alike[job.pod, products or tuple(room)] += job.num_pods
    terms: dict[str, list[list[tuple[pulp.LpVariable, float]]]] = {product: [[], [], []] for product in room}
    gain = []
    for number, ((pod, products), pods) in enumerate(alike.items()):
        parts = []
        for product in products:
            x = lp.add_variable(f"x{number}_{product}", 0, pods)
            parts.append((x, 1.0))
            gain.append((x, float(pod.accelerators)))
            for row, amount in zip(terms[product], (pod.accelerators, pod.cpu_milli, pod.memory_mib), strict=True):
                row.append((x, float(amount)))
        lp.addConstraint(pulp.LpAffineExpression.from_list(parts) <= pods)
    for product, rows in terms.items():
        for row, have in zip(rows, room[product], strict=True):
            if row:
                lp.addConstraint(pulp.LpAffineExpression.from_list(row) <= have)
    lp.setObjective(pulp.LpAffineExpression.from_list(gain))
    if not gain:
        return 0.0
    stats = lp.solve(pulp.getSolver("HiGHS", msg=False))
    assert stats.objective is not None
    return float(stats.objective)


def score(snapshot: types.Snapshot, *, made: types.Plan) -> tuple[int, int]:
    """Accelerators in whole gangs, and gangs of which some but not all pods have a place."""
    jobs = {job.id: job for job in snapshot.jobs}
    whole = partial = 0
    for job_id, placement in made.placements.items():
        job = jobs[job_id]
        if placement.num_pods == job.num_pods:
            whole += job.num_pods * job.pod.accelerators
        elif placement.num_pods:
            partial += 1
    return whole, partial


@click.command
@click.option("--nodes", default=200, type=options.SOME, show_default=True)
@click.option("--demand", default=1.3, type=options.AMOUNT, show_default=True, help="Accelerators asked for over all.")
@click.option("--seed", default=1, show_default=True)
@click.option("--strategies", default="exact,greedy", show_default=True, help="Separated by commas.")
@click.option("--time-limit", default=10.0, type=options.AMOUNT, show_default=True, help="Of one plan, in seconds.")
@click.option(
    "--workload",
    metavar="FILE",
    callback=options.writable,
    help="Write the workload here; without it, beside the JSON file.",
)
@options.json_file
def command(
    nodes: int, demand: float, seed: int, strategies: str, time_limit: float, workload: str | None, path: str | None
) -> None:
    """Count accelerators in whole gangs on an empty cluster."""
    meter = report.Meter()
    asked = options.listed(strategies, known=types.Strategy, what="strategy")
    snapshot = workloads.race(num_nodes=nodes, demand=demand, seed=seed)
    if workload is None and path not in (None, "-"):
        workload = str(pathlib.Path(str(path)).with_suffix(".workload.json"))
    if workload is not None:
        pathlib.Path(workload).write_text(json.dumps(to_document(snapshot), indent=1) + "\n", encoding="utf-8")
    rows = measure(snapshot, strategies=asked, time_limit=time_limit)
    inputs = {"nodes": nodes, "demand": demand, "seed": seed, "time_limit": time_limit, "workload": workload}
    report.publish("race", inputs=inputs, results=rows, meter=meter, path=path)


def measure(snapshot: types.Snapshot, *, strategies: list[str], time_limit: float) -> list[dict[str, report.Scalar]]:
    """One row for each strategy."""
    asked = sum(job.num_pods * job.pod.accelerators for job in snapshot.jobs)
    bound = min(float(asked), linear_bound(snapshot))
    rows: list[dict[str, report.Scalar]] = []
    for strategy in strategies:
        settings = types.Settings(strategy=types.Strategy(strategy), time_limit_seconds=time_limit)
        started = time.perf_counter()
        made = planner.plan(snapshot, settings)
        seconds = time.perf_counter() - started
        whole, partial = score(snapshot, made=made)
        rows.append(
            {
                "strategy": strategy,
                "gpus_in_whole_gangs_percent": round(100 * whole / bound, 3) if bound else 100.0,
                "partial_gangs": partial,
                "plan_seconds": round(seconds, 4),
                "gpus_in_whole_gangs": whole,
                "gpus_asked": asked,
                "bound": round(bound, 2),
                "gangs": len(snapshot.jobs),
                "gangs_placed": len(made.placements),
                "gap": made.certificate.gap,
                "status": made.certificate.status.value,
            }
        )
    return rows
