"""What answers cost beside a plan: evictions within it, alternatives for one job, and a forecast for all.

What must stay true: the same seeded cluster for every question; what is timed is what everyone
calls; and a row says how much was left untried or unproven in its time.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import time
from collections.abc import Callable

import click

from stowplan_allocator import alternatives, decisions, forecast, planner, types
from stowplan_allocator.bench import options, report, workloads

LONGEST_SECONDS = 36_000
HIGH_PRIORITY = 5


def cluster(
    *, nodes: int, jobs: int, running: int, shapes: int, demand: float, urgent: int, seed: int
) -> types.Snapshot:
    """A steady cluster: every end is estimated, every running job may be disturbed, and some jobs are urgent."""
    steady = workloads.steady(
        num_nodes=nodes, num_jobs=jobs, num_running=running, num_shapes=shapes, seed=seed, demand=demand
    )
    rng = random.Random(f"explain {seed}")  # noqa: S311 - a workload is no secret
    changed = []
    waiting = 0
    for job in steady.jobs:
        seconds = rng.randint(60, LONGEST_SECONDS)
        lost = job.num_pods * job.pod.accelerators * rng.randint(60, 7_200)
        if job.placement is not None:
            changed.append(dataclasses.replace(job, expected_seconds=seconds, disruption_cost=lost, priority=0))
            continue
        urgently = urgent > 0 and waiting % max(jobs // urgent, 1) == 0
        waiting += 1
        priority = HIGH_PRIORITY if urgently else 0
        changed.append(dataclasses.replace(job, expected_seconds=seconds, priority=priority))
    return dataclasses.replace(steady, jobs=tuple(changed))


def timed[Answer](question: Callable[[], Answer]) -> tuple[Answer, dict[str, report.Scalar]]:
    """The answer, and what it took."""
    started, used = time.perf_counter(), time.process_time()
    answer = question()
    return answer, {
        "wall_seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time() - used, 3),
    }


@click.command
@click.option("--nodes", default=1_000, type=options.SOME, show_default=True)
@click.option("--jobs", default=300, type=options.SOME, show_default=True, help="Waiting jobs.")
@click.option("--running", default=1_000, type=options.SOME_OR_NONE, show_default=True, help="Running jobs.")
@click.option("--shapes", default=60, type=options.SOME, show_default=True)
@click.option("--demand", default=1.3, type=options.AMOUNT, show_default=True, help="Accelerators asked for over all.")
@click.option(
    "--urgent",
    default=20,
    type=options.SOME_OR_NONE,
    show_default=True,
    help="Waiting jobs that rank above all that run.",
)
@click.option(
    "--asked", default=5, type=options.SOME_OR_NONE, show_default=True, help="Waiting jobs to find alternatives for."
)
@click.option(
    "--budget",
    default=60.0,
    type=options.AMOUNT,
    show_default=True,
    help="For the alternatives of one job, in seconds.",
)
@click.option("--time-limit", default=10.0, type=options.AMOUNT, show_default=True, help="Of one plan, in seconds.")
@click.option("--seed", default=1, show_default=True)
@options.json_file
def command(path: str | None, **inputs: object) -> None:
    """Time evictions, alternatives and forecasts beside a plan."""
    meter = report.Meter()
    rows = measure(**inputs)  # type: ignore[arg-type]  # click hands options over untyped
    report.publish("explain", inputs=inputs, results=rows, meter=meter, path=path)


def measure(
    *,
    nodes: int,
    jobs: int,
    running: int,
    shapes: int,
    demand: float,
    urgent: int,
    asked: int,
    budget: float,
    time_limit: float,
    seed: int,
) -> list[dict[str, report.Scalar]]:
    """One row for each question."""
    snapshot = cluster(nodes=nodes, jobs=jobs, running=running, shapes=shapes, demand=demand, urgent=urgent, seed=seed)
    settings = types.Settings(time_limit_seconds=time_limit)
    planner.plan(snapshot, settings)  # loads the solver
    rows = []
    made, cost = timed(lambda: planner.plan(snapshot, settings))
    rows.append({"question": "plan", "answers": len(made.placements), "plans": 1, **cost, "left": ""})
    evicting = dataclasses.replace(settings, preemption=types.Preemption.LOWER_PRIORITY)
    preempted, cost = timed(lambda: planner.plan(snapshot, evicting))
    gaps = [f"gap {tier.gap:.2%}" for tier in preempted.certificate.tiers if tier.name == decisions.TIER]
    rows.append(
        {
            "question": f"plan that evicts {len(preempted.evictions)} for {len(preempted.held)}",
            "answers": len(preempted.held),
            "plans": 1,
            **cost,
            "left": ", ".join(gaps),
        }
    )
    waiting = list(made.waiting)
    for name in waiting[:: max(len(waiting) // max(asked, 1), 1)][:asked]:
        found, cost = timed(
            functools.partial(alternatives.explore, snapshot, name, settings=settings, budget_seconds=budget)
        )
        rows.append(
            {
                "question": f"alternatives for {name}",
                "answers": len(found.alternatives),
                "plans": found.num_plans,
                **cost,
                "left": ", ".join(found.not_tried),
            }
        )
    greedy = dataclasses.replace(settings, strategy=types.Strategy.GREEDY)
    starts, cost = timed(lambda: forecast.predict_starts(snapshot, settings=greedy))
    known = sum(one.starts_at_seconds is not None for one in starts.values())
    rows.append(
        {"question": "forecast, greedy", "answers": known, "plans": "", **cost, "left": str(len(starts) - known)}
    )
    return rows
