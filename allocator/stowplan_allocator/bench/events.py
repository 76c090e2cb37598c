"""How long the simulator takes for long runs: events, decisions and processor time.

Jobs arrive at random (exponential gaps, log-normal run times, sizes from one GPU to gangs of
four whole nodes) at a steady demand. What must stay true: the workload depends on the
arguments alone, and every job that is counted as an event has really been simulated.
"""

from __future__ import annotations

import itertools
import random
import time

import click

from stowplan_allocator import types
from stowplan_allocator.bench import options, report
from stowplan_allocator.simulate import engine, workload

PER_NODE = 8
# (pods, accelerators of a pod, weight)
SIZES = ((1, 1, 50), (1, 2, 15), (1, 4, 15), (1, 8, 12), (2, 8, 5), (4, 8, 3))
MEDIAN_SECONDS, SPREAD = 1200, 1.4


@click.command()
@click.option("--nodes", "num_nodes", type=click.IntRange(4), default=70, show_default=True, help="Of 8 GPUs each.")
@click.option("--jobs", "num_jobs", type=click.IntRange(1), default=500_000, show_default=True)
@click.option("--kinds", "num_kinds", type=click.IntRange(1), default=6, show_default=True, help="Different requests.")
@click.option("--demand", default=0.9, type=options.AMOUNT, show_default=True, help="Of the cluster, on average.")
@click.option("--order", type=click.Choice([one.value for one in types.QueueOrder]), default="age", show_default=True)
@click.option("--seed", default=1, show_default=True)
@options.json_file
def command(
    *, num_nodes: int, num_jobs: int, num_kinds: int, demand: float, order: str, seed: int, path: str | None
) -> None:
    """Simulate a steady cluster with the greedy strategy."""
    meter = report.Meter()
    room = types.Resources(accelerators=PER_NODE, cpu_milli=96_000)
    nodes = [types.Node(f"n{i}", "gpu", room, room) for i in range(num_nodes)]
    jobs = steady(num_jobs, num_accelerators=num_nodes * PER_NODE, num_kinds=num_kinds, demand=demand, seed=seed)
    settings = types.Settings(strategy=types.Strategy.GREEDY, order=types.QueueOrder(order), explain=False)
    began = time.process_time()
    history = engine.simulate(nodes, jobs, settings=settings)
    seconds = time.process_time() - began
    row: report.Row = {
        "nodes": num_nodes,
        "jobs": num_jobs,
        "kinds": len({(s.job.num_pods, s.job.pod) for s in jobs}),
        "demand": demand,
        "events": history.num_events,
        "plans": history.num_plans,
        "jobs_waiting_max": max(sample.jobs_waiting for sample in history.samples),
        "simulate_cpu_seconds": round(seconds, 1),
        "microseconds_per_event": round(seconds / history.num_events * 1e6, 1),
    }
    inputs = {"nodes": num_nodes, "jobs": num_jobs, "kinds": num_kinds, "demand": demand, "order": order, "seed": seed}
    report.publish("events", inputs=inputs, results=[row], meter=meter, path=path)


def steady(
    num_jobs: int, *, num_accelerators: int, num_kinds: int, demand: float, seed: int
) -> list[workload.Submission]:
    """Jobs that ask for ``demand`` of the accelerators on average; kinds beyond the sizes differ in CPUs."""
    chance = random.Random(seed)  # noqa: S311 - a workload, not a secret
    kinds = [
        (pods, types.Resources(accelerators=gpus, cpu_milli=(1 + i // len(SIZES)) * 100 * gpus), weight)
        for i, (pods, gpus, weight) in zip(range(num_kinds), itertools.cycle(SIZES), strict=False)
    ]
    weights = [weight for _, _, weight in kinds]
    run_seconds = [max(1, round(MEDIAN_SECONDS * chance.lognormvariate(0, SPREAD))) for _ in range(num_jobs)]
    chosen = chance.choices(kinds, weights=weights, k=num_jobs)
    work = sum(s * pods * pod.accelerators for s, (pods, pod, _) in zip(run_seconds, chosen, strict=True))
    gap = work / num_jobs / (demand * num_accelerators)
    now, found = 0.0, []
    for i, (seconds, (pods, pod, _)) in enumerate(zip(run_seconds, chosen, strict=True)):
        now += chance.expovariate(1 / gap)
        at = int(now)
        job = types.Job(f"j{i}", f"j{i}", pods, pod, created_at_seconds=at, expected_seconds=seconds)
        found.append(workload.Submission(job, at, seconds))
    return found
