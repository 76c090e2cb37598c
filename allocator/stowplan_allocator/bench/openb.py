"""``bench openb``: how much of a shared GPU cluster is left over when pods arrive one by one.

The experiment of "Beware of Fragmentation" (USENIX ATC'23) on its own data: see ``openb_workload`` for the pods,
``openb_run`` for what a strategy may do, ``openb_verify`` for how its end is checked. What must stay true: every
figure is the verifier's, and one setting serves all traces.
"""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Sequence

import click

from stowplan_allocator import inputs
from stowplan_allocator.bench import openb_run, openb_workload, options, report
from stowplan_allocator.bench.openb_policies import Rows

TIES = ("name", "random")


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
@click.option("--traces", required=True, help="Names of pod lists, separated by commas: default,cpu050,…")
@click.option("--strategy", required=True, help=f"One or more of {', '.join(openb_run.STRATEGIES)}, by commas.")
@click.option("--seeds", default=10, show_default=True, type=click.IntRange(min=1), help="How many samples.")
@click.option("--first-seed", default=0, show_default=True, help="Seeds are counted from here.")
@click.option("--ties", default="name", show_default=True, type=click.Choice(TIES), help="Which of equal nodes.")
@options.json_file
def command(
    data: pathlib.Path, traces: str, strategy: str, seeds: int, first_seed: int, ties: str, path: str | None
) -> None:
    """Unallocated GPUs when 130 % of them have been asked for."""
    meter = report.Meter()
    strategies = options.listed(strategy, known=openb_run.STRATEGIES, what="strategy")
    rows: list[report.Row] = []
    for trace in options.listed(traces, what="trace"):
        try:
            workload = openb_workload.load(data, trace=trace)
        except (inputs.InputError, OSError, ValueError) as error:
            raise click.BadParameter(str(error)) from error
        shared = Rows(workload)
        for name in strategies:
            runs = [
                openb_run.run(workload, rows=shared, strategy=name, ties=ties, seed=first_seed + seed)
                for seed in range(seeds)
            ]
            rows.append(_row(runs, trace=trace, strategy=name, ties=ties))
    given = {"traces": traces, "strategy": strategy, "seeds": seeds, "first_seed": first_seed, "ties": ties}
    report.publish("openb", inputs={"data": str(data), **given}, results=rows, meter=meter, path=path)


def _row(runs: Sequence[openb_run.Figures], *, trace: str, strategy: str, ties: str) -> report.Row:
    shares = [run.unallocated_percent for run in runs]
    return {
        "trace": trace,
        "strategy": strategy,
        "ties": ties,
        "seeds": len(runs),
        "unallocated_percent_mean": round(statistics.fmean(shares), 4),
        "unallocated_percent_std": round(statistics.pstdev(shares), 4),
        "dropped_cpu_pods": sum(run.dropped_cpu_pods for run in runs),
    }
