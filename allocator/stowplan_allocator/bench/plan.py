"""How long one plan takes: the whole queue of a steady cluster, and one job that arrives in it.

What must stay true: what is timed is ``plan()`` as everyone calls it, with its checks and its
reasons; every timed call gets a snapshot that it has not seen; and a plan that proves little
shows that in the same row.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import click

from stowplan_allocator import planner, types
from stowplan_allocator.bench import options, report, workloads
from stowplan_allocator.memory import Memory
from stowplan_allocator.worker import PlannerWorker

CASES = (
    "all that wait",
    "one arrives",
    "one arrives, no memory",
    "one arrives, worker",
    "one arrives, others wait",
    "one arrives, others wait, no memory",
    "one arrives, others wait, worker",
)
IN_QUEUES = ", in queues"


@dataclasses.dataclass(slots=True)
class Timed:
    """The plans of one case and how long each took, in wall and in CPU time."""

    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)
    plans: list[types.Plan] = dataclasses.field(default_factory=list)

    def extend(self, other: Timed) -> None:
        """Take in what another one timed."""
        self.wall += other.wall
        self.cpu += other.cpu
        self.plans += other.plans

    def add(self, snapshot: types.Snapshot, settings: types.Settings, *, memory: Memory | None = None) -> types.Plan:
        """Time one plan."""
        started, used = time.perf_counter(), time.process_time()
        made = planner.plan(snapshot, settings, memory=memory)
        self.wall.append(time.perf_counter() - started)
        self.cpu.append(time.process_time() - used)
        self.plans.append(made)
        return made


async def through_worker(
    before: types.Snapshot, *, arrivals: Sequence[types.Snapshot], settings: types.Settings, timed: Timed
) -> None:
    """Time what the operator waits for: what is new goes to the worker, its plan comes back. CPU is the caller's."""
    solver = PlannerWorker()
    try:
        await solver.plan(before, settings)
        for one in arrivals:
            started, used = time.perf_counter(), time.process_time()
            timed.plans.append(await solver.plan(one, settings))
            timed.wall.append(time.perf_counter() - started)
            timed.cpu.append(time.process_time() - used)
    finally:
        await solver.aclose()


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many in a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def describe(case: str, timed: Timed, *, snapshot: types.Snapshot) -> dict[str, report.Scalar]:
    """One row of the table."""
    waiting = sum(job.placement is None for job in snapshot.jobs)
    plans = timed.plans
    worst = max(plans, key=lambda made: made.certificate.gap)
    statuses = sorted({made.certificate.status.value for made in plans})
    unproven = sorted(
        {
            tier.name.split(" at ")[0]
            for made in plans
            for tier in made.certificate.tiers
            if tier.status is not types.SolveStatus.OPTIMAL
        }
    )
    phases: dict[str, float] = {}
    for made in plans:
        for name, seconds in made.certificate.phases:
            phases[name] = phases.get(name, 0.0) + seconds / len(plans)
    return {
        "case": case,
        "nodes": len(snapshot.nodes),
        "jobs": waiting,
        "running": len(snapshot.jobs) - waiting,
        "placed": len(plans[-1].placements),
        "plan_seconds_p50": round(percentile(timed.wall, 50), 4),
        "plan_seconds_p95": round(percentile(timed.wall, 95), 4),
        "cpu_seconds_p95": round(percentile(timed.cpu, 95), 4),
        "gap": worst.certificate.gap,
        "status": "/".join(statuses),
        "unproven": ", ".join(unproven),
        **{f"{name}_seconds": round(seconds, 4) for name, seconds in phases.items()},
    }


def settled(snapshot: types.Snapshot, *, made: types.Plan, backlog: bool) -> types.Snapshot:
    """The snapshot after the plan: what was placed runs, and one in fifty has ended; others wait on, or are gone."""
    jobs = []
    for i, job in enumerate(snapshot.jobs):
        placement = job.placement or made.placements.get(job.id)
        if placement is None and backlog:
            jobs.append(job)
        elif placement is not None and (i % 50 or backlog):
            jobs.append(dataclasses.replace(job, placement=placement))
    return dataclasses.replace(snapshot, jobs=tuple(jobs))


def arrival(snapshot: types.Snapshot, *, number: int) -> types.Snapshot:
    """The same with one more job."""
    now = 1 + max(job.created_at_seconds for job in snapshot.jobs)
    pod = types.Resources(1 + number % 2, 8_000, 50_000)
    queue = snapshot.jobs[number % len(snapshot.jobs)].queue
    new = types.Job(f"new{number}", f"new{number}", 4, pod, created_at_seconds=now, queue=queue)
    return dataclasses.replace(snapshot, jobs=(*snapshot.jobs, new))


@click.command
@click.option("--nodes", default=5_000, type=options.SOME, show_default=True)
@click.option("--jobs", default=1_000, type=options.SOME, show_default=True, help="Waiting jobs.")
@click.option("--running", default=3_000, type=options.SOME_OR_NONE, show_default=True, help="Jobs placed before.")
@click.option(
    "--shapes", default=60, type=options.SOME, show_default=True, help="Different shapes; 1: gangs of 8 pods."
)
@click.option("--demand", default=1.1, type=options.AMOUNT, show_default=True, help="Accelerators asked for over all.")
@click.option("--mix", type=click.Choice([mix.value for mix in workloads.Mix]), default="plain", show_default=True)
@click.option(
    "--queues", default=0, type=options.SOME_OR_NONE, show_default=True, help="Time all cases with so many queues, too."
)
@click.option("--nodes-per-rack", default=workloads.NODES_PER_RACK, type=options.SOME, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Of the first workload; each further one has the next.")
@click.option(
    "--workloads", "num_workloads", default=3, type=options.SOME, show_default=True, help="Different workloads."
)
@click.option(
    "--repeats", default=3, type=options.SOME, show_default=True, help="Plans of each workload that are timed."
)
@click.option(
    "--warm-up", default=1, type=options.SOME_OR_NONE, show_default=True, help="Plans before them that are not."
)
@click.option("--time-limit", default=10.0, type=options.AMOUNT, show_default=True, help="Of one plan, in seconds.")
@click.option("--strategy", type=click.Choice([one.value for one in types.Strategy]), default="exact")
@options.json_file
def command(path: str | None, **inputs: object) -> None:
    """Time whole plans and the arrival of one job."""
    meter = report.Meter()
    rows = measure(**inputs)  # type: ignore[arg-type]  # click hands options over untyped
    report.publish("plan", inputs=inputs, results=rows, meter=meter, path=path)


def measure(
    *,
    nodes: int,
    jobs: int,
    running: int,
    shapes: int,
    demand: float,
    mix: str,
    queues: int,
    nodes_per_rack: int,
    seed: int,
    num_workloads: int,
    repeats: int,
    warm_up: int,
    time_limit: float,
    strategy: str,
) -> list[dict[str, report.Scalar]]:
    """The rows of one benchmark."""
    settings = types.Settings(strategy=types.Strategy(strategy), time_limit_seconds=time_limit)
    cases: dict[str, Timed] = {}
    last: dict[str, types.Snapshot] = {}
    for number in range(num_workloads):
        plain = workloads.steady(
            num_nodes=nodes,
            num_jobs=jobs,
            num_running=running,
            num_shapes=shapes,
            seed=seed + number,
            demand=demand,
            mix=workloads.Mix(mix),
            nodes_per_rack=nodes_per_rack,
        )
        divided = workloads.in_queues(plain, num_queues=queues, seed=seed + number)
        for snapshot, suffix in ((plain, ""), (divided, IN_QUEUES))[: 2 if queues else 1]:
            for _ in range(warm_up):
                planner.plan(snapshot, settings)
            found = _time_cases(snapshot, settings, repeats=repeats)
            for name, (timed, shown) in found.items():
                cases.setdefault(f"{name}{suffix}", Timed()).extend(timed)
                last[f"{name}{suffix}"] = shown
    return [
        describe(name, timed, snapshot=last[name]) | (_ratios(name, cases) if queues else {})
        for name, timed in cases.items()
    ]


def _time_cases(
    snapshot: types.Snapshot, settings: types.Settings, *, repeats: int
) -> dict[str, tuple[Timed, types.Snapshot]]:
    """All cases for one workload, each with the last snapshot that was planned."""
    cases = {name: Timed() for name in CASES}
    last = {"all that wait": snapshot}
    for _ in range(repeats):
        made = cases["all that wait"].add(snapshot, settings)
    for name, backlog in (("one arrives", False), ("one arrives, others wait", True)):
        after = settled(snapshot, made=made, backlog=backlog)
        arrivals = [arrival(after, number=i) for i in range(repeats)]
        for kind in (name, f"{name}, no memory", f"{name}, worker"):
            last[kind] = arrivals[-1]
        memory = Memory()
        planner.plan(after, settings, memory=memory)
        for one in arrivals:
            cases[name].add(one, settings, memory=memory)
            cases[f"{name}, no memory"].add(one, settings)
        asyncio.run(through_worker(after, arrivals=arrivals, settings=settings, timed=cases[f"{name}, worker"]))
    return {name: (timed, last[name]) for name, timed in cases.items()}


def _ratios(case: str, cases: Mapping[str, Timed]) -> dict[str, report.Scalar]:
    """How much longer the case takes than the same one without queues."""
    timed, plain = cases[case], cases[case.removesuffix(IN_QUEUES)]
    return {
        "ratio_p50": round(percentile(timed.wall, 50) / percentile(plain.wall, 50), 2),
        "ratio_p95": round(percentile(timed.wall, 95) / percentile(plain.wall, 95), 2),
        "ratio_cpu_p50": round(percentile(timed.cpu, 50) / percentile(plain.cpu, 50), 2),
    }
