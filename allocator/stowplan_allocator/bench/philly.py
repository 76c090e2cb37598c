"""Policies on a window of the Philly trace: completion times, queueing and utilisation.

The whole window is simulated with every policy; only jobs submitted from a given day on are
counted, so that the cluster is warm and nothing is reported on the days that policies were
tuned on. What must stay true: all policies meet the same jobs, nodes and moments; a job of
more GPUs than a node has is a gang of whole nodes; every counted job has ended.
"""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Iterable, Sequence

import click

from stowplan_allocator import inputs, types
from stowplan_allocator.bench import options, philly_estimates, philly_policies, report
from stowplan_allocator.simulate import engine, failures, records, workload
from stowplan_allocator.simulate.traces import philly

DAY = 86_400
WARM_DAYS = 14


@click.command(epilog="\b\n" + "\n".join(f"{name}: {one.what}" for name, one in philly_policies.POLICIES.items()))
@click.option("--csv", "csv_path", metavar="FILE", required=True, help="timestamp, duration, num_gpus, cluster.")
@click.option("--gpus", default=560, type=options.SOME, show_default=True)
@click.option("--gpus-per-node", default=8, type=options.SOME, show_default=True)
@click.option("--policies", "names", metavar="A,B", default=",".join(philly_policies.QUICK), show_default=True)
@click.option(
    "--sigma",
    default=1.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Of the logarithm of the error of users' estimates.",
)
@click.option("--seed", default=1, show_default=True, help="Of the users' errors.")
@click.option("--count-from-day", "first_day", type=int, help="Default: 14, the third week; 0 in a shorter window.")
@options.json_file
def command(
    *,
    csv_path: str,
    gpus: int,
    gpus_per_node: int,
    names: str,
    sigma: float,
    seed: int,
    first_day: int | None,
    path: str | None,
) -> None:
    """Replay jobs under several policies."""
    meter = report.Meter()
    chosen = options.listed(names, known=philly_policies.POLICIES, what="policy")
    try:
        nodes = philly.nodes(gpus, per_node=gpus_per_node)
        everything = philly.submissions(philly.read(pathlib.Path(csv_path)), per_node=gpus_per_node)
    except inputs.InputError as error:
        raise click.ClickException(str(error)) from error
    submissions = [one for one in everything if fits(one.job, nodes=nodes)]
    if first_day is None:
        third_week = midnight(submissions) + WARM_DAYS * DAY
        first_day = WARM_DAYS if any(one.submitted_seconds >= third_week for one in submissions) else 0
    rows = compare(nodes, submissions, names=chosen, sigma=sigma, seed=seed, first_day=first_day)
    asked = {
        "csv": pathlib.Path(csv_path).name,
        "jobs": len(submissions),
        "jobs_larger_than_the_cluster": len(everything) - len(submissions),
        "gpus": gpus,
        "gpus_per_node": gpus_per_node,
        "policies": chosen,
        "sigma": sigma,
        "seed": seed,
        "count_from_day": first_day,
    }
    report.publish("philly", inputs=asked, results=rows, meter=meter, path=path)


def fits(job: types.Job, *, nodes: Sequence[types.Node]) -> bool:
    """Whether the empty cluster holds the job; what it never can hold is left out, for every policy."""
    return sum(node.available.accelerators // max(1, job.pod.accelerators) for node in nodes) >= job.num_pods


def compare(
    nodes: Sequence[types.Node],
    submissions: Sequence[workload.Submission],
    *,
    names: Sequence[str],
    sigma: float,
    seed: int,
    first_day: int,
) -> list[dict[str, report.Scalar]]:
    """One row for each policy."""
    said = philly_estimates.as_users_say(submissions, sigma=sigma, seed=seed)
    count_from = midnight(submissions) + first_day * DAY
    return [run(name, nodes, submissions, said=said, count_from=count_from) for name in names]


def midnight(submissions: Sequence[workload.Submission]) -> int:
    """The beginning, in UTC, of the first day."""
    return min((one.submitted_seconds for one in submissions), default=0) // DAY * DAY


def run(
    name: str,
    nodes: Sequence[types.Node],
    submissions: Sequence[workload.Submission],
    *,
    said: Sequence[workload.Submission],
    count_from: int,
) -> dict[str, report.Scalar]:
    """Simulate one policy and measure the jobs submitted from ``count_from`` on."""
    policy = philly_policies.POLICIES[name]
    seen = said if policy.sees_estimates else submissions
    began = time.process_time()
    if name == "no-wait":
        jobs = tuple(starting_at_once(submission) for submission in seen)
    else:
        options = engine.Options(
            sample_every_seconds=DAY, restarts=failures.Restarts(restart_seconds=policy.restart_seconds)
        )
        settings = types.Settings(strategy=types.Strategy.GREEDY, explain=False)
        made = philly_policies.decider(name, nodes, seen)
        jobs = engine.simulate(nodes, seen, settings=settings, options=options, decider=made).jobs
    capacity = sum(node.available.accelerators for node in nodes)
    counted = [job for job in jobs if job.submitted_seconds >= count_from]
    until = max((job.submitted_seconds for job in jobs), default=0)
    return {
        "policy": name,
        **figures(counted),
        "utilisation": round(busy(jobs, since=count_from, until=until) / max(1, capacity * (until - count_from)), 4),
        "preemptions": sum(run.outcome is records.Outcome.PREEMPTED for job in counted for run in job.runs),
        "lost_gpu_hours": round(sum(job.lost_seconds * accelerators(job) for job in counted) / 3600),
        "jobs": len(counted),
        "jct_mean_all_days_s": figures(jobs)["jct_mean_s"],
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def figures(jobs: Sequence[records.JobRecord]) -> dict[str, report.Scalar]:
    """Completion and queueing of jobs that have all ended."""
    times = sorted(job.completion_seconds for job in jobs if job.completion_seconds is not None)
    waits = [job.queue_seconds for job in jobs if job.queue_seconds is not None]
    if len(times) < len(jobs):
        raise click.ClickException(f"{len(jobs) - len(times)} jobs never end under this policy")
    if not times:
        raise click.ClickException("no job was submitted in the days that are counted; try --count-from-day 0")
    stretches = [(job.completion_seconds or 0) / max(60, job.run_seconds - job.lost_seconds) for job in jobs]
    return {
        "jct_mean_s": round(sum(times) / len(times)),
        "jct_p95_s": times[math.ceil(0.95 * len(times)) - 1],
        "queue_mean_s": round(sum(waits) / len(waits)),
        "queue_max_s": max(waits),
        "stretch_p99": round(sorted(stretches)[math.ceil(0.99 * len(stretches)) - 1], 2),
    }


def busy(jobs: Iterable[records.JobRecord], *, since: int, until: int) -> int:
    """Accelerator-seconds held between two moments."""
    return sum(
        max(0, min(run.end_seconds, until) - max(run.start_seconds, since)) * accelerators(job)
        for job in jobs
        for run in job.runs
    )


def accelerators(job: records.JobRecord) -> int:
    """What the job holds while it runs."""
    return job.job.num_pods * job.job.pod.accelerators


def starting_at_once(submission: workload.Submission) -> records.JobRecord:
    """The life of a job on a cluster without end."""
    start, shares = submission.submitted_seconds, (types.NodeShare("anywhere", submission.job.num_pods),)
    run = records.Run(
        start, start + submission.duration_seconds, types.Placement("", shares), records.Outcome.COMPLETED
    )
    return records.JobRecord(submission.job, start, (run,))
