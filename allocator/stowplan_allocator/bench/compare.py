"""All strategies on the same problems, measured by one ruler.

What must stay true: what is compared is the finished, checked plan, by the tiers of the
objective, and not what a strategy says of itself; only ``gap`` and ``status`` are its own words.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import click

from stowplan_allocator import compiling, greedy, model, planner, types
from stowplan_allocator.bench import families, options, report
from stowplan_allocator.heuristics import ruler


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One plan of one strategy."""

    score: ruler.Score
    jobs: int
    accelerators: int
    goodput: float
    tiers: dict[str, int]
    cpu_seconds: float
    certificate: types.Certificate


def measure(snapshot: types.Snapshot, settings: types.Settings, *, judge: ruler.Ruler) -> Result:
    """Plan once."""
    used = time.process_time()
    made = planner.plan(snapshot, settings)
    used = time.process_time() - used
    node_of = {node.name: i for i, node in enumerate(judge.problem.nodes)}
    spots = {
        job: greedy.Spot(placed.product, [(node_of[share.node], share.num_pods) for share in placed.shares])
        for job, placed in made.placements.items()
    }
    jobs = {job.id: job for job in snapshot.jobs}
    given = {job: placed.num_pods * jobs[job].pod.accelerators for job, placed in made.placements.items()}
    speed = {
        job: next((one.relative_throughput_milli for one in jobs[job].products if one.product == placed.product), 1000)
        for job, placed in made.placements.items()
    }
    return Result(
        score=judge.score(spots),
        jobs=len(spots),
        accelerators=sum(given.values()),
        goodput=sum(given[job] * speed[job] for job in given) / 1000,
        tiers=judge.shared(spots),
        cpu_seconds=used,
        certificate=made.certificate,
    )


def compare(
    family: str, *, num_nodes: int, seeds: int, strategies: Sequence[types.Strategy], settings: types.Settings
) -> list[report.Row]:
    """One row for each strategy: means over the seeds, and in how many of them no strategy was better."""
    found: dict[types.Strategy, list[Result]] = {strategy: [] for strategy in strategies}
    for seed in range(1, seeds + 1):
        snapshot = families.snapshot(family, num_nodes=num_nodes, seed=seed)
        judge = ruler.Ruler(compiling.compile_problem(snapshot))
        for strategy in strategies:
            chosen = dataclasses.replace(settings, strategy=strategy, seed=seed)
            found[strategy].append(measure(snapshot, chosen, judge=judge))
    best = [max(results[i].score for results in found.values()) for i in range(seeds)]
    return [_row(family, strategy=strategy, results=results, best=best) for strategy, results in found.items()]


def _row(
    family: str, *, strategy: types.Strategy, results: Sequence[Result], best: Sequence[ruler.Score]
) -> report.Row:
    def mean(values: Sequence[float]) -> float:
        return round(sum(values) / len(values), 3)

    lost = [_first_lost(result.score, one) for result, one in zip(results, best, strict=True)]
    lost_at = [position for position in lost if position is not None]
    statuses = sorted({result.certificate.status.value for result in results})
    return {
        "family": family,
        "strategy": strategy.value,
        "best_of": f"{sum(result.score == one for result, one in zip(results, best, strict=True))}/{len(results)}",
        "first_loss": min(lost_at, default=None),
        "jobs": mean([result.jobs for result in results]),
        "gpus": mean([result.accelerators for result in results]),
        "goodput": mean([result.goodput for result in results]),
        "domains": mean([result.tiers.get("domains spanned", 0) for result in results]),
        "whole_slots": mean([result.tiers.get("whole slots", 0) for result in results]),
        "cpu_seconds": mean([result.cpu_seconds for result in results]),
        "gap": mean([result.certificate.gap for result in results]),
        "status": ", ".join(statuses),
    }


def _first_lost(score: ruler.Score, best: ruler.Score) -> int | None:
    """The position in the score, and so in the queue of one priority, where the best is better."""
    return next((i for i, (one, other) in enumerate(zip(score, best, strict=True)) if one != other), None)


@click.command(help=__doc__)
@click.option("--nodes", "num_nodes", default=200, show_default=True, type=click.IntRange(1), help="nodes")
@click.option("--families", "chosen", default=",".join(families.FAMILIES), show_default=True, help="families, by comma")
@click.option("--strategies", "by", default=",".join(types.Strategy), show_default=True, help="strategies, by comma")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="problems of each family")
@click.option("--time-limit", default=10.0, type=options.AMOUNT, show_default=True, help="seconds for one plan")
@click.option("--solver", default="HiGHS", show_default=True, help="HiGHS, CBC, or PuLP's name of another one")
@options.json_file
def command(num_nodes: int, chosen: str, by: str, seeds: int, time_limit: float, solver: str, path: str | None) -> None:
    """Compare."""
    meter = report.Meter()
    names = options.listed(chosen, known=families.FAMILIES, what="family")
    strategies = [types.Strategy(name) for name in options.listed(by, known=types.Strategy, what="strategy")]
    settings = types.Settings(solver=solver, time_limit_seconds=time_limit)
    try:
        model.make_solver(settings, limit_seconds=1.0)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--solver") from error
    rows: list[report.Row] = []
    for family in names:
        rows += compare(family, num_nodes=num_nodes, seeds=seeds, strategies=strategies, settings=settings)
    inputs = {
        "nodes": num_nodes,
        "families": {name: families.FAMILIES[name].about for name in names},
        "strategies": [strategy.value for strategy in strategies],
        "seeds": seeds,
        "solver": solver,
        "time_limit_seconds": time_limit,
    }
    report.publish("strategies", inputs=inputs, results=rows, meter=meter, path=path)
